"""Use napari at random for half an hour, and detect leaks: ``tox -e soak``.

In random order from a printed seed, files are opened, docks are opened and closed,
scans are previewed, restored, measured, used for training and removed, and runs are
cancelled. Every eight steps, everything is closed, and values that must not grow are
measured: memory, threads, open files, child processes, objects of this package, and
hidden files in the folder of the results. If one has grown, a sentence is printed and
the exit code is 1; ``--seed`` repeats the same steps.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import random
import statistics
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil

from soak_scans import make_files

PLUGIN = "napari-geosr"
DOCKS = (
    "Restore",
    "Porosity",
    "Train",
    "Jobs",
    "Models",
    "Pairs",
    "Reconstruct",
)
RESTORE, POROSITY, TRAIN = DOCKS[:3]
#: Steps between two measurements.
_STEPS = 8
#: Number of first measurements to ignore, because they include loading and compiling.
_WARM_UP = 3
#: Accepted growth from the first evaluated measurements to the last: bytes, then
#: numbers. With ``--without-plugin``, napari grows by 0.5 MB in each step, including
#: the graphics programs that `_answers` does not delete.
_BYTES, _BYTES_PER_STEP = 60e6, 0.8e6
_THREADS, _FILES = 4, 8
#: Milliseconds after which an idle thread of Qt's pool ends.
_EXPIRY = 200
_PLACE = {"scale": (2.0, 0.5, 0.5), "units": "um"}


@dataclass
class Look:
    """Measured values after everything was closed."""

    step: int
    #: Memory in use, and resident memory, which includes reserves of the C library.
    nbytes: int
    resident: int
    threads: Counter[str]
    files: list[str]
    children: list[str]
    objects: Counter[str] = field(default_factory=Counter)

    def row(self) -> str:
        """Format the values as one line."""
        n = sum(self.objects.values())
        return (
            f"after {self.step} steps: {self.nbytes / 1e6:.0f} MB in use, "
            f"{self.resident / 1e6:.0f} MB resident, {self.threads.total()} threads, "
            f"{len(self.files)} files, {len(self.children)} children, {n} objects"
        )


class Soak:
    """A napari window with random user actions.

    Parameters
    ----------
    folder : Path
        Folder for generated files and results.
    seed : int
    with_plugin : bool
        Whether docks and readers of the plugin are used; otherwise, only layers are.
    """

    def __init__(self, folder: Path, seed: int, *, with_plugin: bool = True) -> None:
        import napari

        self.folder, self.rng = folder, random.Random(seed)
        self.with_plugin = with_plugin
        self.step, self.looks = 0, list[Look]()
        self.failures = list[str]()
        self._first: tracemalloc.Snapshot
        self.process = psutil.Process()
        self.viewer = napari.Viewer(show=True)
        self.files = make_files(folder / "scans")
        self.wait(1.0)

    # The window

    def wait(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Process events for some time, or until a condition is true."""
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            if until is not None and until():
                return True
            time.sleep(0.005)
        return until is None

    def docks(self) -> list[tuple[Any, Any]]:
        """Return the open docks of the plugin, each with its widget."""
        from qtpy.QtWidgets import QDockWidget

        window = self.viewer.window._qt_window
        pairs = [(dock, dock.widget()) for dock in window.findChildren(QDockWidget)]
        return [p for p in pairs if type(p[1]).__module__.startswith("napari_geosr")]

    def dock(self, name: str) -> Any:
        """Return the widget in the frame of a dock; the dock is opened if necessary."""
        # A dock opened by a button has the name used in the menus.
        widget = self.viewer.window.dock_widgets.get(f"{name} (GeoSR)")
        if widget is None:
            _, widget = self.viewer.window.add_plugin_dock_widget(PLUGIN, name)
        frame = getattr(widget, "native", widget)
        if not self.wait(60, lambda: frame.dock is not None):
            raise RuntimeError(f"the dock {name} remained empty: {frame.message.text}")
        self.wait(0.2)
        return frame.dock

    def close_dock(self, pair: tuple[Any, Any]) -> None:
        """Close a dock as its close button does, so that napari deletes it."""
        dock, widget = pair
        self.viewer.window.remove_dock_widget(dock)
        widget.close()
        widget.deleteLater()
        self.wait(0.1)

    # User actions

    def open_file(self) -> None:
        """Open one of the files, damaged ones included."""
        if len(self.viewer.layers) > 6:
            self.remove_layer()
        path = self.rng.choice(self.files)
        plugin = PLUGIN if self.with_plugin else None
        if plugin is None:
            self.add_layer()
            return
        try:
            self.viewer.open(str(path), plugin=plugin)
        except Exception as error:
            if "damaged" not in path.name:
                raise
            if type(error).__module__.partition(".")[0] != "napari_geosr":
                raise
        self.wait(0.2)

    def add_layer(self) -> None:
        """Add an array without a file."""
        noise = np.random.default_rng(self.rng.randrange(9)).normal(
            100, 10, (8, 64, 64)
        )
        self.viewer.add_image(noise.astype(np.float32), name="noise", **_PLACE)
        self.wait(0.1)

    def remove_layer(self) -> None:
        """Remove a layer, even if it is in use."""
        if self.viewer.layers:
            self.viewer.layers.pop(self.rng.randrange(len(self.viewer.layers)))
        self.wait(0.1)

    def scroll(self) -> None:
        """Step through some slices."""
        for axis in range(max(0, self.viewer.dims.ndim - 2)):
            n = self.viewer.dims.nsteps[axis]
            self.viewer.dims.set_current_step(axis, self.rng.randrange(max(1, n)))
            self.wait(0.1)

    def open_dock(self) -> None:
        """Open any dock."""
        self.dock(self.rng.choice(DOCKS))

    def close_any_dock(self) -> None:
        """Close one of the docks, even if a run is in progress in it."""
        docks = self.docks()
        if docks:
            self.close_dock(self.rng.choice(docks))

    def preview(self) -> None:
        """Switch a preview of Restore on, step through slices, and switch it off."""
        dock = self._with_layer(RESTORE)
        if not dock.preview_button.isEnabled():
            return
        dock.preview_button.setChecked(True)
        for _ in range(2):
            self.wait(self.rng.uniform(0.1, 3.0))
            self.scroll()
        dock.preview_button.setChecked(False)
        self.wait(0.2)

    def restore(self) -> None:
        """Restore; sometimes cancel, or remove the layer or the dock."""
        dock = self._with_layer(RESTORE)
        if not dock.run_button.isEnabled():
            return
        dock.run_button.click()
        self._interfere(dock, lambda: not dock.activity.busy, dock._on_cancel)

    def measure(self) -> None:
        """Measure the porosity; sometimes cancel, or remove the measured layer."""
        dock = self._with_layer(POROSITY)
        if not self.wait(20, lambda: dock.settings.threshold is not None):
            return
        dock.measure()
        self._interfere(dock, lambda: not dock.is_running, dock.cancel)

    def train(self) -> None:
        """Train for some steps in a separate process, and sometimes stop it."""
        while len(self.viewer.layers) < 2:
            self.add_layer()
        dock = self.dock(TRAIN)
        small = {"layers": 3, "width": 2, "batch_size": 2, "patch": 32, "threads": 1}
        dock.settings.form.set_values(small)
        dock.steps.setValue(self.rng.choice([5, 20, 100_000]))
        dock.folder.set_path(self.folder / "jobs")
        dock._on_start()
        self.wait(self.rng.uniform(0.5, 10), lambda: dock.view.state == "done")
        self._stop_jobs()

    def save(self) -> None:
        """Write a layer to a file and delete it."""
        images = [la for la in self.viewer.layers if la._type_string == "image"]
        if not images:
            return
        suffix = self.rng.choice([".tif", ".ome.tif", ".ome.zarr"])
        path = self.folder / f"saved{self.step}{suffix}"
        self.rng.choice(images).save(str(path), plugin=PLUGIN)
        self.wait(0.1)

    def _with_layer(self, name: str) -> Any:
        """Select a random layer, and return the named dock."""
        if not self.viewer.layers:
            self.add_layer()
        self.viewer.layers.selection.active = self.rng.choice(list(self.viewer.layers))
        dock = self.dock(name)
        self.wait(self.rng.uniform(0.1, 2.0))
        return dock

    def _interfere(
        self, dock: Any, is_done: Callable[[], bool], cancel: Callable[[], None]
    ) -> None:
        """Wait for the end of a run, or disturb it at a random moment."""
        how = self.rng.choice(["wait", "wait", "cancel", "layer", "close", "scroll"])
        if how == "wait":
            self.wait(30, is_done)
            return
        self.wait(self.rng.uniform(0.0, 2.0))
        if how == "cancel":
            cancel()
        elif how == "layer":
            self.remove_layer()
        elif how == "scroll":
            self.scroll()
        else:
            for pair in self.docks():
                if pair[1].dock is dock:
                    self.close_dock(pair)
        self.wait(0.5)

    # Values that must not grow

    def look(self) -> Look:
        """Close everything, wait for running tasks, and measure what remains in use."""
        from qtpy.QtCore import QEvent, QThreadPool
        from qtpy.QtWidgets import QApplication

        self._stop_jobs()
        for pair in self.docks():
            self.close_dock(pair)
        self.viewer.layers.clear()
        self.wait(0.5)
        pool = QThreadPool.globalInstance()
        pool.waitForDone(60_000)
        pool.setExpiryTimeout(_EXPIRY)  # Qt keeps idle threads for 30 seconds
        pool.start(lambda: None)  # so that idle threads end
        self.wait(5 * _EXPIRY / 1000)
        self.wait(30, lambda: not self._children())
        for _ in range(3):
            QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            QApplication.processEvents()
            gc.collect()
        _give_back()
        found = Look(
            self.step,
            _bytes_in_use(self.process),
            self.process.memory_info().rss,
            _thread_names(self.process),
            sorted(f.path for f in self.process.open_files()),
            self._children(),
            _own_objects(),
        )
        self.looks.append(found)
        print(found.row(), flush=True)
        if tracemalloc.is_tracing():
            self._print_growth()
        return found

    def _print_growth(self) -> None:
        """Print where memory was allocated since the first evaluated measurement."""
        now = tracemalloc.take_snapshot()
        print(f"traced: {tracemalloc.get_traced_memory()[0] / 1e6:.0f} MB", flush=True)
        if len(self.looks) == _WARM_UP + 1:
            self._first = now
        if len(self.looks) > _WARM_UP + 1:
            for row in now.compare_to(self._first, "traceback")[:6]:
                lines = row.traceback.format()[-6:]
                print(f"  {row.size_diff / 1e6:+.1f} MB", *lines, sep="\n    ")

    def _children(self) -> list[str]:
        found = []
        for child in self.process.children(recursive=True):
            with contextlib.suppress(
                psutil.NoSuchProcess
            ):  # ended meanwhile, or a zombie
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(child.cmdline()[:4]))
        return found

    def _stop_jobs(self) -> None:
        """Stop training runs, and wait until their processes have ended."""
        from napari_geosr.core.errors import JobError
        from napari_geosr.jobs.folder import JobFolder

        jobs = self.folder / "jobs"
        for path in jobs.iterdir() if jobs.is_dir() else ():
            try:
                job = JobFolder(path)
            except JobError:
                continue  # the folder of the job is still incomplete
            if job.status().is_alive:
                job.request(self.rng.choice(["pause", "finish", "cancel"]))
        self.wait(60, lambda: not self._children())

    def grown(self) -> list[str]:
        """Return the sentences about values that have grown."""
        judged = self.looks[_WARM_UP:]
        if len(judged) < 4:
            return ["the run was too short to detect growth; run it for longer"]
        part = max(1, len(judged) // 3)
        first, last = judged[:part], judged[-part:]
        said = []

        def rise(of: Callable[[Look], float]) -> float:
            before, after = (statistics.median(map(of, ls)) for ls in (first, last))
            return after - before

        n_steps = last[-1].step - first[0].step
        memory = rise(lambda look: look.nbytes)
        allowed = _BYTES + _BYTES_PER_STEP * n_steps
        print(
            f"memory: {memory / 1e6:+.0f} MB in {n_steps} steps "
            f"({allowed / 1e6:.0f} MB allowed)"
        )
        if memory > allowed:
            said.append(f"memory grew by {memory / 1e6:.0f} MB in {n_steps} steps")
        if rise(lambda look: look.threads.total()) > _THREADS:
            more = last[-1].threads - first[0].threads
            said.append(f"threads: {dict(more)} more")
        if rise(lambda look: len(look.files)) > _FILES:
            more = Counter(last[-1].files) - Counter(first[0].files)
            said.append(f"open files: {dict(more)}")
        if last[-1].children:
            said.append(f"child processes: {last[-1].children}")
        for name, n in last[-1].objects.items():
            counts = [look.objects[name] for look in judged]
            if n - counts[0] >= len(judged) - 1 and counts == sorted(counts):
                said.append(f"objects: {counts[0]} {name} became {n}")
        hidden = sorted(p.name for p in self.folder.rglob(".*") if "partial" in p.name)
        if hidden:
            said.append(f"hidden files were left: {hidden[:10]}")
        return said

    # The whole test

    def run(self, minutes: float) -> list[str]:
        """Perform random actions for the given time; return the detected faults."""
        actions = [
            *[self.open_file] * 3,
            self.add_layer,
            *[self.remove_layer] * 2,
            *[self.scroll] * 2,
        ]
        if self.with_plugin:
            actions += [
                *[self.open_dock] * 2,
                *[self.close_any_dock] * 2,
                *[self.preview] * 2,
                *[self.restore] * 3,
                *[self.measure] * 2,
                self.train,
                self.save,
            ]
        end = time.monotonic() + 60 * minutes
        pending = list(actions) if self.with_plugin else []
        while time.monotonic() < end:
            action = pending.pop() if pending else self.rng.choice(actions)
            self.step += 1
            print(f"{self.step} {action.__name__}", flush=True)
            try:
                action()
            except Exception:  # noqa: BLE001  # reported at the end
                self.failures.append(f"step {self.step} {action.__name__} raised")
                traceback.print_exc()
            if self.step % _STEPS == 0:
                self.look()
        return [*dict.fromkeys(self.failures), *self.grown()]


def _own_objects() -> Counter[str]:
    """Return the numbers of live objects of this package, by class."""
    names: Counter[str] = Counter()
    for item in gc.get_objects():
        kind = type(item)
        if str(getattr(kind, "__module__", "")).startswith("napari_geosr."):
            names[f"{kind.__module__}.{kind.__qualname__}"] += 1
    return names


class _MallocInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc ≥ 2.33."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def _bytes_in_use(process: psutil.Process) -> int:
    """Bytes allocated by the C library, without reserves; or else the resident memory.

    Every thread has its own reserve (arena), parts of which glibc cannot return to the
    system, so the resident memory grows with the number of threads that have ever
    allocated memory.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return process.memory_info().rss
    libc.mallinfo2.restype = _MallocInfo
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd)


def _thread_names(process: psutil.Process) -> Counter[str]:
    """Return the number of threads by system name."""
    tasks = Path(f"/proc/{process.pid}/task")
    if not tasks.is_dir():
        return Counter({"thread": process.num_threads()})
    names: Counter[str] = Counter()
    for task in tasks.iterdir():
        with contextlib.suppress(OSError):
            names[(task / "comm").read_text().strip()] += 1
    return names


def _give_back() -> None:
    """Release caches and free memory, so that only memory in use is measured.

    napari caches results of dask, up to a tenth of the computer's memory.
    """
    from napari.utils import _dask_utils

    if _dask_utils._DASK_CACHE is not None:
        _dask_utils._DASK_CACHE.cache.clear()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


def main() -> int:
    """Run the test and report its faults."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument(
        "--without-plugin",
        action="store_true",
        help="use napari without the plugin, for comparison",
    )
    parser.add_argument(
        "--trace",
        action="store_true",
        help="print where the growing memory was allocated (slow)",
    )
    asked = parser.parse_args()
    if asked.trace:
        tracemalloc.start(12)
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name in ("CONFIG", "CACHE", "DATA", "STATE"):
            os.environ[f"XDG_{name}_HOME"] = str(folder / name.lower())
        with _answers():
            soak = Soak(folder, seed, with_plugin=not asked.without_plugin)
            wrong = soak.run(asked.minutes)
        soak.viewer.close()
    for sentence in wrong:
        print(f"FAULT {sentence}; --seed {seed}, {soak.step} steps", flush=True)
    return 1 if wrong else 0


def _answers() -> Any:
    """Make dialogs answer themselves, and prevent the deletion of shader programs.

    Mesa's software renderer (22.3) may crash when drawing after a shader program was
    deleted, which happens whenever a layer is removed, with or without this plugin.
    """
    from contextlib import ExitStack

    from vispy.gloo.glir import GlirProgram

    from napari_geosr.gui.kit import closing
    from napari_geosr.gui.restore.verdict import panel

    stack = ExitStack()
    stack.enter_context(patch.object(GlirProgram, "delete"))
    stack.enter_context(patch.object(panel, "confirm_harmful_run", lambda *_: True))
    stack.enter_context(patch.object(closing, "ask", lambda *_: "pause"))
    return stack


if __name__ == "__main__":
    sys.exit(main())
