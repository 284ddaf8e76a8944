"""A measurement as a job: its description in the job's folder, and its run."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from pathlib import Path

from napari_geosr.core.config import Config
from napari_geosr.core.documents import load_json, read_document
from napari_geosr.core.errors import Cancelled, ConfigError, FileError
from napari_geosr.core.steps import (
    BlockDone,
    PartDone,
    ShouldStop,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.finished import has_record, is_recorded
from napari_geosr.operations.cluster import check_workers
from napari_geosr.operations.inputs.job_input import CompanionInput, JobInput
from napari_geosr.operations.measure import MeasureConfig, measure_several_steps
from napari_geosr.operations.measure import files as report_files
from napari_geosr.operations.measure.journal import MeasureJournal
from napari_geosr.operations.measure.mask import check_known_place
from napari_geosr.operations.measure.networks import agreement_of, check_distance

OPERATION = "measure"


class MeasureJob(Config):
    """Everything that a measurement needs to run, on this or another computer."""

    name: str
    """Name of the job."""
    data: JobInput
    """The volume to measure."""
    reference: CompanionInput | None = None
    """A volume to compare it with, measured in the same way."""
    mask: CompanionInput | None = None
    """Sample mask: non-zero voxels."""
    deviation: CompanionInput | None = None
    """Standard deviations of the volume, for the interval of its porosity."""
    settings: MeasureConfig = MeasureConfig()
    out: Path | None = None
    """Folder for the report; by default one in the folder of the job."""
    replaces: int = 0
    """Latest modification time, in ns, of the files that the report replaces."""
    graph_distance: float | None = None
    """Distance within which a branch of a network counts as found."""
    workers: int | None = None
    """Number of processes that share the labelling; None for a single process."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> MeasureJob:
        """Validate the contents of ``config.yaml``."""
        values = {key: value for key, value in values.items() if key != "method"}
        kinds: dict[str, type[JobInput]] = {
            "data": JobInput,
            "reference": CompanionInput,
            "mask": CompanionInput,
            "deviation": CompanionInput,
        }
        inputs = {
            role: kind.from_values(values[role])
            for role, kind in kinds.items()
            if values.get(role) is not None
        }
        settings = MeasureConfig.from_mapping(values.get("settings") or {})
        return cls.from_mapping({**values, **inputs, "settings": settings})

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` can read."""
        return {
            "operation": OPERATION,
            "method": str(self.settings.threshold),
            **self.model_dump(mode="json", exclude_defaults=True),
        }

    def open(self) -> tuple[dict[str, Volume], list[str]]:
        """Open all volumes lazily.

        Returns
        -------
        volumes : dict of str to Volume
            Volumes by their roles; volumes that were not given are missing.
        notes : list of str
            One sentence for each setting of the measured volume that was applied to
            another volume.

        Raises
        ------
        FileError, VolumeError
            As for `JobInput.open`.
        """
        volumes, notes = {"data": self.data.open()}, []
        given = {
            "reference": self.reference,
            "mask": self.mask,
            "deviation": self.deviation,
        }
        for role, one in given.items():
            if one is None:
                continue
            volumes[role], new_notes = one.open_beside(self.data, volumes["data"])
            notes += new_notes
        return volumes, notes

    def files(self, folder: Path) -> dict[str, Path]:
        """Return the paths of the files of the report, by default in `folder`."""
        names = ["input"] if self.reference is None else ["input", "reference"]
        return report_files.plan(
            self.out or folder / "result",
            names,
            labels=True,
            statistics=self.settings.statistics,
            overviews=True,
        )

    def outputs(self) -> tuple[Path, ...]:
        """Return the files, and their folder, that the job writes elsewhere."""
        if self.out is None:
            return ()
        return (self.out, *self.files(self.out).values())

    def check(self) -> None:
        """Refuse invalid settings before a process is started.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        volumes, _ = self.open()
        if self.mask is not None and self.mask.belongs_to_data:
            check_known_place(volumes["mask"], volumes["data"])
        if self.workers is not None:
            check_workers(self.workers)
        check_distance(
            self.graph_distance,
            reference=self.reference is not None,
            config=self.settings,
        )


def measure_job_steps(
    job: MeasureJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Measure in the folder of a job, resuming an interrupted run on a large volume.

    Parameters
    ----------
    folder : Path
        Folder of the job; receives ``result/`` with the report and a volume of labels,
        unless the job names another output.
    keep_unfinished : callable
        Not used: the pores at the edge of a partial result would be cut.

    Yields
    ------
    Step
        `PartDone` instead of `BlockDone`.

    Returns
    -------
    Path or None
        The HTML report; None if `should_stop` ended the run early.

    Raises
    ------
    GeoSRError
        If the run fails.
    """
    out, files = job.out or folder / "result", job.files(folder)
    if foreign := _foreign_files(job, files, folder):
        raise FileError(
            f"{out} contains {', '.join(foreign)}, written by another program after "
            "this job was created, so nothing was replaced. Move the report to another "
            f"folder and resume the job (napari-geosr jobs resume {folder}), or start "
            "a new job with another output."
        )
    opened, notes = job.open()
    for note in notes:
        yield WarningIssued(message=note)
    volumes = {"input": opened["data"]}
    if "reference" in opened:
        volumes["reference"] = opened["reference"]
    mask, deviation = opened.get("mask"), opened.get("deviation")
    given = {"mask": mask, "deviation": deviation}
    journal = MeasureJournal(out, volumes, given, job.settings)
    steps = measure_several_steps(
        volumes,
        job.settings,
        mask,
        deviation=deviation,
        journal=journal.of,
        workers=job.workers,
        should_stop=should_stop,
    )
    with report_files.claimed(files):
        try:
            with StepIterator(steps) as iterator:
                for step in iterator:
                    if isinstance(step, BlockDone):
                        step = PartDone(step.done, step.total)
                    yield step
        except Cancelled:
            return None
        reports = iterator.result
        agreement = agreement_of(reports, job.graph_distance)
        found = (
            {} if agreement is None else {"graph_agreement": agreement.to_json_dict()}
        )
        earlier = report_files.earlier_files(files)
        written = report_files.write(
            files,
            volumes,
            reports,
            job.settings,
            companions=given,
            more=found,
            overwrite=not _foreign_files(job, files, folder),
        )
    journal.remove()
    for remark in earlier.remove(written.values(), opened.values()):
        yield WarningIssued(message=remark)
    return files["html"]


def _foreign_files(
    job: MeasureJob, files: Mapping[str, Path], folder: Path
) -> list[str]:
    """Return the names of the files that other programs wrote after the submission.

    Files that a killed run has left belong to the job. Jobs of earlier releases have no
    record of their files; for these jobs, any report of a measurement is assumed to be
    their output.
    """
    if job.out is None:  # other programs do not write into the folder of a job
        return []
    if not has_record(folder) and _is_measured(files["json"]):
        return []
    return [
        path.name
        for path in files.values()
        if path.exists()
        and path.stat().st_mtime_ns > job.replaces
        and not is_recorded(path, folder)
    ]


def _is_measured(report: Path) -> bool:
    """Return whether a JSON report was written by a measurement."""
    try:
        content = load_json(read_document(report))
    except (OSError, ValueError, ConfigError):
        return False
    record = content.get("provenance") if isinstance(content, dict) else None
    return isinstance(record, dict) and record.get("operation") == OPERATION


def labels_file(report: Path) -> Path:
    """Return the label volume that belongs to the report of a job."""
    return report_files.plan(report.parent, ["input"], labels=True)["labels"]
