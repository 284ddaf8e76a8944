"""Noise2Inverse as a job from the Reconstruct dock, and the keys of all actions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QAbstractButton
from tomography_helpers import idle, opened, scan_file

from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers.camera import is_in_view
from napari_geosr.gui.layers.projections import OpenedScan
from napari_geosr.gui.reconstruct.denoise_box import DenoiseBox, scans_config
from napari_geosr.io.projections import read_projections
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.reconstruct import ReconstructConfig


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return scan_file(tmp_path_factory.mktemp("scan"), rows=12)


@pytest.mark.slow
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
    qtbot.waitUntil(lambda: not box.activity.busy)
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


def test_a_denoised_volume_comes_into_view(viewer):
    viewer.add_image(np.zeros((4, 30, 30)), scale=(3, 2, 2))
    box, camera = DenoiseBox(viewer), viewer.scene.camera
    volume = Volume(np.zeros((4, 50, 50), np.float32), "ZYX", (3.0, 2.0, 2.0), "µm")
    camera.center, camera.zoom = (0.0, 0.0, 0.0), 8.0
    box._on_opened((volume, (0.0, 1.0)))
    assert is_in_view(viewer, viewer.layers[-1])
    np.testing.assert_allclose(camera.center[-2:], 49)
    # A view that shows everything was chosen by the user.
    camera.zoom *= 0.5
    where = camera.center, camera.zoom
    box._on_opened((volume, (0.0, 1.0)))
    assert (camera.center, camera.zoom) == where


def test_a_bad_name_is_refused(viewer, qtbot, path, tmp_path):
    dock = opened(viewer, path)
    qtbot.waitUntil(lambda: not dock.denoise.activity.busy, timeout=30_000)
    dock.denoise.folder = tmp_path
    dock.denoise.name.setText("Not A Name")
    dock.denoise.start_button.click()
    faults = dock.denoise.faults
    qtbot.waitUntil(lambda: "name" in faults.texts, timeout=60_000)
    assert "lower-case letters" in faults.texts["name"]
    assert not dock.message.text
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


def test_repairs_and_edges_of_the_dock_go_into_the_job(path, tmp_path):
    config = ReconstructConfig.create(
        stripes="all",
        stripe_size=101,
        stripe_contrast=2.0,
        frames="median",
        nonfinite="fill",
        minimum_transmission=1e-2,
        saturation=60_000,
        zingers=8,
        full_turn="keep",
        rows=(2, 9),
        options={"padding": "edge"},
    )
    given = OpenedScan(read_projections(path))
    job = scans_config(given, config, 20.0, tmp_path).reconstruction()
    assert job.preparation() == config.preparation()
    assert job.algorithm_config() == config.algorithm_config()
    assert (job.full_turn, job.rows) == ("keep", (2, 9))


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
    asked = "napari_geosr.gui.reconstruct.open.QFileDialog.getOpenFileName"
    monkeypatch.setattr(asked, lambda *_: (str(path), ""))
    with qtbot.waitSignal(dock.open.opened, timeout=60_000):
        dock.open.file_button.click()
    assert dock.opened().path == Path(path)
