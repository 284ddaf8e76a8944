"""The place of a dock: it shows at once, and is filled when the dock is imported."""

from __future__ import annotations

from collections.abc import Callable, Generator
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from npe2 import PluginManager
from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtWidgets import QGridLayout, QLabel, QMainWindow, QWidget

from napari_geosr.core.steps import Step
from napari_geosr.gui.kit.lifetime import unwrapped
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.places import (
    PLUGIN,
    WIDTH,
    DockTabifier,
    dock_of,
    shown_name,
)
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.kit.warm_up import without_collections
from napari_geosr.gui.kit.worker import BackgroundTask

if TYPE_CHECKING:
    import napari.viewer

    from napari_geosr.gui.kit.dock import Dock

_HEIGHT = 600


class DockFrame(QWidget):
    """The widget that napari docks; the dock itself fills it a moment later.

    Importing the parts of a dock and reading what it lists take up to a second. Both
    are done in a worker, so that the window stays usable, and only once: the next dock
    of the same kind is there at once. A subclass says which dock it is.

    This module, and what names the subclasses, must import nothing heavy.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.

    Attributes
    ----------
    dock : Dock or None
        What fills it; None until then.

    Signals
    -------
    filled : Dock
        The dock is there.
    """

    #: Module and name of the class of the dock, as entry points are written.
    dock_name: ClassVar[str]

    filled = Signal(object)

    #: Whether a dock of this kind can be made without waiting.
    _is_loaded: ClassVar[bool] = False

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer: Any = unwrapped(napari_viewer)
        DockTabifier(self)
        self.dock: Dock | None = None
        self._made: Dock | None = None  # but not in its place yet
        self.label = QLabel("Opening…")
        self.label.setMargin(12)
        self.label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.label.setAccessibleName("What is being done")
        self.label.setToolTip("The dock is opening.")
        self.message = MessageRow()
        # Not a column of boxes: napari would put an empty stretch below the dock.
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label, 0, 0)
        layout.addWidget(self.message, 1, 0)
        if self._is_loaded:
            self._make(self.dock_class())
            self._fill()
            return
        kind = type(self)
        self._task = BackgroundTask(
            lambda _stop: _load_steps(kind),
            owner=self,
            on_step=OperationProgress(self.label.setText).show_step,
            on_result=self._make,
            on_error=self._on_error,
        )

    @classmethod
    def dock_class(cls) -> type[Dock]:
        """Import and return the class of the dock; called in a worker first."""
        module, _, name = cls.dock_name.partition(":")
        found: type[Dock] = getattr(import_module(module), name)
        return found

    def when_filled(self, then: Callable[[Any], None]) -> None:
        """Call `then` with the dock: now, or as soon as it is there."""
        if self.dock is not None:
            then(self.dock)
        else:
            self.filled.connect(then)

    def sizeHint(self) -> QSize:
        """As wide as docks are made for, so that nothing moves as it is filled."""
        return QSize(WIDTH, _HEIGHT)

    def _on_error(self, error: Exception) -> None:
        self.label.hide()
        self.message.show_error(error)

    def _make(self, kind: type[Dock]) -> None:
        """Make the dock now, and show it in the next turn: each takes a moment."""
        type(self)._is_loaded = True
        self._made = kind(self._viewer)
        self._made.setParent(self)  # it goes with the frame, from now on
        QTimer.singleShot(0, self._fill)

    def _fill(self) -> None:
        if self._made is None:
            return
        self.dock, self._made = self._made, None
        self.label.hide()
        layout: Any = self.layout()
        layout.addWidget(self.dock, 2, 0)
        self.dock.show()  # not when the layout comes to it
        self.filled.emit(self.dock)


def _load_steps(frame: type[DockFrame]) -> Generator[Step, None, type[Dock]]:
    with without_collections():
        kind = frame.dock_class()
        yield from kind.load_steps()
    return kind


def open_dock(
    viewer: napari.viewer.Viewer, name: str, then: Callable[[Any], None] | None = None
) -> DockFrame:
    """Show the dock called `name`, in front: the one that is there, else a new one.

    Parameters
    ----------
    then : callable, optional
        Called with the dock when it is there, which may be a moment later.

    Returns
    -------
    DockFrame
    """
    frame = _find(viewer, name)
    if frame is None:
        frame = _frame_class(name)(viewer)
        # As napari's menus call it, which then know it.
        viewer.window.add_dock_widget(frame, name=shown_name(name), tabify=True)
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
    """The frame of a dock that is open, from a menu or from a script."""
    docks = viewer.window.dock_widgets
    for known in (shown_name(name), f"{name} ({PLUGIN})"):
        frame = docks.get(known)
        if isinstance(frame, DockFrame):
            return frame
    return None


def _frame_class(name: str) -> Any:
    """What the manifest names for a dock."""
    found = PluginManager.instance().iter_widgets()
    (contribution,) = (
        widget
        for widget in found
        if (widget.plugin_name, widget.display_name) == (PLUGIN, name)
    )
    return contribution.get_callable()
