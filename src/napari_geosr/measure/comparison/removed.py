"""Checks whether a restoration removed only noise, or also structure.

The removed part, which is the scan minus the result, is compared with the noise
measured in the scan. If the noise were measured in the removed part, structure that was
removed everywhere would be mistaken for strong noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.noise import FLOOR, Noise
from napari_geosr.physics.correlated_noise import filtered_covariance

Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Standard deviation of the smoothing that makes removed structure stand out from
#: noise, in voxels.
SMOOTHING = 1.2
#: Radius at which the smoothing is truncated, in standard deviations.
_TRUNCATE = 3.0
#: Largest shift of an edge, in voxels, that does not count as removed structure.
_EDGE_SHIFT = 0.5
#: Number of standard deviations by which removed structure must exceed the expected
#: maximum of noise alone.
_MARGIN = 1.2


@dataclass(frozen=True, eq=False)
class ScanBlock:
    """A block of a scan and of its result, on the voxel grid of the scan.

    Attributes
    ----------
    scan, result : ndarray of shape (Z, Y, X) or (Y, X), float64
        Both in the grey values of the scan.
    valid : ndarray of bool
        Voxels to be used.
    """

    scan: Array
    result: Array
    valid: BoolArray

    @property
    def removed(self) -> Array:
        """Scan minus result."""
        return self.scan - self.result


@dataclass(frozen=True)
class RemovalStatistics:
    """Comparison of the removed part with the noise of the scan.

    Attributes
    ----------
    change : float
        Root mean square of the removed part, in units of the scan's contrast.
    level : float
        Root mean square of the removed part relative to that of the noise: at most
        about 1 if only noise was removed. If no noise was measured, it is relative to
        the upper limit of the noise.
    correlation : mapping of str to float
        Correlation of adjacent voxels of the removed part, along each axis.
    coarser : float
        Largest excess of `correlation` over that of the noise.
    follows : float
        Correlation of the squared removed part, in units of the noise, with the
        gradient of the result: about 0 for noise, larger if edges were changed.
    strongest : float
        Largest magnitude of the smoothed removed part, less the effect of shifted
        edges, in standard deviations of smoothed noise.
    limit : float
        Value that noise alone rarely reaches in any of the compared voxels.
    """

    change: float
    level: float
    correlation: Mapping[str, float]
    coarser: float
    follows: float
    strongest: float
    limit: float

    @property
    def has_places(self) -> bool:
        """Whether the removed part is stronger in places than noise can explain."""
        return self.strongest > self.limit


def describe(pieces: Sequence[ScanBlock], noise: Noise) -> RemovalStatistics:
    """Compare the removed part with the noise of the scan.

    Parameters
    ----------
    pieces : sequence of ScanBlock
        At least one, all with the same axes.
    noise : Noise
        Noise of the scan, in its grey values.
    """
    reference = _at_least(noise)
    ndim = pieces[0].scan.ndim
    axes = "zyx"[-ndim:]
    squares = sizes = voxels = 0.0
    lags = np.zeros((ndim, 2))
    pairs = np.zeros(6)
    spread = smoothed_spread(reference, ndim)
    strongest = 0.0
    for piece in pieces:
        r, valid = piece.removed, piece.valid
        level = np.maximum(reference.at(piece.result), 0.2 * reference.level)
        squares += float(np.square(r[valid]).sum())
        sizes += float(np.square(level[valid]).sum())
        voxels += float(valid.sum())
        for axis in range(ndim):
            lags[axis] += _lag_sums(r, valid, axis)
        gradient = _gradient(piece.result)
        unit = np.square(r / level)
        pairs += _pair_sums(unit[valid], gradient[valid])
        strength = _strength(r, _smoothed_level(level) * spread, gradient)
        inside = valid & _inner(valid.shape)
        if inside.any():
            strongest = max(strongest, float(strength[inside].max()))
    correlation = {
        axis: float(a / b) if b > 0 else 0.0
        for axis, (a, b) in zip(axes, lags, strict=True)
    }
    excess = [
        value - max(0.0, reference.correlation.get(axis, 0.0))
        for axis, value in correlation.items()
    ]
    voxels = max(1.0, voxels)
    return RemovalStatistics(
        change=_ratio(math.sqrt(squares / voxels), noise.contrast),
        level=_ratio(math.sqrt(squares), math.sqrt(sizes)),
        correlation=correlation,
        coarser=max(excess),
        follows=_correlation(pairs),
        strongest=strongest,
        limit=_limit(voxels),
    )


def smoothed_spread(noise: Noise, ndim: int) -> float:
    """Return the standard deviation of noise of level 1 after smoothing."""
    return math.sqrt(max(0.0, filtered_covariance(noise, [_kernel()] * ndim)))


def _at_least(noise: Noise) -> Noise:
    """Return the noise, with the upper limit as its level if it was not measurable."""
    if noise.level > 0:
        return noise
    hidden = max(noise.interval[1], FLOOR * noise.contrast)
    if not hidden > 0:
        hidden = float(np.finfo(np.float32).tiny)
    return replace(
        noise, level=hidden, greys=(0.0,), levels=(hidden,), interval=(0.0, hidden)
    )


def _kernel() -> Array:
    radius = int(_TRUNCATE * SMOOTHING + 0.5)
    places = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (places / SMOOTHING) ** 2)
    return np.asarray(kernel / kernel.sum(), np.float64)


def _strength(r: Array, spread: Array, gradient: Array) -> Array:
    """Return the magnitude of the smoothed removed part, in standard deviations.

    The effect of edge shifts is subtracted.
    """
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(r, SMOOTHING, truncate=_TRUNCATE)
    edges = ndimage.gaussian_filter(gradient, SMOOTHING, truncate=_TRUNCATE)
    strength: Array = (np.abs(smooth) - _EDGE_SHIFT * edges) / spread
    return strength


def _smoothed_level(level: Array) -> Array:
    """Return the level of smoothed noise, which differs from `level` at edges.

    Smoothing spreads the noise of bright voxels into their dark neighbourhood.
    """
    from scipy import ndimage

    if level.min() == level.max():
        return level
    variance = ndimage.gaussian_filter(
        np.square(level), SMOOTHING / math.sqrt(2), truncate=_TRUNCATE
    )
    return np.asarray(np.sqrt(variance), np.float64)


def _limit(voxels: float) -> float:
    return math.sqrt(2 * math.log(max(2.0, voxels))) + _MARGIN


def _inner(shape: Sequence[int]) -> BoolArray:
    """Return the voxels far enough from the border of a block for the smoothing."""
    inside = np.zeros(shape, bool)
    margin = [1 if n < 12 else 3 for n in shape]
    box = (slice(m, max(m + 1, n - m)) for m, n in zip(margin, shape, strict=True))
    inside[tuple(box)] = True
    return inside


def _gradient(values: Array) -> Array:
    total = np.zeros_like(values)
    for axis, n in enumerate(values.shape):
        if n > 1:
            total += np.square(np.gradient(values, axis=axis))
    return np.sqrt(total)


def _lag_sums(r: Array, valid: BoolArray, axis: int) -> tuple[float, float]:
    n = r.shape[axis]
    if n < 2:
        return 0.0, 0.0
    first, second = (
        tuple(slice(a, b) if i == axis else slice(None) for i in range(r.ndim))
        for a, b in ((0, n - 1), (1, n))
    )
    both = valid[first] & valid[second]
    if not both.any():
        return 0.0, 0.0
    a, b = r[first][both], r[second][both]
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b), float(math.sqrt((a @ a) * (b @ b)))


def _pair_sums(u: Array, g: Array) -> Array:
    # `u` is a square: limit it to 5², so that a few bright spots do not dominate.
    u = np.minimum(u, 25.0)
    return np.array([u.size, u.sum(), g.sum(), u @ u, g @ g, u @ g])


def _correlation(sums: Array) -> float:
    n, a, b, aa, bb, ab = sums
    if n < 2:
        return 0.0
    spread = math.sqrt(max(0.0, aa - a * a / n) * max(0.0, bb - b * b / n))
    return float((ab - a * b / n) / spread) if spread > 0 else 0.0


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else 0.0
