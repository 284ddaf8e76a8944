"""A study of the number of projections as a job: what its folder says, and its run.

No torch here: docks read it.
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
    ShouldStop,
    StageStarted,
    Step,
    Warned,
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

OPERATION = "study projections"
#: Folder of the study in that of its job.
RESULT = "result"
#: Beside its cells, what a study says in a job.
_TOLD = (StageStarted, CentreFound, Warned)


class StudyInput(Config):
    """What a study is of."""

    projections: Path = Field(title="Projections", description="The complete scan.")
    reading: ProjectionsInput = Field(
        ProjectionsInput(),
        title="Reading",
        description="What the file does not say about the scan.",
    )
    reference: Path | None = Field(
        None,
        title="Reference",
        description="Volume taken as the truth, instead of "
        "the reconstruction from all projections.",
    )
    mask: Path | None = Field(
        None,
        title="Mask",
        description="Mask of the sample: voxels other than zero belong to it.",
    )

    def open(self) -> tuple[Projections, Volume | None, Volume | None]:
        """Open the scan, and reference and mask where they are given, lazily.

        Raises
        ------
        FileError, ProjectionsError, VolumeError, ConfigError
            With one sentence.
        """
        scan = open_projections(self.projections, self.reading)
        reference, mask = (
            None if path is None else open_volume(path)
            for path in (self.reference, self.mask)
        )
        return scan, reference, mask


class StudyJob(Config):
    """All that a study needs to be done, here or elsewhere."""

    data: StudyInput
    settings: StudyConfig = StudyConfig()

    @classmethod
    def from_values(cls, values: AnyMapping) -> StudyJob:
        """Validate what ``config.yaml`` held."""
        data = dict(values.get("data") or {})
        reading = ProjectionsInput.from_mapping(data.pop("reading", None) or {})
        return cls(
            data=StudyInput.from_mapping({**data, "reading": reading}),
            settings=StudyConfig.from_mapping(values.get("settings") or {}),
        )

    def to_values(self) -> AnyDict:
        """What `from_values` reads."""
        return {
            "operation": OPERATION,
            "method": "study",
            "data": self.data.model_dump(mode="json", exclude_defaults=True),
            "settings": self.settings.model_dump(mode="json"),
        }

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a process is started.

        Raises
        ------
        GeoSRError
            With one sentence.
        """
        scan, reference, mask = self.data.open()
        check_study(scan, self.settings)
        shape_of(scan, reference, mask)

    def goes_on_with(self, other: StudyJob) -> bool:
        """Whether finished cells of `other` hold for this study as well."""
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
    """Study a scan in the folder of a job, or go on where it was stopped.

    Parameters
    ----------
    folder : Path
        Gets ``result/``: see `napari_geosr.operations.study`.
    keep_unfinished : callable
        Not asked: a report of some of the cells would say what others may deny.

    Yields
    ------
    Step
        Counted in cells: `CellDone`.

    Returns
    -------
    Path or None
        Of the report; None if `should_stop` ended it early.

    Raises
    ------
    GeoSRError
        With one sentence; finished cells are kept.
    """
    scan, reference, mask = job.data.open()
    steps = study_steps(
        scan,
        folder / RESULT,
        job.settings,
        reference=reference,
        mask=mask,
        should_stop=should_stop,
    )
    try:
        done = yield from recount(steps, CellDone, *_TOLD)
    except Cancelled:
        return None
    return done.files["html"]
