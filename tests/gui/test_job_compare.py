"""Two jobs are compared on the slice on screen, in real napari."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from qtpy.QtCore import QObject
from train_helpers import JOBS, noisy_scans, opened

from napari_geosr import io
from napari_geosr.core.errors import JobError
from napari_geosr.core.steps import never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.gui.jobs.compare import compare_steps
from napari_geosr.gui.jobs.preview import JobPreview
from napari_geosr.jobs import index
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.models import catalogue

_VOXELS = {"voxel_size": (2.0, 0.5, 0.5), "unit": "um", "origin": (10.0, 20.0, 30.0)}


def job(folder, name: str, *, model: str | None = "foam-denoise") -> JobFolder:
    values = {"operation": "train", "method": "supervised", "training": {}}
    made = JobFolder.create(folder / name, values, name=name)
    made.set_state("paused", done=10, total=20)
    if model is not None:
        shutil.copytree(catalogue.find(model).path, made.path / "result" / name)
        made.set_state("done", result=f"result/{name}")
    index.register(made)
    return made


def with_preview(made: JobFolder, place: int, *, factor: int = 1) -> JobFolder:
    made.preview.parent.mkdir()
    finer = np.divide(_VOXELS["voxel_size"], factor)
    # The outer edges of the slice do not move.
    origin = np.add((10.0 + 2 * place, 20.0, 30.0), (finer - finer * factor) / 2)
    values = {"voxel_size": tuple(finer), "origin": tuple(origin)}
    data = np.full((factor, 64 * factor, 64 * factor), place, np.float32)
    io.write(Volume(data, "ZYX", **(_VOXELS | values)), made.preview)
    return made


def test_two_models_on_the_slice_on_screen(viewer, qtbot, tmp_path):
    first, _ = noisy_scans(viewer)
    viewer.layers.selection.active = first
    viewer.dims.set_point(0, 10.0 + 2 * 5)
    jobs = [job(tmp_path, name) for name in ("one", "two")]
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: len(dock._items()) == 2, timeout=10_000)
    assert dock.compare.isHidden()
    for item in dock._items():
        item.setSelected(True)
    assert not dock.compare.isHidden()
    assert dock.compare.box.isHidden()
    dock.compare.button.click()
    qtbot.waitUntil(lambda: dock.compare.box.pair() is not None, timeout=60_000)
    made = dock.compare.box.pair()
    assert {layer.name for layer in made} == {"first · one", "first · two"}
    for layer in made:
        assert layer.data.shape == (1, 64, 64)
        np.testing.assert_allclose(layer.translate, (20, 20, 30))
        np.testing.assert_allclose(layer.scale, first.scale)
        assert layer.colormap.name == "viridis"
    np.testing.assert_array_equal(made[0].data, made[1].data)
    assert np.std(made[0].data) < np.std(first.data[5])
    assert any("curtain" in layer.name for layer in viewer.layers)
    dock._items()[0].setSelected(False)
    assert dock.compare.isHidden()
    assert not any("curtain" in layer.name for layer in viewer.layers)
    assert [job.path.name for job in jobs] == ["one", "two"]


def test_a_job_without_a_model_shows_its_preview(tmp_path):
    done = job(tmp_path, "done")
    running = with_preview(job(tmp_path, "running", model=None), 3)
    later = with_preview(job(tmp_path, "later", model=None), 4)
    fresh = job(tmp_path, "fresh", model=None)
    rng = np.random.default_rng(0)
    volume = Volume(rng.normal(size=(8, 64, 64)).astype("f4"), "ZYX", **_VOXELS)
    found = run_to_end(compare_steps(volume, 6, [done, running], never_stop))
    assert found[0].origin[0] == found[1].origin[0] == 16
    assert float(np.asarray(found[1].data).max()) == 3
    with pytest.raises(JobError, match="different slices"):
        run_to_end(compare_steps(volume, 6, [running, later], never_stop))
    with pytest.raises(JobError, match="fresh has produced neither"):
        run_to_end(compare_steps(volume, 6, [done, fresh], never_stop))


@pytest.fixture
def elsewhere(viewer):
    """A viewer at slice 13 of a scan, with another layer of coarser voxels."""
    noisy_scans(viewer)
    coarse = np.zeros((4, 16, 16), np.float32)
    viewer.add_image(coarse, scale=(8.0, 2.0, 2.0), translate=(13, 20, 30), units="um")
    viewer.dims.set_point(0, 36.0)
    return viewer


def test_a_training_preview_leaves_the_slice_on_screen(elsewhere, qtbot, tmp_path):
    owner = QObject()
    shown = JobPreview(elsewhere, owner)
    for factor in (1, 4):
        name = f"x{factor}"
        made = with_preview(job(tmp_path, name, model=None), 5, factor=factor)
        shown.set_job(made.preview, name, ())
        # The previous preview may still be being read.
        qtbot.waitUntil(lambda: not shown._activity.busy, timeout=20_000)
        shown.update_to(1)
        qtbot.waitUntil(lambda: shown.layer() is not None, timeout=20_000)
        assert shown.layer().scale[0] == 2 / factor
        assert elsewhere.dims.point[0] == 36
        shown.remove()
        assert shown.layer() is None
        assert elsewhere.dims.point[0] == 36


@pytest.mark.slow
def test_comparing_again_leaves_the_slice_on_screen(elsewhere, qtbot, tmp_path):
    for name in ("one", "two"):
        with_preview(job(tmp_path, name, model=None), 5, factor=4)
    elsewhere.layers.selection.active = elsewhere.layers["first"]
    dock = opened(elsewhere, JOBS)
    qtbot.waitUntil(lambda: len(dock._items()) == 2, timeout=10_000)
    for item in dock._items():
        item.setSelected(True)
    compare, pairs = dock.compare, []
    for _ in range(2):
        compare.button.click()
        qtbot.waitUntil(compare.button.isEnabled, timeout=60_000)
        pairs.append(compare.box.pair())
        assert elsewhere.dims.point[0] == 36
    assert pairs[1][0].scale[0] == 0.5
    assert not set(pairs[0]) & set(elsewhere.layers)
