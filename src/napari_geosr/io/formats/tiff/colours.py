"""Convert TIFF values that are not brightness values: palettes, white-is-zero files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import FileError
from napari_geosr.io.voxel_sources import MappedSource

if TYPE_CHECKING:
    from tifffile import TiffPage

#: TIFF's code for the photometric interpretation MinIsWhite.
_WHITE_IS_ZERO = 0
#: TIFF's codes for RGB, palette, CMYK, YCbCr and CIELAB.
_COLOURS = (2, 3, 5, 6, 8)
_MAX_PALETTE_BYTES = 1 << 30


def can_invert(page: TiffPage) -> bool:
    """Return whether zero is white in a page with values that can be inverted."""
    is_white = int(page.photometric) == _WHITE_IS_ZERO
    return is_white and np.dtype(page.dtype).kind in "bu" and not _is_python_mask(page)


def _is_python_mask(page: TiffPage) -> bool:
    """Return whether tifffile wrote a page of Booleans.

    For such pages, tifffile always states that white is zero, but stores True as 1.
    """
    software = page.tags.get("Software")
    by_tifffile = software is not None and str(software.value).startswith("tifffile")
    return bool(page.bitspersample == 1 and by_tifffile)


def white_is_zero(page: TiffPage, *, is_imagej: bool) -> str:
    """Return a warning if white is zero in a file; otherwise ``""``.

    Parameters
    ----------
    page : tifffile.TiffPage
    is_imagej : bool
        Whether ImageJ wrote the file: it inverts only the display.
    """
    if int(page.photometric) != _WHITE_IS_ZERO or _is_python_mask(page):
        return ""
    if is_imagej or not can_invert(page):
        return (
            "the file is marked for display with inverted grey values, but they are "
            "used as stored, so phases that look dark in other programs have high "
            "values here. Check which phase represents the pores."
        )
    white = 1 if page.bitspersample == 1 else np.iinfo(page.dtype).max
    return (
        "white is stored as 0 in this file; the grey values were inverted (0 became "
        f"{white}), so thresholds from other programs may not apply."
    )


def is_colour(page: TiffPage, letters: str) -> bool:
    """Return whether pages are pictures in colour.

    Parameters
    ----------
    page : tifffile.TiffPage
    letters : str
        Axes of the voxels as read; ``"S"`` for the samples of a pixel. Grey palettes,
        and those of ImageJ, have no samples.
    """
    return "S" in letters and int(page.photometric) in _COLOURS


def inverted(source: Any) -> Any:
    """Invert `source` so that larger values are brighter.

    This is used for files in which zero is white.
    """

    def invert(voxels: Any) -> Any:
        """Invert the grey values."""
        return np.invert(voxels)

    if type(source) is np.ndarray:
        return invert(source)
    return MappedSource(source, invert)


def colour_map(
    source: Any, colours: Any, letters: str, chunks: tuple[int, ...], path: Path
) -> tuple[Any, str, tuple[int, ...]]:
    """Replace palette indices with their grey or RGB values.

    Parameters
    ----------
    source : Source
        Indices into the palette.
    colours : ndarray of shape (3, N), uint16

    Returns
    -------
    source, axes, chunks
        Grey if the palette is grey; otherwise with a last axis ``"S"`` of 3 samples.
    """
    table = np.asarray(colours)
    if not (table % 257).any():
        table = (table // 257).astype(np.uint8)
    elif not (table % 256).any():
        table = (table // 256).astype(np.uint8)
    n_voxels = int(np.prod(source.shape, dtype=np.int64))
    if n_voxels * table.itemsize * 3 > _MAX_PALETTE_BYTES:
        raise FileError(
            f"{path.name} is a palette image of {format_bytes(n_voxels)}, which is "
            "too large to convert to colours. Save it as grey values or RGB."
        )
    if int(np.max(source)) >= table.shape[1]:
        raise FileError(
            f"{path.name} is damaged: it uses colours that are not in its palette. "
            "Export the file again."
        )
    index = np.asarray(source).astype(np.intp)
    if (table[0] == table[1]).all() and (table[1] == table[2]).all():
        return table[0][index], letters, chunks
    return np.moveaxis(table[:, index], 0, -1), f"{letters}S", (*chunks, 3)
