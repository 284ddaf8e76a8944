"""Noise of each grey value as a mixture of correlated and white noise.

The correlated part may be the same at every grey value, while the white part depends on
the grey value, as when photon noise is added to noise that was blurred or interpolated.
No single spectrum describes such noise, and a fit of a single spectrum mistakes part of
the noise for structure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_geosr.measure.noise.basis import (
    SMOOTH_DEGREE,
    Array,
    Edges,
    degrees,
)
from napari_geosr.measure.noise.spectrum import (
    NoiseFamily,
    Spectrum,
    non_negative_fit,
    penalised,
    structure_parts,
)

#: Maximum number of groups of adjacent classes to which the spectrum is fitted.
_MAX_GROUPS = 4
#: Initial step of the simplex search, in voxels (widths) or in units of the Nyquist
#: frequency (cutoffs).
_STEP = 0.12
#: Maximum number of evaluations in the simplex search, for each kind of noise.
_MAX_EVALUATIONS = 50
#: Ratio of the strongest correlated part of a mixture to the median of all classes,
#: above which it is structure.
_MAX_CORRELATED_RATIO = 3.0
#: Ratio to the median within which the correlated part of a class counts as usual.
_SAME_CORRELATED_RATIO = 1.5
#: Minimum fraction of the classes with a usual correlated part for it to be noise.
_MIN_USUAL_SHARE = 0.6


@dataclass(frozen=True, eq=False)
class Mixture:
    """Noise of the classes of grey values.

    Attributes
    ----------
    variances : ndarray of shape (classes,)
        Variance of the noise of each class.
    white : ndarray of shape (classes,)
        Fraction of the variance that is white.
    shares : ndarray of shape (classes,)
        Fraction of the energy that is structure.
    lags : (float, float, float)
        Correlation of adjacent voxels in the correlated part along Z, Y and X.
    cutoff : float or None
        Cutoff of the reconstruction filter, as in `Spectrum`.
    deviance : float
        Mean deviance of the fits per coefficient.
    """

    variances: Array
    white: Array
    shares: Array
    lags: tuple[float, float, float]
    cutoff: float | None
    deviance: float


def mean_deviance(energies: Array, noise: Array, weights: Array) -> float:
    """Return the mean deviance of classes, per coefficient, from one spectrum."""
    edges: Edges = (noise.shape[0], noise.shape[1], noise.shape[2])
    used = degrees(edges) > SMOOTH_DEGREE
    classes = [_positive(one[used]) for one in energies]
    return _mean_deviance(classes, [noise[used], *structure_parts(edges)], weights)


def _mean_deviance(classes: list[Array], parts: list[Array], weights: Array) -> float:
    varied = [i for i, energy in enumerate(classes) if energy.any()]
    deviances = [non_negative_fit(classes[i], parts)[1] for i in varied]
    return float(np.average(deviances, weights=weights[varied]))


def fit_mixture(
    energies: Array, weights: Array, start: Spectrum, check: Callable[[], None]
) -> Mixture:
    """Find the correlated part that fits all classes, and the mixture of each class.

    Parameters
    ----------
    energies : ndarray of shape (classes, Z, Y, X)
        Mean energies of the quiet blocks of each class.
    weights : ndarray of shape (classes,)
        Weight of each class in the search.
    start : Spectrum
        Fit of all classes with one spectrum.
    check : callable
        Called every few hundredths of a second; may raise `Cancelled`.
    """
    from scipy.optimize import minimize

    edges: Edges = (energies.shape[1], energies.shape[2], energies.shape[3])
    used = degrees(edges) > SMOOTH_DEGREE
    smooth = structure_parts(edges)
    classes = [_positive(one[used]) for one in energies]
    groups, shares = _grouped(classes, weights)
    best: tuple[float, NoiseFamily, tuple[float, ...]] | None = None
    for family, first in start.fits:

        def cost(values: Sequence[float], family: NoiseFamily = family) -> float:
            check()
            inside = np.clip(values, family.lowest, family.highest).tolist()
            noise = family.energies(inside)[used]
            parts = [noise, np.ones_like(noise), *smooth]
            deviances = [non_negative_fit(group, parts)[1] for group in groups]
            outside = float(np.abs(np.subtract(values, inside)).sum())
            return float(shares @ np.array(deviances)) + outside

        solution = minimize(
            cost,
            first,
            method="Nelder-Mead",
            options={
                "initial_simplex": _simplex(first),
                "maxfev": _MAX_EVALUATIONS,
                "xatol": 0.01,
                "fatol": 1e-5,
            },
        )
        values = tuple(np.clip(solution.x, family.lowest, family.highest).tolist())
        found = penalised(float(solution.fun), family)
        if best is None or found < best[0]:
            best = (found, family, values)
    assert best is not None
    _, family, values = best
    noise = family.energies(values)[used]
    parts = [noise, np.ones_like(noise), *smooth]
    deviance = _mean_deviance(classes, parts, weights)
    return _mixture(
        classes, parts, family.lags(values), family.cutoff(values), deviance
    )


def without_structure(mixture: Mixture) -> Mixture | None:
    """Limit the correlated part of all classes to the one that most of them share.

    The excess is structure. None is returned if the classes do not share a correlated
    part: all of it may then be structure.
    """
    correlated = mixture.variances * (1 - mixture.white)
    usual = float(np.median(correlated))
    if correlated.max() <= _MAX_CORRELATED_RATIO * usual:
        return mixture
    ratio = _SAME_CORRELATED_RATIO
    is_usual = (correlated >= usual / ratio) & (correlated <= usual * ratio)
    if is_usual.mean() < _MIN_USUAL_SHARE:
        return None
    white = mixture.variances - correlated
    variances = np.minimum(correlated, usual * ratio) + white
    # Classes with noise that is lost in rounding have no variance.
    left = np.divide(variances, mixture.variances, where=variances > 0, out=white * 0)
    return replace(
        mixture,
        variances=variances,
        white=np.divide(white, variances, where=variances > 0, out=np.ones(len(white))),
        shares=1 - (1 - mixture.shares) * np.where(variances > 0, left, 1.0),
    )


def _mixture(
    classes: list[Array],
    parts: list[Array],
    lags: tuple[float, float, float],
    cutoff: float | None,
    deviance: float,
) -> Mixture:
    """Fit the amplitudes of `parts` (correlated, white, structure) to each class."""
    variances, white, shares = [], [], []
    for energy in classes:
        if not energy.any():  # rounded or segmented
            variances.append(0.0)
            white.append(1.0)
            shares.append(0.0)
            continue
        amplitudes, _ = non_negative_fit(energy, parts)
        correlated, independent = amplitudes[0], amplitudes[1]
        variance = float(correlated + independent)
        explained = correlated * parts[0].mean() + independent
        variances.append(variance)
        white.append(float(independent) / variance if variance > 0 else 1.0)
        shares.append(max(0.0, 1 - float(explained) / float(energy.mean())))
    return Mixture(
        np.array(variances), np.array(white), np.array(shares), lags, cutoff, deviance
    )


def _positive(energy: Array) -> Array:
    """Return the energies, with zeros from rounding replaced with a small value."""
    return np.asarray(np.maximum(energy, 1e-6 * float(energy.mean())))


def _grouped(classes: list[Array], weights: Array) -> tuple[list[Array], Array]:
    """Average adjacent classes, scaled to a mean energy of 1; also return weights."""
    varied = [i for i, energy in enumerate(classes) if energy.any()]
    parts = np.array_split(varied, min(_MAX_GROUPS, len(varied)))
    groups, shares = [], []
    for part in parts:
        share = weights[part] / weights[part].sum()
        groups.append(
            sum(
                s * classes[i] / classes[i].mean()
                for s, i in zip(share, part, strict=True)
            )
        )
        shares.append(float(weights[part].sum()))
    return groups, np.array(shares) / sum(shares)


def _simplex(first: Sequence[float]) -> Array:
    """Return the initial simplex: a point, and steps along axes towards mid-range."""
    corners = np.tile(np.asarray(first, np.float64), (len(first) + 1, 1))
    for axis, value in enumerate(first):
        corners[axis + 1, axis] += _STEP if value < 0.8 else -_STEP
    return corners
