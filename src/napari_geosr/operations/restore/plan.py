"""Plans a run without restoring anything: its shards, memory and time."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import seconds_per_voxel, threads_used
from napari_geosr.inference.runner import estimate
from napari_geosr.io.lazy import read_unit
from napari_geosr.operations.cluster import Workers, check_workers
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.preparation import prepare_steps
from napari_geosr.operations.restore.ranking.config import AUTO
from napari_geosr.operations.restore.series.plan import is_series
from napari_geosr.operations.restore.sharded import ShardedRun


@dataclass(frozen=True)
class RestorePlan:
    """What a run would do.

    Attributes
    ----------
    workers : int
        Number of processes.
    threads : int
        CPU threads of each.
    parts : int
        Number of shards, or of tiles if one process does all.
    part_shape : tuple of int
        Their shape, in voxels of the result.
    bytes_read, bytes_written : int
        With the halos; without compression and coarser levels.
    memory : int
        Bytes of each process, besides the program and the model.
    seconds : float
        Estimated from small windows timed on this computer.
    """

    workers: int
    threads: int
    parts: int
    part_shape: tuple[int, ...]
    bytes_read: int
    bytes_written: int
    memory: int
    seconds: float


def plan_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    workers: Workers | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RestorePlan]:
    """Prepare a run as `restore_steps` does, and plan it.

    Parameters
    ----------
    volume : Volume
        One spatial volume.
    config : RestoreConfig
    workers : int or distributed.Client, optional
        As in `restore_steps`.

    Raises
    ------
    ConfigError
        If the volume is a series, or the model is still to be chosen.
    GeoSRError
        If the run could not be started.
    """
    if workers is not None:
        check_workers(workers)
    if is_series(volume):
        raise ConfigError(
            f"{volume.title} is a series, and one volume is planned at a time: choose "
            "a time point and channel (--time, --channel)."
        )
    if config.model == AUTO:
        raise ConfigError("Name the model of the run that is to be planned (--model).")
    prepared = yield from prepare_steps(volume, config, should_stop=should_stop)
    yield StageStarted(message="Estimating time and memory")
    volume, itemsize = prepared.volume, prepared.output_dtype.itemsize
    written = math.prod(volume.shape) * math.prod(prepared.factors) * itemsize
    if prepared.has_deviation:
        written += written // itemsize * 4
    if workers is None:
        one = estimate(
            prepared.network,
            volume.shape,
            budget=prepared.budget,
            device=prepared.device,
            threads=config.threads,
            itemsize=volume.dtype.itemsize,
            unit=read_unit(volume.data),
        )
        tile = one.tile[3 - volume.ndim :]
        return RestorePlan(
            1,
            threads_used(config.threads),
            one.n_tiles,
            tuple(n * s for n, s in zip(tile, prepared.factors, strict=True)),
            int(one.cost_factor * volume.nbytes),
            written,
            one.peak_bytes,
            one.seconds,
        )
    run = ShardedRun(prepared, workers)
    planner = run.planner()
    choice, shards = planner.choice, planner.shards()
    speed = seconds_per_voxel(
        prepared.network, prepared.device, run.threads, choice.window_voxels
    )
    # The workers finish together, but for the last round of shards.
    rounds = math.ceil(len(shards) / run.n_workers) / len(shards)
    voxels = choice.cost_factor * math.prod(planner.layout.padded)
    return RestorePlan(
        run.n_workers,
        run.threads,
        len(shards),
        planner.block,
        int(choice.cost_factor * volume.nbytes),
        written,
        choice.peak_bytes,
        voxels * speed * rounds,
    )
