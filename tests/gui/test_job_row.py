"""Docks show the job into which a run was turned, and open its result."""

from __future__ import annotations

import json
import os
import socket

import numpy as np
import psutil
import pytest
from opening import opened
from porosity_helpers import physical
from qtpy.QtWidgets import QLabel
from tomography_helpers import DOCK as RECONSTRUCT
from train_helpers import JOBS, TRAIN

from napari_geosr import io
from napari_geosr.core.errors import JobError
from napari_geosr.core.steps import never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.result import JobSource, layer_of, read_steps
from napari_geosr.gui.kit.dock_tabs import POROSITY
from napari_geosr.gui.kit.frame import open_dock
from napari_geosr.gui.layers import contrast
from napari_geosr.io.unfinished_files.journal import journal_of
from napari_geosr.jobs import index, local
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import read_job
from napari_geosr.jobs.run import run_steps


def make_job(folder, name: str, state: str, scan, part=None, **facts) -> JobFolder:
    values = {"operation": "restore", "method": "gaussian", "name": name}
    data = {"volume": str(scan)} | (part or {})
    values |= {"data": data, "settings": {"model": "gaussian"}}
    job = JobFolder.create(folder / name, values, name=name)
    job.set_state(state, **{"done": 3, "total": 12} | facts)
    index.register(job)
    return job


@pytest.fixture
def scan(tmp_path, rng):
    volume = Volume(rng.random((6, 20, 20), np.float32), "ZYX", (2.0,) * 3, "µm")
    return io.write(volume, tmp_path / "scan.ome.tif")


def finished(folder, scan, **facts) -> JobFolder:
    job = make_job(folder, "done", "done", scan, **facts)
    result = job.path / "result" / "done.ome.tif"
    result.parent.mkdir()
    restored = io.read(scan)
    if "C" in restored.axes:
        restored = restored.take(channel=1)
    io.write(restored.replace(name="done"), result)
    job.set_state("done", result="result/done.ome.tif")
    return job


def test_a_paused_run_is_offered_when_the_dock_opens(
    viewer, qtbot, tmp_path, scan, monkeypatch
):
    job = make_job(tmp_path, "foam", "paused", scan)
    leave_part(job, [[[0, 3], [0, 20], [0, 20]]])
    dock = opened(viewer)
    row = dock.job_row
    qtbot.waitUntil(lambda: not row.isHidden(), timeout=10_000)
    said = "foam is paused at 25 %; it resumes from the finished tiles."
    assert row.label.text() == said
    started = []

    def start(found):
        started.append(found.path)
        facts = {"pid": os.getpid(), "host": socket.gethostname()}
        found.set_state("running", started=psutil.Process().create_time(), **facts)

    monkeypatch.setattr(local, "start", start)
    row.button.click()
    # It is started in a worker, because it may have to wait for a lock.
    said = "foam is running in the background: 25 %."
    qtbot.waitUntil(lambda: row.label.text() == said, timeout=10_000)
    assert started == [job.path]
    assert row.button.isHidden()
    job.set_state("running", done=6)
    qtbot.waitUntil(lambda: "50 %" in row.label.text(), timeout=10_000)


def test_a_run_that_cannot_be_resumed_says_why_and_is_offered_again(
    viewer, qtbot, tmp_path, scan, monkeypatch
):
    job = make_job(tmp_path, "foam", "paused", scan)
    leave_part(job, [[[0, 3], [0, 20], [0, 20]]])
    dock = opened(viewer)
    row = dock.job_row
    qtbot.waitUntil(lambda: not row.isHidden(), timeout=10_000)

    def start(_job):
        raise JobError("It is locked by another process.")

    monkeypatch.setattr(local, "start", start)
    row.button.click()
    assert not row.button.isEnabled()
    qtbot.waitUntil(lambda: "It is locked" in dock.message.text, timeout=10_000)
    qtbot.waitUntil(row.button.isEnabled, timeout=10_000)


