"""``napari-geosr submit reconstruct``."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.cli.reconstruct import merge_settings
from napari_geosr.cli.reconstruct import reconstruct as reconstruct_command
from napari_geosr.cli.submit.command import SubmitRequest, submitted
from napari_geosr.cli.submit.paths import (
    absolute_path,
    modified_time,
    with_absolute_paths,
)
from napari_geosr.core.config import Config
from napari_geosr.io.suffixes import stem_of
from napari_geosr.jobs.queues._scripts import plain_name
from napari_geosr.operations.reconstruct.config import ReconstructFields
from napari_geosr.operations.reconstruct.inputs import ProjectionsInput
from napari_geosr.operations.reconstruct.job import ReconstructJob


def _reconstruct(
    projections: Path,
    *,
    out: Path,
    config: ReconstructFields | None = None,
    special: Config | None = None,
    reading: ProjectionsInput | None = None,
    settings: Path | None = None,
    resume: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    out = absolute_path(out)
    name = plain_name(stem_of(out))
    job = ReconstructJob(
        name=name,
        projections=absolute_path(projections),
        reading=with_absolute_paths(reading or ProjectionsInput()),
        settings=merge_settings(config, special, settings),
        out=out,
        replaces=modified_time(out) if overwrite else 0,
        workers=workers,
    )
    job.check()
    return SubmitRequest(
        job, name, out, is_volume=True, overwrite=overwrite, resume=resume
    )


reconstruct = submitted(reconstruct_command, _reconstruct)
