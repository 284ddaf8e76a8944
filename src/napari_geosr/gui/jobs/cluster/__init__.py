"""Run the operation of a dock on a cluster: the button, and the dialog it opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QObject, Signal
from qtpy.QtWidgets import QAbstractButton, QPushButton

from napari_geosr.core.errors import GeoSRError
from napari_geosr.gui.jobs.cluster.dialog import ClusterDialog
from napari_geosr.gui.jobs.cluster.proposal import RunEstimate
from napari_geosr.gui.kit.dock import Dock
from napari_geosr.gui.kit.dock_tabs import JOBS
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.kit.widgets import button
from napari_geosr.jobs.handover import Run

if TYPE_CHECKING:
    import napari.viewer

__all__ = ["ClusterButton", "RunEstimate"]


class ClusterButton(QObject):
    """The button *Run on a cluster…* of a dock, and the dialog that it opens.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    dock : Dock
        Dock that shows the messages.
    shortcut : str
        Shortcut of the button.
    text : str
        Text on the button.

    Signals
    -------
    submitted : object
        Folder of the submitted job.
    """

    submitted = Signal(object)

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        dock: Dock,
        shortcut: str,
        text: str = "Run on a cluster…",
    ) -> None:
        super().__init__(dock)
        self._viewer, self._dock = viewer, dock
        self._get_run: Callable[[], Run | None] | None = None
        self._estimate: RunEstimate | None = None
        self.dialog: ClusterDialog | None = None
        self.widget: QPushButton = button(
            text,
            "Run this on a cluster with SLURM or OAR. You can close napari; the Jobs "
            "dock shows the state of the job.",
            shortcut,
        )
        self.widget.clicked.connect(self._on_clicked)

    def set_run(
        self, get_run: Callable[[], Run | None], run_button: QAbstractButton
    ) -> None:
        """Set the function that describes the run, and the button that starts it here.

        Parameters
        ----------
        get_run : callable
            Returns the run, or None if the user decides against it; may raise
            `GeoSRError`.
        run_button : QAbstractButton
            Starts the same run on this computer. Both buttons are enabled and disabled
            together.
        """
        self._get_run = get_run
        run_button.installEventFilter(self)
        self.widget.setEnabled(run_button.isEnabled())

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Enable or disable the button together with the local run button."""
        if (
            event is not None
            and event.type() == QEvent.Type.EnabledChange
            and isinstance(watched, QAbstractButton)
        ):
            self.widget.setEnabled(watched.isEnabled())
        return False

    def set_estimate(self, estimate: RunEstimate | None) -> None:
        """Set the estimate of time and memory on this computer; None if unknown."""
        self._estimate = estimate

    def _on_clicked(self) -> None:
        if self._get_run is None:
            return
        try:
            run = self._get_run()
        except GeoSRError as error:
            self._dock.show_failure(error)
            return
        if run is None:
            return
        self.dialog = ClusterDialog(run, self._estimate, self.widget.window())
        self.dialog.submitted.connect(self._on_submitted)
        self.dialog.open()

    def _on_submitted(self, folder: Path, text: str) -> None:
        self.submitted.emit(folder)
        open_dock(self._viewer, JOBS, lambda jobs: jobs.show_job(folder))
        self._dock.message.show_message(text, "ok")
