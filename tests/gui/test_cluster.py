"""A run of a dock that is handed to a cluster, emulated, in real napari."""

from __future__ import annotations

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

from napari_geosr import read
from napari_geosr.gui.kit.dock_tabs import JOBS, POROSITY, RECONSTRUCT
from napari_geosr.jobs import profiles, submission
from napari_geosr.jobs.folder import JobFolder

sys.path.append(str(Path(__file__).parents[1] / "queues"))
import oar_emulator


@pytest.fixture
def busy_oar(new_folder, monkeypatch):
    """An OAR that accepts jobs but has no room for them."""
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
    dock = opening.opened(viewer)
    dock.cluster.widget.click()
    shown = dock.cluster.dialog
    assert shown.isVisible()
    shown.cluster.setCurrentIndex(shown.cluster.findData("oar"))
    yield shown
    with suppress(RuntimeError):  # it deletes itself when it is closed
        shown.close()


def submit(dialog, qtbot):
    with qtbot.waitSignal(dialog._activity.idle, timeout=30_000):
        dialog.submit_button.click()


@pytest.mark.usefixtures("busy_oar")
def test_the_queue_has_the_run_of_the_dock(dialog, viewer, qtbot, tmp_path):
    dialog.form.set_values({"walltime": "90min", "cores": 8})
    script = dialog.script.toPlainText()
    assert "#OAR -l /nodes=1/core=8,walltime=1:30:00" in script
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
    # The Jobs dock shows it, and the dock says so.
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
    # Other computers have no layers: it was written into the job.
    written = read(job.values()["data"]["volume"])
    assert np.array_equal(written.data, data)
    submission.stop(job)


def test_nothing_is_submitted_without_data(viewer, qtbot):
    for name, said in ((RECONSTRUCT, "Open projections"), (POROSITY, "Open an image")):
        dock = opening.opened(viewer, name)
        dock.cluster.widget.click()
        assert said in dock.message.text
        assert dock.cluster.dialog is None


def test_settings_are_refused_beside_their_field(dialog, qtbot):
    editor = dialog.form.editor("walltime")
    editor.setText("soon")
    editor.editingFinished.emit()
    assert "not a valid walltime" in dialog.form.faults["walltime"]
    assert dialog.script.toPlainText() == ""
    dialog.submit_button.click()
    assert not dialog._activity.busy


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
