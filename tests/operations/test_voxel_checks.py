"""Voxel sizes of shapes and scans are compared with those of the training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import WarningIssued, never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.models import bundle
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes import (
    CompleteShapeConfig,
    SegmentInsideConfig,
    ShapeTrainJob,
    segmented_layer_steps,
    train_shape_steps,
)
from napari_geosr.operations.shapes.masks import read_packed_steps

SHAPE = (20, 20, 20)
INSIDE = np.pad(np.ones((12, 12, 12), np.uint8), 4)


def scan(size: tuple[float, ...], unit: str) -> Volume:
    values = np.random.default_rng(0).normal(50 * INSIDE, 10).astype(np.float32)
    return Volume(values, "ZYX", size, unit, name="scan")


def job_of(folder: Path, *places: tuple[tuple[float, ...], str]) -> ShapeTrainJob:
    source, target = [], []
    for i, (size, unit) in enumerate(places):
        made = scan(size, unit)
        values = INSIDE * np.where(np.asarray(made.data) > 50, 2, 1)
        labels = made.replace(data=values.astype(np.uint8))
        source.append(io.write(made, folder / f"scan{i}.ome.tif"))
        target.append(io.write(labels, folder / f"labels{i}.ome.tif", kind="labels"))
    training = {
        "source": source, "target": target, "name": "phases", "steps": 1, "patch": 16,
        "channels": (2, 3), "threads": 1, "device": "cpu",
    }  # fmt: skip
    return ShapeTrainJob.from_values(
        {"method": "sparse_segmentation", "training": training}
    )


def warnings(steps) -> list[str]:
    return [step.message for step in steps if isinstance(step, WarningIssued)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    job = job_of(folder, ((3.0, 1.0, 1.0), "µm"))
    return run_to_end(train_shape_steps(job, folder / "job"))


def test_the_card_states_the_voxel_size(model: Path) -> None:
    card = bundle.read_card(model)
    assert card.training.voxel_size == (1.0, 3.0)
    assert card.training.unit == "µm"
    assert any("accuracy of this model was not measured" in r for r in card.remarks)


@pytest.mark.parametrize(
    ("size", "unit", "is_similar"),
    [
        ((3.0, 1.0, 1.0), "µm", True),
        ((0.003, 0.00105, 0.001), "mm", True),
        ((6.0, 2.0, 2.0), "µm", False),
        ((3.0, 3.0, 3.0), "µm", False),
        ((1.0, 3.0, 1.0), "µm", False),
        # Without a unit, only the ratios can be compared.
        ((6.0, 2.0, 2.0), "pixel", True),
        ((1.0, 1.0, 1.0), "pixel", False),
    ],
)
def test_a_scan_with_other_voxels_gives_a_warning(
    model: Path, size: tuple[float, ...], unit: str, *, is_similar: bool
) -> None:
    config = SegmentInsideConfig.create(model=str(model), device="cpu", threads=1)
    volume = scan(size, unit)
    told = warnings(segmented_layer_steps(volume, volume.replace(data=INSIDE), config))
    found = [text for text in told if "the scans that phases was trained on" in text]
    assert len(found) == (not is_similar)
    assert all("3 × 1 × 1 µm" in text for text in found)


@pytest.mark.parametrize("edge", [1.05, 1.5])
def test_scans_with_different_voxels_give_a_warning(
    tmp_path: Path, edge: float
) -> None:
    job = job_of(tmp_path, ((1.0, 1.0, 1.0), "mm"), ((edge, 1.0, 1.0), "mm"))
    told = " ".join(warnings(job.check_steps()))
    differ = "1 × 1 × 1 mm in scan0.ome.tif, 1.5 × 1 × 1 mm in scan1.ome.tif"
    assert (differ in told) == (edge == 1.5)


def test_a_completion_by_a_network_warns_about_voxels_that_are_not_cubic(
    tmp_path: Path,
) -> None:
    training = {
        "simulated": "skulls", "name": "made", "steps": 1, "patch": 16,
        "channels": (2, 3, 4), "threads": 1, "device": "cpu",
    }  # fmt: skip
    job = ShapeTrainJob.from_values(
        {"method": "shape_completion", "training": training}
    )
    trained = run_to_end(train_shape_steps(job, tmp_path / "job"))
    config = CompleteShapeConfig.create(model=str(trained), device="cpu", threads=1)

    def first_warning(edge: float, verb: str) -> str:
        volume = Volume(INSIDE, "ZYX", (edge, 1.0, 1.0), "mm", name="part")
        run = {
            "command": lambda: shapes.complete_shape_steps(
                volume, tmp_path / "out.tif", config
            ),
            "dock": lambda: shapes.completed_layer_steps(volume, config),
            "preview": lambda: shapes.part_surface_steps(volume, config),
        }[verb]
        return next(s.message for s in run() if isinstance(s, WarningIssued))

    for verb in ("command", "dock", "preview"):
        told = first_warning(1.2, verb)
        assert "are 1.2 times longer along one axis" in told
        assert "may be distorted" in told
        assert "times longer" not in first_warning(1.04, verb)
        with pytest.raises(VolumeError, match="Resample the volume to cubic"):
            first_warning(1.6, verb)


def labelled(n: int) -> np.ndarray:
    """Return `n` separate cubes with the labels 1, 2, …, and a background of 0."""
    edge = int(np.ceil(n ** (1 / 3)))
    values = np.zeros(edge**3, np.int32)
    values[:n] = np.arange(1, n + 1)
    cube = np.pad(np.ones((3, 3, 3), np.int32), (0, 1))
    return np.kron(values.reshape((edge,) * 3), cube)


def test_all_labels_of_a_mask_are_used_even_if_there_are_many() -> None:
    values = labelled(200)
    told = []
    steps = read_packed_steps(
        Volume(values, "ZYX", name="particles"), None, 10**9, never_stop,
        joins_labels=True,
    )  # fmt: skip
    inside = run_to_end(
        steps, lambda s: told.append(s.message) if isinstance(s, WarningIssued) else ()
    )
    np.testing.assert_array_equal(inside[:], values > 0)
    assert len(told) == 1
    assert "'particles' has at least 64 labels" in told[0]
    assert "all of them belong to the mask" in told[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.random.default_rng(0).integers(0, 999, SHAPE),
            "neighbouring voxels differ",
        ),
        (np.where(labelled(200) == 9, -1, labelled(200)), "negative values"),
        (labelled(200) + 0.5 * (labelled(200) > 0), "not integers"),
    ],
)
def test_grey_values_are_no_mask(values: np.ndarray, message: str) -> None:
    volume = Volume(values, "ZYX", name="grey")
    steps = read_packed_steps(volume, None, 10**9, never_stop, joins_labels=True)
    with pytest.raises(VolumeError, match=message):
        run_to_end(steps)
