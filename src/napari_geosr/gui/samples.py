"""Sample data for *File ▸ Open Sample ▸ GeoSR*."""

from __future__ import annotations

from typing import Any

from napari_geosr.core.volume import Volume
from napari_geosr.gui._layers import geometry, layer_metadata

LayerData = tuple[Any, dict[str, Any], str]


def noisy_foam() -> list[LayerData]:
    """Give a noisy scan of a simulated foam and the clean volume behind it."""
    from napari_geosr.physics import samples

    noisy, clean = samples.noisy_foam()
    return [_layer(clean, visible=False), _layer(noisy)]


def resolution_pair() -> list[LayerData]:
    """Give the same simulated foam at low and at high resolution."""
    from napari_geosr.physics import samples

    low, high = samples.resolution_pair()
    return [_layer(high, visible=False), _layer(low)]


def _layer(volume: Volume, **options: Any) -> LayerData:
    data = volume.data[:]
    limits = (float(data.min()), float(data.max()))
    attributes = {
        "name": volume.name,
        "metadata": layer_metadata(volume),
        "contrast_limits": limits,
        **geometry(volume),
        **options,
    }
    return data, attributes, "image"
