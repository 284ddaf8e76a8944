"""Run operations in napari's worker threads.

Operations are generators of steps and do not depend on Qt. Three problems of napari's
workers are avoided: they swallow a `RuntimeError`, `quit()` leaves the generator open,
and slots of destroyed widgets are called.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from napari.qt.threading import GeneratorWorker
from napari.utils import progress
from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QObject, QThreadPool
from qtpy.QtWidgets import QWidget

from napari_geosr.core.errors import (
    Cancelled,
    EngineError,
    GeoSRError,
    describe_system_error,
)
from napari_geosr.core.steps import (
    BlockDone,
    IterationDone,
    JudgingProgress,
    PartDone,
    ShouldStop,
    Step,
    StepIterator,
    TileDone,
    TrainingProgress,
)
from napari_geosr.gui.kit.lifetime import when_destroyed

T = TypeVar("T")

MakeSteps = Callable[[ShouldStop], Generator[Step, None, T]]

#: Minimum time, in seconds, between batches of progress sent to the main thread, so
#: that it stays responsive.
_SECONDS_BETWEEN_STEPS = 0.05
#: Steps that may follow each other quickly, and only report progress. All others, such
#: as stages and warnings, are sent at once: the next step may come much later.
_PROGRESS = (
    BlockDone,
    IterationDone,
    JudgingProgress,
    PartDone,
    TileDone,
    TrainingProgress,
)
#: Maximum number of seconds that a closing dock waits for its workers, or the
#: application for all workers. (Imports and compilations cannot be interrupted.)
_DOCK_TIMEOUT = 3.0
_QUIT_TIMEOUT = 30.0
#: Maximum time to wait for the last signals of the workers, in milliseconds.
_SIGNALS_TIMEOUT_MS = 1000
#: Property set on the application once `_stop_workers_at_quit` is connected.
_WAITS_PROPERTY = "napari-geosr is waiting for its workers"


@dataclass(eq=False)
class Control:
    """State shared by a worker and its dock; it keeps neither alive."""

    began: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    silent: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    worker: Callable[[], Any] = lambda: None

    def wait(self, deadline: float) -> None:
        """Wait until the worker has ended, or the deadline has passed.

        When a window closes, napari quits workers and leaves their generators open;
        `ended` is then never set.
        """
        while not self.ended.wait(0.02) and time.monotonic() < deadline:
            worker = self.worker()
            if self.began.is_set() and (worker is None or not worker.is_running):
                return


#: The workers of each dock. Finalizers need this list even after the dock has been
#: destroyed.
_controls: weakref.WeakKeyDictionary[QObject, list[Control]] = (
    weakref.WeakKeyDictionary()
)


#: All tasks that are still referenced.
_tasks: weakref.WeakSet[BackgroundTask] = weakref.WeakSet()
#: Workers that have not ended yet, of all docks.
_unfinished: list[Control] = []


def _stop_workers(controls: list[Control], seconds: float = _DOCK_TIMEOUT) -> None:
    """Stop the workers of a destroyed dock and wait for them.

    The wait is short because operations check for cancellation at every tile. A worker
    that outlives the application would send signals to deleted objects, which aborts
    the process.
    """
    for control in controls:
        control.silent.set()
        control.stop.set()
    deadline = time.monotonic() + seconds
    for control in controls:
        if control.began.is_set():
            control.wait(deadline)


def _register_for_quit(control: Control) -> None:
    """Make the application wait at exit for a worker and its last signals."""
    _unfinished[:] = [c for c in _unfinished if not c.ended.is_set()] + [control]
    application = QCoreApplication.instance()
    if application is not None and not application.property(_WAITS_PROPERTY):
        application.setProperty(_WAITS_PROPERTY, True)
        application.aboutToQuit.connect(_stop_workers_at_quit)


def _stop_workers_at_quit() -> None:
    for control in _unfinished:
        control.silent.set()
        control.stop.set()
    # Workers are started by an event. A worker with a pending event would start after
    # its signals have been deleted.
    deadline = time.monotonic() + _SIGNALS_TIMEOUT_MS / 1000
    while not all(c.began.is_set() for c in _unfinished):
        QCoreApplication.processEvents()
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    _stop_workers(_unfinished, _QUIT_TIMEOUT)
    QThreadPool.globalInstance().waitForDone(_SIGNALS_TIMEOUT_MS)


def running_tasks() -> list[BackgroundTask]:
    """Return all running tasks, sorted by description."""
    tasks = [task for task in _tasks if task.is_running]
    return sorted(tasks, key=lambda task: task.description)


def _register(owner: QObject, control: Control) -> None:
    if owner not in _controls:
        controls = _controls[owner] = []
        when_destroyed(owner, partial(_stop_workers, controls))
    controls = _controls[owner]
    controls[:] = [c for c in controls if not c.ended.is_set()] + [control]


class BackgroundTask:
    """An operation running in a worker thread.

    Callbacks are called on the main thread; none is called after `detach`. When `owner`
    is destroyed, the operation stops without further callbacks.
    """

    def __init__(
        self,
        make_steps: MakeSteps[T],
        *,
        owner: QObject | None = None,
        on_step: Callable[[Step], None] | None = None,
        on_result: Callable[[T], None] | None = None,
        on_error: Callable[[Exception], None] | None = None,
        on_finished: Callable[[], None] | None = None,
        description: str = "",
    ) -> None:
        self.control = Control()
        if owner is not None:
            _register(owner, self.control)
        self._callbacks: dict[str, Callable[..., None] | None] = {
            "step": on_step,
            "result": on_result,
            "error": on_error,
            "finished": on_finished,
        }
        self.description = description
        self.owner = None if owner is None else weakref.ref(owner)
        _tasks.add(self)
        self._bar: Any = progress(total=0, desc=description) if description else None
        # Not `create_worker`: when the window is closed, napari would ask about its
        # workers in technical terms. See `CloseFilter`.
        self._worker: Any = GeneratorWorker(_guarded, make_steps, self.control)
        self._worker.yielded.connect(self._on_yielded)
        self._worker.returned.connect(self._on_returned)
        self._worker.finished.connect(self._on_finished)
        self.control.worker = weakref.ref(self._worker)
        self.is_running = True
        _register_for_quit(self.control)
        self._worker.start()

    def window(self) -> Any:
        """The window of the task's owner; None if there is none or it was deleted."""
        part: Any = None if self.owner is None else self.owner()
        if part is None or not isalive(part):
            return None
        while part is not None and not isinstance(part, QWidget):
            part = part.parent()
        return None if part is None else part.window()

    def cancel(self) -> None:
        """Ask the engine to stop at its next tile or block."""
        self.control.stop.set()

    def detach(self) -> None:
        """Cancel without further callbacks, for a widget or viewer that is closing."""
        self.control.silent.set()
        self.cancel()
        self._callbacks = dict.fromkeys(self._callbacks)

    def _call(self, name: str, *args: Any) -> None:
        callback = self._callbacks[name]
        if callback is not None and not self.control.silent.is_set():
            callback(*args)

    def _on_yielded(self, steps: list[Step]) -> None:
        last = steps[-1]
        if self.control.silent.is_set():
            return  # the window and its progress bar may have been deleted
        if self._bar is not None and last.total:
            self._bar.total = last.total
            self._bar.n = last.done
            self._bar.refresh()
        for step in steps:
            self._call("step", step)

    def _on_returned(self, outcome: tuple[str, object]) -> None:
        kind, value = outcome
        self._call(kind, value)

    def _on_finished(self) -> None:
        self.is_running = False
        if self._bar is not None:
            self._bar.close()
        self._call("finished")


