"""A reconstruction as a job: what its folder says, and its run. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.atomic import explained
from napari_geosr.io.unfinished import left_unfinished
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.inputs import (
    ProjectionsInput,
    open_projections,
)
from napari_geosr.operations.storage import open_part, remove_parts

OPERATION = "reconstruct"


class ReconstructJob(Config):
    """All that a reconstruction needs to be done, or resumed, elsewhere."""

    name: str
    """Of the result's file."""
    projections: Path
    """The file or folder of the scan."""
    reading: ProjectionsInput = ProjectionsInput()
    """What the file does not say about the scan."""
    settings: ReconstructConfig = ReconstructConfig()
    part: Path | None = None
    """What another process has finished: see `napari_geosr.operations.storage`."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> ReconstructJob:
        """Validate what ``config.yaml`` held."""
        values = {key: value for key, value in values.items() if key != "method"}
        reading = ProjectionsInput.from_mapping(values.get("reading") or {})
        settings = ReconstructConfig.from_mapping(values.get("settings") or {})
        given = {**values, "reading": reading, "settings": settings}
        return cls.from_mapping(given)

    def to_values(self) -> AnyDict:
        """What `from_values` reads."""
        return {
            "operation": OPERATION,
            "method": self.settings.algorithm,
            **self.model_dump(mode="json", exclude_defaults=True),
        }

    def check(self) -> None:
        """Refuse what can be seen to be wrong before a process is started.

        Raises
        ------
        GeoSRError
            With one sentence.
        """
        open_projections(self.projections, self.reading)

    def result(self, folder: Path) -> Path:
        """Where the volume is put in the folder of the job."""
        return folder / "result" / f"{self.name}.ome.tif"


def reconstruct_job_steps(
    job: ReconstructJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Reconstruct a volume in the folder of a job, or resume it where it was stopped.

    Parameters
    ----------
    folder : Path
        Gets ``result/NAME.ome.tif``.
    keep_unfinished : callable
        Not asked: some of the slices would pass for all of them.

    Yields
    ------
    Step
        As `napari_geosr.operations.reconstruct.reconstruct_steps`.

    Returns
    -------
    Path or None
        Of the volume; None if `should_stop` ended it early.

    Raises
    ------
    GeoSRError
        With one sentence; finished slices are kept.
    """
    from napari_geosr.operations.reconstruct import reconstruct_steps

    out = job.result(folder)
    if out.exists():  # it was killed between its last step and saying so
        remove_parts(folder, job.part)
        return out
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = left_unfinished(out)
    if unfinished is None and job.part is not None:
        unfinished = open_part(job.part)
    try:
        done = yield from reconstruct_steps(
            open_projections(job.projections, job.reading),
            job.settings,
            out=out,
            unfinished=unfinished,
            should_stop=should_stop,
        )
    except Cancelled:
        return None
    if not done.complete:
        return None
    remove_parts(folder, job.part)
    return done.path
