"""The *Measure porosity* dock."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, QTimer
from qtpy.QtWidgets import (
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.steps import StageStarted, Step, Warned
from napari_geosr.gui._contents import contents_key, is_unfinished
from napari_geosr.gui._export import export_dialog
from napari_geosr.gui._histogram import PlotColors
from napari_geosr.gui._layers import chosen_position, unwrapped, volume_from_layer
from napari_geosr.gui._lifetime import Connections
from napari_geosr.gui._measuring import Measured, levels_steps, measured_steps
from napari_geosr.gui._notify import MessageRow
from napari_geosr.gui._pore_layers import made_before, pick_with
from napari_geosr.gui._pores_shown import PoresShown
from napari_geosr.gui._porosity_result import PorosityResult
from napari_geosr.gui._porosity_settings import PorositySettings
from napari_geosr.gui._remembered import recall, remember
from napari_geosr.gui._threshold_preview import ThresholdPreview
from napari_geosr.gui._worker import Run
from napari_geosr.operations.mask import align_mask
from napari_geosr.operations.measure import GreyLevels, MeasureConfig

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

    from napari_geosr.core.volume import Volume

_NAME = "porosity"
_LEAST_HEIGHT = 330
#: Where and in which voxels grey values were counted.
_Key = tuple[Any, ...]
#: So long after the last change on screen, grey values are compared with those known;
#: longer where a result is being filled.
_LOOK_MS, _LOOK_MS_UNFINISHED = 200, 2000


class _Runs:
    """The dock's workers; plain Python, so that it outlives the widget."""

    def __init__(self) -> None:
        self.levels: Run | None = None
        self.measuring: Run | None = None
        self.exporting: Run | None = None

    def detach(self, *_: object) -> None:
        """End every worker and let none call back."""
        for run in (self.levels, self.measuring, self.exporting):
            if run is not None:
                run.detach()


