"""Fits a power spectrum by blurred structure and noise."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.window_spectrum import WindowSpectrum
from napari_geosr.physics.noise_spectrum import reconstruction_power, smooth_power

Array = npt.NDArray[np.float64]

#: Blurs in coarse voxels that the fine scan is tried with. Between them the logarithm
#: of the power is a straight line over the square of the blur.
BLURS = (0.0, 0.35, 0.6, 0.85, 1.2, 1.7, 2.4, 3.4)
#: Values that are tried at first: blurs, shares of the range of a noise's parameter,
#: widths of the noise along Z.
_FIRST_BLURS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.25, 1.6, 2.1, 3.0)
_FIRST_VALUES = 9
_FIRST_WIDTHS = (0.0, 0.3, 0.5, 0.9)
#: The best of them are looked at closely.
_CLOSELY = 3
#: Steps towards the shares of structure and noise.
_UPDATES = 60
#: Values of the one parameter of a spectrum of the noise, to interpolate between.
_PARAMETERS = 33
#: Part of the power that must be noise somewhere to tell how slices share it.
_MOSTLY = 0.5
_Power = Callable[[Array, float], Array]
#: Spectra that noise may have: power, and the bounds of its one parameter.
SHAPES: dict[str, tuple[_Power, tuple[float, float]]] = {
    "white": (lambda f, _: np.ones_like(f), (1.0, 1.0)),
    "reconstruction": (reconstruction_power, (0.5, 4.0)),
    "smooth": (smooth_power, (0.05, 1.5)),
}


@dataclass(frozen=True, eq=False)
class SpectrumFit:
    """Fit of a spectrum: parameters and unexplained part."""

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
        """Correlation of adjacent planes: of white noise under such a Gaussian."""
        if self.largest_share < _MOSTLY:
            return 0.0
        f = np.linspace(-0.5, 0.5, 257)
        power = smooth_power(f, self.width_along)
        return float((power * np.cos(2 * np.pi * f)).sum() / power.sum())

    def noise_power(self, f: Array) -> Array:
        """Power of a plane's noise at frequencies in cycles per voxel."""
        return self.noise * SHAPES[self.shape][0](f, self.parameter)


def fit_spectrum(
    shape: str,
    spectrum: WindowSpectrum,
    observed: Array,
    expected: Array,
    weights: Array,
) -> SpectrumFit:
    """Find blur and noise under which the structure has the observed spectrum.

    By Whittle's likelihood: power is distributed like a sum of squares around its mean,
    for which a difference of logarithms would be wrong where it is a sum of few.

    Parameters
    ----------
    shape : str
        Of the noise, one of `SHAPES`.
    observed : ndarray of shape (z, r)
        Power of the coarse scan by class.
    expected : ndarray of shape (len(BLURS), z, r)
        That of the fine one, under each of the blurs.
    weights : ndarray of shape (z, r)
        How much each class counts.
    """
    from scipy.optimize import minimize

    model = _Model(shape, spectrum, observed, expected, weights)
    tried = sorted((model.solved(x)[0], x) for x in model.first())
    best, least = tried[0][1], math.inf
    for _, start in tried[:_CLOSELY]:
        steps = np.diag([0.1, 0.3, 0.15])
        corners = [np.array(start), *(np.array(start) + step for step in steps)]
        found = minimize(
            lambda x: model.solved(x)[0],
            start,
            method="Nelder-Mead",
            options={
                "maxiter": 250,
                "xatol": 2e-3,
                "fatol": 1e-7,
                "initial_simplex": corners,
            },
        )
        if found.fun < least:
            best, least = tuple(found.x), float(found.fun)
    return model.described(best)


