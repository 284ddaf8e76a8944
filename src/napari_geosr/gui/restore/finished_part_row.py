"""Offer to resume a run that was killed, from the files of its finished part."""

from __future__ import annotations

import math

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from napari_geosr.core.array_parts.boxes import n_voxels
from napari_geosr.operations.restore.resume import FinishedPart


class FinishedPartRow(QWidget):
    """Shows how much of the result is finished; hidden without a finished part.

    Signals
    -------
    resumed
        The user wants to resume the run.
    discarded
        The user wants to delete the finished part.
    """

    resumed = Signal()
    discarded = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setAccessibleName("Interrupted run")
        self.label.setToolTip(
            "napari was closed during a run on this scan with these settings. The "
            "finished tiles are still on disk."
        )
        self.resume_button = QPushButton("Resume")
        self.resume_button.setAccessibleName("Resume the interrupted run")
        self.resume_button.setToolTip(
            "Resume the run: restore the missing tiles (Alt+Shift+I)."
        )
        self.resume_button.setShortcut("Alt+Shift+I")
        self.discard_button = QPushButton("Discard")
        self.discard_button.setAccessibleName("Discard the interrupted run")
        self.discard_button.setToolTip(
            "Delete the finished tiles from the disk (Alt+Shift+X)."
        )
        self.discard_button.setShortcut("Alt+Shift+X")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.label, 1)
        row.addWidget(self.resume_button)
        row.addWidget(self.discard_button)
        self.resume_button.clicked.connect(lambda: self.resumed.emit())
        self.discard_button.clicked.connect(lambda: self.discarded.emit())
        self.set_part(None)

    def set_part(self, part: FinishedPart | None) -> None:
        """Offer the finished part; None hides the row."""
        self.setVisible(part is not None)
        if part is not None:
            share = sum(map(n_voxels, part.places)) / math.prod(part.volume.shape)
            self.label.setText(
                f"An interrupted run has finished {100 * share:.0f} % of this result."
            )
