"""Slice-wise parallel projection and filtered back-projection, for simulation."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
_SUBSAMPLES = 2


class ParallelBeam:
    """Parallel-beam geometry of a square slice at equally spaced angles.

    Projection is a sparse matrix: every pixel is split into 2 × 2 parts, each of which
    is shared between the two nearest detector elements. Back-projection is the
    transpose.

    Parameters
    ----------
    size : int
        Edge length of the slices in voxels; a detector element is as wide as a voxel.
    n_angles : int
        Number of projections over half a turn.
    """

    def __init__(self, size: int, n_angles: int) -> None:
        self.size = size
        self.n_angles = n_angles
        self.n_detectors = math.ceil(size * math.sqrt(2)) + 3
        self._matrix = self._build()

    def _build(self) -> Any:
        from scipy import sparse

        n, m = self.size, self.n_detectors
        sub = (np.arange(n * _SUBSAMPLES) + 0.5) / _SUBSAMPLES - 0.5 - (n - 1) / 2
        y, x = np.meshgrid(sub, sub, indexing="ij")
        coarse = np.arange(n * n).reshape(n, n)
        pixel = coarse.repeat(_SUBSAMPLES, 0).repeat(_SUBSAMPLES, 1).ravel()
        blocks = []
        for k in range(self.n_angles):
            angle = math.pi * k / self.n_angles
            place = (x * math.cos(angle) + y * math.sin(angle)).ravel() + (m - 1) / 2
            left = np.floor(place).astype(np.int32)
            right_share = (place - left).astype(np.float32)
            share = np.concatenate([1 - right_share, right_share]) / _SUBSAMPLES**2
            rows = np.concatenate([left, left + 1])
            columns = np.concatenate([pixel, pixel])
            blocks.append(sparse.csr_array((share, (rows, columns)), shape=(m, n * n)))
        return sparse.vstack(blocks, format="csr")

    def project(self, volume: FloatArray) -> FloatArray:
        """Compute line integrals.

        Parameters
        ----------
        volume : ndarray of shape (Z, size, size)

        Returns
        -------
        ndarray of shape (n_angles, n_detectors, Z)
        """
        flat = np.ascontiguousarray(volume.reshape(len(volume), -1).T, np.float32)
        sinogram: FloatArray = self._matrix @ flat
        return sinogram.reshape(self.n_angles, self.n_detectors, len(volume))

    def reconstruct(self, sinogram: FloatArray, cutoff: float = 1.0) -> FloatArray:
        """Reconstruct by filtered back-projection, with a Hann window up to `cutoff`.

        Parameters
        ----------
        sinogram : ndarray of shape (n_angles, n_detectors, Z)
        cutoff : float
            Frequency at which the Hann window reaches zero, in units of the detector's
            Nyquist frequency; infinity for the pure ramp.

        Returns
        -------
        ndarray of shape (Z, size, size)
        """
        from scipy import fft

        length = fft.next_fast_len(2 * self.n_detectors, real=True)
        filtered = fft.rfft(sinogram, n=length, axis=1)
        filtered *= ramp_filter(length, cutoff)[None, :, None]
        rows = fft.irfft(filtered, n=length, axis=1)[:, : self.n_detectors]
        rows = np.ascontiguousarray(rows, np.float32).reshape(-1, sinogram.shape[-1])
        flat = self._matrix.T @ rows * np.float32(math.pi / self.n_angles)
        slices: FloatArray = flat.T.reshape(-1, self.size, self.size)
        return np.ascontiguousarray(slices)


def ramp_filter(length: int, cutoff: float = 1.0) -> FloatArray:
    """Return the ramp filter at the frequencies of ``rfft`` of `length` samples.

    It is built from its spatial taps (1/4, then -1/(πn)² at odd n), which preserves the
    mean of a slice.
    """
    from scipy import fft

    n = np.minimum(np.arange(length), length - np.arange(length))
    taps = np.zeros(length)
    odd = n % 2 == 1
    taps[odd] = -1 / (np.pi * n[odd]) ** 2
    taps[0] = 0.25
    response = fft.rfft(taps).real
    if math.isfinite(cutoff):
        f = fft.rfftfreq(length) / (0.5 * cutoff)
        response = response * np.where(
            f < 1, 0.5 + 0.5 * np.cos(np.pi * np.minimum(f, 1)), 0
        )
    filtered: FloatArray = response.astype(np.float32)
    return filtered


@lru_cache(maxsize=4)
def parallel_beam(size: int, n_angles: int) -> ParallelBeam:
    """Build a geometry once and cache it (building the matrix takes about a second)."""
    return ParallelBeam(size, n_angles)


def short_exposure_scan(
    volume: FloatArray,
    *,
    n_angles: int,
    noise: float,
    cutoff: float = 1.0,
    absorption: float = 1.5,
    seed: int = 0,
) -> FloatArray:
    """Scan a volume with few photons and reconstruct it slice by slice.

    Counts are Poisson distributed; the number of photons is chosen so that the noise in
    the reconstruction has approximately the given standard deviation.

    Parameters
    ----------
    volume : ndarray of shape (Z, N, N)
        Attenuation, non-negative, on any scale.
    n_angles : int
        Number of projections over half a turn. Few projections cause streaks.
    noise : float
        Desired standard deviation of the noise, in grey values of `volume`.
    cutoff : float
        Cut-off of the filter; see `ParallelBeam.reconstruct`.
    absorption : float
        Largest line integral after scaling; noise is stronger behind dense parts.
    seed : int
        Seed for the photon noise.
    """
    beam = parallel_beam(volume.shape[-1], n_angles)
    rng = np.random.default_rng(seed)
    sinogram = beam.project(volume)
    scale = absorption / float(sinogram.max())
    # Reconstruction is linear: reconstructing unit noise gives the noise gain.
    white = rng.standard_normal((*sinogram.shape[:2], 1), dtype=np.float32)
    gain = float(beam.reconstruct(white, cutoff).std())
    inside = sinogram > 0.2 * sinogram.max()
    transmitted = np.exp(-scale * sinogram)
    photons = float((1 / transmitted[inside]).mean()) * (gain / (noise * scale)) ** 2
    counts = np.maximum(rng.poisson(transmitted * photons), 1)
    measured = (-np.log(counts / photons) / scale).astype(np.float32)
    return beam.reconstruct(measured, cutoff)
