"""Where our docks are: tabs of one place, opened in front of each other."""

from __future__ import annotations

import itertools

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QLabel, QMainWindow, QWidget

#: Titles of docks, as in the manifest, in the order of the work.
RECONSTRUCT, RESTORE, PAIRS, TRAIN = "Reconstruct", "Restore", "Pairs", "Train"
POROSITY, COMPARE, MODELS, JOBS = "Porosity", "Compare", "Models", "Jobs"
PLUGIN = "napari-geosr"
#: Docks in the order in which they were opened.
_numbers = itertools.count()
#: Width that all docks are made for.
WIDTH = 360


class DockTabifier(QObject):
    """Titles a new dock, and makes it a tab of ours that is there, once it is docked.

    napari stacks docks, and the lower one is then too low to be used. Where a person
    moves them afterwards they stay.

    Parameters
    ----------
    widget : QWidget
        What will be in the dock.
    """

    def __init__(self, widget: QWidget) -> None:
        super().__init__(widget)
        self.number = next(_numbers)
        QTimer.singleShot(0, self._join)

    def _join(self) -> None:
        dock = dock_of(self.parent())
        if dock is None or dock.widget() is not self.parent():
            return  # in a frame, which has a tabifier of its own
        self._retitle()
        # napari makes the title bar again when a dock floats or changes sides.
        dock.topLevelChanged.connect(self._retitle)
        dock.dockLocationChanged.connect(self._retitle)
        if dock.isFloating():
            return
        window = dock.parent()
        if not isinstance(window, QMainWindow):
            return
        side = window.dockWidgetArea(dock)
        beside = [
            other
            for other in window.findChildren(QDockWidget)
            if other is not dock
            and other.isVisible()
            and not other.isFloating()
            and window.dockWidgetArea(other) == side
            and self._is_newer_than(other.widget())
        ]
        if beside:
            window.tabifyDockWidget(max(beside, key=lambda d: d.height()), dock)
            # The tabs are there when the window has been laid out anew.
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

    def _is_newer_than(self, widget: QWidget) -> bool:
        """Whether `widget` is one of ours that was opened before."""
        theirs = widget.findChild(
            DockTabifier, options=Qt.FindChildOption.FindDirectChildrenOnly
        )
        return theirs is not None and theirs.number < self.number


def dock_of(widget: QWidget) -> QDockWidget | None:
    """The dock that `widget` is in."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


def shown_name(name: str) -> str:
    """What napari's menus call the dock called `name`."""
    return f"{name} (GeoSR)"


def _shorten_title(dock: QDockWidget) -> None:
    """Leave the name of the plugin out of a dock's title: tabs have little room.

    napari adds that name, which is another one from its menus than from its API. The
    object keeps both: napari finds docks by them.
    """
    title = str(dock.objectName()).rpartition(" (")[0]
    if not title:
        return
    dock.setWindowTitle(title)
    bar = dock.titleBarWidget()
    for label in () if bar is None else bar.findChildren(QLabel):
        if label.text() == dock.objectName():
            label.setText(title)
