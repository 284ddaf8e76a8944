"""How strong the noise of a scan is, at which grey values, and how it is correlated."""

from __future__ import annotations

from napari_geosr.measure.noise.estimate import estimate_noise, noise_steps

__all__ = ["estimate_noise", "noise_steps"]
