"""Layers that show how reliable a result is: held-out residual and Fourier support."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers import helper_metadata
from napari_geosr.gui.sim.pattern_layers import beside
from napari_geosr.operations.sim.report import RESIDUAL_TOP
from napari_geosr.operations.sim.support import FourierSupport

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer, Shapes

#: Colours of the circles at the cut-off frequencies of the widefield image and of the
#: reconstruction.
_COLOURS = ("white", "#56b4e9")


class TrustLayers:
    """The residual map over the latest result, and the result's spectrum on the right.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._layers: list[Layer] = []

    def remove(self) -> None:
        """Remove those layers that are still in the viewer."""
        for layer in self._layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self._layers = []

    def show_residual(self, layer: Image) -> None:
        """Set up the layer of a residual map, and hide it at first."""
        layer.colormap = "inferno"
        layer.contrast_limits = (0.0, RESIDUAL_TOP)
        layer.visible = False
        self._layers.append(layer)

    def show_support(self, support: FourierSupport, source: Layer, name: str) -> None:
        """Show a spectrum with two circles, to the right of the frames' spectrum."""
        shape = tuple(n // support.upscale_factor for n in support.spectrum.shape)
        options = beside(source, shape, place=2)
        options["scale"] = options["scale"] / support.upscale_factor
        low, high = (float(v) for v in np.percentile(support.spectrum, (5, 99.9)))
        spectrum: Image = unwrapped(
            self._viewer.add_image(
                support.spectrum,
                name=f"{name} spectrum",
                colormap="magma",
                contrast_limits=(low, high if high > low else low + 1),
                metadata=helper_metadata("spectrum"),
                **options,
            )
        )
        rows, columns = support.spectrum.shape
        box = np.asarray([(-1, -1), (-1, 1), (1, 1), (1, -1)], float)
        middle = (rows // 2, columns // 2)
        circles: Shapes = unwrapped(
            self._viewer.add_shapes(
                [
                    middle + box * np.asarray(support.radii(frequency))
                    for frequency in (support.widefield, support.reconstruction)
                ],
                shape_type="ellipse",
                name=f"{name} cut-off",
                edge_color=list(_COLOURS),
                face_color="transparent",
                edge_width=max(1.0, columns / 300),
                metadata=helper_metadata("spectrum"),
                **options,
            )
        )
        self._layers += [spectrum, circles]
