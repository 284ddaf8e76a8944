"""Study projections: a separate job, followed in the dock, and found again later."""

from __future__ import annotations

import json
import os
import socket

import numpy as np
import psutil
import pytest
from opening import filled
from tomography_helpers import opened, scan_file

from napari_geosr.gui import study as _study_box
from napari_geosr.gui.jobs import queue_actions
from napari_geosr.gui.jobs.texts import state_text
from napari_geosr.gui.kit.closing import closing_of
from napari_geosr.gui.layers.projections import opened_scan
from napari_geosr.gui.study import start as _study_start
from napari_geosr.gui.study.plot import StudyPlot
from napari_geosr.gui.study.widgets import StudyResult
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.study.config import counts_for
from napari_geosr.operations.study.job import StudyInput, StudyJob

ROWS = 12


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return scan_file(tmp_path_factory.mktemp("scan"), rows=ROWS)


@pytest.fixture
def urls(monkeypatch):
    """Pages that were opened in the browser."""
    found = []

    def note(url):
        found.append(url.toLocalFile())

    monkeypatch.setattr(_study_box.QDesktopServices, "openUrl", note)
    return found


@pytest.fixture
def started(monkeypatch):
    """Jobs that would be started; no process is started."""
    found = []

    def note(job):
        found.append(job.path)
        index.register(job)
        return 1

    for module in (_study_start, queue_actions):
        monkeypatch.setattr(module.local, "start", note)
    return found


def study_of(viewer, path, qtbot, folder, **settings):
    """The panel for a scan, after it has searched for an earlier study."""
    dock = opened(viewer, path)
    dock.centre.set_value(26.3)
    box = dock.study
    box.folder.set_path(folder)
    dock.study_section.set_open(True)
    qtbot.waitUntil(lambda: not box.activity.busy, timeout=30_000)
    above = {"counts": "10, 20", "algorithms": "fbp"}
    box.above.set_values(above | settings)
    box.more.set_values({"tune": False, "sample": "circle", "min_voxels": 1})
    return dock, box


def earlier(path, folder, **settings) -> JobFolder:
    """A study of the scan that has not started yet."""
    values = {"counts": (10, 20), "algorithms": ("fbp",)} | settings
    job = StudyJob.from_values({"data": {"projections": path}, "settings": values})
    made = JobFolder.create(folder, job.to_values(), name="study of discs")
    index.register(made)
    return made


def run(job: JobFolder, **facts) -> None:
    """Make this process appear to be running a job."""
    mine = {"pid": os.getpid(), "host": socket.gethostname()}
    born = psutil.Process().create_time()
    job.set_state("running", started=born, **(mine | facts))


def finish_cell(job: JobFolder, count: int, **figures) -> None:
    """Write a row as a study does."""
    cells = job.path / "result" / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    row = {"projections": count, "algorithm": "fbp", "title": "FBP", **figures}
    (cells / f"{count}-fbp.json").write_text(json.dumps(row))


@pytest.mark.slow
def test_a_study_runs_by_itself_and_opens_its_report(
    viewer, qtbot, path, tmp_path, urls
):
    dock, box = study_of(viewer, path, qtbot, tmp_path, acquisition="continuous")
    n = opened_scan(dock.layer_combo.layer()).scan.n_columns
    truth = np.random.default_rng(0).normal(1, 0.1, (ROWS, n, n)).astype(np.float32)
    truth[:, 20:24, 20:24] = 0
    reference = viewer.add_image(truth, name="truth", scale=(3, 2, 2), units="um")
    marked = np.zeros(truth.shape, bool)
    marked[:, 10:40, 10:40] = True
    mask = viewer.add_labels(marked.astype(np.int64), name="inside")
    assert [box.mask.itemText(i) for i in range(1, 3)] == ["truth", "inside"]
    box.reference.set_layer(reference)
    box.mask.set_layer(mask)
    box.factors.set_values({"scan_hours": 2.0})
    box.start_button.click()
    assert box.is_running
    qtbot.waitUntil(lambda: box.job is not None, timeout=60_000)
    assert box.job == tmp_path / "discs"
    values = JobFolder(box.job).values()
    assert (values["operation"], values["data"]["projections"]) == (
        "study projections",
        str(path),
    )
    written = np.asarray(StudyInput.create(**values["data"]).open()[2].data)
    np.testing.assert_array_equal(written != 0, marked)
    assert box.job in closing_of(box)._jobs
    qtbot.waitUntil(lambda: not box.is_running, timeout=150_000)
    assert "study is done" in dock.message.text, (box.job / "log.txt").read_text()
    assert str(tmp_path) not in dock.message.text
    assert box.report == tmp_path / "discs" / "result" / "report.html"
    assert urls == [str(box.report)]
    assert box.report_button.isEnabled()
    assert "correct porosity" in box.stage.text()
    assert box.result.table.topLevelItemCount() == 2
    assert [x for x, _ in box.result.plot.curves()["FBP"]] == [10, 20]
    kept = json.loads((tmp_path / "discs" / "result" / "study.json").read_text())
    assert kept["settings"]["centre"] == 26.3
    assert kept["settings"]["acquisition"] == "continuous"
    assert kept["settings"]["scan_hours"] == 2
    assert kept["reference"]["is_truth"] is True


