"""Labels in the docks: a label layer for training, and one as the result."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtCore import QObject
from train_helpers import PLACE, SMALL, TRAIN, opened, preview_layer, set_small

from napari_geosr import train
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.preview import JobPreview
from napari_geosr.gui.layers import saving as _saving
from napari_geosr.gui.train import scenarios
from napari_geosr.io import read, write
from napari_geosr.jobs import local
from napari_geosr.jobs.run import run_steps
from napari_geosr.physics.specimens.phantoms import sphere_foam

RESTORE = "Restore"


@pytest.fixture(scope="module")
def foam():
    """A noisy 16 × 64 × 64 foam, and a mask of its pores."""
    solid = (
        1
        - sphere_foam(
            (16, 64, 64), porosity=0.3, radius=(4, 9), gap=1.0, seed=3
        ).fraction
    )
    noise = np.random.default_rng(0).normal(0, 0.3, solid.shape)
    return (100 * (solid + noise)).astype(np.float32), (solid < 0.5).astype(np.uint8)


@pytest.fixture(scope="module")
def model(foam, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    files = {}
    for role, data in zip(("source", "target"), foam, strict=True):
        files[role] = [write(Volume(data, "ZYX"), folder / f"{role}.ome.tif")]
    settings = SMALL | {"labels": 2, "steps": 60, "learning_rate": 0.02}
    made = train("supervised", folder / "job", **files, device="cpu", **settings)
    return str(made.path)


def test_the_train_dock_learns_from_a_labels_layer(
    viewer, qtbot, foam, tmp_path, monkeypatch
):
    # In this process, because a separate one takes seconds to start.
    monkeypatch.setattr(local, "start", lambda job: run_to_end(run_steps(job)))
    scan, pores = foam
    scan_layer = viewer.add_image(scan, name="scan", **PLACE)
    labels_layer = viewer.add_labels(pores, name="pores", **PLACE)
    dock = opened(viewer, TRAIN)
    question = scenarios.find(scenarios.training_scenarios(), "supervised", "labels")
    dock.have.setCurrentIndex(question)
    assert dock.settings.values()["labels"] == 2
    editor = dock.settings.form.editor("labels")
    assert editor.isVisibleTo(dock.settings.form)
    assert dock._rows["source"].layer() is scan_layer
    assert dock._rows["target"].layer() is labels_layer
    set_small(dock, steps=12, folder=tmp_path)
    dock.start_button.click()
    view = dock.view
    qtbot.waitUntil(lambda: view.state == "done", timeout=90_000)
    assert "1 − mean Dice" in view.plot.names()
    assert "Mean Dice" in view.figures.text()
    qtbot.waitUntil(lambda: preview_layer(viewer) is not None, timeout=10_000)
    assert isinstance(preview_layer(viewer), Labels)
    view.tune_button.click()
    qtbot.waitUntil(lambda: dock.name.text().endswith("-tuned"), timeout=30_000)
    assert dock.plan().settings["labels"] == 2
    # Other questions accept only images.
    dock.have.setCurrentIndex(
        scenarios.find(scenarios.training_scenarios(), "noise2noise")
    )
    assert not dock._rows["target"].accepts(labels_layer)


def test_the_restore_dock_adds_a_labels_layer(
    viewer, qtbot, foam, model, tmp_path, monkeypatch
):
    source = viewer.add_image(foam[0], name="scan", **PLACE)
    dock = opened(viewer, RESTORE)
    dock.model_box.open_model(model)
    with qtbot.waitSignal(dock.activity.ready, timeout=60_000):
        pass
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
        dock.preview_button.click()
    [preview] = [la for la in viewer.layers if "preview" in la.name]
    assert isinstance(preview, Labels)
    with qtbot.waitSignal(dock.activity.finished, timeout=60_000):
        dock.run_button.click()
    [result] = [la for la in viewer.layers if isinstance(la, Labels)]
    np.testing.assert_array_equal(result.scale, source.scale)
    np.testing.assert_array_equal(result.translate, source.translate)
    assert result.data.dtype == np.uint8
    assert (result.data == foam[1]).mean() > 0.9
    assert result.metadata["geosr"]["provenance"][-1]["complete"] is True
    # There are no grey values to compare or to threshold.
    assert not dock.compare.isEnabled()
    assert dock.measure_button.isHidden()

    path = tmp_path / "labels.ome.tif"
    monkeypatch.setattr(_saving, "ask_save_path", lambda *_: path)
    with qtbot.waitSignal(dock.save_button.saved, timeout=30_000):
        dock.save_button.click()
    saved = read(path)
    assert saved.metadata["kind"] == "labels"
    assert saved.voxel_size == PLACE["scale"]


def test_a_preview_changes_its_kind_with_the_model(viewer, qtbot, foam, model):
    viewer.add_image(foam[0], name="scan", **PLACE)
    dock = opened(viewer, RESTORE)
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
        dock.preview_button.click()
    with qtbot.waitSignal(dock.activity.previewed, timeout=60_000):
        dock.model_box.open_model(model)
    kinds = [type(la) for la in viewer.layers]
    assert kinds == [Image, Labels]


def test_previews_of_a_training_are_labels(viewer, qtbot, foam, tmp_path):
    path = tmp_path / "latest.tif"
    pores = Volume(foam[1][:1], "ZYX", metadata={"kind": "labels"})
    write(pores, path)
    owner = QObject()
    shown = JobPreview(viewer, owner)
    shown.set_job(path, "mine", ())
    shown.update_to(1)
    qtbot.waitUntil(lambda: shown.layer() is not None, timeout=20_000)
    assert isinstance(shown.layer(), Labels)
