"""The variance of the noise as a function of the grey value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_geosr.measure.noise.basis import Array, non_negative
from napari_geosr.measure.noise.sample import Bools

#: Percentiles of the grey values up to which photon noise is extrapolated.
NEARLY_ALL = (0.01, 99.99)
#: Minimum improvement in chi squared for a curve with more parameters.
_MIN_IMPROVEMENT = 5.0
#: Minimum improvement in chi squared if the curve fits closely (see `_CLOSE_RATIO`).
_MIN_CLOSE_IMPROVEMENT = 1.0
#: Minimum ratio of this improvement to the remaining chi squared per degree of freedom.
_CLOSE_RATIO = 60.0
#: Factor by which a class's variance must exceed the curve to count as structure.
_STRUCTURE_FACTOR = 1.3
#: Weight of classes that contain structure.
_STRUCTURE_WEIGHT = 0.02
#: Factor by which the curve may exceed the lower hull of the classes: apart from
#: statistical scatter, no class varies less than its noise.
_SCATTER_FACTOR = 1.1
#: Smallest variance distinguished from zero, as a fraction of the largest.
_ZERO_SHARE = 1e-8
#: Maximum relative error of the variance of a class that counts as certain.
_CERTAIN_ERROR = 0.1
#: Relative error of the variance above which a class may consist only of structure.
_STRUCTURE_ERROR = 0.5
#: Relative difference below which all levels of a curve count as equal.
_SAME_LEVEL = 0.1
#: The tolerance for removing knots is relative to the level, or to this fraction of the
#: largest level if the level is lower.
_LOW_SHARE = 0.1
#: Number of evenly spaced knots before redundant ones are removed.
_KNOTS = 17
#: Number of iterations of reweighting.
_ITERATIONS = 8


@dataclass(frozen=True, eq=False)
class NoiseCurve:
    """Variance at ascending grey values, linear between them and constant beyond.

    Attributes
    ----------
    greys, variances : ndarray
    is_line : bool
        Whether the variance is a rising line, as for counted photons.
    """

    greys: Array
    variances: Array
    is_line: bool = False

    def variance(self, greys: Array) -> Array:
        """Return the variance of the noise at these grey values."""
        return np.asarray(np.interp(greys, self.greys, self.variances), np.float64)

    def extended(self, lowest: float, highest: float) -> NoiseCurve:
        """Return the curve, extended to grey values that few voxels have.

        Small bright objects have no uniform blocks from which their noise could be
        measured, and because of the noise, some background voxels are darker than the
        mean of every background block. A line is the variance of counted photons plus a
        constant; it is extrapolated, but not below zero. Any other curve is
        constant beyond its ends.
        """
        if not self.is_line:
            return self
        greys, variances = self.greys, self.variances
        low, high = float(greys[0]), float(greys[-1])
        slope = float(variances[-1] - variances[0]) / (high - low)
        if highest > high:
            beyond = float(variances[-1]) + slope * (highest - high)
            greys, variances = np.append(greys, highest), np.append(variances, beyond)
        lowest = max(lowest, low - float(variances[0]) / slope)
        if lowest < low:
            below = max(0.0, float(variances[0]) - slope * (low - lowest))
            greys, variances = (
                np.insert(greys, 0, lowest),
                np.insert(variances, 0, below),
            )
        return NoiseCurve(greys, variances, True)

    def levels(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return grey values and standard deviations, without redundant knots."""
        greys = np.linspace(self.greys[0], self.greys[-1], _KNOTS)
        if len(self.greys) > 2 and self.is_line:
            # Place more knots near the start, where the square root of a linear
            # function is most curved.
            known = np.linspace(self.greys[0], self.greys[-2], _KNOTS)
            first = np.linspace(self.greys[0], self.greys[1], _KNOTS)
            greys = np.union1d(np.union1d(greys, known), first)
        levels = np.sqrt(self.variance(greys))
        if levels.max() <= (1 + _SAME_LEVEL) * levels.min() or greys[0] == greys[-1]:
            middle = float(np.median(self.greys))
            return (middle,), (float(np.sqrt(self.variances.mean())),)
        scale = np.full(len(levels), levels.max())
        if self.is_line:  # keep low levels accurate; they may be zero
            scale = np.maximum(levels, _LOW_SHARE * levels.max())
        kept = _simplified(greys, levels, scale)
        return tuple(greys[kept].tolist()), tuple(levels[kept].tolist())


