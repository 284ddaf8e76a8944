"""Blocks of detector rows, one after the other: prepared, reconstructed, told of."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.steps import IterationDone, ShouldStop, Step, TileDone, Warned
from napari_geosr.inference.compute import exact_settings
from napari_geosr.inference.memory import is_out_of_memory
from napari_geosr.operations.reconstruct.rows import PreparedRows, in_bands
from napari_geosr.operations.reconstruct.scan import ReadyScan
from napari_geosr.tomography.engines import reconstruct_slices
from napari_geosr.tomography.iterations import Iteration, OnIteration
from napari_geosr.tomography.preprocess import ClippingReport, LineIntegrals

Slices = npt.NDArray[np.float32]
Rows = tuple[int, int]

#: Rows of the first block, which tells how long others will take.
_FIRST_ROWS = 4
#: Seconds between two moments at which a run can be stopped, about.
_PATIENCE = 1.0
#: Seconds of a block, about: what a kill or a stop costs, of all its iterations.
_BLOCK_SECONDS = 10.0
#: A block has at most so many times the rows of the one before it.
_GROWTH = 4


@dataclass
class BlockRun:
    """How the blocks went.

    Attributes
    ----------
    rows : list of (int, int)
        First row of each finished block, and the row after its last.
    report : ClippingReport
        What was clipped or repaired, in all of them.
    block : int
        Rows of the largest block.
    retries : int
        How often memory ran out and the block was halved.
    residual : float or None
        Largest share of the projections of a block that is not explained.
    """

    rows: list[Rows] = field(default_factory=list)
    report: ClippingReport = field(default_factory=ClippingReport)
    block: int = 0
    retries: int = 0
    residual: float | None = None


def block_steps(
    ready: ReadyScan,
    finished: list[Rows],
    run: BlockRun,
    write: Callable[[Rows, Slices], None],
    should_stop: ShouldStop,
) -> Generator[Step, None, None]:
    """Reconstruct all rows but those that are `finished`; fills `run` on the way.

    Yields
    ------
    Step
        `IterationDone` and `TileDone`, counted in rows times iterations; `Warned` for
        what had to be supposed of the projections.

    Raises
    ------
    Cancelled
        If `should_stop` says so; blocks that `write` was given are finished.
    DeviceMemoryError
        If not even one row fits.
    """
    most = ready.most_rows()
    prepared = PreparedRows(
        LineIntegrals(
            in_bands(ready.scan, ready.band_rows(), should_stop),
            ready.config.preparation(),
            ready.incident,
        ),
        overlapping=ready.is_cone and not ready.whole,
    )
    progress = _RowProgress(ready, finished)
    n = most if ready.whole else min(_FIRST_ROWS, most)
    said: set[str] = set()
    for start, end in gaps(finished, ready.n_slices):
        while start < end:
            stop = min(start + n, end)
            watch = _Watch()
            try:
                slices = yield from _one_block(
                    ready, prepared, (start, stop), progress, watch, should_stop
                )
            except _OutOfMemoryError:
                n = most = _halved(ready, stop - start)
                run.retries += 1
                continue
            write((start, stop), slices)
            run.rows.append((start, stop))
            report = prepared.take_report()
            run.report += report
            run.block = max(run.block, stop - start)
            if watch.residual is not None:
                run.residual = max(watch.residual, run.residual or 0.0)
            for note in report.notes:
                if note not in said:
                    said.add(note)
                    yield Warned(message=note)
            done, total = progress.finish(stop - start)
            where = (slice(start, stop), slice(0, ready.size), slice(0, ready.size))
            yield TileDone(done, total, where, slices)
            start = stop
            if not ready.whole:
                n = _next_rows(n, most, watch)


def gaps(finished: list[Rows], n_rows: int) -> Iterator[Rows]:
    """Rows that are not finished yet, as ranges from low to high."""
    start = 0
    for low, high in sorted(finished):
        if low > start:
            yield start, low
        start = max(start, high)
    if start < n_rows:
        yield start, n_rows


def reconstruct_rows(
    ready: ReadyScan,
    rows: npt.NDArray[np.float32],
    should_stop: ShouldStop,
    on_iteration: OnIteration,
    slices: Rows | None = None,
) -> Slices:
    """Slices of line integrals (row, angle, column), in memory of the host.

    `slices` are needed for a cone beam alone; see :meth:`ReadyScan.sinogram`.
    """
    import torch

    with exact_settings(ready.config.threads):
        sinogram, geometry = ready.sinogram(rows, slices)
        made = reconstruct_slices(
            ready.config.engine,
            ready.config.algorithm,
            torch.from_numpy(np.ascontiguousarray(sinogram)).to(ready.device),
            geometry,
            ready.algorithm,
            should_stop=should_stop,
            on_iteration=on_iteration,
        )
        found: Slices = made.cpu().numpy()
    return found


class _OutOfMemoryError(Exception):
    """A block did not fit; never seen by people."""


class _RowProgress:
    """Rows times iterations done, of all."""

    def __init__(self, ready: ReadyScan, finished: list[Rows]) -> None:
        self.steps = ready.n_steps
        self.rows = sum(high - low for low, high in finished)
        self.total = ready.n_slices * self.steps

    def within(self, n_rows: int, iteration: Iteration) -> tuple[int, int]:
        """What is done when a block of `n_rows` is at `iteration`."""
        share = iteration.done / max(iteration.total, 1)
        return self.rows * self.steps + int(n_rows * self.steps * share), self.total

    def finish(self, n_rows: int) -> tuple[int, int]:
        """What is done now that a block of `n_rows` is."""
        self.rows += n_rows
        return self.rows * self.steps, self.total


class _Watch:
    """The time between two iterations, i.e. two chances to stop."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()
        self.seconds: list[float] = []
        self.residual: float | None = None

    def tick(self, iteration: Iteration) -> None:
        """Note an iteration; what comes before the first of several is no measure."""
        now = time.monotonic()
        if iteration.done > 1 or iteration.total == 1:
            self.seconds.append(now - self.last)
        self.last = now
        self.residual = iteration.residual

    @property
    def usual(self) -> float:
        """Median: other programs make single iterations long."""
        return float(np.median(self.seconds)) if self.seconds else _PATIENCE