def leave_part(job, boxes) -> None:
    """The record of a run's finished part."""
    part = job.path / "data" / "part.zarr"
    part.mkdir(parents=True)
    journal_of(part).write_text(json.dumps({"boxes": boxes}))


@pytest.mark.parametrize("boxes", [None, []])
def test_nothing_is_promised_of_which_nothing_is_there(
    viewer, qtbot, tmp_path, scan, boxes
):
    job = make_job(tmp_path, "foam", "paused", scan, done=0, total=0)
    if boxes is not None:  # stopped before the first tile
        leave_part(job, boxes)
    row = opened(viewer).job_row
    qtbot.waitUntil(lambda: not row.isHidden(), timeout=10_000)
    on = "it starts again from the beginning."
    assert row.label.text() == f"foam is paused; {on}"
    view = opened(viewer, JOBS).view
    qtbot.waitUntil(lambda: view.state == "paused", timeout=10_000)
    assert view.state_label.text() == f"Paused; {on}"
    assert "finished" not in view.resume_button.toolTip()


def test_not_now_is_remembered(viewer, qtbot, tmp_path, scan):
    job = make_job(tmp_path, "foam", "interrupted", scan)
    row = opened(viewer).job_row
    qtbot.waitUntil(lambda: not row.isHidden(), timeout=10_000)
    row.later_button.click()
    assert row.isHidden()
    assert job.status().seen
    row.find()
    qtbot.wait(200)
    assert row.isHidden()


def test_the_job_of_the_scan_comes_first(viewer, qtbot, tmp_path, scan):
    mine = make_job(tmp_path, "mine", "paused", scan)
    other = make_job(tmp_path, "other", "paused", tmp_path / "other.tif")
    dock = opened(viewer)
    qtbot.waitUntil(lambda: dock.job_row.job == other.path, timeout=10_000)
    viewer.open(str(scan), plugin="napari-geosr")
    qtbot.waitUntil(lambda: dock.job_row.job == mine.path, timeout=20_000)


def test_jobs_of_other_kinds_are_not_offered(viewer, qtbot, tmp_path, scan):
    make_job(tmp_path, "foam", "paused", scan)
    for name in (RECONSTRUCT, POROSITY):
        row = opened(viewer, name).job_row
        qtbot.waitUntil(lambda row=row: not row._finding.busy, timeout=10_000)
        assert row.isHidden()


def test_the_result_is_shown_over_its_scan(viewer, qtbot, tmp_path, scan):
    job = finished(tmp_path, scan)
    (layer,) = viewer.open(str(scan), plugin="napari-geosr")
    layer.contrast_limits = (0.1, 0.2)
    layer.colormap = "viridis"
    row = opened(viewer).job_row
    qtbot.waitUntil(lambda: not row.isHidden(), timeout=10_000)
    assert row.label.text() == "done finished in the background."
    assert row.button.text() == "Show result"
    with qtbot.waitSignal(row.opener.opened, timeout=20_000):
        row.button.click()
    result = viewer.layers[-1]
    assert result.name == "done"
    assert tuple(result.contrast_limits) == (0.1, 0.2)
    assert result.colormap.name == "viridis"
    np.testing.assert_allclose(result.scale, (2, 2, 2))
    assert job.status().seen
    assert row.isHidden()


def test_an_overwritten_result_is_opened_with_a_note(tmp_path, scan):
    first = make_job(tmp_path, "first", "done", scan, result=str(scan))
    last = make_job(tmp_path, "last", "done", scan, result=str(scan))
    for job in (first, last):
        job.replace_values({**job.values(), "out": str(scan)})
    note = run_to_end(read_steps(first.path, never_stop)).note
    assert f"overwritten by a later job, last in {last.path}" in note
    assert run_to_end(read_steps(last.path, never_stop)).note == ""


