"""HDF5 and NeXus: one dataset of a file, given by its path or found automatically."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import ORIGIN_UNKNOWN, with_file_warnings
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import PIXEL, parse_unit
from napari_geosr.core.volume import Volume
from napari_geosr.io.arrangement import arrangement, finish
from napari_geosr.io.formats import FileFormat, ReadOptions
from napari_geosr.io.hdf5.hdf5_items import (
    MAX_DEPTH,
    Dataset,
    OpenBytes,
    followed,
    identity,
    open_item,
    opened,
    text_of,
    walk,
)
from napari_geosr.io.hdf5.hdf5_parts import missing_parts
from napari_geosr.io.lazy import decoding
from napari_geosr.io.reader_questions import (
    ask_voxel_size,
    stored_letters,
    unnamed_axis,
)
from napari_geosr.io.suffixes import stem_of

if TYPE_CHECKING:
    import h5py

_MAX_LISTED = 8
#: Names of flat and dark fields in Data Exchange files, which contain projections.
_FLAT_FIELDS = frozenset({"data_white", "data_dark"})


class Hdf5Format(FileFormat):
    """HDF5, read with h5py; `io/projections/` reads projections from such files."""

    title = "HDF5"
    suffixes = (".hdf5", ".h5", ".nxs", ".nx5", ".hdf")
    rank = 30

    def read(self, path: Path, options: ReadOptions) -> Volume:
        """Read the dataset that `options` names, or the one found by `read_hdf5`.

        Raises
        ------
        FileError
            If the file is damaged, or the dataset is missing or ambiguous.
        """
        return read_hdf5(path, axes=options.axes, dataset=options.dataset)


FORMAT = Hdf5Format()


def read_hdf5(
    path: Path,
    *,
    axes: str | None = None,
    dataset: str | None = None,
    open_bytes: OpenBytes | None = None,
) -> Volume:
    """Read one dataset lazily; the file is opened read-only, and closed between reads.

    Parameters
    ----------
    path : Path
    axes : str, optional
        Meaning of the stored axes; by default, the last ones of T, C, Z, Y, X (for four
        axes, T, Z, Y, X).
    dataset : str, optional
        Path inside the file; by default, the file's NeXus default, or else the only
        image or the only volume.
    open_bytes : callable, optional
        Opens a file on another computer; `path` is then only its name.

    Raises
    ------
    FileError
        If the file is damaged, or the dataset is missing or ambiguous.
    """
    with opened(path, open_bytes) as file, decoding(path, "its structure"):
        notes: list[str] = []
        name = dataset.strip("/") if dataset else _find(file, path, notes)
        found = open_item(file, name, path)
        if found.shape is None:
            raise FileError(
                f"{path.name}, dataset {name!r}: it is empty and has no voxels. Choose "
                "another dataset."
            )
        source = Dataset(path, name, found, open_bytes)
        return _volume(found, source, path, axes, notes)


def _volume(
    found: Any, source: Dataset, path: Path, axes: str | None, notes: list[str]
) -> Volume:
    name = source.name
    _check(found, name, path)
    letters = "TCZYX"[-found.ndim :] if found.ndim != 4 else "TZYX"
    order, final = arrangement(found.shape, letters, axes, path, notes)
    size, origin, unit = _space(found, order, final)
    chunks = found.chunks or (1,) * (found.ndim - 2) + found.shape[-2:]
    metadata: AnyDict = {"format": "HDF5", "dataset": name}
    if not origin:
        metadata[ORIGIN_UNKNOWN] = True
    if notes:
        metadata["notes"] = tuple(notes)
    volume = Volume(
        data=finish(source, order, chunks, path, final),
        axes=final,
        voxel_size=size,
        unit=unit,
        origin=origin,
        name=stem_of(path),
        source=path,
        metadata=with_file_warnings(
            metadata, *missing_parts(found, path, axes or letters)
        ),
    )
    volume = ask_voxel_size(volume)
    if axes is not None:
        return volume
    return unnamed_axis(volume, stored_letters(order, final))


def _check(found: Any, name: str, path: Path) -> None:
    where = f"{path.name}, dataset {name!r}"
    kind = np.dtype(found.dtype).kind
    if kind == "c":
        raise FileError(
            f"{where}: the values are complex numbers; volumes must be real-valued. "
            "Save the magnitude (or phase) as a separate dataset."
        )
    if kind not in "biuf":
        raise FileError(f"{where}: the values are not numbers. Choose another dataset.")
    if found.ndim < 2 or found.ndim > 5 or math.prod(found.shape) == 0:
        raise FileError(
            f"{where}: an array of shape {tuple(found.shape)} is not an image or "
            "volume. Choose another dataset."
        )


def _find(file: object, path: Path, notes: list[str]) -> str:
    """Return the path of the dataset to read when none is named.

    A note is appended to `notes` if the file also links to data that are missing.
    """
    default = _nexus_default(file)
    if default is not None:
        return default
    found: dict[tuple[str, int], tuple[str, Any]] = {}
    missing: list[str] = []
    for name, item in walk(file, "", missing, 0, set()):
        known = found.setdefault(identity(item), (name, item))
        # If several links lead to a dataset, prefer the link next to its coordinates.
        if "axes" in item.parent.attrs and "axes" not in known[1].parent.attrs:
            found[identity(item)] = name, item
    candidates = list(found.values())
    volumes = [c for c in candidates if c[1].ndim >= 3]
    for some in (candidates, volumes):
        if len(some) == 1:
            if missing:
                notes.append(
                    f"The dataset {some[0][0]!r} was read; the file also contains "
                    f"broken links ({', '.join(missing[:3])})."
                )
            return some[0][0]
    if not candidates:
        hint = f" (these links are broken: {', '.join(missing[:3])})"
        raise FileError(
            f"{path.name} contains no 2D or 3D dataset of "
            f"numbers{hint if missing else ''}. Open the file that contains the "
            "image."
        )
    listed = ", ".join(
        f"{name} {'×'.join(map(str, item.shape))}"
        for name, item in candidates[:_MAX_LISTED]
    )
    first = (volumes or candidates)[0][0]
    more = " …" if len(candidates) > _MAX_LISTED else ""
    names = {name.rpartition("/")[2] for name, _ in candidates}
    hint = ""
    if names & _FLAT_FIELDS:
        hint = (
            " If it contains the projections of a scan, reconstruct them first: "
            f"napari-geosr reconstruct {shlex.quote(path.name)}."
        )
    raise FileError(
        f"{path.name} contains {len(candidates)} datasets: {listed}{more}. Choose one "
        f"with --dataset {shlex.quote(first)} (dataset={first!r} in Python), or open "
        f"it as '{path.name}::{first}'.{hint}"
    )


def _nexus_default(file: h5py.File) -> str | None:
    """Return the path given by the NeXus attributes `default` and `signal`, or None."""
    group = file
    parts: list[str] = []
    while "default" in group.attrs and len(parts) < MAX_DEPTH:
        name = text_of(group.attrs["default"])
        item = followed(group, name)
        if item is None:
            return None
        parts.append(name)
        group = item
        if not hasattr(group, "keys"):
            return "/".join(parts)
    signal = text_of(group.attrs.get("signal", "")) if parts else ""
    if not signal or followed(group, signal) is None:
        return None
    return "/".join([*parts, signal])


def _space(
    found: Any, order: Sequence[int | None], axes: str
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Return voxel size, origin and unit if the file states them in a standard way."""
    spatial = [i for i, a in zip(order, axes, strict=True) if a in "ZYX"]
    element = found.attrs.get("element_size_um")
    if element is not None:
        sizes = tuple(float(v) for v in np.ravel(element))[-len(spatial) :]
        if len(sizes) == len(spatial) and min(sizes) > 0:
            return sizes, (), "µm"
    grid = [_coordinates(found, i) for i in spatial if i is not None]
    units = {unit for _, _, unit in grid}
    if len(grid) == len(spatial) and len(units) == 1 and None not in units:
        sizes = tuple(step for step, _, _ in grid)
        return sizes, tuple(start for _, start, _ in grid), str(units.pop())
    return (), (), PIXEL


def _coordinates(found: h5py.Dataset, axis: int) -> tuple[float, float, str | None]:
    """Return step, start and unit of the NXdata coordinates along a stored axis."""
    nothing = (1.0, 0.0, None)
    names = found.parent.attrs.get("axes")
    if names is None or isinstance(names, str | bytes) or len(names) != found.ndim:
        return nothing
    item = followed(found.parent, text_of(names[axis]))
    if item is None or getattr(item, "shape", ()) != (found.shape[axis],):
        return nothing
    unit = parse_unit(text_of(item.attrs.get("units", "")))
    values = np.asarray(item, dtype=np.float64)
    steps = np.diff(values)
    even = len(steps) > 0 and np.allclose(steps, steps.mean(), rtol=1e-4, atol=0)
    if unit in (None, PIXEL) or not even or steps.mean() <= 0:
        return nothing
    return float((values[-1] - values[0]) / len(steps)), float(values[0]), unit
