"""``napari-geosr shapes voxelise --like``: a mesh on the voxels of a volume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core import provenance
from napari_geosr.core.orientation import orientation_entry
from napari_geosr.core.volume import Volume
from napari_geosr.io.meshes import write_mesh

trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")

#: Rotation by 30° about Z, row by row.
TURN = (0.75**0.5, -0.5, 0.0, 0.5, 0.75**0.5, 0.0, 0.0, 0.0, 1.0)


def grid(path: Path, unit: str = "mm", **metadata) -> Path:
    """An empty volume with voxels of 2 × 1 × 0.5, which begins at 10, -20, 30."""
    volume = Volume(
        np.zeros((12, 20, 24), np.uint8), "ZYX", (2.0, 1.0, 0.5), unit, (10, -20, 30),
        metadata=metadata,
    )  # fmt: skip
    return io.write(volume, path, kind="labels")


def box(
    path: Path,
    space: str = "",
    turn: np.ndarray | None = None,
    *,
    is_oblique: bool = False,
) -> Path:
    """A box that fills the voxels 2…5, 4…12 and 6…16 of this volume."""
    low, high = np.array([32.75, -16.5, 13]), np.array([38.25, -7.5, 21])
    mesh = trimesh.creation.box(high - low)
    vertices = mesh.vertices + (low + high) / 2
    if turn is not None:
        vertices = vertices @ turn.T
    write_mesh(path, vertices, mesh.faces, space=space, is_oblique=is_oblique)
    return path


def is_in_place(path: Path) -> bool:
    expected = np.zeros((12, 20, 24), bool)
    expected[2:6, 4:13, 6:17] = True
    return np.array_equal(np.asarray(io.read(path).data) > 0, expected)


def voxelised(mesh: Path, like: Path, *options: str) -> tuple[int, Path]:
    out = like.with_name("out.tif")
    words = ["voxelise", str(mesh), "--like", str(like), "-o", str(out), "--json"]
    return run(["shapes", *words, "--overwrite", *options]), out


def test_the_result_has_the_voxels_of_the_volume(tmp_path, capsys) -> None:
    like = grid(tmp_path / "grid.tif", orientation="RAS")
    code, out = voxelised(box(tmp_path / "box.stl"), like)
    assert (code, json.loads(capsys.readouterr().out)["warnings"]) == (0, [])
    made, given = io.read(out), io.read(like)
    assert is_in_place(out)
    assert made.voxel_size == given.voxel_size
    assert made.origin == given.origin
    assert made.metadata["orientation"] == "RAS"
    inputs = made.provenance[-1]["inputs"]
    assert inputs["like"]["checksum"] == provenance.checksum(like)
    assert run(["shapes", "compare", str(out), str(out)]) == 0


@pytest.mark.parametrize(
    ("space", "facts"),
    [
        ("LPS", orientation_entry("RAS")),
        ("RAS", orientation_entry("LPS")),
        ("RAS", orientation_entry("RAS", TURN)),
        ("LPS", orientation_entry("RAS", TURN)),
    ],
)
def test_the_mesh_is_rotated_to_the_axes_of_the_volume(
    space: str, facts: dict, tmp_path, capsys
) -> None:
    like = grid(tmp_path / "grid.tif", **facts)
    turn = np.reshape(facts.get("rotation", np.eye(3)), (3, 3))
    if space != facts["orientation"]:
        turn = np.diag([-1, -1, 1]) @ turn
    code, out = voxelised(box(tmp_path / "box.stl", space, turn), like)
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert code == 0
    assert "The mesh was rotated" in warning
    assert is_in_place(out)


@pytest.mark.parametrize(
    ("name", "line"),
    [("a.ply", "comment SPACE=LPS"), ("a.obj", "# 3D Slicer output. SPACE=LPS")],
)
def test_comments_of_other_programs_are_read(name: str, line: str, tmp_path) -> None:
    like = grid(tmp_path / "grid.tif", orientation="RAS")
    path = box(tmp_path / name, "RAS", np.diag([-1, -1, 1]))
    content = path.read_bytes()
    written = f"{line.split()[0]} napari-geosr SPACE=RAS".encode()
    assert content.count(written) == 1
    path.write_bytes(content.replace(written, line.encode()))
    code, out = voxelised(path, like)
    assert code == 0
    assert is_in_place(out)


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj"])
def test_a_mesh_of_an_oblique_volume_needs_this_volume(
    suffix: str, tmp_path, capsys
) -> None:
    mesh = box(tmp_path / f"box{suffix}", "RAS", is_oblique=True)
    like = grid(tmp_path / "oblique.tif", **orientation_entry("RAS", TURN))
    code, out = voxelised(mesh, like)
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert code == 0
    assert "only if oblique.tif is this volume or has the same rotation" in warning
    assert is_in_place(out)
    straight = grid(tmp_path / "straight.tif", orientation="RAS")
    assert voxelised(mesh, straight)[0] == 2
    assert "straight.tif is not oblique" in " ".join(capsys.readouterr().err.split())


def test_units_are_converted(tmp_path, capsys) -> None:
    like = grid(tmp_path / "grid.tif", "µm")
    mesh = box(tmp_path / "box.stl")
    code, out = voxelised(mesh, like, "--unit", "um")
    assert code == 0
    assert is_in_place(out)
    assert voxelised(mesh, like)[0] == 2  # positions are in mm by default
    assert "Check the unit of the mesh (--unit)" in capsys.readouterr().err


def test_a_mesh_mostly_elsewhere_is_reported(tmp_path, capsys) -> None:
    like = grid(tmp_path / "grid.tif")
    mesh = trimesh.creation.box((6, 6, 3000))
    mesh.apply_translation((36, -10, 1515))
    mesh.export(tmp_path / "rod.stl")
    assert voxelised(tmp_path / "rod.stl", like)[0] == 0
    assert "Hardly any of rod.stl is inside grid.tif" in capsys.readouterr().err
    trimesh.creation.box((3000, 3000, 3000)).export(tmp_path / "unit.stl")
    assert voxelised(tmp_path / "unit.stl", like)[0] == 2


def test_a_cut_shape_is_told(tmp_path, capsys) -> None:
    like = grid(tmp_path / "grid.tif")
    mesh = trimesh.creation.box((6, 6, 100))
    mesh.apply_translation((36, -10, 20))
    mesh.export(tmp_path / "rod.stl")
    code, out = voxelised(tmp_path / "rod.stl", like)
    warnings = " ".join(json.loads(capsys.readouterr().out)["warnings"])
    assert code == 0
    assert "extends beyond grid.tif (voxels: 20 along Z)" in warnings
    assert np.asarray(io.read(out).data).any((1, 2)).all()


def test_the_volume_may_have_time_points_and_channels(tmp_path) -> None:
    like = grid(tmp_path / "grid.tif")
    series = io.read(like)
    series = series.replace(data=np.zeros((2, 3, *series.shape), "u1"), axes="TCZYX")
    io.write(series, like, overwrite=True)
    code, out = voxelised(box(tmp_path / "box.stl"), like)
    assert code == 0
    assert is_in_place(out)


def test_the_volume_is_not_overwritten(tmp_path, capsys) -> None:
    like = grid(tmp_path / "out.tif")
    assert voxelised(box(tmp_path / "box.stl"), like)[0] == 2
    assert "Choose another" in " ".join(capsys.readouterr().err.split())
    assert not np.asarray(io.read(like).data).any()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--like", "GRID", "--voxel-size", "1"], "either --voxel-size or --like"),
        (["--like", "GRID", "--margin", "2"], "--margin cannot be used with --like"),
        ([], "Give it (--voxel-size), or a volume"),
    ],
)
def test_one_grid_is_chosen(options: list[str], told: str, tmp_path, capsys) -> None:
    like, mesh = grid(tmp_path / "grid.tif"), box(tmp_path / "box.stl")
    given = [str(like) if word == "GRID" else word for word in options]
    words = ["voxelise", str(mesh), *given, "-o", str(tmp_path / "a.tif")]
    assert run(["shapes", *words]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_a_voxel_is_filled_if_half_of_it_is_inside(tmp_path, capsys) -> None:
    """A thin wall off the centres of the voxels, and a wide one."""
    trimesh.creation.box((0.3, 8, 8)).export(tmp_path / "thin.stl")
    wide = trimesh.creation.box((5.2, 8, 8))
    wide.export(tmp_path / "wide.stl")
    out = tmp_path / "a.tif"
    words = ["--voxel-size", "1", "-o", str(out), "--overwrite", "--samples", "4"]
    assert run(["shapes", "voxelise", str(tmp_path / "wide.stl"), *words]) == 0
    assert np.asarray(io.read(out).data).any((0, 1)).sum() == 5
    assert run(["shapes", "voxelise", str(tmp_path / "thin.stl"), *words]) == 2
    assert "at least half of its 64 sampling points inside" in capsys.readouterr().err


def test_a_real_mesh_there_and_back(shared_data, tmp_path, capsys) -> None:
    """Coarse voxels, refinement, mesh, fine voxels: compared with the real mesh."""
    real = str(shared_data / "shapes" / "branchoid.ply")
    coarse, fine, surface, truth, again = (
        str(tmp_path / name)
        for name in ("coarse.tif", "fine.tif", "fine.stl", "truth.tif", "again.tif")
    )
    found = []
    for words in (
        ["voxelise", real, "--voxel-size", "2.2", "--samples", "4", "-o", coarse],
        ["refine", coarse, "--upscale-factor", "4", "-o", fine],
        ["mesh", fine, "-o", surface],
        ["voxelise", real, "--like", fine, "-o", truth],
        ["voxelise", surface, "--like", fine, "-o", again],
        ["compare", again, truth],
    ):
        assert run(["shapes", *words, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    mesh, comparison = found[2], found[-1]
    assert mesh["watertight"]
    assert mesh["volume"] == pytest.approx(found[0]["mesh_volume"], rel=0.02)
    assert comparison["hausdorff_95"] <= 1.5 * 2.2 / 4
    assert abs(comparison["volume_error"]) < 0.02
