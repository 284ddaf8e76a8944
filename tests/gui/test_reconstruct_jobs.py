"""From the Reconstruct dock: Noise2Inverse as a job, a study with its report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QAbstractButton
from tomography_helpers import idle, opened, scan_file

from napari_geosr.gui._denoise_start import scans_config
from napari_geosr.gui._projection_layers import OpenedScan
from napari_geosr.io.projections import read_projections
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.reconstruct import ReconstructConfig


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer(show=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return scan_file(tmp_path_factory.mktemp("scan"), rows=12)


def test_noise2inverse_gives_a_denoised_volume(viewer, qtbot, path, tmp_path):
    dock = opened(viewer, path)
    dock.centre.set_value(26.3)
    box = dock.denoise
    box.folder = tmp_path
    box.name.setText("tiny")
    box.parts.setValue(2)
    box.steps.setValue(2)
    dock.denoise_section.set_open(True)
    qtbot.waitUntil(box.start_button.isEnabled, timeout=30_000)
    box.start_button.click()
    qtbot.waitUntil(lambda: box.job is not None, timeout=60_000)
    job = JobFolder(box.job)
    values = job.values()
    assert (values["operation"], values["method"]) == (
        "train from projections",
        "noise2inverse",
    )
    assert values["scans"]["projections"] == str(path)
    assert values["scans"]["centre"] == 26.3
    assert values["scans"]["splits"] == 2
    qtbot.waitUntil(lambda: any("Jobs" in n for n in viewer.window.dock_widgets))
    qtbot.waitUntil(lambda: not job.status().is_alive, timeout=150_000)
    assert job.status().state == "done", (job.path / "log.txt").read_text()
    qtbot.waitUntil(lambda: box.open_button.isVisibleTo(dock), timeout=10_000)
    qtbot.waitUntil(lambda: box._run is None)
    before = len(viewer.layers)
    qtbot.waitUntil(box.open_button.isEnabled)
    box.open_button.click()
    qtbot.waitUntil(lambda: len(viewer.layers) == before + 1, timeout=30_000)
    layer = viewer.layers.selection.active
    assert layer.data.shape[0] == 12
    np.testing.assert_allclose(layer.scale, (3, 2, 2))
    assert layer.metadata["geosr"]["source"] == tmp_path / "tiny" / "denoised.ome.tif"
    # Another dock, or the next session, finds it again.
    box.set_scan(dock.opened())
    qtbot.waitUntil(lambda: box.job == job.path, timeout=30_000)


def test_a_bad_name_is_refused(viewer, qtbot, path, tmp_path):
    dock = opened(viewer, path)
    qtbot.waitUntil(lambda: dock.denoise._run is None, timeout=30_000)
    dock.denoise.folder = tmp_path
    dock.denoise.name.setText("Not A Name")
    with qtbot.waitSignal(dock.denoise.failed, timeout=60_000):
        dock.denoise.start_button.click()
    assert "small letters" in dock.message.text
    assert list(tmp_path.iterdir()) == []


def test_what_was_said_of_the_file_goes_into_the_job(path, tmp_path):
    scan = read_projections(path, angle_range=(0, 180), endpoint=True)
    given = OpenedScan(scan, {"angle_range": (0, 180), "endpoint": True})
    config = ReconstructConfig.create(filter="hann", stripes="sorting", centre=20)
    found = scans_config(given, config, None, tmp_path, splits=3)
    assert (found.filter, found.stripes, found.centre) == ("hann", "sorting", 20)
    again = read_projections(found.projections, angles=found.angles)
    np.testing.assert_allclose(again.angles, scan.angles)
    plain = scans_config(OpenedScan(scan), ReconstructConfig(), 7.5, tmp_path)
    assert (plain.angles, plain.centre) == (None, 7.5)


def test_a_study_ends_with_its_report(viewer, qtbot, path, tmp_path):
    dock = opened(viewer, path)
    dock.centre.set_value(26.3)
    box = dock.study
    box.set_folder(tmp_path)
    box.above.set_values({"counts": "10, 20", "algorithms": "fbp"})
    box.above.set_values({"acquisition": "continuous"})
    box.factors.set_values({"scan_hours": 2.0})
    box.more.set_values({"tune": False, "sample": "circle", "min_voxels": 1})
    box.start_button.click()
    assert box.is_running
    qtbot.waitUntil(lambda: not box.is_running, timeout=120_000)
    assert "done" in dock.message.text, dock.message.text
    assert box.report == tmp_path / "discs" / "report.html"
    assert box.report.exists()
    assert box.report_button.isVisibleTo(box)
    text = json.dumps(json.loads((tmp_path / "discs" / "study.json").read_text()))
    assert '"centre": 26.3' in text
    assert '"acquisition": "continuous"' in text


def test_a_study_that_is_stopped_is_gone_on_with(viewer, qtbot, path, tmp_path):
    dock = opened(viewer, path)
    dock.centre.set_value(26.3)
    box = dock.study
    box.set_folder(tmp_path)
    box.above.set_values({"counts": "10, 20, 30", "algorithms": "fbp, tv"})
    box.more.set_values({"tune": False, "sample": "circle"})
    box.start_button.click()
    qtbot.waitUntil(lambda: box.progress.value() > 0, timeout=120_000)
    box.stop_button.click()
    qtbot.waitUntil(lambda: not box.is_running, timeout=60_000)
    assert "goes on" in dock.message.text
    assert any((tmp_path / "discs" / "cells").iterdir())
    assert box.report is None


def test_a_wrong_study_is_refused(viewer, qtbot, path, tmp_path):
    dock = opened(viewer, path)
    dock.study.set_folder(tmp_path)
    dock.study.above.set_values({"algorithms": "magic"})
    dock.study.start_button.click()
    assert "magic" in dock.message.text
    assert not dock.study.is_running
    dock.study.above.set_values({"algorithms": "fbp", "counts": "100"})
    with qtbot.waitSignal(dock.study.failed, timeout=60_000):
        dock.study.start_button.click()
    assert "60 projections" in dock.message.text


def test_every_action_has_a_key_of_its_own(viewer, qtbot, path):
    dock = opened(viewer, path)
    idle(dock, qtbot)
    keys = []
    for button in dock.findChildren(QAbstractButton):
        if button.text():
            assert "&" in button.text() or not button.shortcut().isEmpty(), (
                button.text()
            )
            keys.append(button.shortcut().toString())
    assert len(keys) == len(set(keys)), sorted(keys)


def test_files_are_asked_for(viewer, qtbot, path, monkeypatch):
    dock = opened(viewer)
    asked = "napari_geosr.gui._open_projections.QFileDialog.getOpenFileName"
    monkeypatch.setattr(asked, lambda *_: (str(path), ""))
    with qtbot.waitSignal(dock.open.opened, timeout=60_000):
        dock.open.file_button.click()
    assert dock.opened().path == Path(path)
