"""The spectrum of quiet blocks as the sum of noise and smooth structure.

Noise is modelled as white, as blurred by a Gaussian along each axis, or as having the
spectrum of filtered back-projection. In each case, a fraction of white noise may be
added (from rounding, interpolation, or a camera behind the optics). Anything smoother
is attributed to structure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.noise.basis import (
    SMOOTH_DEGREE,
    Array,
    Edges,
    blur_lag,
    blurred_energy,
    degrees,
    non_negative,
    reconstructed_energy,
    reconstruction_lag,
)

Bools = npt.NDArray[np.bool_]
#: Initial widths (voxels) and cutoffs (Nyquist frequency = 1) of the simplex search.
_WIDTHS = (0.0, 0.3, 0.45, 0.6, 0.75, 0.9)
_CUTOFFS = (0.5, 0.65, 0.8, 0.95, 1.1, 1.4, 1.8)
#: Maximum width in the search, in voxels.
_MAX_WIDTH = 1.0
#: Range of cutoffs in the search, in units of the Nyquist frequency.
_CUTOFF_RANGE = (0.35, 2.45)
#: Minimum correlation of neighbouring voxels for noise to count as blurred.
_BLURRED = 5e-3
#: Factor by which the deviance of blurred noise must exceed that of reconstruction
#: noise for the latter to be chosen.
_PREFERENCE = 1.25
#: Correlation lengths of structure, as widths of Gaussians in voxels.
_STRUCTURE = (1.15, 1.6, 2.4, 3.8)
#: Twice the logarithm of the likelihood ratio above which structure is significant.
_MIN_EVIDENCE = 4.0
#: Number of iterations of reweighting.
_ITERATIONS = 3


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Noise of variance 1 in the polynomial basis, and the contribution of structure.

    Attributes
    ----------
    noise : ndarray of shape (Z, Y, X)
        Expected energy by degree of noise of variance 1.
    variance : float
        Variance of the noise in the given energies.
    structure : ndarray of shape (Z, Y, X)
        Expected energy of the structure.
    lags : (float, float, float)
        Correlation of adjacent voxels along Z, Y and X.
    white : float
        Fraction of the variance that is white.
    cutoff : float or None
        Cutoff of the reconstruction filter; None if the correlated noise is blurred
        white noise.
    deviance : float
        Deviance of the fit per coefficient.
    fits : tuple of (NoiseFamily, parameters)
        The best fit of each kind of noise, apart from its white fraction.
    """

    noise: Array
    variance: float
    structure: Array
    lags: tuple[float, float, float]
    white: float
    cutoff: float | None
    deviance: float
    fits: tuple[tuple[NoiseFamily, tuple[float, ...]], ...]


@dataclass(frozen=True, eq=False)
class NoiseFamily:
    """A kind of noise: expected energies, lags and cutoff for given parameters."""

    energies: Callable[[Sequence[float]], Array]
    lags: Callable[[Sequence[float]], tuple[float, float, float]]
    cutoff: Callable[[Sequence[float]], float | None]
    starts: list[tuple[float, ...]]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    is_reconstruction: bool = False


def fit_spectrum(energy: Array, check: Callable[[], None]) -> Spectrum:
    """Fit noise and structure to the mean energies of quiet blocks.

    Parameters
    ----------
    energy : ndarray of shape (Z, Y, X)
        Energies by degree; not all zero.
    check : callable
        As in `find_quiet`.
    """
    from scipy.optimize import minimize

    edges: Edges = (energy.shape[0], energy.shape[1], energy.shape[2])
    used = degrees(edges) > SMOOTH_DEGREE
    # An energy of exactly zero results from rounding; no model could fit it.
    floor = 1e-6 * float(energy[used].mean())
    measured = np.maximum(energy[used], floor)
    smooth = structure_parts(edges)
    fits = []
    for family in (_blur(edges), _reconstruction(edges)):

        def cost(values: Sequence[float], family: NoiseFamily = family) -> float:
            check()
            inside = np.clip(values, family.lowest, family.highest).tolist()
            noise = family.energies(inside)[used]
            _, deviance = non_negative_fit(
                measured, [noise, np.ones_like(noise), *smooth]
            )
            outside = float(np.abs(np.subtract(values, inside)).sum())
            return deviance + outside

        start = min(family.starts, key=cost)
        solution = minimize(
            cost,
            start,
            method="Nelder-Mead",
            options={"maxfev": 60, "xatol": 0.01, "fatol": 1e-4},
        )
        values = tuple(np.clip(solution.x, family.lowest, family.highest).tolist())
        fits.append((float(solution.fun), family, values))
    fits.sort(key=lambda fit: penalised(fit[0], fit[1]))
    return _described(measured, used, edges, smooth, fits)


def penalised(deviance: float, family: NoiseFamily) -> float:
    """Return the deviance for comparing kinds of noise, raised for reconstructions.

    If both kinds fit about equally well, blurred noise is the simpler explanation.
    """
    return deviance * (_PREFERENCE if family.is_reconstruction else 1.0)


