"""A run on a shape as a job: refine, complete or segment, and write the result.

This module does not import torch before the run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from pathlib import Path
from typing import Literal

from napari_geosr.core.config import Config
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.file_warnings import file_warnings, notes_of
from napari_geosr.core.machine.file_state import FileWatch
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued, never_stop
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.operations import shapes
from napari_geosr.operations.inputs.job_input import JobInput
from napari_geosr.operations.inputs.same_grid import (
    FOR_MASKS,
    check_same_grid,
)
from napari_geosr.operations.shapes.config import (
    TRILINEAR,
    CompleteShapeConfig,
    RefineShapeConfig,
    SegmentInsideConfig,
)
from napari_geosr.operations.shapes.masks import check_axes
from napari_geosr.operations.shapes.models import (
    COMPLETING,
    REFINING,
    SEGMENTING,
    check_cubic,
    check_grey_scale,
    check_voxels,
    find_shape_model,
)
from napari_geosr.operations.storage import is_written

OPERATION = "shapes"

ShapeRunConfig = RefineShapeConfig | CompleteShapeConfig | SegmentInsideConfig

#: Settings of each task.
_CONFIGS: dict[str, type[ShapeRunConfig]] = {
    "refine": RefineShapeConfig,
    "complete": CompleteShapeConfig,
    "segment": SegmentInsideConfig,
}


class ShapeJob(Config):
    """Everything that a run on a shape needs, on this or another computer."""

    name: str
    """File name of the result."""
    method: Literal["refine", "complete", "segment"]
    """The task."""
    data: JobInput
    """The shape or, for a segmentation, the scan."""
    mask: JobInput | None = None
    """For a segmentation: mask of the voxels, unless there is a threshold."""
    settings: ShapeRunConfig
    out: Path | None = None
    """File to write; by default one in the folder of the job."""
    implant: Path | None = None
    """For a completion: also write the completed part to this volume file."""
    mesh: Path | None = None
    """For a completion: also write the surface of the completed part to this file."""
    replaces: int = 0
    """Modification time, in ns, of the file that the result replaces."""
    implant_replaces: int = 0
    """Modification time, in ns, of the file that the completed part replaces."""
    mesh_replaces: int = 0
    """Modification time, in ns, of the file that the mesh replaces."""

    @classmethod
    def from_values(cls, values: AnyMapping) -> ShapeJob:
        """Validate the contents of ``config.yaml``."""
        kind = _CONFIGS.get(str(values.get("method")), RefineShapeConfig)
        known: AnyDict = {"settings": kind.from_mapping(values.get("settings") or {})}
        for role in ("data", "mask"):
            if values.get(role) is not None:
                known[role] = JobInput.from_values(values[role])
        return cls.from_mapping({**values, **known})

    def to_values(self) -> AnyDict:
        """Return the values that `from_values` can read."""
        return {
            "operation": OPERATION,
            **self.model_dump(mode="json", exclude_defaults=True),
        }

    def open(self) -> tuple[Volume, Volume | None]:
        """Open the shape or scan, and the mask if there is one, lazily.

        Raises
        ------
        FileError, VolumeError
            As for `JobInput.open`.
        """
        return self.data.open(), None if self.mask is None else self.mask.open()

    def check(self) -> None:
        """Refuse invalid settings and inputs before a process is started.

        No voxel is read.

        Raises
        ------
        GeoSRError
            If a setting or an input is invalid.
        """
        volume, mask = self.open()
        check_axes(volume, "a volume (Z, Y, X) is needed")
        settings = self.settings
        if isinstance(settings, SegmentInsideConfig):
            settings.check_inside(mask is not None)
            if mask is not None:
                check_same_grid(mask, volume, may_be_turned=True, advice=FOR_MASKS)
            model = find_shape_model(settings.model, SEGMENTING, "segment")
            check_grey_scale(model.card, settings.grey_scale)
        elif isinstance(settings, CompleteShapeConfig):
            check_cubic(
                volume, find_shape_model(settings.model, COMPLETING, "complete")
            )
            if settings.refine_model != TRILINEAR:
                find_shape_model(settings.refine_model, REFINING, "refine")
        elif settings.model != TRILINEAR:
            find_shape_model(settings.model, REFINING, "refine")
            check_voxels(volume)

    def result(self, folder: Path) -> Path:
        """Return the path of the result, by default in the folder of the job."""
        return self.out or folder / "result" / f"{self.name}.ome.tif"

    def outputs(self) -> tuple[Path, ...]:
        """Return the files that the job writes outside its folder."""
        return (*(() if self.out is None else (self.out,)), *self.companions())

    def companions(self) -> tuple[Path, ...]:
        """Return the other files that the job writes."""
        return tuple(path for path in (self.implant, self.mesh) if path is not None)


def shape_job_steps(
    job: ShapeJob,
    folder: Path,
    *,
    should_stop: ShouldStop = never_stop,
    keep_unfinished: Callable[[], bool] = lambda: False,
) -> Generator[Step, None, Path | None]:
    """Refine or complete a shape, or segment a scan, in the folder of a job.

    After a stop or a crash, the run starts from the beginning.

    Parameters
    ----------
    job : ShapeJob
    folder : Path
        Receives ``result/NAME.ome.tif``, unless the job names another output.
    should_stop : callable
    keep_unfinished : callable
        Not used: a part of a volume could be mistaken for the whole volume.

    Yields
    ------
    Step
        The steps of the operation, the warnings of the reader, and a warning if a file
        is changed during the run.

    Returns
    -------
    Path or None
        Path of the result; None if `should_stop` ended the run early.

    Raises
    ------
    GeoSRError
        If the run fails.
    """
    out = job.result(folder)
    outputs = {out: job.replaces}
    if job.implant is not None:
        outputs[job.implant] = job.implant_replaces
    if job.mesh is not None:
        outputs[job.mesh] = job.mesh_replaces
    # If the job was killed before it reported its result, the files already exist.
    written = [
        is_written(path, folder, OPERATION, replaces)
        for path, replaces in outputs.items()
    ]
    if all(written):
        return out
    # These files existed at the submission, or an earlier run of the job wrote them.
    replaced = [path for path in outputs if path.exists()]
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    opened = [volume for volume in job.open() if volume is not None]
    for volume in opened:
        for text in (*file_warnings(volume.metadata), *notes_of(volume.metadata)):
            yield WarningIssued(message=f"{volume.title}: {text}")
    # A segmentation watches its files itself.
    watched = [] if job.method == "segment" else opened
    watch = FileWatch(watched, only_lazy=True)
    try:
        yield from watch.steps(_task_steps(job, opened, out, replaced, should_stop))
    except Cancelled:
        return None
    return out


def _task_steps(
    job: ShapeJob,
    opened: list[Volume],
    out: Path,
    replaced: Collection[Path],
    should_stop: ShouldStop,
) -> Generator[Step, None, object]:
    """Return the steps of the task of a job, which may replace some files."""
    volume, *masks = opened
    settings, overwrite = job.settings, out in replaced
    if isinstance(settings, RefineShapeConfig):
        return shapes.refine_shape_steps(
            volume, out, settings, overwrite=overwrite, should_stop=should_stop
        )
    if isinstance(settings, CompleteShapeConfig):
        return shapes.complete_shape_steps(
            volume,
            out,
            settings,
            implant=job.implant,
            mesh=job.mesh,
            replaced=replaced,
            should_stop=should_stop,
        )
    return shapes.segment_inside_steps(
        volume,
        masks[0] if masks else None,
        out,
        settings,
        overwrite=overwrite,
        should_stop=should_stop,
    )
