"""Titles and positions of the docks, which open as tabs in front of each other."""

from __future__ import annotations

import itertools

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QLabel, QMainWindow, QTabBar, QWidget

#: Titles of docks, as in the manifest, in the order in which they are used.
RECONSTRUCT, RESTORE, PAIRS, TRAIN = "Reconstruct", "Restore", "Pairs", "Train"
POROSITY, COMPARE, MODELS, JOBS = "Porosity", "Compare", "Models", "Jobs"
SIM, SEGMENT, SHAPES = "SIM", "Segment", "Shapes"
PLUGIN = "napari-geosr"
#: Counter that numbers the docks in the order in which they are opened.
_numbers = itertools.count()
#: Initial width of docks in pixels.
WIDTH = 360
#: Minimum width of a dock in pixels.
MIN_WIDTH = 300


class DockTabifier(QObject):
    """Sets the title of a new dock and makes it a tab next to the plugin's other docks.

    napari stacks docks, which leaves too little height for the lower one. Docks that
    the user moves later keep their position.

    Parameters
    ----------
    widget : QWidget
        Content of the dock.
    """

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self.number = next(_numbers)
        QTimer.singleShot(0, self._tabify)

    def _tabify(self) -> None:
        dock = dock_of(self.parent())
        if dock is None or dock.widget() is not self.parent():
            return  # the widget is in a frame, which handles the tabs
        self._retitle()
        # napari recreates the title bar when a dock floats or changes sides.
        dock.topLevelChanged.connect(self._retitle)
        dock.dockLocationChanged.connect(self._retitle)
        if dock.isFloating():
            return
        window = dock.parent()
        if not isinstance(window, QMainWindow):
            return
        side = window.dockWidgetArea(dock)
        neighbours = [
            other
            for other in window.findChildren(
                QDockWidget, options=Qt.FindChildOption.FindDirectChildrenOnly
            )
            if other is not dock
            and other.isVisible()
            and not other.isFloating()
            and window.dockWidgetArea(other) == side
            and self._follows(other.widget())
        ]
        if neighbours:
            window.tabifyDockWidget(max(neighbours, key=lambda d: d.height()), dock)
            # The tabs do not exist until the window has been laid out.
            QTimer.singleShot(0, self._raise)

    def _retitle(self, _place: object = None) -> None:
        dock = dock_of(self.parent())
        if dock is not None:
            _shorten_title(dock)

    def _raise(self) -> None:
        dock = dock_of(self.parent())
        if dock is not None:
            dock.show()
            dock.raise_()
            _show_whole_titles(dock)

    def _follows(self, widget: QWidget) -> bool:
        """Whether `widget` is one of the plugin's docks and was opened earlier."""
        theirs = widget.findChild(
            DockTabifier, options=Qt.FindChildOption.FindDirectChildrenOnly
        )
        return theirs is not None and theirs.number < self.number


def dock_of(widget: QWidget) -> QDockWidget | None:
    """Return the dock that contains `widget`, or None."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


def _show_whole_titles(dock: QDockWidget) -> None:
    """Let the tab bar that contains `dock` scroll instead of shortening titles.

    If there are many tabs, Qt shortens their titles to "R…", which makes them look
    alike.
    """
    window = dock.parent()
    if not isinstance(window, QMainWindow) or not window.tabifiedDockWidgets(dock):
        return
    for bar in window.findChildren(
        QTabBar, options=Qt.FindChildOption.FindDirectChildrenOnly
    ):
        if dock.windowTitle() in (bar.tabText(i) for i in range(bar.count())):
            bar.setElideMode(Qt.TextElideMode.ElideNone)
            bar.setUsesScrollButtons(True)


def menu_name(name: str) -> str:
    """Return the name under which napari's menus list the dock `name`."""
    return f"{name} (GeoSR)"


def _shorten_title(dock: QDockWidget) -> None:
    """Remove the name of the plugin from a dock's title, because tabs are narrow.

    napari adds the plugin's name, in different forms for its menus and its API. The
    object name is not changed, because napari uses it to find docks.
    """
    title = str(dock.objectName()).rpartition(" (")[0]
    if not title:
        return
    dock.setWindowTitle(title)
    bar = dock.titleBarWidget()
    for label in () if bar is None else bar.findChildren(QLabel):
        if label.text() == dock.objectName():
            label.setText(title)
