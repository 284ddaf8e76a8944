"""The Train dock starts real training in separate processes, in real napari."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from event_loop import Turns
from opening import filled
from train_helpers import JOBS, TRAIN, noisy_scans, opened, preview_layer, set_small

from napari_geosr.jobs.folder import JobFolder


@pytest.mark.slow
def test_from_layers_to_a_restored_scan(viewer, qtbot, tmp_path):
    first, second = noisy_scans(viewer)
    viewer.dims.set_point(0, 10.0 + 2 * 5)
    dock = opened(viewer, TRAIN)
    assert [row.layer() for row in dock._rows.values()] == [first, second]
    set_small(dock, steps=40, folder=tmp_path)
    dock.start_button.click()
    view = dock.view
    qtbot.waitUntil(lambda: view.job is not None, timeout=20_000)
    assert view.job.parent == tmp_path
    assert "continues after napari is closed" in dock.message.text
    qtbot.waitUntil(lambda: view.state == "done", timeout=60_000)
    assert not dock.message.text  # nothing is left that could continue
    assert set(view.plot.names()) == {"training", "validation"}
    qtbot.waitUntil(lambda: preview_layer(viewer) is not None, timeout=10_000)
    preview = preview_layer(viewer)
    np.testing.assert_allclose(preview.scale, first.scale)
    np.testing.assert_allclose(preview.translate, (20.0, 20.0, 30.0))
    assert preview.units == first.units
    assert preview.colormap.name == "viridis"
    assert "PSNR" in view.figures.text()
    view.tune_button.click()
    qtbot.waitUntil(lambda: dock.name.text() == "mine-tuned", timeout=30_000)
    settings = dock.plan().settings
    assert settings["from_model"] == str(JobFolder(view.job).status().result)
    assert settings["network_options"]["width"] == 2
    assert settings["width"] is None
    view.use_button.click()
    names = viewer.window.dock_widgets
    qtbot.waitUntil(lambda: any("Restore" in n for n in names), timeout=10_000)
    restore = filled(next(w for n, w in names.items() if "Restore" in n))
    qtbot.waitUntil(lambda: "mine" in restore.model_box.model(), timeout=10_000)
    assert "selected in the Restore dock" in view.message.text
    with qtbot.waitSignal(restore.activity.ready, timeout=60_000):
        restore.layer_combo.set_layer(first)
    with qtbot.waitSignal(restore.activity.finished, timeout=60_000):
        restore.run_button.click()
    assert any("first · mine" in layer.name for layer in viewer.layers)


def started(viewer, qtbot, folder, *, steps: int):
    """Start a long training run, and wait until its curve is shown."""
    noisy_scans(viewer)
    dock = opened(viewer, TRAIN)
    set_small(dock, steps=steps, folder=folder)
    dock.start_button.click()
    qtbot.waitUntil(lambda: dock.view.plot.n_points() > 2, timeout=60_000)
    return dock


@pytest.mark.slow
def test_a_training_outlives_the_window(make_napari_viewer, qtbot, tmp_path):
    viewer = make_napari_viewer(show=True)
    dock = started(viewer, qtbot, tmp_path, steps=20_000)
    job, view = dock.view.job, dock.view
    assert (
        "torch.cuda" not in sys.modules
        or not sys.modules["torch"].cuda.is_initialized()
    )
    points = view.plot.n_points()
    with Turns() as turns:
        qtbot.waitUntil(lambda: view.plot.n_points() > points, timeout=60_000)
    assert turns.count > 10
    assert "left" in view.figures.text()
    assert "memory" in view.figures.text()
    qtbot.waitUntil(lambda: preview_layer(viewer) is not None, timeout=20_000)

    view.pause_button.click()
    assert "Pausing" in view.state_label.text()
    qtbot.waitUntil(lambda: JobFolder(job).status().state == "paused", timeout=20_000)
    qtbot.waitUntil(lambda: view.state == "paused", timeout=5000)
    paused_at = JobFolder(job).status().done
    view.resume_button.click()
    qtbot.waitUntil(lambda: view.state == "running", timeout=60_000)
    viewer.close()

    viewer = make_napari_viewer(show=True)
    jobs = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: jobs.view.job == job, timeout=10_000)
    qtbot.waitUntil(lambda: jobs.view.plot.n_points() >= points, timeout=5000)
    qtbot.waitUntil(lambda: preview_layer(viewer) is not None, timeout=10_000)
    np.testing.assert_allclose(preview_layer(viewer).scale, (2, 0.5, 0.5))

    def steps_done() -> int:
        return max(jobs.view._watch.curves["loss"].steps)

    qtbot.waitUntil(lambda: steps_done() > paused_at, timeout=60_000)
    jobs.view.finish_button.click()
    qtbot.waitUntil(lambda: jobs.view.state == "done", timeout=60_000)
    assert (JobFolder(job).status().result / "card.yaml").is_file()
    steps = jobs.view._watch.curves["loss"].steps
    assert steps == sorted(set(steps))
