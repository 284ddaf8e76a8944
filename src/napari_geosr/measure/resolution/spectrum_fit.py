"""Fits the sum of blurred structure and noise to a power spectrum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.resolution.window_spectrum import WindowSpectrum
from napari_geosr.physics.noise_spectrum import reconstruction_power, smooth_power

Array = npt.NDArray[np.float64]

#: Candidate blurs of the high-resolution scan, in low-resolution voxels. Between them,
#: the logarithm of the power is interpolated linearly in the square of the blur.
BLURS = (0.0, 0.35, 0.6, 0.85, 1.2, 1.7, 2.4, 3.4)
#: Grid of initial values: the blurs, the number of values of the noise parameter, and
#: the widths of the noise along Z.
_FIRST_BLURS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.1, 3.0)
_FIRST_VALUES = 9
_FIRST_WIDTHS = (0.0, 0.3, 0.5, 0.9)
#: Number of the best initial values that are refined.
_N_REFINED = 3
#: Number of iterations for fitting the amplitudes of structure and noise.
_ITERATIONS = 60
#: Number of tabulated values of the noise parameter.
_PARAMETERS = 33
#: Minimum fraction of noise in the power, at one or more frequencies, that allows the
#: noise's correlation along Z to be estimated.
_MIN_NOISE_SHARE = 0.5
_Power = Callable[[Array, float], Array]
#: Noise spectra: power, and the bounds of the parameter.
SHAPES: dict[str, tuple[_Power, tuple[float, float]]] = {
    "white": (lambda f, _: np.ones_like(f), (1.0, 1.0)),
    "reconstruction": (reconstruction_power, (0.5, 4.0)),
    "smooth": (smooth_power, (0.05, 1.5)),
}


@dataclass(frozen=True, eq=False)
class SpectrumFit:
    """Parameters of a fitted spectrum, and its misfit."""

    shape: str
    blur: float
    contrast: float
    noise: float
    parameter: float
    width_along: float
    cost: float
    misfit: float
    largest_share: float

    @property
    def along_z(self) -> float:
        """Correlation of the noise of adjacent planes."""
        if self.largest_share < _MIN_NOISE_SHARE:
            return 0.0
        f = np.linspace(-0.5, 0.5, 257)
        power = smooth_power(f, self.width_along)
        return float((power * np.cos(2 * np.pi * f)).sum() / power.sum())

    def noise_power(self, f: Array) -> Array:
        """Return the noise power in a plane at frequencies in cycles per voxel."""
        return self.noise * SHAPES[self.shape][0](f, self.parameter)


def fit_spectrum(
    shape: str,
    spectrum: WindowSpectrum,
    observed: Array,
    expected: Array,
    weights: Array,
) -> SpectrumFit:
    """Find the blur and noise for which the structure has the observed spectrum.

    The fit maximises the Whittle likelihood, because power is distributed like a sum of
    squares around its mean; differences of logarithms would be biased for sums of few
    terms.

    Parameters
    ----------
    shape : str
        Noise spectrum, one of `SHAPES`.
    observed : ndarray of shape (z, r)
        Power of the low-resolution scan by class.
    expected : ndarray of shape (len(BLURS), z, r)
        Power of the high-resolution scan for each blur.
    weights : ndarray of shape (z, r)
        Weight of each class.
    """
    from scipy.optimize import minimize

    model = _SpectrumModel(shape, spectrum, observed, expected, weights)
    candidates = sorted((model.solve(x)[0], x) for x in model.initial_values())
    best, lowest_cost = candidates[0][1], math.inf
    for _, start in candidates[:_N_REFINED]:
        steps = np.diag([0.1, 0.3, 0.15])
        corners = [np.array(start), *(np.array(start) + step for step in steps)]
        solution = minimize(
            lambda x: model.solve(x)[0],
            start,
            method="Nelder-Mead",
            options={
                "maxiter": 250,
                "xatol": 2e-3,
                "fatol": 1e-7,
                "initial_simplex": corners,
            },
        )
        if solution.fun < lowest_cost:
            best, lowest_cost = tuple(solution.x), float(solution.fun)
    return model.to_fit(best)


class _SpectrumModel:
    """Power of structure and noise by class, and their best-fitting amplitudes."""

    def __init__(
        self,
        shape: str,
        spectrum: WindowSpectrum,
        observed: Array,
        expected: Array,
        weights: Array,
    ) -> None:
        self.shape, self.spectrum = shape, spectrum
        self.used = weights > 0
        self.share = weights[self.used] / weights[self.used].sum()
        self.observed = observed[self.used]
        self.logs = np.log(expected[:, self.used])
        self.squares = np.array(BLURS) ** 2
        power, (low, high) = SHAPES[shape]
        self.values = np.geomspace(low, high, _PARAMETERS if low < high else 1)
        self.tables = [spectrum.of_noise(power, value) for value in self.values]

    def initial_values(self) -> list[tuple[float, float, float]]:
        """Choose starting points of the fit: blur, index in the noise table, width."""
        last = len(self.values) - 1
        places = np.linspace(0, last, _FIRST_VALUES) if last else np.zeros(1)
        widths = _FIRST_WIDTHS if self.spectrum.depth > 1 else (0.0,)
        return [
            (blur, float(place), width)
            for blur, place, width in itertools.product(_FIRST_BLURS, places, widths)
        ]

    def structure(self, blur: float) -> Array:
        """Return the blurred structure's power in the high-resolution scan's unit."""
        square = min(abs(blur), BLURS[-1]) ** 2
        last = len(self.squares) - 1
        place = min(int(np.searchsorted(self.squares, square, "right")), last)
        width = self.squares[place] - self.squares[place - 1]
        step = (square - self.squares[place - 1]) / width
        below, above = self.logs[place - 1], self.logs[place]
        return np.asarray(np.exp(below + step * (above - below)))

    def noise(self, place: float, width: float) -> Array:
        """Return the power spectrum of the noise, scaled to a maximum of 1."""
        last = len(self.tables) - 1
        place = min(max(place, 0.0), float(last))
        first = min(int(place), max(last - 1, 0))
        table = self.tables[first]
        if last:
            table = table + (place - first) * (self.tables[first + 1] - table)
        if self.spectrum.depth > 1:
            table = table * self.spectrum.of_width(min(abs(width), 2.0))
        return np.asarray(np.broadcast_to(table, self.used.shape)[self.used])

    def solve(self, x: Any) -> tuple[float, float, float]:
        """Return the lowest cost, and the amplitudes of structure and noise."""
        # Use units of the observed power, so that both contributions are about one.
        structure = self.structure(float(x[0])) / self.observed
        noise = self.noise(float(x[1]), float(x[2])) / self.observed
        structure_scale = 1 / max(float(self.share @ structure), 1e-300)
        noise_scale = 1 / max(float(self.share @ noise), 1e-300)
        structure, noise = structure * structure_scale, noise * noise_scale
        a = b = 0.5
        for _ in range(_ITERATIONS):
            inverse = 1 / (a * structure + b * noise + 1e-300)
            weight = self.share * inverse
            a *= float((weight * inverse) @ structure) / float(weight @ structure)
            b *= float((weight * inverse) @ noise) / float(weight @ noise)
        excess = -np.log(a * structure + b * noise + 1e-300)
        cost = float((self.share * (np.expm1(excess) - excess)).sum())
        return cost, a * structure_scale, b * noise_scale

    def to_fit(self, x: Any) -> SpectrumFit:
        """Return the fit in units of voxels and grey values."""
        cost, contrast, noise = self.solve(x)
        place = min(max(float(x[1]), 0.0), float(len(self.values) - 1))
        parameter = float(np.interp(place, np.arange(len(self.values)), self.values))
        width = 0.0 if self.spectrum.depth == 1 else min(abs(float(x[2])), 2.0)
        noise_power = noise * self.noise(place, width)
        fitted = contrast * self.structure(float(x[0])) + noise_power
        error = float((self.share * np.log(fitted / self.observed) ** 2).sum())
        if self.spectrum.depth > 1:  # power in a plane: the mean over frequencies in Z
            f = np.asarray(np.fft.fftfreq(self.spectrum.depth), np.float64)
            noise *= float(smooth_power(f, width).mean())
        return SpectrumFit(
            shape=self.shape,
            blur=min(abs(float(x[0])), BLURS[-1]),
            contrast=contrast,
            noise=noise,
            parameter=parameter,
            width_along=width,
            cost=cost,
            misfit=math.sqrt(error),
            largest_share=float((noise_power / fitted).max()),
        )
