"""Builders for third-party networks, one format per file.

A module offers ``build(settings, weights) -> torch.nn.Module``: from settings of plain
values and the tensors of the network, as its ``state_dict()`` names them, a network
that takes ``(N, channels, [Z,] Y, X)``. Nothing of what came from elsewhere is run as a
program: settings choose among layers that this package or a library has.
"""

from __future__ import annotations

from napari_geosr.core.registry import Registry

FORMATS = Registry(
    package="napari_geosr.networks.foreign_formats",
    group="napari_geosr.foreign_formats",
    noun="format of foreign networks",
)
