"""Training curves are visible, whatever else is open in the Train dock."""

from __future__ import annotations

import socket

import psutil
import pytest
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QPushButton
from train_helpers import TRAIN, noisy_scans, opened

from napari_geosr.jobs.folder import JobFolder


@pytest.fixture
def job(tmp_path) -> JobFolder:
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    job = JobFolder.create(tmp_path / "foam", values, name="foam")
    for step in (10, 20):
        losses = {"loss": 1 / step, "validation": 2 / step}
        job.append("progress", step=step, total=100, losses=losses)
    job.set_state("paused", done=20, total=100)
    return job


def in_sight(widget) -> bool:
    """Whether a widget is completely visible."""
    return bool(widget.visibleRegion().boundingRect() == widget.rect())


def test_advanced_does_not_push_the_curves_away(make_napari_viewer, qtbot, job):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1366, 768)
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    dock.advanced.set_open(True)
    qtbot.waitUntil(lambda: not in_sight(dock.settings), timeout=5000)
    dock._watch_job(job.path)
    plot = dock.view.plot
    qtbot.waitUntil(lambda: dock.view.state == "paused", timeout=10_000)
    qtbot.waitUntil(lambda: in_sight(plot), timeout=5000)
    assert plot.n_points() > 2
    dock.advanced.set_open(False)
    dock.advanced.set_open(True)
    qtbot.wait(50)
    assert in_sight(plot)


def test_the_next_step_is_the_button_that_is_highlighted(viewer, qtbot, job):
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    view, own = dock.view, psutil.Process()
    alive = {"pid": own.pid, "host": socket.gethostname(), "started": own.create_time()}

    def highlighted() -> list[str]:
        buttons = dock.bar.findChildren(QPushButton)
        marked = [each for each in buttons if each.property("primary")]
        assert [each for each in buttons if each.isDefault()] == marked
        return [each.text().replace("&", "") for each in marked]

    assert highlighted() == ["Start"]
    for state, facts, name in (
        ("running", alive, "Use this model"),
        ("paused", {"pid": 0}, "Resume"),
        ("running", alive, "Use this model"),
        ("done", {"pid": 0, "result": "result/foam"}, "Use this model"),
    ):
        job.set_state(state, done=20, total=100, **facts)
        dock._watch_job(job.path)
        qtbot.waitUntil(lambda s=state: view.state == s, timeout=10_000)
        assert highlighted() == [name]
        assert view.use_button.isEnabled() == (state == "done")
    view.set_job(None)
    assert highlighted() == ["Start"]


def test_rows_of_data_are_as_close_as_others(viewer, qtbot):
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    dock.have.setCurrentIndex(dock.have.findText("Two noisy scans of one object"))
    first, second = (dock._rows[name] for name in ("source", "target"))
    qtbot.waitUntil(second.combo.isVisible)

    def gap(above, below) -> int:
        lower = above.mapTo(dock, QPoint(0, above.height())).y()
        return below.mapTo(dock, QPoint()).y() - lower

    expected = gap(dock.name, dock.steps)
    qtbot.waitUntil(lambda: gap(first, second) == expected, timeout=5000)
    first.voxel_size.setVisible(True)
    qtbot.waitUntil(lambda: gap(first, second) > expected + 10, timeout=5000)
    assert first.voxel_size.isVisible()
    first.voxel_size.setVisible(False)
    qtbot.waitUntil(lambda: gap(first, second) == expected, timeout=5000)
