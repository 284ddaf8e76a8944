"""Docks share one area, in which each is high and wide enough to be used."""

from __future__ import annotations

import pytest
from opening import in_front
from qtpy.QtCore import Qt
from train_helpers import JOBS, TRAIN, opened

from napari_geosr.gui.kit.dock_tabs import POROSITY, RESTORE, dock_of


@pytest.fixture
def viewer(make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1600, 1000)
    return viewer


@pytest.mark.parametrize("names", [(TRAIN, JOBS), (RESTORE, POROSITY)])
def test_docks_from_the_menu_become_tabs(viewer, qtbot, names):
    docks = []
    for name in names:
        docks.append(dock_of(opened(viewer, name)))
        qtbot.wait(50)
    window = viewer.window._qt_window
    assert window.tabifiedDockWidgets(docks[1]) == [docks[0]]
    qtbot.waitUntil(lambda: docks[1].height() > 700, timeout=5000)
    assert not docks[1].widget().visibleRegion().isEmpty()


def test_a_dock_that_another_opens_is_in_front(viewer, qtbot):
    train = opened(viewer, TRAIN)
    qtbot.wait(50)
    restore = in_front(viewer, RESTORE)
    qtbot.wait(200)
    dock, window = dock_of(restore), viewer.window._qt_window
    assert window.tabifiedDockWidgets(dock) == [dock_of(train)]
    qtbot.waitUntil(lambda: dock.height() > 700, timeout=5000)
    assert dock.width() >= 360
    button = restore.run_button
    qtbot.waitUntil(lambda: not button.visibleRegion().isEmpty(), timeout=5000)
    assert button.mapTo(window, button.rect().bottomLeft()).y() < window.height()
    assert in_front(viewer, TRAIN) is train
    button = train.start_button
    qtbot.waitUntil(lambda: not button.visibleRegion().isEmpty(), timeout=5000)


def test_two_opened_at_once_end_in_their_order(viewer, qtbot):
    first, second = opened(viewer, TRAIN), opened(viewer, JOBS)
    qtbot.waitUntil(lambda: not second.visibleRegion().isEmpty(), timeout=5000)
    assert first.start_button.visibleRegion().isEmpty()


def test_docks_of_other_places_stay(viewer, qtbot):
    train = dock_of(opened(viewer, TRAIN))
    window = viewer.window._qt_window
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, train)
    jobs = dock_of(opened(viewer, JOBS))
    qtbot.wait(50)
    assert window.dockWidgetArea(train) == Qt.DockWidgetArea.LeftDockWidgetArea
    assert window.tabifiedDockWidgets(jobs) == []
