"""Entries of the menus of the Porosity dock, and what they are in settings."""

from __future__ import annotations

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
