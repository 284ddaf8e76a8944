"""A real mesh is filled, coarsened, refined and opened again as a surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.physics.shapes import coarsened

#: Longest edge of the coarse volume, in voxels.
EDGE = 64


def test_a_refined_mesh_opens_in_its_place(shared_data: Path, viewer, tmp_path):
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    source = shared_data / "shapes" / "branchoid.ply"
    true = trimesh.load_mesh(source)
    size = float(true.extents.max()) / (4 * EDGE - 8)
    filled, coarse = tmp_path / "filled.tif", tmp_path / "coarse.tif"
    words = ["--voxel-size", f"{size}", "-o", str(filled)]
    assert run(["shapes", "voxelise", str(source), *words]) == 0
    volume = io.read(filled)
    inside = np.asarray(volume.data) > 0
    padded = np.pad(inside, [(0, -n % 4) for n in inside.shape])
    small = volume.replace(
        data=coarsened(padded, 4).astype(np.uint8),
        voxel_size=(4 * size,) * 3,
        origin=tuple(float(start + 1.5 * size) for start in volume.origin),
    )
    io.write(small, coarse)
    fine, surface = tmp_path / "fine.tif", tmp_path / "fine.stl"
    words = ["--upscale-factor", "4", "-o", str(fine)]
    assert run(["shapes", "refine", str(coarse), *words]) == 0
    assert run(["shapes", "mesh", str(fine), "-o", str(surface)]) == 0

    (layer,) = viewer.open(surface, plugin="napari-geosr")
    assert layer.as_layer_data_tuple()[2] == "surface"
    shown = trimesh.Trimesh(layer.data[0][:, ::-1], layer.data[1])
    assert shown.is_watertight
    assert shown.volume == pytest.approx(true.volume, rel=0.02)
    np.testing.assert_allclose(shown.bounds, true.bounds, atol=2 * size)
    assert _hd95(true, shown) <= 1.5 * size


def _hd95(first, second) -> float:
    """95th percentile of the distances between two surfaces, in both directions."""
    from scipy.spatial import cKDTree
    from trimesh.sample import sample_surface

    points = [sample_surface(each, 400_000, seed=1)[0] for each in (first, second)]
    there = cKDTree(points[0]).query(points[1][::8])[0]
    back = cKDTree(points[1]).query(points[0][::8])[0]
    return float(np.percentile(np.concatenate([there, back]), 95))
