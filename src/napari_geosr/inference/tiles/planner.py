"""Choose the tiles of a run within its budget and adapt them to measured memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from napari_geosr.core.config import format_bytes, format_enough
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.steps import Step, WarningIssued
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference import compute
from napari_geosr.inference.memory import (
    Buffers,
    CostModel,
    learn_cost,
    measure_cost,
    network_spec,
    region_peak,
    tile_peak,
)
from napari_geosr.inference.store_caches import PlannedArray, budget_share, held_bytes
from napari_geosr.inference.tiles.choice import (
    MAX_COST_FACTOR,
    SECONDS_PER_TILE,
    TileChoice,
    budget_for,
    choose_tile,
    choose_tile_for_workers,
    cut_to_budget,
    weigh_tile,
    work_factor,
)
from napari_geosr.inference.tiles.memory import TileMemory, free_memory, memory_key
from napari_geosr.inference.tiles.tiling import (
    Tile,
    TilePlan,
    clip_box,
    lay_out,
    plan,
    split,
)
from napari_geosr.io.lazy import ReadUnit, read_unit

if TYPE_CHECKING:
    from torch import nn

#: Memory assumed per input voxel, in bytes, until the network is measured. A preview
#: that fits with this value and `_SAFE_OUTPUT_BYTES` needs no measurement.
_SAFE_INPUT_BYTES = 8192.0
#: Memory assumed per voxel of the result, in bytes, until the network is measured.
_SAFE_OUTPUT_BYTES = 1280.0
#: Maximum ratio of voxels computed to voxels needed; above it, the user is warned.
_COSTLY_FACTOR = 3.0
#: Maximum number of iterations in the search for a sufficient budget.
_MAX_ITERATIONS = 40


class TilePlanner:
    """Chooses the tiles of a run, and smaller ones if memory runs short.

    Parameters
    ----------
    network : nn.Module
        Network, already on its device.
    source, target, deviation : array-like
        As in `napari_geosr.inference.runner.restore_tiles`.
    budget : int
        Bytes that the run may use.
    device : str
    threads : int, optional
    tile_memory : TileMemory
        Store for the window sizes that fit after an out-of-memory error.
    region : sequence of slice, optional
        Part of the source to restore.
    fixed_bytes : int
        Memory used by another backend, independent of the tile size.
    is_preview : bool
        Whether the cache of the source is left unchanged.
    """

    def __init__(
        self,
        network: nn.Module,
        source: ArrayLike,
        target: Any,
        deviation: Any = None,
        *,
        budget: int,
        device: str,
        tile_memory: TileMemory,
        threads: int | None = None,
        region: Sequence[slice] | None = None,
        fixed_bytes: int = 0,
        is_preview: bool = False,
    ) -> None:
        self.network, self.budget, self.device = network, budget, device
        self.source, self.target, self.deviation = source, target, deviation
        self.threads, self.region = threads, region
        self.tile_memory, self.fixed_bytes = tile_memory, fixed_bytes
        self.spec = network_spec(network)
        self.layout = lay_out(source.shape, self.spec)
        #: Shape of the blocks in which the source is read, if the plan determines the
        #: size of the cache.
        self.unit = None if is_preview else read_unit(source)
        self.buffers = self.buffers_for(budget)
        fine = _SAFE_OUTPUT_BYTES * math.prod(self.layout.scale)
        self._guess = CostModel(base=0.0, slope=max(_SAFE_INPUT_BYTES, fine))
        self.cost = self._guess
        self._choice: TileChoice | None = None
        #: Time of the network per voxel, in seconds, if known.
        self._speed: float | None = None
        #: Largest window that is known, from an earlier run, to fit into memory.
        self._known_max_voxels: int | None = None

    @property
    def choice(self) -> TileChoice:
        """The chosen tile; available once a plan has been made."""
        assert self._choice is not None
        return self._choice

    @property
    def is_measured(self) -> bool:
        """Whether the memory of the network was measured, not merely estimated."""
        return self.cost is not self._guess

    def buffers_for(self, budget: int) -> Buffers:
        """Return the memory held by the pipeline if a run may use `budget` bytes."""
        held = self.fixed_bytes
        for array in (self.source, self.target, self.deviation):
            if isinstance(array, PlannedArray):  # its buffers grow with the budget
                held += (
                    array.held_bytes
                    * budget_share(budget)
                    // max(1, budget_share(self.budget))
                )
            elif array is self.source and read_unit(array) is not None:
                # If `self.unit` is set, the choice of a tile takes the memory of this
                # cache into account.
                held += 0 if self.unit else int(getattr(array, "held_bytes", 0))
            elif array is not None:
                held += held_bytes(array, budget)
        deviation = (
            0 if self.deviation is None else np.dtype(self.deviation.dtype).itemsize
        )
        return Buffers(
            source=np.dtype(self.source.dtype).itemsize,
            target=np.dtype(self.target.dtype).itemsize,
            network=np.dtype(compute.network_dtype(self.network)).itemsize,
            chunks=self._chunks(),
            held=held,
            deviation=deviation,
            unit=self.unit,
        )

    @property
    def _held_buffers(self) -> Buffers:
        """Buffers of a run with the chosen way to read the source."""
        held = self.buffers.held + self.choice.reads.held_bytes
        return replace(self.buffers, held=held, unit=None)

    def _required_budget(self) -> float:
        """Return the smallest budget, in bytes, with room for a tile and buffers."""
        return self._budget_for(
            MAX_COST_FACTOR if self.region is None else math.inf, None
        )

    def budget_for_work(self, max_work: float) -> float:
        """Return the smallest budget, in bytes, for which the work stays below a limit.

        Parameters
        ----------
        max_work : float
            Maximum work for computing and decoding, relative to computing every voxel
            once.
        """
        return self._budget_for(max_work, lambda choice: choice.work(self._speed))

    def _budget_for(
        self, max_work: float, work: Callable[[TileChoice], float] | None
    ) -> float:
        """Like `budget_for`, with the buffers that the run has at that budget."""
        box, required, budget = clip_box(self.layout, self.region), 0, 0
        for _ in range(_MAX_ITERATIONS):
            budget = required
            buffers = self.buffers_for(budget)
            required = budget_for(self.layout, box, self.cost, buffers, max_work, work)
            if required <= budget:
                break
        return required

    def _chunks(self) -> tuple[int, int, int] | None:
        """Return the chunk of a target stored in chunks (zarr, HDF5), along Z, Y, X."""
        chunks = getattr(self.target, "chunks", None)
        if not chunks or len(chunks) != self.layout.ndim:
            return None
        z, y, x = (1,) * (3 - len(chunks)) + tuple(int(n) for n in chunks)
        return z, y, x

    def plan(
        self,
        priority_region: Sequence[slice] | None = None,
        tile: Sequence[int] | None = None,
        preferred_tile: Sequence[int] | None = None,
    ) -> TilePlan:
        """Plan tiles with the least work, or of size `tile` or `preferred_tile`."""
        if tile is not None:
            fixed = plan(
                self.source.shape,
                self.spec,
                tile,
                box=self.region,
                priority_region=priority_region,
            )
            # Leave `self.cost` as it is, so that growth is not measured and the tiles
            # of this run are not divided.
            known = self.unit is not None
            cost = measure_cost(self.network, self.device) if known else self.cost
            self._choice = self._weighed(fixed, cost)
            return fixed
        self._known_max_voxels = max_voxels = self._read_max_voxels()
        self.cost = measure_cost(self.network, self.device)
        fitting = self._fitting(preferred_tile, max_voxels)
        self._choice = fitting or self._choose(self.budget, max_voxels)
        return self._tiles(priority_region)

    def choose_for_workers(
        self, n_workers: int, preferred_tile: Sequence[int] | None = None
    ) -> TileChoice:
        """Choose a tile for several processes, each with the whole budget."""
        self._known_max_voxels = max_voxels = self._read_max_voxels()
        self.cost = measure_cost(self.network, self.device)
        self._choice = self._fitting(preferred_tile, max_voxels) or (
            choose_tile_for_workers(
                self.source.shape,
                self.spec,
                self.cost,
                self.budget,
                n_workers,
                buffers=self.buffers,
                max_voxels=max_voxels,
                enough=self._required_budget,
            )
        )
        return self._choice

    def _fitting(
        self, tile: Sequence[int] | None, max_voxels: int | None
    ) -> TileChoice | None:
        if tile is None:
            return None
        fixed = plan(self.source.shape, self.spec, tile, box=self.region)
        choice = self._weighed(fixed, self.cost)
        if choice.peak_bytes > self.budget:
            return None
        return (
            choice if max_voxels is None or choice.window_voxels <= max_voxels else None
        )

    def _weighed(self, tiles: TilePlan, cost: CostModel) -> TileChoice:
        return weigh_tile(
            self.layout, tiles.box, tiles.tile, cost, self.buffers, self.budget
        )

    def plan_region(self) -> TilePlan:
        """Like `plan`, but measure the network's memory only if necessary."""
        speed = compute.known_speed(self.network, self.device, self.threads) or 0.0
        box = clip_box(self.layout, self.region)
        single = tuple(
            1
            if axis == 0 and self.layout.per_plane
            else part.stop - part.start // s * s
            for axis, (part, s) in enumerate(zip(box, self.layout.stride, strict=True))
        )
        one = plan(self.source.shape, self.spec, single, box=self.region)
        choice = self._weighed(one, self.cost)
        known_max = self._read_max_voxels()
        if choice.peak_bytes > self.budget and not known_max:
            self.cost = measure_cost(self.network, self.device)
            choice = self._weighed(one, self.cost)
            if choice.peak_bytes > self.budget:
                choice = self._without_halo(one, choice)
        if (
            choice.peak_bytes > self.budget
            or choice.window_voxels * speed > SECONDS_PER_TILE
            or known_max
        ):
            return self.plan()
        self._choice = choice
        return one

    def _without_halo(self, one: TilePlan, choice: TileChoice) -> TileChoice:
        """Correct the choice for networks that compute no output for halos."""
        tile = max(one.tiles, key=lambda each: math.prod(each.window_shape))
        core, window = tile.core_shape, tile.window_shape
        buffers = replace(self.buffers, unit=None)
        peak = region_peak(
            self.network, self.device, self.layout, buffers, core, window
        )
        needed = peak + choice.reads.held_bytes
        if needed >= choice.peak_bytes:
            return choice
        return replace(choice, peak_bytes=int(needed))

    def _read_max_voxels(self) -> int | None:
        """Return a window size that worked after memory ran out, if still valid."""
        key = memory_key(self.network, self.device)
        return self.tile_memory.max_voxels(key, free_memory(self.device))

    def cost_warnings(self) -> Iterator[Step]:
        """Explain why a run takes much longer than it would with more memory."""
        if self.region is not None:
            return
        factor = self.choice.work(self._speed)
        if factor <= _COSTLY_FACTOR:
            return
        enough = self.budget_for_work(_COSTLY_FACTOR)
        if self.unit is not None and factor > 2 * self.choice.cost_factor:
            yield self._read_warning(self.unit, factor, enough)
            return
        if enough > self.budget:
            yield WarningIssued(
                message=f"With {format_bytes(self.budget)} of memory the tiles are so "
                f"small that the run takes about {factor:.0f} times as long as one "
                f"with enough memory. {format_enough(enough)} would suffice: increase "
                "the Memory setting (--memory)."
            )
        elif self._known_max_voxels is not None:
            yield WarningIssued(
                message="Memory ran out in an earlier run, so the tiles are small and "
                f"the run takes about {factor:.0f} times as long as "
                "necessary. Close other programs; larger tiles are tried when "
                "more memory is free."
            )

    def _read_warning(
        self, unit: ReadUnit, factor: float, enough: float
    ) -> WarningIssued:
        """Explain that blocks of the file are decoded repeatedly."""
        shape = " × ".join(map(str, unit.shape))
        advice = ""
        if enough > self.budget:
            advice = f"{format_enough(enough)} would suffice: increase the Memory "
            advice += "setting (--memory), or save"
        return WarningIssued(
            message=f"The input is stored in blocks of {shape} voxels "
            f"({format_bytes(unit.nbytes)}), which can only be decoded as a whole. "
            f"With {format_bytes(self.budget)} of memory, each block is decoded about "
            f"{self.choice.reads.factor:.0f} times, and the run takes about "
            f"{factor:.0f} times as long as one with enough memory. {advice or 'Save'} "
            "the input in blocks of about 64 × 64 × 64 voxels."
        )

    def _choose(self, budget: int, max_voxels: int | None = None) -> TileChoice:
        # A region is small: restoring it should take less time than measuring the
        # speed.
        speed = compute.known_speed(self.network, self.device, self.threads)
        if speed is None and self.region is None:
            speed = compute.seconds_per_voxel(
                self.network, self.device, self.threads, self.cost.max_voxels(budget)
            )
        self._speed = speed
        return choose_tile(
            self.source.shape,
            self.spec,
            self.cost,
            budget,
            buffers=self.buffers,
            seconds_per_voxel=speed,
            chunks=self.buffers.chunks,
            max_voxels=max_voxels,
            box=self.region,
            enough=self._required_budget,
        )

    def _tiles(self, priority_region: Sequence[slice] | None) -> TilePlan:
        return plan(
            self.source.shape,
            self.spec,
            self.choice.tile,
            box=self.region,
            priority_region=priority_region,
        )

    def growth_warnings(self, waiting: Sequence[Tile]) -> Iterator[Step]:
        """Report that tiles had to become so small that the run takes much longer."""
        factor = work_factor(waiting)
        if factor > max(_COSTLY_FACTOR, self.choice.cost_factor):
            yield WarningIssued(
                message="The first tile took more memory than expected, so the others "
                f"are smaller: the run takes about {factor:.0f} times as long "
                "as one with enough memory. Increase the Memory setting (--memory)."
            )

    def correct(self, tile: Tile, grew_by: int) -> bool:
        """Correct the cost model; return whether the other tiles must shrink."""
        n_forward = self._window_voxels(tile)
        if grew_by <= self.cost.peak(n_forward):
            return False
        self.cost = self.cost.corrected(n_forward, grew_by)
        learn_cost(self.network, self.device, self.cost)
        buffers = self._held_buffers
        peak = tile_peak(
            self.layout, self.cost, buffers, tile.core_shape, tile.window_shape
        )
        return peak > self.budget

    def cut(self, waiting: Sequence[Tile]) -> list[Tile]:
        """Halve tiles until each fits the budget; call after `correct`."""
        buffers = self._held_buffers
        return cut_to_budget(waiting, self.layout, self.cost, buffers, self.budget)

    def halved(self, waiting: Sequence[Tile]) -> list[Tile]:
        """Halve the remaining tiles after memory ran out.

        Raises
        ------
        DeviceMemoryError
            If the first of the remaining tiles cannot be halved.
        """
        smaller: list[Tile] = []
        for position, tile in enumerate(waiting):
            halves = split(tile, self.layout)
            if not halves and position == 0:
                self._raise_out_of_memory(tile)
            smaller += halves or (tile,)
        return smaller

    def _raise_out_of_memory(self, tile: Tile) -> NoReturn:
        needs = ""
        if self.is_measured:
            needed = tile_peak(
                self.layout,
                self.cost,
                self._held_buffers,
                tile.core_shape,
                tile.window_shape,
            )
            needs = f", which needs about {format_bytes(needed)}"
        raise DeviceMemoryError(
            f"{self.device} ran out of memory even for the smallest tile, a window of "
            f"{tile.window_shape} voxels{needs}. Close other programs, use another "
            "device, or choose another model."
        )

    def remember(self, tile: Tile, free: int | None) -> None:
        """Record that windows of this tile's size work and larger ones did not.

        Parameters
        ----------
        free : int or None
            Bytes that were free when memory ran out.
        """
        key = memory_key(self.network, self.device)
        self.tile_memory.remember(key, self._window_voxels(tile), free)

    def _window_voxels(self, tile: Tile) -> int:
        """Return how many voxels of a tile's window the network processes at once."""
        window = tile.window_shape
        return int(np.prod(window[1:] if self.layout.per_plane else window))
