"""Choose projections: a file or a folder, and what it does not say of itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from napari_geosr.core.errors import ConfigError, GeoSRError
from napari_geosr.core.steps import Step, Warned
from napari_geosr.gui._elided import ElidedLabel
from napari_geosr.gui._form import ConfigForm
from napari_geosr.gui._labelled import button, small_button
from napari_geosr.gui._projection_layers import PROJECTIONS, view_of
from napari_geosr.gui._reconstruct_steps import open_steps
from napari_geosr.gui._section import Section
from napari_geosr.gui._worker import Run
from napari_geosr.io.suffixes import HDF5, PICTURE, TIFF
from napari_geosr.operations.projection_inputs import ProjectionsInput

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

_SUFFIXES = " ".join(f"*{suffix}" for suffix in (*HDF5, *TIFF, *PICTURE))
_FILTER = f"Projections ({_SUFFIXES});;All files (*)"


class OpenProjections(QWidget):
    """Two buttons, and a form with what the file does not say, or says wrongly.

    Signals
    -------
    opened : object
        The layer of the projections, which was added to the viewer.
    failed : object
        The error that kept them from being opened.
    noted : str
        What had to be supposed about the file.
    """

    opened = Signal(object)
    failed = Signal(object)
    noted = Signal(str)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._run: Run | None = None
        self.path: Path | None = None
        self.file_button = button(
            "&Open file…", "Data Exchange or NeXus HDF5, TIFF stack or sinogram."
        )
        self.folder_button = button("Open fol&der…", "A folder with one image a view.")
        for opening in (self.file_button, self.folder_button):
            opening.setAccessibleName(opening.accessibleName().removesuffix("…"))
        self.path_label = ElidedLabel("No file is chosen.")
        self.path_label.setAccessibleName("File of the projections")
        self.form = ConfigForm(ProjectionsInput)
        self.angles_button = small_button(
            "Angle file…",
            "Choose the file with the angles",
            "Choose a text file with one angle a line",
            "Alt+Shift+A",
        )
        self.again_button = button(
            "Read a&gain", "Open the same file with what is said here."
        )
        self._lay_out()
        self.file_button.clicked.connect(self._on_file)
        self.folder_button.clicked.connect(self._on_folder)
        self.angles_button.clicked.connect(self._on_angles)
        self.again_button.clicked.connect(self._on_again)
        self._show_busy(False)

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
            "Angles and pi&xels of the file",
            inner,
            tool_tip="What the file does not say about the scan, or says wrongly.",
        )
        buttons = QHBoxLayout()
        buttons.addWidget(self.file_button, 1)
        buttons.addWidget(self.folder_button, 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addLayout(buttons)
        whole.addWidget(self.section)

    def open(self, path: Path) -> None:
        """Open projections in a worker and add their layers; one file at a time."""
        if self._run is not None:
            return
        self.path = path
        self.path_label.setText(str(path))
        self.path_label.setToolTip(str(path))
        try:
            reading = self.form.config()
        except ConfigError as error:
            self._show_busy(False)
            self._on_error(error)
            return
        assert isinstance(reading, ProjectionsInput)
        self._run = Run(
            lambda stop: open_steps(path, reading, stop),
            owner=self,
            on_step=self._on_step,
            on_result=self._on_opened,
            on_error=self._on_error,
            on_finished=self._on_finished,
            description=f"Opening {path.name}",
        )
        self._show_busy(True)

    def _on_step(self, step: Step) -> None:
        if isinstance(step, Warned):
            self.noted.emit(step.message)

    def _on_opened(self, layers: list[Any]) -> None:
        from napari.layers import Layer

        added: list[Layer] = []
        for data in layers:
            layer = Layer.create(*data)
            self._viewer.add_layer(layer)
            added.append(layer)
        found = [layer for layer in added if view_of(layer) == PROJECTIONS]
        self.section.set_open(False)
        self.opened.emit(found[0])

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, GeoSRError) and self.path is not None:
            # Most often the angles are missing: here they are asked for.
            self.section.set_open(True)
        self.failed.emit(error)

    def _on_finished(self) -> None:
        self._run = None
        self._show_busy(False)

    def _show_busy(self, busy: bool) -> None:
        for widget in (self.file_button, self.folder_button):
            widget.setEnabled(not busy)
        self.again_button.setEnabled(not busy and self.path is not None)

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
