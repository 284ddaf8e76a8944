"""Values and charts of a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPointF, Qt, Signal
from qtpy.QtGui import QBrush, QColor, QPen
from qtpy.QtWidgets import QGraphicsPathItem, QWidget

from napari_geosr.core.types import AnyArray
from napari_geosr.core.units import PIXEL, convert_length, shown_units
from napari_geosr.gui.kit.lists import FiguresTable, split_unit
from napari_geosr.gui.kit.plots.chart import (
    Chart,
    Legend,
    curve_colors,
    line_pen,
    linear_ticks,
    load_pyqtgraph,
    tick_text,
)
from napari_geosr.gui.kit.plots.histogram import Bars, HistogramView
from napari_geosr.gui.porosity.pore_colours import HIGHLIGHT
from napari_geosr.operations.measure import figure_rows, profile_of, reference_first

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent

    from napari_geosr.operations.measure import PorosityReport

#: Half-width of the band around the profile, in standard errors (95 %).
_BAND = 1.96
#: Opacity of the band, from 0 to 255.
_BAND_ALPHA = 60
#: Minimum mouse movement, in pixels, that selects a range instead of a single bar.
_DRAG = 4.0
#: Maximum number of characters of a word in the name of an image above a column.
_MAX_WORD = 12


class ProfileChart(Chart):
    """Porosity along Z with its 95 % interval; hidden if no profile was measured."""

    def __init__(self, parent: QWidget | None = None, *, height: int = 110) -> None:
        self._profiles: dict[str, tuple[Any, Any, Any]] = {}
        self._names: Mapping[str, str] = {}
        self._unit = "voxels"
        super().__init__(parent, height=height, empty_text="No profile was measured.")
        self._title = self._title_label()
        self._legend = Legend(2, Qt.TextElideMode.ElideMiddle)
        self._rows.addWidget(self._title)
        self._rows.addWidget(self._legend)
        self.setAccessibleName("Profile along Z")
        self.setToolTip(
            "Porosity (%) of every slice along Z. The shaded area is the 95 % "
            "confidence interval, from the standard error of each slice's porosity."
        )
        self.set_reports({})

    def set_reports(self, reports: Mapping[str, PorosityReport]) -> None:
        """Show the profiles of reports that have one, in the unit of the first."""
        unit = next((r.unit for r in reports.values()), PIXEL)
        self._profiles, self._names = {}, {}
        for name, report in reports.items():
            profile = profile_of(report)
            if profile is None:
                continue
            known = PIXEL not in (unit, report.unit)
            scale = convert_length(1.0, report.unit, unit) if known else 1.0
            z, porosity, error = profile
            self._profiles[name] = (
                z * scale,
                100 * porosity,
                100 * np.nan_to_num(error),
            )
        sizes = next((r.voxel_size for r in reports.values()), (1.0,))
        self._unit = shown_units(unit, sizes, flat=False)
        self._title.setText(f"porosity (%) along Z ({self._unit})")
        self.setVisible(bool(self._profiles))
        self.refresh()

    def set_names(self, names: Mapping[str, str]) -> None:
        """Show the images under other names, by key of the report."""
        self._names = names
        self.refresh()

    def _full_height(self) -> int:
        n_lines = 1 + (len(self._profiles) > 1)
        return int(self._height + n_lines * self.fontMetrics().height())

    def _is_empty(self) -> bool:
        return not self._profiles

    def _describe(self) -> str:
        if not self._profiles:
            return self.empty_text
        texts = [
            f"{self._names.get(key, key)}: {porosity.min():.3g} to "
            f"{porosity.max():.3g} %"
            for key, (_, porosity, _) in self._profiles.items()
        ]
        return "; ".join(texts)

    def refresh(self) -> None:
        colours = curve_colors(self.text_color)
        keys = [
            (line_pen(colours[i % len(colours)]), self._names.get(name, name))
            for i, name in enumerate(self._profiles)
        ]
        self._legend.set_keys(keys if len(keys) > 1 else [])
        super().refresh()

    def _ranges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        z = np.concatenate([one for one, _, _ in self._profiles.values()])
        values = np.concatenate(
            [p + s * _BAND * e for _, p, e in self._profiles.values() for s in (-1, 1)]
        )
        low, high = max(float(values.min()), 0.0), min(float(values.max()), 100.0)
        room = 0.05 * (high - low) or 0.5
        return (float(z.min()), float(z.max())), (low - room, high + room)

    def _draw(self) -> None:
        pyqtgraph = load_pyqtgraph()
        across, up = self._ranges()
        self.plot.setRange(xRange=across, yRange=up, padding=0)
        colours = curve_colors(self.text_color)
        for i, (z, porosity, error) in enumerate(self._profiles.values()):
            colour = QColor(colours[i % len(colours)])
            low, high = (
                pyqtgraph.PlotDataItem(z, porosity + sign * _BAND * error, pen=None)
                for sign in (-1, 1)
            )
            band = QColor(colour)
            band.setAlpha(_BAND_ALPHA)
            self.plot.addItem(
                pyqtgraph.FillBetweenItem(low, high, brush=QBrush(band), pen=None)
            )
            self.plot.plot(z, porosity, pen=line_pen(colour), antialias=True)

    def _label_axes(self) -> None:
        across, up = self._ranges()
        text = tick_text(linear_ticks(*across)[-1])
        room = self.fontMetrics().horizontalAdvance(text) / 2 + 2
        self._set_margins(0, self.fontMetrics().height() / 2, room)
        self._label_left([(t, tick_text(t)) for t in linear_ticks(*up, 3)])
        self._label_bottom([(t, tick_text(t)) for t in linear_ticks(*across)])


class SizeHistogram(HistogramView):
    """Histogram of pore sizes with the selected pores, linked with the other views.

    Signals
    -------
    started
        The user pressed the mouse to select a range.
    brushed : tuple of 2 float, Qt.KeyboardModifiers
        The user selected the pores in this range of sizes, both ends included, while
        holding down these keys.
    cleared
        The user cleared the selection.
    """

    started = Signal()
    brushed = Signal(object, object)
    cleared = Signal()

    def __init__(self, parent: QWidget | None = None, *, height: int = 104) -> None:
        self._sizes: AnyArray = np.zeros(0)
        self._name = ""
        self._reports: dict[str, PorosityReport] = {}
        self._names: Mapping[str, str] = {}
        #: Bars and conversion factors of the sizes, by key of the report.
        self._bars_of: dict[str, Bars] = {}
        self._scales: dict[str, float] = {}
        self._press: QPointF | None = None
        self._has_moved = False
        self._selected: Any = None
        super().__init__(parent, log_x=True, height=height)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.CrossCursor)

    def set_reports(self, reports: Mapping[str, PorosityReport], listed: str) -> None:
        """Show the pores of several reports; the table lists those of `listed`."""
        self._reports, self._names = dict(reports), {}
        self.set_listed(listed)

    def set_names(self, names: Mapping[str, str]) -> None:
        """Show the images under other names, by key of the report."""
        self._names = names
        if self._reports:
            self.set_listed(self._name)

    def set_listed(self, name: str) -> None:
        """Show the histograms in the unit of the first report.

        If the sizes of the listed report cannot be converted to this unit, its own unit
        is used, and only reports that can be converted to that unit are shown.
        """
        self._name = name
        of = next(iter(self._reports.values()))
        listed = self._reports[name]
        if _size_scale(listed, of) is None:
            of = listed
        self._bars_of, self._scales = {}, {}
        for key, report in self._reports.items():
            scale = _size_scale(report, of)
            if scale is None:
                continue
            self._scales[key] = scale
            sizes = report.histogram
            if len(sizes.counts):
                shown = self._names.get(key, key)
                self._bars_of[key] = Bars(sizes.counts, scale * sizes.edges, shown)
        unit = of.units[of.size_column]
        self.set_series([*self._bars_of.values()], f"pore {of.size_column} ({unit})")

    def scale_of(self, name: str) -> float:
        """Return the factor that converts a listed report's sizes to the unit shown."""
        return self._scales[name]

    def set_selected(self, sizes: AnyArray, name: str) -> None:
        """Highlight the selected pores.

        Parameters
        ----------
        sizes : ndarray of float
            Sizes of the selected pores, in the unit of the report.
        name : str
            Key of the listed report.
        """
        self._sizes, self._name = self._scales.get(name, 1.0) * sizes, name
        if self.isVisible():  # otherwise, drawn when the widget is shown
            self._draw_selected()

    def selected_counts(self) -> AnyArray:
        """Return the number of selected pores in each bar."""
        bars = self._bars()
        if bars is None:
            return np.zeros(0, np.int64)
        counts: AnyArray = np.histogram(self._sizes, bars.edges)[0]
        return counts

    def _bars(self) -> Bars | None:
        """Return the histogram of the selected pores' report, if it is shown."""
        bars = self._bars_of.get(self._name)
        return next((shown for shown in self.series if shown is bars), None)

    def _draw(self) -> None:
        super()._draw()
        self._selected = QGraphicsPathItem()
        self._selected.setPen(QPen(Qt.PenStyle.NoPen))
        self._selected.setBrush(QColor.fromRgbF(*HIGHLIGHT))
        self.plot.addItem(self._selected)
        self._draw_selected()

    def _draw_selected(self) -> None:
        bars = self._bars()
        if not self.series or self._selected is None:
            return
        self._selected.setVisible(bars is not None and len(self._sizes) > 0)
        if bars is not None:
            counts = self.selected_counts().astype(float)
            self._selected.setPath(self._outline(bars, counts))
        self.setAccessibleDescription(self._describe())

    def _describe(self) -> str:
        text = super()._describe()
        return f"{text}; {len(self._sizes)} selected" if self.series else text

    def showEvent(self, event: object) -> None:
        """Show the pores that were selected while the chart was hidden."""
        super().showEvent(event)
        self._draw_selected()

    def mousePressEvent(self, event: QEvent) -> None:
        """Begin to select a range."""
        if event.button() == Qt.MouseButton.LeftButton and self.series:
            self._press, self._has_moved = event.position(), False
            self.started.emit()

    def mouseMoveEvent(self, event: QEvent) -> None:
        """Select the range between the click and the current mouse position."""
        if self._press is None:
            return
        far = abs(event.position().x() - self._press.x()) >= _DRAG
        self._has_moved = self._has_moved or far
        if self._has_moved:
            ends = (self.value_at(p.x()) for p in (self._press, event.position()))
            self.brushed.emit(tuple(sorted(ends)), event.modifiers())

    def mouseReleaseEvent(self, event: QEvent) -> None:
        """End the range, or select the bar that was clicked."""
        press, self._press = self._press, None
        if press is None or self._has_moved or not self.series:
            return
        bars = self._bars() or self.series[0]
        value = self.value_at(press.x())
        last = len(bars.counts) - 1
        i = int(np.clip(np.searchsorted(bars.edges, value, "right") - 1, 0, last))
        low, high = map(float, bars.edges[i : i + 2])
        if i < last:  # the upper edge belongs to the next bar
            high = float(np.nextafter(high, low))
        self.brushed.emit((low, high), event.modifiers())

    def keyPressEvent(self, event: QEvent) -> None:
        """Clear the selection with Escape."""
        if event.key() == Qt.Key.Key_Escape:
            self.cleared.emit()
        else:
            super().keyPressEvent(event)


