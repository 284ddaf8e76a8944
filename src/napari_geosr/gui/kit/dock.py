"""Base class of docks: viewer, message, one operation at a time, settings."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

from qtpy.QtCore import QEvent, QObject, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QWidget

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import Step
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock_tabs import MIN_WIDTH, DockTabifier, dock_of
from napari_geosr.gui.kit.form import (
    ConfigForm,
    error_in_fields,
    show_in_fields,
)
from napari_geosr.gui.kit.lifetime import Connections, unwrapped
from napari_geosr.gui.kit.notify import MessageRow, show_error
from napari_geosr.gui.kit.remembered import recall, remember
from napari_geosr.gui.kit.widgets import PartScroller

if TYPE_CHECKING:
    import napari.viewer
    from napari.components import LayerList
    from napari.utils.events import Event

AnyConfig = TypeVar("AnyConfig", bound=Config)


class Dock(QWidget):
    """Base class of the plugin's dock widgets.

    A subclass creates its widgets and overrides `show_busy`. If it has settings, it
    also overrides `settings_forms`; if it remembers them, it sets `settings_name`.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Viewer, given by napari.

    Attributes
    ----------
    activity : Activity
        Runs the dock's background operations.
    message : MessageRow
        Shows results and errors. The subclass adds it to its layout.
    scroller : PartScroller or None
        Scrolls to a setting. Created by subclasses that scroll their settings.
    connections : Connections
        Connections to napari events; they end with the dock.

    Signals
    -------
    closed
        The user closed the dock: previews are removed from the viewer.
    """

    closed = Signal()

    #: Name of the file in which settings are kept between sessions.
    settings_name: ClassVar[str] = ""
    #: Titles of fields that do not belong to a form, by the name of the setting.
    #: Messages use them in place of command-line options.
    option_titles: ClassVar[Mapping[str, str]] = {}

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer: napari.viewer.Viewer = unwrapped(napari_viewer)
        DockTabifier(self)
        self.setMinimumWidth(MIN_WIDTH)
        self.message = MessageRow()
        self.scroller: PartScroller | None = None
        self.connections = Connections(self)
        self._canvas = CanvasContext(self._viewer.layers, self, self.connections)
        self.activity = self._make_activity()
        self.activity.busyChanged.connect(self.show_busy)
        self.activity.failed.connect(self.show_failure)

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Load slow resources in a worker before the first dock is created."""
        yield from ()

    def begin(self) -> None:
        """Start reading long contents; called once, when the dock has been inserted.

        Inserting a dock that is already filled would take several times as long.
        """

    def _make_activity(self) -> Activity:
        """Create the activity that runs the dock's operations."""
        return Activity(self)

    def showEvent(self, event: QShowEvent | None) -> None:
        """Watch the frame in which this dock is shown."""
        super().showEvent(event)
        if (frame := dock_of(self)) is not None:
            frame.installEventFilter(self)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Report that the frame is being closed."""
        if event is not None and event.type() == QEvent.Type.DeferredDelete:
            self.closed.emit()
        return bool(super().eventFilter(watched, event))

    def show_busy(self, what: str) -> None:
        """Update the widgets for the running operation `what` (empty if none)."""

    # Errors

    def settings_forms(self) -> Sequence[ConfigForm]:
        """Return the forms with the current settings, from top to bottom."""
        return ()

    def show_failure(self, error: Exception) -> None:
        """Show an error in the dock, and in napari's window if the dock is hidden."""
        self.show_settings_error(error)
        if not self.isVisible():
            show_error(self.reworded(error), self)

    def show_settings_error(self, error: Exception) -> None:
        """Show an error below the fields that it concerns, or at the bottom."""
        fields = self.show_in_fields(error)
        if not fields:
            self.message.show_error(self.reworded(error))
            return
        self.message.clear()  # the message was about the previous operation
        if self.scroller is not None:
            self.scroller.show_part(fields[0])

    def show_in_fields(self, error: Exception) -> list[QWidget]:
        """Show an error below the fields that it concerns, and return these fields."""
        return show_in_fields(error, self.settings_forms())

    def reworded(self, error: Exception) -> Exception:
        """Return an error that names fields of the dock instead of options."""
        return error_in_fields(error, self.settings_forms(), self)

    def show_warning(self, text: str) -> None:
        """Show a warning."""
        self.message.show_message(text, "warning")

    def clear_errors(self) -> None:
        """Clear the message and the errors below fields."""
        self.message.clear()
        for form in self.settings_forms():
            form.clear_faults()

    def clear_faults(self) -> None:
        """Clear an error at the bottom and those below fields; keep other messages."""
        if self.message.has_error:
            self.message.clear()
        for form in self.settings_forms():
            form.clear_faults()

    # Settings

    def recall(
        self, config_type: type[AnyConfig], part: str = ""
    ) -> tuple[AnyConfig, ConfigError | None]:
        """Read the settings of the last session.

        Parameters
        ----------
        part : str
            Which settings to read, if the dock keeps several files.

        Returns
        -------
        config : Config
            The stored settings; the defaults if there are none or they cannot be read.
        error : ConfigError or None
            Why they cannot be read; None if there is no error.
        """
        try:
            return recall(self._settings_file(part), config_type), None
        except ConfigError as error:
            return config_type(), error

    def remember(self, config: Config, part: str = "") -> None:
        """Keep settings for the next session.

        Raises
        ------
        GeoSRError
            If the settings cannot be written.
        """
        remember(self._settings_file(part), config)

    def _settings_file(self, part: str) -> str:
        return f"{self.settings_name}_{part}" if part else self.settings_name


class CanvasContext:
    """Makes the canvas's OpenGL context current before napari removes a layer.

    When a layer is removed, napari sends all pending OpenGL commands at once. Outside a
    paint event, no context is current. The first command then fails, and napari drops
    both the error and the remaining commands, including those for textures of other
    layers. The next attempt to paint these layers then fails with "Could not find
    texture with id …" and an empty canvas (napari 0.9.2,
    ``VispyCanvas._clean_and_update_scenegraph``).

    Parameters
    ----------
    layers : napari.components.LayerList
        Layers of the viewer.
    widget : QWidget
        A dock in the viewer's window; used to find the context. Its destruction ends
        the connection.
    connections : Connections
        Connections of the dock.
    """

    def __init__(
        self, layers: LayerList, widget: QWidget, connections: Connections
    ) -> None:
        self._widget = weakref.ref(widget)
        connections.connect(layers.events.removing, self.make_current)

    def make_current(self, _event: Event | None = None) -> None:
        """Make the context of each visible canvas in the window current."""
        widget = self._widget()
        if widget is None:
            return
        for canvas in widget.window().findChildren(QOpenGLWidget):
            if canvas.isValid():
                canvas.makeCurrent()
