"""Layers with results of the SIM dock, and with checks of the latest result."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.arrays import sliceable
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers import (
    add_image_result,
    finest,
    helper_metadata,
    replace_data,
)
from napari_geosr.gui.layers.camera import remove_together
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.sim.pattern_layers import beside
from napari_geosr.operations.sim import SimResult
from napari_geosr.operations.sim.report import RESIDUAL_TOP
from napari_geosr.operations.sim.trust.support import FourierSupport

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer, Shapes

#: Colours of the circles at the cut-off frequencies of the widefield image and of the
#: reconstruction.
_COLOURS = ("white", "#56b4e9")


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
        """Show a volume on top; reuse the earlier layer if it has the same shape.

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
    Along axes of angles and phases, the result has one element that spans all frames.

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
    index = tuple(None if i in missing else slice(None) for i in range(len(axes)))
    changed = volume.replace(
        data=sliceable(data)[index],
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


class TrustLayers:
    """The residual map over the latest result, and the result's spectrum on the right.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self.residual: Image | None = None
        self._spectrum: Image | None = None
        self._circles: Shapes | None = None

    def remove(self) -> None:
        """Remove those layers that are still in the viewer."""
        remove_together(self._viewer, self.residual, self._spectrum, self._circles)
        self.residual = self._spectrum = self._circles = None

    def show_residual(self, layer: Image) -> None:
        """Set up the layer of a residual map, and hide it at first."""
        layer.colormap = "inferno"
        layer.contrast_limits = (0.0, RESIDUAL_TOP)
        layer.visible = False
        self.residual = layer

    def show_support(self, support: FourierSupport, source: Layer, name: str) -> None:
        """Show a spectrum with two circles, to the right of the frames' spectrum."""
        shape = tuple(n // support.upscale_factor for n in support.spectrum.shape)
        options = beside(source, shape, place=2)
        options["scale"] = options["scale"] / support.upscale_factor
        if self._has_layers(support.spectrum.shape):
            self._update(support, name, options)
        else:
            remove_together(self._viewer, self._spectrum, self._circles)
            self._add(support, name, options)

    def _has_layers(self, shape: tuple[int, ...]) -> bool:
        """Return whether the layers of a spectrum of this shape are in the viewer."""
        spectrum, circles = self._spectrum, self._circles
        if spectrum is None or circles is None or spectrum.data.shape != shape:
            return False
        return spectrum in self._viewer.layers and circles in self._viewer.layers

    def _update(self, support: FourierSupport, name: str, options: AnyDict) -> None:
        """Show another spectrum in the layers of the last one."""
        assert self._spectrum is not None
        assert self._circles is not None
        self._spectrum.data = support.spectrum
        self._spectrum.contrast_limits = _limits(support)
        self._circles.data = _circles(support)
        for layer, title in (
            (self._spectrum, "spectrum"),
            (self._circles, "cut-off"),
        ):
            layer.name = f"{name} {title}"
            for key, value in options.items():
                setattr(layer, key, value)

    def _add(self, support: FourierSupport, name: str, options: AnyDict) -> None:
        self._spectrum = unwrapped(
            self._viewer.add_image(
                support.spectrum,
                name=f"{name} spectrum",
                colormap="magma",
                contrast_limits=_limits(support),
                metadata=helper_metadata("spectrum"),
                **options,
            )
        )
        self._circles = unwrapped(
            self._viewer.add_shapes(
                _circles(support),
                shape_type="ellipse",
                name=f"{name} cut-off",
                edge_color=list(_COLOURS),
                face_color="transparent",
                edge_width=max(1.0, support.spectrum.shape[1] / 300),
                metadata=helper_metadata("spectrum"),
                **options,
            )
        )


def _limits(support: FourierSupport) -> tuple[float, float]:
    """Return the contrast limits of a spectrum."""
    low, high = (float(v) for v in np.percentile(support.spectrum, (5, 99.9)))
    return low, high if high > low else low + 1


def _circles(support: FourierSupport) -> list[npt.NDArray[np.float64]]:
    """Return the boxes around the circles at the two cut-off frequencies."""
    rows, columns = support.spectrum.shape
    box = np.asarray([(-1, -1), (-1, 1), (1, 1), (1, -1)], float)
    middle = (rows // 2, columns // 2)
    return [
        middle + box * np.asarray(support.radii(frequency))
        for frequency in (support.widefield, support.reconstruction)
    ]
