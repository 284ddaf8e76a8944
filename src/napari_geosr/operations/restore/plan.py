"""Plans the shards, memory and time of a run, without restoring anything."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, WholeVolumeMemoryError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import seconds_per_voxel, threads_used
from napari_geosr.inference.device import pick_device
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.inference.members import is_generative
from napari_geosr.inference.runner import Estimate, choose_output, estimate
from napari_geosr.io.lazy import read_unit
from napari_geosr.learning import diffusion
from napari_geosr.models.distribution import TrainingLikeness
from napari_geosr.operations.cluster import Workers, check_workers
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.memory import sample_voxels
from napari_geosr.operations.restore.preparation import (
    PreparedRestoration,
    make_network,
    make_sampler,
    prepare_steps,
)
from napari_geosr.operations.restore.ranking.config import AUTO
from napari_geosr.operations.restore.ranking.models import find_models
from napari_geosr.operations.restore.series.plan import is_series
from napari_geosr.operations.restore.shards.run import ShardedRun
from napari_geosr.operations.restore.verdict.duration import verdict_seconds

#: Noise for which the time of samples is estimated if the noise of the scan is unknown,
#: in standard deviations of the training data.
_ANY_NOISE = 0.5
#: Edge lengths, in voxels, of the volumes that are written to measure the writing
#: speed.
_SAMPLE_EDGES = (96, 256)
#: Statistics used to measure the memory and speed of a network without a volume.
_ANY_STATISTICS = IntensityStatistics(0.0, 1.0, -10.0, 10.0, 1)


@dataclass(frozen=True)
class RestorePlan:
    """Plan of a run.

    Attributes
    ----------
    workers : int
        Number of processes.
    threads : int
        CPU threads of each process.
    parts : int
        Number of shards, or of tiles if there is only one process.
    part_shape : tuple of int
        Shape of the parts, in voxels of the result.
    bytes_read, bytes_written : int
        Amounts of uncompressed data, including halos but not coarser levels.
    memory : int
        Bytes used by each process, not counting the program and the model.
    seconds : float
        Time of the run, estimated from small windows timed on this computer; includes
        `storage_seconds`.
    storage_seconds : float
        Time to write the result with its coarser levels, estimated from small samples
        that are written to the folder for temporary files.
    check_seconds : float
        Additional time to predict the effect of the run, as a rough estimate.
    """

    workers: int
    threads: int
    parts: int
    part_shape: tuple[int, ...]
    bytes_read: int
    bytes_written: int
    memory: int
    seconds: float
    storage_seconds: float
    check_seconds: float


def plan_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    workers: Workers | None = None,
    suffix: str = ".ome.zarr",
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RestorePlan]:
    """Prepare a run as `restore_steps` does, and plan it.

    Parameters
    ----------
    volume : Volume
        One spatial volume.
    config : RestoreConfig
    workers : int or distributed.Client, optional
        See `restore_steps`.
    suffix : str
        Suffix of the output, to estimate the time for writing it.

    Raises
    ------
    ConfigError
        If the volume is a series, or the model is ``"auto"``.
    GeoSRError
        If a run with these settings could not be started.
    """
    if workers is not None:
        check_workers(workers)
    if is_series(volume):
        raise ConfigError(
            f"{volume.title} is a series, but only one volume can be planned at a "
            "time: choose a time point and channel (--time, --channel)."
        )
    if config.model == AUTO:
        raise ConfigError(
            "Only a run with a named model can be planned, because auto chooses the "
            "model when the run starts. Name a model (--model); napari-geosr models "
            "rank shows which one would be chosen."
        )
    prepared = yield from prepare_steps(volume, config, should_stop=should_stop)
    yield StageStarted(message="Measuring the writing speed")
    storage = _storage_seconds(prepared, suffix)
    yield StageStarted(message="Estimating time and memory")
    return _planned(prepared, workers, storage)


def outline_steps(
    volume: Volume, config: RestoreConfig, *, workers: int | None = None
) -> Generator[Step, None, RestorePlan]:
    """Plan a run from the shape of the volume alone: no voxel is read.

    Unlike in `plan_steps`, the time does not include writing the result, and classical
    filters have their default settings.

    Parameters
    ----------
    volume : Volume
        One spatial volume.
    config : RestoreConfig
        Settings, including the name of a model.
    workers : int, optional
        Number of processes.

    Raises
    ------
    DeviceMemoryError
        If not even the smallest useful tile fits into the memory budget.
    GeoSRError
        If the run could not be started for another reason.
    """
    volume = volume.select()
    model, others = find_models(volume, config, None)  # reads only the models' cards
    yield StageStarted(message=f"Loading model {config.model}")
    device = pick_device(config.device)
    network = make_network(volume, config, (model, *others), _ANY_STATISTICS)
    any_likeness = TrainingLikeness("ok")
    found = volume, config, model, network, _ANY_STATISTICS, device, any_likeness
    prepared = PreparedRestoration(*found, others)
    yield StageStarted(message="Estimating time and memory")
    if is_generative(config.uncertainty):
        at_once = sample_voxels(network, volume, config, device)
        network.set_noise(Noise(_ANY_NOISE, 1.0))
        network.sampler = make_sampler(network, config, _ANY_STATISTICS, model, at_once)
    elif workers is None:  # raises the same errors as the run would
        choose_output(
            network.to(device),
            volume.data,
            prepared.output_dtype,
            statistics=_ANY_STATISTICS,
            budget=prepared.budget,
            device=device,
        )
    return _planned(prepared, workers, 0.0)


def _estimated(prepared: PreparedRestoration) -> Estimate:
    """Estimate a run of one process; samples are drawn in windows if necessary."""
    volume, config = prepared.volume, prepared.config

    def with_budget(budget: int) -> Estimate:
        return estimate(
            prepared.network,
            volume.shape,
            budget=budget,
            device=prepared.device,
            threads=config.threads,
            itemsize=volume.dtype.itemsize,
            unit=read_unit(volume.data),
        )

    try:
        return with_budget(prepared.budget)
    except WholeVolumeMemoryError as error:
        if not is_generative(config.uncertainty) or error.enough is None:
            raise
        whole = with_budget(math.ceil(error.enough))
    network: Any = prepared.network
    axes = len(network.spec.axes)
    sizes = zip(volume.shape[-axes:], prepared.factors[-axes:], strict=True)
    at_once = sample_voxels(network, volume, config, prepared.device)
    times = diffusion.in_windows.duration(
        network.network, [n * s for n, s in sizes], at_once
    )
    return replace(whole, seconds=whole.seconds * times, peak_bytes=prepared.budget)


def _planned(
    prepared: PreparedRestoration, workers: Workers | None, storage: float
) -> RestorePlan:
    """Plan a prepared run; `storage` is the time for writing the result, in seconds."""
    volume, config = prepared.volume, prepared.config
    itemsize = prepared.output_dtype.itemsize
    written = math.prod(volume.shape) * math.prod(prepared.factors) * itemsize
    if prepared.has_deviation:
        storage *= 1 + 4 / itemsize
        written += written // itemsize * 4
    if workers is None:
        one = _estimated(prepared)
        tile = one.tile[3 - volume.ndim :]
        return RestorePlan(
            1,
            threads_used(config.threads),
            one.n_tiles,
            tuple(n * s for n, s in zip(tile, prepared.factors, strict=True)),
            int(one.cost_factor * volume.nbytes),
            written,
            one.peak_bytes,
            one.seconds + storage,
            storage,
            verdict_seconds(prepared, one.seconds, math.prod(volume.shape)),
        )
    run = ShardedRun(prepared, workers)
    planner = run.planner()
    choice, shards = planner.choice, planner.shards()
    speed = seconds_per_voxel(
        prepared.network, prepared.device, run.threads, choice.window_voxels
    )
    # Shards are restored in rounds, one shard per worker; in the last round, some
    # workers may be idle.
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
        voxels * speed * rounds + storage,
        storage,
        verdict_seconds(prepared, voxels * speed, math.prod(volume.shape)),
    )


def _storage_seconds(prepared: PreparedRestoration, suffix: str) -> float:
    """Estimate the time to write the result from the times for writing small volumes.

    Two volumes are cut from the scan and enlarged like the result, so that they
    compress about as well. The constant time for creating a file cancels out.
    """
    n = math.prod(prepared.volume.shape) * math.prod(prepared.factors)
    small, large = (_write_seconds(prepared, suffix, edge) for edge in _SAMPLE_EDGES)
    if n <= large[0] or large[0] <= small[0]:
        return large[1] * min(1.0, n / large[0])
    per_voxel = max(0.0, large[1] - small[1]) / (large[0] - small[0])
    return large[1] + per_voxel * (n - large[0])


def _write_seconds(
    prepared: PreparedRestoration, suffix: str, edge: int
) -> tuple[int, float]:
    """Write a sample; return its number of voxels and the time taken in seconds."""
    volume, factors = prepared.volume, prepared.factors
    window = tuple(
        slice((size - length) // 2, (size - length) // 2 + length)
        for size, factor in zip(volume.shape, factors, strict=True)
        for length in (min(size, max(1, edge // factor)),)
    )
    sample = np.asarray(volume.data[window])
    for axis, factor in enumerate(factors):
        sample = sample.repeat(factor, axis)
    # Values outside the range of the output type are converted to wrong values, which
    # does not affect the time.
    with np.errstate(invalid="ignore"):
        voxels = np.nan_to_num(sample).astype(prepared.output_dtype)
    result = Volume(voxels, volume.axes)
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        io.write(result, Path(folder) / f"sample{suffix}")
        return sample.size, time.perf_counter() - began