class _Model:
    """Structure and noise by class, and the best shares of both."""

    def __init__(
        self,
        shape: str,
        spectrum: WindowSpectrum,
        observed: Array,
        expected: Array,
        weights: Array,
    ) -> None:
        self.shape, self.spectrum = shape, spectrum
        self.kept = weights > 0
        self.share = weights[self.kept] / weights[self.kept].sum()
        self.seen = observed[self.kept]
        self.logs = np.log(expected[:, self.kept])
        self.squares = np.array(BLURS) ** 2
        power, (low, high) = SHAPES[shape]
        self.values = np.geomspace(low, high, _PARAMETERS if low < high else 1)
        self.tables = [spectrum.of_noise(power, value) for value in self.values]

    def first(self) -> list[tuple[float, float, float]]:
        """Initial values: blur, position of the noise parameter, its width."""
        last = len(self.values) - 1
        places = np.linspace(0, last, _FIRST_VALUES) if last else np.zeros(1)
        widths = _FIRST_WIDTHS if self.spectrum.depth > 1 else (0.0,)
        return [
            (blur, float(place), width)
            for blur, place, width in itertools.product(_FIRST_BLURS, places, widths)
        ]

    def structure(self, blur: float) -> Array:
        """Power of the blurred structure, in units of the fine scan."""
        square = min(abs(blur), BLURS[-1]) ** 2
        last = len(self.squares) - 1
        place = min(int(np.searchsorted(self.squares, square, "right")), last)
        width = self.squares[place] - self.squares[place - 1]
        step = (square - self.squares[place - 1]) / width
        below, above = self.logs[place - 1], self.logs[place]
        return np.asarray(np.exp(below + step * (above - below)))

    def grain(self, place: float, width: float) -> Array:
        """Power of noise of power 1 at its strongest."""
        last = len(self.tables) - 1
        place = min(max(place, 0.0), float(last))
        first = min(int(place), max(last - 1, 0))
        table = self.tables[first]
        if last:
            table = table + (place - first) * (self.tables[first + 1] - table)
        if self.spectrum.depth > 1:
            table = table * self.spectrum.of_width(min(abs(width), 2.0))
        return np.asarray(np.broadcast_to(table, self.kept.shape)[self.kept])

    def solved(self, x: Any) -> tuple[float, float, float]:
        """What is left unexplained at best, and the shares of structure and noise."""
        structure = self.structure(float(x[0]))
        grain = self.grain(float(x[1]), float(x[2]))
        # In units of what was seen: shares of about one.
        one, other = structure / self.seen, grain / self.seen
        scale = 1 / max(float(self.share @ one), 1e-300)
        noise = 1 / max(float(self.share @ other), 1e-300)
        one, other = one * scale, other * noise
        a = b = 0.5
        for _ in range(_UPDATES):
            inverse = 1 / (a * one + b * other + 1e-300)
            pull = self.share * inverse
            a *= float((pull * inverse) @ one) / float(pull @ one)
            b *= float((pull * inverse) @ other) / float(pull @ other)
        excess = -np.log(a * one + b * other + 1e-300)
        left = float((self.share * (np.expm1(excess) - excess)).sum())
        return left, a * scale, b * noise

    def described(self, x: Any) -> SpectrumFit:
        """The fit in units of voxels and grey values."""
        left, contrast, noise = self.solved(x)
        place = min(max(float(x[1]), 0.0), float(len(self.values) - 1))
        parameter = float(np.interp(place, np.arange(len(self.values)), self.values))
        width = 0.0 if self.spectrum.depth == 1 else min(abs(float(x[2])), 2.0)
        grain = noise * self.grain(place, width)
        made = contrast * self.structure(float(x[0])) + grain
        error = float((self.share * np.log(made / self.seen) ** 2).sum())
        if self.spectrum.depth > 1:  # of a plane: the mean over all that lies along Z
            f = np.asarray(np.fft.fftfreq(self.spectrum.depth), np.float64)
            noise *= float(smooth_power(f, width).mean())
        return SpectrumFit(
            shape=self.shape,
            blur=min(abs(float(x[0])), BLURS[-1]),
            contrast=contrast,
            noise=noise,
            parameter=parameter,
            width_along=width,
            cost=left,
            misfit=math.sqrt(error),
            largest_share=float((grain / made).max()),
        )
