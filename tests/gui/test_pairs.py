"""The *Pairs* dock: two aligned scans, or one that is degraded."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import opening
import pytest
from qtpy.QtWidgets import QLineEdit

from napari_geosr import io
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers.camera import fit_camera
from napari_geosr.gui.layers.data_row import DataRow
from napari_geosr.gui.pairs import PairsDock
from napari_geosr.gui.pairs.steps import free_folder
from napari_geosr.gui.pairs.widgets import IDLE, ONE, TWO
from napari_geosr.physics.sampling import coarse_scan
from napari_geosr.physics.specimens.phantoms import sphere_foam
from napari_geosr.registration import itk

PLUGIN, DOCK, TRAIN = "napari-geosr", "Pairs", "Train"


@pytest.fixture(scope="module")
def foam() -> np.ndarray:
    made = sphere_foam((64, 72, 80), porosity=0.3, radius=(4, 10), gap=1, seed=2)
    return (0.8 - 0.6 * made.fraction).astype(np.float32)


@pytest.fixture
def scans(viewer, foam):
    """Unsorted layers: a coarse one of everything, and a fine one of a part."""
    rng = np.random.default_rng(0)
    coarse = 200 * coarse_scan(foam, 2, 0.4) + rng.normal(0, 6, (32, 36, 40))
    place = {"units": "um"}
    return {
        "high": viewer.add_image(
            foam[7:55, 9:57, 12:68], name="spot", scale=(2.0,) * 3, **place
        ),
        "low": viewer.add_image(
            coarse.astype(np.float32), name="part", scale=(4.0,) * 3, **place
        ),
    }


def opened(viewer, tmp_path):
    dock = opening.opened(viewer, DOCK)
    dock.folder.set_path(tmp_path / "pairs")
    return dock


def built(dock, qtbot):
    dock.build_button.click()
    assert dock.activity.busy, dock.data_message.text
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=120_000)


def shows_the_pair_alone(viewer, low, scans) -> np.ndarray:
    """Assert that the scans, visible underneath, change nothing inside the pair."""
    lowest, highest = low.extent.world
    viewer.dims.set_point(0, (lowest[0] + highest[0]) / 2)
    fit_camera(viewer, low)
    viewer.scene.camera.zoom *= 3
    assert all(scan.visible for scan in scans)
    shown = viewer.screenshot(flash=False)
    for scan in scans:
        scan.visible = False
    alone = viewer.screenshot(flash=False)
    for scan in scans:
        scan.visible = True
    assert np.ptp(alone[..., :3].max(axis=-1)) > 50
    np.testing.assert_array_equal(shown, alone)
    return shown


def test_two_layers_become_a_pair(viewer, scans, tmp_path, qtbot):
    dock = opened(viewer, tmp_path)
    qtbot.waitUntil(lambda: dock.low.layer() is scans["low"])
    assert dock.high.layer() is scans["high"]
    assert dock.low.questions.isHidden()  # an empty row would leave a gap
    dock.rare.set_values({"search_angle": 0.0})
    built(dock, qtbot)
    folder = tmp_path / "pairs" / "spot"
    assert {p.name for p in folder.iterdir()} == {
        "low.ome.tif",
        "high.ome.tif",
        "overlay.png",
        "pairs.json",
    }
    text = dock.figures.text()
    assert "Residual shift\t0." in text
    assert re.search(r"Mutual information\t\d\.\d+ → \d\.\d+\tbits", text)
    assert text.splitlines()[-1].startswith("Size at high resolution\t")
    assert dock.result_notes.isHidden()
    assert str(folder) in dock.message.text
    assert dock.bar.state.text() == "Done. Next: Train with these pairs…"
    assert dock.train_button.property("primary")
    assert not dock.build_button.property("primary")
    qtbot.waitUntil(lambda: not dock.train_button.visibleRegion().isEmpty())
    layers = dock._layers
    assert set(layers) == {"low", "before", "high"}
    low, high = layers["low"], layers["high"]
    assert tuple(high.scale) == (2.0,) * 3
    # Both fill the same box, at the position of the coarse scan.
    for layer in (low, high):
        # Where both agree, the result is grey: the colours add up to white, and equal
        # grey values have the same brightness.
        assert layer.contrast_limits == layers["before"].contrast_limits
    both = sum(layer.colormap.map([0.5])[0, :3] for layer in (low, high))
    np.testing.assert_allclose(both, 0.5, atol=0.01)
    edges = [
        (
            la.translate - la.scale / 2,
            la.translate + (np.array(la.data.shape) - 0.5) * la.scale,
        )
        for la in (low, high)
    ]
    assert np.allclose(edges[0], edges[1])
    # The fine scan was cropped at voxel (7, 9, 12) of 2 µm; the first voxel is at -1.
    first = np.ceil((np.array([7, 9, 12]) * 2 - 1 + 1) / 4) * 4
    assert np.abs(low.translate - first).max() <= 4
    assert not layers["before"].visible
    assert high.visible
    aligned = shows_the_pair_alone(viewer, low, scans.values())
    dock.blink_button.click()
    assert layers["before"].visible
    assert not high.visible
    before = shows_the_pair_alone(viewer, low, scans.values())
    assert (before != aligned).any()
    # Building again creates another folder from the same scans; pairs are not used as
    # scans.
    built(dock, qtbot)
    assert (tmp_path / "pairs" / "spot-2" / "pairs.json").is_file()
    viewer.layers.remove(layers["low"])
    qtbot.waitUntil(lambda: not dock._suggesting.isActive())
    other = PairsDock(viewer)
    qtbot.addWidget(other)
    for each in (dock, other):
        assert each.low.layer() is scans["low"]
        assert each.high.layer() is scans["high"]


def test_the_pair_goes_to_the_train_dock(viewer, scans, tmp_path, qtbot):
    dock = opened(viewer, tmp_path)
    qtbot.waitUntil(lambda: dock.low.layer() is scans["low"])
    dock.aligning.set_values({"transform": "translation", "start": "positions"})
    scans["high"].translate = np.array([7, 9, 12]) * 2 - 1.0
    built(dock, qtbot)
    dock.train_button.click()
    train = opening.opened(viewer, TRAIN)
    rows = {row.name: row for row in train.findChildren(DataRow)}
    folder = tmp_path / "pairs" / "spot"
    assert rows["Low resolution"].parts() == (folder / "low.ome.tif",)
    assert rows["High resolution"].parts() == (folder / "high.ome.tif",)
    values = train.settings.values()
    assert train.settings.method == "supervised"
    assert values["upscale_factor"] == 2
    assert (values["network"], values["dimensions"]) == ("light_sr", "3D")


@pytest.mark.slow
def test_one_file_becomes_a_pair_like_a_real_scan(viewer, foam, tmp_path, qtbot):
    path = io.write(Volume(foam, "ZYX", (2.0,) * 3, "µm"), tmp_path / "fine.ome.tif")
    dock = opened(viewer, tmp_path)
    dock.have.setCurrentText(ONE)
    assert dock.low.isHidden()
    assert dock.aligning.isHidden()
    assert not dock.imaging.isHidden()
    dock.high.set_files((path,))
    dock.shared.set_values({"upscale_factor": 4})
    dock.imaging.combo.setCurrentIndex(dock.imaging.combo.findData("fluo"))
    dock.imaging.form.set_values({"photons": 30.0, "blur": 0.5})
    built(dock, qtbot)
    assert set(dock._layers) == {"low", "high"}
    assert dock.blink_button.isHidden()
    report = dock._built.pairs.report
    assert report["degrade"] == "fluo"
    assert report["settings"]["photons"] == 30
    real = dock._built.pairs.files["low"]
    dock.imaging.set_kind("ct", {})
    dock.like.set_files((real,))
    dock.shared.set_values({"upscale_factor": None})
    built(dock, qtbot)
    assert dock._built.pairs.report["upscale_factor"] == 4
    assert "Measured blur\t" in dock.figures.text()
    assert dock.result_notes.text().startswith("The noise is ")
    # Settings of the user are remembered.
    again = opened(viewer, tmp_path)
    assert again.have.currentText() == ONE


def test_what_is_wrong_is_said_beside_the_data(viewer, scans, tmp_path, qtbot):
    dock = opened(viewer, tmp_path)
    qtbot.waitUntil(lambda: dock.low.layer() is scans["low"])
    dock.high.combo.set_layer(scans["low"])
    dock.build_button.click()
    assert "two different scans" in dock.data_message.text
    dock.high.combo.set_layer(scans["high"])
    line = dock.aligning.findChild(QLineEdit, "offset")
    line.setText("1, two")
    dock.build_button.click()
    assert "numbers with commas" in dock.aligning.faults["offset"]
    assert not dock.data_message.text
    line.setText("")
    dock.shared.set_values({"upscale_factor": 8})
    built(dock, qtbot)
    assert "too large for an upscale factor" in dock.shared.faults["upscale_factor"]
    assert not dock.message.text
    assert dock.figures.isHidden()
    assert not (tmp_path / "pairs").exists()


def test_it_stops_and_leaves_nothing(viewer, scans, tmp_path, qtbot):
    dock = opened(viewer, tmp_path)
    qtbot.waitUntil(lambda: dock.low.layer() is scans["low"])
    dock.aligning.set_values({"start": "search"})
    dock.rare.set_values({"search_angle": 180.0})
    dock.build_button.click()
    qtbot.waitUntil(lambda: "earching" in dock.progress_label.text(), timeout=30_000)
    dock.cancel_button.click()
    qtbot.waitUntil(lambda: not dock.activity.busy, timeout=30_000)
    assert "Cancelled" in dock.message.text
    assert not (tmp_path / "pairs").exists()
    assert len(viewer.layers) == 2


def test_without_simpleitk_it_says_how_to_install_it(
    viewer, scans, tmp_path, qtbot, monkeypatch
):
    monkeypatch.setattr(itk, "find_spec", lambda _name: None)
    dock = opened(viewer, tmp_path)
    qtbot.waitUntil(lambda: dock.low.layer() is scans["low"])
    built(dock, qtbot)
    assert "pip install 'napari-geosr[registration]'" in dock.message.text


@pytest.mark.slow
def test_layers_that_go_are_let_go_of(viewer, scans, tmp_path, qtbot):
    dock = opened(viewer, tmp_path)
    qtbot.waitUntil(lambda: dock.low.layer() is scans["low"])
    dock.aligning.set_values({"transform": "translation", "start": "positions"})
    scans["high"].translate = np.array([7, 9, 12]) * 2 - 1.0
    built(dock, qtbot)
    viewer.layers.remove(dock._layers["before"])
    assert not dock.blink_button.isEnabled()
    assert "before" not in dock._layers
    viewer.layers.clear()
    assert dock._layers == {}
    dock.have.setCurrentText(TWO)
    qtbot.waitUntil(lambda: not dock.build_button.isEnabled(), timeout=2000)


def test_scans_are_chosen_before_a_pair_is_built(viewer, scans, tmp_path, qtbot):
    removed = viewer.layers.pop(viewer.layers.index(scans["low"]))
    dock = opened(viewer, tmp_path)
    qtbot.wait(20)
    assert dock.bar.state.text() == IDLE
    assert not dock.build_button.isEnabled()
    dock.have.setCurrentText(ONE)
    qtbot.waitUntil(lambda: dock.high.layer() is scans["high"])
    assert dock.bar.state.text() == "Ready: press Build pair."
    assert dock.build_button.property("primary")
    assert dock.build_button.isEnabled()
    dock.have.setCurrentText(TWO)
    assert not dock.build_button.isEnabled()
    viewer.layers.append(removed)
    qtbot.waitUntil(dock.build_button.isEnabled)
    dock.low.combo.set_layer(None)
    assert not dock.build_button.isEnabled()
    dock.low.set_files((tmp_path / "low.tif",))
    assert dock.build_button.isEnabled()


def test_a_bad_setting_is_refused_below_its_field(viewer, scans, tmp_path, qtbot):
    dock = opened(viewer, tmp_path)
    qtbot.waitUntil(lambda: dock.low.layer() is scans["low"])
    forms = (dock.shared, dock.aligning, dock.rare)
    (form,) = [form for form in forms if "memory" in form.names]
    form.set_values({"memory": "plenty"})
    dock.build_button.click()
    assert not dock.activity.busy
    assert "'plenty' is not an amount of memory" in form.faults["memory"]
    field = form.editor("memory")
    qtbot.waitUntil(lambda: not field.visibleRegion().isEmpty(), timeout=3000)
    assert not dock.data_message.text
    assert not dock.message.text


def test_folders_are_new(tmp_path):
    assert free_folder(tmp_path, "a") == tmp_path / "a"
    for name in ("a", "a-2"):
        (tmp_path / name).mkdir()
    assert free_folder(tmp_path, "a") == Path(tmp_path / "a-3")


def test_a_layer_without_a_voxel_size_is_not_proposed(viewer, scans, tmp_path, qtbot):
    """Its pixels are not compared with lengths."""
    viewer.add_image(np.random.default_rng(0).random((8, 9, 10)), name="no size")
    dock = opened(viewer, tmp_path)
    qtbot.wait(20)
    assert dock.low.layer() is scans["low"]
    assert dock.high.layer() is scans["high"]
