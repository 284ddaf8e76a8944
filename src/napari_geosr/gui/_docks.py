"""Open another of our docks in front of the one that a person works with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

if TYPE_CHECKING:
    import napari.viewer

TRAIN, JOBS = "Train a model", "Jobs"
RESTORE, POROSITY = "Restore (denoise, super-resolve)", "Measure porosity"
#: Width that all docks are made for.
_WIDTH = 360


def open_dock(viewer: napari.viewer.Viewer, name: str) -> Any:
    """Show the dock called `name` at full height, and return its widget.

    Our docks of the same side of the window become tabs of one place: stacked, each
    would be too low to be used.
    """
    dock, widget = viewer.window.add_plugin_dock_widget(
        "napari-geosr", name, tabify=True
    )
    window = dock.parent()
    if isinstance(window, QMainWindow) and not dock.isFloating():
        side = window.dockWidgetArea(dock)
        for other in window.findChildren(QDockWidget):
            is_beside = window.dockWidgetArea(other) == side and not other.isFloating()
            if other is not dock and is_beside and _is_ours(other):
                window.tabifyDockWidget(dock, other)
    dock.show()
    dock.raise_()
    if isinstance(window, QMainWindow) and dock.width() < _WIDTH:
        window.resizeDocks([dock], [_WIDTH], Qt.Orientation.Horizontal)
    return getattr(widget, "native", widget)


def dock_of(widget: QWidget) -> QDockWidget | None:
    """The dock that `widget` is in."""
    parent = widget.parentWidget()
    while parent is not None and not isinstance(parent, QDockWidget):
        parent = parent.parentWidget()
    return parent


def _is_ours(dock: QDockWidget) -> bool:
    return type(dock.widget()).__module__.startswith("napari_geosr.")
