"""``napari-geosr submit study projections``."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from napari_geosr.cli.kit.help_pages import with_examples
from napari_geosr.cli.kit.options import settings_from
from napari_geosr.cli.study import study_projections as study_command
from napari_geosr.cli.submit.command import SubmitRequest, submitted
from napari_geosr.cli.submit.paths import absolute_path, with_absolute_paths
from napari_geosr.core.errors import ConfigError
from napari_geosr.jobs.queues._scripts import plain_name
from napari_geosr.operations.reconstruct.inputs import ProjectionsInput
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.job import StudyInput, StudyJob


def _study(
    projections: Path,
    *,
    out: Path,
    reference: Path | None = None,
    mask: Path | None = None,
    config: StudyConfig | None = None,
    reading: ProjectionsInput | None = None,
    settings: Path | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    if overwrite:
        raise ConfigError(
            "A submitted run resumes any study in its folder and cannot replace it. "
            "Omit --overwrite and choose a new folder."
        )
    out = absolute_path(out)
    data = StudyInput(
        projections=absolute_path(projections),
        reading=with_absolute_paths(reading or ProjectionsInput()),
        reference=None if reference is None else absolute_path(reference),
        mask=None if mask is None else absolute_path(mask),
    )
    merged = settings_from(StudyConfig, config, settings)
    job = StudyJob(data=data, settings=merged, out=out)
    job.check()
    return SubmitRequest(job, plain_name(out.name), out)


def _build_study() -> App:
    line = "submit study projections scan.h5 -o study"
    end = with_examples(f"{line} --queue slurm", f"{line} --profile gricad")
    app = App(name="study", help_epilogue=end)
    command = submitted(study_command, _study)
    app.command(command, name="projections", help_epilogue=end)
    return app


study = _build_study()
