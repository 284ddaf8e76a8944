"""Start a study as a job for the scan shown in a layer, without Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.latest import latest_job_steps
from napari_geosr.gui.layers.projections import OpenedScan
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.voxel_sources import MappedSource
from napari_geosr.jobs import local
from napari_geosr.jobs.data import (
    equals_file,
    new_folder,
    removed_on_failure,
    write_into_job,
)
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.jobs.handover import plain_name
from napari_geosr.operations.reconstruct.inputs import ProjectionsInput
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.job import OPERATION, StudyInput, StudyJob
from napari_geosr.operations.study.setup import check_study, shape_of

#: Subfolder of the job for data that did not come from a file.
_DATA = "data"


@dataclass(frozen=True, eq=False)
class StudyPlan:
    """A study that can be started.

    Attributes
    ----------
    reference, mask : Volume, optional
        Volumes of the chosen layers, if any.
    """

    opened: OpenedScan
    config: StudyConfig
    reference: Volume | None = None
    mask: Volume | None = None

    @property
    def name(self) -> str:
        """Name of the job if it is submitted to a cluster."""
        return plain_name(f"{self.opened.scan.name}_study")

    @property
    def source(self) -> Path | None:
        """File of the projections, if there is one."""
        return self.opened.path

    def job_steps(
        self, folder: Path, should_stop: ShouldStop
    ) -> Generator[Step, None, StudyJob]:
        """Write the data that the job needs into `folder`.

        Raises
        ------
        GeoSRError
            If settings or data are invalid, or a file cannot be written.
        """
        yield StageStarted(message="Inspecting the projections")
        self.check()
        job = _job(self, folder / _DATA, should_stop)
        assert job is not None
        job.check()
        return job

    def check(self) -> None:
        """Reject invalid settings before any layer is written to a file.

        Messages name layers, not the files that would be written for them.

        Raises
        ------
        GeoSRError
            If a setting is invalid.
        """
        check_study(self.opened.scan, self.config)
        shape_of(self.opened.scan, self.reference, self.mask)


def start_steps(
    plan: StudyPlan, parent: Path, before: Path | None, should_stop: ShouldStop
) -> Generator[Step, None, Path]:
    """Start the process of a study in a new folder or in that of an earlier study.

    Parameters
    ----------
    parent : Path
        Parent of new job folders.
    before : Path, optional
        Folder of an earlier study; its finished cells are kept if they are valid for
        this one.

    Returns
    -------
    Path
        The job's folder.

    Raises
    ------
    GeoSRError
        If the study cannot be created or started; its new folder is then removed.
    """
    yield StageStarted(message="Inspecting the projections")
    plan.check()
    if before is not None:
        folder = JobFolder(before)
        job = _job(plan, before / _DATA, should_stop, may_write=False)
        if job is not None and job.can_reuse_cells(_read_job(folder)):
            job.check()
            _resume_study(folder, job)
            return folder.path
    with removed_on_failure(new_folder(parent, plan.opened.scan.name)) as path:
        job = yield from plan.job_steps(path, should_stop)
        job_folder = JobFolder.create(
            path,
            job.to_values(),
            name=f"study of {plan.opened.scan.name}",
            allow_existing=True,
        )
        local.start(job_folder)
    return job_folder.path


def _resume_study(folder: JobFolder, job: StudyJob) -> None:
    """Resume an earlier study with other projection counts or algorithms."""
    with folder.hold():
        folder.replace_values(job.to_values())
        if folder.status().state == "done":
            folder.set_state("paused", result=None, done=0)
    local.start(folder)


def _read_job(folder: JobFolder) -> StudyJob:
    values = folder.values()
    values.pop("operation", None)
    return StudyJob.from_values(values)


def _job(
    plan: StudyPlan, data: Path, should_stop: ShouldStop, *, may_write: bool = True
) -> StudyJob | None:
    """Return the job's settings; None if layers would have to be written first."""
    opened, path = plan.opened, plan.opened.path_for_job()
    files: dict[str, Path] = {}
    for role, volume in (("reference", plan.reference), ("mask", plan.mask)):
        if volume is None:
            continue
        file = _store_volume(volume, data / f"{role}.ome.zarr", should_stop, may_write)
        if file is None:
            return None
        files[role] = file
    study_input = StudyInput.create(
        projections=path.resolve(),
        reading=ProjectionsInput.create(**opened.reading),
        **files,
    )
    return StudyJob(data=study_input, settings=plan.config)


def _store_volume(
    volume: Volume, path: Path, should_stop: ShouldStop, may_write: bool
) -> Path | None:
    """Return the file with a layer's volume: its own, or one written for the job."""
    if volume.source is not None and equals_file(volume, should_stop):
        return volume.source.resolve()
    volume = _writable(volume)
    if equals_file(volume.replace(source=path), should_stop):
        return path
    if not may_write:
        return None
    return write_into_job(volume, path, should_stop)


def _writable(volume: Volume) -> Volume:
    """Convert a Boolean mask to uint8, the type in which files store masks."""
    if volume.dtype.kind != "b":
        return volume.replace(metadata={})
    marked = MappedSource(volume.data, lambda part: part.astype(np.uint8), np.uint8)
    chunks = (1,) * (len(volume.shape) - 2) + volume.shape[-2:]
    data = LazyArray(marked, Path(volume.name), chunks)
    return volume.replace(data=data, metadata={})


def find_job_steps(path: Path) -> Generator[Step, None, JobStatus | None]:
    """Find the newest study of the scan in a file: see `latest_job_steps`."""
    return latest_job_steps(path, lambda job: job.operation == OPERATION, _scan_studied)


def _scan_studied(settings: AnyDict) -> Any:
    data = settings.get("data")
    return data.get("projections") if isinstance(data, dict) else None
