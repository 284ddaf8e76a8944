"""The Jobs dock with job folders as left by processes, in real napari."""

from __future__ import annotations

import shutil
import socket

import numpy as np
import psutil
import pytest
from event_loop import Turns
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractButton, QFileDialog, QMessageBox
from train_helpers import JOBS, TRAIN, opened, preview_layer

from napari_geosr import io
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.watch import JobWatch
from napari_geosr.gui.kit.plots.loss_plot import Line, downsample
from napari_geosr.jobs import index, local
from napari_geosr.jobs.folder import JobFolder


def make_job(folder, name: str, state: str, *, n: int = 20, **facts) -> JobFolder:
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    job = JobFolder.create(folder / name, values, name=name)
    for step in range(10, 10 * n + 1, 10):
        losses = {"loss": 1 / step, "validation": 2 / step}
        job.append(
            "progress",
            step=step,
            total=1000,
            losses=losses,
            seconds_left=90.0,
            memory=2 * 10**9,
            images_per_second=12.0,
        )
    job.set_state(state, done=10 * n, total=1000, **facts)
    index.register(job)
    return job


def listed(dock) -> dict[str, str]:
    return {item.text(0): item.text(1) for item in dock._items()}


def test_all_jobs_are_listed_and_one_is_shown(viewer, qtbot, tmp_path):
    make_job(tmp_path, "old", "paused")
    # Its process has disappeared: the number belongs to no process.
    make_job(tmp_path, "torn", "running", pid=2**22 + 1, host="")
    make_job(tmp_path, "sick", "failed", message="The loss is no number.")
    make_job(tmp_path, "next", "queued")
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: len(listed(dock)) == 4, timeout=10_000)
    assert listed(dock)["next"] == "waiting"
    assert listed(dock)["old"] == "paused"
    items = {item.text(0): item for item in dock._items()}
    dock.tree.setCurrentItem(items["sick"])
    qtbot.waitUntil(lambda: dock.view.state == "failed", timeout=5000)
    assert "no number" in dock.view.message.text
    assert dock.view.resume_button.isEnabled()
    assert not dock.view.pause_button.isEnabled()
    dock.tree.setCurrentItem(items["old"])
    qtbot.waitUntil(lambda: dock.view.state == "paused", timeout=5000)
    assert dock.view.plot.names() == ["training", "validation"]
    items["sick"].setSelected(True)
    qtbot.waitUntil(
        lambda: dock.view.plot.names() == ["old", "", "sick", ""], timeout=5000
    )
    assert not dock.remove_button.isEnabled()


def test_a_training_has_its_buttons_and_nothing_else(viewer, qtbot, tmp_path):
    make_job(tmp_path, "mine", "paused")
    view = opened(viewer, JOBS).view
    qtbot.waitUntil(lambda: view.state == "paused", timeout=10_000)
    for part in (view.use_button, view.tune_button, view.finish_button, view.plot):
        assert not part.isHidden(), part.accessibleName()
    assert view.show_button.isHidden()


def test_without_jobs_the_dock_says_what_to_do(viewer, qtbot, tmp_path):
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: "No jobs yet" in dock.bar.state.text())
    assert "Jobs from Train" in dock.empty.text()
    assert "add its folder" in dock.empty.text()
    shown = [b for b in dock.findChildren(QAbstractButton) if b.isVisibleTo(dock)]
    assert {b.accessibleName() for b in shown if b.isEnabled()} == {
        "Train…",
        "Add job…",
        "Add computer…",
    }
    assert [b.accessibleName() for b in shown if not b.isEnabled()] == []
    assert dock.train_button.property("primary")
    assert not dock.empty.isHidden()
    assert not dock.train_button.isHidden()
    for part in (dock.tree, dock.remove_button, dock.view.plot, dock.view.folder_row):
        assert part.isHidden(), part.accessibleName()
    make_job(tmp_path, "mine", "paused")
    qtbot.waitUntil(lambda: dock.view.state == "paused", timeout=10_000)
    assert dock.view.resume_button.isVisibleTo(dock)
    assert not dock.train_button.property("primary")
    assert dock.view.resume_button.property("primary")
    index.remove(JobFolder(tmp_path / "mine"))
    qtbot.waitUntil(lambda: not dock.empty.isHidden(), timeout=10_000)
    assert dock.train_button.property("primary")
    assert not dock.view.next_button.property("primary")


