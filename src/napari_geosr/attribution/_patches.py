"""Draw noise that resembles the noise of a scan, for one window of the scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_geosr.attribution import AttributionRequest
from napari_geosr.core.noise import Noise
from napari_geosr.core.types import AnyArray
from napari_geosr.physics.correlated_noise import noise_of_scan


class NoiseGenerator:
    """Draws standardised noise with the level and correlation of the scan's noise.

    Attributes
    ----------
    is_measured : bool
        Whether the level was measured; otherwise its upper limit is used.
    """

    def __init__(self, request: AttributionRequest) -> None:
        noise: Noise = request.noise()
        self.is_measured = noise.is_measured
        if noise.level == 0 and noise.interval[1] > 0:
            noise = replace(noise, level=noise.interval[1], greys=(0.0,), levels=())
        statistics = request.scene.statistics
        self._noise = noise.standardised(statistics.input_mean, statistics.input_std)
        self._shape = request.window.network_input.shape
        self._rng = np.random.default_rng(request.seed)
        #: Whether the scan is a single image.
        self._flat = request.scene.layout.ndim == 2

    def draw(self, greys: AnyArray) -> AnyArray:
        """Draw noise for a window with the given noise-free standardised values."""
        drawn: AnyArray = self.draw_unit() * self._noise.at(greys)
        return drawn

    def draw_unit(self) -> AnyArray:
        """Draw noise of variance 1 for the window."""
        shape = self._shape[1:] if self._flat else self._shape
        unit: AnyArray = noise_of_scan(self._noise, shape, self._rng)
        return unit.reshape(self._shape)

    def level(self, grey: float) -> float:
        """Return the standard deviation of the noise at a standardised grey value."""
        return float(self._noise.at(grey))

    def spread(self, weights: AnyArray, grey: float, draws: int) -> float:
        """Return the standard deviation that a weighted sum of noise has at `grey`."""
        shape = weights.shape[1:] if self._flat else weights.shape
        sums = [
            float((noise_of_scan(self._noise, shape, self._rng) * weights).sum())
            for _ in range(draws)
        ]
        return float(np.std(sums)) * float(self._noise.at(grey))
