"""``napari-geosr submit measure``."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.cli.kit.options import settings_from
from napari_geosr.cli.measure import measure as measure_command
from napari_geosr.cli.submit.command import SubmitRequest, submitted
from napari_geosr.cli.submit.paths import absolute_path, modified_time
from napari_geosr.core.errors import ConfigError
from napari_geosr.jobs.queues._scripts import plain_name
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.inputs.job_input import CompanionInput, JobInput
from napari_geosr.operations.measure import MeasureConfig
from napari_geosr.operations.measure import files as report_files
from napari_geosr.operations.measure.job import MeasureJob


def _measure(
    input: Path,  # noqa: A002  # as in the command
    *,
    out: Path,
    reference: tuple[Path, ...] = (),
    mask: Path | None = None,
    deviation: Path | None = None,
    graph_distance: float | None = None,
    workers: int | None = None,
    config: MeasureConfig | None = None,
    reading: InputConfig | None = None,
    settings: Path | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    out = absolute_path(out)
    if len(reference) > 1:
        raise ConfigError(
            "A submitted measurement accepts only one volume to compare with. Give a "
            "single file after --reference.",
            fields=["reference"],
        )
    other = reference[0] if reference else None
    names = ["input"] if other is None else ["input", "reference"]
    merged = settings_from(MeasureConfig, config, settings)
    files = report_files.plan(
        out, names, labels=True, statistics=merged.statistics, overviews=True
    )
    report_files.check(files, overwrite=overwrite)
    given = {"reference": other, "mask": mask, "deviation": deviation}
    inputs = {
        role: CompanionInput(volume=absolute_path(path), belongs_to_data=True)
        for role, path in given.items()
        if path is not None
    }
    name = plain_name(out.name)
    data = JobInput(volume=absolute_path(input), reading=reading or InputConfig())
    job = MeasureJob(
        name=name,
        data=data,
        settings=merged,
        out=out,
        replaces=max(map(modified_time, files.values())) if overwrite else 0,
        graph_distance=graph_distance,
        workers=workers,
        **inputs,
    )
    job.check()
    report_files.check_space(files, data.open())
    return SubmitRequest(job, name, out, overwrite=overwrite)


measure = submitted(measure_command, _measure)
