"""Standard deviations and the check against the scan, in real napari."""

from __future__ import annotations

import json
import shlex
import threading

import numpy as np
import opening
import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QFileDialog

from napari_geosr import io
from napari_geosr.gui.layers.saving import FILTERS
from napari_geosr.gui.restore import deviation_layer as _deviation_layer
from napari_geosr.models import bundle, zoo
from napari_geosr.operations.restore import RestoreConfig

PLACE = {"scale": (2.0, 0.5, 0.5), "translate": (10.0, 20.0, 30.0), "units": "um"}


@pytest.fixture
def scan(rng) -> np.ndarray:
    data = np.full((6, 36, 40), 100, np.float32)
    data[1:5, 10:20, 12:26] = 40
    return data + rng.normal(0, 8, data.shape).astype(np.float32)


def small_model(folder, seed: int) -> str:
    """A fast denoiser: two layers with random weights."""
    import torch

    from napari_geosr.networks import build_network

    torch.manual_seed(seed)
    kwargs = {"depth": 2, "width": 2, "adjacent_slices": 3, "dilations": [1, 2]}
    network = build_network("msdnet", residual=True, **kwargs)
    torch.nn.init.normal_(network.final_weight, std=0.1)
    values = {
        "name": folder.name,
        "network_kwargs": kwargs | {"residual": True},
        "adjacent_slices": 3,
        "halo": max(network.spec.halo),
    }
    card = zoo.find("foam-denoise").card.model_copy(update=values)
    bundle.save(folder, card, network)
    return str(folder)


@pytest.fixture
def models() -> list[str]:
    """Two models of the user."""
    folder = zoo.user_folder()
    return [small_model(folder / name, i) for i, name in enumerate(("one", "two"))]


def opened(viewer, model):
    dock = opening.opened(viewer)
    dock.model_box.set_model(model)
    return dock


def choose(dock, kind: str) -> None:
    dock.uncertainty.combo.setCurrentIndex(dock.uncertainty.combo.findData(kind))


def finished(dock, qtbot, *, stop: bool = False):
    with qtbot.waitSignal(dock.activity.finished, timeout=120_000) as signal:
        dock.run_button.click()
        if stop:
            qtbot.waitUntil(lambda: dock.activity.target() is not None, timeout=60_000)
            dock.cancel_button.click()
    qtbot.waitUntil(lambda: dock.activity.busy == "", timeout=30_000)
    return signal.args[1]