def _size_scale(report: PorosityReport, other: PorosityReport) -> float | None:
    """Return the factor that converts sizes to the unit of another report, if any."""
    if report.size_column != other.size_column:
        return None
    if report.unit == other.unit:
        return 1.0
    if PIXEL in (report.unit, other.unit):
        return None
    power = 2 if report.size_column == "area" else 3
    return convert_length(1.0, report.unit, other.unit) ** power


class ReportTable(FiguresTable):
    """Values of one report, or of two side by side with their difference."""

    def __init__(self, parent: QWidget | None = None) -> None:
        tip = "Results of the measurement. Select cells to copy them."
        super().__init__("Results", tip, parent)

    def set_reports(self, reports: Mapping[str, PorosityReport]) -> None:
        """Show one column per report, with the reference first."""
        self.clear()
        several = len(reports) > 1
        if several:
            reports = reference_first(reports)
            self.add_cell(
                0,
                0,
                "value,\nchange",
                f"Second line: the change relative to {next(iter(reports))}.",
            )
            for column, name in enumerate(reports, start=1):
                # A name without spaces might not fit even in several lines.
                wraps = max(map(len, name.split()), default=0) <= _MAX_WORD
                self.add_cell(
                    0, column, name, name, elide=not wraps, wrap=wraps, bold=True
                )
        for i, row in enumerate(figure_rows(reports), start=1):
            help_text = row.help or row.label
            help_text = help_text[0].upper() + help_text[1:]
            title = row.label.split(" (")[0]
            # A remark in parentheses does not fit next to its value.
            shown = [text.replace(" (", "\n(") for text in row.texts]
            if several:
                title, shown = _unit_to_label(_shortened_label(row.label), row.texts)
                # Two ranges do not fit next to each other in a narrow dock.
                shown = [
                    text.replace(" (", "\n(").replace(" to ", " to\n") for text in shown
                ]
                shown = [
                    f"{text}\n{change}" if change else text
                    for text, change in zip(shown, row.differences, strict=True)
                ]
            self.add_cell(i, 0, title, help_text, wrap=True)
            for column, text in enumerate(shown, start=1):
                self.add_cell(i, column, text, help_text, bold=row.label == "Porosity")
        # With one report, the labels take the remaining width; with two, all columns
        # share it.
        for column in range(3):
            self.grid.setColumnStretch(column, int(several or not column))


def _unit_to_label(label: str, texts: list[str]) -> tuple[str, list[str]]:
    """Move a unit shared by all values into the label, to save space."""
    unit, values = split_unit(texts)
    between = "\n" if len(label) > 9 else " "
    return f"{label}{between}({unit})" if unit else label, values


def _shortened_label(label: str) -> str:
    """Shorten a label for a narrow dock."""
    label = label.split(" (")[0].replace(" pore ", " ").replace(" per ", "/")
    label = label.replace("equivalent ", "").replace("surface area", "surface")
    return label.removesuffix(" porosity")
