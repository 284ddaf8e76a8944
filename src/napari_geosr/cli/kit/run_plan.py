"""Describe the plan of a restoration in words: tiles, data, memory and time."""

from __future__ import annotations

import math
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.cli.kit.console import run_command
from napari_geosr.core.config import format_bytes
from napari_geosr.core.machine.torch_here import why_no_torch
from napari_geosr.core.text.counts import counted
from napari_geosr.io.suffixes import suffix_of
from napari_geosr.jobs.cluster import submission
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility import check_plan, settings_on_node, time_text
from napari_geosr.operations import restore as restoration
from napari_geosr.operations.restore.job import RestoreJob
from napari_geosr.operations.restore.ranking.config import AUTO

if TYPE_CHECKING:
    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.operations.restore import RestorePlan

#: Largest scan that is read for the plan of a submitted job, in bytes.
_QUICK_BYTES = 512 * 2**20
#: Seconds that each run of a job needs to import the program and to load the model.
_START_SECONDS = 15


def rows_for_job(job: RestoreJob, profile: Profile) -> dict[str, str]:
    """Describe what a submitted job will do, if this can be determined quickly.

    Parameters
    ----------
    job : RestoreJob
    profile : Profile
        Its walltime determines the number of runs.

    Raises
    ------
    GeoSRError
        If the run could not be started, or could not finish a tile or shard within the
        walltime and memory of the profile.
    """
    volume, reason = job.data.open(), ""
    if volume.nbytes > _QUICK_BYTES:
        reason = f"all {format_bytes(volume.nbytes)} would have to be read"
    elif restoration.is_series(volume):
        reason = "the scan is a series"
    elif job.settings.model == AUTO:
        reason = "the model will be chosen when the job runs"
    elif missing := why_no_torch():
        reason = f"torch cannot be imported on this computer ({missing})"
    if reason:
        return {
            "plan": f"not available, because {reason}; `napari-geosr restore … "
            "--dry-run` shows the plan for one volume and a named model"
        }

    def steps(should_stop: ShouldStop) -> Generator[Step, None, RestorePlan]:
        return restoration.plan_steps(
            volume,
            settings_on_node(job, profile),
            workers=job.workers,
            suffix=suffix_of(job.result(Path())),
            should_stop=should_stop,
        )

    plan, _ = run_command(steps)
    check_plan(plan, job, profile)
    seconds = plan.seconds + plan.check_seconds
    # A run needs time to import the program and to load the model, and it stops before
    # its walltime ends.
    usable = profile.seconds - profile.warning_seconds - _START_SECONDS
    runs = math.ceil(seconds / max(usable, 1))
    pieces = "one run" if runs == 1 else f"{runs} runs"
    within = f", in {pieces} within the walltime"
    threads = f"{plan.threads} CPU thread{'s' if plan.threads > 1 else ''}"
    parts = counted(plan.parts, "tile" if job.workers is None else "shard")
    each = "" if job.workers is None else f"; {job.workers} workers"
    size = format_bytes(plan.memory) + (" for each worker" if each else "")
    place = f"a computer like this one ({threads}{' each' if each else ''})"
    if profile.queue != submission.LOCAL:
        place += within
    check = check_text(plan)
    of_which = f"; this includes {check}" if check else ""
    return {
        "parts": f"{parts} of {shape_text(plan)} voxels{each}",
        "data": data_text(plan),
        "memory": f"{size}, plus the program and the model",
        "time": f"about {time_text(seconds)} on {place}{of_which}",
    }


def shape_text(plan: RestorePlan) -> str:
    """Return the shape of the shards or tiles."""
    return " × ".join(map(str, plan.part_shape))


def check_text(plan: RestorePlan) -> str:
    """Return the time needed to predict the model's effect, as text; empty if 0."""
    if not plan.check_seconds:
        return ""
    return f"{time_text(plan.check_seconds)} to predict the effect of the model"


def data_text(plan: RestorePlan) -> str:
    """Return the amount of data that a run reads and writes, as text."""
    return (
        f"reads {format_bytes(plan.bytes_read)}, writes "
        f"{format_bytes(plan.bytes_written)} before compression"
    )