def test_a_second_layer_holds_the_deviations(
    viewer, qtbot, scan, models, tmp_path, monkeypatch
):
    source = viewer.add_image(scan, name="scan", **PLACE)
    source.metadata["geosr"] = {"source": tmp_path / "scan.tif"}
    dock = opened(viewer, models[0])
    assert dock.uncertainty.members.isHidden()
    choose(dock, "tta")
    assert not dock.uncertainty.members.isHidden()
    dock.uncertainty.members.setValue(4)
    restored = finished(dock, qtbot)
    assert restored.complete
    result, deviation = dock.activity.target(), dock.activity.deviation()
    assert [layer.name for layer in viewer.layers] == [
        "scan",
        "scan · one",
        "scan · one (std)",
    ]
    for layer in (result, deviation):
        np.testing.assert_array_equal(layer.scale, source.scale)
        np.testing.assert_array_equal(layer.translate, source.translate)
        assert layer.units == source.units
    assert viewer.layers.selection.active is result
    assert not deviation.visible
    assert deviation.data.min() >= 0
    assert 0 < deviation.contrast_limits[1] <= deviation.data.max() * 1.01
    assert deviation.metadata["geosr"]["source_layer"] == "scan"
    # Neither is offered for restoration instead of a scan, or for comparison.
    assert dock.layer_combo.findText("scan · one (std)") < 0
    assert dock.compare.pair() == (source, result)
    dock.compare.curtain_button.click()
    assert dock.compare._curtain is not None
    dock.compare.curtain_button.click()

    dock.copy_command.click()
    words = shlex.split(QGuiApplication.clipboard().text())
    at = words.index("--uncertainty")
    assert words[at : at + 4] == ["--uncertainty", "tta", "--uncertainty-members", "4"]
    dock.copy_python.click()
    script = QGuiApplication.clipboard().text()
    assert "restored, deviation = restore_with_uncertainty(volume" in script
    assert "_std.ome.tif')" in script or '_std.ome.tif")' in script

    answer = (str(tmp_path / "a.ome.tif"), next(iter(FILTERS)))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: answer)
    with qtbot.waitSignal(dock.save_button.saved, timeout=10_000):
        dock.save_button.click()
    saved = io.read(tmp_path / "a_std.ome.tif")
    np.testing.assert_array_equal(saved.data[:], deviation.data)
    assert saved.voxel_size == PLACE["scale"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_in_both_layers(viewer, qtbot, scan, models, monkeypatch):
    monkeypatch.setattr("napari_geosr.inference.tiles.choice._SECONDS_PER_STACK", 0.0)
    viewer.add_image(np.tile(scan, (20, 2, 2)), name="scan", **PLACE)
    dock = opened(viewer, models[0])
    choose(dock, "tta")
    assert not finished(dock, qtbot, stop=True).complete
    layers = dock.activity.target(), dock.activity.deviation()
    reached = [np.isfinite(layer.data) for layer in layers]
    np.testing.assert_array_equal(*reached)
    assert 0 < reached[0].mean() < 1
    before = [np.where(reached[0], layer.data, 0) for layer in layers]
    assert finished(dock, qtbot).complete
    assert (dock.activity.target(), dock.activity.deviation()) == layers
    assert len(viewer.layers) == 3
    for layer, kept in zip(layers, before, strict=True):
        assert np.isfinite(layer.data).all()
        assert (layer.data[reached[0]] == kept[reached[0]]).all()
        assert "unfinished" not in layer.name


def test_several_models_are_ticked_and_remembered(viewer, qtbot, scan, models):
    viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer, models[0])
    choose(dock, "ensemble")
    others = dock.uncertainty.others
    assert not others.isHidden()
    listed = {others.item(i).text(): others.item(i) for i in range(others.count())}
    assert "two" in listed
    assert "one" not in listed
    assert "foam-sr-x2" not in listed
    listed["two"].setCheckState(Qt.CheckState.Checked)
    assert dock.config().ensemble_with == (models[1],)
    assert finished(dock, qtbot).complete
    facts = dock.activity.deviation().metadata["geosr"]["provenance"][-1]["uncertainty"]
    assert facts["members"] == ["one", "two"]
    again = opened(viewer, models[0])
    assert again.config().uncertainty == "ensemble"
    assert again.config().ensemble_with == (models[1],)
    again.uncertainty.set_values(RestoreConfig())
    assert again.config() == RestoreConfig(model=models[0])
    dock.model_box.set_model("bone-sr-x8")
    assert dock.uncertainty.others.item(0).text().startswith("no other model")
    assert dock.config().ensemble_with == ()


def test_a_painted_pore_is_marked(viewer, qtbot, scan, models):
    source = viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer, models[0])
    assert dock.check_button.isHidden()
    finished(dock, qtbot)
    assert not dock.check_button.isHidden()
    result = dock.activity.target()
    clean = np.full_like(scan, 100)
    clean[1:5, 10:20, 12:26] = 40
    for painted in (False, True):
        data = clean.copy()
        if painted:
            data[2:5, 26:30, 6:10] = 40
        result.data = data
        with qtbot.waitSignal(dock.check_button.checked_result, timeout=60_000) as said:
            dock.check_button.click()
            dock.model_box.set_model(models[not painted])  # during the comparison
        qtbot.waitUntil(dock.check_button.isEnabled)
        assert said.args[0].figures.is_consistent is not painted
        assert viewer.layers.selection.active is result
        residual = [x for x in viewer.layers if x.name.endswith("(residual)")][-1]
        np.testing.assert_array_equal(residual.scale, source.scale)
        np.testing.assert_array_equal(residual.translate, source.translate)
        marks = [x for x in viewer.layers if "suspicious regions" in x.name]
        assert len(marks) == painted
        words = "fits the scan except in one region" if painted else "fits the scan:"
        assert words in dock.check_verdict.text
        assert not dock.check_verdict.isHidden()
    z, y, x = marks[0].data[0]
    assert 2 <= z < 5
    assert 25 <= y < 33
    assert 5 <= x < 13
    np.testing.assert_array_equal(marks[0].translate, source.translate)
    assert marks[0].features["result_is"][0] == "darker"


