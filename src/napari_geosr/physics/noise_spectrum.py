"""Noise with a given in-plane spectrum and a given correlation between slices."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

#: Number of points in a tabulated spectrum, from zero to the corner (√2 times Nyquist).
POINTS = 33
#: Highest frequency of the table, in cycles per voxel.
CORNER = math.sqrt(0.5)
#: Number of slices on either side of a slice with which its noise may be correlated.
_REACH = 6
#: Offset added to slice indices in seeds. The offset keeps seeds positive for the
#: slices before the first one, which are also needed.
_BEFORE = 1000


def frequencies() -> npt.NDArray[np.float64]:
    """Return the frequencies of a tabulated spectrum, in cycles per voxel."""
    return np.linspace(0, CORNER, POINTS)


def reconstruction_power(
    f: npt.NDArray[np.float64], cutoff: float
) -> npt.NDArray[np.float64]:
    """Return the noise power spectrum of filtered back-projection, up to a factor.

    The spectrum is the same as in `napari_geosr.physics.noise.reconstruction_noise`.

    Parameters
    ----------
    f : ndarray
        Frequencies in cycles per voxel.
    cutoff : float
        Frequency at which the Hann window reaches zero, in units of the Nyquist
        frequency.
    """
    nyquist = f / 0.5
    part = np.minimum(nyquist / cutoff, 1)
    window = np.where(nyquist < cutoff, 0.5 + 0.5 * np.cos(np.pi * part), 0)
    power: npt.NDArray[np.float64] = nyquist * window**2
    return power


def smooth_power(f: npt.NDArray[np.float64], width: float) -> npt.NDArray[np.float64]:
    """Return the spectrum of white noise after a Gaussian blur of `width` voxels."""
    power: npt.NDArray[np.float64] = np.exp(-((2 * np.pi * width * f) ** 2))
    return power


class SpectralNoise:
    """Generator of Gaussian noise, plane by plane.

    Each plane depends only on its index and the seed.

    Parameters
    ----------
    shape : tuple of int
        Shape of a plane (Y, X).
    sd : float
        Standard deviation of the noise.
    spectrum : sequence of float
        Power at `frequencies`, up to a factor; empty for white noise.
    along_z : float
        Correlation of adjacent planes, 0 to 0.9.
    seed : int
    """

    def __init__(
        self,
        shape: tuple[int, int],
        sd: float,
        spectrum: Sequence[float] = (),
        *,
        along_z: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.shape, self.sd, self.seed = shape, sd, seed
        self.weights = _weights(along_z)
        self.filter = _filter(shape, spectrum) if len(spectrum) else None
        self._white: OrderedDict[int, FloatArray] = OrderedDict()

    def plane(self, index: int) -> FloatArray:
        """Return the noise of one plane."""
        from scipy import fft

        if self.sd == 0:
            return np.zeros(self.shape, np.float32)
        half = len(self.weights) // 2
        noise = np.zeros(self.shape, np.float32)
        for step, weight in enumerate(self.weights, -half):
            noise += np.float32(weight) * self._one(index + step)
        if self.filter is not None:
            spectrum = fft.rfft2(noise) * self.filter
            noise = fft.irfft2(spectrum, s=self.shape).astype(np.float32)
        return noise * np.float32(self.sd)

    def _one(self, index: int) -> FloatArray:
        """Return the white noise of one plane; cached for adjacent planes."""
        if index not in self._white:
            rng = np.random.default_rng([self.seed, 11, _BEFORE + index])
            self._white[index] = rng.standard_normal(self.shape, dtype=np.float32)
            while len(self._white) > len(self.weights) + 1:
                self._white.popitem(last=False)
        return self._white[index]


def _filter(shape: tuple[int, int], spectrum: Sequence[float]) -> FloatArray:
    """Return the filter that gives white noise this spectrum and variance 1."""
    from scipy import fft

    fy = fft.fftfreq(shape[0])[:, None]
    fx = fft.rfftfreq(shape[1])[None, :]
    table = np.maximum(np.asarray(spectrum, np.float64), 0)
    places = np.linspace(0, CORNER, len(table))
    power = np.interp(np.hypot(fy, fx), places, table)
    # In the half spectrum of a real plane, all columns except the first (and, for even
    # widths, the last) count twice.
    twice = np.full(power.shape[1], 2.0)
    twice[0] = 1
    if shape[1] % 2 == 0:
        twice[-1] = 1
    mean = float((power * twice).sum() / (shape[0] * shape[1]))
    amplitude: FloatArray = np.sqrt(power / mean if mean > 0 else 1.0 + 0 * power)
    return amplitude.astype(np.float32)


def _weights(along_z: float) -> npt.NDArray[np.float64]:
    """Return the Gaussian weights that give adjacent planes this correlation."""
    if along_z <= 0.001:
        return np.ones(1)
    places = np.arange(-_REACH, _REACH + 1)

    def gaussian(width: float) -> npt.NDArray[np.float64]:
        """Return the Gaussian weights of a given width, with unit power."""
        weights = np.exp(-0.5 * (places / width) ** 2)
        unit: npt.NDArray[np.float64] = weights / math.sqrt(float((weights**2).sum()))
        return unit

    low, high = 0.1, float(_REACH)
    for _ in range(40):
        width = (low + high) / 2
        weights = gaussian(width)
        found = float((weights[1:] * weights[:-1]).sum())
        low, high = (width, high) if found < along_z else (low, width)
    weights = gaussian(width)
    kept = weights > 1e-4 * weights.max()
    trimmed: npt.NDArray[np.float64] = weights[kept]
    return trimmed
