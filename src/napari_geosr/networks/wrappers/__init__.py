"""Modules around a network that change or constrain its output."""

from napari_geosr.networks.wrappers.bound import NoiseBound
from napari_geosr.networks.wrappers.consistent import ConsistentUpscaling, Sharpness

__all__ = ["ConsistentUpscaling", "NoiseBound", "Sharpness"]
