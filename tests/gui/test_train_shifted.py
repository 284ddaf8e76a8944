"""Layers that are shifted against each other are paired where they are shown."""

from __future__ import annotations

import numpy as np
import pytest
from train_helpers import TRAIN, noisy_scans, opened, set_small

from napari_geosr import io
from napari_geosr.core.steps import run_to_end
from napari_geosr.gui.jobs import start
from napari_geosr.jobs.folder import JobFolder


@pytest.fixture
def shifted(viewer):
    """Two crops of one scan, where the file of the first states no position."""
    scan = noisy_scans(viewer)[0]
    whole, edge = scan.data, float(scan.scale[1])
    viewer.layers.clear()
    place = {"scale": scan.scale, "units": "um"}
    first = viewer.add_image(whole[:, :56], name="first", **place)
    move = (0.0, 8 * edge, 0.0)
    second = viewer.add_image(whole[:, 8:] + 1, name="second", translate=move, **place)
    viewer.layers.selection.active = first
    return first, second


def begun(dock, qtbot, monkeypatch):
    """Start the training without its process and return the paths of its scans."""
    monkeypatch.setattr(start.local, "start", lambda _job: None)
    dock.start_button.click()
    qtbot.waitUntil(lambda: dock.view.job is not None, timeout=30_000)
    training = JobFolder(dock.view.job).values()["training"]
    return [io.read(training[role][0]) for role in ("source", "target")]


@pytest.mark.parametrize("turned", [False, True])
def test_the_job_gets_the_region_that_both_show(
    viewer, shifted, turned, qtbot, tmp_path, monkeypatch
):
    if turned:
        c, s = np.cos(0.3), np.sin(0.3)
        for layer in shifted:
            layer.affine = [[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]]
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=2, folder=tmp_path)
    text = "Only the region that they share is used: 16 × 48 × 64 of the 16 × 56 × 64"
    qtbot.waitUntil(lambda: text in dock.warnings_message.text, timeout=30_000)
    source, target = begun(dock, qtbot, monkeypatch)
    assert source.shape == target.shape == (16, 48, 64)
    np.testing.assert_allclose(np.asarray(target.data), np.asarray(source.data) + 1)


def test_layers_without_a_unit_are_compared_too(
    viewer, qtbot, tmp_path, monkeypatch, shifted
):
    """In the viewer, a layer at the origin is at a known position."""
    first, _ = shifted
    whole = np.asarray(first.data)
    viewer.layers.clear()
    first = viewer.add_image(whole[:, :48], name="first")
    viewer.add_image(whole[:, 8:] + 1, name="second", translate=(0, 8, 0))
    viewer.layers.selection.active = first
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=2, folder=tmp_path)
    source, target = begun(dock, qtbot, monkeypatch)
    assert source.shape == target.shape == (16, 40, 64)
    np.testing.assert_allclose(np.asarray(target.data), np.asarray(source.data) + 1)


def test_a_fraction_of_a_voxel_is_refused_below_the_data(
    viewer, shifted, qtbot, tmp_path
):
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=2, folder=tmp_path)
    qtbot.waitUntil(lambda: "share" in dock.warnings_message.text, timeout=30_000)
    shifted[1].translate = (0.0, 4.25, 0.0)
    qtbot.waitUntil(lambda: not dock.warnings_message.text, timeout=30_000)
    dock.start_button.click()
    qtbot.waitUntil(lambda: bool(dock.data_message.text), timeout=30_000)
    assert "'second' is shifted by +0, +8.5, +0 voxels" in dock.data_message.text
    assert "Align them first (Pairs dock)." in dock.data_message.text
    assert not list(tmp_path.iterdir())


def test_an_estimate_uses_the_shared_region(shifted, viewer, tmp_path, monkeypatch):
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=2, folder=tmp_path)
    seen = []

    def estimate(values, **_):
        training = values["training"]
        paths = (training[role][0] for role in ("source", "target"))
        seen.extend(np.asarray(io.read(path).data) for path in paths)
        yield from ()

    monkeypatch.setattr(start, "estimate_steps", estimate)
    run_to_end(start.time_steps(dock.plan(), tmp_path))
    np.testing.assert_allclose(seen[1], seen[0] + 1)
