"""The plot of pores: two columns of the table, a lasso, and groups of pores."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRectF, QSignalBlocker, QSize, QTimer, Signal
from qtpy.QtGui import QColor, QLinearGradient, QPainter
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyArray
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.option_words import in_words_of_dock
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.plots.chart import tick_text
from napari_geosr.gui.kit.widgets import (
    ElidedLabel,
    PartScroller,
    add_row,
    button,
    form_layout,
    text_label,
)
from napari_geosr.gui.layers.combo import ElidingCombo
from napari_geosr.gui.porosity.linked.axes import PlotAxis
from napari_geosr.gui.porosity.linked.image_names import ImageNames
from napari_geosr.gui.porosity.linked.marked import FeatureLink, MarkedPores, combined
from napari_geosr.gui.porosity.linked.pace import PicturePace
from napari_geosr.gui.porosity.linked.picture import PictureOutlines
from napari_geosr.gui.porosity.linked.scatter import ScatterView
from napari_geosr.gui.porosity.pore_colours import (
    EVIDENCE,
    VERDICT_COLOURS,
    PoreColours,
    is_logarithmic,
    number_columns,
    scale_colours,
)
from napari_geosr.operations.measure import Group
from napari_geosr.operations.measure.group import filter_remarks, with_units

if TYPE_CHECKING:
    from napari_geosr.operations.measure import PorosityReport

__all__ = [
    "FeatureLink",
    "ImageNames",
    "MarkedPores",
    "PictureOutlines",
    "PicturePace",
    "PorePlot",
    "combined",
]

#: Columns selected initially for each axis. If several are listed, the first one that
#: is in the table is selected (pores of an image have a circularity instead of a
#: sphericity).
_FIRST = (("equivalent_diameter",), ("sphericity", "circularity"))
_EXAMPLE = "diameter>20um & sphericity<0.6"
#: Shorter example for the field in a narrow dock.
_SHORT_EXAMPLE = "d>20um & sphericity<0.6"
#: Milliseconds between updates of the number of selected pores while the lasso is
#: drawn; each of them lays out the dock again.
_COUNT_INTERVAL = 100
_SCATTER = (
    "One point per pore. Draw around points to select their pores in the viewer and "
    "in the table; Shift adds to the selection, Alt removes from it. Click a point to "
    "go to its pore, or an empty area to clear the selection (Escape). Ctrl+A selects "
    "all. The histograms show all pores and the selected ones; drag over a range of a "
    "histogram, or click a bar, to select its pores."
)
_OUTLINE = (
    "Draw outlines in the viewer to select the pores inside them in the current "
    "slice. Outlines are drawn with napari's lasso; napari's other drawing tools also "
    "work. Shift adds to the selection, Alt removes from it. Click again to stop."
)


class ColourBar(QWidget):
    """Legend of a colour scale: lowest value, colours, highest value."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._ends: tuple[float, float] | None = None
        self.title = ElidedLabel("")
        self._bar = _Gradient()
        self.low, self.high = QLabel(), QLabel()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.title, 2)
        row.addWidget(self.low)
        row.addWidget(self._bar, 1)
        row.addWidget(self.high)
        self.setAccessibleName("Legend of the colours")
        self.setToolTip("Range of values that the colours represent.")

    def set_scale(self, title: str, low: float | None, high: float | None) -> None:
        """Show a scale, or only its title if there are no values."""
        self.title.setText(title)
        has_scale = low is not None and high is not None
        for widget, value in ((self.low, low), (self.high, high)):
            widget.setText("" if value is None else tick_text(float(f"{value:.3g}")))
        for widget in (self.low, self._bar, self.high):
            widget.setVisible(has_scale)
        text = f"{title}: {self.low.text()} to {self.high.text()}"
        self.setAccessibleDescription(text if has_scale else title)


