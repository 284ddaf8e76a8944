"""Menus show the text of their entries in full in napari's style."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import (
    QComboBox,
    QStyle,
    QStyleOptionComboBox,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.kit.fields import ChoiceField
from napari_geosr.gui.kit.widgets import combo, fit_entries


def room(menu: QComboBox, width: int) -> int:
    """Width of the text in a menu of this width."""
    option = QStyleOptionComboBox()
    menu.initStyleOption(option)
    option.rect.setWidth(width)
    control, part = QStyle.ComplexControl.CC_ComboBox, QStyle.SubControl
    field = part.SC_ComboBoxEditField
    return menu.style().subControlRect(control, option, field, menu).width()


@pytest.fixture
def column(viewer) -> QVBoxLayout:
    """A column of menus in napari's window."""
    inner = QWidget()
    viewer.window.add_dock_widget(inner, name="menus")
    yield QVBoxLayout(inner)
    viewer.window.remove_dock_widget("all")


@pytest.mark.parametrize("text", ["Automatic", "joint Richardson–Lucy", "ring", "MMMM"])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_entries_are_not_cut(viewer, column, qtbot, text, theme):
    viewer.theme = theme
    menu, field = combo("Menu", "A menu."), ChoiceField(choices=[text], value=text)
    menu.addItem(text)
    fit_entries(menu)
    for each in (menu, field.native):
        column.addWidget(each)
        qtbot.waitUntil(each.isVisible)
        width = each.fontMetrics().horizontalAdvance(text)
        assert room(each, each.minimumSizeHint().width()) >= width
        assert room(each, each.sizeHint().width()) >= width


def test_a_shown_menu_widens_with_its_entries(column, qtbot):
    menu = combo("Menu", "A menu.")
    menu.addItem("tv")
    fit_entries(menu)
    column.addWidget(menu)
    qtbot.waitUntil(menu.isVisible)
    before = menu.minimumSizeHint().width()
    menu.addItem("joint Richardson–Lucy")
    fit_entries(menu)
    assert menu.minimumSizeHint().width() == menu.sizeHint().width() > before
    menu.removeItem(1)
    fit_entries(menu)
    assert menu.minimumSizeHint().width() == menu.sizeHint().width() == before
