"""``napari-geosr shapes voxelise``: volume, overlapping parts, and refusals."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.operations.shapes import CompareShapesConfig
from napari_geosr.operations.shapes.grids import grid_around

trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")


def sphere(radius: float, x: float = 0.0):
    made = trimesh.creation.icosphere(4, radius)
    made.apply_translation([x, 0, 0])
    return made


def voxelise(mesh, folder, size: str, *more: str) -> int:
    mesh.export(folder / "mesh.stl")
    words = ["shapes", "voxelise", str(folder / "mesh.stl"), "--voxel-size", size]
    return run([*words, "-o", str(folder / "out.tif"), *more])


def places(folder) -> np.ndarray:
    """Positions (Z, Y, X) of all voxels that are filled."""
    found = io.read(folder / "out.tif")
    return np.argwhere(np.asarray(found.data)) * found.voxel_size + found.origin


def test_the_volume_is_printed(tmp_path, capsys) -> None:
    assert voxelise(sphere(10), tmp_path, "0.5", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["voxels"] == len(places(tmp_path))
    assert found["volume"] == pytest.approx(found["voxels"] * 0.125)
    assert found["mesh_volume"] == pytest.approx(sphere(10).volume)
    assert found["warnings"] == []
    assert voxelise(sphere(10), tmp_path, "0.5", "--overwrite") == 0
    text = capsys.readouterr().out
    assert f"{found['voxels']:,} voxels inside the mesh: {found['volume']:.6g} mm³" in (
        text
    )


def test_overlapping_parts_are_united(tmp_path, capsys) -> None:
    radius, distance = 10, 12
    both = trimesh.util.concatenate([sphere(radius), sphere(radius, distance)])
    assert voxelise(both, tmp_path, "0.5", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    lens = np.pi * (4 * radius + distance) * (2 * radius - distance) ** 2 / 12
    union = 2 * 4 / 3 * np.pi * radius**3 - lens
    assert found["volume"] == pytest.approx(union, rel=0.01)
    middle = places(tmp_path) - np.array([0, 0, distance / 2])
    assert (np.abs(middle).max(1) < 1).any()
    (warning,) = found["warnings"]
    assert "parts of the mesh overlap" in warning


def test_there_may_be_room_around_the_mesh(tmp_path) -> None:
    assert voxelise(sphere(10), tmp_path, "0.5") == 0
    near, before = io.read(tmp_path / "out.tif"), places(tmp_path)
    assert voxelise(sphere(10), tmp_path, "0.5", "--margin", "9", "--overwrite") == 0
    wide = io.read(tmp_path / "out.tif")
    assert wide.shape == tuple(n + 16 for n in near.shape)
    assert not np.asarray(wide.data)[:8].any()
    np.testing.assert_allclose(places(tmp_path), before, atol=1e-6)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"orientation": "LPS"}, "LPS"),
        ({"orientation": "RAS"}, "RAS"),
        ({"orientation": "RAS", "rotation": (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)}, ""),
        ({}, ""),
    ],
)
def test_the_coordinate_system_of_a_mesh_is_kept(facts, expected, tmp_path) -> None:
    """The axes of an oblique volume only point roughly in its directions."""
    solid = np.zeros((12, 12, 12), np.uint8)
    solid[3:9, 3:9, 3:9] = 1
    volume = Volume(solid, "ZYX", (1.0,) * 3, "mm", metadata=facts)
    source = io.write(volume, tmp_path / "box.tif", kind="labels")
    mesh, out = tmp_path / "box.stl", tmp_path / "out.tif"
    assert run(["shapes", "mesh", str(source), "-o", str(mesh)]) == 0
    stated = f"SPACE={facts['orientation']}" if facts else "napari-geosr"
    assert stated.encode() in mesh.read_bytes()[:80]
    words = ["shapes", "voxelise", str(mesh), "--voxel-size", "1", "-o", str(out)]
    assert run(words) == 0
    assert io.read(out).metadata.get("orientation", "") == expected


@pytest.mark.parametrize("shift", [(2, 0, 0), (2, 2, 0)])
def test_touching_parts_are_filled(shift, tmp_path, capsys) -> None:
    """Two boxes share a face or an edge, at which their triangles meet."""
    one, other = trimesh.creation.box((2, 2, 2)), trimesh.creation.box((2, 2, 2))
    other.apply_translation(shift)
    both = trimesh.util.concatenate([one, other])
    assert voxelise(both, tmp_path, "0.25", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["volume"] == found["mesh_volume"] == pytest.approx(16)
    assert found["warnings"] == []


def test_a_reversed_triangle_is_refused(tmp_path, capsys) -> None:
    made = sphere(10)
    made.faces[7] = made.faces[7][::-1]
    assert voxelise(made, tmp_path, "0.5") == 2
    assert "3 edges between triangles with opposite orientations" in (
        capsys.readouterr().err
    )


def test_cavities_stay_empty(tmp_path, capsys) -> None:
    inner = sphere(5)
    inner.invert()
    hollow = trimesh.util.concatenate([sphere(10), inner])
    assert voxelise(hollow, tmp_path, "0.5", "--json") == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []
    distances = np.linalg.norm(places(tmp_path), axis=1)
    assert 4.9 < distances.min() < 5.6
    assert 9.4 < distances.max() < 10.1


def test_a_mesh_may_be_inside_out(tmp_path) -> None:
    reversed_sphere = sphere(10)
    reversed_sphere.invert()
    assert voxelise(reversed_sphere, tmp_path, "0.5") == 0
    assert np.linalg.norm(places(tmp_path), axis=1).max() < 10.1


def test_empty_results_are_refused(tmp_path, capsys) -> None:
    assert voxelise(sphere(10), tmp_path, "50") == 2
    assert not (tmp_path / "out.tif").exists()
    error = capsys.readouterr().err
    assert "no voxel of 50 mm has its centre inside it" in error
    (size,) = re.findall(r"--voxel-size ([0-9.]+[0-9])", error)
    assert voxelise(sphere(10), tmp_path, size, "--json") == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_coarse_results_are_warned_about(tmp_path, capsys) -> None:
    assert voxelise(sphere(10), tmp_path, "9", "--json") == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert "+39.5 %" in warning


def test_too_many_voxels_are_refused_for_the_true_reason(
    tmp_path, capsys, monkeypatch
) -> None:
    free = "napari_geosr.operations.shapes.voxelising.free_host_memory"
    monkeypatch.setattr(free, lambda: 10**12)
    assert voxelise(sphere(10), tmp_path, "0.01") == 2
    error = capsys.readouterr().err
    assert "at most 2,147,483,648 are possible" in error
    assert "free" not in error
    monkeypatch.setattr(free, lambda: 10**6)
    assert voxelise(sphere(10), tmp_path, "0.1") == 2
    error = capsys.readouterr().err
    assert re.search(r"which need 24\.\d MB \(1\.?0* MB is free\)", error)
    (size,) = re.findall(r"--voxel-size ([0-9.]+[0-9])", error)
    assert voxelise(sphere(10), tmp_path, size) == 0


@pytest.mark.parametrize(
    ("margin", "free", "expected"),
    [
        ("4096", 10**12, r"No voxel size is large enough; choose a smaller margin"),
        ("8", 250_000, r"such as --voxel-size [0-9.]+, or a smaller margin"),
    ],
)
def test_a_margin_that_needs_too_many_voxels_is_named(
    margin: str, free: int, expected: str, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(
        "napari_geosr.operations.shapes.voxelising.free_host_memory", lambda: free
    )
    assert voxelise(sphere(10), tmp_path, "0.5", "--margin", margin) == 2
    assert re.search(rf"{expected} \(--margin\)\.", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("1e-20", "2000000000000000000002 × "),
        ("1e-20,1,1", "2000000000000000000002 × 22 × 22 voxels"),
        ("1e400", "inf is outside the usable range"),
    ],
)
def test_voxels_of_extreme_sizes_are_refused(
    size: str, message: str, tmp_path, capsys
) -> None:
    mesh = trimesh.creation.box((20, 20, 20))
    assert voxelise(mesh, tmp_path, size) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_more_voxels_than_can_be_counted_are_refused() -> None:
    corners = np.array([[-1e300] * 3, [1e300] * 3])
    with pytest.raises(VolumeError, match="too small for the mesh. Choose a larger"):
        grid_around(corners, np.full(3, 1e-100))


def test_a_tolerance_is_finite() -> None:
    with pytest.raises(ConfigError, match="a length greater than zero is needed"):
        CompareShapesConfig.create(tolerance="1e400")
