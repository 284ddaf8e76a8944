"""Docks have one short title each, and mnemonics that napari's menus do not use."""

from __future__ import annotations

import re

import pytest
from napari._app_model import get_app_model
from opening import filled, opened
from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import (
    QAbstractButton,
    QApplication,
    QLabel,
    QTabBar,
    QTabWidget,
    QWidget,
)
from test_manifest import MANIFEST, WIDGETS
from train_helpers import JOBS, TRAIN

from napari_geosr.gui.kit import dock_tabs
from napari_geosr.gui.kit.dock_tabs import MODELS, PLUGIN, POROSITY, RESTORE, dock_of
from napari_geosr.gui.kit.frame import open_dock

#: A letter after an ampersand, unless the ampersand is literal.
_LETTER = re.compile(r"&([^&\s])")


def letters(widget: QWidget) -> list[tuple[str, str]]:
    """Letters that work with Alt in a dock, and the texts that have them."""
    texts = []
    for part in widget.findChildren(QWidget):
        if isinstance(part, QAbstractButton) or (
            isinstance(part, QLabel) and part.buddy() is not None
        ):
            texts.append(part.text())
        elif isinstance(part, QTabWidget | QTabBar):
            texts += [part.tabText(i) for i in range(part.count())]
    found = ((_LETTER.search(text), text) for text in dict.fromkeys(texts))
    return [(match[1].lower(), text) for match, text in found if match]


def shortcuts(widget: QWidget) -> list[tuple[str, str]]:
    """Shortcuts of buttons that are not mnemonics, and the names of the buttons."""
    buttons = widget.findChildren(QAbstractButton)
    keys = ((b.shortcut().toString(), b.accessibleName()) for b in buttons)
    return [(key, name) for key, name in keys if key.startswith("Alt+Shift")]


def test_menus_name_docks_in_the_order_of_the_work():
    assert WIDGETS == [
        dock_tabs.RECONSTRUCT,
        dock_tabs.SIM,
        dock_tabs.RESTORE,
        dock_tabs.SEGMENT,
        dock_tabs.SHAPES,
        dock_tabs.POROSITY,
        dock_tabs.COMPARE,
        dock_tabs.PAIRS,
        dock_tabs.TRAIN,
        dock_tabs.MODELS,
        dock_tabs.JOBS,
    ]
    assert all(len(name) <= 11 and " " not in name for name in WIDGETS)
    commands = {c["id"]: c["title"] for c in MANIFEST["contributions"]["commands"]}
    for widget in MANIFEST["contributions"]["widgets"]:
        assert commands[widget["command"]] == widget["display_name"]


@pytest.mark.parametrize("name", WIDGETS)
def test_no_letter_is_used_twice_or_by_a_menu(viewer, qtbot, name):
    dock = opened(viewer, name)
    bar = viewer.window._qt_window.menuBar()
    taken = {
        match[1].lower()
        for action in bar.actions()
        if (match := _LETTER.search(action.text()))
    }
    assert {"f", "v", "l", "p", "w", "h"} <= taken
    found = letters(dock)
    assert not [text for letter, text in found if letter in taken]
    used: dict[str, list[str]] = {}
    for letter, text in [*found, *shortcuts(dock)]:
        used.setdefault(letter, []).append(text)
    assert not {k: texts for k, texts in used.items() if len(texts) > 1}


def menu(viewer, qtbot, name: str):
    """Open a dock like napari's menu, and return its frame."""
    (command,) = (
        widget["command"]
        for widget in MANIFEST["contributions"]["widgets"]
        if widget["display_name"] == name
    )
    get_app_model().commands.execute_command(command)
    qtbot.waitUntil(lambda: dock_tabs.menu_name(name) in viewer.window.dock_widgets)
    return viewer.window.dock_widgets[dock_tabs.menu_name(name)]


def test_a_title_is_the_same_from_menu_script_and_dock(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    from_menu = dock_of(filled(menu(viewer, qtbot, RESTORE)))
    from_script, _ = viewer.window.add_plugin_dock_widget(PLUGIN, TRAIN)
    from_dock = dock_of(open_dock(viewer, MODELS))
    for dock, title in (
        (from_menu, RESTORE),
        (from_script, TRAIN),
        (from_dock, MODELS),
    ):
        qtbot.waitUntil(lambda d=dock, t=title: d.windowTitle() == t)
        assert dock.title.title.text() == title
    from_menu.setFloating(True)
    from_menu.setFloating(False)
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert from_menu.title.title.text() == RESTORE


def test_a_dock_is_there_once(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    first = menu(viewer, qtbot, JOBS)
    assert open_dock(viewer, JOBS) is first
    second = open_dock(viewer, MODELS)
    menu(viewer, qtbot, MODELS)  # which hides the existing ones
    assert viewer.window.dock_widgets[dock_tabs.menu_name(MODELS)] is second
    assert len(viewer.window.dock_widgets) == 2
    assert opened(viewer, JOBS).parentWidget() is first


def test_tabs_of_four_docks_can_be_read(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    window = viewer.window._qt_window
    window.resize(1366, 768)
    for name in (RESTORE, POROSITY, TRAIN, JOBS):
        opened(viewer, name)
        qtbot.wait(20)
    (bar,) = (b for b in window.findChildren(QTabBar) if b.count() == 4)
    metrics = bar.fontMetrics()
    for i in range(4):
        assert metrics.horizontalAdvance(bar.tabText(i)) < bar.tabRect(i).width()
        assert bar.tabRect(i).right() <= bar.width()


def test_titles_of_eight_tabs_are_whole(make_napari_viewer, qtbot):
    """The tabs scroll; Qt would shorten their titles to one letter."""
    viewer = make_napari_viewer(show=True)
    window = viewer.window._qt_window
    window.resize(1366, 768)
    for name in WIDGETS:
        opened(viewer, name)
        qtbot.wait(20)
    (bar,) = (b for b in window.findChildren(QTabBar) if b.count() == len(WIDGETS))
    qtbot.waitUntil(lambda: bar.elideMode() == Qt.TextElideMode.ElideNone)
    metrics = bar.fontMetrics()
    for i in range(bar.count()):
        assert metrics.horizontalAdvance(bar.tabText(i)) < bar.tabRect(i).width()
    assert bar.usesScrollButtons()
    assert bar.tabRect(bar.currentIndex()).right() <= bar.width()
