"""Process the tiles of a run in order; retry with smaller ones if memory runs out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from napari_geosr.core.array_parts.boxes import BoxIndex
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    DeviceMemoryError,
    EngineError,
    GeoSRError,
    ModelError,
    VolumeError,
)
from napari_geosr.core.steps import (
    ShouldStop,
    Step,
    TileDone,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyArray, AnyDType, AnyMapping
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference import compute
from napari_geosr.inference.backends import FIXED_BYTES, Choice, FirstTile, TimedForward
from napari_geosr.inference.memory import (
    BlockTooLargeError,
    network_spec,
)
from napari_geosr.inference.pipeline import Pipeline
from napari_geosr.inference.store_caches import (
    limited_caches,
)
from napari_geosr.inference.tiles.memory import (
    GrowthMeter,
    TileMemory,
    free_memory,
)
from napari_geosr.inference.tiles.planner import TilePlanner
from napari_geosr.inference.tiles.tiling import (
    Tile,
    TilePlan,
    lay_out,
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

#: Ratio of actual to predicted memory growth with the C library's usual reserves
#: (observed: 1.2 to 2.3).
_ALLOCATOR_EXCESS = 2.5


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run.

    Attributes
    ----------
    n_tiles : int
        Tiles finished, including those finished by an earlier run.
    tile : tuple of int
        Core size of the tiles at the end of the run, along Z, Y, X, in input voxels.
    cost_factor : float
        Voxels computed ÷ voxels of the volume, as planned.
    seconds : float
    n_clipped : int
        Voxels outside the range of an integer target.
    n_nonfinite : int
        NaN and infinite input voxels; they are NaN in a floating-point result.
    n_retries : int
        Number of times that memory ran out and tiles were halved.
    peak_bytes : int
        Predicted peak memory in bytes.
    read_factor : float
        Voxels decoded ÷ voxels of a source stored in blocks, as planned; 1 for others.
    """

    n_tiles: int
    tile: tuple[int, ...]
    cost_factor: float
    seconds: float
    n_clipped: int = 0
    n_nonfinite: int = 0
    n_retries: int = 0
    peak_bytes: int = 0
    read_factor: float = 1.0


def nonfinite_warnings(n: int, dtype: AnyDType) -> Iterator[Step]:
    """Warn about NaN and infinite input voxels if the result cannot represent them.

    Parameters
    ----------
    n : int
        Number of such voxels in the input.
    dtype : dtype
        Data type of the result.
    """
    if n and np.dtype(dtype).kind != "f":
        yield WarningIssued(
            message=f"{n} voxels of the input are NaN or infinite. {np.dtype(dtype)} "
            "cannot represent them: the result has meaningless grey values at these "
            "voxels. Choose float32 output to mark them as NaN."
        )


