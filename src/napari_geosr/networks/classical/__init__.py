"""Classical filters with the interface of networks, one per file.

A module offers ``NetworkConfig`` and ``build(config)`` as networks do, and
``STRENGTHS``, those that are tried on a scan. A filter has no
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
