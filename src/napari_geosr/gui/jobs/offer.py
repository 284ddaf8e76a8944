"""Base class of the dock rows that offer a job."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QAbstractButton, QHBoxLayout, QLabel, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.jobs import queue_actions
from napari_geosr.gui.kit.notify import show_error
from napari_geosr.jobs.folder import JobFolder


class JobOffer(QWidget):
    """A sentence about a job, with buttons; hidden while there is no job to offer.

    Parameters
    ----------
    parent : QWidget, optional
    name, tool_tip : str
        Accessible name and tool tip of the sentence.
    """

    def __init__(self, parent: QWidget | None, name: str, tool_tip: str) -> None:
        super().__init__(parent)
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setAccessibleName(name)
        self.label.setToolTip(tool_tip)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(0, 0, 0, 0)
        self._row.addWidget(self.label, 1)
        self.setVisible(False)

    def add_buttons(self, *buttons: QAbstractButton) -> None:
        """Add buttons to the right of the sentence."""
        for button in buttons:
            self._row.addWidget(button)

    def resume(self, job: Path) -> bool:
        """Start the process of a job; on failure, show the error and return False."""
        try:
            queue_actions.resume(JobFolder(job), self, self.show_failure)
        except (GeoSRError, OSError) as error:
            self.show_failure(error)
            return False
        return True

    def set_aside(self, job: Path) -> None:
        """Mark the job as seen, so that it is not offered again."""
        try:
            JobFolder(job).set_seen()
        except GeoSRError as error:
            self.show_failure(error)

    def show_failure(self, error: Exception) -> None:
        """Show why something could not be done."""
        show_error(error, self)