class PorosityDock(QWidget):
    """Threshold, label and measure pores; show them in table, histogram and picture."""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        napari_viewer = unwrapped(napari_viewer)
        self._viewer = napari_viewer
        self._runs = _Runs()
        self._levels: weakref.WeakKeyDictionary[Layer, tuple[_Key, GreyLevels]] = (
            weakref.WeakKeyDictionary()
        )
        self._shown: _Key = ()
        self._measured_at: _Key = ()
        self._followed: weakref.WeakSet[Layer] = weakref.WeakSet()
        self._looking = QTimer(self)
        self._looking.setSingleShot(True)
        self._looking.timeout.connect(self._look)
        self._measured: Measured | None = None
        self._sources: dict[str, weakref.ref[Layer]] = {}
        self._removed = ""
        self._complains = False
        self.settings = PorositySettings(napari_viewer)
        self.result = PorosityResult()
        self.pores = PoresShown(napari_viewer, self.result, self)
        self.preview = ThresholdPreview(napari_viewer, self)
        self.message = MessageRow()
        self._make_buttons()
        self._lay_out()
        self._connect()
        self._recall()
        self._on_theme()
        self._on_source()

    def _make_buttons(self) -> None:
        self.measure_button = QPushButton("&Measure")
        self.measure_button.setToolTip(
            "Find the pores of the whole volume, count and measure them."
        )
        self.measure_button.setAccessibleName("Measure")
        self.cancel_button = QPushButton("Ca&ncel")
        self.cancel_button.setToolTip("Stop measuring; stops within a second.")
        self.cancel_button.setAccessibleName("Cancel")
        self.cancel_button.setVisible(False)
        self.progress = QProgressBar()
        self.progress.setAccessibleName("Progress")
        self.progress.setToolTip("How much of the volume is measured.")
        self.progress.setVisible(False)

    def _lay_out(self) -> None:
        self.scroll = QScrollArea()
        self.scroll.setWidgetResizable(True)
        self.scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        self.scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.scroll.setAccessibleName("Settings")
        self.scroll.setToolTip("Settings of the measurement.")
        self.scroll.setWidget(self.settings)
        self.tabs = QTabWidget()
        self.tabs.addTab(self.scroll, "Settin&gs")
        self.tabs.addTab(self.result, "Resul&t")
        self.tabs.setTabEnabled(1, False)
        self.tabs.setTabToolTip(0, "Image, threshold, sample and smallest pore.")
        self.tabs.setTabToolTip(1, "Figures, histogram and table of the pores.")
        self.tabs.setAccessibleName("Settings and result")
        self.tabs.setToolTip("Settings and result of the measurement.")
        for button in self.tabs.tabBar().findChildren(QToolButton):
            button.setToolTip("Scroll the tabs.")
        actions = QHBoxLayout()
        actions.addWidget(self.measure_button, 1)
        actions.addWidget(self.cancel_button)
        actions.addWidget(self.progress, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.message)
        layout.addLayout(actions)

    def minimumSizeHint(self) -> QSize:
        """Ask for some rows of the table, also below another dock."""
        hint = super().minimumSizeHint()
        return hint.expandedTo(QSize(0, _LEAST_HEIGHT))

    def _connect(self) -> None:
        settings, result = self.settings, self.result
        settings.sourceChanged.connect(self._on_source)
        settings.thresholdChanged.connect(self._update_preview)
        settings.voxel_size.voxelSizeSet.connect(self._on_voxel_size)
        self.tabs.currentChanged.connect(lambda _: self._update_preview())
        self.measure_button.clicked.connect(self.measure)
        self.cancel_button.clicked.connect(self.cancel)
        self.pores.picked.connect(lambda: self.tabs.setCurrentIndex(1))
        result.exportRequested.connect(self.export)
        self._connections = Connections(self)
        events = self._viewer.layers.events
        self._connections.connect(events.removed, self._on_removed)
        self._connections.connect(self._viewer.events.theme, self._on_theme)
        self._connections.connect(self._viewer.dims.events.ndisplay, self._on_ndisplay)
        self._connections.connect(self._viewer.dims.events.point, self._on_moved)
        self._connections.add_to(
            self._viewer.mouse_drag_callbacks, pick_with(weakref.ref(self.pores))
        )

    def _recall(self) -> None:
        try:
            config = recall(_NAME, MeasureConfig)
        except GeoSRError as error:
            self.message.show_error(error)
            return
        if not isinstance(config.threshold, str):
            # A grey value of another image means nothing in this one.
            config = config.model_copy(update={"threshold": "otsu"})
        self.settings.set_config(config)

    # -- the image and its grey values ------------------------------------------

    def _on_source(self) -> None:
        """Another image: ask for its voxel size if unknown, read its grey values."""
        layer = self.settings.image.layer()
        self.preview.hide()
        self._follow(layer)
        volume = self._volume(layer)
        self.settings.voxel_size.set_layer(None if volume is None else layer)
        self.measure_button.setEnabled(volume is not None and not self.is_running)
        self._read_levels(layer, volume)

    def _follow(self, layer: Layer | None) -> None:
        """Hear when `layer` is drawn anew."""
        if layer is not None and layer not in self._followed:
            self._followed.add(layer)
            self._connections.connect(layer.events.set_data, self._on_drawn)

    def _on_drawn(self, event: Any) -> None:
        """Voxels may have changed: look again when that is over."""
        if event.source is self.settings.image.layer():
            self._on_moved()

    def _on_moved(self, event: Any = None) -> None:
        """Another time point or channel may be on screen: its threshold is another."""
        layer = self.settings.image.layer()
        if layer is not None:
            wait = _LOOK_MS_UNFINISHED if is_unfinished(layer) else _LOOK_MS
            self._looking.start(wait)

    def _look(self) -> None:
        """Read the grey values again if those shown are not of what is there now."""
        layer = self.settings.image.layer()
        if layer is None or self.is_running or not self._shown:
            return
        if self._key(layer) != self._shown:
            self.preview.pause()
            self._read_levels(layer, self._volume(layer))

    def _key(self, layer: Layer) -> _Key:
        position = chosen_position(layer, self._viewer)
        return contents_key(layer), tuple(position.items())

    def _read_levels(self, layer: Layer | None, volume: Volume | None) -> None:
        if self._runs.levels is not None:
            self._runs.levels.detach()
            self._runs.levels = None
        self.settings.set_volume(volume)
        self._shown = ()
        if layer is None or volume is None:
            return
        key = self._shown = self._key(layer)
        known = self._levels.get(layer)
        if known is not None and known[0] == key:
            self._show_levels(known[1])
            return
        reference = weakref.ref(layer)
        self._runs.levels = Run(
            lambda should_stop: levels_steps(volume, should_stop),
            owner=self,
            on_result=lambda levels: self._on_levels(reference, key, levels),
            on_error=self._on_levels_error,
            on_finished=self._on_levels_finished,
        )

    def _volume(self, layer: Layer | None) -> Volume | None:
        if layer is None:
            self.message.clear()
            return None
        try:
            volume = volume_from_layer(layer, self._viewer)
        except GeoSRError as error:
            self.message.show_error(error)
            return None
        self.message.clear()
        return volume

    def _on_levels(
        self, reference: weakref.ref[Layer], key: _Key, levels: GreyLevels
    ) -> None:
        layer = reference()
        if layer is self.settings.image.layer() and layer is not None:
            self._levels[layer] = (key, levels)
            self._show_levels(levels)

    def _show_levels(self, levels: GreyLevels) -> None:
        try:
            self.settings.set_levels(levels)
        except GeoSRError as error:
            self.message.show_error(error)

    def _on_levels_error(self, error: Exception) -> None:
        self.settings.histogram.empty_text = "No grey values to show."
        self.settings.histogram.update()
        self.message.show_error(error)

    def _on_levels_finished(self) -> None:
        self._runs.levels = None  # it holds the volume

    def _on_voxel_size(self, _layer: object) -> None:
        layer = self.settings.image.layer()
        self.settings.set_volume(self._volume(layer))
        known = None if layer is None else self._levels.get(layer)
        if known is not None:
            self._show_levels(known[1])

    def _on_theme(self, event: Any = None) -> None:
        from napari.utils.theme import get_theme

        theme = get_theme(self._viewer.theme)
        colors = PlotColors(
            text=theme.text.as_hex(),
            bars=theme.secondary.as_hex(),
            marked=theme.current.as_hex(),
        )
        self.settings.histogram.set_colors(colors)
        self.result.histogram.set_colors(colors)

    # -- the preview ------------------------------------------------------------

    def _update_preview(self) -> None:
        settings = self.settings
        layer, threshold = settings.image.layer(), settings.threshold
        if layer is None or threshold is None or not settings.previews:
            self.preview.hide()
            return
        in_3d = self._viewer.dims.ndisplay == 3
        if self.is_running or in_3d or self.tabs.currentIndex() != 0:
            self.preview.pause()
            return
        try:
            config, sample = settings.config(), self._preview_sample(layer)
        except GeoSRError as error:
            self.preview.pause()
            self.message.show_error(error)
            self._complains = True
            return
        if self._complains:
            self.message.clear()
            self._complains = False
        self.preview.show(layer, threshold, config, sample)

    def _preview_sample(self, layer: Image) -> Any:
        """The mask on the image's voxels, looked up by position as for measuring."""
        mask = self.settings.sample.layer()
        if mask is None:
            return None
        return align_mask(
            volume_from_layer(mask, self._viewer),
            volume_from_layer(layer, self._viewer),
        )

    def _on_ndisplay(self, event: Any = None) -> None:
        self._update_preview()

    # -- measuring --------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether a measurement is running."""
        run = self._runs.measuring
        return run is not None and run.is_running

    def measure(self) -> None:
        """Measure the chosen image, and the one to compare it with."""
        if self.is_running:
            return
        layer, other = self.settings.image.layer(), self.settings.other.layer()
        mask_layer = self.settings.sample.layer()
        if layer is None:
            return
        try:
            config = self.settings.config()
            volumes = {
                chosen.name: volume_from_layer(chosen, self._viewer)
                for chosen in (layer, other)
                if chosen is not None
            }
            mask = None
            if mask_layer is not None:
                mask = volume_from_layer(mask_layer, self._viewer)
            remember(_NAME, config)
        except GeoSRError as error:
            self.message.show_error(error)
            return
        self.message.clear()
        self._removed = ""
        self._measured_at = id(layer), self._key(layer)
        self._sources = {
            chosen.name: weakref.ref(chosen)
            for chosen in (layer, other)
            if chosen is not None
        }
        earlier = {name: made_before(self._viewer, name) for name in volumes}
        self._runs.measuring = Run(
            lambda should_stop: measured_steps(
                volumes, config, mask, earlier, should_stop
            ),
            owner=self,
            on_step=self._on_step,
            on_result=self._on_measured,
            on_error=self._on_error,
            on_finished=self._on_finished,
            description="Measuring pores",
        )
        self._show_running(True)

    def cancel(self) -> None:
        """Ask the measurement to stop."""
        if self._runs.measuring is not None:
            self._runs.measuring.cancel()
            self.progress.setFormat("Stopping…")

    def _show_running(self, running: bool) -> None:
        self.measure_button.setEnabled(
            not running and self.settings.image.layer() is not None
        )
        self.settings.setEnabled(not running)
        self.cancel_button.setVisible(running)
        self.progress.setVisible(running)
        if running:
            self.progress.setRange(0, 0)
            self.progress.setFormat("%p %")
            self.preview.pause()

    def _on_step(self, step: Step) -> None:
        if isinstance(step, Warned):
            self.message.show_message(step.message, "warning")
        elif isinstance(step, StageStarted):
            self.progress.setToolTip(step.message)
        elif step.total:
            self.progress.setRange(0, step.total)
            self.progress.setValue(step.done)

    def _on_finished(self) -> None:
        self._runs.measuring = None
        self._show_running(False)
        self._update_preview()
        self._look()

    def _on_error(self, error: Exception) -> None:
        if not isinstance(error, Cancelled):
            self.message.show_error(error)
        elif self._removed:
            self.message.show_message(
                f"Layer {self._removed!r} was removed, so measuring it was stopped."
            )
        elif not self.message.text:
            self.message.show_message("Cancelled; nothing was changed.")

    def _on_measured(self, measured: Measured) -> None:
        """Show what was found. The layers may have gone meanwhile."""
        self._measured = measured.without_labels()
        self._show_used(next(iter(measured.reports.values())).threshold)
        self.result.set_reports(self._measured.reports)
        self.tabs.setTabEnabled(1, True)
        self.tabs.setCurrentIndex(1)
        warnings = [w for r in measured.reports.values() for w in r.warnings]
        if warnings:
            self.message.show_message(" ".join(warnings), "warning")
        elif measured.kept:
            self.message.show_message(
                f"Labels changed by hand are kept ({', '.join(measured.kept)}); the "
                "new ones have a layer of their own."
            )
        self.pores.show(measured, self._sources)

    def _show_used(self, threshold: float) -> None:
        """Draw the threshold that was measured with: exact, and that of the sample."""
        layer = self.settings.image.layer()
        if layer is None or self.settings.threshold is None:
            return
        if self._measured_at == (id(layer), self._key(layer)):
            self.settings.show_used(threshold)

    def _on_removed(self, event: Any) -> None:
        """A layer went: nobody waits for its figures any more."""
        running = [reference() for reference in self._sources.values()]
        if self.is_running and event.value in running:
            self._removed = event.value.name
            self.cancel()

    # -- export -----------------------------------------------------------------

    def export(self) -> None:
        """Ask where to, then write CSV, JSON, PNG and HTML in a worker."""
        measured = self._measured
        if measured is None:
            return
        steps = export_dialog(self, measured)
        if steps is None:
            return
        self.result.export.setEnabled(False)
        self._runs.exporting = Run(
            steps,
            owner=self,
            on_result=self._on_exported,
            on_error=self.message.show_error,
            on_finished=lambda: self.result.export.setEnabled(True),
        )

    def _on_exported(self, folder: Any) -> None:
        self.message.show_message(f"The report is in {folder}.", "ok")
