"""Builders for third-party networks, one format per file.

The module of a format provides ``build(settings, weights) -> torch.nn.Module``. Given
settings (plain values) and the tensors of the network, named as in its
``state_dict()``, ``build`` returns a network that takes ``(N, channels, [Z,] Y, X)``.
Third-party code is never run: settings choose among layers of this package or of an
installed library.
"""

from __future__ import annotations

from napari_geosr.core.registry import Registry

FORMATS = Registry(
    package="napari_geosr.networks.foreign_formats",
    group="napari_geosr.foreign_formats",
    noun="third-party network format",
)
