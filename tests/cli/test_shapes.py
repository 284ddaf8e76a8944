"""``napari-geosr shapes`` as used by a script."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import BlockDone, StageStarted, Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference import shapes
from napari_geosr.io import meshes
from napari_geosr.measure.shapes.surface import mesh_volume
from napari_geosr.operations.shapes import (
    CompleteShapeConfig,
    MeshConfig,
    ShapeTrainJob,
    VoxeliseConfig,
    complete,
    meshing,
    train_shape_steps,
    voxelising,
)
from napari_geosr.operations.shapes.simulation import simulated_skull


def save(path: Path, data: np.ndarray, voxel=(0.5, 0.5, 0.5), **more) -> Path:
    volume = Volume(data, "ZYX", voxel, "mm", **more)
    return io.write(volume, path, kind=more.pop("kind", "labels"))


def ball(edge: int, radius: float) -> np.ndarray:
    axis = np.arange(edge) - (edge - 1) / 2
    square = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    return (square < radius**2).astype(np.uint8)


def answer(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("model", ["shape-sr-x2", "trilinear"])
def test_a_ball_keeps_its_place_and_volume(model: str, tmp_path, capsys) -> None:
    source = save(tmp_path / "ball.tif", ball(24, 9.0), origin=(5.0, 6.0, 7.0))
    out = tmp_path / "fine.ome.tif"
    words = [
        "shapes",
        "refine",
        str(source),
        "-o",
        str(out),
        "--model",
        model,
        "--json",
    ]
    assert run([*words, "--upscale-factor", "4"]) == 0
    found = answer(capsys)
    assert found["shape"] == [96, 96, 96]
    fine = io.read(out)
    np.testing.assert_allclose(fine.voxel_size, 0.125)
    np.testing.assert_allclose(fine.origin, np.array([5, 6, 7]) - 0.5 * 3 / 8)
    assert fine.holds_labels
    assert fine.provenance[-1]["operation"] == "shapes refine"
    values = np.asarray(fine.data)
    assert abs(values.sum() * 0.125**3 / (4 / 3 * np.pi * 4.5**3) - 1) < 0.05
    assert abs(found["volume_change"]) < 0.05
    truth = save(
        tmp_path / "truth.tif", ball(96, 36.0), (0.125,) * 3, origin=fine.origin
    )
    assert run(["shapes", "compare", str(out), str(truth), "--json"]) == 0
    assert answer(capsys)["dice"] > 0.97


def test_dense_convolutions_are_no_warning(tmp_path, capsys) -> None:
    source = save(tmp_path / "ball.tif", ball(10, 4.0))
    out = str(tmp_path / "fine.tif")
    assert run(["shapes", "refine", str(source), "-o", out, "--json"]) == 0
    found = answer(capsys)
    assert "dense convolutions" in found["notes"][-1]
    assert "dense convolutions" not in " ".join(found["warnings"])


def test_the_learned_surface_is_better_than_the_interpolated_one(tmp_path) -> None:
    whole = simulated_skull(5, 64, "none").complete
    coarse = whole.reshape(32, 2, 32, 2, 32, 2).mean((1, 3, 5)) >= 0.5
    source = save(tmp_path / "c.tif", coarse.astype(np.uint8))
    scores = []
    for model in ("shape-sr-x2", "trilinear"):
        out = tmp_path / f"{model}.tif"
        assert (
            run(["shapes", "refine", str(source), "-o", str(out), "--model", model])
            == 0
        )
        fine = np.asarray(io.read(out).data) > 0
        scores.append(2 * (fine & whole).sum() / (fine.sum() + whole.sum()))
    assert scores[0] > scores[1] + 0.02


def test_there_and_back_by_a_mesh(tmp_path, capsys) -> None:
    pytest.importorskip("trimesh", reason="trimesh is not installed")
    source = save(tmp_path / "ball.tif", ball(30, 11.0), origin=(1.0, 2.0, 3.0))
    mesh = tmp_path / "ball.stl"
    assert run(["shapes", "mesh", str(source), "-o", str(mesh), "--json"]) == 0
    found = answer(capsys)
    assert found["watertight"]
    assert found["unit"] == "mm"
    assert found["volume"] == pytest.approx(found["voxel_volume"], rel=0.01)
    back = tmp_path / "back.tif"
    words = ["shapes", "voxelise", str(mesh), "--voxel-size", "0.5", "-o", str(back)]
    assert run(words) == 0
    filled = io.read(back)
    n = int((np.asarray(filled.data) > 0).sum())
    assert n * 0.125 == pytest.approx(found["voxel_volume"], rel=0.02)
    places = np.argwhere(np.asarray(filled.data)).mean(0) * 0.5 + filled.origin
    np.testing.assert_allclose(places, np.array([1, 2, 3]) + 14.5 * 0.5, atol=0.1)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".3mf"])
def test_other_meshes(suffix: str, tmp_path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    source = save(tmp_path / "ball.tif", ball(20, 7.0))
    out = tmp_path / f"ball{suffix}"
    assert run(["shapes", "mesh", str(source), "-o", str(out)]) == 0
    mesh = trimesh.load_mesh(out)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(ball(20, 7.0).sum() / 8, rel=0.01)


@pytest.mark.parametrize(
    ("stated", "options", "edge", "warned"),
    [
        ("inch", [], 25.4, "positions are in inches; they were converted to mm."),
        ("inch", ["--unit", "cm"], 2.54, "unit cm applies to the voxel size only"),
        ("foot", [], 12 * 25.4, "converted"),
        ("millimeter", [], 1, ""),
    ],
)
def test_the_unit_of_a_3mf_is_used(
    stated: str, options: list[str], edge: float, warned: str, tmp_path, capsys
) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    content = trimesh.creation.box((1, 1, 1)).export(file_type="3mf")
    path = tmp_path / "box.3mf"
    with ZipFile(BytesIO(content)) as old, ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(
                name, old.read(name).replace(b'"millimeter"', f'"{stated}"'.encode())
            )
    words = ["shapes", "voxelise", str(path), "--voxel-size", str(edge / 10)]
    assert run([*words, *options, "-o", str(tmp_path / "a.tif"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mesh_volume"] == pytest.approx(edge**3)
    assert found["shape"] == [12, 12, 12]
    warnings = " ".join(found["warnings"])
    assert warned in warnings
    assert bool(warned) == bool(warnings)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("0.4mm", (0.4,) * 3), ("400um", (0.4,) * 3), ("0.5,0.4,0.2mm", (0.5, 0.4, 0.2))],
)
def test_a_voxel_size_may_have_a_unit(given: str, expected, tmp_path, capsys) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    trimesh.creation.box((4, 4, 4)).export(tmp_path / "box.stl")
    out = tmp_path / "a.tif"
    words = ["shapes", "voxelise", str(tmp_path / "box.stl"), "-o", str(out)]
    assert run([*words, "--voxel-size", given]) == 0
    found = io.read(out)
    assert found.voxel_size == pytest.approx(expected)
    assert found.unit == "mm"
    assert run([*words, "--voxel-size", "0.4furlong", "--overwrite"]) == 2
    assert "furlong" in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "is_rounded"), [(".stl", True), (".obj", False)])
def test_a_mesh_far_from_the_origin(suffix: str, is_rounded: bool, tmp_path) -> None:
    """Voxels of 5 µm at 1 km: the steps of float32 are 12 voxels long."""
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    volume = Volume(ball(24, 8.0), "ZYX", (0.005,) * 3, "mm", (1e6,) * 3)
    path = tmp_path / f"far{suffix}"
    result = run_to_end(meshing.mesh_steps(volume, path, MeshConfig()))
    assert result.volume == pytest.approx(result.voxel_volume, rel=0.006)
    assert result.is_rounded == is_rounded
    assert ("Write an OBJ file" in " ".join(result.sentences)) == is_rounded
    if not is_rounded:
        vertices = np.asarray(trimesh.load_mesh(path).vertices)
        np.testing.assert_allclose(np.ptp(vertices, axis=0), 16 * 0.005, rtol=0.03)


@pytest.mark.parametrize("unit", ["Å", "nm", "mm"])
def test_a_very_small_mesh_is_not_rounded(unit: str, tmp_path) -> None:
    """Positions in mm: voxels of 1 Å are 1e-7 mm long."""
    pytest.importorskip("trimesh", reason="trimesh is not installed")
    volume = Volume(ball(24, 8.0), "ZYX", (1.0,) * 3, unit)
    path = tmp_path / "small.obj"
    result = run_to_end(meshing.mesh_steps(volume, path, MeshConfig()))
    lines = [line.split() for line in path.read_text().splitlines()]
    vertices = np.array([line[1:4] for line in lines if line[:1] == ["v"]], float)
    faces = np.array([line[1:] for line in lines if line[:1] == ["f"]], int) - 1
    volume_in_file = mesh_volume(vertices[:, ::-1], faces)
    assert volume_in_file == pytest.approx(result.volume, 1e-5, 0)


def test_fewer_triangles_keep_the_volume(tmp_path, capsys) -> None:
    for name in ("trimesh", "fast_simplification"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra mesh)")
    source = save(tmp_path / "ball.tif", ball(40, 16.0))
    out = tmp_path / "ball.stl"
    words = ["shapes", "mesh", str(source), "-o", str(out), "--faces", "800", "--json"]
    assert run(words) == 0
    found = answer(capsys)
    assert 700 < found["faces"] <= 800
    assert found["watertight"]
    assert found["volume"] == pytest.approx(found["voxel_volume"], rel=0.01)
    assert found["statements"] == ["The surface is closed (watertight)."]
    assert found["warnings"] == []
    assert run([*words[:5], "--faces", "20", "--json", "--overwrite"]) == 0
    (warning,) = (text for text in answer(capsys)["warnings"] if "--faces" in text)
    assert "differs from that of the voxels by -" in warning


def rod(n: int = 70) -> np.ndarray:
    """A ball with a rod of 40 voxels that is one voxel thick."""
    labels = np.zeros((30, 30, n), np.uint8)
    labels[:, :, :30] = ball(30, 9.0)
    labels[15, 15, 24:64] = 1
    return labels


def test_a_thin_part_stays_in_the_mesh(tmp_path, capsys) -> None:
    source = save(tmp_path / "rod.tif", rod())
    words = ["shapes", "mesh", str(source), "-o", str(tmp_path / "rod.stl")]
    assert run([*words, "--json"]) == 0
    found = answer(capsys)
    assert found["watertight"]
    assert found["keeps_parts"]
    assert (found["pieces"], found["voxel_pieces"]) == (1, 1)
    assert (found["euler_number"], found["voxel_euler_number"]) == (1, 1)
    assert (found["missing_voxels"], found["not_smoothed"]) == (0, "thin")
    assert found["shorter_by_voxels"] < 0.2
    assert any("thinner than two voxels" in text for text in found["statements"])
    assert found["volume"] == pytest.approx(found["voxel_volume"], rel=0.005)
    vertices, *_ = meshes.read_mesh(tmp_path / "rod.stl")
    assert vertices[:, 0].max() == pytest.approx(0.5 * 63.5, abs=0.1)
    assert run([*words, "--overwrite"]) == 0
    assert "thinner than two voxels" in capsys.readouterr().out


def test_what_fewer_triangles_lose_is_told(tmp_path, capsys, monkeypatch) -> None:
    def one_ball(vertices, faces, _n):
        return vertices, faces[vertices[faces[:, 0], 0] < 10]  # X in mm

    monkeypatch.setattr(meshing, "simplified", one_ball)
    monkeypatch.setattr(meshing, "check_simplification", lambda: None)
    two = np.concatenate([ball(20, 7.0)] * 2, 2)
    source = save(tmp_path / "two.tif", two)
    words = ["shapes", "mesh", str(source), "-o", str(tmp_path / "two.stl")]
    assert run([*words, "--faces", "100", "--json"]) == 0
    found = answer(capsys)
    assert (found["watertight"], found["keeps_parts"]) == (True, False)
    assert (found["pieces"], found["voxel_pieces"]) == (1, 2)
    assert "pieces are missing or merged" in " ".join(found["warnings"])
    assert "19.9 voxels before the end" in " ".join(found["warnings"])


def test_a_missing_package_is_found_before_the_surface(
    tmp_path, capsys, monkeypatch
) -> None:
    pytest.importorskip("trimesh", reason="trimesh is not installed")
    monkeypatch.setattr(meshes, "find_spec", lambda name: None)
    monkeypatch.setattr(meshing, "read_shape_steps", None)  # is not called
    source = save(tmp_path / "ball.tif", ball(20, 7.0))
    words = ["shapes", "mesh", str(source), "-o", str(tmp_path / "ball.stl")]
    assert run([*words, "--faces", "100"]) == 2
    assert 'pip install "napari-geosr[mesh]"' in capsys.readouterr().err


def test_an_empty_shape_is_refused_before_a_model_is_loaded(tmp_path) -> None:
    """In another process, in which nothing has imported PyTorch."""
    source = save(tmp_path / "empty.tif", np.zeros((8, 8, 8), np.uint8))
    code = (
        "import sys; from napari_geosr.cli.app import run; "
        f"code = run(['shapes', 'refine', {str(source)!r}, '-o', 'fine.tif']); "
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert "is empty" in done.stderr
    assert done.stdout.split() == ["2", "False"]


@pytest.mark.parametrize("rays", [7, 2**18])
def test_a_box_is_filled_exactly(rays: int, tmp_path, monkeypatch) -> None:
    """Large triangles are processed in parts, which do not affect the result."""
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    monkeypatch.setattr(voxelising, "_RAYS", rays)
    trimesh.creation.box((3.0, 4.0, 5.0)).export(tmp_path / "box.stl")
    out = tmp_path / "box.tif"
    words = ["voxelise", str(tmp_path / "box.stl"), "--voxel-size", "0.5"]
    assert run(["shapes", *words, "-o", str(out)]) == 0
    filled = np.asarray(io.read(out).data) > 0
    expected = np.zeros((12, 10, 8), bool)  # 5, 4 and 3 mm, and a voxel at either end
    expected[1:-1, 1:-1, 1:-1] = True
    np.testing.assert_array_equal(filled, expected)


def test_filling_a_mesh_can_be_stopped(tmp_path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    trimesh.creation.box((3.0, 4.0, 5.0)).export(tmp_path / "box.stl")
    out = tmp_path / "box.tif"
    steps = voxelising.voxelise_steps(
        tmp_path / "box.stl",
        out,
        VoxeliseConfig.create(voxel_size=(0.5,) * 3),
        should_stop=lambda: True,
    )
    with pytest.raises(Cancelled):
        list(steps)
    assert not out.exists()


def test_completing_keeps_every_given_voxel(tmp_path, capsys) -> None:
    made = simulated_skull(3, 56, "sphere")
    source = save(tmp_path / "part.tif", made.incomplete.astype(np.uint8))
    out, implant, mesh = (tmp_path / n for n in ("all.tif", "new.tif", "new.stl"))
    words = ["shapes", "complete", str(source), "-o", str(out), "--json"]
    assert run([*words, "--implant", str(implant), "--mesh", str(mesh)]) == 0
    found = answer(capsys)
    assert "simulated skulls" in " ".join(found["warnings"])
    whole, new = (np.asarray(io.read(p).data) > 0 for p in (out, implant))
    assert found["removed_voxels"] == 0
    assert whole[made.incomplete].all()
    np.testing.assert_array_equal(new, whole & ~made.incomplete)
    missing = made.complete & ~made.incomplete
    assert 2 * (new & missing).sum() > 0.75 * (new.sum() + missing.sum())
    assert found["implant_volume"] == pytest.approx(new.sum() / 8)
    assert found["watertight"]
    assert mesh.stat().st_size == 84 + 50 * int.from_bytes(
        mesh.read_bytes()[80:84], "little"
    )


def test_refining_a_completed_part_can_be_stopped(tmp_path, monkeypatch) -> None:
    training = {
        "simulated": "skulls", "steps": 1, "name": "made", "channels": (2, 3, 4),
        "patch": 16, "threads": 1, "device": "cpu",
    }  # fmt: skip
    job = ShapeTrainJob.from_values(
        {"method": "shape_completion", "training": training}
    )
    model = run_to_end(train_shape_steps(job, tmp_path / "job"))
    made = simulated_skull(3, 56, "sphere")
    volume = Volume(made.incomplete.astype(np.uint8), "ZYX", (0.5,) * 3, "mm")
    grown = lambda coarse, *_: ndimage.binary_dilation(coarse, iterations=3)  # noqa: E731
    monkeypatch.setattr(complete, "_predicted", grown)
    monkeypatch.setattr(shapes, "_EDGES", (8,))
    config = CompleteShapeConfig.create(model=str(model), device="cpu")
    stages: list[str] = []
    blocks = 0

    def observe(step: Step) -> None:
        nonlocal blocks
        if isinstance(step, StageStarted):
            stages.append(step.message)
        elif stages and stages[-1].startswith("Refining the completed part"):
            assert isinstance(step, BlockDone)
            assert step.total > 2
            blocks += 1

    steps = complete.complete_shape_steps(
        volume, tmp_path / "out.tif", config, should_stop=lambda: blocks == 2
    )
    with pytest.raises(Cancelled):
        run_to_end(steps, observe)
    assert stages[-1].startswith("Refining the completed part")
    assert blocks == 2
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize("command", ["shapes simulate", "simulate skulls"])
def test_simulated_skulls_come_in_pairs(command: str, tmp_path, capsys) -> None:
    out = tmp_path / "skulls"
    options = ["--number", "2", "--shape", "32", "-o", str(out), "--json"]
    assert run([*command.split(), *options]) == 0
    files = [Path(name) for name in answer(capsys)["files"]]
    assert len(files) == 4
    whole, part = (np.asarray(io.read(path).data) > 0 for path in files[:2])
    assert (part & ~whole).sum() == 0 < part.sum() < whole.sum()
    assert io.read(files[0]).voxel_size == pytest.approx((200 / 32,) * 3)


def test_existing_skulls_are_found_before_any_is_written(tmp_path, capsys) -> None:
    words = ["simulate", "skulls", "--shape", "16", "-o", str(tmp_path)]
    for name in ("incomplete_0002.tif", "complete_0003.tif", "complete_0005.tif"):
        (tmp_path / name).write_text("mine")
    assert run([*words, "--number", "4"]) == 2
    error = capsys.readouterr().err
    assert "already contains incomplete_0002.tif, complete_0003.tif. Choose" in error
    assert "--overwrite" in error
    assert len(list(tmp_path.iterdir())) == 3
    assert run([*words, "--number", "2"]) == 0
    assert run([*words, "--number", "3", "--defects", "none"]) == 2
    error = capsys.readouterr().err
    assert "already contains complete_0000.tif, complete_0001.tif. Choose" in error
    assert run([*words, "--number", "4"]) == 2
    assert "complete_0001.tif and 3 more" in capsys.readouterr().err
    assert run([*words, "--number", "4", "--overwrite"]) == 0
    assert (tmp_path / "complete_0005.tif").read_text() == "mine"


def grey(edge: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (edge,) * 3).astype(np.uint8)


def two_labels() -> np.ndarray:
    labels = ball(16, 5.0)
    labels[labels.astype(bool) & (np.arange(16) > 8)] = 2
    return labels


BAD = {
    "empty": (np.zeros((8, 8, 8), np.uint8), "is empty"),
    "full": (np.ones((8, 8, 8), np.uint8), "is full"),
    "labels": (two_labels(), "has 2 labels (1, 2). Choose the label"),
    "grey": (grey(16), "grey-value image"),
    "fractions": (ball(8, 3) * np.float32(0.5) + np.eye(8, dtype="f4"), "grey-value"),
    "nan": (np.where(ball(8, 3), np.nan, 0).astype("f4"), "NaN"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_shape_is_refused(name: str, tmp_path, capsys) -> None:
    data, message = BAD[name]
    source = save(tmp_path / "bad.tif", data)
    out = tmp_path / "out.tif"
    assert run(["shapes", "refine", str(source), "-o", str(out)]) == 2
    said = capsys.readouterr().err
    assert message in said, said
    assert not out.exists()


@pytest.mark.parametrize("value", [0.5, -1.0, 1.0, 255.0])
def test_a_value_that_is_no_label_is_told(value: float, tmp_path, capsys) -> None:
    source = save(tmp_path / "ball.tif", ball(16, 5.0) * np.float32(value))
    words = ["shapes", "refine", str(source), "-o", str(tmp_path / "out.tif")]
    assert run([*words, "--model", "trilinear", "--json"]) == 0
    warnings = " ".join(answer(capsys)["warnings"])
    told = f"The shape in ball.tif is marked with the value {value:g};"
    assert (told in warnings) == (value in {0.5, -1.0})
    assert ("marked" in warnings) == (told in warnings)


@pytest.mark.parametrize("name", ["out.tif", "out.ome.zarr", "out.nii.gz"])
def test_a_shape_that_vanishes_is_not_written(name: str, tmp_path, capsys) -> None:
    """A single voxel is too thin for interpolation; a file from before is kept."""
    if name.endswith(".nii.gz"):
        pytest.importorskip("nibabel", reason="nibabel is not installed")
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[4, 4, 4] = 1
    source, out = save(tmp_path / "dot.tif", labels), tmp_path / name
    words = ["shapes", "refine", str(source), "-o", str(out), "--model", "trilinear"]
    assert run(words) == 2
    said = capsys.readouterr()
    assert "Nothing is left of dot.tif" in said.err
    assert "Wrote" not in said.out
    assert [path.name for path in tmp_path.iterdir()] == ["dot.tif"]
    save(out, ball(16, 5.0))
    assert run([*words, "--overwrite"]) == 2
    np.testing.assert_array_equal(np.asarray(io.read(out).data), ball(16, 5.0))


@pytest.mark.parametrize("spacing", [4, 8])
def test_a_changed_volume_is_told(tmp_path, capsys, spacing: int) -> None:
    """Single voxels are lost: 7 % of the shape with 64 of them, 1 % with eight."""
    shape = np.zeros((16, 16, 32), np.uint8)
    shape[4:14, 4:14, 20:30] = 1
    shape[1:16:spacing, 1:16:spacing, 1:16:spacing] = 1
    source, out = save(tmp_path / "dust.tif", shape), tmp_path / "fine.tif"
    words = ["shapes", "refine", str(source), "-o", str(out), "--json"]
    assert run([*words, "--model", "trilinear"]) == 0
    found = answer(capsys)
    assert "surface moved" in found["warnings"][0]
    told = f"The volume of the shape changed by {100 * found['volume_change']:+.1f} %."
    assert any(told in warning for warning in found["warnings"]) is (spacing == 4)


def test_one_label_can_be_chosen(tmp_path, capsys) -> None:
    source = save(tmp_path / "two.tif", two_labels())
    out = tmp_path / "out.stl"
    words = ["shapes", "mesh", str(source), "-o", str(out), "--json"]
    assert run([*words, "--label", "2"]) == 0
    assert answer(capsys)["voxel_volume"] == pytest.approx(
        (two_labels() == 2).sum() / 8
    )
    assert run([*words, "--overwrite", "--label", "7"]) == 2
    assert "has no label 7. Its labels: 1, 2" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["uint8", "float32", "int32"])
def test_a_label_cannot_be_chosen_from_a_grey_image(
    kind: str, tmp_path, capsys
) -> None:
    values = grey(16) + (0.5 if kind == "float32" else 0)
    source = save(tmp_path / "scan.tif", values.astype(kind))
    out = tmp_path / "out.tif"
    words = ["shapes", "refine", str(source), "-o", str(out), "--label", "100"]
    assert run(words) == 2
    assert "is a grey-value image, not a shape" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("kind", ["noisy", "smooth", "blurred"])
def test_a_grey_image_with_few_values_is_not_a_label_image(
    kind: str, tmp_path, capsys
) -> None:
    """Refused if most neighbours differ; otherwise the chosen voxels are told."""
    z, _, x = np.indices((24,) * 3)
    image = 10 + z + (grey(24) // 32 if kind == "noisy" else 0)
    if kind == "blurred":
        image = (x + z) // 3 * (ball(24, 11) > 0)  # with an empty background
    source = save(tmp_path / "scan.tif", image.astype(np.uint8))
    words = ["shapes", "mesh", str(source), "-o", str(tmp_path / "a.stl"), "--json"]
    code = run([*words, "--label", "12"])
    shown = capsys.readouterr()
    if kind == "noisy":
        assert code == 2
        assert "is a grey-value image, not a shape" in shown.err
    else:
        assert code == 0
        share = 100 * (image == 12).mean()
        told = f"{share:.2g} % of the voxels of scan.tif have the value 12"
        assert told in json.loads(shown.out)["warnings"][0]


def test_a_label_can_be_chosen_from_many(tmp_path, capsys) -> None:
    cells = np.indices((10,) * 3).sum(0) * 100 + np.arange(10)  # more than 64 values
    source = save(tmp_path / "cells.tif", cells.repeat(3, 2).astype(np.int32))
    out = tmp_path / "out.tif"
    words = ["shapes", "refine", str(source), "-o", str(out), "--model", "trilinear"]
    assert run([*words, "--label", "909"]) == 0
    assert run([*words, "--overwrite", "--label", "7"]) == 2
    assert "has no label 7. Its labels: 100, 101, " in capsys.readouterr().err


def test_other_bad_input(tmp_path, capsys) -> None:
    source = save(tmp_path / "ball.tif", ball(16, 5.0))
    flat = save(tmp_path / "flat.tif", ball(16, 5.0), (2.0, 0.5, 0.5))
    other = save(tmp_path / "other.tif", ball(18, 5.0))
    series = tmp_path / "series.tif"
    frames = np.stack([ball(8, 3)] * 3)
    tifffile.imwrite(series, frames, imagej=True, metadata={"axes": "TZYX"})
    image, empty = tmp_path / "image.tif", tmp_path / "empty.tif"
    tifffile.imwrite(image, ball(16, 5.0)[8])
    save(empty, np.zeros((8, 8, 8), np.uint8))
    out = str(tmp_path / "out.tif")
    cases = [
        (["complete", flat, "-o", out], "not a closed shell"),
        (["refine", source, "-o", out, "--model", "none-such"], "no model for shapes"),
        (["refine", source, "-o", out, "--model", "skull-complete"], "cannot refine"),
        (["refine", source, "-o", out, "--memory", "1MB"], "next to its surface"),
        (["refine", source, "-o", source], "is the input"),
        (["compare", source, other], "must be on the same grid"),
        (["compare", source, flat], "voxels of 2 × 0.5 × 0.5 mm"),
        (["compare", source, source, "--tolerance", "wide"], "a length greater than"),
        (["refine", series, "-o", out], ": series.tif has 3 time points"),
        (["refine", image, "-o", out], "Y, X; a shape is a volume (Z, Y, X).\n"),
        (["complete", empty, "-o", out], "empty.tif is empty"),
        (["voxelise", source, "--voxel-size", "1", "-o", out], "it already consists"),
        (["mesh", source, "-o", out], "does not have a mesh suffix"),
        (["voxelise", tmp_path / "no.stl", "--voxel-size", "1", "-o", out], "no file"),
        (["voxelise", source, "--voxel-size", "0", "-o", out], "greater than zero"),
    ]
    for words, message in cases:
        assert run(["shapes", *map(str, words)]) == 2, words
        said = capsys.readouterr().err
        assert message in said, words
        assert words[1] is flat or "orientation" not in said  # only after reading
        assert not Path(out).exists()
    words = ["shapes", "refine", str(flat), "-o", out]
    assert run(words) == 2
    assert "4 times longer" in capsys.readouterr().err
    assert run([*words, "--model", "trilinear"]) == 0


def test_the_border_is_compared(tmp_path, capsys) -> None:
    one = save(tmp_path / "one.tif", ball(24, 9.0))
    moved = save(tmp_path / "two.tif", np.roll(ball(24, 9.0), 1, 0))
    assert run(["shapes", "compare", str(one), str(one), "--json"]) == 0
    assert answer(capsys)["border_dice"] == 1
    assert run(["shapes", "compare", str(moved), str(one), "--json"]) == 0
    found = answer(capsys)
    assert 0.5 < found["border_dice"] < found["dice"] < 1
    assert run(["shapes", "compare", str(moved), str(one)]) == 0
    assert "Border Dice within 0.5 mm" in capsys.readouterr().out


def test_a_small_completed_part_may_be_none(tmp_path, capsys) -> None:
    """A complete skull in which the model finds a missing part."""
    made = simulated_skull(107, 128, "none")
    source = save(tmp_path / "whole.tif", made.complete.astype(np.uint8))
    words = ["shapes", "complete", str(source), "-o", str(tmp_path / "out.tif")]
    assert run(words) == 0
    assert "The shape may already be complete" in capsys.readouterr().err


def test_an_open_mesh_cannot_be_filled(tmp_path, capsys) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    mesh = trimesh.creation.icosphere(1)
    mesh.update_faces(np.arange(len(mesh.faces)) > 0)
    mesh.export(tmp_path / "open.stl")
    out = tmp_path / "out.tif"
    words = ["voxelise", str(tmp_path / "open.stl"), "--voxel-size", "0.2"]
    assert run(["shapes", *words, "-o", str(out)]) == 2
    assert "3 edges at holes" in capsys.readouterr().err


def test_a_model_for_shapes_does_not_restore(tmp_path, capsys) -> None:
    from napari_geosr.operations.shapes.models import BUNDLED

    source = save(tmp_path / "scan.tif", grey(16))
    words = ["restore", str(source), "-m", str(BUNDLED / "shape-sr-x2")]
    assert run([*words, "-o", str(tmp_path / "out.tif")]) == 2
    assert "is for shapes, not for grey values" in capsys.readouterr().err
    out = str(tmp_path / "fine.tif")
    shape = save(tmp_path / "ball.tif", ball(16, 5.0))
    folder = str(BUNDLED.parent / "foam-sr-x2")
    assert run(["shapes", "refine", str(shape), "-o", out, "--model", folder]) == 2
    assert "is for grey values, not for shapes" in capsys.readouterr().err


def test_crowded_shapes_are_computed_with_dense_convolutions(tmp_path, capsys) -> None:
    crowded = (np.random.default_rng(1).random((12, 12, 12)) < 0.5).astype(np.uint8)
    said = {}
    for name, labels in {"crowded": crowded, "ball": ball(24, 8)}.items():
        source = save(tmp_path / f"{name}.tif", labels)
        words = ["shapes", "refine", str(source), "-o", str(tmp_path / f"{name}.zarr")]
        assert run(words) == 0
        said[name] = " ".join(capsys.readouterr().err.split())
    assert "100 % of the voxels are computed. Above 25 %, dense" in said["crowded"]
    assert "dense" not in said["ball"]
