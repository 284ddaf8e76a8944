"""Noise of a layer that was measured with the help of another volume."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from napari_geosr.core.noise import KNOWN_NOISE, KnownNoise
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.layers.contents import contents_key

if TYPE_CHECKING:
    from napari.layers import Layer

#: Known noise by layer, with a key that identifies the voxels to which it belongs. The
#: noise is not stored in the metadata of the layer, because napari copies the metadata
#: of a duplicated layer together with all arrays in it.
_known: weakref.WeakKeyDictionary[Layer, tuple[KnownNoise, tuple[object, ...]]] = (
    weakref.WeakKeyDictionary()
)


def set_known_noise(
    layer: Layer, known: KnownNoise | None, key: tuple[object, ...] = ()
) -> None:
    """Set the noise of a layer; with None, it is measured in the layer again.

    Parameters
    ----------
    layer : Layer
    known : KnownNoise or None
    key : tuple
        Result of `contents_key` for the voxels in which the noise was measured; by
        default, the current voxels.
    """
    if known is None:
        _known.pop(layer, None)
    else:
        _known[layer] = known, key or contents_key(layer)


def known_noise_of(layer: Layer) -> KnownNoise | None:
    """Return the known noise of a layer, unless its voxels have changed since."""
    found = _known.get(layer)
    return None if found is None or found[1] != contents_key(layer) else found[0]


def noise_metadata(layer: Layer) -> AnyDict:
    """Return the metadata of the layer's volume that state its noise, if known."""
    known = known_noise_of(layer)
    return {} if known is None else {KNOWN_NOISE: known}
