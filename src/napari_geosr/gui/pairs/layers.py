"""A pair in the viewer: two colours that make grey where both show the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from napari.utils.colormaps import Colormap

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    alignment_with,
    helper_metadata,
    layer_metadata,
)
from napari_geosr.gui.layers.data_row import is_training_image
from napari_geosr.gui.layers.place import geometry_of_layer
from napari_geosr.gui.pairs.steps import BuiltPair
from napari_geosr.operations.pairs.picture import HIGH_COLOUR, LOW_COLOUR

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

#: Key of the record of a layer that is part of a pair: which part.
_PAIR = "pair"


def show_pair(
    viewer: napari.viewer.Viewer, built: BuiltPair, over: Layer | None
) -> dict[str, Image]:
    """Add a pair over the low-resolution scan, or the high-resolution one.

    Parameters
    ----------
    over : Layer, optional
        What the pair was made of, whose rotation it shares.

    Returns
    -------
    dict of Image
        By what they are: ``low``, ``high`` and, of aligned scans, ``before``.
    """
    name = built.pairs.files["low"].parent.name
    is_aligned = "before" in built.layers
    found: dict[str, Image] = {}
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
            # The scans beneath stay visible, and would add to the colours.
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
        found[key] = add_image_result(viewer, shown.volume, None, **options)
    return found


def is_of_pair(layer: Layer) -> bool:
    """Whether a layer is part of a pair, or a copy of one, whichever dock built it."""
    return _PAIR in layer.metadata.get(METADATA, {})


def by_voxel_size(viewer: napari.viewer.Viewer) -> list[Image]:
    """A person's images that are of no pair, from the largest voxels to the smallest.

    A pair is cropped, resampled and matched in grey values: no scan to build of.
    """
    sizes = []
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
        sizes.append((unit * float(np.prod(place.voxel_size[-2:])), layer))
    return [layer for _, layer in sorted(sizes, key=lambda pair: -pair[0])]
