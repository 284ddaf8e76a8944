"""Results of ``napari-geosr shapes`` keep the orientation that models need."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.steps import Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.shapes import SHAPE_METHODS
from napari_geosr.learning.shapes.data import ShapeSet
from napari_geosr.measure.shapes import dice
from napari_geosr.models import bundle
from napari_geosr.operations.shapes.models import COMPLETING, find_shape_model
from napari_geosr.operations.shapes.parts import pose_steps
from napari_geosr.operations.shapes.simulation import simulated_skull
from napari_geosr.physics.shapes import defect, sampled, skull


def save(path: Path, data: np.ndarray, **more) -> Path:
    return io.write(Volume(data, "ZYX", (0.5,) * 3, "mm", **more), path, kind="labels")


def scores(path: Path, tmp_path: Path, capsys, *options: str) -> tuple[float, str]:
    """Dice coefficient of the completed part of skull 3, and the warnings."""
    made = simulated_skull(3, 56, "sphere")
    out, new = tmp_path / "all.tif", tmp_path / "new.tif"
    words = ["complete", str(path), "-o", str(out), "--implant", str(new), "--json"]
    assert run(["shapes", *words, "--overwrite", *options]) == 0
    found = np.asarray(io.read(new).data) > 0
    if io.read(new).metadata.get("orientation") == "RAS":
        found = found[:, ::-1, ::-1]
    finer = len(found) // 56
    parts = found.reshape([n for _ in range(3) for n in (56, finer)])
    found = parts.mean((1, 3, 5)) >= 0.5
    missing = made.complete & ~made.incomplete
    warnings = " ".join(json.loads(capsys.readouterr().out)["warnings"])
    return dice(found, missing), warnings


def skull_file(name: str, folder: Path) -> Path:
    """A skull with Y to the front, in a file that states this."""
    made = simulated_skull(3, 56, "sphere")
    turned = np.ascontiguousarray(made.incomplete[:, ::-1, ::-1].astype(np.uint8))
    path = folder / name
    if name.endswith("nrrd"):
        nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed")
        header = {"space": "ras", "space directions": np.eye(3) * 0.5}
        nrrd.write(str(path), turned.T, header)
        return path
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")
    image = nibabel.Nifti1Image(turned.T, np.diag([0.5, 0.5, 0.5, 1]))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["part.nii.gz", "part.nrrd"])
def test_a_skull_is_turned_as_the_model_needs_it(name: str, tmp_path, capsys) -> None:
    """Y points to the front in these files, but to the back in simulated skulls."""
    source = skull_file(name, tmp_path)
    score, warnings = scores(source, tmp_path, capsys)
    assert score > 0.85
    assert "orientation" not in warnings


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr", ".tif", ".nii.gz"])
def test_results_keep_the_orientation(suffix: str, tmp_path, capsys) -> None:
    """A refined skull is completed as well as the skull itself."""
    source = skull_file("part.nii.gz", tmp_path)
    direct, _ = scores(source, tmp_path, capsys)
    fine = tmp_path / f"fine{suffix}"
    assert run(["shapes", "refine", str(source), "-o", str(fine)]) == 0
    capsys.readouterr()
    assert io.read(fine).metadata["orientation"] == "RAS"
    score, warnings = scores(fine, tmp_path, capsys)
    assert score > direct - 0.06
    assert "orientation" not in warnings


#: Rotation by 30° about X, of positions along the axes to right, front and up.
TILT = np.array([[1, 0, 0], [0, 0.75**0.5, -0.5], [0, 0.5, 0.75**0.5]])


def tilted_skull(edge: int, thicker: int) -> tuple[np.ndarray, np.ndarray]:
    """A skull on axes that are tilted by `TILT`, and its missing part."""
    rng = np.random.default_rng(100)
    solids = skull(rng), defect(rng, "sphere", 0.72 * np.array([0.9, 0.0, 0.4]), 0.35)
    rows = (np.diag([-1, -1, 1]) @ TILT).astype(np.float32)  # to left, back and up

    def tilted(solid):
        return lambda z, y, x: solid(*(a * x + b * y + c * z for a, b, c in rows[::-1]))

    whole, hole = (
        sampled(tilted(solid), (edge,) * 3).reshape(-1, thicker, edge, edge).mean(1)
        > 0.5
        for solid in solids
    )
    return whole & ~hole, whole & hole


@pytest.mark.parametrize("thicker", [1, 2])
def test_an_oblique_skull_is_completed_along_its_own_directions(
    thicker: int, tmp_path, capsys
) -> None:
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")
    given, missing = tilted_skull(72, thicker)
    affine = np.eye(4)
    affine[:3, :3] = TILT @ np.diag([2.0, 2.0, 2.0 * thicker])
    image = nibabel.Nifti1Image(given.astype(np.uint8).T, affine)
    image.header.set_xyzt_units("mm")
    source, out, new = (tmp_path / f"{name}.nii.gz" for name in ("part", "all", "new"))
    nibabel.save(image, source)
    words = ["complete", str(source), "-o", str(out), "--implant", str(new), "--json"]
    assert run(["shapes", *words]) == 0
    assert dice(np.asarray(nibabel.load(new).dataobj).T > 0, missing) > 0.8
    warnings = " ".join(json.loads(capsys.readouterr().out)["warnings"])
    assert "rotated" not in warnings


def test_training_shells_may_be_oblique() -> None:
    """A tilted shell gives nearly the same model as the same shell without a tilt."""
    module = SHAPE_METHODS.load("shell_completion")
    config = module.Config.create(
        source=("a", "b", "c"), components=2, directions=800, patch=32
    )
    method = module.Method(config)
    upright = sampled(skull(np.random.default_rng(100)), (72,) * 3)
    tilted = np.logical_or(*tilted_skull(72, 1))
    facts = {"orientation": "RAS", "rotation": tuple(TILT.ravel())}
    known = Volume(upright, "ZYX", metadata={"orientation": "LPS"})
    oblique = Volume(tilted, "ZYX", metadata=facts)
    ignored = oblique.replace(metadata={"orientation": "RAS"})
    means = [
        run_to_end(
            method.fit_steps(ShapeSet(config, [known, known, each]), lambda: False)
        ).mean.numpy()
        for each in (known, oblique, ignored)
    ]
    errors = [np.abs(mean - means[0]).mean() for mean in means]
    assert errors[1] < 0.5 * errors[2]


def test_a_network_that_ignores_a_rotation_warns() -> None:
    model = find_shape_model("skull-complete", COMPLETING, "complete")
    card = model.card.model_copy(update={"network": "sparse_unet"})
    other = SimpleNamespace(card=card)
    facts = {"orientation": "RAS", "rotation": tuple(TILT.ravel())}
    volume = Volume(np.zeros((4, 4, 4), bool), "ZYX", name="head", metadata=facts)
    told: list[Step] = []
    assert run_to_end(pose_steps(volume, other), told.append).turned
    assert ["rotated by 30°" in step.message for step in told] == [True]
    assert "head" in told[0].message
    run_to_end(pose_steps(volume, model), told.append)
    assert len(told) == 1


def test_an_unknown_orientation_is_told(tmp_path, capsys) -> None:
    made = simulated_skull(3, 56, "sphere")
    plain = save(tmp_path / "part.tif", made.incomplete.astype(np.uint8))
    _, warnings = scores(plain, tmp_path, capsys)
    assert "The orientation of part.tif is unknown" in warnings
    assert "Z up and Y to the back" in warnings
    again = tmp_path / "part.nii.gz"  # its axes do not become known by writing it
    io.write(io.read(plain), again)
    assert "orientation" not in io.read(again).metadata
    folder = tmp_path / "skulls"
    words = ["--number", "1", "--shape", "56", "-o", str(folder)]
    assert run(["simulate", "skulls", *words]) == 0
    capsys.readouterr()
    known = folder / "incomplete_0000.tif"
    out = tmp_path / "whole.tif"
    assert run(["shapes", "complete", str(known), "-o", str(out), "--json"]) == 0
    assert "orientation" not in " ".join(
        json.loads(capsys.readouterr().out)["warnings"]
    )


def test_a_trained_model_knows_its_orientation(tmp_path, capsys) -> None:
    """A model of shells with Y to the front completes simulated skulls."""
    sources = []
    for seed in range(4):
        whole = simulated_skull(200 + seed, 40, "none").complete[:, ::-1, ::-1]
        path = tmp_path / f"{seed}.tif"
        save(path, whole.astype(np.uint8), metadata={"orientation": "RAS"})
        sources.append(str(path))
    job = tmp_path / "job"
    words = ["--source", *sources, "--name", "mine", "--components", "2"]
    options = ["--directions", "800", "--out", str(job)]
    assert run(["train", "shell-completion", *words, *options]) == 0
    capsys.readouterr()
    made = simulated_skull(3, 56, "sphere")
    results = []
    for name, turn in (("RAS", True), ("LPS", False), ("", False)):
        data = made.incomplete[:, ::-1, ::-1] if turn else made.incomplete
        facts = {"orientation": name} if name else {}
        source = tmp_path / f"part{name}.tif"
        save(source, data.astype(np.uint8), metadata=facts)
        score, warnings = scores(source, tmp_path, capsys, "--model", str(job))
        results.append(score)
        assert ("Z up and Y to the front" in warnings) == (not name)
    assert results[0] == results[1] > results[2]


def trained(names: list[str], tmp_path: Path, capsys) -> tuple[dict, list[str], object]:
    """Train with one skull per orientation; weights, warnings and the orientation."""
    sources, folder = [], tmp_path / "-".join(["shells", *names])
    folder.mkdir()
    for seed, name in enumerate(names):
        whole = simulated_skull(200 + seed, 40, "none").complete.astype(np.uint8)
        data = whole[:, ::-1, ::-1] if name == "RAS" else whole
        facts = {"orientation": name} if name else {}
        path = folder / f"{seed}.tif"
        sources.append(str(save(path, np.ascontiguousarray(data), metadata=facts)))
    job = folder / "job"
    words = ["--source", *sources, "--name", "mine", "--components", "2"]
    options = ["--directions", "800", "--out", str(job), "--json"]
    assert run(["train", "shell-completion", *words, *options]) == 0
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    model = bundle.load(job / "result" / "mine")
    record = model.card.provenance["training"]
    return model.network().state_dict(), warnings, record.get("orientation")


def test_training_shells_are_turned_to_one_orientation(tmp_path, capsys) -> None:
    same, warnings, orientation = trained(["LPS"] * 3, tmp_path, capsys)
    assert (warnings, orientation) == ([], "LPS")
    mixed, warnings, orientation = trained(["LPS", "RAS", "LPS"], tmp_path, capsys)
    assert (warnings, orientation) == ([], "LPS")
    partly, (warning,), orientation = trained(["LPS", "", "RAS"], tmp_path, capsys)
    assert orientation == "LPS"
    assert (
        "1 of 3 shapes is unknown (1.tif). They are assumed to be oriented like"
        in warning
    )
    for key, weights in same.items():
        assert torch.equal(weights, mixed[key])
        assert torch.equal(weights, partly[key])
    _, (warning,), orientation = trained(["", "", ""], tmp_path, capsys)
    assert orientation is None
    assert "orientation of the shapes is unknown. All of them must have" in warning


def test_other_training_shapes_are_turned_too(tmp_path) -> None:
    """Without augmentation, samples of the other methods depend on the orientation."""
    whole = Volume(simulated_skull(1, 40, "none").complete, "ZYX")
    turned = Volume(whole.data[:, ::-1, ::-1], "ZYX", metadata={"orientation": "RAS"})
    whole = whole.replace(metadata={"orientation": "LPS"})
    for name in ("shape_completion", "shape_sr"):
        module = SHAPE_METHODS.load(name)
        config = module.Config.create(source=("a", "b"), patch=40, augment=False)
        method = module.Method(config)
        drawn = []
        for second in (whole, turned):
            shapes = ShapeSet(config, [whole, second]).held_out()  # draws the second
            drawn.append(method.draw(shapes, np.random.default_rng(0))["target"])
        np.testing.assert_array_equal(*drawn)
        plain = whole.replace(metadata={})
        assert method.inspect({"source": [whole, turned]}) == []
        assert "1 of 2 shapes" in method.inspect({"source": [whole, plain]})[0]
        free = module.Method(module.Config.create(source=("a", "b")))
        assert free.inspect({"source": [whole, plain]}) == []
