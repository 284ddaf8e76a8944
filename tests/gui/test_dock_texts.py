"""Texts in docks: line breaks, heights of labels, contrast of texts in empty fields."""

from __future__ import annotations

import pytest
from qtpy.QtGui import QPalette
from qtpy.QtWidgets import QComboBox, QFormLayout, QLineEdit, QWidget

from napari_geosr.gui.kit.line_breaks import keep_numbers_whole
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.widgets import SentenceLabel


def test_numbers_stay_with_their_units():
    text = keep_numbers_whole("+8.9 dB of 21 × 37 voxels, 0.3 ± 0.1 µm, 5 minutes")
    parts = text.split(" ")
    assert [part.replace("\xa0", " ") for part in parts] == [
        "+8.9 dB",
        "of",
        "21 × 37 voxels,",
        "0.3 ± 0.1 µm,",
        "5",
        "minutes",
    ]


def test_a_message_keeps_numbers_whole_and_is_read_as_written(qtbot):
    row = MessageRow()
    qtbot.addWidget(row)
    row.show_message("The gain is +8.9 dB.")
    assert row.text == row.label.text() == "The gain is +8.9 dB."
    assert super(type(row.label), row.label).text() == "The gain is +8.9\xa0dB."


def test_a_label_takes_the_height_of_its_present_width(qtbot):
    """Qt keeps the minimum height that was valid when the style last changed."""
    place, label = QWidget(), SentenceLabel("Dark space at the faces is counted. " * 3)
    rows = QFormLayout(place)
    rows.addRow("", label)
    qtbot.addWidget(place)
    place.resize(150, 600)
    place.show()
    qtbot.waitExposed(place)
    place.setStyleSheet("QLabel { padding: 1px; }")
    qtbot.wait(50)
    tall = label.height()
    place.resize(600, 600)
    qtbot.waitUntil(lambda: label.height() < tall / 2)
    assert label.height() == label.heightForWidth(label.width())


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_texts_in_empty_fields_can_be_read(viewer, qtbot, theme):
    edit = QLineEdit()
    show_placeholder(edit, "automatic")
    viewer.theme = "light" if theme == "dark" else "dark"
    viewer.window.add_dock_widget(edit, name="field")
    viewer.theme = theme
    for style in ("", "border: 1px solid #d9534f;", ""):  # an error, and its end
        edit.setStyleSheet(style)
        qtbot.wait(20)
        assert style in edit.styleSheet()
        palette = edit.palette()
        color = palette.color(QPalette.ColorRole.PlaceholderText)
        base = edit.grab().toImage().pixelColor(edit.width() - 8, 8)
        alpha = color.alphaF()
        mixed = [
            alpha * a + (1 - alpha) * b
            for a, b in zip(color.getRgb()[:3], base.getRgb()[:3], strict=True)
        ]
        assert contrast(mixed, base.getRgb()[:3]) >= 4.5
    viewer.window.remove_dock_widget("all")


def test_the_field_of_a_menu_keeps_its_style(qtbot):
    menu = QComboBox()
    qtbot.addWidget(menu)
    menu.setEditable(True)
    show_placeholder(menu.lineEdit(), "automatic")
    menu.show()
    menu.setStyleSheet("QComboBox { padding: 3px; }")
    assert menu.lineEdit().placeholderText() == "automatic"
    assert not menu.lineEdit().styleSheet()


def contrast(first, second) -> float:
    """Return the contrast ratio of two colours, as defined by the WCAG."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def luminance(color) -> float:
    """Return the relative luminance of an sRGB colour with values up to 255."""
    parts = [value / 255 for value in color]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
