"""Find the newest job of a scan so that a dock can show it again, without Qt."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import Step
from napari_geosr.core.types import AnyDict
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder, JobStatus


def latest_job_steps(
    path: Path,
    is_kind: Callable[[JobStatus], bool],
    projections_of: Callable[[AnyDict], Any],
) -> Generator[Step, None, JobStatus | None]:
    """Find the newest job of one kind that processes the scan in a file.

    Parameters
    ----------
    projections_of : callable
        Maps the settings of a job to the path of its scan, or to any other value
        if the job has none.

    Returns
    -------
    JobStatus or None
        None if there is no such job.
    """
    yield from ()
    scan = str(path.resolve())
    for status in index.list_jobs():
        if is_kind(status) and projections_of(_settings(status)) == scan:
            return status
    return None


def _settings(status: JobStatus) -> AnyDict:
    """Return the job's settings; empty if its folder cannot be read."""
    try:
        return dict(JobFolder(status.path).values())
    except GeoSRError:
        return {}
