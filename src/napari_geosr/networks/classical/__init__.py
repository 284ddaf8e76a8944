"""Classical filters with the interface of networks: one module each.

The module of a filter provides ``NetworkConfig`` and ``build(config)`` as a network
does, and ``STRENGTHS``, the strengths that are tried on a scan;
``COMPARES_PATCHES = True`` marks a filter that averages similar patches. A filter has
no weights: its main setting is the ``strength``, and its model consists of the card
alone. Filters are tiled, previewed, cancelled and recorded in the same way as networks.
"""

from __future__ import annotations

from napari_geosr.core.registry import Registry

FILTERS = Registry(
    package="napari_geosr.networks.classical",
    group="napari_geosr.filters",
    noun="classical filter",
)
