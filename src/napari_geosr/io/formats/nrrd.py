"""NRRD, read with pynrrd (an optional dependency)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import unit_notes, with_file_warnings
from napari_geosr.core.orientation import RAS, orientation_entry
from napari_geosr.core.types import AnyArray
from napari_geosr.core.units import PIXEL, convert_length, parse_unit
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import FileFormat, ReadOptions
from napari_geosr.io.orientation import Orientation, orient
from napari_geosr.io.suffixes import stem_of
from napari_geosr.io.voxel_sources import flipped

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Coordinate systems of medical images, in millimetres, and those of their axes that
#: point opposite to the axes of NIfTI (right, front, up).
_OPPOSITE = {
    "left-posterior-superior": "XY",
    "lps": "XY",
    "left-anterior-superior": "X",
    "las": "X",
    "right-anterior-superior": "",
    "ras": "",
}
#: Left-handed coordinate system without anatomical directions; its X is reversed.
_LEFT_HANDED = "3d-left-handed"
_UNUSABLE = (
    "The orientation and the origin in the file's header are not applied, because it "
    "does not give a direction for each axis."
)


def read_nrrd(path: Path) -> Volume:
    """Read an NRRD volume; its X, Y, Z order becomes Z, Y, X.

    Positions are converted to the coordinates of NIfTI: X points to the right, Y to the
    front and Z up. The stored axes are permuted and reversed as needed. The origin is
    the position of the first voxel of the result, so that an object has the same
    position in NRRD and NIfTI files. A rotation that is not a multiple of 90° is not
    applied, and a note is added; the handedness is preserved.

    Raises
    ------
    FileError
        If pynrrd is not installed, or the file is damaged or contains no image or
        volume.
    """
    try:
        import nrrd
    except ImportError as error:
        raise FileError(
            f"{path.name} is an NRRD file; reading it needs an extra package. Install "
            'it with: pip install "napari-geosr[nrrd]".'
        ) from error
    try:
        stored, header = nrrd.read(str(path), index_order="C")
    except Exception as error:
        raise FileError(
            f"{path.name} cannot be read as NRRD ({error}). Export it again."
        ) from error
    data: AnyArray = np.asarray(stored)
    if data.ndim not in (2, 3) or data.size == 0 or data.dtype.kind not in "biuf":
        raise FileError(
            f"{path.name} has shape {data.shape} and type {data.dtype}, so it is not a "
            "real-valued image or volume. Export one channel as a volume."
        )
    data, size, origin, notes, found = _oriented(data, header)
    space = str(header.get("space", "")).lower()
    is_known = space in _OPPOSITE and "space directions" in header
    is_known = is_known and _UNUSABLE not in notes
    unit = PIXEL if size is None else _unit(header, data.ndim)
    notes = (*notes, *unit_notes(size or (), unit))
    facts = orientation_entry(RAS if is_known else "", found.rotation if found else ())
    return Volume(
        data=data,
        axes="ZYX"[-data.ndim :],
        voxel_size=size or (),
        unit=unit,
        origin=origin if size is not None else (),
        name=stem_of(path),
        source=path,
        metadata={
            "format": "NRRD",
            **({"notes": notes} if notes else {}),
            **with_file_warnings(facts, found.warning if found else ""),
        },
    )


def _oriented(
    data: AnyArray, header: Mapping[str, object]
) -> tuple[
    AnyArray,
    tuple[float, ...] | None,
    tuple[float, ...],
    tuple[str, ...],
    Orientation | None,
]:
    """Return voxels, their size and origin (Z, Y, X), notes, and the orientation."""
    n = data.ndim
    if "space directions" not in header:
        if "spacings" not in header:
            return data, None, (), (), None
        spacings = np.asarray(header["spacings"], float)
        if not (np.isfinite(spacings).all() and (spacings > 0).all()):
            return data, None, (), (_invalid_size(spacings),), None
        return data, *_unoriented(spacings, header), (), None
    # Each row is the step along a stored axis; the first axis varies fastest.
    matrix = np.asarray(header["space directions"], float)
    edges = np.linalg.norm(matrix, axis=1)
    if matrix.shape != (n, n) or not (np.isfinite(edges).all() and edges.all()):
        size = tuple(edges[::-1].tolist())
        known = size if len(size) == n and np.isfinite(size).all() else None
        return data, known if known and min(known) > 0 else None, (), (_UNUSABLE,), None
    first = np.asarray(header.get("space origin", np.zeros(n)), float)
    first = np.where(np.isfinite(first), first, 0.0)
    space = str(header.get("space", "")).lower()
    signs = _signs(space, n)
    found = orient(
        matrix.T * signs[:, None],
        first * signs,
        data.shape[::-1],
        is_anatomical=space in _OPPOSITE,
    )
    data = flipped(data, [n - 1 - i for i in found.flipped_axes])
    letters = "ZYX"[-n:]
    stored = [found.axes.index(a) for a in letters]
    return (
        data.transpose([n - 1 - i for i in stored]),
        tuple(float(edges[i]) for i in stored),
        tuple(found.origin[a] for a in letters),
        found.notes,
        found,
    )


def _unit(header: Mapping[str, object], n: int) -> str:
    """Return the unit of the voxel size; ``"pixel"`` if it is unknown."""
    if "space directions" not in header and "units" in header:
        if units := _units(header, n):
            return units[0]
        if any(map(str.strip, _words(header["units"]))):
            return PIXEL  # at least one unit is stated but unknown
    if stated := _words(header.get("space units", ())):
        return parse_unit(stated[0]) or PIXEL
    return "mm" if str(header.get("space", "")).lower() in _OPPOSITE else PIXEL


def _units(header: Mapping[str, object], n: int) -> list[str]:
    """Return the unit of each axis of an image without directions; empty if unknown."""
    units = [parse_unit(unit) or PIXEL for unit in _words(header.get("units", ()))]
    return [] if PIXEL in units or len(units) != n else units[::-1]


def _words(stated: object) -> list[str]:
    """Return the words of a field; pynrrd does not split fields unknown to it."""
    if isinstance(stated, str):
        return stated.split()
    return [str(word) for word in np.asarray(stated).flat]


def _unoriented(
    spacings: AnyArray, header: Mapping[str, object]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the voxel size and origin (Z, Y, X) of an image without directions.

    Axis minima are the positions of the outer faces of the first voxels or, if the
    samples are centred on nodes, the positions of the first samples.
    """
    n = len(spacings)
    stated = header.get("axis mins", header.get("axismins", ()))
    first = np.atleast_1d(np.asarray(stated, float))
    names = _words(header.get("centerings", header.get("centers", ())))
    if first.shape != (n,) or not np.isfinite(first).all():
        first = np.zeros(n)
    else:
        is_node = [name.lower() == "node" for name in names]
        is_node += [False] * (n - len(is_node))
        first = first + np.where(is_node[:n], 0.0, spacings / 2)
    units = _units(header, n) or [PIXEL] * n
    scales = [convert_length(1.0, unit, units[0]) for unit in units]
    size, origin = spacings[::-1] * scales, first[::-1] * scales
    return tuple(size.tolist()), tuple(origin.tolist())


def _invalid_size(spacings: AnyArray) -> str:
    """Return the note that the voxel size in the header cannot be used."""
    stated = " × ".join(f"{edge:g}" for edge in spacings[::-1])
    return (
        f"The voxel size in the file's header ({stated}) is invalid and was ignored. "
        "Give the voxel size and its unit (--voxel-size and --unit)."
    )


def _signs(space: str, n: int) -> AnyArray:
    """Return the signs that convert positions to X right, Y front and Z up."""
    opposite = "X" if space == _LEFT_HANDED else _OPPOSITE.get(space, "")
    return np.array([-1.0 if a in opposite else 1.0 for a in "XYZ"[:n]])


class NrrdFormat(FileFormat):
    """NRRD; its header defines the axes, so axes given by the user are ignored."""

    title = "NRRD"
    suffixes = (".nrrd", ".nhdr")
    rank = 55

    def read(self, path: Path, options: ReadOptions) -> Volume:
        return read_nrrd(path)


FORMAT = NrrdFormat()
