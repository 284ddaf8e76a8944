"""Classical filters behind the contract of networks, one a file.

A module offers ``NetworkConfig`` and ``build(config)`` as networks do. A filter has no
weights: its one parameter is the ``strength``, and a model of it is a card alone. It is
tiled, previewed, cancelled and recorded as every network is.
"""

from __future__ import annotations

from napari_geosr.core.registry import Registry

FILTERS = Registry(
    package="napari_geosr.networks.classical",
    group="napari_geosr.filters",
    noun="classical filter",
)
