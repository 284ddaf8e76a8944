"""The sample to which the preview of the pores is confined."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, QTimer

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import volume_from_layer
from napari_geosr.gui.porosity.choices import finds_mask
from napari_geosr.gui.porosity.drawn_sample import sample_volume
from napari_geosr.operations.measure.automatic_sample import (
    MAX_VOXELS,
    AutomaticSample,
    automatic_sample_steps,
)
from napari_geosr.operations.measure.mask import align_mask

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from napari_geosr.core.volume import Volume
    from napari_geosr.gui.porosity.preview.levels_reader import Key, LevelsReader
    from napari_geosr.gui.porosity.settings import PorositySettings
    from napari_geosr.operations.measure.grey_levels import GreyLevels

#: Delay from the last change of a setting until the mask is updated, in milliseconds.
_DELAY_MS = 250


class SamplePreview(QObject):
    """Finds the mask (automatic, cortex, marrow) in a worker; aligns labels.

    While the mask is being found, and for volumes of more than `MAX_VOXELS` voxels, the
    preview shows the pores of the whole volume.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        settings: PorositySettings,
        reader: LevelsReader,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._settings, self._reader = viewer, settings, reader
        self._whole: GreyLevels | None = None
        self._found: tuple[Key, AutomaticSample] | None = None
        self._wanted: Key = ()
        self._run: BackgroundTask | None = None
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self._start)

    def set_levels(self, levels: GreyLevels) -> None:
        """Set the grey values of the whole volume."""
        self._whole = levels

    def of(self, layer: Image) -> object:
        """Return the mask on the image's voxels; None for the whole image.

        Raises
        ------
        GeoSRError
            If the labels or outlines do not fit the image.
        """
        self._refresh(layer)
        mask = sample_volume(self._settings.sample.layer(), layer, self._viewer)
        if mask is not None:
            return align_mask(mask, volume_from_layer(layer, self._viewer))
        if self._found is None or not finds_mask(self._settings.sample):
            return None
        return self._found[1].mask  # of earlier settings, until the new mask is found

    def _refresh(self, layer: Image) -> None:
        """Find the mask, if the settings require a mask other than the one found."""
        wanted = self._key(layer)
        if wanted == self._wanted:
            return
        self._stop()
        self._wanted = wanted
        if wanted:
            self._timer.start()
        if self._found is not None and self._found[0][:2] != wanted[:2]:
            # the mask belongs to another image, or another kind of mask is needed
            self._found = None
            self._settings.set_levels_inside(None)

    def _key(self, layer: Image) -> Key:
        """Build a key from the settings of the mask; empty if no mask is needed."""
        settings = self._settings
        is_asked = finds_mask(settings.sample) or settings.proposal.is_wanted
        if not is_asked or self._whole is None:
            return ()
        config = settings.config()
        kind = config.sample_mask if finds_mask(settings.sample) else "auto"
        depends = (config.threshold, config.phase, config.mask_closing)
        return (self._reader.key(), kind, id(self._whole), *depends)

    def _start(self) -> None:
        layer, levels, key = self._reader.layer(), self._whole, self._wanted
        try:
            volume = None if layer is None else self._volume(layer)
            config = self._settings.config()
        except GeoSRError:
            return  # reported by the preview
        if layer is not None and volume is None:
            self._settings.proposal.decide(None)
        if volume is None or levels is None:
            return
        self._run = BackgroundTask(
            lambda should_stop: automatic_sample_steps(
                volume, levels, config, should_stop=should_stop
            ),
            owner=self,
            on_result=lambda found: self._on_found(key, found),
            on_error=lambda _error: None,  # reported by the measurement
        )

    def _volume(self, layer: Image) -> Volume | None:
        volume = volume_from_layer(layer, self._viewer)
        return volume if math.prod(volume.shape) <= MAX_VOXELS else None

    def _on_found(self, key: Key, found: AutomaticSample) -> None:
        if key == self._wanted:
            self._found = (key, found)
            self._settings.proposal.decide(found)
            if finds_mask(self._settings.sample):
                self._settings.set_levels_inside(found.levels)

    def _stop(self) -> None:
        self._timer.stop()
        if self._run is not None:
            self._run.detach()
            self._run = None
