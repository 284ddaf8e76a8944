"""Open projections from a file or folder, and add missing metadata."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from napari_geosr.core.errors import ConfigError, GeoSRError
from napari_geosr.core.text.display import short_path
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.form import ConfigForm, error_in_fields, show_in_fields
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.widgets import ElidedLabel, Section, button, small_button
from napari_geosr.gui.layers import METADATA
from napari_geosr.gui.layers.projections import PROJECTIONS, view_of
from napari_geosr.gui.layers.scan_views import read_scans_in_threads
from napari_geosr.gui.reconstruct.steps import open_steps
from napari_geosr.io.formats import format_of
from napari_geosr.io.projections import projection_suffixes
from napari_geosr.operations.reconstruct.inputs import ProjectionsInput

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

_SUFFIXES = " ".join(f"*{suffix}" for suffix in projection_suffixes())
_FILTER = f"Projections ({_SUFFIXES});;All files (*)"


class OpenProjections(QWidget):
    """Two buttons, and a form for metadata that are missing or wrong in the file.

    Signals
    -------
    opened : object
        The layer of the projections, which was added to the viewer.
    failed : object
        The error that prevented opening; it is also shown in this widget.
    """

    opened = Signal(object)
    failed = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.activity = Activity(self)
        self.activity.failed.connect(self._on_error)
        self.activity.busyChanged.connect(self._show_busy)
        self._user_has_chosen = False  # whether the user has chosen a file
        self.path: Path | None = None
        self.file_button = button(
            "&Open file…",
            "Open HDF5 projections (Data Exchange or NeXus), a TIFF "
            "stack or a sinogram.",
        )
        self.folder_button = button(
            "Open fol&der…", "Open a folder with one image per projection."
        )
        for opening in (self.file_button, self.folder_button):
            opening.setAccessibleName(opening.accessibleName().removesuffix("…"))
        self.path_label = ElidedLabel("No file selected")
        self.path_label.setAccessibleName("Projection file")
        self.form = ConfigForm(ProjectionsInput)
        self.angles_button = small_button(
            "Angle file…",
            "Choose the angle file",
            "Choose a text file with one angle per line",
            "Alt+Shift+A",
        )
        self.again_button = button(
            "Read again", "Open the same file with these settings.", "Alt+Shift+E"
        )
        # A row of its own, because messages about reconstructions scroll with the form.
        self.message = MessageRow(shortcut="Alt+Shift+O")
        self._lay_out()
        self.file_button.clicked.connect(self._on_file)
        self.folder_button.clicked.connect(self._on_folder)
        self.angles_button.clicked.connect(self._on_angles)
        self.again_button.clicked.connect(self._on_again)
        self._show_busy("")

    def _lay_out(self) -> None:
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.path_label)
        column.addWidget(self.form)
        last = QHBoxLayout()
        last.addWidget(self.angles_button)
        last.addWidget(self.again_button, 1)
        column.addLayout(last)
        self.section = Section(
            "Angles and pi&xel size",
            inner,
            tool_tip="Metadata that are missing or wrong in the file.",
        )
        buttons = QHBoxLayout()
        buttons.addWidget(self.file_button, 1)
        buttons.addWidget(self.folder_button, 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addLayout(buttons)
        whole.addWidget(self.message)
        whole.addWidget(self.section)

    def suggest(self, layer: Layer | None) -> None:
        """Offer to read an image file as projections, if none have been opened."""
        path = None if layer is None else _image_path(layer)
        if path is None or self.activity.busy or self._user_has_chosen:
            return
        self._show_path(path)
        self.section.set_open(True)
        self.message.show_message(
            f"If {path.name} contains projections or a sinogram, enter the angles and "
            "press Read again."
        )
        self._show_busy("")

    def hide_suggestion(self) -> None:
        """Hide the message and suggestion once projections are open."""
        self.message.clear()
        self.section.set_open(False)

    def _show_path(self, path: Path) -> None:
        self.path = path
        self.path_label.setText(short_path(path))
        self.path_label.setToolTip(str(path))

    def open(self, path: Path) -> None:
        """Open projections in a worker and add their layers; one file at a time."""
        if self.activity.busy:
            return
        self._user_has_chosen = True
        self._show_path(path)
        self.message.clear()
        try:
            reading = self.form.config()
        except ConfigError as error:
            self._show_busy("")
            self._on_error(error)
            return
        assert isinstance(reading, ProjectionsInput)
        self.activity.start(
            "open",
            lambda stop: open_steps(path, reading, stop),
            self._on_opened,
            description=f"Opening {path.name}",
        )

    def _on_opened(self, layers: list[Any]) -> None:
        from napari.layers import Layer

        read_scans_in_threads(self._viewer)
        for layer in self._viewer.layers:
            if _image_path(layer) == self.path:
                layer.visible = False  # shows the same file, opened as an image
        added: list[Layer] = []
        for data in layers:
            layer = Layer.create(*data)
            self._viewer.add_layer(layer)
            added.append(layer)
        views = [layer for layer in added if view_of(layer) == PROJECTIONS]
        self.opened.emit(views[0])

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, GeoSRError):
            # Usually the angles are missing; they can be entered here.
            self.section.set_open(True)
        if not show_in_fields(error, (self.form,)):
            self.message.show_error(error_in_fields(error, (self.form,)))
        self.failed.emit(error)

    def _show_busy(self, what: str) -> None:
        for widget in (self.file_button, self.folder_button):
            widget.setEnabled(not what)
        self.again_button.setEnabled(not what and self.path is not None)

    def _on_file(self) -> None:
        start = "" if self.path is None else str(self.path.parent)
        text, _ = QFileDialog.getOpenFileName(self, "Open projections", start, _FILTER)
        if text:
            self.open(Path(text))

    def _on_folder(self) -> None:
        start = "" if self.path is None else str(self.path.parent)
        text = QFileDialog.getExistingDirectory(self, "Open projections", start)
        if text:
            self.open(Path(text))

    def _on_angles(self) -> None:
        start = "" if self.path is None else str(self.path.parent)
        text, _ = QFileDialog.getOpenFileName(self, "File with angles", start)
        if text:
            self.form.set_values({"angles": text})

    def _on_again(self) -> None:
        if self.path is not None:
            self.open(self.path)


def _image_path(layer: Layer) -> Path | None:
    """Return the path of a layer that was opened as an image; None for others."""
    record = layer.metadata.get(METADATA, {})
    path = record.get("source") or record.get("file") or layer.source.path
    if path is None or "helper" in record or record.get("provenance"):
        return None
    source = Path(path)
    kind = format_of(source)
    if source.is_dir():
        return None if kind is not None and kind.is_folder else source
    return source if kind is not None and kind.may_be_slice else None