class _Gradient(QWidget):
    """The colours of the scale, from low to high."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Colours from low to high")

    def sizeHint(self) -> QSize:
        return QSize(60, 10)

    def paintEvent(self, _event: object) -> None:
        """Draw the scale."""
        gradient = QLinearGradient(0, 0, self.width(), 0)
        places = np.linspace(0, 1, 12)
        for place, colour in zip(places, scale_colours(places), strict=True):
            gradient.setColorAt(float(place), QColor.fromRgbF(*map(float, colour)))
        painter = QPainter(self)
        painter.fillRect(QRectF(0, 0, self.width(), self.height()), gradient)
        painter.end()


class PorePlot(QWidget):
    """Scatter plot of the pores, linked with the table and the viewer.

    Signals
    -------
    labelChosen : int
        The user clicked on the point of this pore.
    listingChanged
        The user chose whether the table lists only the selected pores or all of them.
    groupSaved : str, str
        Name of the column in which to keep the selected pores, and the filter that
        selects them, if there is one.
    outlineRequested : bool
        Start or stop selecting pores with outlines in the viewer.
    """

    labelChosen = Signal(int)
    listingChanged = Signal()
    groupSaved = Signal(str, str)
    outlineRequested = Signal(bool)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        #: Scrolls to a message in a dock of small height; set by the dock.
        self.scroller: PartScroller | None = None
        self._report: PorosityReport | None = None
        self._marked = MarkedPores(self)
        #: Pores that the latest filter selected, as long as they are still selected.
        self._filtered: AnyArray | None = None
        self._applied = ""
        self.x = _column_menu("X axis", "Column shown on the horizontal axis.")
        self.y = _column_menu("Y axis", "Column shown on the vertical axis.")
        self.scatter = ScatterView()
        self.legend = ColourBar()
        self.expression = QLineEdit()
        self.select = button("Select", "Select the pores that match the filter.")
        self.name = QLineEdit()
        self.outline = button("Select in viewer", _OUTLINE, "Alt+Shift+B")
        self.outline.setCheckable(True)
        self.save = button(
            "Keep group",
            "Mark the currently selected pores in a new column of the table. It is "
            "exported, and pores can be coloured by it.",
        )
        #: States why the pores are outdated; hidden if they are up to date.
        self.stale_note = text_label("About the pores", "")
        self.stale_note.setVisible(False)
        #: An error, below the row that it concerns.
        self.fault = MessageRow(shortcut="")
        self.fault.label.setAccessibleName("Problem with the filter or name")
        #: Remarks on the filter, or the group that was kept.
        self.note = text_label("Remarks on the filter or group", "")
        self.note.setVisible(False)
        self.summary = text_label(
            "Selection", "Number and share of the selected pores."
        )
        self.only_selected = QCheckBox("List only selected pores")
        self._count_timer = QTimer(self)
        self._count_timer.setSingleShot(True)
        self._count_timer.setInterval(_COUNT_INTERVAL)
        self._count_timer.timeout.connect(self._show_count)
        self._describe()
        self._lay_out()
        for menu in (self.x, self.y):
            menu.currentIndexChanged.connect(self._on_axis)
        self.outline.toggled.connect(self.outlineRequested)
        self.scatter.encircled.connect(lambda mask: self._marked.set_mask(mask))
        self.scatter.lassoEnded.connect(self._show_count)
        self.scatter.pointChosen.connect(lambda row: self.labelChosen.emit(row + 1))
        self.expression.returnPressed.connect(self.apply_expression)
        self.select.clicked.connect(self.apply_expression)
        self.name.returnPressed.connect(self._save_group)
        self.save.clicked.connect(self._save_group)
        self.only_selected.toggled.connect(lambda _: self.listingChanged.emit())

    def _describe(self) -> None:
        for widget, name, tip in (
            (self.scatter, "Scatter plot of pores", _SCATTER),
            (
                self.expression,
                "Filter",
                "Comparisons of columns with numbers, combined with & (and), | (or) "
                f"and ! (not): {_EXAMPLE}",
            ),
            (self.name, "Name of the group", "Name of the new column of the table."),
            (
                self.only_selected,
                "List only selected pores",
                "Hide all other pores in the table.",
            ),
        ):
            widget.setAccessibleName(name)
            widget.setToolTip(tip)
        show_placeholder(self.expression, _SHORT_EXAMPLE)
        show_placeholder(self.name, "name of the group")

    def _lay_out(self) -> None:
        axes = form_layout()
        add_row(axes, "X axis", self.x)
        add_row(axes, "Y axis", self.y)
        rows = QVBoxLayout(self)
        rows.setContentsMargins(6, 6, 6, 6)
        rows.addWidget(self.stale_note)
        rows.addLayout(axes)
        rows.addWidget(self.scatter, 1)
        rows.addWidget(self.legend)
        rows.addWidget(self.summary)
        rows.addWidget(self.outline)
        self._places: dict[QWidget, QVBoxLayout] = {self.outline: QVBoxLayout()}
        rows.addLayout(self._places[self.outline])
        for edit, action in ((self.expression, self.select), (self.name, self.save)):
            row = QHBoxLayout()
            row.addWidget(edit, 2)
            row.addWidget(action, 1)
            rows.addLayout(row)
            self._places[edit] = QVBoxLayout()
            rows.addLayout(self._places[edit])
        self._places[self.expression].addWidget(self.fault)
        rows.addWidget(self.note)
        rows.addWidget(self.only_selected)

    def set_marked(self, marked: MarkedPores) -> None:
        """Link the plot with this selection, which it shows and changes."""
        self._marked = marked
        marked.changed.connect(self._show_marked)

    @property
    def lists_only_selected(self) -> bool:
        """Whether the table is to list only the selected pores."""
        return bool(self.only_selected.isChecked())

    def set_report(self, report: PorosityReport) -> None:
        """Show the pores of a report; keep the chosen columns if it has them."""
        self._report = report
        self.show_fault("")
        columns = number_columns(report)
        for i, menu in enumerate((self.x, self.y)):
            before = menu.currentData()
            with QSignalBlocker(menu):
                menu.clear()
                for name in columns:
                    menu.addItem(self._title(name), name)
                wanted = (before, *_FIRST[i])
                chosen = next((name for name in wanted if name in columns), columns[0])
                menu.setCurrentIndex(columns.index(chosen))
        self._on_axis()

    def _title(self, column: str) -> str:
        assert self._report is not None
        unit, words = self._report.units.get(column, ""), column.replace("_", " ")
        return f"{words} ({unit})" if unit else words

    def _on_axis(self, _index: int = 0) -> None:
        report = self._report
        names = self.x.currentData(), self.y.currentData()
        if report is None or None in names:
            return
        x, y = (
            PlotAxis(self._title(n), report.table[n], is_logarithmic(report, n))
            for n in names
        )
        self.scatter.set_axes(x, y)
        self._show_marked()

    def set_colours(self, colours: PoreColours, column: str) -> None:
        """Colour the points like the pores in the viewer."""
        if self._report is None:
            return
        self.scatter.set_colours(colours.of_pores())
        title = self._title(column)
        if column == EVIDENCE:
            title = VERDICT_COLOURS
        self.legend.set_scale(f"{title}", colours.low, colours.high)

    def _show_marked(self) -> None:
        """Highlight the selected points, and show their number."""
        mask = self._marked.mask
        if self._filtered is not None and not np.array_equal(mask, self._filtered):
            self._show_note("")  # the note is about an earlier selection
            self._filtered = None
        self.scatter.set_mask(mask)
        if not self.scatter.is_drawing:
            self._show_count()
        elif not self._count_timer.isActive():
            self._count_timer.start()

    def _show_count(self) -> None:
        """Show the number of selected pores, and their share of the pore volume."""
        self._count_timer.stop()
        report, mask = self._report, self._marked.mask
        count, total = self._marked.count, len(mask)
        self.save.setEnabled(count > 0)
        text = f"{_spaced(count)} of {_spaced(total)} pores selected"
        if report is not None and count and len(mask) == report.pore_count:
            text += _share(report, mask)
        text += "."
        missing = total - len(self.scatter.drawn_rows)
        if missing > 0 and report is not None:
            text += (
                f" {_spaced(missing)} {'pore is' if missing == 1 else 'pores are'} not "
                "drawn: a value is missing in one of the two columns. For example, "
                "pores at the border have no sphericity."
            )
        self.summary.setText(text)

    def apply_expression(self) -> None:
        """Select the pores that satisfy the filter."""
        if self._report is None:
            return
        try:
            group = Group(self.expression.text())
            mask = group.of(self._report.table, self._report.units)
        except ConfigError as error:
            self.show_fault(in_words_of_dock(str(error), self))
            return
        self.show_fault("")
        self._marked.set_mask(mask)
        self._show_note(" ".join(filter_remarks(self._report, group.text)))
        self._filtered, self._applied = mask, group.text

    def show_outlining(self, *, is_on: bool, fault: str = "") -> None:
        """Show whether outlines are drawn in the viewer, or why they cannot be."""
        with QSignalBlocker(self.outline):
            self.outline.setChecked(is_on)
        self.show_fault(fault, self.outline)

    def show_group_fault(self, text: str) -> None:
        """Show a problem with a group or its name; an empty text clears it."""
        self.show_fault(text, self.name)

    def show_fault(self, text: str, below: QWidget | None = None) -> None:
        """Show an error below a field, by default the filter; "" clears it."""
        if text:
            self._places[below or self.expression].addWidget(self.fault)
            self.fault.show_message(text, "error")
        else:
            self.fault.clear()
        self._show_note("")
        self._filtered = None
        if text and self.scroller is not None:
            self.scroller.show_part(self.fault)

    def show_kept(self, name: str, before: AnyArray | None, mask: AnyArray) -> None:
        """Report that a group was kept, and which one it replaces, if any."""
        count = _pores(int(np.count_nonzero(mask)))
        text = f"Group {name!r} was kept: {count}."
        if before is not None:
            earlier = _pores(int(np.count_nonzero(before == 1)))
            text = f"Group {name!r} was replaced: {count} (before: {earlier})."
        self._show_note(text)

    def add_note(self, text: str) -> None:
        """Add a sentence to the note about the group that was kept."""
        self._show_note(f"{self.note.text()} {text}")

    def _show_note(self, text: str) -> None:
        self.note.setText(text)
        self.note.setVisible(bool(text))

    def _save_group(self) -> None:
        """Request that the selected pores become a group with the entered name."""
        report = self._report
        if report is None or not self._marked.count:
            self.show_group_fault("No pores are selected. Draw around points first.")
            return
        name = re.sub(r"\W+", "_", self.name.text().strip().lower()).strip("_")
        if not name or name[0].isdigit():
            self.show_group_fault("Give the group a name that starts with a letter.")
            return
        self.show_fault("")
        self.groupSaved.emit(name, self._filter_of(self._marked.mask))

    def _filter_of(self, mask: AnyArray) -> str:
        """Return the filter that selects exactly these pores; empty if there is none.

        The filter is the one in the field or, if the field has been edited since, the
        one that was applied last. The text includes the units of its numbers, because
        other tables may have other units.
        """
        if self._report is None:
            return ""
        for text in filter(None, (self.expression.text().strip(), self._applied)):
            try:
                full = with_units(text, self._report.units)
                found = Group(full).of(self._report.table, self._report.units)
            except ConfigError:
                continue
            if np.array_equal(found, mask):
                return full
        return ""


def _pores(number: int) -> str:
    return f"{_spaced(number)} pore{'' if number == 1 else 's'}"


def _spaced(number: int) -> str:
    """Return a number with thin spaces between groups of three digits."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _share(report: PorosityReport, mask: AnyArray) -> str:
    """Describe the selected pores' share of the total pore volume (2D: area)."""
    column = "area" if report.is_flat else "volume"
    sizes = report.table.get(column)
    if sizes is None or not sizes.sum() > 0:
        return ""
    percent = f"{100 * sizes[mask].sum() / sizes.sum():.3g}"
    if percent == "100" and not mask.all():
        percent = "over 99.9"
    return f" ({percent} % of the pore {column})"


def _column_menu(name: str, tool_tip: str) -> ElidingCombo:
    """Return a menu of columns that shortens long titles in a narrow dock."""
    menu = ElidingCombo()
    menu.setAccessibleName(name)
    menu.setToolTip(tool_tip)
    menu.setSizeAdjustPolicy(
        ElidingCombo.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
    )
    menu.setMinimumContentsLength(4)
    return menu
