"""A study job: its description in the job's folder, and its run.

This module does not import torch, because docks import it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

from pydantic import Field

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    CentreFound,
    PartSaved,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
    recount,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.operations.inputs import open_volume
from napari_geosr.operations.reconstruct.inputs import (
    ProjectionsInput,
    open_projections,
)
from napari_geosr.operations.study import CellDone, study_steps
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.setup import check_study, shape_of
from napari_geosr.operations.study.store import FILES

OPERATION = "study projections"
#: Name of the study's folder within the job folder.
RESULT = "result"
#: Steps that the job reports in addition to `CellDone`.
_REPORTED = (StageStarted, CentreFound, PartSaved, WarningIssued)


class StudyInput(Config):
    """Inputs of a study."""

    projections: Path = Field(title="Projections", description="The complete scan.")
    reading: ProjectionsInput = Field(
        ProjectionsInput(),
        title="Reading",
        description="Metadata that the file does not contain.",
    )
    reference: Path | None = Field(
        None,
        title="Reference",
        description="Volume taken as the ground truth, instead of "
        "the reconstruction from all projections.",
    )
    mask: Path | None = Field(
        None,
        title="Mask",
        description="Mask of the sample: non-zero voxels belong to it.",
    )

    def open(self) -> tuple[Projections, Volume | None, Volume | None]:
        """Open the scan and, if given, reference and mask, lazily.

        Raises
        ------
        FileError, ProjectionsError, VolumeError, ConfigError
            If a file cannot be opened.
        """
        scan = open_projections(self.projections, self.reading)
        reference, mask = (
            None if path is None else open_volume(path)
            for path in (self.reference, self.mask)
        )
        return scan, reference, mask


class StudyJob(Config):
    """Everything that a study needs to run, on this or another computer."""

    data: StudyInput
    settings: StudyConfig = StudyConfig()
    out: Path | None = None
    """Folder for the study; by default one in the folder of the job."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> StudyJob:
        """Validate the contents of ``config.yaml``."""
        data = dict(values.get("data") or {})
        reading = ProjectionsInput.from_mapping(data.pop("reading", None) or {})
        return cls(
            data=StudyInput.from_mapping({**data, "reading": reading}),
            settings=StudyConfig.from_mapping(values.get("settings") or {}),
            out=values.get("out"),
        )

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` can read."""
        return {
            "operation": OPERATION,
            "method": "study",
            "data": self.data.model_dump(mode="json", exclude_defaults=True),
            "settings": self.settings.model_dump(mode="json"),
            **({} if self.out is None else {"out": str(self.out)}),
        }

    def check(self) -> None:
        """Refuse invalid settings before a process is started.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        scan, reference, mask = self.data.open()
        check_study(scan, self.settings)
        shape_of(scan, reference, mask)

    def outputs(self) -> tuple[Path, ...]:
        """Return the files, and their folder, that the job writes elsewhere."""
        out = self.out
        return () if out is None else (out, *(out / n for n in FILES.values()))

    def can_reuse_cells(self, other: StudyJob) -> bool:
        """Return whether finished cells of `other` are also valid for this study."""
        return (
            self.data == other.data
            and self.settings.essential() == other.settings.essential()
        )


def study_job_steps(
    job: StudyJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Run a study in the folder of a job, or resume an interrupted one.

    Parameters
    ----------
    folder : Path
        Receives ``result/``, unless the job names another output: see
        `napari_geosr.operations.study`.
    keep_unfinished : callable
        Not used: a report on only some of the cells could be misleading.

    Yields
    ------
    Step
        `CellDone`, counted in cells, and `PartSaved` for saved parts of a cell.

    Returns
    -------
    Path or None
        Path of the report; None if `should_stop` ended the run early.

    Raises
    ------
    GeoSRError
        If the run fails; finished cells are kept.
    """
    scan, reference, mask = job.data.open()
    steps = study_steps(
        scan,
        job.out or folder / RESULT,
        job.settings,
        reference=reference,
        mask=mask,
        should_stop=should_stop,
    )
    try:
        done = yield from recount(steps, CellDone, *_REPORTED)
    except Cancelled:
        return None
    return done.files["html"]