@pytest.mark.parametrize(
    ("operation", "method", "what", "said", "column"),
    [
        ("restore", "tv", None, "Working… 24 of 200 tiles done.", "12 %"),
        (
            "reconstruct",
            "sirt",
            "iteration 3 of 25",
            "Working… iteration 3 of 25, 12 % done.",
            "12 %",
        ),
        ("measure", "otsu", None, "Working… 12 % done.", "12 %"),
    ],
)
def test_numbers_have_a_unit(
    viewer, qtbot, tmp_path, operation, method, what, said, column
):
    values = {"operation": operation, "method": method}
    job = JobFolder.create(tmp_path / "job", values, name="job")
    job.append("stage", message="Working")
    more = {} if what is None else {"what": what}
    job.append("progress", step=24, total=200, losses={}, **more)
    own = psutil.Process()
    facts = {"pid": own.pid, "host": socket.gethostname()}
    job.set_state("running", done=24, total=200, started=own.create_time(), **facts)
    index.register(job)
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: dock.view.state == "running", timeout=10_000)
    assert dock.view.state_label.text() == said
    assert dock._items()[0].text(2) == column


def test_one_odd_job_stops_no_dock(viewer, qtbot, tmp_path):
    make_job(tmp_path, "whole", "paused")
    odd = make_job(tmp_path, "odd", "paused")
    (odd.path / "job.json").write_text('{"state": [], "total": "x", "created": 1e400}')
    with (odd.path / "events.jsonl").open("a") as stream:
        stream.write('{"time": 1, "event": "progress", "step": null}\n')
    lost = make_job(tmp_path, "lost", "paused")
    (lost.path / "config.yaml").write_text("operation: [")
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: len(listed(dock)) == 3, timeout=10_000)
    assert listed(dock)["lost"] == "unreadable"
    for name, state in {"odd": "damaged", "lost": "unreadable"}.items():
        (item,) = (item for item in dock._items() if item.text(0) == name)
        dock.tree.setCurrentItem(item)
        qtbot.waitUntil(lambda state=state: dock.view.state == state, timeout=5000)
    assert "config.yaml" in dock.view.message.text
    assert not dock.view.resume_button.isEnabled()


def test_a_moved_job_is_said_to_be_gone_until_it_is_added(
    viewer, qtbot, tmp_path, monkeypatch
):
    job = make_job(tmp_path, "lost", "paused")
    gone = make_job(tmp_path, "gone", "paused")
    now = tmp_path / "elsewhere"
    shutil.move(job.path, now)
    shutil.rmtree(gone.path)
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: len(listed(dock)) == 2, timeout=10_000)
    assert set(listed(dock).values()) == {"gone or moved"}
    assert dock.view.job is None
    items = {item.text(0): item for item in dock._items()}
    dock.tree.setCurrentItem(items["lost"])
    assert "deleted or moved" in dock.message.text
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("a: 1")
    chosen = [tmp_path / "other", now]
    ask = "getExistingDirectory"
    monkeypatch.setattr(QFileDialog, ask, lambda *_: str(chosen.pop(0)))
    dock.add_button.click()
    assert "was not added" in dock.message.text
    dock.add_button.click()
    assert dock.view.job == now
    expected = {"lost": "paused", "gone": "gone or moved"}
    qtbot.waitUntil(lambda: listed(dock) == expected, timeout=10_000)
    assert dock.message.text == ""
    (item,) = (item for item in dock._items() if item.text(0) == "gone")
    dock.tree.setCurrentItem(item)
    asked = []

    def question(*arguments):
        asked.append(arguments[2])
        return QMessageBox.StandardButton.Yes

    monkeypatch.setattr(QMessageBox, "question", question)
    dock.remove_button.click()
    qtbot.waitUntil(lambda: listed(dock) == {"lost": "paused"}, timeout=10_000)
    assert "from the list" in asked[0]


