"""Read the sample's grey values, and read them again after a change."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import VolumeError
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import chosen_position, volume_from_layer
from napari_geosr.gui.layers.contents import contents_key, is_unfinished
from napari_geosr.gui.layers.geometry import layer_type
from napari_geosr.gui.porosity.drawn_sample import (
    sample_contents_key,
    sample_volume,
)
from napari_geosr.gui.porosity.measuring import levels_steps
from napari_geosr.operations.measure.grey_levels import GreyLevels
from napari_geosr.operations.measure.mask import align_mask

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer
    from napari.utils.events import Event

    from napari_geosr.core.volume import Volume

#: Identifies the layer and voxels whose grey values were counted.
Key = tuple[object, ...]
#: Delay in milliseconds from the last redraw until the voxels are checked for changes.
_CHECK_MS = 200
#: Longer delay for a layer that is a result and is still being filled.
_CHECK_MS_UNFINISHED = 2000


class LevelsReader(QObject):
    """Reads grey values of one layer at a time, and remembers those of earlier layers.

    Signals
    -------
    levelsRead : GreyLevels
        The grey values of the data on screen.
    outdated
        The voxels, the time point or the sample differ from those that were read.
    failed : object
        The error that prevented reading.
    """

    levelsRead = Signal(object)
    outdated = Signal()
    failed = Signal(object)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: weakref.ref[Layer] | None = None
        self._mask: weakref.ref[Layer] | None = None
        self._strokes: weakref.WeakKeyDictionary[Layer, int] = (
            weakref.WeakKeyDictionary()
        )
        self._run: BackgroundTask | None = None
        self._known: weakref.WeakKeyDictionary[Layer, tuple[Key, GreyLevels]] = (
            weakref.WeakKeyDictionary()
        )
        self._shown: Key = ()
        self._followed: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._looking = QTimer(self)
        self._looking.setSingleShot(True)
        self._looking.timeout.connect(self.check_data)
        self._connections = Connections(parent)
        self._connections.connect(viewer.dims.events.point, self._on_moved)

    @property
    def is_running(self) -> bool:
        """Whether grey values are being read."""
        return self._run is not None

    def layer(self) -> Layer | None:
        """Return the layer whose grey values are read, if it still exists."""
        return None if self._layer is None else self._layer()

    def key(self) -> Key:
        """Return a key that changes with the grey values; empty without a layer."""
        layer = self.layer()
        if layer is None:
            return ()
        position = chosen_position(layer, self._viewer)
        sample = self._sample_key(layer)
        return id(layer), contents_key(layer), tuple(position.items()), sample

    def _sample_key(self, layer: Layer) -> Key:
        """Return a key that identifies the sample: the mask and its voxels."""
        mask, sample = self.mask(), self._sample()
        if mask is None or sample is None:
            return ()
        volume = volume_from_layer(layer, self._viewer)
        places = ((v.axes, v.voxel_size, v.origin, v.unit) for v in (sample, volume))
        contents = sample_contents_key(mask, layer, self._viewer)
        return id(mask), contents, self._strokes.get(mask, 0), *places

    def _sample(self) -> Volume | None:
        """Return the mask if it fits the layer; if not, the preview reports why."""
        layer, mask = self.layer(), self.mask()
        if layer is None or mask is None:
            return None
        try:
            sample = sample_volume(mask, layer, self._viewer)
            assert sample is not None
            align_mask(sample, volume_from_layer(layer, self._viewer))
        except VolumeError:
            return None
        return sample

    def mask(self) -> Layer | None:
        """Return the layer that marks the sample, if there is one."""
        return None if self._mask is None else self._mask()

    def set_layer(self, layer: Layer | None) -> None:
        """Choose the layer and connect to its redraw events."""
        self._layer = self._follow(layer)

    def set_mask(self, mask: Layer | None) -> None:
        """Choose the layer that marks the sample; None for the whole image."""
        if mask is not None and mask not in self._followed:
            is_drawn = layer_type(mask) == "shapes"
            edited = mask.events.data if is_drawn else mask.events.paint
            self._connections.connect(edited, self._on_painted)
        self._mask = self._follow(mask)

    def _follow(self, layer: Layer | None) -> weakref.ref[Layer] | None:
        if layer is None:
            return None
        if layer not in self._followed:
            self._followed.add(layer)
            self._connections.connect(layer.events.set_data, self._on_drawn)
        return weakref.ref(layer)

    def read(self, volume: Volume | None) -> None:
        """Read the layer's grey values from `volume`, unless they are known."""
        if self._run is not None:
            self._run.detach()
            self._run = None
        self._shown = ()
        layer = self.layer()
        if layer is None or volume is None:
            return
        key = self._shown = self.key()
        known = self._known.get(layer)
        if known is not None and known[0] == key:
            self.levelsRead.emit(known[1])
            return
        reference, sample = weakref.ref(layer), self._sample()
        self._run = BackgroundTask(
            lambda should_stop: levels_steps(volume, sample, should_stop),
            owner=self,
            on_result=lambda levels: self._on_levels(reference, key, levels),
            on_error=self.failed.emit,
            on_finished=self._on_finished,
        )

    def check_data(self) -> None:
        """Emit `outdated` if the grey values no longer match the data."""
        if self._shown and self.layer() is not None and self.key() != self._shown:
            self.outdated.emit()

    def _on_drawn(self, event: Event) -> None:
        """Check again after a redraw, because voxels may have changed."""
        if event.source in (self.layer(), self.mask()):
            self._on_moved()

    def _on_painted(self, event: Event) -> None:
        """Handle painting or drawing; the voxel check may miss a small stroke."""
        self._strokes[event.source] = self._strokes.get(event.source, 0) + 1
        self._on_drawn(event)

    def _on_moved(self, event: object = None) -> None:
        """Handle a moved slider, because each time point has its own threshold."""
        layer = self.layer()
        if layer is not None:
            wait = _CHECK_MS_UNFINISHED if is_unfinished(layer) else _CHECK_MS
            self._looking.start(wait)

    def _on_levels(
        self, reference: weakref.ref[Layer], key: Key, levels: GreyLevels
    ) -> None:
        layer = reference()
        if layer is self.layer() and layer is not None:
            self._known[layer] = (key, levels)
            self.levelsRead.emit(levels)

    def _on_finished(self) -> None:
        self._run = None  # releases the volume
