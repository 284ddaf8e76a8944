"""The kinds of jobs: how each validates its ``config.yaml``, and how it is run."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from napari_geosr.core.errors import GeoSRError, JobError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.suffixes import incomplete_path, suffix_of
from napari_geosr.io.unfinished_files.finished import is_recorded
from napari_geosr.io.unfinished_files.hidden import leftovers
from napari_geosr.io.unfinished_files.journal import JOURNAL, journal_of, load_journal
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.segment.job import SegmentJob, segment_job_steps


class Job(Protocol):
    """The validated settings of a job."""

    def check(self) -> object:
        """Raise an error for invalid settings before a process is started."""

    def to_values(self) -> AnyDict:
        """Return the contents of ``config.yaml``."""


@runtime_checkable
class PlacedJob(Protocol):
    """A job with settings that may name files outside its folder."""

    def outputs(self) -> tuple[Path, ...]:
        """Return the files outside the folder, and folders that hold nothing else."""


class RunSteps(Protocol):
    """Run a job of one kind and return the path of its result, if there is one."""

    def __call__(
        self,
        job: Any,
        folder: Path,
        *,
        should_stop: ShouldStop,
        keep_unfinished: Callable[[], bool],
    ) -> Generator[Step, None, Path | None]: ...


#: Settings that name a file or folder which a job writes outside its folder.
OUTPUTS = ("out", "report", "implant", "mesh", "probabilities")
#: Operations that result in a model.
MAKE_MODELS = ("train", "train from projections", "train shapes")
#: Operations that fit networks; they report losses, previews and results while running.
FIT_NETWORKS = (*MAKE_MODELS, "ganrec", "pinn-sim")
#: Kind of result of the other operations.
_OTHER_RESULTS = {
    "ganrec": "volume",
    "pinn-sim": "volume",
    "restore": "volume",
    "reconstruct": "volume",
    "sim": "volume",
    "shapes": "volume",
    "segment": "volume",
    "measure": "report",
    "study projections": "report",
}
#: Operations that always start from the beginning: a stopped run leaves nothing.
START_AGAIN = ("sim", "shapes", "segment")
#: Starting point for resuming a job without checkpoints.
_RESUME_FROM = {
    "restore": "the finished tiles",
    "reconstruct": "the finished slices",
    "measure": "the slices labelled so far",
    "study projections": "the finished reconstructions",
}


def result_kind(operation: str) -> str:
    """Return the kind of result: ``"model"``, ``"volume"`` or ``"report"``."""
    return _OTHER_RESULTS.get(operation, "model")


def describe_resume(operation: str, folder: Path | None = None) -> str:
    """Describe how a stopped job of this kind resumes, as the end of a sentence.

    Parameters
    ----------
    folder : Path, optional
        Folder of the job, checked for a finished part.
    """
    start = _RESUME_FROM.get(operation, "the last checkpoint")
    if operation in START_AGAIN:
        return "starts again from the beginning"
    try:
        is_finished = folder is None or _has_finished(operation, folder)
    except (OSError, ValueError, GeoSRError):  # e.g. a drive that is not connected
        is_finished = True
    if is_finished:
        return f"resumes from {start}"
    return "starts again from the beginning"


def _has_finished(operation: str, folder: Path) -> bool:
    """Return whether a job has a finished part from which it can resume."""
    if operation not in _RESUME_FROM:
        return any(folder.glob("checkpoints/*"))
    out, own = _output_of(folder)
    if operation == "study projections":
        cells = [] if out is None else [out.glob("cells/*.json")]
        return any(map(any, [folder.glob("*/cells/*.json"), *cells]))
    if operation == "measure":
        states = [] if out is None else [out.glob("*measuring*.npz")]
        return any(map(any, [folder.glob("result/*measuring*.npz"), *states]))
    if any(folder.glob("result/*.incomplete.*")):
        return True
    if out is not None and is_recorded(incomplete_path(out), folder):
        return True
    journals = [*folder.glob(f"data/*{JOURNAL}"), *folder.glob(f"result/*{JOURNAL}")]
    if any(_is_begun(path) for path in journals):
        return True
    beside = [] if out is None else leftovers(out, suffix_of(out))
    return any(_is_begun(journal_of(part), own) for part in beside)


def _output_of(folder: Path) -> tuple[Path | None, str]:
    """Return a job's output outside its folder, and the job's name in journals."""
    try:
        job = JobFolder(folder)
        out = job.values().get("out")
    except JobError:
        return None, ""
    return Path(out) if isinstance(out, str) else None, str(job.own_path)


def outputs_of(job: JobFolder) -> tuple[Path, ...]:
    """Return the files, and whole folders, that a job writes outside its own folder.

    They include files with names that are derived from the name of the result, such as
    standard deviations. If this release cannot read the settings, only the files that
    they name are returned.

    Raises
    ------
    JobError
        If the job has no settings.
    """
    values = job.values()
    scans = values.get("scans")
    restored = scans.get("restore") if isinstance(scans, dict) else None
    named = [*(values.get(name) for name in OUTPUTS), restored]
    if not any(named):  # avoid `read_job`, which takes long for training
        return ()
    try:
        found = read_job(values, job.path)[0]
    except GeoSRError:
        paths = tuple(Path(path) for path in named if isinstance(path, str))
    else:
        paths = found.outputs() if isinstance(found, PlacedJob) else ()
    return tuple(dict.fromkeys(job.path / path for path in paths))


def _is_begun(journal: Path, job: str | None = None) -> bool:
    """Return whether a journal, optionally of a certain job, has finished parts."""
    try:
        is_begun, written_by = _read_progress(journal, journal.stat().st_mtime_ns)
    # The journal was deleted, or is unreadable at the moment.
    except (OSError, GeoSRError):
        return False
    return is_begun and job in (None, written_by)


@lru_cache(maxsize=64)
def _read_progress(journal: Path, _modified_ns: int) -> tuple[bool, str]:
    """Return whether a journal has finished parts, and the job that wrote it."""
    entry = load_journal(journal.with_name(journal.name.removesuffix(JOURNAL)))
    return (False, "") if entry is None else (entry.has_progress, entry.job)


def read_job(values: AnyMapping, path: Path) -> tuple[Job, RunSteps]:
    """Return the validated job of a ``config.yaml`` and the function that runs it.

    Raises
    ------
    JobError
        If this release does not know the operation.
    ConfigError
        If a setting is invalid.
    """
    values = dict(values)
    operation = values.pop("operation", None)
    if operation == "train":
        from napari_geosr.operations.train import TrainJob, train_steps

        return TrainJob.from_values(values), train_steps
    if operation == "train from projections":
        from napari_geosr.operations.train.from_projections import (
            ProjectionsTrainJob,
            train_from_projections_steps,
        )

        job = ProjectionsTrainJob.from_values(values)
        return job, train_from_projections_steps
    if operation == "train shapes":
        from napari_geosr.operations.shapes import ShapeTrainJob, train_shape_steps

        return ShapeTrainJob.from_values(values), train_shape_steps
    if operation == "ganrec":
        from napari_geosr.operations.ganrec import GanrecJob, ganrec_steps

        return GanrecJob.from_values(values), ganrec_steps
    if operation == "pinn-sim":
        from napari_geosr.operations.pinn_sim import PinnSimJob, pinn_sim_steps

        return PinnSimJob.from_values(values), pinn_sim_steps
    if operation == "study projections":
        from napari_geosr.operations.study.job import StudyJob, study_job_steps

        return StudyJob.from_values(values), study_job_steps
    if operation == "restore":
        from napari_geosr.operations.restore.job import RestoreJob, restore_job_steps

        return RestoreJob.from_values(values), restore_job_steps
    if operation == "reconstruct":
        from napari_geosr.operations.reconstruct.job import (
            ReconstructJob,
            reconstruct_job_steps,
        )

        return ReconstructJob.from_values(values), reconstruct_job_steps
    if operation == "sim":
        from napari_geosr.operations.sim.job import SimJob, sim_job_steps

        return SimJob.from_values(values), sim_job_steps
    if operation == "shapes":
        from napari_geosr.operations.shapes.runs import ShapeJob, shape_job_steps

        return ShapeJob.from_values(values), shape_job_steps
    if operation == "segment":
        return SegmentJob.from_values(values), segment_job_steps
    if operation == "measure":
        from napari_geosr.operations.measure.job import MeasureJob, measure_job_steps

        return MeasureJob.from_values(values), measure_job_steps
    raise JobError(
        f"{path} names the operation {operation!r}, which this release cannot run as "
        "a job. Install the release that created it."
    )
