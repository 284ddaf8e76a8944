"""Pore layers of the last measurement, synchronised with the table and the plot."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyArray
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers import alignment_with
from napari_geosr.gui.layers.camera import centre_on
from napari_geosr.gui.porosity import pore_layers
from napari_geosr.gui.porosity.linked import (
    FeatureLink,
    ImageNames,
    MarkedPores,
    PictureOutlines,
    PicturePace,
    combined,
)
from napari_geosr.gui.porosity.measured_layers import EditedPores, MeasuredLayers
from napari_geosr.gui.porosity.pore_colours import (
    Highlighter,
    PoreColours,
    pore_colours,
)
from napari_geosr.gui.porosity.pore_layers import image_of
from napari_geosr.operations.measure.group import kept_remarks

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Labels, Layer, Vectors

    from napari_geosr.gui.porosity.measuring import PoreMeasurement
    from napari_geosr.gui.porosity.result import PorosityResult


#: Milliseconds without a change, while a lasso is drawn, after which the selected pores
#: are listed.
_LISTING_DELAY = 100


class PoreDisplay(QObject):
    """Adds the pore layers and links them with the table and the plot.

    Attributes
    ----------
    marked : MarkedPores
        The selected pores.
    measured_layers : MeasuredLayers
        The layers in which the pores were measured.
    edited : EditedPores
        Which pore layers the user has edited.

    Signals
    -------
    picked
        The user clicked on a pore, and its row was selected.
    extended : str, PorosityReport
        The user added a group of pores to the report of this image.
    """

    picked = Signal()
    extended = Signal(str, object)

    def __init__(
        self, viewer: napari.viewer.Viewer, result: PorosityResult, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._result = result
        self._measured: PoreMeasurement | None = None
        self.marked = MarkedPores(self)
        self._features = FeatureLink(self.marked, self)
        self._colours: PoreColours | None = None
        self._highlighter = Highlighter(self)
        self._listing = QTimer(self)
        self._listing.setSingleShot(True)
        self._listing.setInterval(_LISTING_DELAY)
        self._listing.timeout.connect(self._list_marked)
        #: The report that is shown, and the selected pores of the others.
        self._shown = ""
        self._selections: dict[str, AnyArray] = {}
        self._label = 0  # last known `selected_label` of the layer
        self._follower = Connections(self)
        self._layers: dict[str, weakref.ref[Labels]] = {}
        #: Layers with outlines of automatic sample masks, by report.
        self._samples: dict[str, weakref.ref[Labels]] = {}
        self._unbrushed: AnyArray = np.zeros(0, bool)
        #: Layers with rose plots of mean intercept lengths, by report.
        self._roses: dict[str, weakref.ref[Vectors]] = {}
        self._sources: dict[str, weakref.ref[Layer]] = {}
        self.measured_layers = MeasuredLayers(viewer, self._layers_of, self)
        self.edited = EditedPores(self)
        self._names = ImageNames(result.which, result.image, self._layers_of, self)
        self._names.changed.connect(result.set_names)
        result.labelChosen.connect(self.go_to)
        result.reportChosen.connect(self._on_report)
        result.colourChosen.connect(self._on_colour)
        result.onlySelectedChanged.connect(lambda _only: self._recolour())
        result.table.labelsMarked.connect(self.marked.set_labels)
        result.plot.set_marked(self.marked)
        result.plot.labelChosen.connect(self.go_to)
        result.plot.groupSaved.connect(self._add_group)
        result.plot.listingChanged.connect(self._show_marked)
        result.histogram.started.connect(self._on_sizes_start)
        result.histogram.brushed.connect(self._on_sizes)
        result.histogram.cleared.connect(lambda: self.marked.set_labels([]))
        self._outlines = PictureOutlines(viewer, self)
        self._outlines.enclosed.connect(self._on_enclosed)
        self._outlines.ended.connect(lambda: result.plot.show_outlining(is_on=False))
        result.plot.outlineRequested.connect(self._on_outline_request)
        self._pace = PicturePace(result.plot.scatter, self)
        self._pace.due.connect(self._follow)
        self.marked.changed.connect(self._on_marked)

    def show(
        self,
        measured: PoreMeasurement,
        sources: Mapping[str, weakref.ref[Layer]],
        mask: Layer | None = None,
    ) -> None:
        """Add the labelled pores over the layers in which they were found.

        Parameters
        ----------
        measured : PoreMeasurement
        sources : mapping of weakref
            Layers measured, by key of the report.
        mask : Layer, optional
            The user's sample mask, which may be the outline of an earlier mask.
        """
        before, shown = self._measured, {k: [*self._layers_of(k)] for k in self._layers}
        self._measured, self._sources = measured.without_labels(), dict(sources)
        self._layers.clear()
        self._selections.clear()
        self._unfollow()
        first = next(iter(measured.reports))
        # Add the first layer last, so that it lies on top and is the active layer.
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
                origin=measured.origins.get(key),
            )
            if layer is not None:
                self._layers[key] = weakref.ref(layer)
        if before is not None:
            self._hide_other_points(before, shown, mask)
        self._show_samples(measured, first, mask)
        self._show_roses(measured)
        self.measured_layers.set_measured(self._measured, sources)
        self._names.follow(sources)
        layers = (reference() for reference in self._layers.values())
        self.edited.follow([layer for layer in layers if layer is not None])
        self._restart()

    def _layers_of(self, key: str) -> Iterator[Layer]:
        """Yield the layers that show the result of an image, except removed ones."""
        for layers in (self._layers, self._samples, self._roses):
            layer = self._in_viewer(layers, key)
            if layer is not None:
                yield layer

    def _hide_other_points(
        self,
        before: PoreMeasurement,
        shown: Mapping[str, list[Layer]],
        mask: Layer | None,
    ) -> None:
        """Hide the results of other time points or channels of the images measured."""
        assert self._measured is not None
        origins = list(self._measured.origins.values())
        for key, layers in shown.items():
            origin = before.origins.get(key)
            if origin in origins or image_of(origin) not in map(image_of, origins):
                continue
            for layer in layers:
                if layer is not mask:
                    layer.visible = False

    def _restart(self) -> None:
        """Follow the layer of the report that is shown, and select its pores again."""
        report, layer = self._result.report, self.layer()
        self._shown = self._result.which.currentData()
        self._unfollow()
        # `restart` emits `changed`, which updates all views.
        self.marked.restart(0 if report is None else report.pore_count)
        selected = self._selections.get(self._shown)
        if selected is not None:
            self.marked.set_mask(selected)
        self._features.set_layer(layer)
        if layer is not None:
            events = layer.events
            self._label = int(layer.selected_label)
            self._follower.connect(events.selected_label, self._on_selected_label)

    def _unfollow(self) -> None:
        """Stop following the layer shown, because its pores will change."""
        self._colours = None
        self._outlines.end()
        self._features.set_layer(None)
        self._follower.end()

    def _show_samples(
        self, measured: PoreMeasurement, first: str, mask: Layer | None
    ) -> None:
        """Outline the automatic sample masks; hide earlier ones of the same images."""
        active = self._viewer.layers.selection.active
        self._samples.clear()
        for key, report in measured.reports.items():
            of, origin = self._sources.get(key), measured.origins.get(key)
            source = None if of is None else of()
            earlier = pore_layers.earlier_samples(self._viewer, origin)
            layer = pore_layers.add_sample(
                self._viewer,
                report,
                measured.volumes[key],
                place=None if source is None else alignment_with(source),
                visible=key == first,
                earlier=earlier,
                origin=origin,
            )
            if layer is not None:
                self._samples[key] = weakref.ref(layer)
            for other in earlier:
                if other not in (layer, mask):
                    other.visible = False
        self._viewer.layers.selection.active = active

    def _show_roses(self, measured: PoreMeasurement) -> None:
        """Add the mean intercept lengths by direction, if they were measured."""
        self._roses.clear()
        for key, report in measured.reports.items():
            of = self._sources.get(key)
            source = None if of is None else of()
            layer = pore_layers.add_rose(
                self._viewer,
                report,
                measured.volumes[key],
                place=None if source is None else alignment_with(source),
                origin=measured.origins.get(key),
            )
            if layer is not None:
                self._roses[key] = weakref.ref(layer)

    def source(self) -> Layer | None:
        """Return the layer in which the listed pores were found, if it still exists."""
        found: Layer | None = self._in_viewer(self._sources)
        return found

    def set_features(self, name: str, features: object) -> None:
        """Replace the features table of a report's pore layer."""
        layer = self.layer(name)
        if layer is not None:
            layer.features = features
        self.marked.changed.emit()

    def _add_group(self, group: str, expression: str) -> None:
        """Add a column with the selected pores to the table and features.

        If a filter selects the same pores, the methods section states this filter as
        the definition of the group.
        """
        name, report = self._result.which.currentData(), self._result.report
        if report is None:
            return
        mask, plot = self.marked.mask.copy(), self._result.plot
        try:
            extended = report.with_group(group, mask, expression)
        except ConfigError as error:
            plot.show_group_fault(str(error))
            return
        layer = self.layer()
        if layer is not None and group in layer.features and group not in report.table:
            plot.show_group_fault(
                f"The features of the pore layer already have a column {group!r}. "
                "Choose another name."
            )
            return
        self._result.set_extended(name, extended)
        plot.show_kept(group, report.table.get(group), mask)
        for remark in kept_remarks(extended, group):
            plot.add_note(remark)
        if layer is not None and len(layer.features) != len(mask) + 1:
            plot.add_note(
                "The group was not added to the pore layer's features, because a "
                "script or plugin changed the number of rows in them."
            )
        elif layer is not None:
            layer.features[group] = pore_layers.with_background(extended.table[group])
            layer.events.features()
        self._colours = None  # the pores may be coloured by this group
        self.marked.changed.emit()
        self.extended.emit(name, extended)

    def layer(self, name: str | None = None) -> Labels | None:
        """Return the pore layer of a report (by default the listed one), if any."""
        return self._in_viewer(self._layers, name)

    def _in_viewer(
        self, layers: Mapping[str, weakref.ref[Any]], name: str | None = None
    ) -> Any:
        reference = layers.get(name or self._result.which.currentData())
        layer = None if reference is None else reference()
        return layer if layer is not None and layer in self._viewer.layers else None

    def go_to(self, label: int) -> None:
        """Move the sliders and the camera to a pore, and select its label."""
        report, measured = self._result.report, self._measured
        if report is None or measured is None:
            return
        layer = self.layer()
        shown = layer or self._in_viewer(self._sources)
        if shown is not None:
            volume = measured.volumes[self._result.which.currentData()]
            index = pore_layers.row_index(report, label - 1, volume)
            centre_on(self._viewer, shown, index)
        if not self.marked.mask[label - 1 : label].any():
            self.marked.set_labels([label])
        self._select_in(layer, label)

    def _select_in(self, layer: Labels | None, label: int) -> None:
        """Make `label` the selected label of the layer, which napari's tools use."""
        if layer is not None:
            self._label = label
            layer.selected_label = label

    def _on_selected_label(self, _event: object = None) -> None:
        """Select the pore that was chosen in napari's controls or features table."""
        layer = self.layer()
        if layer is None or layer.selected_label == self._label:
            return  # napari also emits this event when the colours change
        self._label = label = int(layer.selected_label)
        if 0 < label <= len(self.marked.mask):
            self.marked.set_labels([label])

    def pick(self, position: object) -> None:
        """Select the row of the pore at a viewer position."""
        layer = self.layer()
        if layer is None or not layer.visible:
            return
        label = pore_layers.label_at(self._viewer, layer, position)
        if not label:
            return
        self._select_in(layer, label)
        self.marked.set_labels([label])
        if self._result.table.select_label(label):
            self.picked.emit()

    def _on_sizes_start(self) -> None:
        """Keep the selection with which a range of sizes will be combined."""
        self._unbrushed = self.marked.mask

    def _on_sizes(self, ends: tuple[float, float], modifiers: object) -> None:
        """Select the pores in a range of sizes."""
        report = self._result.report
        if report is not None and len(self._unbrushed) == report.pore_count:
            # The histogram may have another unit than the table.
            scale = self._result.histogram.scale_of(self._result.which.currentData())
            sizes = scale * report.table[report.size_column]
            inside = (sizes >= ends[0]) & (sizes <= ends[1])
            self.marked.set_mask(combined(self._unbrushed, inside, modifiers))

    def _on_outline_request(self, is_on: bool) -> None:
        """Start or stop selecting pores with outlines in the viewer."""
        layer, fault = self.layer(), ""
        if not is_on:
            self._outlines.end()
            return
        if layer is None:
            fault = "The pore layer was removed. Measure again to select pores in it."
        elif self._viewer.dims.ndisplay == 3:
            fault = "Outlines can only be drawn in slices. Switch to the 2D view."
        else:
            self._outlines.begin(layer)
        self._result.plot.show_outlining(is_on=not fault, fault=fault)

    def _on_enclosed(self, labels: AnyArray, modifiers: object) -> None:
        """Select the pores inside an outline in the viewer."""
        inside = np.zeros(len(self.marked.mask), bool)
        inside[labels[labels <= len(inside)] - 1] = True
        self.marked.set_mask(combined(self.marked.mask, inside, modifiers))

    def _on_report(self, name: str) -> None:
        self._selections[self._shown] = self.marked.mask
        for key in self._measured.reports if self._measured is not None else ():
            for layer in self._layers_of(key):
                layer.visible = key == name
        shown = self.layer(name)
        if shown is not None:
            self._viewer.layers.selection.active = shown
        self._restart()

    def _on_colour(self, _column: str = "") -> None:
        self._colours = None
        self._recolour()

    def _on_marked(self) -> None:
        """Make the viewer and table follow the plot, which has already changed."""
        scatter = self._result.plot.scatter
        if scatter.is_drawing:
            if self._listing.isActive():
                self._listing.start()  # the mouse has not stopped
            self._pace.follow()
        else:
            self._pace.show_now()

    def _follow(self) -> None:
        """Show the selection in the table and the viewer."""
        self._show_marked()
        self._recolour()

    def _show_marked(self) -> None:
        """Show the selection in the table.

        A table of only the selected pores must be laid out again, which is deferred
        until the mouse stops.
        """
        plot = self._result.plot
        if plot.lists_only_selected and plot.scatter.is_drawing:
            self._listing.start()
        else:
            self._list_marked()

    def _list_marked(self) -> None:
        self._listing.stop()
        only = self._result.plot.lists_only_selected
        mask, report = self.marked.mask, self._result.report
        self._result.table.set_marked(mask, only=only)
        if report is not None and len(mask) == report.pore_count:
            sizes = report.table[report.size_column][mask]
            self._result.histogram.set_selected(sizes, self._result.which.currentData())

    def _recolour(self) -> None:
        """Colour the plot and viewer by the chosen column; highlight the selection."""
        report, layer = self._result.report, self.layer()
        if report is None:
            return
        if self._colours is None:
            column = self._result.colour_column
            self._colours = pore_colours(report, column)
            self._result.plot.set_colours(self._colours, column)
        if layer is None:
            return
        mask, only = self.marked.mask, self._result.only_selected.isChecked()
        is_one = self.marked.count == 1
        hide_others = only and not is_one
        self._highlighter.show(layer, self._colours, mask, hide_others=hide_others)
        if is_one:
            self._select_in(layer, int(self.marked.labels[0]))
        if layer.show_selected_label or (only and is_one):
            layer.show_selected_label = only and is_one
