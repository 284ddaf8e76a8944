"""Contrast of a result relative to its scan: regression slope with its error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.redegrade import Box, FloatArray

Array = npt.NDArray[np.float64]

#: Blocks that the error is drawn from: shortest edge in voxels, and so many at most.
_EDGE, _MOST_BLOCKS = 8, 4096
#: With fewer blocks nothing is said.
_LEAST_BLOCKS = 4
#: A result that varies less, in the variance of what it leaves, shows nothing.
_NOTHING = 1e-6


class SlopeSums:
    """Sums of a regression of the scan on the result, block by block.

    Leaving out one block after the other gives the slope's standard error, whatever the
    noise and its correlation within a block (the jackknife).

    Parameters
    ----------
    shape : sequence of int
        Of the scan.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        deep = sum(n > 1 for n in shape)
        edge = (math.prod(shape) / _MOST_BLOCKS) ** (1 / max(1, deep))
        self._edge = max(_EDGE, math.ceil(edge))
        self._sums = np.zeros((*(-(-n // self._edge) for n in shape), 6))

    def add(
        self,
        box: Box,
        result: FloatArray,
        residual: FloatArray,
        known: npt.NDArray[np.bool_],
    ) -> None:
        """Add a box of the volume; `known` voxels of it count.

        Parameters
        ----------
        result, residual : ndarray of the box's shape
            The result, seen like the scan, about zero, and the scan less that.
        """
        starts, blocks = [], []
        for part in box:
            index = np.arange(part.start, part.stop) // self._edge
            found, first = np.unique(index, return_index=True)
            starts.append(first)
            blocks.append(found)
        a, r = np.where(known, result, 0), np.where(known, residual, 0)
        for i, values in enumerate((known, a, r, a * r, a * a, r * r)):
            total = values
            for axis, first in enumerate(starts):
                total = np.add.reduceat(total, first, axis=axis, dtype=np.float64)
            sums = self._sums[..., i]
            sums[np.ix_(*blocks)] += total

    @property
    def shows_nothing(self) -> bool:
        """Whether the result is uniform compared with its residual."""
        whole = self._sums.reshape(-1, 6).sum(axis=0)
        if not whole[0]:
            return False
        left = whole[5] / whole[0] - (whole[2] / whole[0]) ** 2
        return left > 0 and bool(_moments(whole)[1] <= _NOTHING * left)

    def slope(self) -> tuple[float, float] | None:
        """Slope of the scan over the result, and its standard error.

        None where the result shows nothing, or the volume is too small to tell.
        """
        blocks = self._sums.reshape(-1, 6)
        blocks = blocks[blocks[:, 0] > 0]
        n = len(blocks)
        if n < _LEAST_BLOCKS or self.shows_nothing:
            return None
        covariance, variance = _moments(blocks.sum(axis=0))
        if variance <= 0:
            return None
        covariances, variances = _moments(blocks.sum(axis=0) - blocks)
        if (variances <= 0).any():
            return None
        one_less = covariances / variances
        spread = float(np.square(one_less - one_less.mean()).sum())
        error = math.sqrt((n - 1) / n * spread)
        return 1 + float(covariance / variance), error


def _moments(sums: Array) -> tuple[Array, Array]:
    """Covariance of residual and result, and variance of the result."""
    count, a, r, ar, aa, _ = np.moveaxis(sums, -1, 0)
    return ar / count - a * r / count**2, aa / count - (a / count) ** 2
