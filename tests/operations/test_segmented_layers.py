"""Segmentations in memory: their memory, and grey values with a large offset."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, DeviceMemoryError
from napari_geosr.core.steps import StageStarted, Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes import inside

SIZE = 40
WIDE = 176


def specimen(edge: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A noisy scan of two phases, and the labels of the phases inside a sphere."""
    rng = np.random.default_rng(1)
    shape = (SIZE,) * 3
    phases = 1 + (ndimage.gaussian_filter(rng.standard_normal(shape), 3) > 0)
    scan = 50 * phases + rng.normal(0, 15, shape)
    places = np.indices(shape) - (SIZE - 1) / 2
    labels = (phases * ((places**2).sum(0) < 17**2)).astype(np.uint8)
    more = (0, edge - SIZE)
    return np.pad(scan, more).astype(np.float32), np.pad(labels, more)


def in_memory(data: np.ndarray) -> Volume:
    return Volume(data, "ZYX", (1.0,) * 3, "mm", name="bone")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that distinguishes the two phases."""
    folder = tmp_path_factory.mktemp("model")
    scan, labels = map(in_memory, specimen())
    training = {
        "source": (io.write(scan, folder / "scan.tif"),),
        "target": (io.write(labels, folder / "labels.tif", kind="labels"),),
        "name": "phases", "steps": 60, "channels": (8, 8), "patch": 24, "threads": 1,
        "device": "cpu", "learning_rate": 1e-2, "warm_up": 5, "averaging": 0.9,
    }  # fmt: skip
    job = shapes.ShapeTrainJob.from_values(
        {"method": "sparse_segmentation", "training": training}
    )
    made = run_to_end(shapes.train_shape_steps(job, folder / "job"))
    assert made is not None
    return made


def segmented(model: Path, scan: np.ndarray, mask: np.ndarray, **more):
    config = shapes.SegmentInsideConfig.create(
        model=str(model), device="cpu", threads=1, **more
    )
    steps = shapes.segmented_layer_steps(in_memory(scan), in_memory(mask), config)
    return run_to_end(steps)


@pytest.mark.parametrize(("memory", "is_copied"), [(60, False), (100, True)])
def test_the_memory_limit_includes_copies_of_the_layers(
    memory: int, is_copied: bool, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, labels = specimen(WIDE)
    mask = (labels > 0).astype(np.int32)  # as napari creates them
    budgets = []
    plan = inside.plan_mask_steps

    def noted(*given, **more):
        budgets.append(given[3])
        return plan(*given, **more)

    monkeypatch.setattr(inside, "plan_mask_steps", noted)
    tracemalloc.start()
    made = segmented(model, scan, mask, memory=f"{memory}MB")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    copied = is_copied * scan.nbytes
    assert budgets == [memory * 10**6 - copied]
    print(f"peak {peak / 1e6:.0f} MB, limit {memory} MB, labels {scan.size / 1e6} MB")
    # numpy's part of the peak: the planes that are read, the copy, and the labels
    assert peak < copied + 2**20 * 14 + 1.2 * scan.size + 5e6
    assert sum(made.fractions.values()) == pytest.approx(1)
    found = np.bincount(np.asarray(made.volume.data)[labels > 0], minlength=3)
    assert made.fractions == {k: found[k] / found.sum() for k in (1, 2)}


def test_a_segmentation_is_stopped_while_the_mask_is_counted(model: Path) -> None:
    scan, labels = specimen()
    config = shapes.SegmentInsideConfig.create(model=str(model), device="cpu")
    seen: list[Step] = []
    steps = shapes.segmented_layer_steps(
        in_memory(scan),
        in_memory((labels > 0).astype(np.uint8)),
        config,
        should_stop=lambda: "Counting" in getattr((seen or [None])[-1], "message", ""),
    )
    with pytest.raises(Cancelled):
        seen.extend(steps)
    assert seen[-1] == StageStarted(message="Counting the voxels of the mask")


def test_a_scan_is_not_copied_if_only_the_labels_fit(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, labels = specimen()
    taken: list[bool] = []
    original = inside.snapshot

    def noted(volume, *given):
        found = original(volume, *given)
        taken.append(found is not volume)
        return found

    monkeypatch.setattr(inside, "snapshot", noted)
    for free, expected in ((6, True), (4, False)):
        monkeypatch.setattr(
            inside, "free_host_memory", lambda free=free: free * scan.size
        )
        segmented(model, scan, labels > 0, memory="100MB")
        assert taken.pop() == expected
    monkeypatch.setattr(inside, "free_host_memory", lambda: scan.size - 1)
    with pytest.raises(DeviceMemoryError, match="64,000 voxels need 64"):
        segmented(model, scan, labels > 0, memory="100MB")


@pytest.mark.parametrize(
    ("offset", "dtype"),
    [(0, "f4"), (0, "u1"), (1e9, "f8"), (1e10, "i8"), (1.5e9, "i4"), (4e9, "u4")],
)
def test_an_offset_of_the_grey_values_has_no_effect(
    offset: float, dtype: str, model: Path
) -> None:
    scan, labels = specimen()
    whole = np.round(scan).clip(0, 255).astype(np.float64)
    expected = segmented(model, whole, labels > 0)
    made = segmented(model, (whole + offset).astype(dtype), labels > 0)
    found = np.asarray(made.volume.data)
    assert (found == labels)[labels > 0].mean() > 0.95
    different = found != np.asarray(expected.volume.data)
    assert different.mean() < 1e-4


def test_a_model_learns_from_grey_values_with_a_large_offset(tmp_path: Path) -> None:
    scan, labels = specimen()
    whole = np.round(scan).clip(0, 255).astype(np.float64)
    target = (io.write(in_memory(labels), tmp_path / "labels.tif", kind="labels"),)
    drawn = []
    for offset in (0.0, 1e9):
        volume = in_memory(whole + offset)
        source = (io.write(volume, tmp_path / f"{offset}.tif"),)
        training = {"source": source, "target": target, "patch": 24}
        job = shapes.ShapeTrainJob.from_values(
            {"method": "sparse_segmentation", "training": training}
        )
        method = SHAPE_METHODS.load(job.method).Method(job.training)
        drawn.append(method.draw(job.shapes(), np.random.default_rng(1))["source"])
    assert drawn[1].dtype == np.float32
    np.testing.assert_allclose(drawn[1], drawn[0], atol=1e-6)
