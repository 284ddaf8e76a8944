"""``napari-geosr submit sim``."""

from __future__ import annotations

from pathlib import Path

from napari_geosr.cli.kit.options import settings_from
from napari_geosr.cli.sim import reconstruct_sim
from napari_geosr.cli.submit.command import SubmitRequest, submitted
from napari_geosr.cli.submit.paths import (
    absolute_path,
    modified_time,
    with_absolute_paths,
)
from napari_geosr.io.suffixes import stem_of
from napari_geosr.jobs.queues._scripts import plain_name
from napari_geosr.operations.inputs import InputConfig, check_not_source
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.job import SimJob
from napari_geosr.operations.sim.report import FILES, check_report


def _sim(
    raw: Path,
    *,
    out: Path,
    config: SimConfig | None = None,
    reading: InputConfig | None = None,
    report: Path | None = None,
    settings: Path | None = None,
    overwrite: bool = False,
) -> SubmitRequest:
    out = absolute_path(out)
    merged = settings_from(SimConfig, config, settings)
    replaced = 0
    if report is not None:
        report = absolute_path(report)
        check_report(report, merged, overwrite=overwrite)
        if overwrite:
            replaced = max(modified_time(report / name) for name in FILES.values())
    name = plain_name(stem_of(out))
    job = SimJob(
        name=name,
        frames=absolute_path(raw),
        reading=reading or InputConfig(),
        settings=with_absolute_paths(merged),
        out=out,
        replaces=modified_time(out) if overwrite else 0,
        report=report,
        report_replaces=replaced,
    )
    job.check()
    check_not_source(job.open_input(), out)
    return SubmitRequest(job, name, out, is_volume=True, overwrite=overwrite)


sim = submitted(reconstruct_sim, _sim)
