"""Variation of a residual relative to the quietest regions of the scan.

What a wrong result leaves is taken for noise by any figure that is drawn from the
residual alone. The scan knows better: where its sample is uniform, it varies by its
noise and nothing else. Both are smoothed a little, and their variance is taken in small
windows. The quietest windows of the scan say what noise makes of such a window, with
all correlation between voxels that this noise has; the residual should hardly be above
that anywhere.

Noise may depend on the grey value (counted photons) and on the place (reconstructed
slices): it is taken by part of the volume, as a convex function of the grey value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.redegrade import TRUNCATE, Box, FloatArray

Array = npt.NDArray[np.float64]
#: Of windows: grey value and variance of the scan, variance of the residual.
Windows = npt.NDArray[np.float32]

#: Edge of a window, and the width of the smoothing before, in voxels.
_WINDOW, _WIDTH = 5, 1.0
#: Every so many-th window is looked at; they overlap by more.
_STEP = 2
#: The scan's noise is that of this quantile of its windows; that of the residual this.
_QUIET, _LOUD = 0.2, 0.8
#: Windows of one part of the volume, and of one class of grey values, at least.
_PART, _CLASS, _MOST_CLASSES = 2000, 300, 6
#: Quieter windows, in the median of all, are padding around the sample.
_PADDING = 1e-4
#: Noise below this part of the scan's own standard deviation counts as that much:
#: rounding, and what a noiseless scan is off by.
_LEAST_NOISE = 0.01
#: White noise for comparison: edges at most.
_WHITE = (24, 48, 48)


def windows(scan: FloatArray, rest: FloatArray, inner: Box) -> Windows:
    """Grey value and variance of the scan, and of the residual, in small windows.

    Parameters
    ----------
    scan, rest : ndarray of shape (Z, Y, X)
        A box of the scan and its residual, with some surroundings; NaN in both where
        one is not known.
    inner : tuple of slice
        The box within.

    Returns
    -------
    ndarray of shape (3, windows)
        Without windows that are not known.
    """
    from scipy import ndimage

    unknown = ~np.isfinite(rest)
    if unknown.all():
        return np.empty((3, 0), np.float32)
    grey, variance = _local(scan, unknown)
    _, left = _local(rest, unknown)
    keep = np.ones(scan.shape, bool)
    if unknown.any():
        reach = _WINDOW // 2 + int(TRUNCATE * _WIDTH)
        sizes = [1 if n == 1 else 2 * reach + 1 for n in scan.shape]
        keep = ~ndimage.maximum_filter(unknown, sizes)
    seldom = tuple(
        slice(b.start, b.stop, _STEP if n > _WINDOW else 1)
        for b, n in zip(inner, scan.shape, strict=True)
    )
    kept = keep[seldom]
    return np.stack([part[seldom][kept] for part in (grey, variance, left)])


def excess(found: Sequence[Windows], shape: Sequence[int]) -> float:
    """Standard deviation of a residual in its loudest windows, relative to noise.

    Parameters
    ----------
    found : sequence of ndarray of shape (3, windows)
        From `windows`, of boxes in order.
    shape : sequence of int
        Of the scan.

    Returns
    -------
    float
        About 1 where the residual is noise, less where the scan has no uniform place;
        0 where there is nothing to tell.
    """
    quiet, loud = _white(_white_shape(shape))
    everywhere = np.concatenate([part[:2] for part in found], axis=1)
    if not everywhere.shape[1] or loud <= 0:
        return 0.0
    spread = float(everywhere[0].var(dtype=np.float64) + everywhere[1].mean())
    least = _LEAST_NOISE**2 * spread * quiet
    ratios = []
    for grey, variance, left in _parts(found):
        alive = variance > _PADDING * np.median(variance)
        if alive.any():
            noise = np.maximum(_quiet(grey[alive], variance[alive]), least)
            ratios.append(left[alive] / noise)
    if not ratios or least <= 0:
        return 0.0
    return float(np.sqrt(np.quantile(np.concatenate(ratios), _LOUD) * quiet / loud))


def _white_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """An array like one of `shape`, limited to the lengths that matter."""
    z, y, x = (min(n, most) for n, most in zip(shape, _WHITE, strict=True))
    if z == 1:  # an image has few windows
        return 1, min(shape[1], 4 * _WHITE[1]), min(shape[2], 4 * _WHITE[2])
    return z, y, x


@cache
def _white(shape: tuple[int, int, int]) -> tuple[float, float]:
    """Variance in quiet and in loud windows of independent noise of variance 1."""
    noise = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    z, y, x = (slice(0, n) for n in shape)
    _, variance, _ = windows(noise, noise, (z, y, x))
    quiet, loud = np.quantile(variance, (_QUIET, _LOUD))
    return float(quiet), float(loud)


def _local(
    values: FloatArray, unknown: npt.NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Mean and variance in windows, of the smoothed values."""
    from scipy import ndimage

    middle = np.float32(values[~unknown].mean(dtype=np.float64))
    values = np.where(unknown, 0, values - middle)
    widths = [0.0 if n == 1 else _WIDTH for n in values.shape]
    sizes = [1 if n == 1 else _WINDOW for n in values.shape]
    smooth = ndimage.gaussian_filter(values, widths, mode="nearest", truncate=TRUNCATE)
    mean = ndimage.uniform_filter(smooth, sizes, mode="nearest")
    square = ndimage.uniform_filter(np.square(smooth), sizes, mode="nearest")
    return mean + middle, np.maximum(square - np.square(mean), 0)


def _parts(found: Sequence[Windows]) -> Iterator[Windows]:
    """Consecutive boxes, merged until they are large enough."""
    waiting: list[Windows] = []
    left = sum(part.shape[1] for part in found)
    for part in found:
        waiting.append(part)
        left -= part.shape[1]
        # A last part that is too small goes with the one before.
        if sum(p.shape[1] for p in waiting) >= _PART and left >= _PART:
            yield np.concatenate(waiting, axis=1)
            waiting = []
    whole = np.concatenate(waiting, axis=1) if waiting else np.empty((3, 0), "f4")
    if whole.shape[1]:
        yield whole


def _quiet(grey: Windows, variance: Windows) -> Array:
    """Variance of the noise at these grey values: convex, below all classes of them.

    Classes with edges in them vary more than their noise. A line from a darker to a
    brighter class that are quieter passes below them.
    """
    n = int(np.clip(len(grey) // _CLASS, 1, _MOST_CLASSES))
    classes = np.array_split(np.argsort(grey, kind="stable"), n)
    places = [float(grey[one].mean()) for one in classes]
    levels = [float(np.quantile(variance[one], _QUIET)) for one in classes]
    hull: list[int] = []
    for i in range(n):
        while len(hull) > 1 and _is_above(hull[-1], hull[-2], i, places, levels):
            hull.pop()
        hull.append(i)
    return np.interp(grey, [places[i] for i in hull], [levels[i] for i in hull])


def _is_above(
    middle: int, left: int, right: int, places: list[float], levels: list[float]
) -> bool:
    """Whether a point lies above the line between its neighbours."""
    width = places[right] - places[left]
    if width <= 0:
        return levels[middle] >= min(levels[left], levels[right])
    along = (places[middle] - places[left]) / width
    return levels[middle] >= (1 - along) * levels[left] + along * levels[right]
