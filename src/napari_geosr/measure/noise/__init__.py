"""Noise of a scan: level, dependence on grey value, and correlation."""

from __future__ import annotations

from napari_geosr.measure.noise.estimate import estimate_noise, noise_steps

__all__ = ["estimate_noise", "noise_steps"]