def test_the_records_can_be_kept_in_files(viewer, qtbot, scan, models):
    viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer, models[0])
    choose(dock, "tta")
    finished(dock, qtbot)
    for layer in (dock.activity.target(), dock.activity.deviation()):
        records = layer.metadata["geosr"]["provenance"]
        kept = json.loads(json.dumps(records))
        assert json.dumps(kept) == json.dumps(records)
        assert (kept[-1]["operation"], kept[-1]["complete"]) == ("restore", True)
        assert kept[-1]["uncertainty"]["kind"] == "tta"


def test_the_window_goes_on_while_the_contrast_is_found(
    viewer, qtbot, scan, models, monkeypatch
):
    look, threads = _deviation_layer.upper_limit, []

    def looked(data):
        threads.append(threading.current_thread())
        return look(data)

    monkeypatch.setattr(_deviation_layer, "upper_limit", looked)
    viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer, models[0])
    choose(dock, "tta")
    dock.uncertainty.members.setValue(2)
    finished(dock, qtbot)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
    deviation = dock.activity.deviation()
    assert deviation.contrast_limits[1] == pytest.approx(look(deviation.data))


class Counted:
    """Ramps in every plane, as large as a result on disk; counts reads."""

    def __init__(self, shape) -> None:
        ramp = np.linspace(0, 1, shape[-1], dtype=np.float32)
        self._data = np.broadcast_to(ramp, shape)
        self.shape, self.ndim, self.n_read = shape, len(shape), 0

    def __getitem__(self, key):
        values = self._data[key]
        self.n_read += values.size
        return values


@pytest.mark.parametrize(
    "shape", [(4000, 4000, 4000), (3, 500, 700), (1, 90, 80), (9000, 9000), (30, 40)]
)
def test_few_voxels_say_how_far_deviations_reach(shape):
    data = Counted(shape)
    assert _deviation_layer.upper_limit(data) == pytest.approx(0.998, abs=0.01)
    assert data.n_read <= 9 * 256**2


def test_deviations_of_what_was_not_restored_are_left_out():
    data = np.full((20, 300, 300), np.nan, np.float32)
    assert _deviation_layer.upper_limit(data) == 0
    data[:, 100:] = 3
    assert _deviation_layer.upper_limit(data) == 3


def test_a_diffusion_model_only_draws_samples(viewer, qtbot, scan, models):
    import napari_geosr as geosr

    settings = {"width": 8, "layers": 1, "steps": 2, "patch": 16, "batch_size": 2}
    job = zoo.user_folder().parent / "job"
    geosr.train("ddpm", job, scan, name="prior", **settings)
    name = str(zoo.user_folder() / "prior")
    (job / "result" / "prior").rename(name)
    viewer.add_image(scan, name="scan", **PLACE)
    dock = opened(viewer, models[0])
    box = dock.uncertainty
    model = box.combo.model()

    def offered() -> set[str]:
        numbers = range(box.combo.count())
        return {box.combo.itemData(i) for i in numbers if model.item(i).isEnabled()}

    assert offered() == {"none", "tta", "ensemble"}
    dock.model_box.set_model(name)
    assert offered() == {"diffusion"}
    assert box.values()["uncertainty"] == "diffusion"
    box.members.setValue(2)
    restored = finished(dock, qtbot)
    assert restored.deviation is not None
    names = [layer.name for layer in viewer.layers]
    assert any(name.endswith("(std)") for name in names)
    dock.model_box.set_model(models[0])
    assert box.values()["uncertainty"] == "none"
