"""Show a preview of a job on another computer without copying the job's volume."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.gui.jobs.preview import JobPreview
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.jobs import previews
from napari_geosr.jobs.index import Elsewhere

if TYPE_CHECKING:
    import napari.viewer

#: Word that follows the name of the job in the name of the layer.
_TITLE = "preview"
#: Seconds from an error to the next attempt to fetch a preview.
_RETRY_SECONDS = 10.0


class RemotePreview(QObject):
    """Fetches the latest preview of one job over ssh, in a worker, and shows it.

    Signals
    -------
    failed : object
        The error if the preview could not be fetched or read.
    """

    failed = Signal(object)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._preview = JobPreview(viewer, self, _TITLE)
        self._preview.failed.connect(self.failed)
        self._activity = Activity(self)
        self._folder = Path(tempfile.mkdtemp(prefix="napari-geosr-"))
        # Removes the folder at exit at the latest; a TemporaryDirectory would warn.
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._job: Elsewhere | None = None
        self._updated, self._n_jobs = -1.0, 0
        #: Last error of the job, and when its preview may be fetched again.
        self._error, self._retry_at = "", 0.0

    def follow(self, job: Elsewhere, name: str, updated: float) -> None:
        """Show the latest preview of a job.

        Parameters
        ----------
        job : Elsewhere
        name : str
            Name of the layer.
        updated : float
            Time stamp of the state of the job; nothing is fetched unless it has
            changed, except after an error.
        """
        if job != self._job:
            self._job, self._updated = job, -1.0
            self._error, self._retry_at = "", 0.0
            self._n_jobs += 1
            self._preview.set_job(self._path(), name, ())
        if self._activity.busy or updated == self._updated:
            return
        if time.monotonic() < self._retry_at:
            return
        self._updated, path = updated, self._path()

        def steps(stop: ShouldStop) -> Generator[Step, None, int | None]:
            yield from ()
            return previews.fetch(job, path, stop)

        self._activity.start(
            "preview",
            steps,
            lambda found: self._show(job, found),
            on_error=lambda error: self._on_error(job, error),
        )

    def remove(self) -> None:
        """Remove the layer, and stop following the job."""
        self._job = None
        self._preview.remove()

    def _path(self) -> Path:
        return self._folder / f"{self._n_jobs}.tif"

    def _show(self, job: Elsewhere, stamp: int | None) -> None:
        if job != self._job:
            return
        self._error = ""
        if stamp is not None:
            self._preview.update_to(stamp)

    def _on_error(self, job: Elsewhere, error: Exception) -> None:
        """Allow another attempt after a pause; report the same error only once."""
        if job != self._job:
            return
        self._updated, self._retry_at = -1.0, time.monotonic() + _RETRY_SECONDS
        if not isinstance(error, Cancelled) and str(error) != self._error:
            self._error = str(error)
            self.failed.emit(error)
