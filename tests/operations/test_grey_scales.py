"""The labels of voxels do not depend on the mask that contains them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import ndimage

from napari_geosr import io
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import NoteIssued, WarningIssued, never_stop, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.shapes.scan_values import scan_values_steps
from napari_geosr.models.bundle import read_card
from napari_geosr.operations import shapes

SIZE = 48


def specimen(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy scan of two phases, and the labels of the phases inside a sphere."""
    rng = np.random.default_rng(seed)
    phases = 1 + (ndimage.gaussian_filter(rng.standard_normal((SIZE,) * 3), 2.5) > 0)
    scan = 50 * phases + rng.normal(0, 10, phases.shape)
    places = np.indices(phases.shape) - (SIZE - 1) / 2
    return scan.astype(np.float32), phases * ((places**2).sum(0) < 22**2)


def in_memory(data: np.ndarray) -> Volume:
    return Volume(data, "ZYX", (1.0,) * 3, "mm", name="bone")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    scan, labels = specimen(1)
    target = in_memory(labels.astype(np.uint8))
    training = {
        "source": (io.write(in_memory(scan), folder / "scan.tif"),),
        "target": (io.write(target, folder / "labels.tif", kind="labels"),),
        "name": "phases", "steps": 60, "channels": (8, 8), "patch": 24, "threads": 1,
        "device": "cpu", "learning_rate": 1e-2, "warm_up": 5, "averaging": 0.9,
    }  # fmt: skip
    job = shapes.ShapeTrainJob.from_values(
        {"method": "sparse_segmentation", "training": training}
    )
    made = run_to_end(shapes.train_shape_steps(job, folder / "job"))
    assert made is not None
    return made


def of_earlier_release(model: Path, folder: Path) -> Path:
    """A copy of a model without the grey values of its training scans."""
    copy = shutil.copytree(model, folder / model.name)
    values = yaml.safe_load((copy / "card.yaml").read_text(encoding="utf-8"))
    del values["training"]["grey_values"]
    (copy / "card.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return copy


def segmented(model: Path, scan: np.ndarray, mask: np.ndarray, choice: str = "auto"):
    """Return the result of a segmentation, its warnings and its other notes."""
    config = shapes.SegmentInsideConfig.create(
        model=str(model), device="cpu", threads=1, grey_scale=choice
    )
    volumes = in_memory(scan), in_memory(mask.astype(np.uint8))
    found: dict[type, list[str]] = {WarningIssued: [], NoteIssued: []}

    def keep(step) -> None:
        if type(step) in found:
            found[type(step)].append(step.message)

    result = run_to_end(shapes.segmented_layer_steps(*volumes, config), keep)
    return result, found[WarningIssued], [n for n in found[NoteIssued] if "grey" in n]


def test_a_smaller_mask_does_not_change_the_labels(model: Path) -> None:
    scan, labels = specimen(5)
    whole, said, _ = segmented(model, scan, labels > 0)
    assert not said
    one_phase = ndimage.binary_erosion(labels == 2, iterations=2)
    expected = np.asarray(whole.volume.data)[one_phase]
    assert (expected == 2).mean() > 0.97
    small, said, _ = segmented(model, scan, one_phase)
    assert not said
    assert (np.asarray(small.volume.data)[one_phase] == expected).mean() > 0.95
    assert small.scale == whole.scale
    assert small.volume.provenance[-1]["grey_scale"] == whole.scale.to_dict()
    assert whole.scale.origin == "model"
    known = read_card(model).training.grey_values[0]
    assert (whole.scale.mean, whole.scale.sd) == (known.mean, known.sd)
    assert known.share == pytest.approx((specimen(1)[1] > 0).mean())
    # Standardised over the mask, the noise of one phase looks like two phases.
    other, (warning,), _ = segmented(model, scan, one_phase, "mask")
    assert (np.asarray(other.volume.data)[one_phase] == expected).mean() < 0.93
    assert "such as a smaller region" in warning
    assert "--grey-scale" in warning
    assert not segmented(model, scan, labels > 0, "mask")[1]


def test_models_of_earlier_releases_are_used_as_before(model: Path, tmp_path) -> None:
    old = of_earlier_release(model, tmp_path)
    assert not read_card(old).training.grey_values
    assert "grey_values" not in read_card(old).to_yaml()
    scan, labels = specimen(5)
    made, (warning,), _ = segmented(old, scan, labels > 0)
    assert made.scale.origin == "mask"
    assert made.scale.mean == pytest.approx(scan[labels > 0].mean())
    assert "does not store the grey values" in warning
    for choice in ("model", "scan"):
        with pytest.raises(ConfigError, match="Train it again, or choose mask"):
            segmented(old, scan, labels > 0, choice)


def test_a_scan_in_other_units(model: Path) -> None:
    scan, labels = specimen(5)
    whole, *_ = segmented(model, scan, labels > 0)
    other = 300 * scan - 1000
    for mask in (labels > 0, labels == 2):
        made, said, (note,) = segmented(model, other, mask)
        assert made.scale.origin == "scan"
        assert not said
        assert "in other units: they are converted" in note
    made, said, _ = segmented(model, other, labels == 2, "mask")
    assert "such as a smaller region" in said[0]
    made, said, notes = segmented(model, other, labels > 0, "scan")
    assert not said
    assert not notes
    differ = np.asarray(made.volume.data) != np.asarray(whole.volume.data)
    assert differ.mean() < 0.01
    assert made.scale.sd == pytest.approx(300 * whole.scale.sd, rel=0.05)
    made, (warning,), _ = segmented(model, other, labels > 0, "model")
    assert made.scale == whole.scale
    assert "so the labels may be wrong" in warning


def test_a_scan_of_another_specimen_in_other_units(model: Path) -> None:
    scan, labels = specimen(5)
    other = np.exp(scan / scan.std())  # another distribution of the grey values
    made, (warning,), _ = segmented(model, other, labels > 0)
    assert made.scale.origin == "mask"
    assert "expected" in warning
    assert "--grey-scale" in warning


def test_the_sample_of_a_scan_does_not_stay_in_one_column() -> None:
    """The width is a multiple of the number of voxels per sample."""
    stripes = np.broadcast_to(np.arange(256) % 2, (3, 512, 256)).astype(np.float32)
    holes = np.where(np.arange(512)[:, None] < 8, np.nan, stripes)
    found = run_to_end(scan_values_steps(in_memory(holes), never_stop))
    assert found.mean == pytest.approx(0.5, abs=0.02)
    assert found.quantiles[0] == 0
    assert found.quantiles[-1] == 1
    assert run_to_end(scan_values_steps(in_memory(0 * stripes), never_stop)) is None
