"""Meshes are checked with their positions as the file stores them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_geosr.core.volume import Volume
from napari_geosr.operations.shapes import MeshConfig
from napari_geosr.operations.shapes.meshing import MeshResult, write_surface

trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")


def written(inside: np.ndarray, path: Path, origin: float) -> MeshResult:
    """Write the surface of a shape with voxels of 10 µm, `origin` mm from zero."""
    volume = Volume(inside.view(np.uint8), "ZYX", (0.01,) * 3, "mm", (origin,) * 3)
    return write_surface(inside, volume, path, MeshConfig())


def noise(smoothing: float) -> np.ndarray:
    grey = np.random.default_rng(1).normal(size=(32,) * 3)
    found: np.ndarray = ndimage.gaussian_filter(grey, smoothing) > 0.02
    return found


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj", ".3mf"])
def test_a_surface_said_to_be_closed_is_closed_in_the_file(
    suffix: str, tmp_path: Path
) -> None:
    """At 1200 mm, float32 rounds to 1.2e-4 mm, so that some vertices become equal."""
    path = tmp_path / f"far{suffix}"
    result = written(noise(3), path, 1200.0)
    mesh = trimesh.load_mesh(path)
    assert result.is_watertight
    assert mesh.is_watertight
    assert len(mesh.faces) == result.n_faces
    assert not result.warnings


@pytest.mark.parametrize(("suffix", "is_closed"), [(".stl", False), (".obj", True)])
def test_contacts_made_by_rounding_are_told(
    suffix: str, is_closed: bool, tmp_path: Path
) -> None:
    """A rougher shape has surfaces so near each other that rounding joins them."""
    path = tmp_path / f"rough{suffix}"
    result = written(noise(2), path, 1200.0)
    assert trimesh.load_mesh(path).is_watertight == is_closed
    assert result.is_watertight == is_closed
    assert result.is_rounded != is_closed
    text = " ".join(result.warnings)
    assert ("The surface is up to 1200.32 mm from the origin" in text) != is_closed
    assert ("so that the surface touches itself. Write an OBJ" in text) != is_closed


@pytest.mark.parametrize(
    ("unit", "size", "words"),
    [
        ("mm", 0.5, ""),
        ("pixel", 1.0, "positions are in voxels"),
        ("pixel", 0.5, "positions are in an unknown unit"),
    ],
)
@pytest.mark.parametrize("suffix", [".3mf", ".stl"])
def test_a_unit_that_the_positions_do_not_have_is_told(
    suffix: str, unit: str, size: float, words: str, tmp_path: Path
) -> None:
    inside = noise(3)
    volume = Volume(inside.view(np.uint8), "ZYX", (size,) * 3, unit)
    path = tmp_path / f"shape{suffix}"
    text = " ".join(write_surface(inside, volume, path, MeshConfig()).warnings)
    if suffix == ".3mf":
        assert trimesh.load_mesh(path).units == "millimeter"
    if suffix == ".3mf" and words:
        assert "A 3MF file always states millimetres" in text
        assert words in text
    else:
        assert not text
