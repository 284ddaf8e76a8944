"""Pore layers of the last measurement, synchronised with the table."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_geosr.gui.layers import alignment_with
from napari_geosr.gui.layers.camera import centre_on
from napari_geosr.gui.porosity import pore_layers

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels, Layer

    from napari_geosr.gui.porosity.measuring import PoreMeasurement
    from napari_geosr.gui.porosity.result import PorosityResult


class PoreDisplay(QObject):
    """Adds the pore layers and links them with the table.

    Signals
    -------
    picked
        The user clicked on a pore, and its row was selected.
    """

    picked = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, result: PorosityResult, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._result = result
        self._measured: PoreMeasurement | None = None
        self._chosen = 0  # label of the highlighted pore
        self._layers: dict[str, weakref.ref[Labels]] = {}
        #: Outlines of automatic sample masks.
        self._samples: dict[str, weakref.ref[Labels]] = {}
        self._sources: dict[str, weakref.ref[Layer]] = {}
        result.labelChosen.connect(self.go_to)
        result.reportChosen.connect(self._on_report)
        result.colourChosen.connect(self._on_colour)
        result.onlySelectedChanged.connect(self._on_only_selected)

    def show(
        self, measured: PoreMeasurement, sources: Mapping[str, weakref.ref[Layer]]
    ) -> None:
        """Add the measured labels over the layers in which they were found."""
        self._measured, self._sources = measured.without_labels(), dict(sources)
        self._layers.clear()
        self._chosen = 0
        first = next(iter(measured.reports))
        # Add the first one last, so that it lies on top and is the active layer.
        for key in reversed(measured.reports):
            of, earlier = sources.get(key), measured.into.get(key)
            source = None if of is None else of()
            layer = pore_layers.add_pores(
                self._viewer,
                measured.reports[key],
                measured.volumes[key],
                measured.record,
                place=None if source is None else alignment_with(source),
                table=measured.features[key],
                colour_by=self._result.colour_column,
                visible=key == first,
                into=None if earlier is None else earlier(),
                checksum=measured.checksums.get(key),
            )
            if layer is not None:
                self._layers[key] = weakref.ref(layer)
        self._show_samples(measured, first)
        self._on_only_selected(self._result.only_selected.isChecked())

    def _show_samples(self, measured: PoreMeasurement, first: str) -> None:
        """Outline the automatic sample masks."""
        active = self._viewer.layers.selection.active
        for key, report in measured.reports.items():
            of, earlier = self._sources.get(key), self._samples.get(key)
            source = None if of is None else of()
            layer = pore_layers.add_sample(
                self._viewer,
                report,
                measured.volumes[key],
                place=None if source is None else alignment_with(source),
                visible=key == first,
                into=None if earlier is None else earlier(),
            )
            if layer is not None:
                self._samples[key] = weakref.ref(layer)
        self._viewer.layers.selection.active = active

    def source(self) -> Layer | None:
        """The layer in which the listed pores were found, if it still exists."""
        found: Layer | None = self._in_viewer(self._sources)
        return found

    def is_of(self, layer: Layer) -> bool:
        """Whether the pores were measured in `layer`."""
        return any(source() is layer for source in self._sources.values())

    def set_features(self, name: str, features: object) -> None:
        """Give the pore layer of a report another table."""
        layer = self.layer(name)
        if layer is not None:
            layer.features = features

    def layer(self, name: str | None = None) -> Labels | None:
        """Labels layer of a report (by default the listed one), if it still exists."""
        return self._in_viewer(self._layers, name)

    def _in_viewer(
        self, layers: Mapping[str, weakref.ref[Any]], name: str | None = None
    ) -> Any:
        reference = layers.get(name or self._result.which.currentText())
        layer = None if reference is None else reference()
        return layer if layer is not None and layer in self._viewer.layers else None

    def go_to(self, label: int) -> None:
        """Move slices and camera to a pore, and select its label."""
        report, measured = self._result.report, self._measured
        if report is None or measured is None:
            return
        layer = self.layer()
        shown = layer or self._in_viewer(self._sources)
        if shown is not None:
            volume = measured.volumes[self._result.which.currentText()]
            index = pore_layers.row_index(report, label - 1, volume)
            centre_on(self._viewer, shown, index)
        if layer is not None:
            layer.selected_label = label
            self._highlight(layer, label)

    def _highlight(self, layer: Labels, label: int) -> None:
        """Give one pore a unique colour."""
        report = self._result.report
        self._chosen = label
        if report is not None:
            column = self._result.colour_column
            layer.colormap = pore_layers.highlighted(report, column, label)
            self._on_only_selected(self._result.only_selected.isChecked())

    def pick(self, position: object) -> None:
        """Select the row of the pore at a viewer position."""
        layer = self.layer()
        if layer is None or not layer.visible:
            return
        label = pore_layers.label_at(self._viewer, layer, position)
        if not label:
            return
        layer.selected_label = label
        self._highlight(layer, label)
        if self._result.table.select_label(label):
            self.picked.emit()

    def _on_report(self, name: str) -> None:
        self._chosen = 0
        for key in self._layers:
            layer = self.layer(key)
            if layer is not None:
                layer.visible = key == name
        shown = self.layer(name)
        if shown is not None:
            self._viewer.layers.selection.active = shown
        self._on_colour()

    def _on_colour(self, _column: str = "") -> None:
        layer, report = self.layer(), self._result.report
        if layer is not None and report is not None:
            column = self._result.colour_column
            layer.colormap = pore_layers.highlighted(report, column, self._chosen)
            self._on_only_selected(self._result.only_selected.isChecked())

    def _on_only_selected(self, only: bool) -> None:
        layer = self.layer()
        if layer is not None:
            layer.show_selected_label = only
