"""Base class of docks: viewer, message, one operation at a time, settings."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, ClassVar, TypeVar

from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QWidget

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import Step
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.dock_tabs import MIN_WIDTH, DockTabifier
from napari_geosr.gui.kit.lifetime import Connections, unwrapped
from napari_geosr.gui.kit.notify import MessageRow, show_error
from napari_geosr.gui.kit.remembered import recall, remember

if TYPE_CHECKING:
    import napari.viewer
    from napari.components import LayerList
    from napari.utils.events import Event

AnyConfig = TypeVar("AnyConfig", bound=Config)


class Dock(QWidget):
    """The base of the plugin's dock widgets.

    A subclass sets `settings_name` if it remembers settings, creates its widgets, and
    overrides `show_busy`.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.

    Attributes
    ----------
    activity : Activity
        Runs the dock's background operations.
    message : MessageRow
        Shows results and errors. The subclass adds it to its layout.
    connections : Connections
        Connections to napari events; they end with the dock.
    """

    #: Name of the file in which settings are kept between sessions.
    settings_name: ClassVar[str] = ""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer: napari.viewer.Viewer = unwrapped(napari_viewer)
        DockTabifier(self)
        self.setMinimumWidth(MIN_WIDTH)
        self.message = MessageRow()
        self.connections = Connections(self)
        self._canvas = CanvasContext(self._viewer.layers, self, self.connections)
        self.activity = self._make_activity()
        self.activity.busyChanged.connect(self.show_busy)
        self.activity.failed.connect(self.show_failure)

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Load slow resources in a worker before the first dock is created."""
        yield from ()

    def _make_activity(self) -> Activity:
        """Create the activity that runs the dock's operations."""
        return Activity(self)

    def show_busy(self, what: str) -> None:
        """Update the widgets for the running operation `what` (empty if none)."""

    def show_failure(self, error: Exception) -> None:
        """Show an error in the dock, and in napari's window if the dock is hidden."""
        self.message.show_error(error)
        if not self.isVisible():
            show_error(error, self)

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
            Defaults if there are none or they cannot be read.
        error : ConfigError or None
            Why they cannot be read, if so.
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
            If they cannot be written.
        """
        remember(self._settings_file(part), config)

    def _settings_file(self, part: str) -> str:
        return f"{self.settings_name}_{part}" if part else self.settings_name


class CanvasContext:
    """Makes the canvas's OpenGL context current before napari removes a layer.

    When a layer is removed, napari sends all pending OpenGL commands at once. Outside
    a paint event no context is current: the first command fails, and napari drops the
    error and the commands that follow, including textures of other layers.
    Their next paint then fails with "Could not find texture with id …" and an empty
    canvas (napari 0.9.2, ``VispyCanvas._clean_and_update_scenegraph``).

    Parameters
    ----------
    layers : napari.components.LayerList
        Of the viewer.
    widget : QWidget
        A dock in the viewer's window; used to find the context. Its destruction ends
        the connection.
    connections : Connections
        Of the dock.
    """

    def __init__(
        self, layers: LayerList, widget: QWidget, connections: Connections
    ) -> None:
        self._widget = weakref.ref(widget)
        connections.connect(layers.events.removing, self.make_current)

    def make_current(self, _event: Event | None = None) -> None:
        """Make the context of each canvas in the window current, where it is shown."""
        widget = self._widget()
        if widget is None:
            return
        for canvas in widget.window().findChildren(QOpenGLWidget):
            if canvas.isValid():
                canvas.makeCurrent()
