"""Keep contrast limits, gamma and colormap of two layers equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.experimental import link_layers, unlink_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Layer

_LINKED = ("contrast_limits", "gamma", "colormap")


def link_contrast(source: Image, other: Image) -> None:
    """Give `other` the contrast limits, gamma and colormap of `source`; link them."""
    for name in _LINKED:  # napari synchronises only later changes
        setattr(other, name, getattr(source, name))
    link_layers([source, other], _LINKED)


def unlink_contrast(layers: Sequence[Layer]) -> None:
    """Unlink contrast limits, gamma and colormap of these layers."""
    if layers:
        unlink_layers(list(layers), _LINKED)
