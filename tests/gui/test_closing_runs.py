"""Users who close the window during a run are asked once, and lose nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from held_runs import SHAPE, hold_runs, many_tiles
from opening import environment, opened
from porosity_helpers import open_dock, wait_for_levels
from qtpy.QtWidgets import QMessageBox
from test_closing_training import Close
from tomography_helpers import idle, scan_file
from tomography_helpers import opened as opened_scan

from napari_geosr import io
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import BlockDone, Step, StepIterator, TileDone, run_to_end
from napari_geosr.gui.jobs import handover as _handover
from napari_geosr.gui.kit import closing as _closing
from napari_geosr.gui.kit.closing import closing_of
from napari_geosr.gui.restore import activity as _activity
from napari_geosr.gui.restore.verdict import activity as _verdict_activity
from napari_geosr.jobs import handover as _jobs_handover
from napari_geosr.jobs import index, local
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations import restore as operation

#: The answer matters only at the end, which other tests check.
SLOW_PAUSE = pytest.param("pause", marks=pytest.mark.slow)


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """Record the questions; nobody answers those of napari."""
    from napari._qt import qt_main_window

    monkeypatch.setattr(
        qt_main_window, "ConfirmCloseDialog", lambda *_a, **_k: pytest.fail("napari")
    )
    return []


@pytest.fixture
def started(monkeypatch) -> list[Path]:
    """Jobs that would have been started."""
    found: list[Path] = []
    monkeypatch.setattr(local, "start", lambda job: found.append(job.path))
    return found


@pytest.fixture
def held(monkeypatch) -> None:
    """A restoration waits after two tiles until it is stopped."""
    hold_runs(monkeypatch)


def close_window(viewer, monkeypatch, asked, answer: str) -> list[str]:
    """Press the close button of the window; return what is called when it closes."""
    window = viewer.window._qt_window
    closed: list[str] = []

    timer = SimpleNamespace(singleShot=lambda _ms, call: closed.append(call.__name__))

    def ask(runs, tasks, _jobs, _parent):
        asked.append([run.description for run in runs] + [t.description for t in tasks])
        return answer

    monkeypatch.setattr(_closing, "QTimer", timer)
    monkeypatch.setattr(_closing, "ask_about_runs", ask)
    event = Close(spontaneous=True)
    assert closing_of(window).eventFilter(window, event)
    assert not event.accepted
    return closed


def file_of(tmp_path) -> Path:
    rng = np.random.default_rng(3)
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, rng.normal(100, 10, SHAPE).astype(np.float32), imagej=True)
    return path


def running(viewer, qtbot):
    dock = opened(viewer)
    shown: list[int] = []
    dock.activity.progressed.connect(
        lambda stage, done, _: shown.append(done) if stage == "tiles" else None
    )
    dock.run_button.click()
    qtbot.waitUntil(lambda: len(shown) >= 1, timeout=120_000)
    return dock


@pytest.mark.parametrize(
    "answer", ["close", pytest.param("pause", marks=pytest.mark.slow)]
)
def test_a_restoration_goes_on_as_a_job_or_waits(
    viewer, qtbot, tmp_path, monkeypatch, asked, started, held, answer
):
    viewer.open(str(file_of(tmp_path)), plugin="napari-geosr")
    dock = running(viewer, qtbot)
    closed = close_window(viewer, monkeypatch, asked, answer)
    assert asked == [["Restoring scan"]]
    qtbot.waitUntil(lambda: closed != [], timeout=60_000)
    assert closed == ["close"]
    (status,) = index.list_jobs()
    assert started == ([status.path] if answer == "close" else [])
    assert (status.state, status.operation) == ("paused", "restore")
    assert 0 < status.done < status.total
    job = JobFolder(status.path)
    tiles = [s for s in run_steps(job) if isinstance(s, TileDone)]
    assert 0 < len(tiles) < status.total
    volume = io.read(tmp_path / "scan.tif")
    config = dock.config()
    whole = run_to_end(operation.restore_steps(volume, config)).volume
    result = io.read(job.status().result)
    np.testing.assert_array_equal(result.data, whole.data)
    assert not closing_of(viewer.window._qt_window).is_handing_over


@pytest.mark.parametrize("answer", ["close", "pause", "stay"])
@pytest.mark.parametrize("phase", ["preparing", "checking"])
def test_a_restoration_that_is_still_being_prepared_is_asked_about(
    viewer, qtbot, tmp_path, monkeypatch, asked, started, with_verdict, phase, answer
):
    """Pressing *Run* is enough; the first tile may be seconds away."""
    module, name = {
        "preparing": (_activity, "prepare_run_steps"),
        "checking": (_verdict_activity, "verdict_steps"),
    }[phase]
    going_on, begun = [], []
    steps = getattr(module, name)

    def waiting(*args, **more):
        begun.append(1)
        while not going_on:
            time.sleep(0.005)
            yield Step()
        return (yield from steps(*args, **more))

    monkeypatch.setattr(module, name, waiting)
    viewer.open(str(file_of(tmp_path)), plugin="napari-geosr")
    dock = opened(viewer)
    dock.model_box.set_model("gaussian")
    dock.run_button.click()
    qtbot.waitUntil(lambda: len(begun) > 0, timeout=60_000)
    qtbot.wait(50)
    closed = close_window(viewer, monkeypatch, asked, answer)
    assert asked == [["Restoring scan"]]
    if answer == "stay":
        qtbot.wait(50)
        assert (closed, index.list_jobs()) == ([], [])
        going_on.append(1)
        qtbot.waitUntil(lambda: dock.activity.target() is not None, timeout=60_000)
        return
    qtbot.waitUntil(lambda: closed != [], timeout=60_000)
    jobs = index.list_jobs()
    going_on.append(1)
    if answer == "pause":  # there is nothing to keep
        assert (jobs, started) == ([], [])
        return
    assert started == [jobs[0].path]
    run_to_end(run_steps(JobFolder(jobs[0].path)))
    volume = io.read(tmp_path / "scan.tif")
    whole = run_to_end(operation.restore_steps(volume, dock.config())).volume
    result = io.read(JobFolder(jobs[0].path).status().result)
    np.testing.assert_array_equal(result.data, whole.data)


def test_a_requested_run_that_is_cancelled_is_not_asked_about(
    viewer, qtbot, tmp_path, monkeypatch, asked, started
):
    viewer.open(str(file_of(tmp_path)), plugin="napari-geosr")
    dock = opened(viewer)
    dock.model_box.set_model("gaussian")
    dock.run_button.click()
    assert dock.activity.handover.is_running
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: dock.activity.busy == "", timeout=60_000)
    window = viewer.window._qt_window
    assert not closing_of(window).eventFilter(window, Close(spontaneous=True))


def test_cancel_keeps_the_window_open_and_the_run_going(
    viewer, qtbot, monkeypatch, asked, started, held, rng
):
    viewer.add_image(rng.normal(100, 10, SHAPE).astype(np.float32), name="scan")
    dock = running(viewer, qtbot)
    closed = close_window(viewer, monkeypatch, asked, "stay")
    qtbot.wait(50)
    assert dock.activity.busy == "run"
    assert (closed, index.list_jobs(), started) == ([], [], [])
    # The question is asked again the next time.
    close_window(viewer, monkeypatch, asked, "stay")
    assert len(asked) == 2
    dock.activity.cancel()
    qtbot.waitUntil(lambda: dock.activity.busy == "", timeout=30_000)
    window = viewer.window._qt_window
    assert not closing_of(window).eventFilter(window, Close(spontaneous=True))


def test_a_layer_in_memory_is_written_into_its_job(
    viewer, qtbot, monkeypatch, asked, started, held, rng
):
    data = rng.normal(100, 10, SHAPE).astype(np.float32)
    viewer.add_image(data, name="scan", scale=(2, 1, 1), units="um")
    running(viewer, qtbot)
    closed = close_window(viewer, monkeypatch, asked, "close")
    qtbot.waitUntil(lambda: closed != [], timeout=60_000)
    (status,) = index.list_jobs()
    job = JobFolder(status.path)
    tiles = [s for s in run_steps(job) if isinstance(s, TileDone)]
    assert 0 < len(tiles) < status.total
    result = io.read(job.status().result)
    assert (result.voxel_size, result.unit) == ((2.0, 1.0, 1.0), "µm")
    assert np.isfinite(np.asarray(result.data)).all()


def test_what_cannot_be_kept_leaves_the_window_open(
    viewer, qtbot, monkeypatch, asked, started, held, rng, tmp_path
):
    viewer.add_image(rng.normal(100, 10, SHAPE).astype(np.float32), name="scan")
    dock = running(viewer, qtbot)
    taken = tmp_path / "no folder"
    taken.write_text("")
    dock.activity.handover.folder = taken
    closed = close_window(viewer, monkeypatch, asked, "close")
    qtbot.waitUntil(lambda: "cannot be created" in dock.message.text, timeout=60_000)
    qtbot.wait(30)
    assert closed == []
    assert not closing_of(viewer.window._qt_window).is_handing_over
    # The finished part is kept, and can be resumed in its layer.
    assert dock.activity.unfinished() is not None


def endless_writing(monkeypatch):
    """Writing layers into a job never ends."""
    begun = []

    def write(volume, path, should_stop):
        path.mkdir(parents=True)
        begun.append(path)
        while not should_stop():
            time.sleep(0.005)
        raise Cancelled("Stopped.")

    monkeypatch.setattr(_jobs_handover, "write_into_job", write)
    return begun


@pytest.mark.parametrize("answer", ["close", SLOW_PAUSE])
def test_closing_again_offers_a_way_out(
    viewer, qtbot, monkeypatch, asked, started, held, rng, answer
):
    viewer.add_image(rng.normal(100, 10, SHAPE).astype(np.float32), name="scan")
    dock = running(viewer, qtbot)
    begun = endless_writing(monkeypatch)
    closed = close_window(viewer, monkeypatch, asked, answer)
    qtbot.waitUntil(lambda: len(begun) == 1, timeout=60_000)
    window = viewer.window._qt_window
    closing = closing_of(window)
    texts = []
    for button in ("Wait", "Stop saving"):

        def exec_(box, button=button):
            texts.append(box.text())
            names = {b.text().replace("&", ""): b for b in box.buttons()}
            names[button].click()

        monkeypatch.setattr(QMessageBox, "exec", exec_)
        assert closing.eventFilter(window, Close(spontaneous=True))
        qtbot.wait(100)
        assert closing.is_handing_over == (button == "Wait")
    assert texts == ["Restoring scan is still being saved as a job."] * 2
    assert "not moved to the background" in dock.message.text
    assert closed == []
    assert index.list_jobs() == []
    assert list(dock.activity.handover.folder.iterdir()) == []
    # The finished part is kept, and can be resumed in its layer.
    assert dock.activity.unfinished() is not None


def test_every_window_knows_that_runs_are_leaving(
    viewer, qtbot, monkeypatch, asked, started, held, rng, make_napari_viewer
):
    viewer.add_image(rng.normal(100, 10, SHAPE).astype(np.float32), name="scan")
    running(viewer, qtbot)
    begun = endless_writing(monkeypatch)
    other = closing_of(make_napari_viewer().window._qt_window)
    monkeypatch.setattr(_closing, "ask_about_runs", lambda *_: "close")
    first = closing_of(viewer.window._qt_window)
    assert other.ask(everywhere=True) == "close"
    other.hand_over_and_close("close", lambda: None, everywhere=True)
    qtbot.waitUntil(lambda: len(begun) == 1, timeout=60_000)
    assert first.is_handing_over
    assert other.is_handing_over
    monkeypatch.setattr(_closing, "ask_about_handovers", lambda *_: True)
    first.ask_to_wait()
    qtbot.waitUntil(lambda: not other.is_handing_over, timeout=10_000)
    assert not first.is_handing_over


@pytest.mark.parametrize("answer", ["close", SLOW_PAUSE])
def test_a_reconstruction_goes_on_as_a_job(
    viewer, qtbot, tmp_path, monkeypatch, asked, started, answer
):
    from napari_geosr.gui.reconstruct import steps as _steps

    run = _steps.run_steps

    def waiting(ready, *, unfinished, should_stop):
        done = 0
        made = run(ready, unfinished=unfinished, should_stop=should_stop)
        with StepIterator(made) as steps:
            for step in steps:
                yield step
                done += isinstance(step, TileDone)
                while done and not should_stop():
                    time.sleep(0.01)
                    yield Step()  # bundles are sent on with the next step
        return steps.result

    monkeypatch.setattr(_steps, "run_steps", waiting)
    dock = opened_scan(viewer, scan_file(tmp_path))
    idle(dock, qtbot)
    dock.run_button.click()
    qtbot.waitUntil(lambda: dock.activity.busy == "run", timeout=60_000)
    qtbot.waitUntil(lambda: dock.activity.target() is not None, timeout=60_000)
    closed = close_window(viewer, monkeypatch, asked, answer)
    assert len(asked) == 1
    assert asked[0][0].startswith("Reconstructing")
    qtbot.waitUntil(lambda: closed != [], timeout=60_000)
    (status,) = index.list_jobs()
    assert started == ([status.path] if answer == "close" else [])
    assert (status.operation, status.state) == ("reconstruct", "paused")
    run_to_end(run_steps(JobFolder(status.path)))
    assert JobFolder(status.path).status().state == "done"


@pytest.mark.parametrize("answer", ["close", "pause"])
def test_a_measurement_starts_again_as_a_job_or_stops(
    viewer, qtbot, monkeypatch, asked, started, rng, answer
):
    from napari_geosr.gui.porosity import measuring as _measuring

    def endless(volumes, config, mask, *, deviation, should_stop):
        while not should_stop():
            time.sleep(0.005)
            yield BlockDone(1, 2)
        raise Cancelled("Stopped.")

    monkeypatch.setattr(_measuring, "measure_several_steps", endless)
    data = rng.normal(100, 5, (24, 30, 30)).astype(np.float32)
    data[8:14, 8:14, 8:14] = 20
    viewer.add_image(data, name="foam", units="um")
    dock = open_dock(viewer, qtbot)
    wait_for_levels(dock, qtbot)
    dock.measure_button.click()
    qtbot.waitUntil(lambda: dock.progress.value() == 1)
    closed = close_window(viewer, monkeypatch, asked, answer)
    assert asked == [["Measuring foam"]]
    qtbot.waitUntil(lambda: closed != [], timeout=60_000)
    jobs = index.list_jobs()
    if answer == "pause":
        assert (jobs, started) == ([], [])
        return
    assert started == [jobs[0].path]
    run_to_end(run_steps(JobFolder(jobs[0].path)))
    assert JobFolder(jobs[0].path).status().state == "done"


class Run:
    """A layer as in a dock."""

    description, remark = "Restoring foam", "In the background, it continues."
    can_keep_part = True


def test_the_question_has_three_answers(viewer, monkeypatch):
    texts = []
    for label, answer in (("Keep", "close"), ("Stop", "pause"), ("Cancel", "stay")):

        def exec_(box, label=label):
            names = [b.text().replace("&", "") for b in box.buttons()]
            texts.append((box.text(), names))
            found = dict(zip(names, box.buttons(), strict=True))
            next(b for name, b in found.items() if name.startswith(label)).click()

        monkeypatch.setattr(QMessageBox, "exec", exec_)
        window = viewer.window._qt_window
        assert _closing.ask_about_runs([Run()], [], [], window) == answer
    text, names = texts[0]
    assert text == "Restoring foam has not finished."
    assert "Keep running in the background" in names
    assert "Stop and keep finished part" in names
    assert len(names) == 3


def test_what_ends_with_the_window_is_asked_about(viewer, qtbot, monkeypatch, asked):
    dock = opened(viewer)

    def endless(should_stop):
        while not should_stop():
            time.sleep(0.005)
            yield Step()
        raise Cancelled("Stopped.")

    task = _handover.BackgroundTask(
        endless, owner=dock, description="Saving foam.ome.tif"
    )
    try:
        closed = close_window(viewer, monkeypatch, asked, "close")
        assert asked == [["Saving foam.ome.tif"]]
        assert closed == ["close"]
    finally:
        task.cancel()
        qtbot.waitUntil(lambda: not task.is_running, timeout=10_000)


SCRIPT = """
import sys, time
import napari
from napari._qt import qt_main_window
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QMessageBox
from window_button import press_close_button

