"""Pitfalls of napari's workers: swallowed errors, open generators, deleted widgets."""

from __future__ import annotations

import gc
import threading
import weakref

import dask.array
import numpy as np
import pytest
from qtpy.QtCore import QThreadPool
from qtpy.QtWidgets import QWidget

from napari_geosr.core.errors import Cancelled, EngineError, VolumeError
from napari_geosr.core.steps import (
    BlockDone,
    StageStarted,
    Step,
    TileDone,
    WarningIssued,
)
from napari_geosr.gui.kit import worker
from napari_geosr.gui.kit.lifetime import when_destroyed
from napari_geosr.gui.kit.worker import BackgroundTask


class Heard:
    """Collects the callbacks of a run."""

    def __init__(self, qtbot, make_steps, **more) -> None:
        self.steps, self.results, self.errors, self.finished = [], [], [], 0
        self.threads = set()
        self.run = BackgroundTask(
            make_steps,
            on_step=self._on_step,
            on_result=self.results.append,
            on_error=self.errors.append,
            on_finished=self._on_finished,
            **more,
        )
        self._qtbot = qtbot

    def _on_step(self, step) -> None:
        self.steps.append(step)
        self.threads.add(threading.current_thread())

    def _on_finished(self) -> None:
        self.finished += 1

    def wait(self) -> None:
        self._qtbot.waitUntil(lambda: not self.run.is_running, timeout=10_000)


@pytest.fixture(autouse=True)
def application(qapp):
    return qapp


def test_long_operations_do_not_delay_short_ones(qtbot):
    pool, done = QThreadPool.globalInstance(), threading.Event()

    def long(should_stop):
        yield StageStarted(message="long")
        done.wait(30)
        return "long"

    def short(should_stop):
        yield StageStarted(message="short")
        return "short"

    most, before = pool.maxThreadCount(), pool.activeThreadCount()
    waiting = [Heard(qtbot, long) for _ in range(most + 1)]
    try:
        quick = Heard(qtbot, short)
        quick.wait()
        assert quick.results == ["short"]
        assert not any(heard.results for heard in waiting)
    finally:
        done.set()
        for heard in waiting:
            heard.wait()
    assert pool.maxThreadCount() == most
    qtbot.waitUntil(lambda: pool.activeThreadCount() == before, timeout=10_000)


def test_steps_and_result_arrive_in_order_on_the_main_thread(qtbot):
    def steps(should_stop):
        yield StageStarted(message="go")
        for i in range(200):
            yield TileDone(i + 1, 200)
        return 42

    heard = Heard(qtbot, steps)
    heard.wait()
    assert [s.done for s in heard.steps] == [0, *range(1, 201)]
    assert heard.threads == {threading.main_thread()}
    assert heard.results == [42]
    assert not heard.errors
    assert heard.finished == 1


@pytest.mark.parametrize(
    "step", [StageStarted(message="long"), WarningIssued(message="hot")]
)
def test_stages_and_warnings_arrive_before_the_next_step(qtbot, monkeypatch, step):
    """The next step may take minutes, and progress is sent only from time to time."""
    monkeypatch.setattr(worker, "_SECONDS_BETWEEN_STEPS", 1e9)
    done = threading.Event()

    def steps(should_stop):
        yield from (BlockDone(1, 2), step)
        done.wait(30)
        yield BlockDone(2, 2)

    heard = Heard(qtbot, steps)
    try:
        qtbot.waitUntil(lambda: step in heard.steps, timeout=10_000)
    finally:
        done.set()
        heard.wait()
    assert heard.steps == [BlockDone(1, 2), step, BlockDone(2, 2)]


@pytest.mark.parametrize("made", [BlockDone, TileDone, Step])
def test_fast_progress_arrives_in_few_batches(qtbot, monkeypatch, made):
    monkeypatch.setattr(worker, "_SECONDS_BETWEEN_STEPS", 1e9)
    control = worker.Control()
    progress = [made(i + 1, 200) for i in range(200)]
    batches = worker._guarded(lambda _: (step for step in progress), control)
    assert list(batches) == [progress]


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, VolumeError])
def test_every_error_arrives(qtbot, kind):
    def steps(should_stop):
        yield StageStarted(message="go")
        raise kind("broken")

    heard = Heard(qtbot, steps)
    heard.wait()
    (error,) = heard.errors
    assert not heard.results
    assert heard.finished == 1
    if kind is VolumeError:
        assert type(error) is VolumeError
    else:
        assert isinstance(error, EngineError)
        assert type(error.__cause__) is kind
        assert kind.__name__ in str(error)


