"""Compare a result with its scan, by a button of the Restore dock."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QWidget

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    geometry,
    layer_metadata,
    place_over,
    volume_from_layer,
)
from napari_geosr.operations.restore.consistency import (
    NOTHING_FOUND,
    ConsistencyCheck,
    consistency_steps,
)

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

#: Contrast limits of the residual, in standard deviations of the noise.
_LIMIT = 4.0
#: Diameter of the marks of suspicious regions, in voxels of the scan.
_MARK = 9


class CheckButton(QPushButton):
    """Adds the residual of a result, and marks where noise does not explain it.

    Signals
    -------
    checked_result : str, bool
        What was found of which result, in words, and whether nothing is beyond the
        check's limits.
    failed : object
        The error that kept it from being found.
    """

    checked_result = Signal(str, bool)
    failed = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__("Check consistency with the scan", parent)
        self.setToolTip(
            "Simulate the scan from the result and show the residual as a layer. "
            "Regions that noise does not explain are marked (Alt+Shift+C)."
        )
        self.setAccessibleName("Check consistency with the scan")
        self.setShortcut("Alt+Shift+C")
        self._viewer = viewer
        self._pair: tuple[weakref.ref[Image], weakref.ref[Image]] | None = None
        self._run: BackgroundTask | None = None
        self.clicked.connect(self.check)
        self.setVisible(False)

    def set_pair(self, source: Image | None, result: Image | None) -> None:
        """Offer to compare these two; with None, nothing."""
        if source is None or result is None:
            self._pair = None
        else:
            self._pair = weakref.ref(source), weakref.ref(result)
        self.setVisible(self._pair is not None)

    def check(self) -> None:
        """Compare in a worker, one at a time."""
        if self._pair is None or self._run is not None:
            return
        source, result = (reference() for reference in self._pair)
        if source is None or result is None:
            self.set_pair(None, None)
            return
        position = result.metadata.get(METADATA, {}).get("position")
        try:
            scan = volume_from_layer(source, self._viewer, position)
            restored = volume_from_layer(result, self._viewer)
        except GeoSRError as error:
            self.failed.emit(error)
            return
        self.setEnabled(False)
        self._run = BackgroundTask(
            lambda stop: consistency_steps(scan, restored, should_stop=stop),
            owner=self,
            # Those compared now: another pair may be set until they are.
            on_result=partial(self._on_checked, source, restored.name),
            on_error=self._on_error,
            on_finished=self._on_finished,
            description=f"Checking {result.name}",
        )

    def _on_checked(self, source: Image, name: str, checked: ConsistencyCheck) -> None:
        limit = _LIMIT * (checked.figures.noise or checked.figures.residual_rms) or 1.0
        active = self._viewer.layers.selection.active
        layer = add_image_result(
            self._viewer,
            checked.residual,
            source,
            colormap="PiYG",
            contrast_limits=(-limit, limit),
            gamma=1.0,
        )
        if checked.figures.places:
            self._mark(checked, source)
        if active in self._viewer.layers:
            self._viewer.layers.selection.active = active
        layer.refresh()
        found = checked.figures
        words = (
            f"Residual {found.residual_rms:.3g} (rms; noise alone: "
            f"{found.noise_rms:.3g}), {100 * found.beyond_3_sigma:.2g} % beyond 3 "
            "standard deviations (noise alone: 0.27 %)."
        )
        if found.slope is not None:
            words += f" The scan shows {found.slope:.2f} of its contrast (truth: 1)."
        said = " ".join([*(checked.sentences or (NOTHING_FOUND,)), words])
        self.checked_result.emit(f"{name}: {said}", found.is_consistent)

    def _mark(self, checked: ConsistencyCheck, source: Image) -> None:
        volume, places = checked.residual, checked.figures.places
        ndim = len(volume.shape)
        self._viewer.add_points(
            np.array([place.index[-ndim:] for place in places], float),
            **geometry(volume),
            **place_over(source),
            name=f"{volume.name}: suspicious regions",
            size=_MARK,
            symbol="disc",
            face_color="transparent",
            border_color="orange",
            border_width=0.15,
            features={
                "strength": [place.strength for place in places],
                "voxels": [place.voxels for place in places],
                "result_is": [place.result_is for place in places],
            },
            metadata=layer_metadata(volume),
        )

    def _on_error(self, error: Exception) -> None:
        if not isinstance(error, Cancelled):
            self.failed.emit(error)

    def _on_finished(self) -> None:
        self._run = None  # it holds both volumes
        self.setEnabled(True)