def _described(
    measured: Array,
    used: Bools,
    edges: Edges,
    smooth: list[Array],
    fits: list[tuple[float, NoiseFamily, tuple[float, ...]]],
) -> Spectrum:
    deviance, family, values = fits[0]
    shape = family.energies(values)
    amplitudes, _ = non_negative_fit(
        measured, [shape[used], np.ones_like(measured), *smooth]
    )
    variance = float(amplitudes[0] + amplitudes[1])
    white = float(amplitudes[1]) / variance if variance > 0 else 1.0
    noise = (1 - white) * shape + white
    structure = np.zeros(edges)
    for amplitude, width in zip(amplitudes[2:], _STRUCTURE, strict=True):
        structure += amplitude * _isotropic(edges, width)
    z, y, x = family.lags(values)
    lags = ((1 - white) * z, (1 - white) * y, (1 - white) * x)
    if family.cutoff(values) is None and max(map(abs, (z, y, x))) < _BLURRED:
        white = 1.0  # unblurred noise is reported as white
    found = tuple((family, values) for _, family, values in fits)
    return Spectrum(
        noise,
        variance,
        structure,
        lags,
        white,
        family.cutoff(values),
        deviance,
        found,
    )


def noise_and_structure(energy: Array, noise: Array, count: int) -> tuple[float, float]:
    """Return the variance of noise with a known spectrum, and the structure fraction.

    The amplitudes of structure cannot be negative. For a few blocks of pure, correlated
    noise, the fit would therefore mistake part of it for structure. In an image,
    blocks have about a quarter as many coefficients as in a volume, so structure counts
    only if it explains the energies significantly better than noise alone.

    Parameters
    ----------
    energy : ndarray of shape (Z, Y, X)
        Mean energies of some blocks.
    noise : ndarray of shape (Z, Y, X)
        Expected energies of noise of variance 1.
    count : int
        Number of these blocks.
    """
    edges: Edges = (energy.shape[0], energy.shape[1], energy.shape[2])
    used = degrees(edges) > SMOOTH_DEGREE
    mean = float(energy[used].mean())
    if not mean > 0:
        return 0.0, 0.0
    measured = np.maximum(energy[used], 1e-6 * mean)
    smooth = structure_parts(edges)
    amplitudes, deviance = non_negative_fit(measured, [noise[used], *smooth])
    if edges[0] == 1:
        alone, plain = non_negative_fit(measured, [noise[used]])
        if count * len(measured) * (plain - deviance) < _MIN_EVIDENCE:
            return float(alone[0]), 0.0
    explained = float(amplitudes[0]) * noise[used].mean()
    return float(amplitudes[0]), max(0.0, 1 - explained / mean)


def non_negative_fit(measured: Array, parts: list[Array]) -> tuple[Array, float]:
    """Return non-negative amplitudes of the parts, and the deviance per coefficient.

    Energies scatter in proportion to their expectation (Whittle likelihood), so the fit
    uses iteratively reweighted least squares.
    """
    matrix = np.stack(parts, axis=1)
    weight = 1 / measured
    fitted = measured
    amplitudes = np.zeros(len(parts))
    for _ in range(_ITERATIONS):
        amplitudes = non_negative(matrix * weight[:, None], measured * weight)
        fitted = np.maximum(matrix @ amplitudes, 1e-3 * measured)
        weight = 1 / fitted
    ratio = measured / fitted
    return amplitudes, float((ratio - 1 - np.log(ratio)).mean())


def structure_parts(edges: Edges) -> list[Array]:
    """Return energies of smooth structure of several sizes, for the degrees used."""
    used = degrees(edges) > SMOOTH_DEGREE
    return [_isotropic(edges, width)[used] for width in _STRUCTURE]


def _isotropic(edges: Edges, width: float) -> Array:
    return _separable(edges, (width, width, width))


def _separable(edges: Edges, widths: Sequence[float]) -> Array:
    z, y, x = (blurred_energy(n, w) for n, w in zip(edges, widths, strict=True))
    return np.asarray(z[:, None, None] * y[:, None] * x)


def _blur(edges: Edges) -> NoiseFamily:
    flat = edges[0] == 1
    along = (0.0,) if flat else _WIDTHS
    return NoiseFamily(
        energies=lambda v: _separable(edges, v),
        lags=lambda v: (blur_lag(v[0]), blur_lag(v[1]), blur_lag(v[2])),
        cutoff=lambda v: None,
        starts=[(z, w, w) for z, w in itertools.product(along, _WIDTHS)],
        lowest=(0.0, 0.0, 0.0),
        highest=(0.0 if flat else _MAX_WIDTH, _MAX_WIDTH, _MAX_WIDTH),
    )


def _reconstruction(edges: Edges) -> NoiseFamily:
    flat = edges[0] == 1
    along = (0.0,) if flat else _WIDTHS

    def lags(values: Sequence[float]) -> tuple[float, float, float]:
        plane = reconstruction_lag(values[1])
        return blur_lag(values[0]), plane, plane

    return NoiseFamily(
        energies=lambda v: (
            blurred_energy(edges[0], v[0])[:, None, None]
            * reconstructed_energy(edges[1], edges[2], v[1])
        ),
        lags=lags,
        cutoff=lambda v: v[1],
        is_reconstruction=True,
        starts=list(itertools.product(along, _CUTOFFS)),
        lowest=(0.0, _CUTOFF_RANGE[0]),
        highest=(0.0 if flat else _MAX_WIDTH, _CUTOFF_RANGE[1]),
    )
