"""Runs of the *Segment* dock as jobs: in a queue and in the background, in napari."""

from __future__ import annotations

import numpy as np
import opening
import pytest
from scipy import ndimage
from test_cluster import busy_oar, submit  # noqa: F401  # a fixture

from napari_geosr import read
from napari_geosr.core.steps import run_to_end
from napari_geosr.gui.jobs.cluster.dialog import MUST_END, NOT_ESTIMATED
from napari_geosr.gui.jobs.result import ResultOpener
from napari_geosr.gui.kit.dock_tabs import JOBS, SEGMENT
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import submission
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.handover import job_from_run_steps
from napari_geosr.jobs.job_files import foreign_files
from napari_geosr.jobs.run import run_steps

SHAPE = (6, 40, 48)


def phases() -> np.ndarray:
    """A dark and a bright phase, 1 and 2."""
    rng = np.random.default_rng(1)
    return np.where(ndimage.gaussian_filter(rng.standard_normal(SHAPE), 3) > 0, 2, 1)


@pytest.fixture
def dock(viewer, qtbot):
    """The dock with painted labels; the layers are in no file, and moved in napari."""
    noise = np.random.default_rng(2).normal(0, 8, SHAPE)
    values = (60 * phases() + noise).astype(np.float32)
    viewer.add_image(
        values,
        name="rock",
        scale=(4.0, 2.0, 2.0),
        translate=(8.0, 2.0, 4.0),
        units="um",
        affine=np.diag([1.0, -1.0, 1.0, 1.0]),
    )
    made = opening.opened(viewer, SEGMENT)
    made.live.setChecked(False)
    made.new_button.click()
    qtbot.waitUntil(lambda: made.strokes.layer() is not None)
    painted = np.zeros(SHAPE, np.uint8)
    painted[3, ::4] = phases()[3, ::4]
    made.strokes.layer().data = painted
    idle(made, qtbot)
    return made


def idle(dock, qtbot) -> None:
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=60_000)


@pytest.mark.usefixtures("busy_oar")
def test_the_scan_is_segmented_on_a_cluster(viewer, dock, qtbot, tmp_path):
    dock.probabilities.setChecked(True)
    assert dock.cluster.widget.isEnabled()
    dock.cluster.widget.click()
    shown = dock.cluster.dialog
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    shown.folder.set_path(tmp_path / "jobs")
    assert "rock_segmented" in shown.script.toPlainText()
    text = f"{NOT_ESTIMATED} {MUST_END} at least about "
    assert shown.origin.text().startswith(text)
    submit(shown, qtbot)
    job = JobFolder(tmp_path / "jobs" / "rock_segmented")
    values = job.values()
    assert (values["operation"], values["method"]) == ("segment", "strokes")
    assert values["keeps_probabilities"]
    painted = read(values["labels"]["volume"])
    assert np.array_equal(painted.data, dock.strokes.layer().data)
    jobs = opening.opened(viewer, JOBS)
    assert jobs.view.job == job.path
    assert "OAR job" in dock.message.text
    submission.stop(job)
    viewer.layers.remove(dock.strokes.layer())
    qtbot.waitUntil(lambda: not dock.segment_button.isEnabled())
    assert not dock.cluster.widget.isEnabled()


@pytest.mark.usefixtures("busy_oar")
@pytest.mark.parametrize(
    ("painted", "said"), [(0, "Nothing is painted"), (1, "Only class 1 is painted")]
)
def test_strokes_that_cannot_work_are_refused_before_the_queue(
    dock, qtbot, tmp_path, painted, said
):
    labels = np.zeros(SHAPE, np.uint8)
    labels[3, ::4] = painted
    dock.strokes.layer().data = labels
    dock.cluster.widget.click()
    shown = dock.cluster.dialog
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    shown.folder.set_path(tmp_path / "jobs")
    submit(shown, qtbot)
    assert said in shown.message.text
    assert not list((tmp_path / "jobs").iterdir())
    assert not index.list_jobs()
    shown.close()


def test_a_job_gives_the_result_of_the_dock_in_its_place(viewer, dock, qtbot, tmp_path):
    dock.probabilities.setChecked(True)
    stopped = dock._run_elsewhere()
    folder = run_to_end(job_from_run_steps(stopped, tmp_path, start=False))
    made = run_to_end(run_steps(JobFolder(folder)))
    assert made == folder / "result" / "rock_segmented.ome.tif"
    assert not foreign_files(folder)
    dock.segment_button.click()
    qtbot.waitUntil(lambda: "The result is in" in dock.message.text, timeout=60_000)
    ours = viewer.layers["rock segmented"]

    opener = ResultOpener(viewer, dock)
    with qtbot.waitSignal(opener.opened, timeout=60_000):
        opener.open(folder)
    layer, *shares = viewer.layers[-3:]
    assert layer is not ours
    np.testing.assert_array_equal(layer.data, ours.data)
    both = np.stack([np.asarray(each.data) for each in shares])
    assert both.shape == (2, *SHAPE)
    np.testing.assert_array_equal(both.argmax(0) + 1, ours.data)
    names = [f"rock_segmented_probabilities class {n}" for n in (1, 2)]
    assert [each.name for each in shares] == names
    assert not any(each.visible for each in shares)
    for each in (layer, *shares):
        for attribute in ("scale", "translate", "units", "affine"):
            one, other = getattr(each, attribute), getattr(ours, attribute)
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    assert {tuple(each.contrast_limits) for each in shares} == {(0.0, 1.0)}


def test_the_row_of_the_dock_shows_the_result(viewer, dock, qtbot, tmp_path):
    stopped = dock._run_elsewhere()
    folder = run_to_end(job_from_run_steps(stopped, tmp_path, start=False))
    run_to_end(run_steps(JobFolder(folder)))
    assert [job.operation for job in index.list_jobs()] == ["segment"]
    dock.job_row.find()
    qtbot.waitUntil(lambda: dock.job_row.job == folder, timeout=30_000)
    dock.job_row.button.click()
    qtbot.waitUntil(lambda: "rock_segmented" in viewer.layers, timeout=60_000)


def test_a_run_can_be_moved_to_the_background(
    viewer, dock, qtbot, tmp_path, monkeypatch
):
    dock.handover.folder = tmp_path
    started = []
    monkeypatch.setattr("napari_geosr.jobs.local.start", started.append)
    dock.segment_button.click()
    qtbot.waitUntil(lambda: dock.handover.is_running, timeout=10_000)
    assert "starts again from the beginning" in dock.handover.remark
    ended = []
    dock.handover.hand_over(
        start=True, on_done=lambda: ended.append("job"), failed=lambda: None
    )
    qtbot.waitUntil(lambda: bool(ended), timeout=60_000)
    (job,) = started
    assert job.values()["operation"] == "segment"
    assert job.path.parent == tmp_path
    assert "rock segmented" not in viewer.layers
