"""Measures of the quality of an alignment, computed without ground truth."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_BINS = 48
#: Maximum number of voxels in a joint histogram; larger volumes are sampled evenly.
_MAX_COUNTED = 1 << 22
#: Percentiles beyond which grey values fall into the outermost bins.
_RANGE = (0.5, 99.5)
#: Maximum edge length of a block in which the local shift is measured, in voxels.
_MAX_BLOCK_EDGE = 48
#: Minimum edge length of a block, in voxels.
_MIN_BLOCK_EDGE = 16
#: Maximum number of blocks along an axis.
_MAX_BLOCKS = 3
#: Maximum number of measurements of a shift; each one undoes the shift found so far and
#: measures the remaining one.
_ROUNDS = 3
#: Minimum correlation of the two volumes in a block to estimate its shift.
_MIN_CORRELATION = 0.2


@dataclass(frozen=True)
class BlockShift:
    """Residual shift in one block of the volume.

    Attributes
    ----------
    centre : tuple of float
        Centre of the block, in voxels.
    shift : tuple of float
        Shift of the second volume relative to the first, in voxels, along (Z, Y, X) or
        (Y, X).
    correlation : float
        Correlation of the two volumes in the block.
    """

    centre: tuple[float, ...]
    shift: tuple[float, ...]
    correlation: float

    @property
    def length(self) -> float:
        """Length of the shift, in voxels."""
        return math.hypot(*self.shift)


def mutual_information(
    one: FloatArray, other: FloatArray, mask: Mask | None = None
) -> float:
    """Return the mutual information of the grey values in bits, from a joint histogram.

    It is zero for independent volumes, and increases with the accuracy with which one
    volume predicts the other. Because it also increases with the contrast, it can be
    used to compare positions of one pair of volumes, but not different pairs.

    Parameters
    ----------
    one, other : ndarray of the same shape
    mask : ndarray of bool, optional
        Voxels to be used.
    """
    a, b = (one.ravel(), other.ravel()) if mask is None else (one[mask], other[mask])
    if a.size == 0:
        return 0.0
    step = -(-a.size // _MAX_COUNTED)
    a, b = a[::step], b[::step]
    joint = np.histogram2d(_binned(a), _binned(b), bins=_BINS)[0] / a.size
    alone = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float((joint[filled] * np.log2(joint[filled] / alone[filled])).sum())


def _binned(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    low, high = np.percentile(values, _RANGE)
    scaled: npt.NDArray[np.float32] = np.clip(
        (values - low) / max(high - low, 1e-30), 0, 1
    )
    return scaled


def correlation(
    one: npt.NDArray[np.floating],
    other: npt.NDArray[np.floating],
    mask: Mask | None = None,
) -> float:
    """Return the correlation coefficient of two arrays; 0 if either of them is uniform.

    Parameters
    ----------
    one, other : ndarray
        Arrays of the same shape.
    mask : ndarray of bool, optional
        Voxels to be used.
    """
    kept = (one.ravel(), other.ravel()) if mask is None else (one[mask], other[mask])
    a, b = (values - values.mean(dtype=np.float64) for values in kept)
    power = math.sqrt(float(a @ a) * float(b @ b)) if a.size else 0.0
    return float(a @ b) / power if power > 0 else 0.0


def block_shifts(one: FloatArray, other: FloatArray) -> list[BlockShift]:
    """Measure the shifts of `other` relative to `one` in evenly spaced blocks.

    Parameters
    ----------
    one, other : ndarray of the same shape, (Z, Y, X) or (Y, X)

    Returns
    -------
    list of BlockShift
        Only blocks in which the two arrays are sufficiently correlated; may be empty.
    """
    found = []
    for box in _blocks(one.shape):
        alike = correlation(one[box], other[box])
        if abs(alike) < _MIN_CORRELATION:
            continue
        shift = _shift(one[box], other[box] * np.float32(-1 if alike < 0 else 1))
        centre = tuple((s.start + s.stop - 1) / 2 for s in box)
        found.append(BlockShift(centre, shift, alike))
    return found


def _shift(one: FloatArray, other: FloatArray) -> tuple[float, ...]:
    """Return the shift of `other` relative to `one`.

    Because the windows emphasise the centre of both blocks, the shift is
    underestimated; `other` is therefore shifted back, and the remaining shift is
    measured.
    """
    from scipy import ndimage
    from skimage.registration import phase_cross_correlation

    total = np.zeros(one.ndim)
    for _ in range(_ROUNDS):
        moved = other
        if total.any():
            moved = ndimage.shift(other, total, order=1, mode="nearest")
            if moved.min() == moved.max():  # nothing in common is left
                break
        step, _, _ = phase_cross_correlation(
            _windowed(one), _windowed(moved), upsample_factor=20, normalization=None
        )
        total += step
        if not step.any():
            break
    return tuple(float(v) for v in 0.0 - total)


def _blocks(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    axes = []
    for n in shape:
        count = max(1, min(_MAX_BLOCKS, n // _MIN_BLOCK_EDGE))
        edge = min(n, _MAX_BLOCK_EDGE, max(_MIN_BLOCK_EDGE, n // count))
        starts = np.linspace(0, n - edge, count).astype(int)
        axes.append([slice(int(s), int(s) + edge) for s in starts])
    return list(itertools.product(*axes))


def _windowed(block: FloatArray) -> npt.NDArray[np.float64]:
    windowed: npt.NDArray[np.float64] = block.astype(np.float64) - float(block.mean())
    # Normalise, because squares of values far from 1 would lose precision.
    windowed /= float(windowed.std()) or 1.0
    for axis, n in enumerate(block.shape):
        shape = [n if i == axis else 1 for i in range(block.ndim)]
        windowed = windowed * np.hanning(n + 2)[1:-1].reshape(shape)
    return windowed
