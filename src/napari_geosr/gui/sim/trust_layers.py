"""Layers that show how reliable a result is: held-out residual and Fourier support."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyDict
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.layers import helper_metadata
from napari_geosr.gui.layers.camera import remove_together
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
