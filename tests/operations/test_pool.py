"""Workers of a Dask client: their versions, numbers and stopping."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from napari_geosr.core.errors import Cancelled, ConfigError, GeoSRWarning
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.version import __version__
from napari_geosr.operations.cluster import check_workers, tasks, versions
from napari_geosr.operations.cluster.tasks import PoolTask, WorkerPool

if TYPE_CHECKING:
    from distributed import Client

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """One worker in a thread of this process."""
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def same(item: int, _should_stop: ShouldStop, _worker: int) -> int:
    return item


def other_version(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Make this process have another version than the workers."""
    monkeypatch.setattr(versions, "__version__", text)


def test_workers_of_another_release_are_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_workers(client)
    other_version(monkeypatch, "999.1.0")
    expected = f"has napari-geosr {__version__}, but this process has 999.1.0. Install"
    with pytest.raises(ConfigError, match=expected):
        check_workers(client)
    release = ".".join(__version__.split(".")[:2])
    other_version(monkeypatch, f"{release}.987")
    with pytest.warns(GeoSRWarning, match=f"this process has {release}.987. Results"):
        check_workers(client)


def test_workers_without_the_package_are_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "_EXPRESSION", "__import__('no_such_package')")
    expected = r"cannot import napari-geosr \(No module named 'no_such_package'\)"
    with pytest.raises(ConfigError, match=expected):
        check_workers(client)


def test_workers_that_join_during_a_run_are_checked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = PoolTask(WorkerPool(client), same, range(100), in_order=False)
    found = task.finished(never_stop)
    next(found)
    other_version(monkeypatch, "999.1.0")
    task._known.clear()  # all workers are new
    try:
        with pytest.raises(ConfigError, match="but this process has 999"):
            list(found)
    finally:
        task.end()


def test_workers_of_one_computer_have_different_numbers(tmp_path: Path) -> None:
    """`dask-jobqueue` gives them names such as ``SLURMCluster-0-1``."""
    from napari_geosr.operations.cluster import worker

    token = f"test-{tmp_path.name}-{time.time_ns()}"
    taken = [worker._take_number(token) for _ in range(3)]
    assert [number for number, _ in taken] == [0, 1, 2]
    lock = taken[1][1]
    assert lock is not None
    lock.release()  # the worker has ended
    plugin = worker.RunPlugin(token, b"", ignores_interrupts=False)
    joined = cast("Any", SimpleNamespace(name="SLURMCluster-4"))
    plugin.setup(joined)
    assert worker._runs[token].worker == 1
    plugin.teardown(joined)
    assert token not in worker._runs
    plugin.setup(cast("Any", SimpleNamespace(name="2")))  # of a local cluster
    assert worker._runs[token].worker == 2
    plugin.teardown(joined)


class _SlowWriter:
    """Writes a file after two seconds, like a worker in a slow tile."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, item: int, _should_stop: ShouldStop, _worker: int) -> int:
        time.sleep(2)
        self.path.touch()
        return item


@dataclass
class _Waiting:
    """Waits for a file, like a worker in a tile that does not stop."""

    released: Path

    def __call__(self, item: int, _should_stop: ShouldStop, _worker: int) -> int:
        while not self.released.exists():
            time.sleep(0.05)
        return item


def test_no_worker_of_a_client_writes_after_the_end(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tasks, "_STOP_SECONDS", 0.1)
    start = time.monotonic()
    work = _SlowWriter(tmp_path / "written")
    results = WorkerPool(client).results(
        work, [1], lambda: time.monotonic() > start + 0.5
    )
    found = []
    with pytest.raises(Cancelled):
        found += results
    assert work.path.exists()


def test_busy_workers_of_an_allocation_are_waited_for_once(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The job needs the rest of the time before its walltime to save its work."""
    monkeypatch.setattr(tasks, "_STOP_SECONDS", 2.0)
    tasks.ALLOCATED.add(client)
    released = tmp_path / "released"
    task = PoolTask(WorkerPool(client), _Waiting(released), [1], in_order=False)
    try:
        stop_at = time.monotonic() + 0.5
        with pytest.raises(Cancelled):
            list(task.finished(lambda: time.monotonic() > stop_at))
        after = time.monotonic()
        assert after - stop_at >= 2.0
        task.end()
        assert time.monotonic() - after < 1.5
    finally:
        tasks.ALLOCATED.discard(client)
        released.touch()


def test_workers_are_counted_while_results_arrive(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, a short absence of all workers after a busy time ends the run."""

    def slow(item: int, _should_stop: ShouldStop, _worker: int) -> int:
        time.sleep(0.05)
        return item

    task = PoolTask(WorkerPool(client), slow, range(40), in_order=False)
    try:
        for _ in task.finished(never_stop):
            assert time.monotonic() - task._seen < 1.5
    finally:
        task.end()
