"""What every dock has: the viewer, a message, one operation at a time, settings."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, ClassVar, TypeVar

from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QWidget

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import Step
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.lifetime import Connections, unwrapped
from napari_geosr.gui.kit.notify import MessageRow, show_error
from napari_geosr.gui.kit.places import DockTabifier
from napari_geosr.gui.kit.remembered import recall, remember

if TYPE_CHECKING:
    import napari.viewer
    from napari.components import LayerList
    from napari.utils.events import Event

AnyConfig = TypeVar("AnyConfig", bound=Config)

#: Pixels that a dock is wide at least.
_LEAST_WIDTH = 300


class Dock(QWidget):
    """The base of the plugin's dock widgets.

    A subclass sets `settings_name` where it remembers settings, makes its widgets, and
    overrides `show_busy`.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        Given by napari.

    Attributes
    ----------
    activity : Activity
        What the dock does in the background.
    message : MessageRow
        Tells what was done, and errors. The subclass puts it into its layout.
    connections : Connections
        To events of napari; they end with the dock.
    """

    #: Of the file of settings that are kept between sessions.
    settings_name: ClassVar[str] = ""

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer: napari.viewer.Viewer = unwrapped(napari_viewer)
        DockTabifier(self)
        self.setMinimumWidth(_LEAST_WIDTH)
        self.message = MessageRow()
        self.connections = Connections(self)
        self._canvas = CanvasContext(self._viewer.layers, self, self.connections)
        self.activity = self._make_activity()
        self.activity.busyChanged.connect(self.show_busy)
        self.activity.failed.connect(self.show_failure)

    @classmethod
    def load_steps(cls) -> Generator[Step, None, None]:
        """Read what takes long and is kept; runs in a worker, before the first dock."""
        yield from ()

    def _make_activity(self) -> Activity:
        """Make what runs the dock's operations."""
        return Activity(self)

    def show_busy(self, what: str) -> None:
        """Enable and show what can be used while `what` runs; empty: nothing."""

    def show_failure(self, error: Exception) -> None:
        """Show an error in the dock; also in napari's window if the dock is hidden."""
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
            Which of its settings, where the dock keeps several files.

        Returns
        -------
        config : Config
            Defaults where there are none, or where they cannot be read.
        error : ConfigError or None
            Why they cannot be read.
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

    When a layer is removed, napari sends all waiting OpenGL commands at once. Outside
    of a paint event no context is current: the first command fails, napari drops the
    error and with it the commands that follow, among them textures of other layers.
    Their next paint then ends with "Could not find texture with id …" and an empty
    canvas (napari 0.9.2, ``VispyCanvas._clean_and_update_scenegraph``).

    Parameters
    ----------
    layers : napari.components.LayerList
        Of the viewer.
    widget : QWidget
        A dock in the viewer's window; the context is found from it, and it ends the
        connection.
    connections : Connections
        Of the dock.
    """

    def __init__(
        self, layers: LayerList, widget: QWidget, connections: Connections
    ) -> None:
        self._widget = widget
        connections.connect(layers.events.removing, self.make_current)

    def make_current(self, _event: Event | None = None) -> None:
        """Make the context of each canvas in the window current, where it is shown."""
        for canvas in self._widget.window().findChildren(QOpenGLWidget):
            if canvas.isValid():
                canvas.makeCurrent()
