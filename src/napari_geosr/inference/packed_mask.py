"""A mask in memory with one bit per voxel, for volumes larger than memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from napari_geosr.core.types import AnyArray

#: Voxels per byte.
_PER_BYTE = 8


class PackedMask:
    """A mask that takes an eighth of the memory of an array of bool.

    Boxes and planes are read and written as arrays of bool.

    Parameters
    ----------
    shape : sequence of int
        Shape (Z, Y, X). Initially, all voxels are outside.

    Examples
    --------
    >>> mask = PackedMask((2, 3, 20))
    >>> mask[1:2] = np.ones((1, 3, 20), bool)
    >>> mask[:2, 1:3, 9:12].sum(), mask.count(), mask.nbytes
    (np.int64(6), 60, 18)
    """

    def __init__(self, shape: Sequence[int]) -> None:
        depth, height, width = (int(n) for n in shape)
        self.shape = (depth, height, width)
        self._bits: AnyArray = np.zeros(
            (depth, height, -(-width // _PER_BYTE)), np.uint8
        )

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return int(self._bits.nbytes)

    def count(self) -> int:
        """Return the number of voxels inside."""
        return sum(
            int(np.bitwise_count(plane).sum(dtype=np.int64)) for plane in self._bits
        )

    def __setitem__(self, planes: slice, inside: AnyArray) -> None:
        self._bits[planes] = np.packbits(inside, 2)

    def __getitem__(self, box: slice | tuple[slice, ...]) -> AnyArray:
        parts = box if isinstance(box, tuple) else (box,)
        *outer, along = [*parts, *[slice(None)] * (3 - len(parts))]
        start, stop, _ = along.indices(self.shape[2])
        first = start // _PER_BYTE
        last = max(first, -(-stop // _PER_BYTE))
        bits = self._bits[outer[0], outer[1], first:last]
        skipped = start - first * _PER_BYTE
        found = np.unpackbits(bits, 2)[:, :, skipped : skipped + max(0, stop - start)]
        return found.view(bool)


#: Masks that the engines read by box: arrays of bool, or packed.
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
