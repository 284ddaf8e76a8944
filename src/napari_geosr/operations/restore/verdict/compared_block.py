"""Provides blocks of a scan with a model's result, and functions that shift arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]
AnyArray = TypeVar("AnyArray", bound=npt.NDArray[Any])
Vector = npt.NDArray[np.intp]


#: Edge lengths along Z, Y and X, in voxels, of the cells in which the noise level is
#: measured if it depends on the position.
_CELL = (4, 16, 16)
#: Quantile of the fine detail of a cell from which its noise level is measured.
_QUIET = 0.25
#: Lower limit of the noise level, as a fraction of the grey-value range of a block.
_LEAST_LEVEL = 1e-6


@dataclass(frozen=True, eq=False)
class ComparedBlock:
    """A block of a scan, the result and noise, all of the same shape.

    Attributes
    ----------
    scan, result : ndarray of shape (Z, Y, X) or (Y, X), float64
        Grey values.
    inside : ndarray of bool
        Voxels that belong to the sample.
    noise : ndarray of float64
        Noise with the same correlation as the noise of the scan, and a level of 1.
    level : ndarray of float64
        Noise level at each voxel, in grey values.
    """

    scan: Array
    result: Array
    inside: Mask
    noise: Array
    level: Array

    @property
    def least_level(self) -> float:
        """Smallest noise level to divide by, so that all ratios are finite.

        This level is a millionth of the grey-value range: where a scan has no noise
        (for example where a camera saturates), any difference in grey values is
        significant.
        """
        span = float(np.ptp(self.scan)) if self.scan.size else 0.0
        return _LEAST_LEVEL * span if span > 0 else 1.0


def local_level(scan: Array, level: Array, noise: Array) -> Array:
    """Return the noise level at each voxel of a scan with noise that varies in level.

    The fine detail of each cell is compared with that of noise of the stated level. A
    low quantile is used, so that edges and small objects have no influence. The level
    is never reduced.

    Parameters
    ----------
    scan : ndarray of shape (Z, Y, X) or (Y, X), float64
        Grey values.
    level : ndarray of float64
        Stated noise level at each voxel.
    noise : ndarray of float64
        Noise with the same correlation as that of the scan, and a level of 1.
    """
    from scipy import ndimage

    details = [np.abs(ndimage.laplace(each)) for each in (scan, level * noise)]
    edges = _CELL[-scan.ndim :]
    counts = [-(-n // edge) for n, edge in zip(scan.shape, edges, strict=True)]
    ratios = np.ones(counts)
    for at in np.ndindex(*counts):
        cell = tuple(slice(i * e, (i + 1) * e) for i, e in zip(at, edges, strict=True))
        seen, expected = (float(np.quantile(each[cell], _QUIET)) for each in details)
        if expected > 0:
            ratios[at] = max(1.0, seen / expected)
    # Filters spread the noise of a noisier cell into the neighbouring cells.
    ratios = ndimage.maximum_filter(ratios, 3, mode="nearest")
    for axis, edge in enumerate(edges):
        ratios = np.repeat(ratios, edge, axis)
    inner = tuple(slice(0, n) for n in scan.shape)
    return np.asarray(level * ratios[inner])


def add_shifted(total: Values, values: Values, by: Vector) -> None:
    """Add `values`, shifted by whole voxels, to `total`."""
    source, target = _places(values.shape, by)
    total[target] += values[source]


def shifted(values: AnyArray, by: Vector) -> AnyArray:
    """Shift values by whole voxels; 0 is inserted at the edges."""
    found: AnyArray = np.zeros_like(values)
    source, target = _places(values.shape, by)
    found[target] = values[source]
    return found


def _places(
    shape: Sequence[int], by: Vector
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the source and target slices for shifting an array."""
    steps = [max(-n, min(n, step)) for step, n in zip(by.tolist(), shape, strict=True)]
    pairs = list(zip(steps, shape, strict=True))
    return (
        tuple(slice(max(0, step), n + min(0, step)) for step, n in pairs),
        tuple(slice(max(0, -step), n - max(0, step)) for step, n in pairs),
    )
