"""One run: the tiles in order, through the pipeline, past an out-of-memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import numpy as np

from napari_geosr.core.boxes import BoxIndex
from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    DeviceMemoryError,
    EngineError,
    GeoSRError,
    ModelError,
    VolumeError,
)
from napari_geosr.core.steps import ShouldStop, Step, TileDone, Warned, never_stop
from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference import compute
from napari_geosr.inference.backends import FIXED_BYTES, Choice, FirstTile, TimedForward
from napari_geosr.inference.memory import (
    Buffers,
    CostModel,
    learn_cost,
    measure_cost,
    network_spec,
    tile_peak,
)
from napari_geosr.inference.pipeline import Pipeline
from napari_geosr.inference.store_caches import (
    PlannedArray,
    held_bytes,
    limited_caches,
    share,
)
from napari_geosr.inference.tile_choice import (
    SECONDS_PER_TILE,
    TileChoice,
    budget_for,
    choose_tile,
    cut_to_budget,
    weigh_tile,
    work_of,
)
from napari_geosr.inference.tile_memory import (
    GrowthMeter,
    TileMemory,
    free_memory,
    memory_key,
)
from napari_geosr.inference.tiling import (
    Tile,
    TilePlan,
    clip_box,
    lay_out,
    plan,
    split,
)
from napari_geosr.inference.windows import (
    NonFinite,
    Standardisation,
    ValueWriter,
    WindowReader,
)

if TYPE_CHECKING:
    from torch import nn

Array = AnyArray

#: A preview that fits at this many bytes per voxel runs without measuring the network:
#: of the input, or of the result, whichever is more.
_GENEROUS, _GENEROUS_FINE = 8192.0, 1280.0
#: Work ÷ voxels from which on a run says what it costs.
_DEAR_FACTOR = 3.0
#: Times that a budget is looked for: what is held is half of it at most.
_ROUNDS = 40
#: Growth ÷ prediction with the C library's usual reserves (1.2 to 2.3 were seen).
_USUAL_EXCESS = 2.5


@dataclass(frozen=True)
class RunSummary:
    """How a run went.

    Attributes
    ----------
    n_tiles : int
        Tiles finished.
    tile : tuple of int
        Core size of the tiles at the end, along Z, Y, X, in input voxels.
    cost_factor : float
        Voxels computed ÷ voxels of the volume, as planned.
    seconds : float
    n_clipped : int
        Voxels that an integer target could not hold.
    n_nonfinite : int
        NaN and infinite input voxels; NaN in a result of floating type.
    n_retries : int
        How often memory ran out and tiles were halved.
    peak_bytes : int
        Predicted peak.
    """

    n_tiles: int
    tile: tuple[int, ...]
    cost_factor: float
    seconds: float
    n_clipped: int = 0
    n_nonfinite: int = 0
    n_retries: int = 0
    peak_bytes: int = 0


class TiledRun:
    """One run over a volume, or over a region of it.

    See :func:`napari_geosr.inference.runner.restore_tiles` for the parameters. With
    `region`, target and deviation hold that region alone.
    """

    def __init__(
        self,
        network: nn.Module,
        source: ArrayLike,
        target: Any,
        *,
        statistics: Standardisation,
        budget: int,
        device: str = "cpu",
        nonfinite: NonFinite = "mean",
        threads: int | None = None,
        should_stop: ShouldStop = never_stop,
        tile_memory: TileMemory | None = None,
        region: Sequence[slice] | None = None,
        deviation: Any = None,
        backend: Choice | None = None,
    ) -> None:
        self.network, self.source, self.target = network, source, target
        self.deviation = deviation
        self.backend = backend or Choice()
        self.statistics, self.budget, self.device = statistics, budget, device
        self.threads, self.should_stop = threads, should_stop
        self.spec, self.region = network_spec(network), region
        self.layout = lay_out(source.shape, self.spec)
        compute.check_ready(network)
        self._check(nonfinite)
        network.to(device)
        self.tile_memory = tile_memory or TileMemory()
        self.dtype = compute.network_dtype(network)
        self.buffers = self._buffers(budget)
        self.reader = WindowReader(
            source, self.layout, statistics, nonfinite, self.dtype
        )
        fine = _GENEROUS_FINE * math.prod(self.layout.scale)
        self.guess = CostModel(base=0.0, slope=max(_GENEROUS, fine))
        self.cost = self.guess
        self.choice: TileChoice | None = None
        self.n_done = self.n_nonfinite = self.n_retries = self.n_voxels = 0
        self.n_kept = 0
        #: Bytes free when memory ran out, and the window that an earlier run left.
        self.free_then: int | None = None
        self.known_most: int | None = None
        self.started = time.perf_counter()

    def _buffers(self, budget: int) -> Buffers:
        """What the pipeline keeps when a run may take `budget` bytes."""
        held = self.backend.fixed_bytes
        for array in (self.source, self.target, self.deviation):
            if isinstance(array, PlannedArray):  # takes its part of any budget
                held += array.held_bytes * share(budget) // max(1, share(self.budget))
            elif array is not None:
                held += held_bytes(array, budget)
        deviation = (
            0 if self.deviation is None else np.dtype(self.deviation.dtype).itemsize
        )
        return Buffers(
            source=np.dtype(self.source.dtype).itemsize,
            target=np.dtype(self.target.dtype).itemsize,
            network=np.dtype(self.dtype).itemsize,
            chunks=self._chunks(),
            held=held,
            deviation=deviation,
        )

    def _enough(self) -> float:
        """Bytes of the smallest budget that has room for a tile and what is held."""
        box, found, budget = clip_box(self.layout, self.region), 0, 0
        for _ in range(_ROUNDS):
            budget = found
            buffers = self._buffers(budget)
            found = budget_for(self.layout, box, self.cost, buffers, math.inf)
            if found <= budget:
                break
        return found

    def _chunks(self) -> tuple[int, int, int] | None:
        """Chunk of a target that is stored in chunks (zarr, HDF5), along Z, Y, X."""
        chunks = getattr(self.target, "chunks", None)
        if not chunks or len(chunks) != self.layout.ndim:
            return None
        z, y, x = (1,) * (3 - len(chunks)) + tuple(int(n) for n in chunks)
        return z, y, x

    def _check(self, nonfinite: str) -> None:
        if nonfinite not in get_args(NonFinite):
            raise ConfigError(f"{nonfinite!r} is none of {get_args(NonFinite)}.")
        if np.dtype(self.source.dtype).kind not in "buif":
            raise VolumeError(f"Voxels of type {self.source.dtype} cannot be restored.")
        if np.dtype(self.target.dtype).kind not in "uif":
            raise VolumeError(f"Results cannot be stored as {self.target.dtype}.")
        mean, std = self.statistics.input_mean, self.statistics.input_std
        if not (np.isfinite(mean) and np.isfinite(std) and std > 0):
            raise VolumeError(
                f"The grey values have mean {mean:g} and standard deviation "
                f"{std:g}: there is nothing to restore."
            )
        expected, found = self.layout.output_shape, tuple(self.target.shape)
        if self.region is None and found != expected:
            raise VolumeError(f"The result needs shape {expected}, not {found}.")
        self._check_deviation(found)

    def _check_deviation(self, shape: tuple[int, ...]) -> None:
        name, n_outputs = type(self.network).__name__, self.spec.n_outputs
        if (self.deviation is not None) != (n_outputs == 2):
            raise ModelError(
                f"The network {name} gives {n_outputs} volumes: a place for standard "
                "deviations goes with a network of several members, and only with one."
            )
        if self.deviation is None:
            return
        if np.dtype(self.deviation.dtype).kind != "f":
            raise VolumeError(
                f"Standard deviations cannot be stored as {self.deviation.dtype}."
            )
        if tuple(self.deviation.shape) != shape:
            raise VolumeError(
                f"The standard deviations need the result's shape {shape}, not "
                f"{tuple(self.deviation.shape)}."
            )

    def plan(
        self,
        priority_region: Sequence[slice] | None = None,
        tile: Sequence[int] | None = None,
        preferred_tile: Sequence[int] | None = None,
    ) -> TilePlan:
        """Tiles of the least work, or of `tile`, or of `preferred_tile` if it fits."""
        if tile is not None:
            fixed = plan(
                self.source.shape,
                self.spec,
                tile,
                box=self.region,
                priority_region=priority_region,
            )
            self.choice = weigh_tile(
                self.layout, fixed.box, fixed.tile, self.cost, self.buffers
            )
            return fixed
        self.known_most = most = self._known_most()
        self.cost = measure_cost(self.network, self.device)
        fitting = self._fitting(preferred_tile, most)
        self.choice = fitting or self._choose(self.budget, most)
        return self._tiles(priority_region)

    def _fitting(
        self, tile: Sequence[int] | None, most: int | None
    ) -> TileChoice | None:
        if tile is None:
            return None
        fixed = plan(self.source.shape, self.spec, tile, box=self.region)
        choice = weigh_tile(self.layout, fixed.box, fixed.tile, self.cost, self.buffers)
        if choice.peak_bytes > self.budget:
            return None
        return choice if most is None or choice.window_voxels <= most else None

    def plan_region(self) -> TilePlan:
        """As :meth:`plan`, but without measuring where memory is plentiful."""
        speed = compute.known_speed(self.network, self.device, self.threads) or 0.0
        box = clip_box(self.layout, self.region)
        single = tuple(
            1
            if axis == 0 and self.layout.per_plane
            else part.stop - part.start // s * s
            for axis, (part, s) in enumerate(zip(box, self.layout.stride, strict=True))
        )
        one = plan(self.source.shape, self.spec, single, box=self.region)
        choice = weigh_tile(self.layout, box, one.tile, self.cost, self.buffers)
        if (
            choice.peak_bytes > self.budget
            or choice.window_voxels * speed > SECONDS_PER_TILE
            or self._known_most()
        ):
            return self.plan()
        self.choice = choice
        return one

    def _known_most(self) -> int | None:
        """Voxels of a window that worked when memory ran out, if that still holds."""
        key = memory_key(self.network, self.device)
        return self.tile_memory.most_voxels(key, free_memory(self.device))

    def _remarks(self) -> Iterator[Step]:
        """Tell why a run takes much longer than it would with more memory."""
        assert self.choice is not None
        factor = self.choice.cost_factor
        if factor <= _DEAR_FACTOR or self.region is not None:
            return
        box = clip_box(self.layout, self.region)
        enough = budget_for(self.layout, box, self.cost, self.buffers, _DEAR_FACTOR)
        if enough > self.budget:
            yield Warned(
                message=f"With {format_bytes(self.budget)} of memory the tiles are so "
                f"small that the run takes about {factor:.0f} times as long as one "
                f"with enough. {format_bytes(enough)} would do: raise the setting "
                "Memory (--memory)."
            )
        elif self.known_most is not None:
            yield Warned(
                message="Memory ran out in an earlier run, so the tiles are small and "
                f"the run takes about {factor:.0f} times as long as it could. Close "
                "other programs; larger tiles are tried when more memory is free."
            )

    def _choose(self, budget: int, most: int | None = None) -> TileChoice:
        # A region is small: it should be there before its speed could be measured.
        speed = compute.known_speed(self.network, self.device, self.threads)
        if speed is None and self.region is None:
            speed = compute.seconds_per_voxel(
                self.network, self.device, self.threads, self.cost.most_voxels(budget)
            )
        return choose_tile(
            self.source.shape,
            self.spec,
            self.cost,
            budget,
            buffers=self.buffers,
            seconds_per_voxel=speed,
            chunks=self.buffers.chunks,
            most_voxels=most,
            box=self.region,
            enough=self._enough,
        )

    def _tiles(self, priority_region: Sequence[slice] | None) -> TilePlan:
        assert self.choice is not None
        return plan(
            self.source.shape,
            self.spec,
            self.choice.tile,
            box=self.region,
            priority_region=priority_region,
        )

    def steps(
        self, tiles: TilePlan, finished: Sequence[Sequence[slice]] = ()
    ) -> Generator[Step, None, RunSummary]:
        """Run the tiles.

        Tiles whose place in the target lies within one of the `finished` boxes are left
        as they are.
        """
        if self.layout.ndim == 2 and self.layout.context:
            yield Warned(
                message=f"This model looks at {self.spec.adjacent_slices} neighbouring "
                "planes, but the input is one image, which then stands for all of "
                "them. A 2D model fits better."
            )
        yield from self._remarks()
        origin = tuple(part.start for part in tiles.box)
        self.writer = ValueWriter(
            self.target,
            self.layout,
            self.statistics,
            (origin[0], origin[1], origin[2]),
            deviation=self.deviation,
            source=self.source,
        )
        kept, waiting = self._sorted(tiles, BoxIndex(map(tuple, finished)))
        self.n_done = self.n_kept = len(kept)
        self.n_voxels = sum(math.prod(tile.core_shape) for tile in kept)
        pipe: Pipeline[Tile, tuple[Array, Array | None], Array, Array] = Pipeline(
            self.reader.read, self._write
        )
        with self._stores(), self._allocator():
            try:
                with pipe:
                    while waiting:
                        yield from self._until_full(pipe, waiting)
                    pipe.flush()
                    yield from self._finished(pipe, 0)
            except Cancelled:
                late = [self.writer.place(tile) for tile, _ in pipe.written()]
                self.n_done += len(late)
                total = self.n_done + len(waiting)
                raise Cancelled(
                    f"Stopped after {self.n_done} of {total} tiles; the finished part "
                    "is kept.",
                    summary=self._summary(),
                    places=late,
                ) from None
            except GeoSRError:
                # Tiles that were written meanwhile are finished, too.
                yield from self._finished(pipe, len(waiting))
                raise
            finally:
                self.backend.release()
        self._check_all_done(tiles)
        dtype = np.dtype(self.target.dtype)
        if self.n_nonfinite and dtype.kind != "f":
            yield Warned(
                message=f"{self.n_nonfinite} voxels of the input are NaN or infinite. "
                f"{dtype} has no such value: the result holds invented grey values "
                "there. Choose float32 output to keep them apart."
            )
        return self._summary()

    def _sorted(
        self, tiles: TilePlan, finished: BoxIndex
    ) -> tuple[list[Tile], list[Tile]]:
        """Tiles that are finished, and those that are not."""
        kept: list[Tile] = []
        waiting: list[Tile] = []
        for tile in tiles.tiles:
            there = bool(finished) and finished.covers(self.writer.place(tile))
            (kept if there else waiting).append(tile)
        return kept, waiting

    def _write(self, tile: Tile, values: Array) -> Array:
        """In the writer's thread; smaller tiles would not help where it fails."""
        try:
            return self.writer.write(tile, values)
        except MemoryError as error:
            raise DeviceMemoryError(
                "Memory ran out while restored voxels were written. Close other "
                "programs, or set less memory for the run (--memory)."
            ) from error

    def _check_all_done(self, tiles: TilePlan) -> None:
        """No hole may pass for a result, whatever went wrong above."""
        planned = math.prod(part.stop - part.start for part in tiles.box)
        if self.n_voxels != planned:
            raise EngineError(
                f"Only {self.n_voxels} of {planned} voxels were restored. This is a "
                "fault of napari-geosr: please report it."
            )

    def _stores(self) -> AbstractContextManager[Any]:
        """Caches and buffers within the budget; a preview leaves them to the run."""
        if self.region is not None:
            return nullcontext()
        stack = ExitStack()
        for target in (
            self.target,
            *([] if self.deviation is None else [self.deviation]),
        ):
            stack.enter_context(limited_caches(self.source, target, self.budget))
        return stack

    def _allocator(self) -> AbstractContextManager[None]:
        """A frugal one where the usual one could break the budget.

        Frugal means new pages for every large block, a third more time on small
        windows; the usual one keeps up to about as much again as is in use.
        """
        assert self.choice is not None
        if _USUAL_EXCESS * self.choice.peak_bytes <= self.budget:
            return nullcontext()
        return compute.frugal_allocator(self.device)

    def _until_full(
        self,
        pipe: Pipeline[Tile, tuple[Array, Array | None], Array, Array],
        waiting: list[Tile],
    ) -> Iterator[Step]:
        """Run `waiting` (emptied on the way) until done or until memory ran out."""
        failed_before = self.n_retries > 0
        try:
            pipe.start_reading(waiting)
            while waiting:
                tile, (block, missing) = pipe.take(self._stop_if_asked)
                self._stop_if_asked()
                if self.backend.name:
                    values, grew_by = self._restore(tile, block)
                else:
                    values, grew_by = yield from self._settle(tile, block, waiting)
                del block
                waiting.pop(0)
                if missing is not None:
                    self.n_nonfinite += int(np.count_nonzero(missing))
                    self.writer.blank(values, missing)
                pipe.put(tile, values)
                del values
                if failed_before:
                    self._remember(tile)
                    failed_before = False
                yield from self._finished(pipe, len(waiting))
                if grew_by is not None and self._correct(tile, grew_by):
                    waiting[:] = cut_to_budget(
                        waiting, self.layout, self.cost, self.buffers, self.budget
                    )
                    yield from self._dearer(waiting)
                    return
        except (compute.OutOfMemoryError, MemoryError):
            pipe.stop_reading()
        else:
            return
        # Outside the handler, where the traceback no longer holds the failed tensors.
        compute.release_memory(self.device)
        self.n_retries += 1
        self.free_then = free_memory(self.device)
        waiting[:] = self._halved(waiting)

    def _dearer(self, waiting: Sequence[Tile]) -> Iterator[Step]:
        """Tell that tiles became so small that the run takes much longer."""
        factor = work_of(waiting)
        if factor > max(_DEAR_FACTOR, self.choice.cost_factor if self.choice else 0.0):
            yield Warned(
                message="The first tile took more memory than was expected, so the "
                f"others are smaller: the run takes about {factor:.0f} times as long "
                "as one with enough. Raise the setting Memory (--memory)."
            )

    def _settle(
        self, tile: Tile, block: Array, waiting: Sequence[Tile]
    ) -> Generator[Step, None, tuple[Array, int | None]]:
        """As :meth:`_restore` for the tile by which the backend is chosen."""
        assert self.choice is not None
        clock = TimedForward(self.network)
        ours, grew_by = self._restore(tile, block, clock)
        # Or what torch left free would hide what the other backend takes.
        compute.release_memory(self.device)
        meter = GrowthMeter(self.device)
        try:
            values, said = self.backend.settle(
                self.network,
                self.device,
                FirstTile(
                    ours,
                    clock,
                    lambda forward: self._window(tile, block, forward),
                    n_left=len(waiting) - 1,
                    room=self.budget - self.choice.peak_bytes,
                ),
            )
        finally:
            other = meter.stop()
        if self.backend.forward is not None and None not in (grew_by, other):
            grew_by = max(grew_by or 0, (other or 0) - FIXED_BYTES)
        if said:
            yield Warned(message=said)
        return values, grew_by

    def _window(
        self, tile: Tile, block: Array, forward: Callable[[Any], Any] | None
    ) -> Array:
        return compute.restore_window(
            self.network,
            block,
            tile,
            self.layout,
            self.device,
            self.threads,
            self._stop_if_asked,
            forward,
        )

    def _restore(
        self, tile: Tile, block: Array, clock: TimedForward | None = None
    ) -> tuple[Array, int | None]:
        """The core's values; of the first tile also the growth that it caused."""
        first = self.n_done == self.n_kept and self.n_retries == 0
        measure = first and self.cost is not self.guess
        meter = GrowthMeter(self.device) if measure else None
        start = time.perf_counter()
        try:
            values = self._window(tile, block, clock or self.backend.forward)
        finally:
            grew_by = None if meter is None else meter.stop()
        if meter is not None:
            n = np.prod(tile.window_shape)
            speed = (time.perf_counter() - start) / float(n)
            compute.learn_speed(self.network, self.device, self.threads, speed)
        return values, grew_by

    def _correct(self, tile: Tile, grew_by: int) -> bool:
        """Learn from the first tile; True if the others must be smaller."""
        window = tile.window_shape
        n_forward = int(np.prod(window[1:] if self.layout.per_plane else window))
        if grew_by <= self.cost.peak(n_forward):
            return False
        self.cost = self.cost.corrected(n_forward, grew_by)
        learn_cost(self.network, self.device, self.cost)
        peak = tile_peak(self.layout, self.cost, self.buffers, tile.core_shape, window)
        return peak > self.budget

    def _halved(self, waiting: Sequence[Tile]) -> list[Tile]:
        found: list[Tile] = []
        for position, tile in enumerate(waiting):
            halves = split(tile, self.layout)
            if not halves and position == 0:
                self._refuse(tile)
            found += halves or (tile,)
        return found

    def _refuse(self, tile: Tile) -> NoReturn:
        needs = ""
        if self.cost is not self.guess:
            needed = tile_peak(
                self.layout,
                self.cost,
                self.buffers,
                tile.core_shape,
                tile.window_shape,
            )
            needs = f", which needs about {format_bytes(needed)}"
        raise DeviceMemoryError(
            f"Memory ran out on {self.device} even for the smallest tile, a window of "
            f"{tile.window_shape} voxels{needs}. Close other programs, use another "
            "device, or choose another model."
        )

    def _remember(self, tile: Tile) -> None:
        window = tile.window_shape
        n_voxels = int(np.prod(window[1:] if self.layout.per_plane else window))
        key = memory_key(self.network, self.device)
        self.tile_memory.remember(key, n_voxels, self.free_then)

    def _finished(
        self,
        pipe: Pipeline[Tile, tuple[Array, Array | None], Array, Array],
        n_waiting: int,
    ) -> Iterator[Step]:
        written = pipe.written()
        n_under_way = pipe.n_unwritten()
        total = self.n_done + len(written) + n_under_way + n_waiting
        for tile, array in written:
            self.n_done += 1
            self.n_voxels += math.prod(tile.core_shape)
            yield TileDone(
                self.n_done,
                total,
                slices=self.writer.place(tile),
                array=array,
                facts=self._facts(),
            )

    def _facts(self) -> AnyMapping:
        """What the rest of this run has to be computed with."""
        assert self.choice is not None
        return {
            "run": {"tile": list(self.choice.tile)},
            "backend": {"name": self.backend.facts()["name"]},
        }

    def _stop_if_asked(self) -> None:
        if self.should_stop():
            raise Cancelled("Stopped.")

    def _summary(self) -> RunSummary:
        assert self.choice is not None
        return RunSummary(
            n_tiles=self.n_done,
            tile=self.choice.tile,
            cost_factor=self.choice.cost_factor,
            seconds=time.perf_counter() - self.started,
            n_clipped=self.writer.clipped,
            n_nonfinite=self.n_nonfinite,
            n_retries=self.n_retries,
            peak_bytes=self.choice.peak_bytes,
        )
