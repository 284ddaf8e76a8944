"""Layers of a pair, in two colours that add up to grey where the images agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import Colormap

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import MILLIMETRES, PIXEL
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    alignment_with,
    helper_metadata,
    layer_metadata,
)
from napari_geosr.gui.layers.data_row import is_training_image
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.pairs.steps import BuiltPair
from napari_geosr.operations.pairs.picture import HIGH_COLOUR, LOW_COLOUR

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

#: Metadata key of a layer that is part of a pair.
_PAIR = "pair"
#: Minimum ratio of the pixel areas of the two scans of a pair.
_MIN_AREA_RATIO = 1.2


def show_pair(
    viewer: napari.viewer.Viewer, built: BuiltPair, over: Layer | None
) -> dict[str, Image]:
    """Add the layers of a pair at the position of the scan from which it was made.

    Parameters
    ----------
    over : Layer, optional
        Scan from which the pair was made; the layers share its rotation.

    Returns
    -------
    dict of Image
        Layers by key: ``low``, ``high`` and, for aligned scans, ``before``.
    """
    name = built.pairs.files["low"].parent.name
    is_aligned = "before" in built.layers
    layers: dict[str, Image] = {}
    titles = {"low": "low resolution", "before": "before", "high": "high resolution"}
    for key in ("high", "before", "low"):
        if key not in built.layers:
            continue
        shown = built.layers[key]
        options: AnyDict = {
            "name": f"{name}: {titles[key]}",
            "contrast_limits": shown.limits,
        }
        if is_aligned:
            # Opaque, because the scans below remain visible and would add to the
            # colours.
            options["blending"] = "additive" if key == "low" else "opaque"
            colour = LOW_COLOUR if key == "low" else HIGH_COLOUR
            options["colormap"] = Colormap(
                [(0.0, 0.0, 0.0, 1.0), (*colour, 1.0)], name=f"pair {titles[key]}"
            )
        record = layer_metadata(shown.volume)
        if key == "before":
            record = helper_metadata("pair before")
            options["visible"] = False
        options["metadata"] = {METADATA: record[METADATA] | {_PAIR: key}}
        if over is not None:
            options |= alignment_with(over)
        layers[key] = add_image_result(viewer, shown.volume, None, **options)
    return layers


def is_of_pair(layer: Layer) -> bool:
    """Whether a layer is part of a pair, or a copy of such a layer."""
    return _PAIR in layer.metadata.get(METADATA, {})


def finest_image(viewer: napari.viewer.Viewer) -> Image | None:
    """Return the user's image with the smallest voxels, a visible one if there is one.

    Layers that belong to a pair are excluded, because they are cropped, resampled and
    matched in grey values.
    """
    areas = _pixel_areas(viewer)
    areas = [each for each in areas if each[-1].visible] or areas
    return areas[-1][-1] if areas else None


def scans_for_a_pair(viewer: napari.viewer.Viewer) -> list[Image]:
    """Return the images with the largest and smallest voxels if they can be a pair.

    Channels of one image, or a 2D image and a 3D image, cannot form a pair. Hidden
    images are used only if the visible ones cannot form a pair.
    """
    areas = _pixel_areas(viewer)
    return _pair_of([each for each in areas if each[-1].visible]) or _pair_of(areas)


def _pair_of(areas: list[tuple[float, int, Image]]) -> list[Image]:
    """Return the first and last image of `areas` if they can be a pair."""
    known = [each for each in areas if geometry_of_layer(each[-1]).unit != PIXEL]
    areas = known or areas  # a size in pixels cannot be compared with a length
    if not areas:
        return []
    (largest, axes, low), (smallest, other_axes, high) = areas[0], areas[-1]
    is_pair = largest > _MIN_AREA_RATIO * smallest and axes == other_axes
    return [low, high] if is_pair else []


def _pixel_areas(viewer: napari.viewer.Viewer) -> list[tuple[float, int, Image]]:
    """Return each image's pixel area, spatial axes and layer, largest area first."""
    found = []
    for layer in viewer.layers:
        if not is_training_image(layer) or getattr(layer, "rgb", False):
            continue
        if is_of_pair(layer):
            continue
        try:
            place = geometry_of_layer(layer)
        except VolumeError:
            continue
        unit = MILLIMETRES.get(place.unit, 1.0)
        size = place.voxel_size
        found.append((unit**2 * float(np.prod(size[-2:])), len(size), layer))
    return sorted(found, key=lambda each: -each[0])
