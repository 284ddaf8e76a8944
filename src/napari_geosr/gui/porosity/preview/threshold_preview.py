"""The live preview of the pores: a layer that thresholds the slice on screen."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer

from napari_geosr.core.types import AnyArray
from napari_geosr.gui.layers import finest, helper_metadata, same_place
from napari_geosr.operations.measure import MeasureConfig
from napari_geosr.operations.measure.grey_levels import preview_mask

if TYPE_CHECKING:
    import napari.viewer
    import numpy.typing as npt
    from napari.layers import Image, Labels

NAME = "pores (preview)"
#: Colour of the pores; visible on all greys from black to white.
_COLOUR = "#3d7bff"
#: Minimum interval between updates while the threshold is dragged, in milliseconds.
_MILLISECONDS = 40


class ThresholdedArray:
    """A lazy label array; each part is thresholded when it is requested.

    napari requests only the slice on screen, so the preview follows the sliders, uses
    no memory and works with volumes on disk.

    Parameters
    ----------
    data : array-like
        Grey values.
    sample : array-like, optional
        Mask with the shape of the last axes of `data`; valid for all time points.
    """

    def __init__(self, data: Any, sample: Any = None) -> None:
        self._data, self.sample = data, sample
        #: Mask of pores found with a local threshold or hysteresis, in the same form as
        #: `sample`; None to apply `threshold`.
        self.pores: Any = None
        self.shape = tuple(data.shape)
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape))
        self.dtype = np.dtype(np.uint8)
        self.threshold = 0.0
        self.config = MeasureConfig()

    def __getitem__(self, key: Any) -> AnyArray:
        block = np.asarray(self._data[key])
        if self.pores is not None:
            found = np.broadcast_to(self._part(self.pores, key), block.shape)
            return found.view(np.uint8)
        mask = preview_mask(block, self.threshold, self.config)
        if self.sample is not None:
            mask = mask & self._part(self.sample, key)
        return mask.view(np.uint8)

    def _part(self, mask: Any, key: Any) -> AnyArray:
        """Return a part of a mask with the shape of the last axes."""
        key = key if isinstance(key, tuple) else (key,)
        key += (slice(None),) * (self.ndim - len(key))
        part: AnyArray = np.asarray(mask[key[self.ndim - mask.ndim :]]) != 0
        return part

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self[(slice(None),) * self.ndim], dtype=dtype)


class ThresholdPreview(QObject):
    """Keeps at most one preview layer in the viewer, above the layer it belongs to."""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._source: weakref.ref[Image] | None = None
        self._array: ThresholdedArray | None = None
        self._layer: weakref.ref[Labels] | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_MILLISECONDS)
        self._timer.timeout.connect(self._refresh)

    @property
    def layer(self) -> Labels | None:
        """The preview layer, if it is in the viewer."""
        layer = None if self._layer is None else self._layer()
        return layer if layer is not None and layer in self._viewer.layers else None

    def show(
        self,
        source: Image,
        threshold: float,
        config: MeasureConfig,
        sample: object = None,
        pores: object = None,
    ) -> None:
        """Show the pores of `source` at `threshold`; updates are slightly deferred.

        `sample` is a mask on the voxel grid of the image, or None. If another such mask
        is given as `pores`, it is shown unchanged.
        """
        same = self._source is not None and self._source() is source
        if self.layer is None or not same:
            self.hide()
            self._add(source, threshold, config, sample, pores)
            return
        layer = self.layer
        assert self._array is not None
        assert layer is not None
        self._array.threshold, self._array.config = threshold, config
        self._array.sample, self._array.pores = sample, pores
        layer.visible = True
        if not self._timer.isActive():
            self._timer.start()

    def pause(self) -> None:
        """Hide the preview temporarily; this is faster than removing the layer."""
        self._timer.stop()
        layer = self.layer
        if layer is not None:
            layer.visible = False

    def hide(self, event: object = None) -> None:
        """Remove the preview layer."""
        self._timer.stop()
        source = None if self._source is None else self._source()
        if source is not None:
            source.events.scale.disconnect(self.hide)
        layer = self.layer
        if layer is not None:
            self._viewer.layers.remove(layer)
        self._layer = self._source = self._array = None

    def _add(
        self,
        source: Image,
        threshold: float,
        config: MeasureConfig,
        sample: object,
        pores: object,
    ) -> None:
        array = ThresholdedArray(finest(source), sample)
        array.threshold, array.config, array.pores = threshold, config, pores
        active = self._viewer.layers.selection.active
        layer = self._viewer.add_labels(
            array,
            name=NAME,
            colormap=preview_colormap(),
            opacity=0.6,
            metadata=helper_metadata("threshold"),
            **same_place(source),
        )
        # Keep the same layer active while the threshold is dragged.
        if active is not None:
            self._viewer.layers.selection.active = active
        # Remove the preview when the voxel size changes: napari disables units for the
        # whole canvas if its layers have different units.
        source.events.scale.connect(self.hide)
        self._source = weakref.ref(source)
        self._array, self._layer = array, weakref.ref(layer)

    def _refresh(self) -> None:
        layer = self.layer
        if layer is not None:
            layer.refresh(thumbnail=False, highlight=False, extent=False)


def preview_colormap() -> Any:
    """Return a colormap of transparency and the histogram's pore colour."""
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict={0: "transparent", 1: _COLOUR, None: _COLOUR})
