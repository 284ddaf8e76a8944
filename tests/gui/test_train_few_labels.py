"""Both stages of training with a few labels run as jobs of the Train dock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from opening import filled
from train_helpers import TRAIN, opened, preview_layer, set_small

import napari_geosr as geosr
from napari_geosr.gui.train import scenarios
from napari_geosr.jobs.folder import ALIVE, JobFolder
from napari_geosr.physics.shapes.radiographs import TISSUES, radiographs

TINY = {"layers": 1, "width": 8, "patch": 16, "device": "cpu"}
EDGE = 48


def simulated(number: int, *, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Radiographs and their labels: 1 to 6, and 0 for restorations."""
    made = list(radiographs(number, EDGE, seed=0, start=start))
    labels = np.stack([one.labels for one in made])
    known = np.where(labels < len(TISSUES), labels + 1, 0).astype(np.uint8)
    return np.stack([one.grey for one in made]), known


def choose(dock, method: str) -> None:
    known = scenarios.training_scenarios()
    dock.have.setCurrentIndex(scenarios.find(known, method))
    assert dock.method.currentText() == method


def trained(dock, qtbot, before: Path | None = None) -> Path:
    """Start the training, and return its job when it has finished."""
    view = dock.view
    dock.start_button.click()
    qtbot.waitUntil(lambda: view.job not in (None, before), timeout=60_000)
    qtbot.waitUntil(lambda: view.state not in ("", *ALIVE), timeout=300_000)
    assert view.state == "done", JobFolder(view.job).status()
    return view.job


def weights(job: Path) -> dict[str, np.ndarray]:
    state = geosr.load_model(str(job)).network().state_dict()
    return {name: values.numpy() for name, values in state.items()}


@pytest.mark.slow
def test_from_unlabelled_radiographs_to_labels(viewer, qtbot, tmp_path):
    unlabelled, _ = simulated(6)
    images = viewer.add_image(unlabelled, name="unlabelled")
    dock = opened(viewer, TRAIN)
    choose(dock, "ddpm")
    dock._rows["source"].combo.set_layer(images)
    set_small(dock, steps=6, name="prior", folder=tmp_path, **TINY)
    prior = trained(dock, qtbot)
    assert geosr.load_model(str(prior)).card.task == "generate"
    # The preview is a generated image, beside a stack of images.
    qtbot.waitUntil(lambda: preview_layer(viewer) is not None, timeout=20_000)
    assert (preview_layer(viewer).ndim, images.ndim) == (2, 3)

    grey, labels = simulated(3, start=6)
    scan = viewer.add_image(grey, name="scan")
    painted = np.zeros_like(labels)
    painted[1] = labels[1]
    strokes = viewer.add_labels(painted, name="painted")
    choose(dock, "ptdr")
    dock._rows["source"].combo.set_layer(scan)
    dock._rows["target"].combo.set_layer(strokes)
    set_small(dock, steps=4, name="tissues", **TINY)
    dock.settings.form.set_values({"from_model": str(prior), "classes": len(TISSUES)})
    assert dock.plan().settings["unpainted"] == 0  # as usual in napari
    job = trained(dock, qtbot, prior)
    assert JobFolder(job).values()["training"]["from_model"] == str(prior)
    # Only the head is new: a few steps hardly change the weights of the prior.
    before, after = weights(prior), weights(job)
    shared = [
        name
        for name in before
        if not name.startswith("head.") and before[name].dtype.kind == "f"
    ]
    assert len(shared) > 10
    for name in shared:
        np.testing.assert_allclose(after[name], before[name], atol=5e-3)

    dock.view.use_button.click()
    names = viewer.window.dock_widgets
    qtbot.waitUntil(lambda: any("Restore" in n for n in names), timeout=10_000)
    restore = filled(next(w for n, w in names.items() if "Restore" in n))
    qtbot.waitUntil(lambda: "tissues" in restore.model_box.model(), timeout=10_000)
    with qtbot.waitSignal(restore.activity.ready, timeout=60_000):
        restore.layer_combo.set_layer(scan)
    with qtbot.waitSignal(restore.activity.finished, timeout=60_000):
        restore.run_button.click()
    (result,) = [la for la in viewer.layers if "scan · tissues" in la.name]
    assert type(result).__name__ == "Labels"
    assert result.data.shape == scan.data.shape
    # After so few steps, the class 0, which is never painted, is not ruled out.
    assert result.data.max() <= len(TISSUES)