class TiledRun:
    """One run over a volume, or over a region of it.

    See `napari_geosr.inference.runner.restore_tiles` for the parameters. With `region`,
    target and deviation hold only that region. A preview leaves the cache of the source
    unchanged.
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
        is_preview: bool = False,
    ) -> None:
        self.network, self.source, self.target = network, source, target
        self.deviation = deviation
        self.backend = backend or Choice()
        self.statistics, self.budget, self.device = statistics, budget, device
        self.threads, self.should_stop, self.region = threads, should_stop, region
        self.spec = network_spec(network)
        self.layout = lay_out(source.shape, self.spec)
        compute.check_ready(network)
        self._check(nonfinite)
        network.to(device)
        self.dtype = compute.network_dtype(network)
        self.reader = WindowReader(
            source, self.layout, statistics, nonfinite, self.dtype
        )
        self.planner = TilePlanner(
            network,
            source,
            target,
            deviation,
            budget=budget,
            device=device,
            threads=threads,
            tile_memory=tile_memory or TileMemory(),
            region=region,
            fixed_bytes=self.backend.fixed_bytes,
            is_preview=is_preview,
        )
        self.n_done = self.n_nonfinite = self.n_retries = self.n_voxels = 0
        self.n_skipped = 0
        #: Free memory, in bytes, when memory ran out.
        self.free_at_failure: int | None = None
        self.started = time.perf_counter()

    def _check(self, nonfinite: str) -> None:
        if nonfinite not in get_args(NonFinite):
            raise ConfigError(
                f"{nonfinite!r} is not valid: choose one of {get_args(NonFinite)}."
            )
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
        expected, shape = self.layout.output_shape, tuple(self.target.shape)
        if self.region is None and shape != expected:
            raise VolumeError(f"The result needs shape {expected}, not {shape}.")
        self._check_deviation(shape)

    def _check_deviation(self, shape: tuple[int, ...]) -> None:
        name, n_outputs = type(self.network).__name__, self.spec.n_outputs
        if (self.deviation is not None) != (n_outputs == 2):
            raise ModelError(
                f"The network {name} returns {n_outputs} outputs: an output array "
                "for standard deviations is required for an ensemble of several "
                "members, and not allowed otherwise."
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

    def steps(
        self, tiles: TilePlan, finished: Sequence[Sequence[slice]] = ()
    ) -> Generator[Step, None, RunSummary]:
        """Run the tiles.

        Tiles that lie within one of the `finished` boxes of the target are not
        recomputed.
        """
        if self.layout.ndim == 2 and self.layout.context:
            yield WarningIssued(
                message=f"This model uses {self.spec.adjacent_slices} neighbouring "
                "planes, but the input is a single image, which is used for all of "
                "them. If it is part of a volume, restore the whole volume: that "
                "gives better results."
            )
        yield from self.planner.cost_warnings()
        origin = tuple(part.start for part in tiles.box)
        self.writer = ValueWriter(
            self.target,
            self.layout,
            self.statistics,
            (origin[0], origin[1], origin[2]),
            deviation=self.deviation,
            source=self.source,
        )
        skipped, waiting = self._split_finished(tiles, BoxIndex(map(tuple, finished)))
        self.n_done = self.n_skipped = len(skipped)
        self.n_voxels = sum(math.prod(tile.core_shape) for tile in skipped)
        pipe: Pipeline[Tile, tuple[Array, Array | None], Array, Array] = Pipeline(
            self.reader.read, self._write
        )
        with self._limited_stores(), self._allocator():
            try:
                with pipe:
                    while waiting:
                        yield from self._run_until_failure(pipe, waiting)
                    pipe.flush()
                    yield from self._report_written(pipe, 0)
            except Cancelled:
                last_places = [self.writer.place(tile) for tile, _ in pipe.written()]
                self.n_done += len(last_places)
                total = self.n_done + len(waiting)
                raise Cancelled(
                    f"Stopped after {self.n_done} of {total} tiles.",
                    summary=self._summary(),
                    places=last_places,
                ) from None
            except GeoSRError:
                # Report the tiles that were written in the meantime.
                yield from self._report_written(pipe, len(waiting))
                raise
            finally:
                self.backend.release()
        self._check_all_done(tiles)
        yield from nonfinite_warnings(self.n_nonfinite, self.target.dtype)
        return self._summary()

    def _split_finished(
        self, tiles: TilePlan, finished: BoxIndex
    ) -> tuple[list[Tile], list[Tile]]:
        """Separate finished tiles from unfinished ones."""
        skipped: list[Tile] = []
        waiting: list[Tile] = []
        for tile in tiles.tiles:
            is_finished = bool(finished) and finished.covers(self.writer.place(tile))
            (skipped if is_finished else waiting).append(tile)
        return skipped, waiting

    def _write(self, tile: Tile, values: Array) -> Array:
        """Write a tile (in the writer thread); if memory runs out, do not retry."""
        try:
            return self.writer.write(tile, values)
        except MemoryError as error:
            raise DeviceMemoryError(
                "Memory ran out while restored voxels were being written. Close other "
                "programs, or give the run a smaller memory budget (--memory)."
            ) from error

    def _check_all_done(self, tiles: TilePlan) -> None:
        """Raise an error if any tile is missing, for whatever reason."""
        planned = math.prod(part.stop - part.start for part in tiles.box)
        if self.n_voxels != planned:
            raise EngineError(
                f"Only {self.n_voxels} of {planned} voxels were restored. This is a "
                "bug in napari-geosr: please report it."
            )

    def _limited_stores(self) -> AbstractContextManager[Any]:
        """Limit caches and buffers to the budget; for a region, change nothing."""
        if self.region is not None:
            return nullcontext()
        stack = ExitStack()
        for target in (
            self.target,
            *([] if self.deviation is None else [self.deviation]),
        ):
            stack.enter_context(
                limited_caches(
                    self.source, target, self.budget, self.planner.choice.reads
                )
            )
        return stack

    def _allocator(self) -> AbstractContextManager[None]:
        """Return a frugal allocator if the default one could exceed the budget.

        The frugal one requests new pages for every large block, which takes a third
        more time on small windows; the default one can hold up to about twice the
        memory in use.
        """
        if _ALLOCATOR_EXCESS * self.planner.choice.peak_bytes <= self.budget:
            return nullcontext()
        return compute.frugal_allocator(self.device)

    def _run_until_failure(
        self,
        pipe: Pipeline[Tile, tuple[Array, Array | None], Array, Array],
        waiting: list[Tile],
    ) -> Iterator[Step]:
        """Run the `waiting` tiles until all are done or the rest must be halved."""
        failed_before = self.n_retries > 0
        try:
            pipe.start_reading(waiting)
            while waiting:
                tile, (block, missing) = pipe.take(self._raise_if_stopped)
                self._raise_if_stopped()
                if self.backend.name:
                    values, grew_by = self._restore(tile, block)
                else:
                    values, grew_by = yield from self._restore_and_choose_backend(
                        tile, block, waiting
                    )
                del block
                waiting.pop(0)
                if missing is not None:
                    self.n_nonfinite += int(np.count_nonzero(missing))
                    self.writer.blank(values, missing)
                pipe.put(tile, values)
                del values
                if failed_before:
                    self.planner.remember(tile, self.free_at_failure)
                    failed_before = False
                yield from self._report_written(pipe, len(waiting))
                if grew_by is not None and self.planner.correct(tile, grew_by):
                    waiting[:] = self.planner.cut(waiting)
                    yield from self.planner.growth_warnings(waiting)
                    return
        except (BlockTooLargeError, MemoryError):
            pipe.stop_reading()
        else:
            return
        # Release memory after the exception handler, in which the traceback would keep
        # the tensors of the failed tile alive.
        compute.release_memory(self.device)
        self.n_retries += 1
        self.free_at_failure = free_memory(self.device)
        waiting[:] = self.planner.halved(waiting)

    def _restore_and_choose_backend(
        self, tile: Tile, block: Array, waiting: Sequence[Tile]
    ) -> Generator[Step, None, tuple[Array, int | None]]:
        """Like `_restore`, for the tile that determines the backend."""
        clock = TimedForward(self.network)
        torch_values, grew_by = self._restore(tile, block, clock)
        # Memory that torch has freed but not released would hide the growth of the
        # other backend's memory.
        compute.release_memory(self.device)
        meter = GrowthMeter(self.device)
        try:
            values, message = self.backend.choose(
                self.network,
                self.device,
                FirstTile(
                    torch_values,
                    clock,
                    lambda forward: self._window(tile, block, forward),
                    n_remaining=len(waiting) - 1,
                    free_bytes=self.budget - self.planner.choice.peak_bytes,
                ),
            )
        finally:
            backend_growth = meter.stop()
        if self.backend.forward is not None and None not in (grew_by, backend_growth):
            grew_by = max(grew_by or 0, (backend_growth or 0) - FIXED_BYTES)
        if message:
            yield WarningIssued(message=message)
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
            self._raise_if_stopped,
            forward,
        )

    def _restore(
        self, tile: Tile, block: Array, clock: TimedForward | None = None
    ) -> tuple[Array, int | None]:
        """Return the core's values and, for the first tile, the increase in memory."""
        first = self.n_done == self.n_skipped and self.n_retries == 0
        measure = first and self.planner.is_measured
        meter = GrowthMeter(self.device) if measure else None
        # Other backends compute in their own threads.
        is_own_thread = clock is not None or self.backend.forward is None
        timer = compute.WorkTimer(self.device if is_own_thread else "")
        try:
            values = self._window(tile, block, clock or self.backend.forward)
        finally:
            grew_by = None if meter is None else meter.stop()
        if meter is not None:
            n = np.prod(tile.window_shape)
            speed = timer.seconds() / float(n)
            compute.learn_speed(self.network, self.device, self.threads, speed)
        return values, grew_by

    def _report_written(
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
        """Return the settings with which the remaining tiles must be computed."""
        return {
            "run": {"tile": list(self.planner.choice.tile)},
            "backend": {"name": self.backend.facts()["name"]},
        }

    def _raise_if_stopped(self) -> None:
        if self.should_stop():
            raise Cancelled("Stopped.")

    def _summary(self) -> RunSummary:
        return RunSummary(
            n_tiles=self.n_done,
            tile=self.planner.choice.tile,
            cost_factor=self.planner.choice.cost_factor,
            seconds=time.perf_counter() - self.started,
            n_clipped=self.writer.clipped,
            n_nonfinite=self.n_nonfinite,
            n_retries=self.n_retries,
            peak_bytes=self.planner.choice.peak_bytes,
            read_factor=self.planner.choice.reads.factor,
        )
