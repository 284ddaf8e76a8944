"""NRRD, read with pynrrd (an optional dependency)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyArray
from napari_geosr.core.units import PIXEL, parse_unit
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import FileFormat, ReadOptions
from napari_geosr.io.suffixes import stem_of

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Spaces of medical images, whose unit is millimetres, and whether X and Y are reversed
#: relative to the axes of NIfTI (right, anterior, superior).
_FLIPPED = {
    "left-posterior-superior": (0, 1),
    "lps": (0, 1),
    "left-anterior-superior": (0,),
    "las": (0,),
    "right-anterior-superior": (),
    "ras": (),
}


def read_nrrd(path: Path) -> Volume:
    """Read an NRRD volume; its X, Y, Z order becomes Z, Y, X.

    Positions of medical images are converted to the axes of NIfTI: X to the right, Y
    to the front. Rotated or mirrored axes are not applied, with a note.

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
            f"{path.name} has shape {data.shape} and type {data.dtype}: not a "
            "real-valued image or volume. Export one channel as a volume."
        )
    size, origin, notes = _geometry(header, data.ndim)
    space = str(header.get("space", "")).lower()
    unit = PIXEL
    if "space units" in header:
        unit = parse_unit(str(header["space units"][0])) or PIXEL
    elif space in _FLIPPED and size is not None:
        unit = "mm"
    return Volume(
        data=data,
        axes="ZYX"[-data.ndim :],
        voxel_size=size or (),
        unit=unit,
        origin=origin if size is not None else (),
        name=stem_of(path),
        source=path,
        metadata={"format": "NRRD", **({"notes": notes} if notes else {})},
    )


def _geometry(
    header: Mapping[str, object], ndim: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...], tuple[str, ...]]:
    """Voxel size and origin (Z, Y, X), and notes for the user."""
    if "space directions" not in header:
        if "spacings" not in header:
            return None, (), ()
        spacings = np.asarray(header["spacings"], float)
        return tuple(spacings[::-1].tolist()), (), ()
    matrix = np.asarray(header["space directions"], float)
    size = tuple(np.linalg.norm(matrix, axis=1)[::-1].tolist())
    origin = np.asarray(header.get("space origin", np.zeros(ndim)), float)
    flipped = _FLIPPED.get(str(header.get("space", "")).lower(), ())
    for axis in flipped:
        matrix[:, axis] *= -1
        origin[axis] *= -1
    straight = np.diag(np.diag(matrix))
    is_straight = np.allclose(
        matrix, straight, rtol=0, atol=1e-5 * np.abs(matrix).max()
    )
    if is_straight and bool((np.diag(matrix) > 0).all()):
        return size, tuple(origin[::-1].tolist()), ()
    note = (
        "The orientation and the origin in the file's header are not applied, because "
        "it rotates or mirrors the volume."
    )
    return size, (), (note,)


class NrrdFormat(FileFormat):
    """NRRD; its header defines the axes, so axes given by the user are ignored."""

    title = "NRRD"
    suffixes = (".nrrd", ".nhdr")
    rank = 55

    def read(self, path: Path, options: ReadOptions) -> Volume:
        return read_nrrd(path)


FORMAT = NrrdFormat()
