"""Reject restorations that could not finish even one tile or shard."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING

from napari_geosr.core.config import format_enough, parse_bytes
from napari_geosr.core.errors import ConfigError, DeviceMemoryError
from napari_geosr.core.machine.torch_here import why_no_torch
from napari_geosr.core.steps import Step
from napari_geosr.inference.members import is_generative
from napari_geosr.io.lazy import read_unit
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.submission import LOCAL
from napari_geosr.jobs.feasibility.node import Node, time_text
from napari_geosr.models import zoo
from napari_geosr.operations import restore as restoration
from napari_geosr.operations.inputs.scan import open_questions
from napari_geosr.operations.restore.job import RestoreJob
from napari_geosr.operations.restore.memory import FREE_SHARE
from napari_geosr.operations.restore.ranking.config import AUTO

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.restore.config import RestoreConfig
    from napari_geosr.operations.restore.plan import RestorePlan

#: Memory of a process without its tiles, in bytes: program, libraries and model.
_PROGRAM_BYTES = 500 * 10**6
#: Minimum walltime, in seconds, for a job to be accepted without timing the model.
_AMPLE_WALLTIME = 2 * 3600
#: Memory assumed per input voxel of a tile, and per voxel of its result, in bytes, to
#: accept a budget without loading the model. Models need less.
_SAFE_INPUT_BYTES = 8192.0
_SAFE_OUTPUT_BYTES = 1280.0
#: Maximum work for which tiles count as useful, as a multiple of the work without
#: halos.
_USEFUL_WORK = 20.0
#: Additional edge length of a tile, in voxels, for models that round sizes up.
_MARGIN = 64


def check_steps(job: RestoreJob, profile: Profile) -> Generator[Step, None, None]:
    """Reject a restoration that would fail as soon as it starts.

    A scan is rejected if its slices are frames of a time series, which the model would
    mix; a few slices are read to recognise such frames. A run is rejected if its first
    part would not fit into memory or walltime. If memory and walltime are ample, only
    the card of the model is read. Otherwise the model is loaded and timed, as for
    ``--dry-run``. The requirements are not checked if they cannot be determined on this
    computer: without torch, if the model is still to be chosen, for a series, for
    samples of a diffusion model, and for runs on a GPU.

    Parameters
    ----------
    job : RestoreJob
    profile : Profile
        Walltime and memory of the cluster.

    Raises
    ------
    ConfigError
        If the job does not fit; the message names the setting and its smallest valid
        value.
    DeviceMemoryError
        If the memory budget set in the job is too small on any node.
    VolumeError
        If a model would mix the frames of a time series.
    """
    settings = job.settings
    if settings.model == AUTO:
        return
    volume = job.data.open()
    if not restoration.is_series(volume):
        names = (settings.model, *settings.ensemble_with)
        open_questions(volume, [zoo.find(name).card for name in names])
    if profile.gpus or settings.device not in ("auto", "cpu"):
        return
    run = _RestoreNode(job, profile)
    if run.is_ample(volume) or why_no_torch():
        return
    if restoration.is_series(volume) or is_generative(job.settings.uncertainty):
        return
    try:
        plan = yield from restoration.outline_steps(
            volume, settings_on_node(job, profile), workers=run.workers
        )
    except DeviceMemoryError as error:
        if job.settings.memory is not None or not run.memory or error.enough is None:
            raise
        raise run.too_small(error.enough) from error
    check_plan(plan, job, profile)


def settings_on_node(job: RestoreJob, profile: Profile) -> RestoreConfig:
    """Return the settings, with a memory budget if the memory of a node is known."""
    node = _RestoreNode(job, profile)
    if job.settings.memory is not None or not node.memory:
        return job.settings
    budget = node.budget(FREE_SHARE)
    return job.settings.model_copy(update={"memory": f"{budget}B"})


def check_plan(plan: RestorePlan, job: RestoreJob, profile: Profile) -> None:
    """Reject a plan with parts that need more than a node of the cluster offers.

    Parameters
    ----------
    plan : RestorePlan
        Plan made on this computer.
    job : RestoreJob
    profile : Profile

    Raises
    ------
    ConfigError
        If the plan does not fit; the message names the setting and its smallest valid
        value.
    """
    node = _RestoreNode(job, profile)
    if profile.queue == LOCAL:
        return
    if job.settings.memory:
        node.check_budget(job.settings.memory, plan.memory * node.n_computing)
    seconds = node.seconds_of_part(plan)
    what = "tile" if plan.workers == 1 else "shard"
    node.check_walltime(
        seconds,
        f"one {what} takes about {time_text(seconds)} on a computer like this one",
        f"a run would end before its first {what} is finished",
        f"reduce the memory budget (--memory), which makes each {what} smaller",
    )


class _RestoreNode(Node):
    """Resources that a restoration can use on a node of a cluster.

    Parameters
    ----------
    job : RestoreJob
    profile : Profile
    """

    def __init__(self, job: RestoreJob, profile: Profile) -> None:
        super().__init__(profile, job.workers, job.settings.threads, _PROGRAM_BYTES)
        self.job = job

    def is_ample(self, volume: Volume) -> bool:
        """Return whether memory and walltime are ample, based on the models' cards."""
        if self.is_timed and self.profile.seconds < _AMPLE_WALLTIME:
            return False
        budget = self.memory and self.memory - self.program_bytes
        if self.job.settings.memory is not None:
            given = parse_bytes(self.job.settings.memory)
            if self.memory and given > budget:
                return False
            budget = given
        elif not self.memory:
            return True
        names = (self.job.settings.model, *self.job.settings.ensemble_with)
        needed = sum(_generous_bytes(name, volume) for name in names)
        return needed * self.n_computing <= budget / 2

    def too_small(self, enough: float) -> ConfigError:
        """Build the error for a smallest useful tile that needs `enough` bytes."""
        needed = enough * self.n_computing / FREE_SHARE + self.program_bytes
        why = f"the smallest useful tile needs {format_enough(enough)}"
        return self.too_little_memory(why, needed, "choose another model")

    def seconds_of_part(self, plan: RestorePlan) -> float:
        """Estimate the time of a tile or shard, assuming ideal speed-up by threads."""
        seconds = plan.seconds / plan.parts * min(plan.parts, plan.workers)
        threads = self.threads // self.n_computing
        return seconds * plan.threads / max(plan.threads, threads)


def _generous_bytes(name: str, volume: Volume) -> float:
    """Return an upper limit, in bytes, of the memory for the smallest useful tile."""
    card = zoo.find(name).card
    if not card.local:
        return math.inf
    n = len(card.axes)
    core = 2 * card.halo / (math.pow(_USEFUL_WORK, 1 / n) - 1)
    voxels = math.pow(core + 2 * card.halo + _MARGIN, n)
    scale = math.pow(card.upscale_factor, n)
    per_voxel = max(_SAFE_INPUT_BYTES, _SAFE_OUTPUT_BYTES * scale)
    unit = read_unit(volume.data)
    return voxels * per_voxel + (0 if unit is None else unit.held_bytes(0))