def test_curves_of_one_algorithm_share_a_colour(qtbot):
    plot = StudyPlot()
    qtbot.addWidget(plot)

    def row(title, projections, exposure):
        return {
            "title": title,
            "projections": projections,
            "exposure": exposure,
            "dice": exposure * projections / 100,
        }

    rows = [row(t, n, e) for t in ("FBP", "TV") for n in (30, 60) for e in (1, 0.1)]
    plot.set_rows(rows, "dice")
    assert list(plot.curves()) == ["FBP", "FBP at 10 %", "TV", "TV at 10 %"]
    assert plot.curves()["TV at 10 %"] == [(30, 0.03), (60, 0.06)]
    pens = {title: plot.pen(title) for title in plot.curves()}
    assert pens["TV"].color() == pens["TV at 10 %"].color() != pens["FBP"].color()
    assert pens["FBP"].style() == pens["TV"].style() != pens["TV at 10 %"].style()
    plot.set_rows([r for r in rows if r["projections"] == 30], "dice", None, True)
    assert [x for x, _ in plot.curves()["FBP"]] == [10, 100]
    assert "% of the exposure" in plot.accessibleDescription()
    plot.grab()


def test_the_table_shows_all_rows_and_whole_columns(qtbot):
    result = StudyResult()
    qtbot.addWidget(result)
    figures = {"porosity": 0.386, "porosity_error": 0.689, "psnr": 17.2}
    rows = [
        {"projections": n, "exposure": 1.0, "title": title, **figures}
        for n in range(20, 80, 10)
        for title in ("FBP", "SIRT", "TV")
    ]
    result.set_rows(rows, 0.05)
    result.resize(420, result.sizeHint().height())
    result.show()
    table = result.table
    qtbot.waitUntil(lambda: table.verticalScrollBar().maximum() == 0)
    assert not any(table.isColumnHidden(column) for column in range(5))
    result.resize(240, result.sizeHint().height())
    qtbot.waitUntil(lambda: table.isColumnHidden(4))
    assert not table.isColumnHidden(3)
    assert table.horizontalScrollBar().maximum() == 0


@pytest.mark.slow
def test_a_study_that_runs_is_found_again(viewer, qtbot, path, tmp_path, urls):
    job = earlier(path, tmp_path / "old", counts=(10, 15, 20), scan_hours=3.0)
    run(job)
    job.append("stage", message="2 of 3: FBP, 15 projections")
    finish_cell(job, 10, porosity=0.21, porosity_error=-0.3, psnr=9.5)
    dock = opened(viewer, path)
    box = dock.study
    dock.study_section.set_open(True)
    qtbot.waitUntil(lambda: box.job == job.path, timeout=30_000)
    qtbot.waitUntil(lambda: box.result.isVisibleTo(box))
    assert not box.start_button.isEnabled()
    assert box.above.values()["counts"] == "10, 15, 20"
    assert box.factors.values()["scan_hours"] == 3
    assert "15 projections… 1 of 3 reconstructions done" in box.stage.text()
    assert (box.progress.value(), box.progress.maximum()) == (1, 3)
    item = box.result.table.topLevelItem(0)
    texts = [item.text(i) for i in range(5)]
    assert texts == ["10", "FBP", "21.0 %", "\N{MINUS SIGN}30.0 %", "9.5"]
    # Closing the window asks about it, as about a training.
    assert job.path in closing_of(box)._jobs
    box.pause_button.click()
    assert job.pending_request() == "pause"
    assert not box.pause_button.isEnabled()
    finish_cell(job, 15, porosity=0.2, porosity_error=0.1)
    job.set_state("paused")
    qtbot.waitUntil(box.resume_button.isEnabled, timeout=10_000)
    assert box.result.table.topLevelItemCount() == 2
    assert box.start_button.isEnabled()
    assert urls == []


def test_what_was_stopped_goes_on_as_it_was(viewer, qtbot, path, tmp_path, started):
    job = earlier(path, tmp_path / "old")
    job.set_state("interrupted")
    dock = opened(viewer, path)
    box = dock.study
    dock.study_section.set_open(True)
    qtbot.waitUntil(box.resume_button.isEnabled, timeout=30_000)
    box.resume_button.click()
    qtbot.waitUntil(lambda: started == [job.path], timeout=30_000)


def test_more_numbers_are_added_and_other_settings_start_anew(
    viewer, qtbot, path, tmp_path, started
):
    _, box = study_of(viewer, path, qtbot, tmp_path)
    box.start_button.click()
    qtbot.waitUntil(lambda: len(started) == 1 and not box.activity.busy, timeout=60_000)
    first = JobFolder(started[0])
    finish_cell(first, 10, porosity=0.2, porosity_error=0.1)
    (first.path / "result" / "report.html").write_text("")
    first.set_state("done", pid=0, result="result/report.html")
    qtbot.waitUntil(lambda: box.start_button.isEnabled(), timeout=10_000)
    box.above.set_values({"counts": "10, 20, 30"})
    box.start_button.click()
    qtbot.waitUntil(lambda: len(started) == 2 and not box.activity.busy, timeout=60_000)
    assert started[1] == first.path
    assert first.values()["settings"]["counts"] == [10, 20, 30]
    assert first.status().can_resume
    assert box.result.table.topLevelItemCount() == 1
    box.more.set_values({"threshold": "li"})
    box.start_button.click()
    qtbot.waitUntil(lambda: len(started) == 3 and not box.activity.busy, timeout=60_000)
    assert started[2] == tmp_path / "discs-2"
    assert first.values()["settings"]["threshold"] == "otsu"


