"""Contrast of a scan relative to a result: regression slope with its error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.resolution.redegrade import Box, FloatArray

Array = npt.NDArray[np.float64]

#: Minimum edge length, in voxels, of the blocks that give the standard error.
_MIN_BLOCK_EDGE = 8
#: Maximum number of these blocks.
_MAX_BLOCKS = 4096
#: Minimum number of blocks for an estimate.
_MIN_BLOCKS = 4
#: Variance of a result, relative to that of the residual, below which the result counts
#: as uniform.
_UNIFORM_VARIANCE = 1e-6


class BlockSums(NamedTuple):
    """Sums of the blocks that a box touches.

    Attributes
    ----------
    blocks : list of ndarray
        Indices of the blocks along each axis.
    sums : ndarray of shape (blocks along Z, Y, X, 6)
        Number of known voxels; sums of the result, the residual, their products and
        their squares.
    """

    blocks: list[npt.NDArray[np.int64]]
    sums: Array


def _block_edge(shape: Sequence[int]) -> int:
    deep = sum(n > 1 for n in shape)
    edge = float((math.prod(shape) / _MAX_BLOCKS) ** (1 / max(1, deep)))
    return max(_MIN_BLOCK_EDGE, math.ceil(edge))


def block_sums(
    shape: Sequence[int],
    box: Box,
    result: FloatArray,
    residual: FloatArray,
    known: npt.NDArray[np.bool_],
) -> BlockSums:
    """Return the sums over a box of the volume; only its `known` voxels are used.

    Parameters
    ----------
    shape : sequence of int
        Shape of the scan.
    result, residual : ndarray of the box's shape
        The simulated scan of the result, centred at zero, and the scan minus this
        simulation.
    """
    edge = _block_edge(shape)
    starts, blocks = [], []
    for part in box:
        index = np.arange(part.start, part.stop) // edge
        touched, first = np.unique(index, return_index=True)
        starts.append(first)
        blocks.append(touched)
    a, r = np.where(known, result, 0), np.where(known, residual, 0)
    sums = np.empty((*map(len, blocks), 6))
    for i, values in enumerate((known, a, r, a * r, a * a, r * r)):
        total = values
        for axis, first in enumerate(starts):
            total = np.add.reduceat(total, first, axis=axis, dtype=np.float64)
        sums[..., i] = total
    return BlockSums(blocks, sums)


class SlopeSums:
    """Sums of a regression of the scan on the result, block by block.

    The standard error of the slope is found by omitting one block at a time
    (jackknife), so noise may be correlated within blocks.

    Parameters
    ----------
    shape : sequence of int
        Shape of the scan.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        edge = _block_edge(shape)
        self._sums = np.zeros((*(-(-n // edge) for n in shape), 6))

    def add(self, found: BlockSums) -> None:
        """Add the sums of a box of the volume."""
        self._sums[np.ix_(*found.blocks)] += found.sums

    @property
    def is_result_uniform(self) -> bool:
        """Whether the result is uniform compared with its residual."""
        whole = self._sums.reshape(-1, 6).sum(axis=0)
        if not whole[0]:
            return False
        residual = whole[5] / whole[0] - (whole[2] / whole[0]) ** 2
        return residual > 0 and bool(_moments(whole)[1] <= _UNIFORM_VARIANCE * residual)

    def slope(self) -> tuple[float, float] | None:
        """Return the regression slope of scan on result, and its standard error.

        None is returned if the result is uniform or the volume is too small.
        """
        blocks = self._sums.reshape(-1, 6)
        blocks = blocks[blocks[:, 0] > 0]
        n = len(blocks)
        if n < _MIN_BLOCKS or self.is_result_uniform:
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
    """Return the covariance of residual and result, and the variance of the result."""
    count, a, r, ar, aa, _ = np.moveaxis(sums, -1, 0)
    return ar / count - a * r / count**2, aa / count - (a / count) ** 2