def _end_dask_pool(thread: threading.Thread) -> None:
    """End the threads that dask started for computations in a worker's thread.

    Dask keeps them until the worker's thread has ended, but does not notice the end of
    a Qt thread.
    """
    pools = getattr(sys.modules.get("dask.threaded"), "pools", {})
    for pool in pools.pop(thread, {}).values():
        pool.shutdown(wait=False)


def _is_progress(step: Step) -> bool:
    return isinstance(step, _PROGRESS) or type(step) is Step


def _guarded(
    make_steps: MakeSteps[T], control: Control
) -> Generator[list[Step], None, tuple[str, T | Exception]]:
    """Run the operation; yield its steps in batches, and return its result or error.

    Errors are returned, not raised: napari would re-raise them on the main thread and
    lose every `RuntimeError`. Batches keep fast progress from flooding the event loop.
    """
    batch: list[Step] = []
    last = 0.0
    thread = threading.current_thread()
    control.began.set()
    if control.stop.is_set():
        control.ended.set()
        return "error", Cancelled("Cancelled.")
    # The pool has as many threads as the computer has cores. Without another thread in
    # place of this one, a few long operations would delay all short ones.
    pool = QThreadPool.globalInstance()
    pool.releaseThread()
    try:
        with StepIterator(make_steps(control.stop.is_set)) as iterator:
            for step in iterator:
                if isinstance(step, TileDone):
                    # The layer has the voxels; queued steps would keep another copy in
                    # memory.
                    step = replace(step, array=None)
                batch.append(step)
                now = time.monotonic()
                if now - last >= _SECONDS_BETWEEN_STEPS or not _is_progress(step):
                    yield batch
                    batch, last = [], now
            if batch:
                yield batch
    except GeoSRError as error:
        return "error", error
    except Exception as error:  # noqa: BLE001  # report every error to the user
        if text := describe_system_error(error):
            return "error", GeoSRError(text)
        fault = EngineError(
            f"Something went wrong inside napari-geosr ({type(error).__name__}: "
            f"{error}). This is a bug: please report it with the details."
        )
        fault.__cause__ = error
        return "error", fault
    finally:
        control.ended.set()
        _end_dask_pool(thread)
        with suppress(RuntimeError):  # at exit, Qt may have deleted the pool
            pool.reserveThread()
    result = iterator.result
    if result is None and control.stop.is_set():
        return "error", Cancelled("Cancelled.")
    return "result", result