def fit_curve(
    greys: Array, variances: Array, doubts: Array, is_uniform: Bools | None = None
) -> NoiseCurve:
    """Fit a constant, a line or a convex curve to the variances of grey-value classes.

    The sum of the variances of photon noise and camera noise is linear in the grey
    value; in reconstructed slices, the minimum may lie at an intermediate grey value.
    Classes without uniform blocks lie above the curve and get little weight; no class
    lies below the curve.

    Parameters
    ----------
    greys, variances, doubts : ndarray of shape (classes,)
        Ascending grey values, variance of the noise and its relative error.
    is_uniform : ndarray of shape (classes,), bool, optional
        True for classes that certainly contain nothing but noise. If given, a decrease
        of the noise with the grey value must appear in one of them: mixtures of a
        uniform bright material and dark pores vary more if they contain more pores.
    """
    places, first = np.unique(greys, return_index=True)
    variances, doubts = variances[first], doubts[first]
    if is_uniform is not None:
        is_uniform = is_uniform[first]
    width = float(places[-1] - places[0])
    if not variances.max() > 0 or width == 0:
        return NoiseCurve(places, np.full(len(places), float(variances.min())))
    if _is_free_of_noise(variances, doubts):
        return NoiseCurve(places, np.zeros(len(places)))
    up = np.maximum(places - places[0], 0) / width
    third, last = (places[0] + width * part for part in (1 / 3, 2 / 3))
    line = [np.ones(len(places)), up, 1 - up]
    bends = [np.maximum(places - place, 0) / width for place in (third, last)]
    bends += [np.maximum(place - places, 0) / width for place in (third, last)]
    best: tuple[float, Array] | None = None
    is_line = False
    for parts in (line[:1], line, line + bends):
        if len(parts) >= len(places) + 2:
            break
        candidate = _fit_parts(np.stack(parts, axis=1), variances, doubts)
        if best is None or _is_better(candidate[0], best[0], len(places) - len(parts)):
            best, is_line = candidate, len(parts) == len(line)
    assert best is not None
    upper = _SCATTER_FACTOR * lower_hull(places, variances)
    fitted = best[1]
    if np.ptp(fitted) <= _ZERO_SHARE * variances.max():
        fitted = np.full(len(places), min(float(fitted[0]), float(upper.min())))
    found = np.minimum(fitted, upper)
    if is_uniform is not None:
        is_certain = is_uniform | (doubts <= _CERTAIN_ERROR)
        found = _without_mixtures(found, variances, is_uniform, is_certain, is_line)
    # Require noise in all certain classes: the variance of mixtures of two noise-free
    # grey values resembles photon noise.
    has_noise = variances[doubts <= _CERTAIN_ERROR] > _ZERO_SHARE * variances.max()
    is_photons = is_line and found[-1] > found[0] and has_noise.all()
    return NoiseCurve(places, found, bool(is_photons))


def _without_mixtures(
    found: Array,
    variances: Array,
    is_uniform: Bools,
    is_certain: Bools,
    is_line: bool,
) -> Array:
    """Return the curve without rises that appear only in classes with structure.

    A linear rise with the grey value is photon noise, and is kept. Any other rise is
    kept if it appears in classes with little structure; a fall is kept only if it
    appears in uniform classes.
    """
    if is_uniform.any():
        # A curve that falls steeply over classes with structure ends below the noise of
        # the uniform classes, and thus below that of all classes.
        found = np.maximum(found, variances.min())
    lowest = int(np.argmin(found))
    is_higher = variances > _STRUCTURE_FACTOR * found[lowest]
    capped = found.copy()
    if not (is_uniform & is_higher)[:lowest].any():
        capped[:lowest] = found[lowest]
    if not (is_line or (is_certain & is_higher)[lowest:].any()):
        capped[lowest:] = found[lowest]
    return capped


def _is_free_of_noise(variances: Array, doubts: Array) -> bool:
    """Whether the reliable classes have no noise, and all others may show structure."""
    certain = doubts <= _CERTAIN_ERROR
    if not certain.any() or certain.all():
        return False
    none = variances[certain].max() <= _ZERO_SHARE * variances.max()
    return bool(none and doubts[~certain].min() > _STRUCTURE_ERROR)


def _is_better(chi2: float, simpler: float, freedom: int) -> bool:
    """Whether a curve with more parameters is needed.

    Errors of classes with structure are upper limits. If all classes deviate from the
    curve by much less than these errors, a smaller improvement suffices.
    """
    gained = simpler - chi2
    if gained > _MIN_IMPROVEMENT or freedom < 1:
        return gained > _MIN_IMPROVEMENT
    return gained > max(_MIN_CLOSE_IMPROVEMENT, _CLOSE_RATIO * chi2 / freedom)


def _fit_parts(matrix: Array, variances: Array, doubts: Array) -> tuple[float, Array]:
    """Return chi squared and values of the best non-negative sum of the parts."""
    minimum = _ZERO_SHARE * float(variances.max())
    # Start with the variance of the most certain class, or with a class's own variance
    # if that is lower.
    fitted = np.full(len(variances), float(variances[np.argmin(doubts)]))
    fitted = np.minimum(fitted, np.maximum(variances, minimum))
    weights = np.ones(len(variances))
    for _ in range(_ITERATIONS):
        scale = np.sqrt(weights) / (doubts * np.maximum(fitted, minimum))
        amplitudes = non_negative(matrix * scale[:, None], variances * scale)
        fitted = np.maximum(matrix @ amplitudes, minimum)
        weights = np.where(
            variances > _STRUCTURE_FACTOR * fitted, _STRUCTURE_WEIGHT, 1.0
        )
    offset = (variances - fitted) / (doubts * np.maximum(fitted, variances))
    return float((offset**2).sum()), fitted


def lower_hull(places: Array, values: Array) -> Array:
    """Return the largest convex function below the points, at ascending positions."""
    kept: list[int] = []
    for i in range(len(places)):
        while len(kept) > 1 and _is_above(kept[-1], kept[-2], i, places, values):
            kept.pop()
        kept.append(i)
    return np.asarray(np.interp(places, places[kept], values[kept]), np.float64)


def _is_above(middle: int, left: int, right: int, places: Array, values: Array) -> bool:
    part = (places[middle] - places[left]) / (places[right] - places[left])
    return bool(values[middle] >= (1 - part) * values[left] + part * values[right])


def _simplified(greys: Array, levels: Array, scale: Array) -> list[int]:
    """Select knots that keep interpolated levels accurate to 2 % of `scale`."""
    kept = list(range(len(greys)))
    while len(kept) > 2:
        errors = []
        for i in range(1, len(kept) - 1):
            rest = kept[:i] + kept[i + 1 :]
            line = np.interp(greys, greys[rest], levels[rest])
            errors.append(float((np.abs(line - levels) / scale).max()))
        if min(errors) > 0.02:
            break
        del kept[1 + int(np.argmin(errors))]
    return kept
