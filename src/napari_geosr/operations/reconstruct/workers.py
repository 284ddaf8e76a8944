"""Distributes slabs of slices among worker processes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.errors import DeviceMemoryError, FileError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    TileDone,
    WarningIssued,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.inference.compute import default_threads, frugal_if_tight
from napari_geosr.operations.cluster import (
    Workers,
    count_workers,
    open_pool,
    workers_per_host,
)
from napari_geosr.operations.cluster.copies import array_for_workers
from napari_geosr.operations.cluster.shared_folders import folder_for_copies
from napari_geosr.operations.reconstruct.blocks import (
    BlockRun,
    RowProgress,
    Rows,
    Slices,
    block_steps,
    gaps,
)
from napari_geosr.operations.reconstruct.scan import ReconstructionInput
from napari_geosr.operations.restore.shards.work import count_devices, device_of

#: Maximum size of a slab as a fraction of the budget of a worker.
_SLAB_SHARE = 0.1
#: Maximum number of slabs that a worker holds: one in progress, and one that is being
#: fetched.
_SLABS_HELD = 2
#: Fraction of the budget of a worker for its blocks.
_BLOCK_SHARE = 1 - _SLABS_HELD * _SLAB_SHARE
#: Intended number of slabs for each worker, so that all workers finish at about the
#: same time; there are fewer if slabs consist of whole groups.
_SLABS_PER_WORKER = 4
#: Arrays in memory of up to this many bytes are sent to the workers; larger ones are
#: copied to a folder that the workers can access.
_SENT_BYTES = 32 * 1024**2


@dataclass(frozen=True)
class SlabResult:
    """A finished slab.

    Attributes
    ----------
    slices : ndarray of shape (row, N, N)
    run : BlockRun
        Statistics of the slab's blocks.
    """

    slices: Slices
    run: BlockRun


class SliceWork:
    """Everything that a worker process needs to reconstruct any slab of a scan.

    Parameters
    ----------
    ready : ReconstructionInput
        Scan with arrays that can be pickled, and the memory and threads of one process.
    """

    def __init__(self, ready: ReconstructionInput) -> None:
        self.ready = ready

    def __call__(self, rows: Rows, should_stop: ShouldStop, worker: int) -> SlabResult:
        """Reconstruct the slices from ``rows[0]`` to ``rows[1] - 1``.

        The voxels are identical to those of a run without workers.
        """
        ready = replace(self.ready, device=device_of(self.ready.device, worker))
        start, stop = rows
        slices = np.empty((stop - start, ready.size, ready.size), np.float32)

        def write(part: Rows, found: Slices) -> None:
            slices[part[0] - start : part[1] - start] = found

        run = BlockRun()
        others = [(0, start), (stop, ready.n_slices)]
        steps = block_steps(ready, others, run, write, should_stop)
        with frugal_if_tight(ready.device, ready.budget), closing(steps):
            for _ in steps:
                pass
        self._check_source()
        return SlabResult(slices, run)

    def _check_source(self) -> None:
        """Raise `FileError` if the scan is missing.

        Without this check, a missing zarr would be read as zeros.
        """
        path = self.ready.scan.source
        if path is not None and "*" not in path.name and not path.exists():
            raise FileError(
                f"{path.name} can no longer be read: it was removed or renamed, or its "
                "drive is not connected."
            )


class SlabRun:
    """A reconstruction by several processes.

    Parameters
    ----------
    ready : ReconstructionInput
        Scan with the memory budget and threads that the processes of a computer share.
    workers : int or distributed.Client
    """

    def __init__(self, ready: ReconstructionInput, workers: Workers) -> None:
        self.ready, self.workers = ready, workers
        self.n_workers = count_workers(workers)
        n = workers_per_host(workers)
        #: Number of processes that share the memory budget.
        self.n_sharing = -(-n // count_devices(ready.device))
        #: Memory budget of each process, in bytes.
        self.budget = ready.budget // self.n_sharing
        #: CPU threads of each process.
        self.threads = max(1, (ready.config.threads or default_threads()) // n)

    @property
    def facts(self) -> AnyDict:
        """Number of processes and threads, for the record."""
        return {"processes": self.n_workers, "threads": self.threads}

    @cached_property
    def shared(self) -> ReconstructionInput:
        """The scan with the settings of a single process.

        The budget of its blocks leaves memory for slabs that have not yet been fetched.
        """
        room = int(self.budget * _BLOCK_SHARE)
        changes = {"memory": f"{room}", "threads": self.threads}
        config = self.ready.config.model_copy(update=changes)
        return replace(self.ready, config=config)

    def check_memory(self) -> None:
        """Raise `DeviceMemoryError` unless a slice fits into the memory of a worker."""
        try:
            self.shared.max_rows()
        except DeviceMemoryError as error:
            enough = error.enough
            if enough is not None:
                enough *= self.n_sharing / _BLOCK_SHARE
            raise DeviceMemoryError(
                f"{error} The memory is divided among the workers, so fewer workers "
                "may be enough.",
                enough=enough,
            ) from error

    def slabs(self, finished: list[Rows]) -> list[Rows]:
        """Return the unfinished slices as slabs, of whole groups if possible."""
        ready, group = self.shared, self.ready.group
        missing = list(gaps(finished, ready.n_slices))
        if ready.whole:
            return missing
        n_missing = sum(stop - start for start, stop in missing)
        fitting = int(self.budget * _SLAB_SHARE) // (4 * ready.size**2)
        # The file is usually organised by projection, and reading any rows decodes all
        # of it, so slabs as thick as possible take the least time.
        most = max(1, min(fitting, ready.band_rows()))
        even = -(-n_missing // (_SLABS_PER_WORKER * self.n_workers))
        if n_missing <= group * self.n_workers:
            most = min(most, max(1, -(-n_missing // self.n_workers)))
        else:
            most = min(most, -(-even // group) * group)
        return [slab for part in missing for slab in self._cut(*part, most)]

    def _cut(self, start: int, end: int, most: int) -> Iterator[Rows]:
        group = self.ready.group
        while start < end:
            if most < group:
                stop = min(start + most, self.ready.group_of(start)[1])
            else:
                stop = start - start % group + most // group * group
            yield start, min(stop, end)
            start = min(stop, end)

    def steps(
        self,
        finished: list[Rows],
        run: BlockRun,
        write: Callable[[Rows, Slices], None],
        should_stop: ShouldStop,
    ) -> Generator[Step, None, None]:
        """Reconstruct all slices that are not `finished`; see `block_steps`."""
        slabs = self.slabs(finished)
        if not slabs:
            return
        if len(slabs) < self.n_workers:
            parts = f"{len(slabs)} part{'s' if len(slabs) > 1 else ''}"
            yield WarningIssued(
                message=f"The slices to reconstruct are divided into {parts}, so only "
                f"{len(slabs)} of {self.n_workers} workers are used."
            )
        named = f"{self.n_workers} worker{'s' if self.n_workers > 1 else ''}"
        yield StageStarted(message=f"Starting {named}")
        work = SliceWork(for_workers(self.shared, self.workers))
        memory = None if self.ready.device != "cpu" else self.budget
        progress = RowProgress(self.ready, finished)
        reported: set[str] = set()
        with open_pool(self.workers, threads=self.threads, memory=memory) as pool:
            yield StageStarted(message=f"Reconstructing on {named}")
            with closing(pool.results(work, slabs, should_stop)) as results:
                for (start, stop), result in results:
                    write((start, stop), result.slices)
                    run.merge(result.run)
                    for note in result.run.report.notes:
                        if note not in reported:
                            reported.add(note)
                            yield WarningIssued(message=note)
                    done, total = progress.finish(stop - start)
                    size = slice(0, self.ready.size)
                    where = (slice(start, stop), size, size)
                    yield TileDone(done, total, where, result.slices)


def for_workers(ready: ReconstructionInput, workers: Workers) -> ReconstructionInput:
    """Return the same scan, with arrays that the workers can read.

    Arrays that the workers cannot open are copied to a folder that they can access.
    """
    scan, folder = ready.scan, folder_for_copies(workers)
    shared = scan.replace(
        data=_frames(scan.data, folder),
        flats=_frames(scan.flats, folder),
        darks=_frames(scan.darks, folder),
    )
    return replace(ready, scan=shared, given=_without_metadata(shared))


def _without_metadata(scan: Projections) -> Projections:
    return scan.replace(metadata={}, provenance=())


def _frames(frames: Any, folder: Path | None) -> Any:
    if frames is None:
        return None
    if isinstance(frames, np.ndarray) and frames.nbytes <= _SENT_BYTES:
        return frames
    return array_for_workers(frames, folder)