file, way = sys.argv[1:]
from napari_geosr.gui.restore.verdict import panel
from napari_geosr.gui.restore.verdict.activity import VerdictActivity
panel.confirm_harmful_run = lambda *_: True  # nobody is there to be asked
VerdictActivity._next = lambda _: ""
VerdictActivity.has_verdict = property(lambda _: True)
from held_runs import hold_runs
from pytest import MonkeyPatch
hold_runs(MonkeyPatch())

def napari_asks(*_args, **_how):
    print("napari asked", flush=True)
    raise SystemExit(3)

qt_main_window.ConfirmCloseDialog = napari_asks

def exec_(box):
    print("asked", box.text(), flush=True)
    found = {b.text().replace("&", ""): b for b in box.buttons()}
    found["Keep running in the background"].click()

QMessageBox.exec = exec_
viewer = napari.Viewer()
viewer.open(file, plugin="napari-geosr")
from opening import opened
dock = opened(viewer)
dock.form.set_values({"threads": 1})
shown = []
dock.activity.progressed.connect(lambda stage, *_: shown.append(stage))
dock.run_button.click()

def watch():
    if "tiles" not in shown:
        return
    timer.stop()
    assert dock.activity.busy == "run"
    global began
    began = time.perf_counter()
    if way == "button":
        press_close_button(viewer.window._qt_window)
    else:
        viewer.close()

timer = QTimer()
timer.timeout.connect(watch)
timer.start(10)
napari.run()
print(f"ended {time.perf_counter() - began:.2f} s", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["button", "script"])
def test_the_job_goes_on_when_napari_has_ended(tmp_path, monkeypatch, way):
    file = file_of(tmp_path)
    command = [sys.executable, "-X", "faulthandler", "-c", SCRIPT, str(file), way]
    began = time.monotonic()
    done = subprocess.run(
        command,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    print(done.stdout, f"{time.monotonic() - began:.1f} s in all")
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert "napari asked" not in done.stdout
    if way == "script":
        assert "asked" not in done.stdout
        assert index.list_jobs() == []
        return
    assert done.stdout.count("asked Restoring scan has not finished.") == 1
    (status,) = index.list_jobs()
    job = JobFolder(status.path)
    deadline = time.monotonic() + 300
    while job.status().is_alive:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    status = job.status()
    assert status.state == "done", (job.path / "log.txt").read_text()
    many_tiles(monkeypatch)  # the same as in the run
    config = operation.RestoreConfig(threads=1)
    whole = run_to_end(operation.restore_steps(io.read(file), config)).volume
    np.testing.assert_array_equal(io.read(status.result).data, whole.data)
