"""Prepares and reconstructs blocks of detector rows one after another.

A block is a group of slices (`ReconstructionInput.group`), or the part of a group that
fits into memory.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.core.steps import (
    IterationDone,
    ShouldStop,
    Step,
    TileDone,
    WarningIssued,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.inference.compute import exact_settings
from napari_geosr.inference.memory import BlockTooLargeError
from napari_geosr.operations.reconstruct.rows import RowIntegrals, in_bands
from napari_geosr.operations.reconstruct.scan import ReconstructionInput
from napari_geosr.tomography.engines import reconstruct_slices
from napari_geosr.tomography.iterations import (
    Iteration,
    OnIteration,
    check_stop,
    norm_of,
)
from napari_geosr.tomography.preprocess import ClippingReport, LineIntegrals

Slices = npt.NDArray[np.float32]
Rows = tuple[int, int]

#: Number of significant digits of the recorded residual; further digits would depend on
#: the order of summation.
_DIGITS = 6


@dataclass
class BlockRun:
    """Progress and statistics of the blocks.

    Attributes
    ----------
    rows : list of (int, int)
        First row of each finished block, and the row after its last.
    report : ClippingReport
        Clipped and repaired values in all blocks.
    block : int
        Number of rows of the largest block.
    retries : int
        Number of times that memory ran out and the block was halved.
    unexplained, measured : float or None
        Sums of squares of the iterations' residual and of the projections; None for
        non-iterative algorithms.
    """

    rows: list[Rows] = field(default_factory=list)
    report: ClippingReport = field(default_factory=ClippingReport)
    block: int = 0
    retries: int = 0
    unexplained: float | None = None
    measured: float | None = None

    @classmethod
    def resumed(cls, before: AnyMapping) -> BlockRun:
        """Resume from the statistics recorded by an unfinished run (`to_record`)."""
        report = dict(before.get("preparation") or {})
        known = {f.name for f in fields(ClippingReport)} & report.keys()
        values = {name: report[name] for name in known}
        if "notes" in values:
            values["notes"] = tuple(values["notes"])
        sums = before.get("sums") or {}
        return cls(
            report=ClippingReport(**values),
            unexplained=sums.get("unexplained"),
            measured=sums.get("measured"),
        )

    def add(self, rows: Rows, block: _ReconstructedBlock) -> None:
        """Add a finished block."""
        self.rows.append(rows)
        self.report += block.report
        self.block = max(self.block, rows[1] - rows[0])
        if block.residual is not None:
            found = block.residual**2 * block.measured
            self.unexplained = (self.unexplained or 0.0) + found
            self.measured = (self.measured or 0.0) + block.measured

    def merge(self, other: BlockRun) -> None:
        """Add the blocks of another run, which reconstructed other slices."""
        self.rows += other.rows
        self.report += other.report
        self.block = max(self.block, other.block)
        self.retries += other.retries
        if other.unexplained is not None:
            self.unexplained = (self.unexplained or 0.0) + other.unexplained
            self.measured = (self.measured or 0.0) + (other.measured or 0.0)

    @property
    def residual(self) -> float | None:
        """Norm of the residual relative to the projections; None without iterations."""
        if self.unexplained is None or self.measured is None:
            return None
        share = self.unexplained / self.measured if self.measured else 0.0
        return float(f"{share**0.5:.{_DIGITS}g}")

    def to_record(self, complete: bool) -> AnyDict:
        """Return the values that do not depend on memory, time or interruptions."""
        found: AnyDict = {
            "residual": self.residual,
            "preparation": asdict(self.report),
        }
        if not complete:
            sums = {"unexplained": self.unexplained, "measured": self.measured}
            found["sums"] = sums
        return found


def block_steps(
    ready: ReconstructionInput,
    finished: list[Rows],
    run: BlockRun,
    write: Callable[[Rows, Slices], None],
    should_stop: ShouldStop,
) -> Generator[Step, None, None]:
    """Reconstruct all rows that are not `finished`, and update `run`.

    Parameters
    ----------
    ready : ReconstructionInput
    finished : list of (int, int)
        Rows already reconstructed: first row and the one after the last.
    run : BlockRun
        Receives the statistics of the run.
    write : callable
        Called with rows and their slices, (row, N, N).
    should_stop : callable

    Yields
    ------
    Step
        `IterationDone` and `TileDone`, counted in rows times iterations;
        `WarningIssued` for assumptions made about the projections.

    Raises
    ------
    Cancelled
        If `should_stop` returns True; blocks already passed to `write` are complete.
    DeviceMemoryError
        If not even one row fits into memory.
    """
    most = ready.max_rows()
    missing = list(gaps(finished, ready.n_slices))
    first, end = (missing[0][0], missing[-1][1]) if missing else (0, 1)
    # Read no rows beyond the first and last missing slices: the slices outside are
    # finished, or other workers reconstruct them.
    needed = ready.detector_rows((first, end))
    band = min(ready.band_rows(), needed[1] - needed[0])
    prepared = RowIntegrals(
        LineIntegrals(
            in_bands(ready.scan, band, should_stop),
            ready.config.preparation(),
            ready.incident,
        ),
        overlapping=ready.is_cone and not ready.whole,
    )
    progress = RowProgress(ready, finished)
    reported: set[str] = set()
    for start, end in missing:
        while start < end:
            stop = min(start + most, end, ready.group_of(start)[1])
            try:
                block = yield from _one_block(
                    ready, prepared, (start, stop), progress, should_stop
                )
            except BlockTooLargeError:
                most = _halved(ready, stop - start)
                prepared.forget()
                run.retries += 1
                continue
            write((start, stop), block.slices)
            run.add((start, stop), block)
            for note in block.report.notes:
                if note not in reported:
                    reported.add(note)
                    yield WarningIssued(message=note)
            done, total = progress.finish(stop - start)
            where = (slice(start, stop), slice(0, ready.size), slice(0, ready.size))
            yield TileDone(done, total, where, block.slices)
            start = stop


def gaps(finished: list[Rows], n_rows: int) -> Iterator[Rows]:
    """Yield the unfinished rows, as ranges in ascending order."""
    start = 0
    for low, high in sorted(finished):
        if low > start:
            yield start, low
        start = max(start, high)
    if start < n_rows:
        yield start, n_rows


def reconstruct_rows(
    ready: ReconstructionInput,
    rows: npt.NDArray[np.float32],
    should_stop: ShouldStop,
    on_iteration: OnIteration,
    slices: Rows | None = None,
) -> Slices:
    """Reconstruct slices from line integrals; both arrays are in host memory.

    `slices` is needed only for a cone beam; see `ReconstructionInput.sinogram`.

    Parameters
    ----------
    ready : ReconstructionInput
    rows : ndarray of shape (row, angle, column)
        Line integrals.
    should_stop : callable
    on_iteration : callable
        Called after every iteration.
    slices : (int, int), optional
        Slices to reconstruct; needed only for a cone beam.
    """
    return _reconstructed(ready, rows, should_stop, on_iteration, slices)[0]


def _reconstructed(
    ready: ReconstructionInput,
    rows: npt.NDArray[np.float32],
    should_stop: ShouldStop,
    on_iteration: OnIteration,
    slices: Rows | None = None,
    batch: int = 0,
) -> tuple[Slices, float]:
    """Return the slices, and the sum of squares of their line integrals."""
    import torch

    from napari_geosr.physics.projection.compiled import interruptible

    with (
        exact_settings(ready.config.threads),
        interruptible(lambda: check_stop(should_stop)),
    ):
        sinogram, geometry = ready.sinogram(rows, slices, batch)
        given = torch.from_numpy(np.ascontiguousarray(sinogram)).to(ready.device)
        made = reconstruct_slices(
            ready.config.engine,
            ready.config.algorithm,
            given,
            geometry,
            ready.algorithm,
            should_stop=should_stop,
            on_iteration=on_iteration,
        )
        measured = norm_of(given) ** 2 if ready.iterates else 0.0
        found: Slices = made.cpu().numpy()
    return found, measured


@dataclass(frozen=True)
class _ReconstructedBlock:
    """Slices of some rows, with their statistics.

    Attributes
    ----------
    slices : ndarray of shape (row, N, N)
    report : ClippingReport
    residual : float or None
        Norm of the residual relative to the line integrals; None without iterations.
    measured : float
        Sum of the squared line integrals.
    """

    slices: Slices
    report: ClippingReport
    residual: float | None
    measured: float


class RowProgress:
    """Progress of a run, counted in rows times iterations."""

    def __init__(self, ready: ReconstructionInput, finished: list[Rows]) -> None:
        self.steps = ready.n_steps
        self.rows = sum(high - low for low, high in finished)
        self.total = ready.n_slices * self.steps

    def within(self, n_rows: int, iteration: Iteration) -> tuple[int, int]:
        """Return the number of steps up to `iteration` of a block, and the total."""
        share = iteration.done / max(iteration.total, 1)
        return self.rows * self.steps + int(n_rows * self.steps * share), self.total

    def finish(self, n_rows: int) -> tuple[int, int]:
        """Return the number of steps done after a finished block, and the total."""
        self.rows += n_rows
        return self.rows * self.steps, self.total


def _halved(ready: ReconstructionInput, n: int) -> int:
    """Halve the number of rows; raise `DeviceMemoryError` if that is impossible."""
    if ready.whole or n < 2:
        what = "The volume" if ready.whole else "A single slice"
        raise DeviceMemoryError(
            f"{what} of {ready.size} × {ready.size} voxels does not fit into the "
            f"memory of {ready.device}. Make the slices smaller (--size), use fewer "
            "projections (--every), or use another device."
        )
    return n // 2


def _one_block(
    ready: ReconstructionInput,
    prepared: RowIntegrals,
    slices: Rows,
    progress: RowProgress,
    should_stop: ShouldStop,
) -> Generator[Step, None, _ReconstructedBlock]:
    """Prepare and reconstruct a block; yield an `IterationDone` for each iteration."""
    first, end = ready.group_of(slices[0])
    residual: float | None = None

    def work(stop: ShouldStop, on_iteration: OnIteration) -> tuple[Any, ...]:
        try:
            first_reported = ready.first_unreported_row(slices[0])
            sinogram, report = prepared.rows(
                *ready.detector_rows(slices), first_reported
            )
            if stop():
                raise Cancelled(
                    "Reconstruction stopped; unfinished slices are not kept."
                )
            made, measured = _reconstructed(
                ready, sinogram, stop, on_iteration, slices, end - first
            )
            return made, report, measured
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            failure = str(error)
        # Free memory outside `except`: inside it, the error keeps tensors alive.
        _free(ready.device)
        raise BlockTooLargeError(failure)

    steps = in_thread(work, should_stop)
    try:
        while True:
            try:
                iteration = next(steps)
            except StopIteration as end_of_block:
                made, report, measured = end_of_block.value
                return _ReconstructedBlock(made, report, residual, measured)
            residual = iteration.residual
            done, total = progress.within(slices[1] - slices[0], iteration)
            # Algorithms without iterations report their progress as iterations as well:
            # omit it.
            of = (iteration.done, iteration.total) if progress.steps > 1 else (0, 0)
            yield IterationDone(done, total, residual, *of)
    finally:
        steps.close()


def _free(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def in_thread(
    work: Callable[[ShouldStop, OnIteration], Any], should_stop: ShouldStop
) -> Generator[Iteration, None, Any]:
    """Run `work` in a thread; yield finished iterations, then return the result.

    Closing the generator stops the work and waits until the thread has ended.
    """
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    closed = threading.Event()

    def body() -> None:
        try:
            result = work(lambda: closed.is_set() or should_stop(), events.put)
        except BaseException as error:  # noqa: BLE001  # raised again below
            events.put(error)
        else:
            events.put((result,))

    thread = threading.Thread(target=body, name="reconstruction", daemon=True)
    thread.start()
    try:
        while True:
            event = events.get()
            if isinstance(event, Iteration):
                yield event
            elif isinstance(event, BaseException):
                raise event
            else:
                return event[0]
    finally:
        closed.set()
        thread.join()
