"""Variation of a residual relative to the least noisy regions of the scan.

Metrics computed from the residual alone would treat any error of the result as noise.
The scan provides an independent measure: where the sample is uniform, the scan varies
only by noise. Scan and residual are slightly smoothed, and their variance is computed
in small windows. The least noisy windows of the scan give the variance that noise
causes in such windows, including the effect of correlations between voxels; the
variance of the residual should hardly exceed it anywhere.

Noise may depend on the grey value (photon counting) and on the position (reconstructed
slices): it is estimated for each part of the volume, as a convex function of the grey
value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.resolution.redegrade import TRUNCATE, Box, FloatArray

Array = npt.NDArray[np.float64]
#: For each window: mean and variance of the scan, and variance of the residual.
Windows = npt.NDArray[np.float32]

#: Edge of a window, in voxels.
_WINDOW_EDGE = 5
#: Standard deviation, in voxels, of the smoothing before the windows are evaluated.
_SMOOTHING_WIDTH = 1.0
#: Distance between adjacent windows, in voxels; smaller than a window, so they overlap.
_STEP = 2
#: Quantile of the windows' variances that gives the noise of the scan.
_QUIET_QUANTILE = 0.2
#: Quantile of the windows' variances that gives the noise of the residual.
_NOISY_QUANTILE = 0.8
#: Minimum number of windows per part of the volume.
_MIN_PART_WINDOWS = 2000
#: Minimum number of windows per class of grey values.
_MIN_CLASS_WINDOWS = 300
#: Maximum number of classes of grey values.
_MAX_CLASSES = 6
#: Fraction of the median variance below which a window counts as padding.
_PADDING = 1e-4
#: Minimum noise, as a fraction of the scan's standard deviation: allows for rounding
#: errors, and for small residuals of a noise-free scan.
_MIN_NOISE = 0.01
#: Maximum shape, in voxels, of the white noise simulated for comparison.
_MAX_WHITE_NOISE_SHAPE = (24, 48, 48)


def windows(scan: FloatArray, residual: FloatArray, inner: Box) -> Windows:
    """Return grey values and variances of scan and residual in small windows.

    Parameters
    ----------
    scan, residual : ndarray of shape (Z, Y, X)
        A box of the scan and its residual, with a margin; NaN in both where either is
        unknown.
    inner : tuple of slice
        The box without its margin.

    Returns
    -------
    ndarray of shape (3, windows)
        Grey values, and variances of scan and residual; windows that contain unknown
        voxels are left out.
    """
    from scipy import ndimage

    unknown = ~np.isfinite(residual)
    if unknown.all():
        return np.empty((3, 0), np.float32)
    grey, variance = _local(scan, unknown)
    _, residual_variance = _local(residual, unknown)
    keep = np.ones(scan.shape, bool)
    if unknown.any():
        reach = _WINDOW_EDGE // 2 + int(TRUNCATE * _SMOOTHING_WIDTH)
        sizes = [1 if n == 1 else 2 * reach + 1 for n in scan.shape]
        keep = ~ndimage.maximum_filter(unknown, sizes)
    grid = tuple(
        slice(b.start, b.stop, _STEP if n > _WINDOW_EDGE else 1)
        for b, n in zip(inner, scan.shape, strict=True)
    )
    keep = keep[grid]
    return np.stack([part[grid][keep] for part in (grey, variance, residual_variance)])


def excess(boxes: Sequence[Windows], shape: Sequence[int]) -> float:
    """Compare the noisiest windows of a residual with the noise of the scan.

    Parameters
    ----------
    boxes : sequence of ndarray of shape (3, windows)
        Results of `windows` for consecutive boxes.
    shape : sequence of int
        Shape of the scan.

    Returns
    -------
    float
        About 1 if the residual is pure noise, less if the scan has no uniform region; 0
        if it cannot be determined.
    """
    quiet, noisy = _white_noise_variances(_white_noise_shape(shape))
    everywhere = np.concatenate([part[:2] for part in boxes], axis=1)
    if not everywhere.shape[1] or noisy <= 0:
        return 0.0
    spread = float(everywhere[0].var(dtype=np.float64) + everywhere[1].mean())
    minimum = _MIN_NOISE**2 * spread * quiet
    ratios = []
    for grey, variance, residual_variance in _merged_parts(boxes):
        valid = variance > _PADDING * np.median(variance)
        if valid.any():
            noise = np.maximum(_quiet_variance(grey[valid], variance[valid]), minimum)
            ratios.append(residual_variance[valid] / noise)
    if not ratios or minimum <= 0:
        return 0.0
    return float(
        np.sqrt(np.quantile(np.concatenate(ratios), _NOISY_QUANTILE) * quiet / noisy)
    )


def _white_noise_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the shape of a test array: `shape`, with lengths limited to a maximum."""
    z, y, x = (
        min(n, limit) for n, limit in zip(shape, _MAX_WHITE_NOISE_SHAPE, strict=True)
    )
    if z == 1:  # few windows fit: use a larger image
        return (
            1,
            min(shape[1], 4 * _MAX_WHITE_NOISE_SHAPE[1]),
            min(shape[2], 4 * _MAX_WHITE_NOISE_SHAPE[2]),
        )
    return z, y, x


