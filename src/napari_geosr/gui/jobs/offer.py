"""Base class of the dock rows that offer a job."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtWidgets import QAbstractButton, QHBoxLayout, QVBoxLayout, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.jobs import queue_actions
from napari_geosr.gui.kit.notify import show_error
from napari_geosr.gui.kit.widgets import SentenceLabel
from napari_geosr.jobs.folder import JobFolder


class JobOffer(QWidget):
    """Row that offers a job: a sentence and buttons; hidden while there is no job.

    Parameters
    ----------
    parent : QWidget, optional
    name, tool_tip : str
        Accessible name and tool tip of the sentence.
    """

    def __init__(self, parent: QWidget | None, name: str, tool_tip: str) -> None:
        super().__init__(parent)
        self.label = SentenceLabel()
        self.label.setAccessibleName(name)
        self.label.setToolTip(tool_tip)
        # The buttons are below the sentence: a narrow dock has no room next to it.
        self._row = QHBoxLayout()
        self._row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addWidget(self.label)
        column.addLayout(self._row)
        self.setVisible(False)

    def add_buttons(self, *buttons: QAbstractButton) -> None:
        """Add buttons below the sentence."""
        for button in buttons:
            self._row.addWidget(button)

    def resume(self, job: Path) -> bool:
        """Start the process of a job; on failure, show the error and return False."""
        try:
            queue_actions.resume(
                JobFolder(job), self, self.show_failure, self.on_resumed
            )
        except (GeoSRError, OSError) as error:
            self.show_failure(error)
            return False
        return True

    def on_resumed(self) -> None:
        """React to the start, or failed start, of a job; by default, do nothing."""

    def set_aside(self, job: Path) -> None:
        """Mark the job as seen, so that it is not offered again."""
        try:
            JobFolder(job).set_seen()
        except GeoSRError as error:
            self.show_failure(error)

    def show_failure(self, error: Exception) -> None:
        """Show why an action failed."""
        show_error(error, self)
