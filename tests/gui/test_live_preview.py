"""A layer that is restored where it is visible, in real napari."""

from __future__ import annotations

import time

import numpy as np
import opening
import pytest
from event_loop import Turns

from napari_geosr import restore
from napari_geosr.core.errors import FileError, GeoSRError
from napari_geosr.gui.layers import is_helper
from napari_geosr.operations.restore import live

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}


@pytest.fixture
def scan(viewer, rng):
    data = rng.normal(100, 10, (6, 96, 80)).astype(np.float32)
    layer = viewer.add_image(data, name="scan", colormap="viridis", **PLACE)
    viewer.dims.current_step = (2, 0, 0)
    return layer


def dock_of(viewer, qtbot, model="gaussian"):
    dock = opening.opened(viewer)
    dock.model_box.set_model(model)
    dock.model_box.set_user_choice(True)
    qtbot.waitUntil(dock.live.widget.isEnabled, timeout=60_000)
    return dock


def added(dock, qtbot):
    dock.live.widget.click()
    found = dock.live.layers[-1]
    finished(found, qtbot)
    return found


def finished(found, qtbot):
    qtbot.waitUntil(
        lambda: not found._tiles.is_waiting and not found._activity.busy,
        timeout=60_000,
    )
    qtbot.waitUntil(lambda: not found._refresh_timer.isActive(), timeout=5000)


def on_screen(layer):
    return np.asarray(layer._slice.image.raw)


def test_it_shows_the_result_of_the_slice_on_screen(viewer, qtbot, scan):
    dock = dock_of(viewer, qtbot)
    found = added(dock, qtbot)
    layer, expected = found.layer, restore(scan.data, "gaussian")
    assert layer.name.endswith("preview")
    assert layer.name.startswith("scan")
    assert is_helper(layer)
    np.testing.assert_allclose(on_screen(layer), expected[2], rtol=1e-4)
    for name in ("scale", "translate", "units"):
        assert np.all(getattr(layer, name) == getattr(scan, name))
    assert layer.colormap.name == "viridis"
    assert tuple(layer.contrast_limits) == tuple(scan.contrast_limits)
    # It follows the slider; the parts shown before are kept.
    viewer.dims.current_step = (5, 0, 0)
    finished(found, qtbot)
    np.testing.assert_allclose(on_screen(layer), expected[5], rtol=1e-4)
    viewer.dims.current_step = (2, 0, 0)
    np.testing.assert_allclose(on_screen(layer), expected[2], rtol=1e-4)
    # Nothing else was restored.
    assert {tile.plane for tile in found._tiles._done} == {2, 5}
    # The scan is still the layer to restore.
    assert dock.layer_combo.layer() is scan


def test_zoomed_out_it_shows_a_coarse_level_and_says_so(
    viewer, qtbot, rng, monkeypatch
):
    monkeypatch.setattr(live, "EDGE", 16)
    viewer.add_image(rng.normal(100, 10, (6, 96, 80)).astype(np.float32), name="scan")
    dock = dock_of(viewer, qtbot)
    viewer.scene.camera.zoom = 0.5
    found = added(dock, qtbot)
    viewer.scene.camera.zoom = 0.3
    qtbot.waitUntil(lambda: "preview at 1/" in found.layer.name, timeout=30_000)
    finished(found, qtbot)
    level = found.layer.data_level
    assert level > 0
    assert found.layer.name.endswith(f"preview at 1/{2**level}")
    assert not np.isnan(on_screen(found.layer)).any()
    viewer.scene.camera.zoom = 100
    qtbot.waitUntil(lambda: found.layer.name.endswith("preview"), timeout=30_000)
    # Only the tiles in view are restored.
    finished(found, qtbot)
    fine = {tile for tile in found._tiles._done if tile.level == 0}
    assert 0 < len(fine) < 30
    # A name that the user gave stays.
    found.layer.name = "mine"
    viewer.scene.camera.zoom = 0.3
    finished(found, qtbot)
    assert found.layer.name == "mine"


