"""Data Exchange HDF5, used by synchrotrons for projections, flat and dark fields.

References
----------
.. [1] De Carlo et al. Scientific data exchange: a schema for HDF5-based storage of raw
   and analyzed data. J. Synchrotron Rad. 21, 1224-1230 (2014).
   doi:10.1107/S160057751401604X
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.documents import MAX_RESULT_BYTES, load_json
from napari_geosr.core.errors import FileError
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import MILLIMETRES, PIXEL, parse_unit
from napari_geosr.io.hdf5.hdf5_items import Dataset, open_item, text_of
from napari_geosr.io.hdf5.hdf5_parts import missing_parts
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.projections.angles import AngleSettings, stored_in
from napari_geosr.io.suffixes import stem_of
from napari_geosr.io.voxel_sources import ArrangedSource

if TYPE_CHECKING:
    import h5py

#: Attribute of the file for metadata that Data Exchange does not define.
STAMP = "napari-geosr"
_BLOCK_BYTES = 64 * 1024**2
_AXES = {"theta": 0, "angle": 0, "y": 1, "x": 2}
_PIXEL_SIZES = ("actual_pixel_size_{}", "pixel_size_{}", "{}_pixel_size")


def read_data_exchange(
    file: object, path: Path, given: AngleSettings, data: str = "exchange/data"
) -> Projections:
    """Read the projections of an open file lazily.

    Parameters
    ----------
    file : h5py.File
    path : Path
    given : AngleSettings
        Takes precedence over the file's angles.
    data : str
        Dataset of the projections; its group holds flat fields, dark fields and angles.

    Raises
    ------
    FileError
        If the projections or their angles are missing or invalid.
    """
    found = open_item(file, data, path)
    group = found.parent
    array = lazy_frames(found, data, path)
    prefix = data.rpartition("/")[0]
    stored = None
    if "theta" in group:
        where = f"{path.name}, {prefix}/theta"
        stored = stored_in(open_item(file, f"{prefix}/theta", path), where)
    stamp = _stamp(file, path)
    frames: AnyDict = {}
    lost = missing_frames(found, data, path)
    for word, name in (("flats", "data_white"), ("darks", "data_dark")):
        if name in group and group[name].size:
            inner = f"{prefix}/{name}".strip("/")
            item = open_item(file, inner, path)
            frames[word] = lazy_frames(item, inner, path)
            lost += missing_frames(item, inner, path)
    size, unit = _pixel_size(file)
    place: AnyDict = {"pixel_size": size, "unit": unit}
    place.update(stamp)
    metadata: AnyDict = {"format": "Data Exchange HDF5", "dataset": data}
    if lost:
        metadata["notes"] = lost
    if "is_line_integrals" in stamp:
        metadata["written_by"] = "napari-geosr"
    return Projections(
        data=array,
        angles=given.resolve(array.shape[0], path.name, stored),
        **frames,
        **place,
        source=path,
        metadata=metadata,
    )


def missing_frames(found: Any, name: str, path: Path) -> tuple[str, ...]:
    """Return the warnings about parts of a dataset of frames that are not in the file.

    Parameters
    ----------
    found : h5py.Dataset
    name : str
        Name of the dataset.
    path : Path
    """
    names = [f"axis {i}" for i in range(found.ndim)]
    order = _stored_order(found)
    if order is not None:
        names = [("projection", "row", "column")[i] for i in order]
    warnings = missing_parts(found, path, names)
    return tuple(f"{path.name}, dataset {name!r}: {each}" for each in warnings)


def _stored_order(found: Any) -> list[int] | None:
    """Return the axes of frames as stored: 0 for frames, 1 for rows, 2 for columns.

    The axes may be named in the attribute ``axes``: theta:y:x, or y:theta:x for
    sinograms.
    """
    words = text_of(found.attrs.get("axes", "")).split(":")
    order = [_AXES.get(w.partition("_")[0], -1) for w in words]
    if sorted(order) == [0, 1, 2]:
        return order
    return [0, 1, 2] if found.ndim == 3 else None


def lazy_frames(found: Any, name: str, path: Path) -> LazyArray:
    """Return the frames of a dataset as a lazy array (frame, row, column).

    Parameters
    ----------
    found : h5py.Dataset
    name : str
        Name of the dataset, for messages.
    path : Path

    Raises
    ------
    FileError
        If the dataset does not have three axes, or does not contain real numbers.
    """
    where = f"{path.name}, dataset {name!r}"
    if found.ndim != 3 or found.size == 0:
        shape = " × ".join(map(str, found.shape)) or "a single value"
        raise FileError(
            f"{where} has shape {shape}; projections need three axes (angle, row, "
            "column), none of them empty. Choose another dataset (--dataset)."
        )
    if np.dtype(found.dtype).kind not in "biuf":
        raise FileError(
            f"{where} does not contain real numbers ({found.dtype}). Choose another "
            "dataset (--dataset)."
        )
    order = _stored_order(found)
    chunks = found.chunks or (1, *found.shape[1:])
    source: Any = Dataset(path, name, found)
    if order is not None and order != [0, 1, 2]:
        stored = [order.index(axis) for axis in range(3)]
        source = ArrangedSource(source, stored)
        chunks = tuple(chunks[i] for i in stored)
    return LazyArray(source, path, chunks)


def _pixel_size(file: h5py.File) -> tuple[tuple[float, float], str]:
    """Return height, width and unit of a pixel; 1 × 1 pixel if they are unknown."""
    group = file.get("measurement/instrument/detector")
    return pixel_size_in(group) if group is not None else ((1.0, 1.0), PIXEL)


def pixel_size_in(group: h5py.Group) -> tuple[tuple[float, float], str]:
    """Read height, width and unit of a pixel from a detector's group."""
    for pattern in _PIXEL_SIZES:
        items = [group.get(pattern.format(axis)) for axis in "yx"]
        if any(item is None or getattr(item, "size", 0) != 1 for item in items):
            continue
        units = [parse_unit(text_of(item.attrs.get("units", ""))) for item in items]
        sizes = [float(np.ravel(item[()])[0]) for item in items]
        usable = all(u in MILLIMETRES for u in units) and min(sizes) > 0
        if usable and np.isfinite(sizes).all():
            y, x = (str(u) for u in units)
            height = sizes[0] * (MILLIMETRES[y] / MILLIMETRES[x] if y != x else 1.0)
            return (height, sizes[1]), x
    return (1.0, 1.0), PIXEL


