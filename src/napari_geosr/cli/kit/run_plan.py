"""Describe the plan of a restoration in words: parts, data, memory and time."""

from __future__ import annotations

import math
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.cli.kit.console import run_command
from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import ConfigError
from napari_geosr.io.suffixes import suffix_of
from napari_geosr.jobs import submission
from napari_geosr.jobs.profiles import Profile
from napari_geosr.operations import restore as restoration
from napari_geosr.operations.restore.job import RestoreJob
from napari_geosr.operations.restore.ranking.config import AUTO

if TYPE_CHECKING:
    from napari_geosr.core.steps import ShouldStop, Step
    from napari_geosr.operations.restore import RestorePlan

#: Largest scan that is read for the plan of a submitted job, in bytes.
_QUICK_BYTES = 512 * 2**20


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
        If the run could not be started, or could not finish a part of the volume within
        the walltime.
    """
    volume, reason = job.data.open(), ""
    if volume.nbytes > _QUICK_BYTES:
        reason = f"all {format_bytes(volume.nbytes)} would have to be read"
    elif restoration.is_series(volume):
        reason = "the scan is a series"
    elif job.settings.model == AUTO:
        reason = "the model will be chosen when the job runs"
    elif find_spec("torch") is None:
        reason = "torch is not installed on this computer"
    if reason:
        return {
            "plan": f"not available, because {reason}; `napari-geosr restore … "
            "--dry-run` shows the plan for one volume and a named model"
        }

    def steps(should_stop: ShouldStop) -> Generator[Step, None, RestorePlan]:
        return restoration.plan_steps(
            volume,
            job.settings,
            workers=job.workers,
            suffix=suffix_of(job.result(Path())),
            should_stop=should_stop,
        )

    plan, _ = run_command(steps)
    _check_walltime(plan, profile)
    runs = math.ceil(plan.seconds / profile.seconds)
    pieces = "one run" if runs == 1 else f"{runs} runs"
    within = f", {pieces} within the walltime"
    threads = f"{plan.threads} CPU thread{'s' if plan.threads > 1 else ''}"
    what = "tiles" if job.workers is None else "shards"
    each = "" if job.workers is None else f"; {job.workers} workers"
    size = format_bytes(plan.memory) + (" for each worker" if each else "")
    place = f"a computer like this one ({threads}{' each' if each else ''})"
    if profile.queue != submission.LOCAL:
        place += within
    return {
        "parts": f"{plan.parts} {what} of {shape_text(plan)} voxels{each}",
        "data": data_text(plan),
        "memory": f"{size}, plus the program and the model",
        "time": f"about {time_text(plan.seconds)} on {place}",
    }


def _check_walltime(plan: RestorePlan, profile: Profile) -> None:
    """Raise `ConfigError` if the walltime ends before the first tile is finished."""
    part = plan.seconds / plan.parts * min(plan.parts, plan.workers)
    if profile.queue == submission.LOCAL or part <= profile.seconds:
        return
    what = "tile" if plan.workers == 1 else "shard"
    raise ConfigError(
        f"The walltime {profile.walltime} is too short: one {what} takes about "
        f"{time_text(part)} on a computer like this one, so a run would end before "
        f"its first {what} is finished. Request more time (--walltime), or less "
        f"memory (--memory), which makes each {what} smaller."
    )


def shape_text(plan: RestorePlan) -> str:
    """Shape of the shards or tiles."""
    return " × ".join(map(str, plan.part_shape))


def data_text(plan: RestorePlan) -> str:
    """Amount of data that a run reads and writes, as text."""
    return (
        f"reads {format_bytes(plan.bytes_read)}, writes "
        f"{format_bytes(plan.bytes_written)} before compression"
    )


def time_text(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
