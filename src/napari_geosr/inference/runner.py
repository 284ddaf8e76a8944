"""Restore a volume tile by tile, exactly and within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.steps import ShouldStop, Step, never_stop, run_to_end
from napari_geosr.core.types import AnyArray, AnyDType
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference import compute
from napari_geosr.inference.backends import Choice
from napari_geosr.inference.memory import Buffers, measure_cost, network_spec
from napari_geosr.inference.run import RunSummary, TiledRun
from napari_geosr.inference.store_caches import PlannedArray, budget_share
from napari_geosr.inference.tiles.choice import choose_tile
from napari_geosr.inference.tiles.memory import TileMemory
from napari_geosr.inference.tiles.tiling import clip_box, lay_out
from napari_geosr.inference.windows import NonFinite, Standardisation
from napari_geosr.io.lazy import ReadUnit

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Estimate",
    "RunSummary",
    "choose_output",
    "estimate",
    "restore_region",
    "restore_tiles",
]


@dataclass(frozen=True)
class Estimate:
    """Estimated time and memory of a run.

    Attributes
    ----------
    seconds : float
        Estimated from small windows timed on this computer.
    peak_bytes : int
        Memory, in bytes, that the process or the device needs in addition to source and
        target.
    tile : tuple of int
        Core size along Z, Y, X, in input voxels.
    """

    seconds: float
    peak_bytes: int
    n_tiles: int
    tile: tuple[int, ...]
    cost_factor: float


def restore_tiles(
    network: nn.Module,
    source: ArrayLike,
    target: object,
    *,
    statistics: Standardisation,
    budget: int,
    device: str = "cpu",
    nonfinite: NonFinite = "mean",
    priority_region: Sequence[slice] | None = None,
    threads: int | None = None,
    should_stop: ShouldStop = never_stop,
    tile_memory: TileMemory | None = None,
    tile: Sequence[int] | None = None,
    finished: Sequence[Sequence[slice]] = (),
    preferred_tile: Sequence[int] | None = None,
    deviation: object = None,
    backend: Choice | None = None,
) -> Generator[Step, None, RunSummary]:
    """Restore `source` into `target`, exactly as in a single forward pass.

    Parameters
    ----------
    network : nn.Module
        Network in evaluation mode, with a `NetworkSpec` as ``spec``; moved to `device`.
    source : ArrayLike
        2D or 3D, any real dtype; read window by window.
    target : array-like
        Array of the upscaled shape, of floating-point or integer dtype (values are then
        rounded and clipped).
    statistics : Standardisation
        Statistics of the *whole* source, never of a part.
    budget : int
        Bytes that may be used in addition to network, source and target: growth of the
        process, or memory of the device.
    nonfinite : {"mean", "zero", "refuse"}
        Value passed to the network for NaN and infinite voxels; ``"refuse"`` raises a
        `VolumeError`. At these voxels, a floating-point target contains NaN, and an
        integer target contains the network's output.
    priority_region : sequence of slice, optional
        Input voxels on screen: their tiles are computed first.
    threads : int, optional
        Number of CPU threads; all cores but one by default.
    tile_memory : TileMemory, optional
        Store for the window sizes that fit after an out-of-memory error.
    tile : sequence of int, optional
        Core size along the source's axes; by default chosen from the budget.
    finished : sequence of sequence of slice
        Boxes of `target` that are already restored, such as the ``TileDone.slices`` of
        an earlier run. Tiles within these boxes are not recomputed.
    preferred_tile : sequence of int, optional
        Core size of an earlier run, which is used if it fits the budget.
    deviation : array-like, optional
        Same shape as the target, floating-point: receives the standard deviations of a
        network of several members (`napari_geosr.inference.members`); `target` receives
        the means.
    backend : Choice, optional
        The backend that may replace torch (`napari_geosr.inference.backends`); torch by
        default. The decision is made with the first tile, and the choice may be passed
        to the next run with the same network.

    Yields
    ------
    TileDone
        After each tile is written; ``total`` grows if tiles must be halved.
        `WarningIssued` reports the decision about `backend`.

    Returns
    -------
    RunSummary

    Raises
    ------
    Cancelled
        Raised between tiles or layers. Finished tiles remain in `target`; the
        exception's ``summary`` is the `RunSummary` up to that point.
    DeviceMemoryError
        If not even the smallest tile fits.
    ConfigError, VolumeError, ModelError, FileError, EngineError
        For errors in the settings, the input, the model, a file or the network.
    """
    run = TiledRun(
        network,
        source,
        target,
        statistics=statistics,
        budget=budget,
        device=device,
        nonfinite=nonfinite,
        threads=threads,
        should_stop=should_stop,
        tile_memory=tile_memory,
        deviation=deviation,
        backend=backend,
    )
    plan = run.planner.plan(priority_region, tile, preferred_tile)
    return (yield from run.steps(plan, finished))


def choose_output(
    network: nn.Module,
    source: ArrayLike,
    dtype: AnyDType,
    *,
    statistics: Standardisation,
    budget: int,
    device: str = "cpu",
    threads: int | None = None,
    in_memory: bool = False,
) -> tuple[tuple[int, ...], int]:
    """Predict tile shape and memory of a run, to choose the chunks of its file.

    Parameters
    ----------
    dtype : dtype
        Data type of the result.
    in_memory : bool
        Whether the result is an array in memory, which does not count towards the
        budget.

    Returns
    -------
    tile : tuple of int
        Shape of the tiles, in output voxels, along the source's axes.
    memory : int
        Part of the budget, in bytes, for the file of the result; with standard
        deviations, for each of the two files.
    """
    spec = network_spec(network)
    layout = lay_out(source.shape, spec)
    memory = 0 if in_memory else budget_share(budget) // spec.n_outputs
    deviation = None
    if spec.n_outputs > 1:
        deviation = PlannedArray(layout.output_shape, np.dtype(np.float32), memory)
    run = TiledRun(
        network,
        source,
        PlannedArray(layout.output_shape, np.dtype(dtype), memory),
        deviation=deviation,
        statistics=statistics,
        budget=budget,
        device=device,
        threads=threads,
    )
    core = run.planner.plan().tile
    tile = tuple(n * s for n, s in zip(core, layout.scale, strict=True))
    return tile[3 - layout.ndim :], memory


def restore_region(
    network: nn.Module,
    source: ArrayLike,
    region: Sequence[slice],
    *,
    statistics: Standardisation,
    budget: int,
    device: str = "cpu",
    nonfinite: NonFinite = "mean",
    threads: int | None = None,
    should_stop: ShouldStop = never_stop,
    tile_memory: TileMemory | None = None,
) -> AnyArray:
    """Restore a region, exactly as in a run over the whole volume.

    Only the region and its halo are read. Parameters and errors are those of
    `restore_tiles`.

    Parameters
    ----------
    region : sequence of slice
        Slices in input voxels, one per axis of the source.

    Returns
    -------
    ndarray
        The upscaled region, in the network's floating-point dtype; the mean for a
        network of several members.
    """
    spec = network_spec(network)
    layout = lay_out(source.shape, spec)
    box = clip_box(layout, region)
    shape = tuple(
        (part.stop - part.start) * s for part, s in zip(box, layout.scale, strict=True)
    )
    target = np.empty(shape[3 - layout.ndim :], compute.network_dtype(network))
    run = TiledRun(
        network,
        source,
        target,
        statistics=statistics,
        budget=budget,
        device=device,
        nonfinite=nonfinite,
        threads=threads,
        should_stop=should_stop,
        tile_memory=tile_memory,
        region=box[3 - layout.ndim :],
        is_preview=True,
        deviation=np.empty_like(target) if spec.n_outputs > 1 else None,
    )
    run_to_end(run.steps(run.planner.plan_region()))
    return target


def estimate(
    network: nn.Module,
    shape: Sequence[int],
    *,
    budget: int,
    device: str = "cpu",
    threads: int | None = None,
    itemsize: int = 4,
    unit: ReadUnit | None = None,
) -> Estimate:
    """Time small windows to estimate the cost of restoring an array of `shape`.

    Speed and memory are measured once per network, device and number of threads; later
    calls only plan. Raises the same errors as `restore_tiles` if nothing fits.

    Parameters
    ----------
    network : nn.Module
        Network in evaluation mode; moved to `device`.
    shape : sequence of int
        Shape of the input, (Z, Y, X) or (Y, X).
    budget : int
        Bytes that the run may use.
    device : str
    threads : int, optional
        CPU threads; all cores but one by default.
    itemsize : int
        Bytes per voxel of the input.
    unit : ReadUnit, optional
        Block of the input that is decoded as a whole.
    """
    spec = network_spec(network)
    compute.check_ready(network)
    network.to(device)
    cost = measure_cost(network, device)
    speed = compute.seconds_per_voxel(network, device, threads, cost.max_voxels(budget))
    deviation = 4 if spec.n_outputs > 1 else 0
    buffers = Buffers(source=itemsize, deviation=deviation, unit=unit)
    choice = choose_tile(
        shape, spec, cost, budget, buffers=buffers, seconds_per_voxel=speed
    )
    layout = lay_out(shape, spec)
    voxels = choice.cost_factor * math.prod(layout.padded)
    return Estimate(
        seconds=voxels * speed,
        peak_bytes=choice.peak_bytes,
        n_tiles=choice.n_tiles,
        tile=choice.tile,
        cost_factor=choice.cost_factor,
    )