def _stamp(file: h5py.File, path: Path) -> AnyDict:
    """Return the stamp in the file, as arguments of `Projections`."""
    try:
        stamp = load_json(text_of(file.attrs.get(STAMP, "{}")), MAX_RESULT_BYTES)
        stamp = {"name": stem_of(path)} | stamp
        for key in ("provenance", "pixel_size"):
            if key in stamp:
                stamp[key] = tuple(stamp[key])
    except (ValueError, TypeError) as error:
        reason = str(error).rstrip(".")
        raise FileError(
            f"{path.name} is damaged: its attribute {STAMP!r} is not valid JSON "
            f"({reason}). Copy or export the file again."
        ) from error
    known = {f.name for f in Projections.__dataclass_fields__.values()}
    return {key: value for key, value in stamp.items() if key in known}


def write_data_exchange(projections: Projections, temporary: Path) -> None:
    """Write projections to a new file, in blocks of projections."""
    import h5py

    stamp = {
        "name": projections.name,
        "pixel_size": projections.pixel_size,
        "unit": projections.unit,
        "centre": projections.centre,
        "geometry": projections.geometry,
        "source_distance": projections.source_distance,
        "detector_distance": projections.detector_distance,
        "is_line_integrals": projections.is_line_integrals,
        "provenance": list(projections.provenance),
    }
    with _plain_errors(), h5py.File(temporary, "w") as file:
        file.attrs[STAMP] = json.dumps(stamp)
        file["implements"] = "exchange:measurement"
        group = file.create_group("exchange")
        group["title"] = "tomography_raw_projections"
        group["theta"] = projections.angles
        group["theta"].attrs["units"] = "degrees"
        for name, array, first_axis in (
            ("data", projections.data, "theta"),
            ("data_white", projections.flats, "theta_white"),
            ("data_dark", projections.darks, "theta_dark"),
        ):
            if array is None:
                continue
            written = _copy(group, name, array)
            written.attrs["axes"] = f"{first_axis}:y:x"
            lines = name == "data" and projections.is_line_integrals
            written.attrs["units"] = "1" if lines else "counts"
        if projections.has_physical_size:
            detector = file.create_group("measurement/instrument/detector")
            for axis, size in zip("yx", projections.pixel_size, strict=True):
                name = f"actual_pixel_size_{axis}"
                detector[name] = size
                detector[name].attrs["units"] = projections.unit


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Convert errors of HDF5 during writing into plain system errors.

    HDF5 reports a full disk in a long message that names the file; while closing the
    file, it raises a `RuntimeError`.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        found = re.search(r"errno = (\d+)", str(error))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number)) from error


def _copy(group: h5py.Group, name: str, array: Any) -> Any:
    shape, dtype = tuple(array.shape), np.dtype(array.dtype).newbyteorder("=")
    out = group.create_dataset(name, shape, dtype)
    plane = shape[1] * shape[2] * dtype.itemsize
    step = max(1, _BLOCK_BYTES // plane)
    for start in range(0, shape[0], step):
        out[start : start + step] = np.asarray(array[start : start + step])
    return out
