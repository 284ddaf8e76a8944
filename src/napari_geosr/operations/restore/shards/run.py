"""Restores a volume in several processes, shard by shard."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    TileDone,
    WarningIssued,
)
from napari_geosr.core.types import AnyDict, AnyDType
from napari_geosr.inference.backends import AUTO, TORCH, Setting
from napari_geosr.inference.compute import default_threads
from napari_geosr.inference.run import RunSummary, nonfinite_warnings
from napari_geosr.inference.shards import Shard, ShardPlanner, unfinished_shards
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.operations.cluster import (
    Workers,
    count_workers,
    open_pool,
    workers_per_host,
)
from napari_geosr.operations.cluster.copies import array_for_workers
from napari_geosr.operations.cluster.shared_folders import folder_for_copies
from napari_geosr.operations.restore.run import TileProgress, VolumeRun, chosen_backend
from napari_geosr.operations.restore.shards.work import (
    ShardResult,
    ShardWork,
    count_devices,
)
from napari_geosr.operations.restore.targets import OutputLayout

if TYPE_CHECKING:
    from napari_geosr.operations.restore.preparation import PreparedRestoration
    from napari_geosr.operations.restore.resume import FinishedPart
    from napari_geosr.operations.restore.targets import Targets


class ShardedRun(VolumeRun):
    """Restores a volume in several processes.

    Parameters
    ----------
    prepared : PreparedRestoration
        Run with the memory budget and threads that the processes of a computer share.
    workers : int or distributed.Client
    """

    def __init__(self, prepared: PreparedRestoration, workers: Workers) -> None:
        super().__init__(prepared)
        self.workers = workers
        self.n_workers = count_workers(workers)
        n = workers_per_host(workers)
        #: Memory budget of each process, in bytes.
        self.budget = prepared.budget // -(-n // count_devices(prepared.device))
        #: CPU threads of each process.
        self.threads = max(1, (prepared.config.threads or default_threads()) // n)

    def facts(self) -> AnyDict:
        """Return the number of processes."""
        return {"workers": {"processes": self.n_workers}}

    def planner(self, kept: FinishedPart | None = None) -> ShardPlanner:
        """Choose tiles and shards; a resumed run keeps its tile size if it fits."""
        prepared = self.prepared
        return ShardPlanner(
            prepared.network,
            prepared.volume.data,
            prepared.output_dtype,
            n_workers=self.n_workers,
            budget=self.budget,
            total=prepared.budget,
            device=prepared.device,
            preferred_tile=None if kept is None else kept.tile,
        )

    def output_layout(self, dtype: AnyDType) -> OutputLayout:
        planner = self.planner()
        return OutputLayout(planner.block, planner.memory, shared=True)

    def fill(
        self,
        targets: Targets,
        first: tuple[slice, ...] | None,
        kept: FinishedPart | None,
        should_stop: ShouldStop,
    ) -> Generator[Step, None, TileProgress]:
        run = _ShardProgress(self, targets, kept)
        yield from run.planner.warnings()
        return (yield from run.steps(first, should_stop))


class _ShardProgress:
    """State of a run: its shards, and statistics of those that are finished."""

    def __init__(
        self, sharded: ShardedRun, targets: Targets, kept: FinishedPart | None
    ) -> None:
        self.sharded, self.targets = sharded, targets
        self.prepared = sharded.prepared
        self.planner = sharded.planner(kept)
        output = targets.result.output
        #: Files that the workers write themselves; empty if this process writes all.
        self.shared = [
            file
            for target in targets.all
            if target.output is not None
            and (file := target.output.shared()) is not None
        ]
        unit = output.block_shape if output is not None and self.shared else None
        self.shards = self.planner.shards(unit)
        self.places = [] if kept is None else list(kept.places)
        self.missing = unfinished_shards(self.shards, self.places)
        backend = chosen_backend(self.prepared.config, kept).setting
        self.backend: Setting = TORCH if backend == AUTO else backend
        self.backend_facts: AnyDict = {"name": self.backend}
        self.counts: Counter[str] = Counter()
        self.reported: set[str] = set()
        self.started = time.perf_counter()

    def steps(
        self, first: tuple[slice, ...] | None, should_stop: ShouldStop
    ) -> Generator[Step, None, TileProgress]:
        """Restore the missing shards; end early if stopped or if an error occurs."""
        if first is not None:
            self.missing.sort(key=lambda shard: not _touches(shard, first))
        try:
            yield from self._shard_steps(should_stop)
        except Cancelled:
            return self._progress(complete=False)
        except GeoSRError as error:
            return self._progress(complete=False, error=error)
        n, dtype = self.counts["nonfinite"], self.prepared.output_dtype
        yield from nonfinite_warnings(n, dtype)
        return self._progress(complete=True)

    def _shard_steps(self, should_stop: ShouldStop) -> Iterator[Step]:
        if not self.missing:
            return
        sharded, n_total = self.sharded, len(self.shards)
        if n_total < sharded.n_workers:
            yield WarningIssued(
                message=f"The result has {n_total} shard{'s' if n_total > 1 else ''}, "
                f"so only {n_total} of {sharded.n_workers} workers are used."
            )
        yield StageStarted(message=f"Starting {_in_words(sharded.n_workers)}")
        work = self._work()
        on_gpu = self.prepared.device != "cpu"
        memory = None if on_gpu else sharded.budget
        with open_pool(sharded.workers, threads=sharded.threads, memory=memory) as pool:
            yield StageStarted(
                message=f"Restoring with {sharded.models_text()} on "
                f"{_in_words(sharded.n_workers)}"
            )
            with closing(pool.results(work, self.missing, should_stop)) as results:
                for n, (shard, result) in enumerate(results, start=1):
                    yield from self._finished(shard, result)
                    yield TileDone(
                        n_total - len(self.missing) + n,
                        n_total,
                        slices=shard.place,
                        array=result.blocks[0] if result.blocks else None,
                        facts={
                            "run": {"tile": list(self.planner.choice.tile)},
                            "backend": {"name": result.backend["name"]},
                        },
                    )

    def _work(self) -> ShardWork:
        prepared, sharded = self.prepared, self.sharded
        # The prepared network is not moved; each worker moves its copy to its device.
        network = prepared.network
        if prepared.device != "cpu":
            network = copy.deepcopy(network).to("cpu")
        return ShardWork(
            network,
            array_for_workers(prepared.volume.data, folder_for_copies(sharded.workers)),
            tile=self.planner.choice.tile,
            dtypes=[target.volume.dtype for target in self.targets.all],
            files=self.shared,
            memory=self.planner.memory,
            statistics=prepared.statistics,
            budget=sharded.budget,
            device=prepared.device,
            nonfinite=prepared.config.nonfinite,
            threads=sharded.threads,
            backend=self.backend,
        )

    def _finished(self, shard: Shard, result: ShardResult) -> Iterator[Step]:
        """Write a finished shard, or record that a worker has written it."""
        for target, block in zip(self.targets.all, result.blocks, strict=False):
            with explained(target.path or Path(target.volume.name)):
                target.array[shard.place] = block
        if not result.blocks:
            for target in self.targets.all:
                assert target.output is not None
                target.output.adopt([shard.place])
        self.places.append(shard.place)
        self.backend_facts = dict(result.backend)
        self.counts["tiles"] += result.summary.n_tiles
        self.counts["clipped"] += result.summary.n_clipped
        self.counts["nonfinite"] += result.summary.n_nonfinite
        self.counts["retries"] += result.summary.n_retries
        for message in result.messages:
            # Messages that begin with a number of voxels refer to a single shard.
            if message not in self.reported and not message[:1].isdigit():
                self.reported.add(message)
                yield WarningIssued(message=message)

    def _progress(
        self, *, complete: bool, error: GeoSRError | None = None
    ) -> TileProgress:
        choice = self.planner.choice
        summary = RunSummary(
            n_tiles=self.counts["tiles"],
            tile=choice.tile,
            cost_factor=choice.cost_factor,
            read_factor=choice.reads.factor,
            seconds=time.perf_counter() - self.started,
            n_clipped=self.counts["clipped"],
            n_nonfinite=self.counts["nonfinite"],
            n_retries=self.counts["retries"],
            peak_bytes=choice.peak_bytes,
        )
        workers = {
            "processes": self.sharded.n_workers,
            "threads": self.sharded.threads,
            "shards": len(self.shards),
        }
        return TileProgress(
            summary if error is None else None,
            complete,
            self.places,
            error,
            self.backend_facts,
            workers,
        )


def _touches(shard: Shard, region: Sequence[slice]) -> bool:
    return all(
        a.start < b.stop and b.start < a.stop
        for a, b in zip(shard.region, region, strict=True)
    )


def _in_words(n: int) -> str:
    return f"{n} worker{'s' if n > 1 else ''}"
