"""Cut a run into shards: blocks of its result that are computed independently."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.array_parts.boxes import Box, BoxIndex
from napari_geosr.core.config import format_bytes, format_enough
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.steps import ShouldStop, WarningIssued, never_stop, run_to_end
from napari_geosr.core.types import AnyDType
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference.backends import Choice
from napari_geosr.inference.memory import network_spec
from napari_geosr.inference.run import RunSummary, TiledRun
from napari_geosr.inference.store_caches import (
    PlannedArray,
    budget_share,
    limited_caches,
)
from napari_geosr.inference.tiles.memory import TileMemory
from napari_geosr.inference.tiles.planner import TilePlanner
from napari_geosr.inference.tiles.tiling import Layout, lay_out
from napari_geosr.inference.windows import NonFinite, Standardisation

if TYPE_CHECKING:
    from torch import nn

#: Maximum number of planes per shard, for networks that restore planes one by one.
_SHARD_DEPTH = 32
#: Shards with more planes than this contain a multiple of this number of planes.
_CHUNK_DEPTH = 8
#: Minimum number of shards per worker, if the result is large enough.
_SHARDS_PER_WORKER = 4
#: Number of workers for which tiles and shards are planned if a run has fewer workers.
_PLANNED_WORKERS = 4
#: Maximum factor by which work may increase so that runs with fewer workers use the
#: same tiles.
_ACCEPTED_WORK = 1.05
#: Maximum work, relative to that of a single process with all the memory; above it, the
#: user is warned.
_COSTLY_WORK = 1.25
#: Memory for a file, as a multiple of the maximum size of a shard: incomplete shards,
#: and memory for packing one (as in `io.formats.ome_zarr.writer`).
_PARTS = 6


@dataclass(frozen=True)
class Shard:
    """A block of the result, and the corresponding voxels of the input.

    Attributes
    ----------
    number : int
        Position in the Z-Y-X order of all shards.
    region : tuple of slice
        Voxels of the input, along the axes of the source, without the halo.
    place : tuple of slice
        Voxels of the result.
    """

    number: int
    region: Box
    place: Box


def plan_shards(
    layout: Layout, tile: Sequence[int], unit: Sequence[int] | None = None
) -> list[Shard]:
    """Cut a result into shards that cover it exactly once, in Z-Y-X order.

    Parameters
    ----------
    layout : Layout
    tile : sequence of int
        Core size of the tiles, along Z, Y, X.
    unit : sequence of int, optional
        Block that must be written as a whole, in voxels of the result, along the axes
        of the source; blocks may be cut off at the edges of the result.

    Returns
    -------
    list of Shard
        Each contains whole units and at least one tile, except at the far edges.
    """
    units = (1,) * 3 if unit is None else (1,) * (3 - layout.ndim) + tuple(unit)
    cuts = []
    for axis in range(3):
        n, scale = layout.shape[axis], layout.scale[axis]
        # Smallest number of input voxels from which a whole number of units (blocks of
        # the result that must be written as a whole) is computed.
        step = math.lcm(units[axis], scale) // scale
        size = n if units[axis] >= n * scale else -(-tile[axis] // step) * step
        cuts.append([slice(a, min(a + size, n)) for a in range(0, n, size)])
    shards = []
    for number, full in enumerate(itertools.product(*cuts)):
        place = tuple(
            slice(part.start * s, part.stop * s)
            for part, s in zip(full, layout.scale, strict=True)
        )
        first = 3 - layout.ndim
        shards.append(Shard(number, full[first:], place[first:]))
    return shards


def unfinished_shards(shards: Sequence[Shard], finished: Iterable[Box]) -> list[Shard]:
    """Return the shards that the finished boxes, taken together, do not cover.

    Parameters
    ----------
    shards : sequence of Shard
    finished : iterable of tuple of slice
        Boxes of the result that an earlier run finished; they may overlap.
    """
    boxes = list(finished)
    index, touching = BoxIndex(boxes), _Touching(shards, boxes)
    return [
        shard
        for shard in shards
        if not index.covers(shard.place)
        and not _is_covered(shard.place, touching.of(shard))
    ]


class _Touching:
    """Finds the boxes that touch a shard, without comparing all pairs."""

    def __init__(self, shards: Sequence[Shard], boxes: Sequence[Box]) -> None:
        size = [0] * len(shards[0].place) if shards else []
        for shard in shards:
            lengths = (part.stop - part.start for part in shard.place)
            size = list(map(max, size, lengths))
        self._size = size
        self._cells: dict[tuple[int, ...], list[Box]] = {}
        for box in boxes:
            for cell in self._cells_of(box):
                self._cells.setdefault(cell, []).append(box)

    def _cells_of(self, box: Box) -> Iterator[tuple[int, ...]]:
        # All shards have the same size, except smaller ones at the far edges.
        pairs = zip(box, self._size, strict=True)
        ranges = [range(p.start // n, -(-p.stop // n)) for p, n in pairs]
        return itertools.product(*ranges)

    def of(self, shard: Shard) -> list[Box]:
        """Return the boxes that touch the shard."""
        pairs = zip(shard.place, self._size, strict=True)
        return self._cells.get(tuple(p.start // n for p, n in pairs), [])


def _is_covered(place: Box, boxes: Sequence[Box]) -> bool:
    """Whether the boxes together cover a region."""
    clipped = [
        [
            (max(b.start, p.start), min(b.stop, p.stop))
            for b, p in zip(box, place, strict=True)
        ]
        for box in boxes
    ]
    if not clipped:
        return False
    edges = [
        sorted({p.start, p.stop, *(end for box in clipped for end in box[axis])})
        for axis, p in enumerate(place)
    ]
    covered = np.zeros([len(each) - 1 for each in edges], bool)
    for box in clipped:
        covered[
            tuple(
                slice(each.index(low), each.index(high))
                for (low, high), each in zip(box, edges, strict=True)
            )
        ] = True
    return bool(covered.all())


class ShardPlanner:
    """Chooses the tiles and shards of a run on several processes.

    Runs on one to four processes get the same tiles and shards, unless tiles that fit
    the memory of each of four processes would cost appreciably more work.

    Parameters
    ----------
    network : nn.Module
        Network, already on its device.
    source : ArrayLike
        The whole input.
    dtype : dtype
        Data type of the result.
    n_workers : int
        Number of processes.
    budget : int
        Bytes that each process may use.
    device : str
    total : int, optional
        Bytes that are divided among the processes of a computer; by default `budget`.
    preferred_tile : sequence of int, optional
        Core size of an earlier run, which is used if it fits the budget.
    """

    def __init__(
        self,
        network: nn.Module,
        source: ArrayLike,
        dtype: AnyDType,
        *,
        n_workers: int,
        budget: int,
        device: str,
        total: int | None = None,
        preferred_tile: Sequence[int] | None = None,
    ) -> None:
        self.layout = lay_out(source.shape, network_spec(network))
        self._network = network.to(device)
        self._source, self._dtype, self._device = source, np.dtype(dtype), device
        self._n_planned = max(n_workers, _PLANNED_WORKERS)
        #: Part of the memory budget, in bytes, for each file that a process writes.
        self.memory = self._memory(budget)
        self._planner = self._planner_for(budget)
        try:
            self.choice = self._planner.choose_for_workers(
                self._n_planned, preferred_tile
            )
        except DeviceMemoryError as error:
            raise DeviceMemoryError(
                f"{error} The memory is divided among {n_workers} workers: "
                "use fewer of them (--workers).",
                enough=error.enough,
            ) from error
        self._n_workers, self._budget = n_workers, budget
        self._total = budget if total is None else total
        if total is not None and total // _PLANNED_WORKERS < budget:
            self._use_tile_of(total // _PLANNED_WORKERS, preferred_tile)
        self._core = self._deepened()

    def _memory(self, budget: int) -> int:
        return budget_share(budget) // network_spec(self._network).n_outputs

    def _planner_for(self, budget: int) -> TilePlanner:
        shape, memory = self.layout.output_shape, self._memory(budget)
        deviation = None
        if network_spec(self._network).n_outputs > 1:
            deviation = PlannedArray(shape, np.dtype(np.float32), memory)
        return TilePlanner(
            self._network,
            self._source,
            PlannedArray(shape, self._dtype, memory),
            deviation,
            budget=budget,
            device=self._device,
            tile_memory=TileMemory(),
        )

    def _use_tile_of(self, budget: int, preferred_tile: Sequence[int] | None) -> None:
        """Take the tile for a smaller budget if it adds hardly any work."""
        planner = self._planner_for(budget)
        try:
            choice = planner.choose_for_workers(self._n_planned, preferred_tile)
        except DeviceMemoryError:
            return
        if choice.work() <= _ACCEPTED_WORK * self.choice.work():
            self._planner, self.choice = planner, choice
            self.memory = self._memory(budget)

    @property
    def block(self) -> tuple[int, ...]:
        """Minimum shape of a shard, except at the edges, in voxels of the result."""
        pairs = zip(self._core, self.layout.scale, strict=True)
        return tuple(n * s for n, s in pairs)[3 - self.layout.ndim :]

    def _deepened(self) -> tuple[int, int, int]:
        """Return the tile, or a stack of tiles along Z if a network restores planes.

        A 2.5D network then reads each plane only once for all tiles that need the
        plane.
        """
        z, y, x = self.choice.tile
        if not self.layout.per_plane:
            return z, y, x
        plane = math.prod((y, x, *self.layout.scale)) * self._dtype.itemsize
        most = min(_SHARD_DEPTH, self.memory // _PARTS // plane)
        in_plane = -(-self.choice.n_tiles // -(-self.layout.shape[0] // z))
        wanted = -(-_SHARDS_PER_WORKER * self._n_planned // in_plane)
        depth = min(most, max(1, self.layout.shape[0] // wanted))
        if depth > _CHUNK_DEPTH:  # so that shards consist of whole chunks
            depth = depth // _CHUNK_DEPTH * _CHUNK_DEPTH
        return max(1, depth // z) * z, y, x

    def warnings(self) -> Iterator[WarningIssued]:
        """Explain why a run takes much longer than it would with more memory."""
        if self._total > self._budget:
            whole = self._planner_for(self._total)
            work = whole.choose_for_workers(self._n_planned).work()
            if self.choice.work() > _COSTLY_WORK * work:
                yield self._divided_warning(work)
                return
        for step in self._planner.cost_warnings():
            if isinstance(step, WarningIssued):
                yield step

    def _divided_warning(self, work: float) -> WarningIssued:
        """Warn that each worker's memory allows only small tiles with large halos."""
        enough = self._planner.budget_for_work(_COSTLY_WORK * work)
        factor = self.choice.work() / work
        return WarningIssued(
            message=f"Each of the {self._n_workers} workers may use "
            f"{format_bytes(self._budget)}, so the tiles are small, and the workers "
            f"together compute {factor:.1f} times as much as one process with all the "
            f"memory. {format_enough(enough)} for each worker would suffice: increase "
            "the Memory setting (--memory), or use fewer workers (--workers)."
        )

    def shards(self, unit: Sequence[int] | None = None) -> list[Shard]:
        """Return the shards, as in `plan_shards`."""
        return plan_shards(self.layout, self._core, unit)


