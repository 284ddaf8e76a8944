"""Entries and layers that the menus of the Porosity dock offer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.gui.layers import holds_deviations, is_helper

if TYPE_CHECKING:
    from napari.layers import Layer

#: Name of each rule in settings, by its title; None for a manual threshold.
METHODS: dict[str, str | None] = {
    "Otsu": "otsu",
    "Multi-Otsu": "multi-otsu",
    "Li": "li",
    "Triangle": "triangle",
    "Manual": None,
}
WHOLE, AUTOMATIC, NOTHING = "whole volume", "automatic mask", "nothing"
#: The sample mask in settings, by the entry of the menu.
MASKS = {
    WHOLE: "none",
    AUTOMATIC: "auto",
    "cortex of a bone": "cortex",
    "marrow space of a bone": "marrow",
}
#: Suffixes of the names of standard deviations: as a layer, and as a file.
_DEVIATIONS = ("(std)", "_std")


def is_deviation(layer: Layer) -> bool:
    """Whether `layer` may hold standard deviations, by its record or its name."""
    if layer._type_string != "image" or getattr(layer, "rgb", False):
        return False
    named = layer.name.endswith(_DEVIATIONS)
    return holds_deviations(layer) or (named and not is_helper(layer))


def is_labels(layer: Layer) -> bool:
    """Whether `layer` can mark the sample."""
    return bool(layer._type_string == "labels" and not is_helper(layer))