def test_the_jobs_dock_shows_the_result(viewer, qtbot, tmp_path, scan):
    finished(tmp_path, scan)
    dock = opened(viewer, JOBS)
    view = dock.view
    qtbot.waitUntil(lambda: view.state == "done", timeout=10_000)
    assert view.show_button.isEnabled()
    assert view.state_label.text() == "Done."
    # There are no widgets that apply only to training.
    for part in (
        view.use_button,
        view.tune_button,
        view.finish_button,
        view.show_preview,
        view.plot,
    ):
        assert part.isHidden(), part.accessibleName()
    with qtbot.waitSignal(view.opener.opened, timeout=20_000):
        view.show_button.click()
    assert [layer.name for layer in viewer.layers] == ["done"]


def test_a_result_that_is_gone_is_said(viewer, qtbot, tmp_path, scan):
    job = finished(tmp_path, scan)
    (job.path / "result" / "done.ome.tif").unlink()
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: dock.view.state == "done", timeout=10_000)
    dock.view.show_button.click()
    qtbot.waitUntil(lambda: "moved or deleted" in dock.view.message.text, timeout=9000)


@pytest.fixture
def foam(tmp_path):
    return io.write(physical(name="foam"), tmp_path / "foam.ome.tif")


def measured(folder, scan, **more) -> JobFolder:
    """A measurement that was run as a job."""
    values = {"operation": "measure", "method": "otsu", "name": "foam_pores"}
    values |= {"data": {"volume": str(scan), "title": "foam"}, **more}
    job = JobFolder.create(folder / "pores", values, name="foam_pores")
    assert read_job(job.values(), job.path)[0].name == "foam_pores"
    for _ in run_steps(job):
        pass
    index.register(job)
    return job


def figures(dock) -> list[str]:
    labels = dock.result.figures.findChildren(QLabel)
    return [label.accessibleName() for label in labels]


@pytest.mark.slow
def test_the_jobs_dock_shows_a_measurement_in_the_porosity_dock(
    viewer, qtbot, tmp_path, foam
):
    job = measured(tmp_path, foam)
    known = json.loads((job.path / "result" / "report.json").read_text("utf-8"))
    view = opened(viewer, JOBS).view
    qtbot.waitUntil(lambda: view.state == "done", timeout=10_000)
    with qtbot.waitSignal(view.opener.opened, timeout=60_000):
        view.show_button.click()
    assert str(job.status().result) in view.message.text
    dock = open_dock(viewer, POROSITY).dock
    assert dock.tabs.currentIndex() == 1
    assert dock.result.table.model().rowCount() == known["pore_count"] == 3
    assert f"{100 * known['porosity']:.3g} %" in figures(dock)
    assert not dock.result.export.isEnabled()
    assert str(job.path / "result") in dock.result.export.toolTip()
    (layer,) = viewer.layers
    assert layer.name == "foam · pores"
    assert job.status().seen
    dock.result.table.selectRow(1)  # like those measured in the dock
    assert layer.selected_label == dock.result.table.selected_label()


def test_a_measurement_is_shown_over_its_scan(viewer, qtbot, tmp_path, foam):
    other = io.write(physical(name="other", seed=1), tmp_path / "other.ome.tif")
    measured(tmp_path, foam, reference={"volume": str(other), "title": "other"})
    (image,) = viewer.open(str(foam), plugin="napari-geosr")
    dock = opened(viewer, POROSITY)
    row = dock.job_row
    qtbot.waitUntil(lambda: not row.isHidden(), timeout=10_000)
    with qtbot.waitSignal(row.opener.opened, timeout=60_000):
        row.button.click()
    layer = viewer.layers[-1]
    assert type(layer).__name__ == "Labels"
    assert layer.data.shape == image.data.shape
    corner = image.data_to_world((5, 6, 7))
    np.testing.assert_allclose(layer.data_to_world((5, 6, 7)), corner)
    assert [dock.result.which.itemText(i) for i in range(2)] == ["foam", "other"]
    dock.result.which.setCurrentText("other")  # the result has figures, but no labels
    assert dock.result.table.model().rowCount() == 3


