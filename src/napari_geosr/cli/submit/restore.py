"""``napari-geosr submit restore``."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.cli.kit.options import settings_from
from napari_geosr.cli.restore import restore as restore_command
from napari_geosr.cli.submit.command import SubmitRequest, submitted
from napari_geosr.cli.submit.paths import (
    absolute_model,
    absolute_path,
    modified_time,
    with_absolute_paths,
)
from napari_geosr.io.suffixes import stem_of
from napari_geosr.jobs.queues._scripts import plain_name
from napari_geosr.operations.inputs import InputConfig, check_not_source
from napari_geosr.operations.inputs.noise_source import NoiseSource
from napari_geosr.operations.restore import residual_path
from napari_geosr.operations.restore.config import NONE, RestoreConfig
from napari_geosr.operations.restore.job import RestoreInput, RestoreJob
from napari_geosr.operations.restore.resume import deviation_path


def _restore(
    input: Path,  # noqa: A002  # as in the command
    *,
    out: Path,
    config: RestoreConfig | None = None,
    reading: InputConfig | None = None,
    noise_source: NoiseSource | None = None,
    settings: Path | None = None,
    resume: bool = False,
    check_consistency: bool = False,
    strict: bool = False,
    workers: int | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    merged = settings_from(RestoreConfig, config, settings)
    models = {"model": absolute_model(merged.model)}
    ensemble = tuple(map(absolute_model, merged.ensemble_with))
    merged = merged.model_copy(update={**models, "ensemble_with": ensemble})
    out = absolute_path(out)
    data = RestoreInput(
        volume=absolute_path(input),
        reading=reading or InputConfig(),
        whole=True,
        noise=with_absolute_paths(noise_source or NoiseSource()),
    )
    residual, deviation = residual_path(out), deviation_path(out)
    name = plain_name(stem_of(out))
    job = RestoreJob(
        name=name,
        data=data,
        settings=merged,
        out=out,
        replaces=modified_time(out) if overwrite else 0,
        deviation_replaces=modified_time(deviation) if overwrite or resume else 0,
        residual_replaces=modified_time(residual) if overwrite else 0,
        look=True,
        strict=strict,
        workers=workers,
        check_consistency=check_consistency,
    )
    scan = data.open()
    check_not_source(scan, *job.outputs())
    if (reference := data.noise.open(scan, data.reading)) is not None:
        check_not_source(reference.volume, *job.outputs())
    job.check()
    companions = [residual] if check_consistency else []
    # When a run is resumed, the file of deviations may exist, so it is not checked.
    if merged.uncertainty != NONE and not resume:
        companions.append(deviation)
    return SubmitRequest(
        job,
        name,
        out,
        is_volume=True,
        companions=tuple(companions),
        overwrite=overwrite,
        resume=resume,
    )


restore = submitted(restore_command, _restore)
