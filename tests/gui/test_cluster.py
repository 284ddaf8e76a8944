"""A dock's run that is submitted to an emulated cluster, in real napari."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import opening
import pytest
import tifffile
from qtpy.QtWidgets import QDialogButtonBox
from tomography_helpers import opened as opened_projections
from tomography_helpers import scan_file
from train_helpers import noisy_scans, set_small

from napari_geosr import read
from napari_geosr.gui.jobs.cluster.dialog import MUST_END
from napari_geosr.gui.kit.dock_tabs import (
    JOBS,
    POROSITY,
    RECONSTRUCT,
    RESTORE,
    SHAPES,
    TRAIN,
)
from napari_geosr.jobs.cluster import profiles, submission
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations import restore as restoration

sys.path.append(str(Path(__file__).parents[1] / "queues"))
import oar_emulator


@pytest.fixture
def busy_oar(new_folder, monkeypatch):
    """An OAR that accepts jobs but has no free resources."""
    programs, place = new_folder(), new_folder()
    oar_emulator.install(programs)
    busy = {"state": "Running", "types": [], "resubmit_job_id": 0}
    (place / "jobs.json").write_text(json.dumps({"36000": busy}))
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("OAR_EMULATOR", str(place))
    yield
    oar_emulator.end_all()


@pytest.fixture
def dialog(viewer, qtbot, tmp_path, rng):
    data = rng.normal(100, 10, (8, 32, 32)).astype(np.float32)
    tifffile.imwrite(tmp_path / "scan.tif", data, imagej=True)
    viewer.open(tmp_path / "scan.tif", plugin="napari-geosr")
    shown = opening.asked_where(opening.opened(viewer), qtbot)
    assert shown.isVisible()
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    yield shown
    with suppress(RuntimeError):  # it is deleted when it is closed
        shown.close()


def submit(dialog, qtbot):
    with qtbot.waitSignal(dialog._activity.idle, timeout=30_000):
        dialog.submit_button.click()


@pytest.mark.usefixtures("busy_oar")
def test_the_queue_has_the_run_of_the_dock(dialog, viewer, qtbot, tmp_path):
    dialog.form.set_values({"walltime": "90min", "cores": 8, "nodes": 2})
    script = dialog.script.toPlainText()
    assert "#OAR -l /nodes=2/core=8,walltime=1:30:00" in script
    dialog.keep_as.setText("ours")
    submit(dialog, qtbot)
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    job = JobFolder(folder)
    assert job.status().state == "queued"
    assert job.status().queue.number
    values = job.values()
    assert values["data"]["volume"] == str(tmp_path / "scan.tif")
    assert values["method"] == "ct-denoise"
    kept = profiles.load_profile("ours")
    assert (kept.walltime, kept.cores, kept.queue) == ("1:30:00", 8, "oar")
    submission.stop(job)
    # The Jobs dock shows the job, and the dock reports it.
    assert opening.opened(viewer, JOBS) is not None
    assert "OAR job" in opening.opened(viewer).message.text


@pytest.mark.usefixtures("busy_oar")
def test_measurements_run_there_too(viewer, qtbot, tmp_path, rng):
    data = rng.integers(0, 255, (8, 32, 32)).astype(np.uint8)
    viewer.add_image(data, name="not in a file")
    dock = opening.opened(viewer, POROSITY)
    dock.cluster.widget.click()
    shown = dock.cluster.dialog
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    shown.folder.set_path(tmp_path / "jobs")
    submit(shown, qtbot)
    [folder] = (tmp_path / "jobs").iterdir()
    job = JobFolder(folder)
    assert job.values()["operation"] == "measure"
    # Other computers have no layers, so it was written into the job.
    written = read(job.values()["data"]["volume"])
    assert np.array_equal(written.data, data)
    submission.stop(job)


@pytest.mark.usefixtures("busy_oar")
def test_shapes_are_refined_there_too(viewer, qtbot, tmp_path):
    labels = np.zeros((8, 16, 16), np.uint8)
    labels[2:6, 4:12, 4:12] = 1
    viewer.add_labels(labels, name="bone")
    dock = opening.opened(viewer, SHAPES)
    dock.cluster.widget.click()
    shown = dock.cluster.dialog
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    assert f"{MUST_END} cannot be estimated, because" in shown.origin.text()
    shown.folder.set_path(tmp_path / "jobs")
    submit(shown, qtbot)
    job = JobFolder(tmp_path / "jobs" / "bone_refine")
    values = job.values()
    assert (values["operation"], values["method"]) == ("shapes", "refine")
    assert np.array_equal(read(values["data"]["volume"]).data, labels)
    submission.stop(job)


def test_walltime_and_memory_come_from_the_estimate(viewer, qtbot, tmp_path, rng):
    data = rng.normal(100, 10, (8, 32, 32)).astype(np.float32)
    tifffile.imwrite(tmp_path / "scan.tif", data, imagej=True)
    profiles.save_profile("mine", Profile(queue="slurm", walltime="12:00:00"))
    viewer.open(tmp_path / "scan.tif", plugin="napari-geosr")
    dock = opening.opened(viewer)
    with qtbot.waitSignal(dock.activity.ready, timeout=60_000):
        dock.activity._restart_later()
    dock.cluster.widget.click()
    shown = dock.cluster.dialog
    shown.cluster.setCurrentIndex(shown.cluster.findData("mine"))
    values = shown.form.values()
    assert values["walltime"] == "0:20:00"
    assert values["memory"].endswith("GB")
    known = "(10 s, including 10 s to predict the effect, and"
    assert f"estimate for this computer {known}" in shown.origin.text()
    script = shown.script.toPlainText()
    assert "#SBATCH --time=0:20:00" in script
    assert f"#SBATCH --mem={shown.profile().megabytes}M" in script
    # The values can be changed, and are kept for other runs only if they were.
    shown.form.set_values({"memory": "9GB"})
    shown.keep_as.setText("other")
    shown._keep(shown.profile())
    kept = profiles.load_profile("other")
    assert (kept.walltime, kept.memory) == ("12:00:00", "9GB")
    shown.reject()
    # Other settings require another estimate.
    dock.form.set_values({"tile": 32})
    dock.activity.notReady.emit()
    dock.cluster.widget.click()
    shown = dock.cluster.dialog
    assert "of the profile are used" in shown.origin.text()
    shown.reject()


@pytest.mark.usefixtures("busy_oar")
def test_training_runs_there_too(viewer, qtbot, tmp_path):
    first, second = noisy_scans(viewer)
    dock = opening.opened(viewer, TRAIN)
    dock.have.setCurrentIndex(1)
    dock._rows["source"].combo.set_layer(first)
    dock._rows["target"].combo.set_layer(second)
    set_small(dock, steps=7)
    dock.cluster.widget.click()
    shown = dock.cluster.dialog
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    shown.folder.set_path(tmp_path / "jobs")
    submit(shown, qtbot)
    job = JobFolder(tmp_path / "jobs" / "mine")
    assert job.status().queue.number
    training = job.values()["training"]
    assert (training["steps"], training["name"]) == (7, "mine")
    # Other computers have no layers, so both were written into the job.
    [written] = training["source"]
    assert Path(written).is_relative_to(job.path)
    assert np.array_equal(read(written).data, first.data)
    jobs = opening.opened(viewer, JOBS)
    assert jobs.view.job == job.path
    submission.stop(job)


@pytest.mark.usefixtures("busy_oar")
def test_studies_run_there_too(viewer, qtbot, tmp_path):
    path = scan_file(tmp_path, rows=12)
    dock = opened_projections(viewer, path)
    box = dock.study
    dock.study_section.set_open(True)
    qtbot.waitUntil(lambda: not box.activity.busy, timeout=30_000)
    box.above.set_values({"counts": "10, 20", "algorithms": "fbp"})
    dock.study_cluster.widget.click()
    shown = dock.study_cluster.dialog
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    submit(shown, qtbot)
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    job = JobFolder(folder)
    values = job.values()
    assert values["operation"] == "study projections"
    assert values["data"]["projections"] == str(path)
    assert values["settings"]["counts"] == [10, 20]
    # The section follows the job, and does not start it here as well.
    assert box.job == folder
    assert not box.start_button.isEnabled()
    assert "waiting" in box.stage.text()
    box.pause_button.click()
    qtbot.waitUntil(lambda: job.status().state == "cancelled", timeout=30_000)
    qtbot.waitUntil(box.resume_button.isEnabled, timeout=30_000)
    box.resume_button.click()
    qtbot.waitUntil(lambda: job.status().state == "queued", timeout=30_000)
    assert job.status().pid == 0
    submission.stop(job)


def test_wrong_settings_open_no_dialog(viewer, qtbot, tmp_path):
    noisy_scans(viewer)
    dock = opening.opened(viewer, TRAIN)
    set_small(dock, steps=7, name="Not A Name")
    dock.cluster.widget.click()
    assert dock.cluster.dialog is None
    assert "name" in dock.name_faults.texts
    dock = opened_projections(viewer, scan_file(tmp_path, rows=12))
    qtbot.waitUntil(dock.study.start_button.isEnabled)
    dock.study.above.set_values({"counts": "none"})
    dock.study_cluster.widget.click()
    assert dock.study_cluster.dialog is None
    assert dock.study.above.faults


def test_the_button_is_grey_exactly_when_run_is(viewer, qtbot, tmp_path, rng):
    restore, porosity, reconstruct = (
        opening.opened(viewer, name) for name in (RESTORE, POROSITY, RECONSTRUCT)
    )
    pairs = [
        (restore.cluster.widget, restore.run_button),
        (porosity.cluster.widget, porosity.measure_button),
        (reconstruct.cluster.widget, reconstruct.run_button),
    ]

    def states():
        assert all(a.isEnabled() == b.isEnabled() for a, b in pairs)
        return [b.isEnabled() for _, b in pairs]

    assert states() == [False] * 3
    viewer.add_image(rng.normal(100, 10, (8, 32, 32)).astype(np.float32))
    qtbot.waitUntil(lambda: states() == [True, True, False])
    opened_projections(viewer, scan_file(tmp_path, rows=4))
    qtbot.waitUntil(lambda: states()[2])
    viewer.layers.clear()
    qtbot.waitUntil(lambda: states() == [False] * 3)


def test_settings_are_refused_beside_their_field(dialog, qtbot):
    editor = dialog.form.editor("walltime")
    editor.setText("soon")
    editor.editingFinished.emit()
    assert "not a valid walltime" in dialog.form.faults["walltime"]
    assert dialog.script.toPlainText() == ""
    dialog.submit_button.click()
    assert not dialog._activity.busy


@pytest.mark.usefixtures("busy_oar")
def test_a_walltime_too_short_for_a_tile_is_refused(
    dialog, qtbot, tmp_path, monkeypatch
):
    outline = restoration.outline_steps

    def steps(*args, **kwargs):
        plan = yield from outline(*args, **kwargs)
        return dataclasses.replace(plan, seconds=7200, parts=2, threads=4)

    monkeypatch.setattr(restoration, "outline_steps", steps)
    dialog.form.set_values({"walltime": "30min"})
    submit(dialog, qtbot)
    assert dialog.isVisible()
    assert (
        "The walltime of 0:30:00 is too short: one tile takes about 60 min"
        in dialog.message.text
    )
    assert "Request at least 1:03:00" in dialog.message.text
    assert [path.name for path in tmp_path.iterdir()] == ["scan.tif"]
    dialog.form.set_values({"walltime": "1:03:00"})
    submit(dialog, qtbot)
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    submission.stop(JobFolder(folder))


def test_a_project_is_asked_for_where_the_cluster_wants_one(dialog, qtbot):
    dialog.cluster.setCurrentIndex(dialog.cluster.findData("gricad"))
    assert not dialog.form.faults
    assert "without a project" in dialog.message.text
    assert "--" not in dialog.message.text
    assert dialog.script.toPlainText() == ""
    dialog.submit_button.click()
    assert "without a project" in dialog.form.faults["project"]
    editor = dialog.form.editor("project")
    editor.setText("pr-aiax")
    editor.editingFinished.emit()
    assert not dialog.form.faults
    assert "--project pr-aiax" in dialog.script.toPlainText()


def test_the_script_is_that_of_the_job_folder(dialog, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "napari_geosr.gui.kit.widgets.QFileDialog.getExistingDirectory",
        lambda *_: str(tmp_path / "elsewhere"),
    )
    assert "elsewhere" not in dialog.script.toPlainText()
    dialog.folder.button.click()
    assert str(tmp_path / "elsewhere") in dialog.script.toPlainText()


def test_without_a_queue_nothing_is_left(dialog, qtbot, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    submit(dialog, qtbot)
    assert "oarsub" in dialog.message.text
    assert [path.name for path in tmp_path.iterdir()] == ["scan.tif"]
    assert dialog.isVisible()
    dialog.buttons.button(QDialogButtonBox.StandardButton.Cancel).click()
    assert not dialog.isVisible()
