"""``napari-geosr submit segment``."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.cli.kit.options import settings_from
from napari_geosr.cli.segment import segment as segment_command
from napari_geosr.cli.submit.command import SubmitRequest, submitted
from napari_geosr.cli.submit.paths import absolute_model, absolute_path, modified_time
from napari_geosr.io.suffixes import stem_of
from napari_geosr.jobs.queues._scripts import plain_name
from napari_geosr.operations.inputs import InputConfig, check_not_source
from napari_geosr.operations.inputs.job_input import CompanionInput, JobInput
from napari_geosr.operations.segment import SegmentConfig
from napari_geosr.operations.segment.job import SegmentJob


def _segment(
    input: Path,  # noqa: A002  # as in the command
    *,
    labels: Path,
    out: Path,
    probabilities: Path | None = None,
    config: SegmentConfig | None = None,
    reading: InputConfig | None = None,
    settings: Path | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    merged = settings_from(SegmentConfig, config, settings)
    if merged.model is not None:
        model = absolute_model(merged.model)
        merged = merged.model_copy(update={"model": model})
    out = absolute_path(out)
    shares = None if probabilities is None else absolute_path(probabilities)
    companions = () if shares is None else (shares,)
    name = plain_name(stem_of(out))
    job = SegmentJob(
        name=name,
        data=JobInput(volume=absolute_path(input), reading=reading or InputConfig()),
        labels=CompanionInput(volume=absolute_path(labels), belongs_to_data=True),
        settings=merged,
        out=out,
        probabilities=shares,
        replaces=modified_time(out) if overwrite else 0,
        probabilities_replaces=modified_time(shares) if overwrite and shares else 0,
    )
    job.check()
    for volume in job.open()[:2]:
        check_not_source(volume, out, *companions)
    return SubmitRequest(
        job,
        name,
        out,
        is_volume=True,
        companions=companions,
        overwrite=overwrite,
    )


segment = submitted(segment_command, _segment)
