"""Records of shapes state the inputs and the models that a result was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr import io
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import StageStarted, Step, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io.meshes import write_mesh
from napari_geosr.measure.shapes import extract_surface
from napari_geosr.models import bundle
from napari_geosr.operations import shapes
from napari_geosr.operations.shapes import complete, inside, layers, snapshots
from napari_geosr.operations.shapes.models import find_shape_model
from napari_geosr.operations.shapes.simulation import simulated_skull

SIZE = 0.5


def ball(edge: int = 20) -> np.ndarray:
    places = np.indices((edge,) * 3) - (edge - 1) / 2
    return (np.sqrt((places**2).sum(0)) < edge / 3).astype(np.uint8)


def grey(edge: int = 20) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (40 * ball(edge) + rng.normal(0, 20, (edge,) * 3)).astype(np.float32)


def in_memory(data: np.ndarray) -> Volume:
    return Volume(data, "ZYX", (SIZE,) * 3, "mm", name="bone")


def run_while_painting(steps, *painted: np.ndarray) -> tuple[object, list[str]]:
    """Change arrays at every stage of a run; return its result and its warnings."""
    warnings: list[str] = []

    def observe(step: Step) -> None:
        if isinstance(step, WarningIssued):
            warnings.append(step.message)
        if isinstance(step, StageStarted):
            for array in painted:
                array[:5] = 1

    return run_to_end(steps, observe), warnings


def trained(folder: Path, method: str, **training) -> Path:
    values = {"steps": 1, "patch": 16, "threads": 1, "device": "cpu", "name": "made"}
    job = shapes.ShapeTrainJob.from_values(
        {"method": method, "training": {**values, **training}}
    )
    found = run_to_end(shapes.train_shape_steps(job, folder))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A scan and its labels."""
    folder = tmp_path_factory.mktemp("files")
    labels = ball() * (1 + (grey() > 40)).astype(np.uint8)
    return (
        io.write(in_memory(grey()), folder / "scan.tif"),
        io.write(in_memory(labels), folder / "labels.tif", kind="labels"),
    )


@pytest.fixture(scope="module")
def phases(files, tmp_path_factory) -> Path:
    """A model that segments scans."""
    return trained(
        tmp_path_factory.mktemp("job"), "sparse_segmentation",
        source=files[:1], target=files[1:], channels=(4, 4),
    )  # fmt: skip


def test_the_record_of_a_training_has_the_checksums_of_its_files(files, phases) -> None:
    inputs = bundle.load(phases).card.provenance["inputs"]
    found = {role: facts["checksum"] for role, facts in inputs.items()}
    scan, labels = map(provenance.checksum, files)
    assert found == {"source 1": scan, "target 1": labels}


def test_painting_during_a_refinement_has_no_effect() -> None:
    painted = ball()
    config = shapes.RefineShapeConfig(threads=1, model="trilinear")
    steps = shapes.refined_layer_steps(in_memory(painted), config)
    made, _ = run_while_painting(steps, painted)
    assert painted[0].all()
    assert not np.asarray(made.volume.data)[:4].any()
    (record,) = made.volume.provenance
    original = provenance.array_checksum(ball())
    assert record["inputs"]["shape"]["checksum"] == original


@pytest.mark.parametrize("copied", [True, False])
def test_painting_during_a_segmentation(copied: bool, phases, monkeypatch) -> None:
    """A scan that is too large to be copied is compared at the end of the run."""
    config = shapes.SegmentInsideConfig(threads=1, model=str(phases))
    steps = shapes.segmented_layer_steps(in_memory(grey()), in_memory(ball()), config)
    expected = run_to_end(steps)
    if not copied:
        monkeypatch.setattr(inside, "_COPY_SHARE", 0)
    scan = grey()
    steps = shapes.segmented_layer_steps(in_memory(scan), in_memory(ball()), config)
    made, warnings = run_while_painting(steps, scan)
    was_told = any("was changed during the run" in each for each in warnings)
    assert was_told != copied
    if copied:
        assert_same_result(made, expected)


def assert_same_result(made, expected) -> None:
    np.testing.assert_array_equal(made.volume.data, expected.volume.data)
    before, after = (x.volume.provenance[-1]["inputs"] for x in (expected, made))
    assert after == before
    assert made.fractions == expected.fractions


