"""Power spectra of volumes from windows, by frequency in the plane and along Z."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.noise_spectrum import smooth_power

FloatArray = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

#: Lowest frequency used, in cycles per window; below it, the power depends on which
#: structures happen to be in the windows.
_FIRST_RING = 2
#: Number of frequencies in a class below which the class gets less weight.
_FULL_WEIGHT_COUNT = 24


@dataclass(frozen=True, eq=False)
class WindowSpectrum:
    """Frequencies of a window, in classes along Z and in the plane.

    Attributes
    ----------
    depth, edge : int
        Size of the window, in voxels.
    """

    depth: int
    edge: int

    @property
    def plane(self) -> Array:
        """Frequency in the plane of each class, in cycles per voxel, shape (1, r)."""
        return np.arange(self.edge // 2 + 1)[None] / self.edge

    @property
    def along(self) -> Array:
        """Frequency along Z of each class, shape (z, 1)."""
        return np.arange(self.depth // 2 + 1)[:, None] / self.depth

    def weights(self) -> Array:
        """Return the weight of each class, shape (z, r)."""
        counts = self._sorted(np.ones((self.depth, self.edge, self.edge // 2 + 1)))[1]
        lowest = _FIRST_RING / self.edge
        is_used = np.hypot(self.along, self.plane) >= lowest - 1e-9
        weights: Array = np.minimum(counts / _FULL_WEIGHT_COUNT, 1) * is_used
        return weights

    def power(self, blocks: Sequence[FloatArray]) -> Array:
        """Return the mean power by class; 1 for white noise of variance 1."""
        from scipy import fft

        edges = (self.depth, self.edge, self.edge)
        hann = [np.hanning(n + 2)[1:-1] if n > 1 else np.ones(1) for n in edges]
        window = (hann[0][:, None, None] * hann[1][:, None] * hann[2]).astype(
            np.float32
        )
        window /= np.sqrt((window**2).sum())
        total = np.zeros((self.depth, self.edge, self.edge // 2 + 1))
        count = 0
        for block in blocks:
            starts = [_starts(n, e) for n, e in zip(block.shape, edges, strict=True)]
            for start in itertools.product(*starts):
                key = tuple(slice(a, a + e) for a, e in zip(start, edges, strict=True))
                part = (block[key] - block[key].mean()) * window
                total += np.abs(fft.rfftn(part)) ** 2
                count += 1
        sums, counts = self._sorted(total / max(1, count))
        means: Array = sums / np.maximum(counts, 1)
        return means

    def of_noise(
        self, power: Callable[[Array, float], Array], parameter: float
    ) -> Array:
        """Return the power of noise in planes after windowing, shape (1, r)."""
        f = np.fft.fftfreq(self.edge)
        plane = power(np.hypot(f[:, None], f), parameter)
        for axis in (0, 1):
            plane = _leaked(plane, axis)
        rings = np.rint(self.edge * np.hypot(f[:, None], f)).astype(int).ravel()
        sums = np.bincount(rings, plane.ravel(), self.edge)
        means = sums / np.maximum(np.bincount(rings, minlength=self.edge), 1)
        by_class: Array = means[None, : self.edge // 2 + 1]
        return by_class

    def of_width(self, width: float) -> Array:
        """Return the power along Z of noise blurred by a Gaussian, shape (z, 1)."""
        if self.depth == 1:
            return np.ones((1, 1))
        f = np.asarray(np.fft.fftfreq(self.depth), np.float64)
        power = _leaked(smooth_power(f, width), 0)
        return power[: self.depth // 2 + 1, None]

    def _sorted(self, power: Any) -> tuple[Array, Array]:
        """Return the sum of the power, and the number of frequencies, of each class."""
        fz = np.abs(np.rint(np.fft.fftfreq(self.depth) * self.depth)).astype(int)
        fy = np.fft.fftfreq(self.edge, 1 / self.edge)[:, None]
        rings = np.rint(np.hypot(fy, np.arange(self.edge // 2 + 1))).astype(int)
        shape = (self.depth // 2 + 1, self.edge)
        places = (fz[:, None, None] * self.edge + rings).ravel()
        n = math.prod(shape)
        sums = np.bincount(places, power.ravel(), n).reshape(shape)
        counts = np.bincount(places, minlength=n).reshape(shape)
        used = slice(0, self.edge // 2 + 1)
        return np.asarray(sums[:, used]), counts[:, used].astype(np.float64)


def _leaked(power: Array, axis: int) -> Array:
    """Compute the power spectrum along one axis after applying a Hann window."""
    sides = np.roll(power, 1, axis) + np.roll(power, -1, axis)
    leaked: Array = (4 * power + sides) / 6
    return leaked


def _starts(length: int, n: int) -> list[int]:
    count = max(1, 2 * length // n - 1)
    return [int(s) for s in np.linspace(0, length - n, count)]
