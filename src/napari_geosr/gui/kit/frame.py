"""A widget that napari docks immediately; it is filled once the dock is imported."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from npe2 import PluginManager
from qtpy.compat import isalive
from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QMainWindow, QWidget

from napari_geosr.core.steps import Step
from napari_geosr.gui.kit.dock_tabs import (
    MIN_WIDTH,
    PLUGIN,
    WIDTH,
    DockTabifier,
    dock_of,
    menu_name,
)
from napari_geosr.gui.kit.lifetime import unwrapped, when_destroyed
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.kit.warm_up import garbage_collection_paused
from napari_geosr.gui.kit.worker import BackgroundTask

if TYPE_CHECKING:
    import napari.viewer

    from napari_geosr.gui.kit.dock import Dock

_HEIGHT = 600
#: Milliseconds between two steps of opening a dock. Qt handles a timer of 0 ms in the
#: same iteration of the event loop.
_PAUSE_MS = 1


class DockFrame(QWidget):
    """The widget that napari docks; the dock itself is inserted a moment later.

    Importing the modules of a dock and reading its lists can take up to a second. Both
    are done in a worker, so that the window remains usable, and only once: the next
    dock of the same kind opens immediately. A subclass names the class of its dock.

    This module and those that define the subclasses must not import heavy libraries.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.

    Attributes
    ----------
    dock : Dock or None
        The dock itself; None until it is inserted.

    Signals
    -------
    filled : Dock
        The dock was inserted.
    """

    #: Module and class of the dock, in the syntax of entry points.
    dock_name: ClassVar[str]

    filled = Signal(object)

    #: Whether the modules of this dock are loaded, so that it is created without delay.
    _is_loaded: ClassVar[bool] = False

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer: Any = unwrapped(napari_viewer)
        DockTabifier(self)
        self.dock: Dock | None = None
        self._pending_dock: Dock | None = None  # a dock that has not been inserted yet
        self._unadopted: list[Dock] = []  # not inserted, perhaps without a parent
        when_destroyed(self, partial(_delete_docks, self._unadopted))
        # Use the dock's width from the start, before a crowded window can widen it.
        self.setMinimumWidth(MIN_WIDTH)
        self.label = QLabel("Opening…")
        self.label.setMargin(12)
        self.label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.label.setAccessibleName("Current activity")
        self.label.setToolTip("The dock is opening.")
        self.message = MessageRow()
        # Do not use a QVBoxLayout, to which napari would add an empty stretch.
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label, 0, 0)
        layout.addWidget(self.message, 1, 0)
        if self._is_loaded:
            self._create_dock(self.dock_class())
            self._insert_dock()
            return
        kind = type(self)
        self._task = BackgroundTask(
            lambda _stop: _load_steps(kind),
            owner=self,
            on_step=OperationProgress(self.label.setText).show_step,
            on_result=self._create_dock,
            on_error=self._on_error,
        )

    @classmethod
    def dock_class(cls) -> type[Dock]:
        """Import and return the class of the dock; the first call runs in a worker."""
        module, _, name = cls.dock_name.partition(":")
        dock_type: type[Dock] = getattr(import_module(module), name)
        return dock_type

    def when_filled(self, then: Callable[[Any], None]) -> None:
        """Call `then` with the dock, as soon as it is inserted."""
        if self.dock is not None:
            then(self.dock)
        else:
            self.filled.connect(then)

    def sizeHint(self) -> QSize:
        """Return the width of docks, so that the layout does not change later."""
        return QSize(WIDTH, _HEIGHT)

    def _on_error(self, error: Exception) -> None:
        self.label.hide()
        self.message.show_error(error)

    def _create_dock(self, kind: type[Dock]) -> None:
        """Create the dock; adopt it in the next event-loop iteration, and then show it.

        Each of these steps takes a noticeable time.
        """
        type(self)._is_loaded = True
        self._pending_dock = kind(self._viewer)
        self._unadopted.append(self._pending_dock)
        QTimer.singleShot(_PAUSE_MS, self._adopt_dock)

    def _adopt_dock(self) -> None:
        """Become the dock's parent, which gives its widgets the style of the window."""
        if self._pending_dock is not None:
            self._pending_dock.setParent(self)  # deleted together with the frame
            QTimer.singleShot(_PAUSE_MS, self._insert_dock)

    def _insert_dock(self) -> None:
        if self._pending_dock is None:
            return
        self.dock, self._pending_dock = self._pending_dock, None
        self.label.hide()
        layout: Any = self.layout()
        layout.addWidget(self.dock, 2, 0)
        self._unadopted.clear()
        self.dock.show()  # otherwise, the layout would show it only later
        self.dock.begin()
        self.filled.emit(self.dock)


def _delete_docks(docks: list[Dock]) -> None:
    """Delete docks that have no parent because their frame was closed too early."""
    for dock in docks:
        if isalive(dock):
            dock.deleteLater()


def _load_steps(frame: type[DockFrame]) -> Generator[Step, None, type[Dock]]:
    with garbage_collection_paused():
        kind = frame.dock_class()
        yield from kind.load_steps()
    return kind


def open_dock(
    viewer: napari.viewer.Viewer, name: str, then: Callable[[Any], None] | None = None
) -> DockFrame:
    """Raise the dock called `name`; open it if necessary.

    Parameters
    ----------
    then : callable, optional
        Called with the dock once it is inserted, which may be a moment later.

    Returns
    -------
    DockFrame
    """
    frame = _find(viewer, name)
    if frame is None:
        frame = _frame_class(name)(viewer)
        # Use the name that napari's menus use, so that they find the dock.
        viewer.window.add_dock_widget(frame, name=menu_name(name), tabify=True)
    dock: Any = dock_of(frame)
    dock.show()
    dock.raise_()
    window = dock.parent()
    if isinstance(window, QMainWindow) and dock.width() < WIDTH:
        window.resizeDocks([dock], [WIDTH], Qt.Orientation.Horizontal)
    if then is not None:
        frame.when_filled(then)
    return frame


def _find(viewer: napari.viewer.Viewer, name: str) -> DockFrame | None:
    """Return the frame of a dock that was opened from a menu or by a script."""
    docks = viewer.window.dock_widgets
    for title in (menu_name(name), f"{name} ({PLUGIN})"):
        frame = docks.get(title)
        if isinstance(frame, DockFrame):
            return frame
    return None


def _frame_class(name: str) -> Any:
    """Return the class that the manifest names for a dock."""
    widgets = PluginManager.instance().iter_widgets()
    (contribution,) = (
        widget
        for widget in widgets
        if (widget.plugin_name, widget.display_name) == (PLUGIN, name)
    )
    return contribution.get_callable()
