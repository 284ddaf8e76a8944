"""The one place that talks to napari's workers.

Engines are generators of steps that know nothing of Qt. Here they run in a napari
worker thread, and three traps are closed: a `RuntimeError` would be swallowed by the
worker, `quit()` would leave the generator open, and a slot of a destroyed widget would
be called.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from napari.qt.threading import GeneratorWorker
from napari.utils import progress
from qtpy.compat import isalive
from qtpy.QtCore import QCoreApplication, QObject, QThreadPool
from qtpy.QtWidgets import QWidget

from napari_geosr.core.errors import Cancelled, EngineError, GeoSRError, system_sentence
from napari_geosr.core.steps import ShouldStop, Step, StepIterator, TileDone
from napari_geosr.gui.kit.lifetime import when_destroyed

T = TypeVar("T")

MakeSteps = Callable[[ShouldStop], Generator[Step, None, T]]

#: Steps reach the main thread at most this often, so that it stays responsive.
_SECONDS_BETWEEN_STEPS = 0.05
#: Seconds that a closing dock waits for a worker to stop, and the application for all
#: of them: what imports or compiles for the first time cannot be stopped in between.
_LONGEST_WAIT = 3.0
_LAST_WAIT = 30.0
#: Milliseconds for what a worker signals when it has ended.
_SIGNALS = 1000
_WAITS = "napari-geosr is waiting for its workers"


@dataclass(eq=False)
class Control:
    """What a worker and its dock share; it keeps neither alive."""

    began: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    silent: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    worker: Callable[[], Any] = lambda: None

    def wait(self, deadline: float) -> None:
        """Wait until the worker has ended, or the deadline has passed.

        A worker that napari itself quits, as a window closes, leaves its generator
        open: it has ended without saying so.
        """
        while not self.ended.wait(0.02) and time.monotonic() < deadline:
            worker = self.worker()
            if self.began.is_set() and (worker is None or not worker.is_running):
                return


#: The workers of each dock. A plain list, to be reached when the dock is gone.
_controls: weakref.WeakKeyDictionary[QObject, list[Control]] = (
    weakref.WeakKeyDictionary()
)


#: All tasks that somebody still holds.
_tasks: weakref.WeakSet[BackgroundTask] = weakref.WeakSet()
#: Those of all docks that have not ended.
_unfinished: list[Control] = []


def _end_all(controls: list[Control], seconds: float = _LONGEST_WAIT) -> None:
    """Stop the workers of a destroyed dock, and wait until they have.

    The wait is short, as engines ask at every tile whether to stop. A worker that
    outlived the application would signal to deleted objects, which aborts the process.
    """
    for control in controls:
        control.silent.set()
        control.stop.set()
    deadline = time.monotonic() + seconds
    for control in controls:
        if control.began.is_set():
            control.wait(deadline)


def _wait_at_quit(control: Control) -> None:
    """Let the application end after a worker, and what it signals at the end."""
    _unfinished[:] = [c for c in _unfinished if not c.ended.is_set()] + [control]
    application = QCoreApplication.instance()
    if application is not None and not application.property(_WAITS):
        application.setProperty(_WAITS, True)
        application.aboutToQuit.connect(_before_quit)


def _before_quit() -> None:
    for control in _unfinished:
        control.silent.set()
        control.stop.set()
    # Workers are started by an event: one that was not handled yet would start when
    # its signals are gone.
    deadline = time.monotonic() + _SIGNALS / 1000
    while not all(c.began.is_set() for c in _unfinished):
        QCoreApplication.processEvents()
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    _end_all(_unfinished, _LAST_WAIT)
    QThreadPool.globalInstance().waitForDone(_SIGNALS)


def running_tasks() -> list[BackgroundTask]:
    """All tasks that run, those with a description in the order of these."""
    tasks = [task for task in _tasks if task.is_running]
    return sorted(tasks, key=lambda task: task.description)


def _register(owner: QObject, control: Control) -> None:
    if owner not in _controls:
        controls = _controls[owner] = []
        when_destroyed(owner, partial(_end_all, controls))
    controls = _controls[owner]
    controls[:] = [c for c in controls if not c.ended.is_set()] + [control]


class BackgroundTask:
    """A running operation: cancel it, or ask whether it still runs.

    Callbacks are called on the main thread; none is called after `detach`, nor
    when `owner` was destroyed, which also stops the operation.
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
        # Not by `create_worker`, which has napari ask about the worker, in words that
        # mean nothing to a person, before it closes the window: see `Closing`.
        self._worker: Any = GeneratorWorker(_guarded, make_steps, self.control)
        self._worker.yielded.connect(self._on_yielded)
        self._worker.returned.connect(self._on_returned)
        self._worker.finished.connect(self._on_finished)
        self.control.worker = weakref.ref(self._worker)
        self.is_running = True
        _wait_at_quit(self.control)
        self._worker.start()

    def window(self) -> Any:
        """The window of its owner; None where there is none, or not any more."""
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
        """Cancel, and call nobody back any more: the widget or viewer is going."""
        self.control.silent.set()
        self.cancel()
        self._callbacks = dict.fromkeys(self._callbacks)

    def _call(self, which: str, *args: Any) -> None:
        callback = self._callbacks[which]
        if callback is not None and not self.control.silent.is_set():
            callback(*args)

    def _on_yielded(self, steps: list[Step]) -> None:
        last = steps[-1]
        if self.control.silent.is_set():
            return  # the window, and its bar, may be gone
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


def _guarded(
    make_steps: MakeSteps[T], control: Control
) -> Generator[list[Step], None, tuple[str, T | Exception]]:
    """Run the engine; give steps in bundles and return its result or its error.

    An error is *returned*, not raised: napari would re-raise it on the main thread, and
    would lose every `RuntimeError`. Bundling keeps fast tiles from flooding the event
    loop.
    """
    bundle: list[Step] = []
    last = 0.0
    control.began.set()
    if control.stop.is_set():
        control.ended.set()
        return "error", Cancelled("Cancelled.")
    try:
        with StepIterator(make_steps(control.stop.is_set)) as iterator:
            for step in iterator:
                if isinstance(step, TileDone):
                    # The layer has the voxels; here they would wait for a busy window.
                    step = replace(step, array=None)
                bundle.append(step)
                now = time.monotonic()
                if now - last >= _SECONDS_BETWEEN_STEPS:
                    yield bundle
                    bundle, last = [], now
            if bundle:
                yield bundle
    except GeoSRError as error:
        return "error", error
    except Exception as error:  # noqa: BLE001  # every fault reaches the person
        if said := system_sentence(error):
            return "error", GeoSRError(said)
        fault = EngineError(
            f"Something went wrong inside napari-geosr ({type(error).__name__}: "
            f"{error}). This is a bug: please report it with the details."
        )
        fault.__cause__ = error
        return "error", fault
    finally:
        control.ended.set()
    result = iterator.result
    if result is None and control.stop.is_set():
        return "error", Cancelled("Cancelled.")
    return "result", result
