"""The small table in which docks show measured values."""

from __future__ import annotations

import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QContextMenuEvent, QGuiApplication
from qtpy.QtWidgets import QApplication, QLabel, QVBoxLayout, QWidget

from napari_geosr.core.text.figures import Figure
from napari_geosr.gui.kit.lists import FiguresTable
from napari_geosr.gui.kit.widgets import scrolling

FIGURES = (
    Figure("Residual shift", "0.07", "low-resolution voxels", help="Median."),
    Figure("Expected 95 % interval from 8 spots", "± 12.3", "percentage points"),
    Figure("Scan time saved", "168", "h", "compared with all 64 possible spots"),
    Figure("Correlation length", "larger than this scan"),
    Figure("Iterations", "30"),
)
TEXT = (
    "Residual shift\t0.07\tlow-resolution voxels\n"
    "Expected 95 % interval from 8 spots\t± 12.3\tpercentage points\n"
    "Scan time saved\t168\th\tcompared with all 64 possible spots\n"
    "Correlation length\tlarger than this scan\n"
    "Iterations\t30"
)


@pytest.fixture
def table(viewer, qtbot) -> FiguresTable:
    """The table in a dock of the usual width, in napari's style."""
    table = FiguresTable("Figures", "Measured values.")
    inner = QWidget()
    column = QVBoxLayout(inner)
    column.setContentsMargins(8, 8, 8, 8)
    column.addWidget(table)
    column.addStretch(1)
    area = scrolling(inner)
    area.setFixedWidth(360)
    viewer.window.add_dock_widget(area, name="figures")
    table.set_figures(FIGURES)
    qtbot.waitUntil(lambda: not table.visibleRegion().isEmpty())
    qtbot.wait(50)
    yield table
    viewer.window.remove_dock_widget("all")


def cell(table: FiguresTable, text: str) -> QLabel:
    shown = [la for la in table.findChildren(QLabel) if la.isVisible()]
    (found,) = [la for la in shown if la.text().replace("\xa0", " ") == text]
    return found


def test_digits_and_units_are_aligned(table):
    values = [cell(table, figure.value) for figure in FIGURES if figure.unit]
    values.append(cell(table, "30"))
    assert len({value.geometry().right() for value in values}) == 1
    assert all(value.alignment() & Qt.AlignmentFlag.AlignRight for value in values)
    units = [cell(table, figure.unit) for figure in FIGURES if figure.unit]
    assert len({unit.geometry().left() for unit in units}) == 1
    assert units[0].geometry().left() > values[0].geometry().right()


def test_no_cell_is_cut_off_or_covers_another(table):
    labels = [la for la in table.findChildren(QLabel) if la.isVisible()]
    assert len(labels) == 14
    inner = table.parentWidget()
    assert inner.minimumSizeHint().width() <= inner.parentWidget().width()
    for label in labels:
        width = label.width()
        needed = label.heightForWidth(width) if label.wordWrap() else 0
        assert label.height() >= needed
        if not label.wordWrap():
            assert width >= label.sizeHint().width()
        assert table.rect().contains(label.geometry())
    pairs = [(a, b) for a in labels for b in labels if a is not b]
    assert not [a.text() for a, b in pairs if a.geometry().intersects(b.geometry())]


def test_the_table_and_its_cells_can_be_copied(table, qtbot):
    assert table.text() == TEXT
    clipboard = QGuiApplication.clipboard()
    copy = Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier
    for place in (table, cell(table, "30")):
        clipboard.clear()
        place.setFocus()
        qtbot.keyClick(place, *copy)
        assert clipboard.text() == TEXT
    value = cell(table, "0.07")
    value.setSelection(0, 3)
    qtbot.keyClick(value, *copy)
    assert clipboard.text() == "0.0"
    place = value.rect().center()
    event = QContextMenuEvent(
        QContextMenuEvent.Reason.Mouse, place, value.mapToGlobal(place)
    )
    QApplication.sendEvent(value, event)
    assert table.menu.isVisible()
    (action,) = table.menu.actions()
    action.trigger()
    table.menu.close()
    assert clipboard.text() == TEXT


def test_other_values_replace_the_first(table, qtbot):
    table.set_figures(FIGURES[:1])
    qtbot.wait(50)
    assert table.text() == TEXT.splitlines()[0]
    assert len([la for la in table.findChildren(QLabel) if la.isVisible()]) == 3
    height = table.height()
    table.set_columns(("Edge", "Spots"), [("16 µm", "103"), ("32 µm", "8")])
    qtbot.wait(50)
    assert table.text() == "Edge\tSpots\n16 µm\t103\n32 µm\t8"
    numbers = [cell(table, text) for text in ("Spots", "103", "8")]
    assert len({number.geometry().right() for number in numbers}) == 1
    assert table.height() > height


def test_only_the_text_selected_in_the_focused_cell_is_copied(table, qtbot):
    clipboard = QGuiApplication.clipboard()
    copy = Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier
    label = cell(table, "Expected 95 % interval from 8 spots")
    assert "95\N{NO-BREAK SPACE}%" in label.text()
    label.setSelection(9, 4)
    qtbot.keyClick(label, *copy)
    assert clipboard.text() == "95 %"
    qtbot.keyClick(table, *copy)
    assert clipboard.text() == TEXT
    other = cell(table, "168")
    other.setSelection(0, 2)
    qtbot.keyClick(other, *copy)
    assert clipboard.text() == "16"


def test_a_table_has_the_same_widths_as_before_other_columns(table, qtbot):
    def places() -> list[tuple[int, int]]:
        qtbot.wait(50)
        cells = [cell(table, figure.value) for figure in FIGURES]
        return [(each.x(), each.width()) for each in cells]

    before = places()
    table.set_columns(("Edge", "Spots"), [("16 µm", "103")])
    assert table.grid.columnStretch(0) == 0
    table.set_figures(FIGURES)
    assert places() == before