@pytest.mark.parametrize("name", [TRAIN, JOBS])
def test_an_interrupted_job_is_offered(viewer, qtbot, tmp_path, monkeypatch, name):
    begun = []
    monkeypatch.setattr(local, "start", lambda job: begun.append(job.path))
    host = socket.gethostname()
    job = make_job(tmp_path, "torn", "running", pid=1, host=host, started=1.0)
    dock = opened(viewer, name)
    qtbot.waitUntil(lambda: not dock.offer.isHidden(), timeout=10_000)
    assert "torn was interrupted at step 200 of 1000" in dock.offer.label.text()
    dock.offer.button.click()
    qtbot.waitUntil(lambda: begun == [job.path], timeout=10_000)
    assert dock.view.job == job.path
    assert dock.offer.isHidden()


def test_what_a_running_job_warns_of_is_shown_once(viewer, qtbot, tmp_path):
    job = make_job(tmp_path, "new", "queued")
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: dock.view.state == "queued", timeout=10_000)
    assert dock.view.message.text == ""
    for message in ("Taken as slices.", "Taken as slices.", "Few slices."):
        job.append("warning", message=message)
    said = "Caution: Taken as slices. Few slices."
    qtbot.waitUntil(lambda: dock.view.message.text == said, timeout=10_000)
    dock.view.message.clear()  # like later messages
    qtbot.wait(700)
    assert dock.view.message.text == ""


def test_deleting_asks_first(viewer, qtbot, tmp_path, monkeypatch):
    job = make_job(tmp_path, "old", "paused")
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: dock.view.job == job.path, timeout=10_000)
    buttons = QMessageBox.StandardButton
    answers = [buttons.No, buttons.Yes]
    monkeypatch.setattr(QMessageBox, "question", lambda *_: answers.pop(0))
    dock.remove_button.click()
    assert job.path.is_dir()
    dock.remove_button.click()
    qtbot.waitUntil(lambda: listed(dock) == {}, timeout=10_000)
    assert not job.path.exists()
    assert dock.view.job is None
    assert not dock.view.resume_button.isEnabled()


def test_a_preview_lies_in_its_place_until_it_is_sent_away(viewer, qtbot, tmp_path):
    job = make_job(tmp_path, "torn", "paused")
    job.preview.parent.mkdir()
    volume = Volume(np.ones((1, 8, 9), np.float32), "ZYX", (2, 1, 1), "µm", (6, 3, 4))
    io.write(volume, job.preview)
    job.append("preview", step=100)
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: preview_layer(viewer) is not None, timeout=10_000)
    layer = preview_layer(viewer)
    np.testing.assert_allclose(layer.translate, (6, 3, 4))
    np.testing.assert_allclose(layer.scale, (2, 1, 1))
    assert str(layer.units[0]) == "micrometer"
    io.write(volume.replace(data=volume.data + 1), job.preview, overwrite=True)
    job.append("preview", step=200)
    qtbot.waitUntil(lambda: float(layer.data.max()) == 2, timeout=10_000)
    assert preview_layer(viewer) is layer
    viewer.layers.remove(layer)
    job.append("preview", step=300)
    qtbot.wait(1500)
    assert preview_layer(viewer) is None
    dock.view.show_preview.setChecked(False)
    dock.view.show_preview.setChecked(True)
    qtbot.waitUntil(lambda: preview_layer(viewer) is not None, timeout=10_000)