def test_what_cannot_be_studied_is_refused(viewer, qtbot, path, tmp_path, started):
    dock, box = study_of(viewer, path, qtbot, tmp_path, algorithms="magic")
    with qtbot.waitSignal(box.faulty):
        box.start_button.click()
    assert "'magic' is unknown" in box.above.faults["algorithms"]
    assert not box.is_running
    box.above.set_values({"algorithms": "fbp", "counts": "100"})
    with qtbot.waitSignal(box.faulty, timeout=60_000):
        box.start_button.click()
    assert "60 projections" in box.above.faults["counts"]
    qtbot.waitUntil(lambda: not box.is_running)
    box.above.set_values({"counts": "10"})
    mask = viewer.add_labels(np.ones((ROWS, 5, 5), int), name="small")
    box.mask.set_layer(mask)
    with qtbot.waitSignal(box.faulty, timeout=60_000):
        box.start_button.click()
    (said,) = box.layer_faults.texts.values()
    assert f"The mask 'small' has shape {ROWS} × 5 × 5" in said
    mask.rotate = (0, 0, 90)
    with qtbot.waitSignal(box.faulty, timeout=60_000):
        box.start_button.click()
    (said,) = box.layer_faults.texts.values()
    assert "The mask 'small' is rotated" in said
    box.mask.setCurrentIndex(0)
    qtbot.waitUntil(lambda: not box.layer_faults.texts)
    assert not dock.message.text
    assert list(tmp_path.iterdir()) == started == []


def test_the_list_of_jobs_speaks_of_a_study(viewer, qtbot, path, tmp_path):
    job = earlier(path, tmp_path / "old", counts=(10, 15, 20))
    run(job, done=1, total=3)
    job.append("stage", message="2 of 3: FBP, 15 projections")
    dock = opened(viewer, path)
    qtbot.waitUntil(lambda: dock.study.job == job.path, timeout=30_000)
    dock.study.jobs_button.click()
    (name,) = [n for n in viewer.window.dock_widgets if "Jobs" in n]
    jobs = filled(viewer.window.dock_widgets[name])
    qtbot.waitUntil(lambda: jobs.view.state == "running", timeout=30_000)
    text = state_text(jobs.view._watch)
    assert text == "2 of 3: FBP, 15 projections… 1 of 3 reconstructions done."
    assert not jobs.view.finish_button.isEnabled()
    assert not jobs.view.plot.isVisibleTo(jobs)
    (job.path / "result").mkdir()
    job.set_state("done", pid=0, done=3, result="result/report.html")
    qtbot.waitUntil(lambda: jobs.view.state == "done", timeout=30_000)
    assert jobs.view.figures.text() == (
        "The report is result/report.html in the job folder."
    )


def test_numbers_are_proposed_that_the_scan_has(viewer, qtbot, path, tmp_path):
    dock = opened(viewer, path)
    box = dock.study
    assert box.above.values()["counts"] == "8, 15, 30, 45"
    assert counts_for(181) == (50, 75, 100, 150)
    assert counts_for(1000) == (50, 75, 100, 150, 250)
    box.above.set_values({"counts": "20"})
    box.set_scan(opened_scan(dock.layer_combo.layer()))
    assert box.above.values()["counts"] == "20"


def test_a_fault_is_said_beside_its_field(viewer, qtbot, path, tmp_path, started):
    dock, box = study_of(viewer, path, qtbot, tmp_path, counts="250", algorithms="fbp")
    dock.preview_button.setChecked(False)
    box.start_button.click()
    qtbot.waitUntil(lambda: bool(box.above.faults), timeout=30_000)
    assert "has 60 projections" in box.above.faults["counts"]
    assert "(Projections)" in box.above.faults["counts"]
    assert "--" not in box.above.faults["counts"]
    qtbot.waitUntil(lambda: not box.activity.busy, timeout=10_000)
    box.above.set_values({"counts": "20", "algorithms": "magic"})
    box.start_button.click()
    assert set(box.above.faults) == {"algorithms"}
    assert not dock.message.text  # reported once, visibly
    editor = box.above.editor("algorithms")
    qtbot.waitUntil(lambda: not editor.visibleRegion().isEmpty(), timeout=5000)
    box.above.set_values({"algorithms": "fbp"})
    box.more.set_values({"threshold": "magic"})
    assert box.sections[1].content.isHidden()
    box.start_button.click()
    assert "threshold" in box.more.faults
    assert not box.sections[1].content.isHidden()
    assert not started