def test_while_a_tile_takes_long_a_quarter_of_the_resolution_is_shown(
    viewer, qtbot, scan, monkeypatch
):
    monkeypatch.setattr(live, "_MIN_QUICK_EDGE", 16)
    restored, slow = live.restore_region, [True]

    def wait(network, source, region, *, should_stop, **kwargs):
        while slow and source.shape == scan.data.shape and not should_stop():
            time.sleep(0.02)
        return restored(network, source, region, should_stop=should_stop, **kwargs)

    monkeypatch.setattr(live, "restore_region", wait)
    dock = dock_of(viewer, qtbot)
    dock.live.widget.click()
    found = dock.live.layers[-1]
    qtbot.waitUntil(lambda: found.layer.name.endswith("preview at 1/4"), timeout=30_000)
    shown = on_screen(found.layer)
    assert not np.isnan(shown).any()
    np.testing.assert_array_equal(shown[::4, ::4], shown[3::4, 3::4])
    slow.clear()
    finished(found, qtbot)
    assert found.layer.name.endswith("preview")
    expected = restore(scan.data, "gaussian")[2]
    np.testing.assert_allclose(on_screen(found.layer), expected, rtol=1e-4)


def test_super_resolution_lies_over_the_scan(viewer, qtbot, scan):
    dock = dock_of(viewer, qtbot, "cubic-x2")
    found = added(dock, qtbot)
    expected = restore(scan.data, "cubic-x2")
    assert found._tiles.levels[0].shape == expected.shape
    np.testing.assert_allclose(found.layer.scale, (1.0, 0.25, 0.25))
    np.testing.assert_allclose(
        found.layer.extent.world - np.array([[-0.5], [0.5]]) * found.layer.scale,
        scan.extent.world - np.array([[-0.5], [0.5]]) * scan.scale,
        atol=2.1,
    )


def test_the_window_stays_usable_and_3d_restores_nothing(
    viewer, qtbot, scan, monkeypatch
):
    dock = dock_of(viewer, qtbot)
    slow = live.restore_region

    def wait(*args, should_stop, **kwargs):
        for _ in range(20):
            if should_stop():
                break
            time.sleep(0.02)
        return slow(*args, should_stop=should_stop, **kwargs)

    monkeypatch.setattr(live, "restore_region", wait)
    with Turns() as turns:
        found = added(dock, qtbot)
    assert turns.count > 20
    n_done = len(found._tiles._done)
    viewer.dims.ndisplay = 3
    qtbot.waitUntil(lambda: not found._tiles.is_waiting, timeout=5000)
    assert not found._activity.busy
    assert len(found._tiles._done) == n_done


def test_removing_the_layer_stops_it(viewer, qtbot, scan):
    dock = dock_of(viewer, qtbot)
    found = added(dock, qtbot)
    other = added(dock, qtbot)  # another one, of the same run
    viewer.dims.current_step = (4, 0, 0)
    viewer.layers.remove(found.layer)
    assert dock.live.layers == [other]
    assert found.layer is None
    assert found._tiles._done == {}
    finished(other, qtbot)
    assert not np.isnan(on_screen(other.layer)).any()
    # Removing the scan has the same effect on the button.
    viewer.layers.remove(scan)
    qtbot.waitUntil(lambda: not dock.live.widget.isEnabled(), timeout=30_000)


def test_faults_are_shown_once(viewer, qtbot, scan, monkeypatch):
    dock = dock_of(viewer, qtbot)

    def fail(*_args, **_kwargs):
        raise GeoSRError("The disk is gone.")

    monkeypatch.setattr(live, "restore_region", fail)
    found = added(dock, qtbot)
    assert "disk is gone" in dock.message.text
    assert not found._tiles.is_waiting


@pytest.mark.parametrize("edge", [512, 16])  # one level, or several
@pytest.mark.parametrize("plugin", ["napari-geosr", "napari", None])
def test_it_cannot_be_saved(viewer, qtbot, scan, monkeypatch, tmp_path, plugin, edge):
    """The file would contain NaN wherever the layer has not been viewed."""
    monkeypatch.setattr(live, "EDGE", edge)
    dock = dock_of(viewer, qtbot)
    found = added(dock, qtbot)
    match = "restored only where it has been viewed, so it cannot be saved or dupl"
    with pytest.raises(FileError, match=match):
        found.layer.save(tmp_path / "live.tif", plugin=plugin)
    # File > Save Selected Layers, with this layer alone and with the scan.
    viewer.layers.selection = [found.layer]
    with pytest.raises(FileError, match=match):
        viewer.layers.save(tmp_path / "live.tif", selected=True, plugin=plugin)
    if plugin != "napari-geosr":  # only napari's writer accepts several layers
        with pytest.raises(FileError, match=match):
            viewer.layers.save(tmp_path / "folder", plugin=plugin)
    assert not list(tmp_path.rglob("*live*"))
    scan.save(tmp_path / "scan.tif", plugin=plugin)
