"""Labels and fields of all forms in a dock are aligned, also in sections."""

from __future__ import annotations

import pytest
from opening import opened
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QFormLayout, QLabel, QScrollArea, QVBoxLayout, QWidget
from test_manifest import WIDGETS

from napari_geosr.gui.kit.widgets import Section, add_row, combo, form_layout, scrolling


def rows_of(area: QScrollArea) -> list[tuple[QLabel, QWidget]]:
    """Visible rows of all forms in an area: labels and fields."""
    role, found = QFormLayout.ItemRole, []
    for form in area.widget().findChildren(QFormLayout):
        for row in range(form.rowCount()):
            items = form.itemAt(row, role.LabelRole), form.itemAt(row, role.FieldRole)
            if None in items:
                continue
            label, field = (item.widget() for item in items)
            if field is not None and label.isVisible():
                found.append((label, field))
    return found


def check_rows(area: QScrollArea) -> int:
    """Check that labels, and fields, have equal edges; return the number of rows.

    A field that would be too narrow for its text is below its label.
    """
    inner, edges = area.widget(), set()
    rows = rows_of(area)
    for label, field in rows:
        assert label.alignment() & Qt.AlignmentFlag.AlignLeft
        assert label.height() >= label.heightForWidth(label.width()), label.text()
        place, other = (part.mapTo(inner, QPoint()) for part in (label, field))
        assert other.x() + field.width() <= area.viewport().width(), label.text()
        if other.y() < place.y() + label.height():
            edges.add((place.x(), other.x()))
        else:
            room = inner.width() - place.x() - label.width()
            assert field.minimumSizeHint().width() > room - 20, label.text()
            assert field.width() > 1.5 * room
    assert len(edges) <= 1
    return len(rows)


@pytest.mark.every(3)
@pytest.mark.parametrize("name", [name for name in WIDGETS if name != "Jobs"])
def test_fields_are_in_one_column_in_narrow_docks(viewer, qtbot, name):
    dock, window = opened(viewer, name), viewer.window._qt_window
    frame = dock.parentWidget().parentWidget()
    window.resize(1366, 768)
    sections = dock.findChildren(Section)
    n = 0
    for width in (360, 300):
        window.resizeDocks([frame], [width], Qt.Orientation.Horizontal)
        qtbot.waitUntil(lambda w=width: abs(dock.width() - w) < 4, timeout=5000)
        for is_open in (False, True)[: 1 + (width == 360)]:
            for section in sections:
                section.set_open(is_open)
            qtbot.wait(100)
            areas = [a for a in dock.findChildren(QScrollArea) if a.isVisible()]
            n += sum(check_rows(area) for area in areas if area.widget() is not None)
    assert n >= 8 or name in ("Models",)


def test_long_labels_wrap_and_opening_a_section_moves_nothing(viewer, qtbot):
    inner, more = QWidget(), QWidget()
    first, second = form_layout(), form_layout()
    add_row(first, "S&can", combo("Scan", "A scan."))
    long = "Power of a synchrotron beamline (kW)"
    add_row(second, long, combo(long, "Power."))
    more.setLayout(second)
    section = Section("More", more, tool_tip="More settings.")
    column = QVBoxLayout(inner)
    column.addLayout(first)
    column.addWidget(section)
    column.addStretch(1)
    area = scrolling(inner)
    area.setFixedWidth(300)
    viewer.window.add_dock_widget(area, name="form")
    qtbot.waitUntil(lambda: len(rows_of(area)) == 1)
    qtbot.wait(50)
    before = [part.geometry() for part in rows_of(area)[0]]
    section.set_open(True)
    qtbot.waitUntil(lambda: len(rows_of(area)) == 2)
    qtbot.wait(50)
    assert [part.geometry() for part in rows_of(area)[0]] == before
    assert check_rows(area) == 2
    (short, _), (wrapped, _) = rows_of(area)
    assert wrapped.wordWrap()
    assert not short.wordWrap()
    assert wrapped.height() > 1.5 * wrapped.fontMetrics().height()
    viewer.window.remove_dock_widget("all")