@dataclass(frozen=True)
class ShardSummary:
    """Summary of a shard: the run of its tiles, and messages about the model."""

    run: RunSummary
    messages: tuple[str, ...] = ()


def restore_shard(
    network: nn.Module,
    source: ArrayLike,
    target: object,
    region: Box,
    tile: Sequence[int],
    *,
    statistics: Standardisation,
    budget: int,
    device: str = "cpu",
    nonfinite: NonFinite = "mean",
    threads: int | None = None,
    should_stop: ShouldStop = never_stop,
    deviation: object = None,
    backend: Choice | None = None,
) -> ShardSummary:
    """Restore a region into its own arrays; the values are those of an undivided run.

    Parameters
    ----------
    region : tuple of slice
        Voxels of the input, along the axes of the source.
    target, deviation : array-like
        Arrays that hold only the region.
    tile : sequence of int
        Core size of the tiles, along Z, Y, X.
    network, source, statistics, budget, device, nonfinite, threads, backend
        As in `napari_geosr.inference.runner.restore_tiles`.

    Raises
    ------
    GeoSRError
        As in `napari_geosr.inference.runner.restore_tiles`.
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
        region=region,
        deviation=deviation,
        backend=backend,
    )
    messages: list[str] = []
    tiles = run.planner.plan(tile=tile)
    with limited_caches(source, target, budget, run.planner.choice.reads):
        summary = run_to_end(
            run.steps(tiles),
            lambda step: (
                messages.append(step.message)
                if isinstance(step, WarningIssued)
                else None
            ),
        )
    return ShardSummary(summary, tuple(messages))
