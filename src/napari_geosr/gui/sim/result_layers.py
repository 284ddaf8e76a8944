"""The layers that show results of the SIM dock over the frames."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers import (
    add_image_result,
    finest,
    helper_metadata,
    replace_data,
)
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.sim.trust_layers import TrustLayers
from napari_geosr.operations.sim import SimResult

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image


class SimResultLayers:
    """Adds results, previews and checks as layers.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._trust = TrustLayers(viewer)
        self._preview: weakref.ref[Image] | None = None

    def add(
        self, volume: Volume, source: Image | None, name: str, helper: str = ""
    ) -> Image:
        """Add a result at the position of its frames, with its own contrast limits."""
        options: AnyDict = {"name": name}
        if source is not None:
            volume, options = with_axes_of(volume, source)
            options["name"] = name
        options |= _appearance(volume, source)
        if helper:
            options["metadata"] = helper_metadata(helper)
        return unwrapped(add_image_result(self._viewer, volume, None, **options))

    def _show(
        self, old: Image | None, volume: Volume, source: Image, name: str, helper: str
    ) -> Image:
        """Show a volume on top, in the layer of an earlier one if its shape is equal.

        Removing a layer takes much longer, because napari then collects garbage.
        """
        layers = self._viewer.layers
        if old is None or old not in layers or old.data.shape != volume.shape:
            if old is not None and old in layers:
                layers.remove(old)
            return self.add(volume, source, name, helper)
        replace_data(self._viewer, old, volume, like=None)
        for key, value in _appearance(volume, source).items():
            setattr(old, key, value)
        old.name, old.visible = name, True
        layers.move(layers.index(old), len(layers))
        return old

    def show_preview(self, volume: Volume, source: Image) -> None:
        """Show a preview, and remove the last one."""
        active = self._viewer.layers.selection.active
        old = None if self._preview is None else self._preview()
        layer = self._show(old, volume, source, f"{source.name} preview", "preview")
        self._preview = weakref.ref(layer)
        self._viewer.layers.selection.active = active

    def show_trust(self, result: SimResult, source: Image | None, name: str) -> None:
        """Show the residual of the frames and the spectrum of the result."""
        if result.residual is None or result.support is None or source is None:
            self._trust.remove()
            return
        active = self._viewer.layers.selection.active
        old, title = self._trust.residual, f"{name} residual"
        residual = self._show(old, result.residual, source, title, "residual")
        self._trust.show_residual(residual)
        self._trust.show_support(result.support, source, name)
        self._viewer.layers.selection.active = active


def with_axes_of(volume: Volume, source: Image) -> tuple[Volume, AnyDict]:
    """Give a result with time points or channels the same axes as its frames.

    Otherwise, its time points would be on the slider of another axis of the frames.
    Along axes of angles and phases, the result has one element as long as all frames.

    Parameters
    ----------
    volume : Volume
    source : Image
        Layer of the frames.

    Returns
    -------
    volume : Volume
        Unchanged if it has neither time points nor channels.
    options : dict
        Positions along all axes, for the layer.
    """
    axes, shape = geometry_of_layer(source).axes, finest(source).shape
    own, data = volume.axes, volume.data
    if not set(own) - set("ZYX") or not set(own) < set(axes):
        return volume, {}
    if not isinstance(data, np.ndarray):  # on disk, where an axis cannot be inserted
        return volume, {}
    sizes = dict(zip(volume.spatial_axes, volume.voxel_size, strict=True))
    places = dict(zip(volume.spatial_axes, volume.origin, strict=True))
    scale, translate = [], []
    for i, axis in enumerate(axes):
        step, start = float(source.scale[i]), float(source.translate[i])
        if axis in sizes:
            step, start = sizes[axis], places[axis]
        elif axis not in own:
            step, start = shape[i] * step, start + (shape[i] - 1) / 2 * step
        scale.append(step)
        translate.append(start)
    missing = tuple(i for i, axis in enumerate(axes) if axis not in own)
    n = sum(axis in "ZYX" for axis in axes)
    changed = volume.replace(
        data=np.expand_dims(data, missing),
        axes=axes,
        voxel_size=tuple(scale[-n:]),
        origin=tuple(translate[-n:]),
    )
    return changed, {"scale": scale, "translate": translate, "units": source.units}


def _appearance(volume: Volume, source: Image | None) -> AnyDict:
    """Return contrast limits for a result, and the colours and position of its frames.

    Parameters
    ----------
    volume : Volume
    source : Image or None
        Layer of the frames.
    """
    values = np.asarray(volume.data[..., ::4, ::4], np.float32)
    values = values[np.isfinite(values)]
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.8)))
    options: AnyDict = {"contrast_limits": (low, high if high > low else low + 1)}
    if source is not None:
        options["colormap"] = source.colormap
        n = len(volume.spatial_axes) + 1
        options["affine"] = geometry_of_layer(source).affine[-n:, -n:]
    return options
