"""Preview of pores found with a local threshold, computed in a worker."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.porosity.drawn_sample import sample_volume
from napari_geosr.operations.measure.automatic_sample import MAX_VOXELS
from napari_geosr.operations.measure.local_pores import local_pores_steps

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from napari_geosr.core.types import AnyArray
    from napari_geosr.core.volume import Volume
    from napari_geosr.gui.porosity.preview.levels_reader import Key, LevelsReader
    from napari_geosr.gui.porosity.preview.threshold_preview import ThresholdPreview
    from napari_geosr.operations.measure import MeasureConfig

#: Delay from the last change of a setting until the pores are updated, in milliseconds.
_DELAY_MS = 250
#: Settings that the pores depend on.
_SETTINGS = (
    "threshold",
    "local_window",
    "hysteresis",
    "phase",
    "connectivity",
    "sample_mask",
    "mask_closing",
)


class LocalPreview(QObject):
    """Shows pores found by a local threshold or hysteresis in the preview layer.

    A single slice does not include the neighbourhood, so the pores of the whole volume
    are found, as in a measurement. While the pores are being found, and for a volume of
    more than `MAX_VOXELS` voxels, there is no preview.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        reader: LevelsReader,
        preview: ThresholdPreview,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._reader, self._preview = viewer, reader, preview
        self._found: tuple[Key, AnyArray] | None = None
        self._threshold = 0.0  # threshold in the histogram, for `ThresholdPreview`
        self._wanted: Key = ()
        self._config: MeasureConfig | None = None
        self._run: BackgroundTask | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self._start)

    def show(self, layer: Image, threshold: float, config: MeasureConfig) -> None:
        """Show the pores of an image once they have been found."""
        values = (getattr(config, name) for name in _SETTINGS)
        wanted = (self._reader.key(), threshold, *values)
        if self._found is not None and self._found[0] == wanted:
            self._preview.show(layer, threshold, config, pores=self._found[1])
            return
        self._preview.pause()
        if wanted == self._wanted:
            return
        self.stop()
        self._wanted, self._config, self._threshold = wanted, config, threshold
        self._timer.start()

    def stop(self) -> None:
        """Stop finding pores; those that were found are kept."""
        self._timer.stop()
        self._wanted = ()
        if self._run is not None:
            self._run.detach()
            self._run = None

    def _start(self) -> None:
        layer, wanted, config = self._reader.layer(), self._wanted, self._config
        if layer is None or config is None or wanted[0] != self._reader.key():
            return
        try:
            volume, sample = self._volumes(layer)
        except GeoSRError:
            return  # reported by the preview of the threshold
        if math.prod(volume.shape) > MAX_VOXELS:
            return
        self._run = BackgroundTask(
            lambda should_stop: local_pores_steps(
                volume, config, sample, should_stop=should_stop
            ),
            owner=self,
            on_result=lambda pores: self._on_found(wanted, pores),
            on_error=lambda _error: None,  # reported by the measurement
        )

    def _volumes(self, layer: Image) -> tuple[Volume, Volume | None]:
        sample = sample_volume(self._reader.mask(), layer, self._viewer)
        return volume_from_layer(layer, self._viewer), sample

    def _on_found(self, key: Key, pores: AnyArray) -> None:
        layer, config = self._reader.layer(), self._config
        if key != self._wanted or layer is None or config is None:
            return
        self._found, self._run = (key, pores), None
        self.show(layer, self._threshold, config)
