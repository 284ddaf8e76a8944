"""The *Compare* dock: images side by side in physical coordinates, with metrics."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_geosr.core.errors import Cancelled, ConfigError, GeoSRError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.units import convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.gui.compare.side_by_side import SideBySide
from napari_geosr.gui.compare.slices import SliceMontage
from napari_geosr.gui.compare.widgets import DONE, IDLE, READY, CompareWidgets
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.option_words import fields_of_options
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.layers import (
    add_image_result,
    alignment_with,
    helper_metadata,
    volume_beside,
    volume_from_layer,
)
from napari_geosr.gui.layers.camera import centre_on
from napari_geosr.gui.layers.saving import confirm_overwrite
from napari_geosr.operations.compare import (
    CompareConfig,
    QualityReport,
    compare_steps,
    fsc_columns,
)
from napari_geosr.operations.compare import files as report_files

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer
    from napari.utils.events import Event

#: Name of the layer that shows the difference; ``{}`` is the title of the compared
#: image.
_DIFFERENCE_NAME = "difference ({}, in units of the noise)"
#: Contrast limits of the difference on either side of zero, in units of the noise.
_DIFFERENCE_RANGE = 5.0


@dataclass(frozen=True)
class ComparisonRequest:
    """Inputs and settings of a comparison at the time *Compare* was pressed."""

    volumes: dict[str, Volume]
    reference: str | None
    mask: Volume | None
    halves: tuple[Volume, Volume] | None
    config: CompareConfig


class CompareDock(CompareWidgets):
    """Compares two to six images of one object, with any voxel sizes.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.
    """

    settings_name = "compare"

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__(napari_viewer)
        self._request: ComparisonRequest | None = None
        self._report: QualityReport | None = None
        self._layers: dict[str, weakref.ref[Layer]] = {}
        #: Layers of the report, until a setting changes.
        self._done: list[weakref.ref[Image]] | None = None
        self._difference: weakref.ref[Layer] | None = None
        self._progress = OperationProgress(
            self.bar.state.setText,
            show_bar=self.bar.show_progress,
            show_warning=self._show_warnings,
            shows_time_left=True,
        )
        self._exporting = Activity(self)
        self._exporting.failed.connect(self.show_failure)
        self._exporting.idle.connect(self._on_export_ended)
        self._side_by_side = SideBySide(self._viewer)
        self._montage = SliceMontage(self._viewer, self)
        self._connect()
        config, error = self.recall(CompareConfig)
        if not isinstance(config.threshold, str):
            # A manual threshold is not valid for other images.
            config = config.model_copy(update={"threshold": "otsu"})
        for form in (self.common, self.rare):
            form.set_values(config.model_dump())
        if error is not None:
            self.message.show_error(error)
        self._on_chosen()

    def _connect(self) -> None:
        self.images.chosen.connect(self._on_chosen)
        self.reference.layerChanged.connect(self._on_chosen)
        self.rare.changed.connect(self._on_settings)
        for changed in (
            self.common.changed,
            self.rare.changed,
            self.sample.layerChanged,
            self.first_half.layerChanged,
            self.second_half.layerChanged,
        ):
            changed.connect(self._on_outdated)
        self.compare_button.clicked.connect(self.compare)
        self.cancel_button.clicked.connect(self.cancel)
        self.difference_button.toggled.connect(self._on_difference)
        self.grid_button.toggled.connect(self._on_grid)
        self.closed.connect(lambda: self.grid_button.setChecked(False))
        self.slices.currentIndexChanged.connect(self._on_slices)
        self._montage.ready.connect(self._on_montage)
        self._montage.failed.connect(self._on_no_montage)
        for toggle in self.view.toggles():
            toggle.toggled.connect(self._on_view)
        grid = self._viewer.canvas.grid
        self.connections.connect(grid.events.enabled, self._on_grid_of_viewer)
        self.export_button.clicked.connect(self.export)
        self.pores.positionChosen.connect(self._on_position)
        self.compared.currentIndexChanged.connect(self._on_compared)
        self.view.failed.connect(self.show_failure)
        self.connections.connect(self._viewer.layers.events.removed, self._on_removed)

    # Choices

    def compared_layers(self) -> list[Image]:
        """Return the layers to compare: the checked ones and any ground truth.

        The base comes first: the ground truth, or the lowest checked layer in the list.
        """
        chosen = list(reversed(self.images.layers()))
        truth = self.reference.layer()
        if truth is not None:
            chosen = [truth, *(layer for layer in chosen if layer is not truth)]
        return chosen

    def config(self) -> CompareConfig:
        """Return the current settings.

        Raises
        ------
        ConfigError
            If a setting is invalid.
        """
        values = self.common.values() | self.rare.values()
        if not values["graph"]:  # the distance applies only to graphs
            values["graph_distance"] = None
        return CompareConfig.create(**values)

    def _on_settings(self) -> None:
        source = self.rare.values()["fsc"]
        self.halves.setVisible(source == "halves")
        names = [repr(layer.name) for layer in self.compared_layers()[:2]]
        self.pair_note.setText(f"Computed from {' and '.join(names)}.")
        self.pair_note.setVisible(source == "pair" and len(names) == 2)

    def _on_outdated(self) -> None:
        """Propose another comparison, because a setting was changed."""
        self._done = None
        self._show_next()

    def _show_next(self) -> None:
        layers = self.compared_layers()
        if len(layers) < 2:
            self.bar.set_next(IDLE, self.compare_button)
        elif self._done == list(map(weakref.ref, layers)):
            self.bar.set_next(DONE, self.export_button)
        else:
            self.bar.set_next(READY, self.compare_button)

    def choose_images(self, *layers: Image) -> None:
        """Check only these images in the list, at the request of another dock."""
        self.images.choose(*layers)
        self.tabs.setCurrentIndex(0)

    def _on_chosen(self) -> None:
        self.notes.set_layers(self.compared_layers())
        self._on_settings()
        self.show_busy(self.activity.busy)

    def show_busy(self, what: str) -> None:
        """Show that `what` is running, and disable controls that cannot be used now."""
        running = bool(what)
        n = len(self.compared_layers())
        self.compare_button.setEnabled(not running and n >= 2)
        self.cancel_button.setEnabled(running)
        self.images.setEnabled(not running)
        for widget in (self.reference, self.sample, self.common, self.advanced):
            widget.setEnabled(not running)
        self._show_next()
        self.bar.state.setText("Comparing the images…" if running else "")
        if not running:
            self.bar.progress.setVisible(False)

    # The comparison

    def compare(self) -> None:
        """Compare the chosen images in a worker."""
        if self.activity.busy:
            return
        self.clear_errors()
        layers = self.compared_layers()
        try:
            config = self.config()
            request = self._make_request(layers, config)
            self.remember(config)
        except GeoSRError as error:
            self.show_failure(error)
            return
        self._request = request
        self._layers = {layer.name: weakref.ref(layer) for layer in layers}
        self._progress.restart()
        self.bar.show_progress(0, 0)
        self.activity.start(
            "compare",
            lambda stop: compare_steps(
                request.volumes,
                request.config,
                reference=request.reference,
                mask=request.mask,
                halves=request.halves,
                should_stop=stop,
            ),
            self._on_compared_all,
            on_step=self._progress.show_step,
            on_error=self._on_error,
            description="Comparing " + ", ".join(request.volumes),
        )

    def cancel(self) -> None:
        """Stop the comparison at its next step."""
        if self.activity.busy:
            self.activity.cancel()
            self.bar.state.setText("Stopping…")

    def _make_request(
        self, layers: list[Image], config: CompareConfig
    ) -> ComparisonRequest:
        base = layers[0]
        volumes = {la.name: volume_beside(la, base, self._viewer) for la in layers}
        truth, mask = self.reference.layer(), self.sample.layer()
        halves = None
        if config.fsc == "halves":
            first, second = self.first_half.layer(), self.second_half.layer()
            if first is None or second is None or first is second:
                raise ConfigError("Choose two different halves under Advanced.")
            halves = (
                volume_from_layer(first, self._viewer),
                volume_beside(second, first, self._viewer),
            )
        return ComparisonRequest(
            volumes,
            None if truth is None else truth.name,
            None if mask is None else volume_beside(mask, base, self._viewer),
            halves,
            config,
        )

    def _show_warnings(self, _latest: str) -> None:
        text = self._in_fields(self._progress.warnings)
        self.message.show_message(text, "warning")

    def _in_fields(self, sentences: Sequence[str]) -> str:
        """Return the sentences with names of dock fields in place of option names."""
        return fields_of_options(" ".join(sentences), (self.common, self.rare))[0]

    def settings_forms(self) -> tuple[ConfigForm, ...]:
        """Return the forms with the settings of a comparison, from top to bottom."""
        return self.common, self.rare

    def show_in_fields(self, error: Exception) -> list[QWidget]:
        """Show an error below the fields that it concerns, and open their tab."""
        fields = super().show_in_fields(error)
        if fields:
            self.tabs.setCurrentIndex(0)
        return fields

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            self.message.show_message("Cancelled. Nothing was changed.")
        else:
            self.show_failure(error)

    def _on_compared_all(self, report: QualityReport) -> None:
        self.difference_button.setChecked(False)
        self._report = report
        self._done = list(map(weakref.ref, self.compared_layers()))
        self.figures.set_report(report)
        titles, rows = fsc_columns(report.fourier)
        self.resolution.set_columns(titles, rows, has_names=True)
        self.resolution.setVisible(bool(rows))
        self.remarks.setText(self._in_fields(report.remarks))
        self.remarks.setVisible(bool(report.remarks))
        self._offer_compared(report)
        self.tabs.setTabEnabled(1, True)
        self.tabs.setCurrentIndex(1)
        self.tabs.setTabEnabled(2, bool(report.pores))
        self.difference_button.setEnabled(bool(report.differences))
        self._offer_slices(report)
        self._on_compared()
        if self.grid_button.isChecked():
            self._on_grid(True)
        if report.warnings:
            self.message.show_message(self._in_fields(report.warnings), "warning")

    def _offer_compared(self, report: QualityReport) -> None:
        """Offer a choice if several images were compared with the base."""
        with QSignalBlocker(self.compared):
            self.compared.clear()
            for key in report.compared:
                self.compared.addItem(report.titles[key], key)
            self.compared.setCurrentIndex(len(report.compared) - 1)
        self._choices.setRowVisible(self.compared, len(report.compared) > 1)

    def _offer_slices(self, report: QualityReport) -> None:
        """Offer several slices only for volumes."""
        is_volume = report.frame.axes == "ZYX"
        if not is_volume:
            self.slices.setCurrentIndex(0)
        self.slices.setEnabled(is_volume)

    # Results in the viewer

    def _layer(self, key: str) -> Layer | None:
        reference = self._layers.get(key)
        layer = None if reference is None else reference()
        return layer if layer is not None and layer in self._viewer.layers else None

    def _on_compared(self, _index: int = 0) -> None:
        """Use the base and the selected image for the views and the list of pores."""
        if self._report is None:
            return
        key = str(self.compared.currentData())
        self.figures.show_volume(key)
        self.pores.set_volume(self._report, key)
        base, other = self._layer(self._report.base), self._layer(key)
        if base is None or other is None:
            self.view.clear()
        elif self.view.pair() != (base, other):
            self.view.set_pair(base, other)
        if self.difference_button.isChecked():
            self._on_difference(True)

    def _on_difference(self, checked: bool) -> None:
        earlier = None if self._difference is None else self._difference()
        self._difference = None
        if earlier is not None and earlier in self._viewer.layers:
            self._viewer.layers.remove(earlier)
        if not checked or self._report is None:
            return
        key = str(self.compared.currentData())
        difference = self._report.differences.get(key)
        if difference is None:
            return
        base = self._layer(self._report.base)
        active = self._viewer.layers.selection.active
        layer = add_image_result(
            self._viewer,
            difference,
            None,
            name=_DIFFERENCE_NAME.format(self._report.titles[key]),
            colormap="twilight_shifted",
            contrast_limits=(-_DIFFERENCE_RANGE, _DIFFERENCE_RANGE),
            metadata=helper_metadata("difference"),
            **({} if base is None else alignment_with(base)),
        )
        self._difference = weakref.ref(layer)
        self._viewer.layers.selection.active = active

    def _on_grid(self, checked: bool) -> None:
        """Show each compared image, or a row of its slices, in a separate grid cell."""
        self._montage.end()
        if not checked:
            self._side_by_side.end()
            return
        for toggle in self.view.toggles():  # toggles also change visibility
            toggle.setChecked(False)
        report, n = self._report, int(self.slices.currentData())
        keys = self._layers if report is None else report.volumes
        found = {key: la for key in keys if (la := self._layer(key)) is not None}
        if n == 1 or report is None or not found:
            self._side_by_side.show(list(found.values()))
            return
        self._montage.show(report.volumes, found, report.base, n)

    def _on_slices(self, _index: int = 0) -> None:
        if self.grid_button.isChecked():
            self._on_grid(True)

    def _on_montage(self) -> None:
        self._side_by_side.show(self._montage.layers(), stacked=True)
        self._montage.fit()

    def _on_no_montage(self, error: Exception) -> None:
        self.grid_button.setChecked(False)
        self.show_failure(error)

    def _on_view(self, checked: bool) -> None:
        if checked:
            self.grid_button.setChecked(False)

    def _on_grid_of_viewer(self, _event: Event | None = None) -> None:
        """Uncheck the dock's grid button if napari's grid was switched off."""
        if not self._viewer.canvas.grid.enabled:
            self.grid_button.setChecked(False)

    def _on_position(self, key: str, position: tuple[float, ...]) -> None:
        """Move the sliders and the camera to a pore."""
        assert self._report is not None
        for name in (key, self._report.base):
            layer = self._layer(name)
            if layer is not None:
                break
        else:
            self.message.show_message("The compared images were removed.")
            return
        volume = volume_from_layer(layer, self._viewer)
        factor = convert_length(1.0, self._report.frame.unit, volume.unit)
        place = np.asarray(position) * factor
        index = (place - volume.origin) / volume.voxel_size
        centre_on(self._viewer, layer, tuple(float(x) for x in index))

    def _on_removed(self, event: Event) -> None:
        """Close the views that show a removed layer."""
        gone = event.value
        if self._difference is not None and self._difference() is gone:
            self._difference = None
            self.difference_button.setChecked(False)
        if self._montage.has(gone):
            self.grid_button.setChecked(False)
        if any(reference() is gone for reference in self._layers.values()):
            self.view.clear()

    # Export

    def export(self) -> None:
        """Ask for a folder, then write the report in a worker."""
        report, request = self._report, self._request
        if report is None or request is None:
            return
        chosen = QFileDialog.getExistingDirectory(self, "Folder for the report")
        if not chosen:
            return
        files = report_files.plan(
            Path(chosen), list(request.volumes), report.base, request.config
        )
        existing = [path.name for path in files.values() if path.exists()]
        if existing and not confirm_overwrite(self, Path(chosen), existing):
            return

        def steps(_stop: ShouldStop) -> Generator[Step, None, Path]:
            yield StageStarted(message="Writing the report")
            report_files.write(
                files,
                request.volumes,
                report,
                request.config,
                companions=report_files.companions_by_name(
                    request.mask, request.halves
                ),
                overwrite=True,
            )
            return files["html"]

        self.export_button.setEnabled(False)
        self._exporting.start("export", steps, self._on_exported)

    def _on_exported(self, page: Path) -> None:
        self.message.show_message(f"The report is in {page}.", "ok")

    def _on_export_ended(self) -> None:
        self.export_button.setEnabled(True)
