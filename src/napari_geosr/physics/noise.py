"""Noise of detectors and of reconstructed slices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError

FloatArray = npt.NDArray[np.float32]


def gaussian_noise(
    shape: tuple[int, ...], sd: float, rng: np.random.Generator
) -> FloatArray:
    """Draw independent Gaussian noise with standard deviation `sd`.

    Parameters
    ----------
    shape : tuple of int
    sd : float
    rng : numpy.random.Generator
    """
    return np.float32(sd) * rng.standard_normal(shape, dtype=np.float32)


def poisson_noise(
    volume: FloatArray, photons: float, rng: np.random.Generator
) -> FloatArray:
    """Apply Poisson noise: grey value 1 corresponds to `photons` counts on average.

    Parameters
    ----------
    volume : ndarray
        Non-negative grey values.
    photons : float
        Mean count at grey value 1.
    rng : numpy.random.Generator

    Raises
    ------
    ConfigError
        If `photons` is not greater than 0.
    """
    if photons <= 0:
        raise ConfigError(
            "The number of photons for Poisson noise must be greater than 0, not "
            f"{photons}."
        )
    counts = rng.poisson(np.maximum(volume, 0) * photons)
    return (counts / photons).astype(np.float32)


def poisson_gaussian_noise(
    volume: FloatArray, photons: float, read_noise: float, rng: np.random.Generator
) -> FloatArray:
    """Apply Poisson noise and the camera's read noise.

    The mean is that of `volume` (non-negative), and the variance is
    ``volume / photons + (read_noise / photons)²``.

    Parameters
    ----------
    photons : float
        Mean count at grey value 1.
    read_noise : float
        Standard deviation of the camera's read noise, in photons.
    """
    counted = poisson_noise(volume, photons, rng)
    return counted + gaussian_noise(counted.shape, read_noise / photons, rng)


def reconstruction_noise(
    shape: tuple[int, int, int],
    sd: float,
    rng: np.random.Generator,
    *,
    cutoff: float = 1.0,
) -> FloatArray:
    """Draw noise with the spectrum of filtered back-projection of many projections.

    The power of white noise in the projections is multiplied by the squared filter, and
    back-projection has a sampling density ∝ 1/f in the plane: with a ramp filter, the
    power is ∝ ``f · w(f)²`` (``w``: the Hann window), isotropic in the plane. Slices
    are independent, as in parallel-beam scans.

    Parameters
    ----------
    shape : tuple of int
        (Z, Y, X).
    sd : float
        Standard deviation of the result.
    rng : numpy.random.Generator
        Source of the random numbers.
    cutoff : float
        Frequency at which the Hann window reaches zero, in units of the Nyquist
        frequency.

    Notes
    -----
    The noise is stationary: stronger noise behind dense parts, streaks and rings are
    not included; `physics.projection.radon.short_exposure_scan` includes the first two.
    """
    from scipy import fft

    white = rng.standard_normal(shape, dtype=np.float32)
    spectrum = fft.rfft2(white)
    fy = fft.fftfreq(shape[1]).astype(np.float32)[:, None]
    fx = fft.rfftfreq(shape[2]).astype(np.float32)[None, :]
    f = np.sqrt(fy**2 + fx**2) / 0.5
    window = np.where(
        f < cutoff, 0.5 + 0.5 * np.cos(np.pi * np.minimum(f / cutoff, 1)), 0
    )
    noise: FloatArray = fft.irfft2(spectrum * np.sqrt(f) * window, s=shape[1:])
    return (noise * np.float32(sd / noise.std())).astype(np.float32)
