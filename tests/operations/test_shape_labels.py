"""Completed parts that overlap other labels, and shapes too thin to be refined."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import WarningIssued
from napari_geosr.core.volume import Volume
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes import CompleteShapeConfig, RefineShapeConfig
from napari_geosr.operations.shapes.parts import large_pieces
from napari_geosr.operations.shapes.refine import nothing_left
from napari_geosr.operations.shapes.simulation import simulated_skull


def result_and_warnings(steps) -> tuple[object, list[str]]:
    warnings = []
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value, warnings
        if isinstance(step, WarningIssued):
            warnings.append(step.message)


@pytest.fixture(scope="module")
def labelled() -> tuple[Volume, np.ndarray]:
    """A skull with the label 3 and a hole; half of the volume has the labels 2 and 7.

    Also returns the completed part.
    """
    made = simulated_skull(3, 56, "sphere")
    config = CompleteShapeConfig(threads=1)
    alone = Volume(made.incomplete.astype(np.uint8), "ZYX", name="alone")
    part = np.asarray(
        result_and_warnings(shapes.completed_layer_steps(alone, config))[0].part.data
    )
    values = 3 * made.incomplete.astype(np.uint16)
    middle = int(np.argwhere(part)[:, 2].mean())
    values[..., :middle][values[..., :middle] == 0] = 2
    low = int(np.argwhere(part)[:, 0].mean())
    values[:low][values[:low] == 0] = 7
    return Volume(values, "ZYX", name="organs"), part > 0


@pytest.mark.parametrize("verb", ["command", "dock", "preview"])
def test_overlap_with_other_labels_is_told(labelled, tmp_path, verb: str) -> None:
    volume, part = labelled
    config = CompleteShapeConfig(label=3, threads=1)
    steps = {
        "command": lambda: shapes.complete_shape_steps(
            volume, tmp_path / "out.tif", config
        ),
        "dock": lambda: shapes.completed_layer_steps(volume, config),
        "preview": lambda: shapes.part_surface_steps(volume, config),
    }[verb]()
    made, warnings = result_and_warnings(steps)
    n = int((volume.data[part] != 0).sum())
    assert 0 < n < part.sum()
    text = f"{n:,} voxels ({100 * n / part.sum():.2g} %) of the completed part have "
    (told,) = [words for words in warnings if "other labels" in words]
    assert told.startswith(f"{text}other labels in 'organs' (2, 7).")
    # The results contain the label 1 only.
    if verb == "command":
        assert set(np.unique(io.read(made.path).data)) == {0, 1}
    elif verb == "dock":
        assert set(np.unique(made.volume.data)) == {0, 1}


def test_without_overlap_there_is_no_warning(labelled) -> None:
    volume, part = labelled
    values = np.where(part, 0, volume.data)
    config = CompleteShapeConfig(label=3, threads=1)
    steps = shapes.part_surface_steps(volume.replace(data=values), config)
    assert not any("other labels" in words for words in result_and_warnings(steps)[1])


def spots(kind: str) -> np.ndarray:
    """Return voxels that do not touch, or that touch at corners only."""
    values = np.zeros((16, 16, 16), np.uint8)
    if kind == "separate":
        values[2::4, 2::4, 2::4] = 1
    else:
        values[np.arange(4, 9), np.arange(4, 9), np.arange(4, 9)] = 1
    return values


@pytest.mark.parametrize("model", ["trilinear", "shape-sr-x2"])
@pytest.mark.parametrize("verb", ["dock", "preview"])
def test_parts_of_one_voxel_cannot_be_refined(model: str, verb: str) -> None:
    volume = Volume(spots("separate"), "ZYX", name="spots")
    config = RefineShapeConfig(model=model, threads=1)
    steps = {
        "dock": lambda: shapes.refined_layer_steps(volume, config),
        "preview": lambda: shapes.preview_steps(volume, config, (8, 8, 8)),
    }[verb]()
    with pytest.raises(VolumeError, match="parts of one voxel cannot be") as failed:
        result_and_warnings(steps)
    assert "--model" not in str(failed.value)


def test_another_model_is_advised_only_if_it_helps() -> None:
    """Voxels that touch at corners vanish by interpolation; the model keeps them."""
    volume = Volume(spots("diagonal"), "ZYX", name="spots")
    config = RefineShapeConfig(model="trilinear", threads=1)
    with pytest.raises(VolumeError, match="Choose another model"):
        result_and_warnings(shapes.refined_layer_steps(volume, config))
    other = config.model_copy(update={"model": "shape-sr-x2"})
    made, _ = result_and_warnings(shapes.refined_layer_steps(volume, other))
    assert made.volume.data.any()


@pytest.mark.parametrize("step", [(0, 0, 1), (0, 1, -1), (1, 0, 0), (1, -1, 1)])
@pytest.mark.parametrize("at", [(1, 1, 1), (0, 1, 1), (2, 1, 2)])
def test_voxels_that_touch_are_found(step, at) -> None:
    inside = np.zeros((4, 4, 4), bool)
    inside[at] = True
    volume = Volume(inside, "ZYX", name="pair")
    assert "one voxel each" in nothing_left(volume, inside)
    inside[tuple(np.add(at, step))] = True
    packed = PackedMask(inside.shape)
    packed.write(0, inside)
    for mask in (inside, packed):
        assert "Choose another model" in nothing_left(volume, mask)


def test_crumbs_that_touch_only_at_a_corner_are_no_part_of_a_piece() -> None:
    part = np.zeros((12, 12, 12), bool)
    part[2:8, 2:8, 2:8] = True
    part[8, 8, 8] = True  # a single voxel beyond a corner
    found, count = large_pieces(part, 0.1)
    assert count == 1
    assert not found[8, 8, 8]
    assert found.sum() == part.sum() - 1
    part[8:11, 8:11, 8:11] = True
    assert large_pieces(part, 0.1)[1] == 2
