"""A reconstruction job: its description in the job's folder, and its run.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.io.unfinished_files.finished import has_record
from napari_geosr.io.unfinished_files.unfinished import usable_unfinished_steps
from napari_geosr.operations.cluster import check_workers
from napari_geosr.operations.reconstruct import reconstruct_steps
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.reconstruct.inputs import (
    ProjectionsInput,
    open_projections,
)
from napari_geosr.operations.reconstruct.resume import as_volume
from napari_geosr.operations.storage import is_written, open_part, remove_parts

OPERATION = "reconstruct"


class ReconstructJob(Config):
    """Everything needed to run or resume a reconstruction on any computer."""

    name: str
    """File name of the result."""
    projections: Path
    """The file or folder of the scan."""
    reading: ProjectionsInput = ProjectionsInput()
    """Information about the scan that is missing from the file."""
    settings: ReconstructConfig = ReconstructConfig()
    part: Path | None = None
    """Unfinished result of another process: see `napari_geosr.operations.storage`."""
    out: Path | None = None
    """File to write; by default one in the folder of the job."""
    replaces: int = 0
    """Modification time, in ns, of the file that the result replaces."""
    workers: int | None = None
    """Number of processes that share the slices; None for a single process."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> ReconstructJob:
        """Validate the contents of ``config.yaml``."""
        values = {key: value for key, value in values.items() if key != "method"}
        reading = ProjectionsInput.from_mapping(values.get("reading") or {})
        settings = ReconstructConfig.from_mapping(values.get("settings") or {})
        given = {**values, "reading": reading, "settings": settings}
        return cls.from_mapping(given)

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` can read."""
        return {
            "operation": OPERATION,
            "method": self.settings.algorithm,
            **self.model_dump(mode="json", exclude_defaults=True),
        }

    def check(self) -> None:
        """Refuse invalid settings before a process is started.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        open_projections(self.projections, self.reading)
        if self.workers is not None:
            check_workers(self.workers)

    def open_input(self) -> Volume:
        """Open the projections lazily, as a volume that refers to the same file."""
        return as_volume(open_projections(self.projections, self.reading))

    def outputs(self) -> tuple[Path, ...]:
        """Return the file that the job writes outside its folder."""
        return () if self.out is None else (self.out,)

    def result(self, folder: Path) -> Path:
        """Return the path of the volume, by default in the folder of the job."""
        return self.out or folder / "result" / f"{self.name}.ome.tif"


def reconstruct_job_steps(
    job: ReconstructJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Reconstruct a volume in the folder of a job, or resume an interrupted run.

    Parameters
    ----------
    folder : Path
        Folder of the job; receives ``result/NAME.ome.tif``, unless the job names
        another output.
    keep_unfinished : callable
        Not used: an incomplete set of slices could be mistaken for the whole volume.

    Yields
    ------
    Step
        The steps of `napari_geosr.operations.reconstruct.reconstruct_steps`.

    Returns
    -------
    Path or None
        Path of the volume; None if `should_stop` ended the run early.

    Raises
    ------
    GeoSRError
        If the run fails; finished slices are kept.
    """
    out = job.result(folder)
    # A run that was killed before it reported its result may already have written the
    # file.
    if is_written(out, folder, OPERATION, job.replaces):
        if has_record(folder):  # otherwise, another run may have written it
            remove_parts(folder, job.part)
        return out
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = yield from usable_unfinished_steps(out)
    if unfinished is None and job.part is not None:
        unfinished = open_part(job.part)
    try:
        done = yield from reconstruct_steps(
            open_projections(job.projections, job.reading),
            job.settings,
            out=out,
            overwrite=bool(job.replaces),
            unfinished=unfinished,
            workers=job.workers,
            should_stop=should_stop,
        )
    except Cancelled:
        return None
    if not done.complete:
        return None
    remove_parts(folder, job.part)
    return done.path
