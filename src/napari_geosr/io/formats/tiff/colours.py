"""Convert TIFF values that are not brightness: palettes, and white-is-zero files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyDType
from napari_geosr.io.voxel_sources import MappedSource

_MAX_PALETTE_BYTES = 1 << 30


def inverted(source: Any, dtype: AnyDType) -> Any:
    """`source` with larger values brighter, for files in which white is zero."""
    if dtype.kind not in "bu":
        return source

    def invert(voxels: Any) -> Any:
        """Swap bright and dark."""
        return np.invert(voxels)

    if type(source) is np.ndarray:
        return invert(source)
    return MappedSource(source, invert)


def colour_map(
    source: Any, colours: Any, letters: str, chunks: tuple[int, ...], path: Path
) -> tuple[Any, str, tuple[int, ...]]:
    """Replace palette indices by their grey or RGB values.

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
            f"{path.name} is a palette image of {format_bytes(n_voxels)}: too large to "
            "convert to colours. Save it as grey values or RGB."
        )
    if int(np.max(source)) >= table.shape[1]:
        raise FileError(
            f"{path.name} is damaged: it uses colours that its palette does not have. "
            "Export the file again."
        )
    index = np.asarray(source).astype(np.intp)
    if (table[0] == table[1]).all() and (table[1] == table[2]).all():
        return table[0][index], letters, chunks
    return np.moveaxis(table[:, index], 0, -1), f"{letters}S", (*chunks, 3)
