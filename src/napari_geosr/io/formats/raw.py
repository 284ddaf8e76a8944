"""Raw files: they contain only voxels, so shape and data type must be given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.file_warnings import ORIGIN_UNKNOWN
from napari_geosr.core.volume import Volume
from napari_geosr.io.arrangement import (
    EAGER_BYTES,
    arrangement,
    contiguous,
    finish,
)
from napari_geosr.io.formats import FileFormat, ReadOptions
from napari_geosr.io.reader_questions import unnamed_axis
from napari_geosr.io.suffixes import stem_of

if TYPE_CHECKING:
    import numpy.typing as npt


def read_raw(
    path: Path,
    *,
    shape: Sequence[int] | None,
    dtype: npt.DTypeLike | None,
    offset: int = 0,
    axes: str | None = None,
) -> Volume:
    """Read a raw file; a large one is read lazily.

    Parameters
    ----------
    path : Path
    shape : sequence of int
        Along Z, Y, X, slowest axis first, or along `axes`.
    dtype : dtype
        Data type, with byte order where relevant, e.g. ``">u2"``.
    offset : int
        Number of header bytes to skip.
    axes : str, optional

    Raises
    ------
    FileError
        If shape or type is missing, or does not match the size of the file.
    ConfigError
        If shape or type is invalid for a volume.
    """
    size = path.stat().st_size
    if shape is None or dtype is None:
        raise FileError(
            f"{path.name} is a raw file of {size} bytes with an unknown shape and "
            "type. Give both, e.g. shape 100,200,300 (Z, Y, X) and dtype uint16."
        )
    try:
        stored = np.dtype(dtype)
    except TypeError as error:
        raise ConfigError(
            f"{dtype!r} is not a valid voxel type. Use e.g. uint8, '<u2' or float32."
        ) from error
    lengths = tuple(int(n) for n in shape)
    if stored.kind not in "biuf" or not 2 <= len(lengths) <= 5 or min(lengths) < 1:
        raise ConfigError(
            f"{path.name} cannot be read with shape {lengths} and type {stored}: give "
            "2 to 5 lengths greater than zero and a real-valued type."
        )
    needed = math.prod(lengths) * stored.itemsize + offset
    if needed != size:
        shown = " × ".join(map(str, lengths))
        header = f" after {offset} bytes of header" if offset else ""
        raise FileError(
            f"{path.name} has {size} bytes, but {shown} voxels of {stored} need "
            f"{needed}{header}. Check shape, type and header size."
        )
    letters = "TZYX" if len(lengths) == 4 else "TCZYX"[-len(lengths) :]
    order, final = arrangement(lengths, axes or letters, axes or letters, path, [])
    source = contiguous(path, stored, offset, lengths, EAGER_BYTES)
    chunks = (1,) * (len(lengths) - 2) + lengths[-2:]
    volume = Volume(
        data=finish(source, order, chunks, path, final),
        axes=final,
        name=stem_of(path),
        source=path,
        metadata={"format": "raw", ORIGIN_UNKNOWN: True},
    )
    return volume if axes is not None else unnamed_axis(volume, final)


class RawFormat(FileFormat):
    """Raw voxels; any file is read as raw if its shape and type are given."""

    title = "raw"
    suffixes = (".raw", ".bin", ".dat")
    rank = 40
    states_shape = False

    def accepts(self, path: Path, options: ReadOptions) -> bool:
        """Return whether shape and type are given, whatever the suffix."""
        described = options.shape is not None and options.dtype is not None
        return described and path.is_file()

    def read(self, path: Path, options: ReadOptions) -> Volume:
        """Read with the shape, type, offset and axes of `options`.

        Raises
        ------
        FileError
            If shape or type is missing, or does not match the size of the file.
        ConfigError
            If shape or type is invalid for a volume.
        """
        return read_raw(
            path,
            shape=options.shape,
            dtype=options.dtype,
            offset=options.offset,
            axes=options.axes,
        )


FORMAT = RawFormat()