def test_a_full_memory_is_a_sentence(qtbot):
    def steps(should_stop):
        yield StageStarted(message="go")
        raise MemoryError

    heard = Heard(qtbot, steps)
    heard.wait()
    (error,) = heard.errors
    assert not isinstance(error, EngineError)
    assert "not enough memory" in str(error)


def test_an_error_before_the_first_step_arrives(qtbot):
    def steps(should_stop):
        raise VolumeError("no")

    heard = Heard(qtbot, steps)
    heard.wait()
    assert isinstance(heard.errors[0], VolumeError)


def endless(closed: list[bool]):
    def steps(should_stop):
        try:
            while not should_stop():
                threading.Event().wait(0.01)
                yield TileDone(1, 2)
            raise Cancelled("Stopped.")
        finally:
            closed.append(True)

    return steps


def test_cancel_ends_the_generator(qtbot):
    closed: list[bool] = []
    heard = Heard(qtbot, endless(closed))
    qtbot.waitUntil(lambda: bool(heard.steps), timeout=5000)
    heard.run.cancel()
    heard.wait()
    assert closed == [True]
    assert isinstance(heard.errors[0], Cancelled)


def test_nobody_is_called_after_detach(qtbot):
    closed: list[bool] = []
    heard = Heard(qtbot, endless(closed))
    qtbot.waitUntil(lambda: bool(heard.steps), timeout=5000)
    heard.run.detach()
    n = len(heard.steps)
    heard.wait()
    assert closed == [True]
    assert len(heard.steps) == n
    assert not heard.errors
    assert heard.finished == 0


@pytest.mark.parametrize("how", ["deleted", "collected"])
def test_a_dock_that_goes_ends_its_worker(qtbot, how):
    closed: list[bool] = []
    dock = QWidget()
    heard = Heard(qtbot, endless(closed), owner=dock)
    dock.cycle = dock  # like a dock that connected its own methods
    qtbot.waitUntil(lambda: bool(heard.steps), timeout=5000)
    if how == "deleted":
        dock.deleteLater()
        qtbot.wait(20)
    del dock
    gc.collect()
    n = len(heard.steps)
    assert closed == [True]
    qtbot.wait(50)
    assert len(heard.steps) == n
    assert heard.finished == 0


@pytest.mark.parametrize("how", ["deleted", "collected", "both"])
def test_the_end_of_a_widget_is_noticed_once(qtbot, how):
    called = []
    widget = QWidget()
    widget.cycle = widget
    when_destroyed(widget, lambda: called.append(1))
    if how != "collected":
        widget.deleteLater()
        qtbot.waitUntil(lambda: called == [1], timeout=2000)
    if how != "deleted":
        del widget
        gc.collect()
    assert called == [1]


def test_voxels_of_tiles_do_not_wait_in_the_queue(qtbot):
    """While the window is busy, steps pile up; arrays would fill the memory."""
    tiles = []

    def steps(should_stop):
        for i in range(3):
            array = np.zeros(8)
            tiles.append(weakref.ref(array))
            yield TileDone(i + 1, 3, slices=(slice(i, i + 1),), array=array)
        return 1

    heard = Heard(qtbot, steps)
    heard.wait()
    assert [step.slices for step in heard.steps] == [
        (slice(i, i + 1),) for i in range(3)
    ]
    assert all(step.array is None for step in heard.steps)
    assert all(reference() is None for reference in tiles)


def test_no_thread_of_dask_is_left(qtbot):
    before = set(threading.enumerate())

    def compute(should_stop):
        yield StageStarted(message="a")
        return int(dask.array.ones((40, 40), chunks=10).sum())

    heard = Heard(qtbot, compute)
    heard.wait()
    assert heard.results == [1600]

    def left():
        new = set(threading.enumerate()) - before
        return [thread for thread in new if "ThreadPoolExecutor" in thread.name]

    qtbot.waitUntil(lambda: not left(), timeout=5_000)