@pytest.mark.parametrize("meanwhile", [True, False])
def test_painting_a_mask_while_it_is_read_and_later(meanwhile: bool, phases) -> None:
    config = shapes.SegmentInsideConfig(threads=1, model=str(phases))
    steps = shapes.segmented_layer_steps(in_memory(grey()), in_memory(ball()), config)
    expected = run_to_end(steps)
    mask = ball()
    stages: list[str] = []
    warnings: list[str] = []

    def observe(step: Step) -> None:
        if isinstance(step, WarningIssued):
            warnings.append(step.message)
        if isinstance(step, StageStarted):
            stages.append(step.message)
            if stages == ["Reading 'mask'"] if meanwhile else len(stages) > 1:
                mask[:5] = 1

    volume = in_memory(mask).replace(name="mask")
    steps = shapes.segmented_layer_steps(in_memory(grey()), volume, config)
    made = run_to_end(steps, observe)
    told = ["'mask' was changed during the run" in each for each in warnings]
    assert sum(told) == meanwhile
    assert mask[0].all()
    inputs = made.volume.provenance[-1]["inputs"]
    if meanwhile:
        assert inputs["mask"]["checksum"] == provenance.array_checksum(mask)
    else:
        inputs["mask"]["name"] = "bone"
        assert_same_result(made, expected)


@pytest.mark.parametrize("dtype", [np.uint8, bool, ">f4", np.float16])
@pytest.mark.parametrize("step", [1, 2])
def test_a_fingerprint_includes_every_voxel(dtype, step: int) -> None:
    whole = np.zeros((2 * 150, 3, 2 * 4), dtype)
    values = whole[::step, :, ::step]
    before = snapshots.fingerprint(in_memory(values))
    for z in range(0, 150, 7):
        values[z, 2, 1] = 1
        assert snapshots.fingerprint(in_memory(values)) != before
        assert snapshots.change_warning(in_memory(values), before)
        values[z, 2, 1] = 0
    assert snapshots.fingerprint(in_memory(values.copy())) == before
    assert not snapshots.change_warning(in_memory(values), before)


def test_comparing_a_scan_can_be_stopped() -> None:
    with pytest.raises(Cancelled):
        snapshots.fingerprint(in_memory(grey()), lambda: True)


def test_a_file_that_changes_during_a_segmentation_is_told(
    files, phases, tmp_path
) -> None:
    config = shapes.SegmentInsideConfig(threads=1, model=str(phases))
    scan = io.write(in_memory(grey()), tmp_path / "scan.tif")
    out, warnings = tmp_path / "out.tif", []
    steps = shapes.segment_inside_steps(
        io.read(scan), in_memory(ball()), out, config, overwrite=True
    )
    for step in steps:
        if isinstance(step, StageStarted) and step.message.startswith("Segmenting"):
            io.write(in_memory(grey() + 1), scan, overwrite=True)
        if isinstance(step, WarningIssued):
            warnings.append(step.message)
    assert len([each for each in warnings if "scan.tif was changed" in each]) == 1


def test_the_record_of_a_completion(tmp_path, monkeypatch) -> None:
    """It has the checksum of the given shape, and the model that refined the part."""
    model = trained(
        tmp_path / "job", "shape_completion", simulated="skulls", channels=(2, 3, 4)
    )
    grown = lambda coarse, *_: ndimage.binary_dilation(coarse, iterations=3)  # noqa: E731
    monkeypatch.setattr(complete, "_predicted", grown)
    given = simulated_skull(3, 56, "sphere").incomplete.astype(np.uint8)
    painted = given.copy()
    config = shapes.CompleteShapeConfig.create(
        model=str(model), device="cpu", threads=1
    )
    steps = shapes.completed_layer_steps(in_memory(painted), config)
    made, _ = run_while_painting(steps, painted)
    record = made.volume.provenance[-1]
    original = provenance.array_checksum(given)
    assert record["inputs"]["shape"]["checksum"] == original
    refiner = find_shape_model(config.refine_model, "shape_sr", "refine").card
    assert record["refine_model"] == {
        "name": refiner.name, "weights_sha256": refiner.weights_sha256,
    }  # fmt: skip
    out = tmp_path / "out.tif"
    run_to_end(shapes.complete_shape_steps(in_memory(given), out, config))
    written = io.read(out).provenance[-1]
    assert written["refine_model"] == record["refine_model"]


def test_the_record_of_voxels_has_the_checksum_of_the_mesh(tmp_path) -> None:
    mesh, out = tmp_path / "ball.stl", tmp_path / "ball.tif"
    surface = extract_surface(ball() > 0, (SIZE,) * 3, "mm")
    write_mesh(mesh, surface.vertices[:, ::-1], surface.faces)
    config = shapes.VoxeliseConfig.create(voxel_size=(SIZE,))
    run_to_end(shapes.voxelise_steps(mesh, out, config))
    facts = io.read(out).provenance[-1]["inputs"]["mesh"]
    assert facts["checksum"] == provenance.checksum(mesh)


def test_voxels_that_a_completion_removed_are_counted() -> None:
    given = simulated_skull(3, 56, "sphere").incomplete
    result = np.asarray(given, np.uint8).copy()
    assert layers._count_removed(given, result) == 0
    result[tuple(np.argwhere(given)[:3].T)] = 0
    result[tuple(np.argwhere(~given)[:5].T)] = 1
    assert layers._count_removed(given, result) == 3