def _next_rows(n: int, most: int, watch: _Watch) -> int:
    """Rows of the next block: heard once a second, and kept every ten, about."""
    heard = _PATIENCE / max(watch.usual, 1e-6)
    kept = _BLOCK_SECONDS / max(watch.last - watch.began, 1e-6)
    return max(1, min(int(n * min(heard, kept, _GROWTH)), most))


def _halved(ready: ReadyScan, n: int) -> int:
    """Half as many rows; raises `DeviceMemoryError` where that cannot be."""
    if ready.whole or n < 2:
        what = "The volume" if ready.whole else "A single slice"
        raise DeviceMemoryError(
            f"{what} of {ready.size} × {ready.size} voxels does not fit into the "
            f"memory of {ready.device}. Make the slices smaller (--size), use fewer "
            "projections (--every), or another device."
        )
    return n // 2


def _one_block(
    ready: ReadyScan,
    prepared: PreparedRows,
    slices: Rows,
    progress: _RowProgress,
    watch: _Watch,
    should_stop: ShouldStop,
) -> Generator[Step, None, Slices]:
    """Prepare and reconstruct; yields an `IterationDone` for each iteration."""

    def work(stop: ShouldStop, on_iteration: OnIteration) -> Slices:
        try:
            sinogram = prepared.rows(*ready.detector_rows(slices))
            if stop():
                raise Cancelled("Reconstruction stopped; slices begun are not kept.")
            watch.last = time.monotonic()
            return reconstruct_rows(ready, sinogram, stop, on_iteration, slices)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error)
        # Outside of `except`: the error would keep the tensors of its frames alive.
        _free(ready.device)
        raise _OutOfMemoryError(failure)

    steps = in_thread(work, should_stop)
    try:
        while True:
            try:
                iteration = next(steps)
            except StopIteration as end:
                made: Slices = end.value
                return made
            watch.tick(iteration)
            done, total = progress.within(slices[1] - slices[0], iteration)
            yield IterationDone(done, total, iteration.residual)
    finally:
        steps.close()


def _free(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def in_thread(
    work: Callable[[ShouldStop, OnIteration], Any], should_stop: ShouldStop
) -> Generator[Iteration, None, Any]:
    """Do `work` in a thread, yield its iterations as they happen, return its result.

    When the generator is closed the work is asked to stop, and waited for.
    """
    told: queue.SimpleQueue[Any] = queue.SimpleQueue()
    closed = threading.Event()

    def body() -> None:
        try:
            result = work(lambda: closed.is_set() or should_stop(), told.put)
        except BaseException as error:  # noqa: BLE001  # raised again by who waits
            told.put(error)
        else:
            told.put((result,))

    thread = threading.Thread(target=body, name="reconstruction", daemon=True)
    thread.start()
    try:
        while True:
            event = told.get()
            if isinstance(event, Iteration):
                yield event
            elif isinstance(event, BaseException):
                raise event
            else:
                return event[0]
    finally:
        closed.set()
        thread.join()