@cache
def _white_noise_variances(shape: tuple[int, int, int]) -> tuple[float, float]:
    """Simulate the variance in quiet and noisy windows of white noise of variance 1."""
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    z, y, x = (slice(0, n) for n in shape)
    _, variance, _ = windows(noise, noise, (z, y, x))
    quiet, noisy = np.quantile(variance, (_QUIET_QUANTILE, _NOISY_QUANTILE))
    return float(quiet), float(noisy)


def _local(
    values: FloatArray, unknown: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Return the mean and variance of the smoothed values in windows."""
    from scipy import ndimage

    middle = np.float32(values[~unknown].mean(dtype=np.float64))
    values = np.where(unknown, 0, values - middle)
    widths = [0.0 if n == 1 else _SMOOTHING_WIDTH for n in values.shape]
    sizes = [1 if n == 1 else _WINDOW_EDGE for n in values.shape]
    smooth = ndimage.gaussian_filter(values, widths, mode="nearest", truncate=TRUNCATE)
    mean = ndimage.uniform_filter(smooth, sizes, mode="nearest")
    square = ndimage.uniform_filter(np.square(smooth), sizes, mode="nearest")
    return mean + middle, np.maximum(square - np.square(mean), 0)


def _merged_parts(boxes: Sequence[Windows]) -> Iterator[Windows]:
    """Yield the windows of consecutive boxes, merged until there are enough."""
    pending: list[Windows] = []
    remaining = sum(part.shape[1] for part in boxes)
    for part in boxes:
        pending.append(part)
        remaining -= part.shape[1]
        # If the last part would be too small, merge it with the previous one.
        if (
            sum(p.shape[1] for p in pending) >= _MIN_PART_WINDOWS
            and remaining >= _MIN_PART_WINDOWS
        ):
            yield np.concatenate(pending, axis=1)
            pending = []
    whole = np.concatenate(pending, axis=1) if pending else np.empty((3, 0), "f4")
    if whole.shape[1]:
        yield whole


def _quiet_variance(grey: Windows, variance: Windows) -> Array:
    """Estimate the noise variance for each class of grey values: a convex lower bound.

    The variance of classes that contain edges exceeds that of their noise. Such classes
    lie above the line that joins two quieter classes, a darker and a brighter one.
    """
    n = int(np.clip(len(grey) // _MIN_CLASS_WINDOWS, 1, _MAX_CLASSES))
    classes = np.array_split(np.argsort(grey, kind="stable"), n)
    greys = [float(grey[one].mean()) for one in classes]
    levels = [float(np.quantile(variance[one], _QUIET_QUANTILE)) for one in classes]
    hull: list[int] = []
    for i in range(n):
        while len(hull) > 1 and _is_above(hull[-1], hull[-2], i, greys, levels):
            hull.pop()
        hull.append(i)
    return np.interp(grey, [greys[i] for i in hull], [levels[i] for i in hull])


def _is_above(
    middle: int, left: int, right: int, greys: list[float], levels: list[float]
) -> bool:
    """Whether a point lies on or above the line between its neighbours."""
    width = greys[right] - greys[left]
    if width <= 0:
        return levels[middle] >= min(levels[left], levels[right])
    along = (greys[middle] - greys[left]) / width
    return levels[middle] >= (1 - along) * levels[left] + along * levels[right]
