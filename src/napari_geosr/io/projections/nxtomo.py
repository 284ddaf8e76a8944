"""NXtomo: NeXus files in which image_key marks projections, flat and dark fields.

Frames and angles may be in other files that the NeXus file links to; only the linked
files that are needed must exist.

References
----------
.. [1] NXtomo. https://manual.nexusformat.org/classes/applications/NXtomo.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.array_parts.selection import select
from napari_geosr.core.errors import FileError
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyDict
from napari_geosr.io.hdf5.hdf5_items import (
    MAX_DEPTH,
    followed,
    identity,
    open_item,
    text_of,
)
from napari_geosr.io.projections.angles import AngleSettings, StoredAngles, stored_in
from napari_geosr.io.projections.data_exchange import (
    lazy_frames,
    missing_frames,
    pixel_size_in,
)
from napari_geosr.io.suffixes import stem_of

if TYPE_CHECKING:
    import h5py

#: Image key of projections in NXtomo.
PROJECTION = 0
#: Image key of flat fields.
FLAT = 1
#: Image key of dark fields.
DARK = 2
_LOOKS_LIKE_ANGLE = re.compile(r"theta|angle|rot|omega|phi", re.IGNORECASE)


def detectors(file: object) -> list[str]:
    """Return the paths of the groups that hold an ``image_key``; no image is read."""
    return list(_keyed(file, "", 0, set()))


def _keyed(group: h5py.Group, prefix: str, depth: int, seen: set[Any]) -> Iterator[str]:
    import h5py

    key = identity(group)
    if depth > MAX_DEPTH or key in seen:
        return
    seen.add(key)
    if group.get("image_key", getlink=True) is not None:
        yield prefix.rstrip("/")
        return
    for name in group:
        # Detector groups are in this file, so links to other files are skipped.
        if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
            continue
        item = followed(group, name)
        if isinstance(item, h5py.Group):
            yield from _keyed(item, f"{prefix}{name}/", depth + 1, seen)


def read_nxtomo(
    file: h5py.File, path: Path, given: AngleSettings, detector: str | None = None
) -> Projections:
    """Read the scan of one detector lazily.

    Parameters
    ----------
    file : h5py.File
    path : Path
    given : AngleSettings
        Takes precedence over the file's angles.
    detector : str, optional
        Path of the detector's group, if several detectors have images.

    Raises
    ------
    FileError
        If frames, keys or angles are missing or inconsistent; the message names a
        missing linked file.
    """
    where = detector or _choose(file, path)
    data = f"{where}/data"
    found = open_item(file, data, path)
    frames = lazy_frames(found, data, path)
    keys = np.ravel(open_item(file, f"{where}/image_key", path)[()])
    if keys.shape != (frames.shape[0],):
        raise FileError(
            f"{path.name}: {data} has {frames.shape[0]} images but image_key has "
            f"{keys.size} values. The scan may not be complete: export it again."
        )
    chosen = {key: np.flatnonzero(keys == key) for key in (PROJECTION, FLAT, DARK)}
    if not chosen[PROJECTION].size:
        raise FileError(
            f"{path.name}: no image of {data} is a projection (image_key 0). Choose "
            "another detector (--dataset)."
        )
    n = chosen[PROJECTION].size
    stored = None
    if given.angles is None and given.angle_range is None:
        stored = _angles(file, path, where, found, frames.shape[0])
        if stored.values.size == frames.shape[0]:
            values = stored.values[chosen[PROJECTION]]
            stored = StoredAngles(values, stored.unit, stored.location)
    metadata: AnyDict = {"format": "NXtomo", "dataset": data}
    lost = missing_frames(found, data, path)
    if stored is not None:
        facts = (f"The angles were read from {stored.location}.",)
        metadata["remarks"] = facts  # notes that state no assumptions
        metadata["notes"] = (*facts, *lost)
    elif lost:
        metadata["notes"] = lost
    size, unit = pixel_size_in(file[where])
    return Projections(
        data=select(frames, chosen[PROJECTION]),
        angles=given.resolve(n, path.name, stored),
        flats=_frames(frames, chosen[FLAT]),
        darks=_frames(frames, chosen[DARK]),
        pixel_size=size,
        unit=unit,
        name=stem_of(path),
        source=path,
        metadata=metadata,
    )


def _frames(frames: Any, chosen: Any) -> Any:
    return select(frames, chosen) if chosen.size else None


def _choose(file: h5py.File, path: Path) -> str:
    """Return the path of the only detector that has images."""
    names = detectors(file)
    there = [name for name in names if followed(file, f"{name}/data") is not None]
    if len(there) == 1:
        return there[0]
    if there:
        raise FileError(
            f"{path.name} has several detectors with images: {', '.join(there)}. "
            f"Choose one (--dataset {there[0]})."
        )
    if not names:
        raise FileError(
            f"{path.name} is not an NXtomo file: it has no image_key to distinguish "
            "projections from flat and dark fields. Choose another file."
        )
    # This raises an error that names the missing file, if there is one.
    open_item(file, f"{names[0]}/data", path)
    raise FileError(f"{path.name}: {names[0]} has no images. Export the scan again.")


def _angles(
    file: h5py.File, path: Path, detector: str, frames: Any, n: int
) -> StoredAngles:
    """Return the angles from a standard path or a group that links to the frames."""
    import h5py

    missing: list[str] = []
    for name in (*_standard_places(detector), *_coordinates(file, detector, frames)):
        item = followed(file, name)
        if item is None:
            group, _, leaf = name.rpartition("/")
            link = file[group].get(leaf, getlink=True) if group in file else None
            if isinstance(link, h5py.ExternalLink):
                missing.append(link.filename)
        elif isinstance(item, h5py.Dataset) and item.size > 1:
            return stored_in(item, f"{path.name}, {name}")
    if missing:
        files = ", ".join(dict.fromkeys(missing))
        raise FileError(
            f"{path.name}: its angles are in {files}, which is missing. Put that file "
            f"at the location given in {path.name}, or give the angles (--angles FILE, "
            "--angle-range 0,180)."
        )
    raise FileError(
        f"{path.name} does not contain the angles of its {n} projections (NXtomo: "
        "sample/rotation_angle). "
        "Give a text file with one angle per line (--angles FILE), or a range "
        "(--angle-range 0,180)."
    )


def _standard_places(detector: str) -> Iterator[str]:
    parts = detector.split("/")
    for depth in range(len(parts) - 1, 0, -1):
        parent = "/".join(parts[:depth])
        yield f"{parent}/sample/rotation_angle"
        yield f"{parent}/data/rotation_angle"
        yield f"{parent}/rotation_angle"


def _coordinates(file: h5py.File, detector: str, frames: Any) -> list[str]:
    """Return paths of datasets named like angles in groups that link to `frames`."""
    entry = detector.split("/")[0]
    places: list[str] = []
    others: list[str] = []
    for name in file[entry]:
        group = followed(file[entry], name)
        signal = followed(group, "data") if hasattr(group, "keys") else None
        if signal is None or not hasattr(signal, "shape"):
            continue
        if identity(signal) != identity(frames):
            continue
        axes = [text_of(a) for a in np.ravel(group.attrs.get("axes", []))]
        for inner in group:
            if _LOOKS_LIKE_ANGLE.search(inner):
                place = places if inner in axes else others
                place.append(f"{entry}/{name}/{inner}")
    return places + others