def test_a_damaged_report_is_said(viewer, qtbot, tmp_path, foam):
    job = measured(tmp_path, foam)
    (job.path / "result" / "report.json").write_text("[]")
    dock = opened(viewer, POROSITY)
    qtbot.waitUntil(lambda: not dock.job_row.isHidden(), timeout=10_000)
    dock.job_row.button.click()
    qtbot.waitUntil(lambda: "contains no report" in dock.message.text, timeout=20_000)
    assert not job.status().seen


@pytest.mark.slow
def test_a_result_without_its_scan_has_the_contrast_of_the_whole(
    viewer, qtbot, tmp_path, rng
):
    """As for an opened file, not that of the middle slice."""
    data = rng.integers(90, 101, (21, 30, 30)).astype(np.uint16)
    data *= np.arange(1, 22, dtype=np.uint16)[:, None, None]
    scan = io.write(Volume(data, "ZYX"), tmp_path / "scan.ome.tif")
    finished(tmp_path, scan)
    view = opened(viewer, JOBS).view
    qtbot.waitUntil(lambda: view.state == "done", timeout=10_000)
    with qtbot.waitSignal(view.opener.opened, timeout=20_000):
        view.show_button.click()
    (result,) = viewer.layers
    (file,) = viewer.open(str(scan), plugin="napari-geosr")
    qtbot.waitUntil(lambda: not contrast._running)
    assert tuple(result.contrast_limits) == tuple(file.contrast_limits)
    assert result.contrast_limits_range[1] < 4000  # the slider can be used


@pytest.mark.slow
def test_the_look_is_that_of_the_channel(viewer, qtbot, tmp_path, rng):
    data = rng.random((2, 6, 20, 20)).astype(np.float32)
    scan = io.write(Volume(data, "CZYX", (2.0,) * 3, "µm"), tmp_path / "scan.ome.tif")
    done = finished(tmp_path, scan, part={"reading": {"channel": 1}})
    layers = viewer.open(str(scan), plugin="napari-geosr")
    qtbot.waitUntil(lambda: not contrast._running)
    layers[0].contrast_limits, layers[1].contrast_limits = (0.1, 0.2), (0.3, 0.4)
    row = opened(viewer).job_row
    qtbot.waitUntil(lambda: row.job == done.path, timeout=10_000)
    with qtbot.waitSignal(row.opener.opened, timeout=20_000):
        row.button.click()
    assert tuple(viewer.layers[-1].contrast_limits) == (0.3, 0.4)


def test_a_layer_that_was_in_no_file_is_found_by_its_name(viewer, tmp_path, rng):
    layer = viewer.add_image(rng.random((6, 20, 20)), name="foam")
    path = tmp_path / "job" / "data" / "scan.ome.zarr"
    source = JobSource(path, title="foam", is_of_job=True)
    assert layer_of(viewer, source) is layer
    assert layer_of(viewer, JobSource(path, title="foam")) is None


def test_a_paused_job_is_offered_in_the_jobs_dock(viewer, qtbot, tmp_path, scan):
    make_job(tmp_path, "foam", "paused", scan)
    offer = opened(viewer, JOBS).offer
    qtbot.waitUntil(lambda: not offer.isHidden(), timeout=10_000)
    said = "foam is paused at 3 of 12 tiles; it starts again from the beginning."
    assert offer.label.text() == said
    offer.later.click()
    assert offer.isHidden()


def test_a_paused_restoration_is_not_offered_for_training(
    viewer, qtbot, tmp_path, scan
):
    make_job(tmp_path, "halted", "paused", scan)
    offer = opened(viewer, TRAIN).offer
    qtbot.waitUntil(lambda: offer._run is None, timeout=10_000)
    assert offer.isHidden()