def test_the_events_of_a_night_do_not_stop_the_window(viewer, qtbot, tmp_path):
    n = 20_000
    job = make_job(tmp_path, "night", "paused", n=3)
    line = (job.path / "events.jsonl").read_text().splitlines()[0]
    with (job.path / "events.jsonl").open("a") as stream:
        for step in range(40, 40 + n):
            stream.write(line.replace('"step": 10', f'"step": {step}') + "\n")
    dock = opened(viewer, JOBS)
    with Turns() as turns:
        qtbot.waitUntil(lambda: dock.view.plot.n_points() >= n, timeout=60_000)
    assert turns.count > 3


def test_steps_lost_to_a_crash_leave_the_curve(tmp_path):
    job = make_job(tmp_path, "torn", "paused")
    job.append("progress", step=105, total=1000, losses={"loss": 0.5})
    watch = JobWatch(job.path)
    while watch.read():
        pass
    assert watch.curves["loss"].steps == [*range(10, 101, 10), 105]
    assert watch.curves["loss"].values[-1] == 0.5


def test_a_wish_that_was_lost_is_said_again(tmp_path):
    import os
    import socket

    import psutil

    job = make_job(tmp_path, "new", "queued")
    watch = JobWatch(job.path)
    watch.request("pause")
    job.clear_request()  # like a starting process
    facts = {"pid": os.getpid(), "host": socket.gethostname()}
    job.set_state("running", started=psutil.Process().create_time(), **facts)
    watch.read()
    assert job.pending_request() == "pause"
    job.clear_request()
    job.set_state("paused")
    watch.read()
    assert (watch.pending_request, job.pending_request()) == ("", "")


def test_long_curves_are_drawn_with_few_points():
    steps = np.arange(1, 100_001)
    x, y = downsample(Line("a", steps, 1 / steps))
    assert len(x) == len(y) <= 400
    assert x[0] < 200
    assert (np.diff(y) < 0).all()
    x, y = downsample(Line("critic", [1, 2, 3], [-1.0, 0.0, 2.0]))
    assert y.tolist() == [-1.0, 0.0, 2.0]
    values = np.where((steps > 4e4) & (steps < 5e4), np.inf, -1.0)
    x, y = downsample(Line("critic", steps, values))
    assert np.isnan(y[(x > 4.1e4) & (x < 4.9e4)]).all()
    assert np.isfinite(y).sum() > 350


def test_files_of_others_are_named_and_kept(viewer, qtbot, tmp_path, monkeypatch):
    job = make_job(tmp_path, "old", "paused")
    (job.path / "thesis.docx").write_text("x")
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: dock.view.job == job.path, timeout=10_000)
    asked = []

    def question(*arguments):
        asked.append(arguments[2])
        return QMessageBox.StandardButton.Yes

    monkeypatch.setattr(QMessageBox, "question", question)
    dock.remove_button.click()
    qtbot.waitUntil(lambda: listed(dock) == {}, timeout=10_000)
    assert "Files that do not belong to the job are kept: thesis.docx." in asked[0]
    assert [path.name for path in job.path.iterdir()] == ["thesis.docx"]


def test_names_that_differ_at_their_end_look_different(viewer, qtbot, tmp_path):
    names = [f"cement_128x128x128_ct-denoise{end}" for end in ("", "-2")]
    for name in names:
        make_job(tmp_path, name, "paused")
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: len(listed(dock)) == 2)
    assert dock.tree.textElideMode() == Qt.TextElideMode.ElideMiddle
    width = 120
    shown = {
        dock.tree.fontMetrics().elidedText(name, dock.tree.textElideMode(), width)
        for name in listed(dock)
    }
    assert len(shown) == 2
    assert all("…" in text for text in shown)
    for item in dock._items():
        assert item.text(0) in item.toolTip(0)
    qtbot.waitUntil(lambda: dock.view.title.text() != "")
    assert dock.view.title.toolTip() == dock.view.title.text()
