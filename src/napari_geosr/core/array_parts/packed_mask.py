"""A mask with one bit per voxel, for volumes larger than memory."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import FileError
from napari_geosr.core.machine.disk_space import fill_space, is_in_memory
from napari_geosr.core.types import AnyArray

#: Voxels per byte.
_PER_BYTE = 8
#: Maximum size in bytes of a mask that is kept in memory; larger masks are stored in a
#: temporary file, unless the folder for temporary files is itself kept in memory.
MOST_BYTES_IN_MEMORY = 256 * 2**20


class PackedMask:
    """A mask with one bit per voxel, in memory or, if it is large, in a temporary file.

    Parameters
    ----------
    shape : sequence of 3 int
        Shape of the mask, (Z, Y, X). Initially, all voxels are outside.

    Attributes
    ----------
    lacks_disk : bool
        Whether the mask is large but kept in memory, because the folder for temporary
        files is kept in memory, too.

    Raises
    ------
    FileError
        If the mask is large and there is no space for a temporary file.

    Examples
    --------
    >>> mask = PackedMask((2, 3, 10))
    >>> mask.write(1, np.ones((1, 3, 10), bool))
    >>> int(mask[:, 1:2, 3:5].sum()), mask.count(), mask.nbytes
    (2, 30, 12)
    """

    def __init__(self, shape: Sequence[int]) -> None:
        depth, rows, columns = (int(n) for n in shape)
        self.shape: tuple[int, int, int] = (depth, rows, columns)
        packed = (depth, rows, -(-columns // _PER_BYTE))
        self._bits: AnyArray
        is_large = math.prod(packed) > MOST_BYTES_IN_MEMORY
        self.lacks_disk = is_large and is_in_memory(Path(tempfile.gettempdir()))
        if is_large and not self.lacks_disk:
            self._bits = _mapped(packed)
        else:
            self._bits = np.zeros(packed, np.uint8)

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of memory; 0 if the mask is stored in a file."""
        return 0 if isinstance(self._bits, np.memmap) else int(self._bits.nbytes)

    def write(self, z: int, block: AnyArray) -> None:
        """Store planes, starting at `z`."""
        self._bits[z : z + len(block)] = np.packbits(block, axis=2, bitorder="little")

    def count(self) -> int:
        """Return the number of voxels inside."""
        return sum(
            int(np.bitwise_count(plane).sum(dtype=np.int64)) for plane in self._bits
        )

    def __getitem__(self, box: slice | tuple[slice, ...]) -> AnyArray:
        parts = box if isinstance(box, tuple) else (box,)
        z, y, x = (*parts, *[slice(None)] * (3 - len(parts)))
        first, last, _ = x.indices(self.shape[2])
        start = first // _PER_BYTE
        bits = self._bits[z, y, start : -(-last // _PER_BYTE)]
        voxels = np.unpackbits(bits, axis=2, bitorder="little").view(np.bool_)
        skipped = _PER_BYTE * start
        found: AnyArray = voxels[:, :, first - skipped : max(first, last) - skipped]
        return found


def _mapped(shape: tuple[int, ...]) -> AnyArray:
    """Map a temporary file of zeros into memory.

    Raises
    ------
    FileError
        If the file cannot be created.
    """
    size = math.prod(shape)
    try:
        # The array keeps the file open.
        with tempfile.TemporaryFile(prefix="geosr-mask-") as file:
            fill_space(file, size)
            mapped: AnyArray = np.memmap(file, np.uint8, "r+", shape=shape)
    except OSError as error:
        raise FileError(
            f"A temporary file of {format_bytes(size)} for a mask cannot be created in "
            f"{tempfile.gettempdir()}: {error.strerror or error}. Free space there, or "
            "set the environment variable TMPDIR to a folder on another disk."
        ) from error
    return mapped


#: Masks that are read by box: arrays of bool, or packed.
MaskVoxels: TypeAlias = "AnyArray | PackedMask"


def count_inside(mask: MaskVoxels) -> int:
    """Return the number of voxels inside a mask.

    Examples
    --------
    >>> count_inside(np.ones((2, 2, 2), bool))
    8
    """
    if isinstance(mask, PackedMask):
        return mask.count()
    return int(np.count_nonzero(mask))
