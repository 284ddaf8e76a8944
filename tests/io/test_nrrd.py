"""NRRD volumes have the same position as in NIfTI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import NO_UNIT

nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed")
DATA = np.arange(2 * 3 * 4, dtype=np.int16).reshape(4, 3, 2)  # X, Y, Z


def save(path: Path, **header: object) -> Path:
    nrrd.write(str(path), DATA, header)
    return path


def test_a_plain_volume(tmp_path) -> None:
    volume = io.read(save(tmp_path / "a.nrrd", spacings=[0.5, 1.0, 2.0]))
    assert volume.axes == "ZYX"
    np.testing.assert_array_equal(volume.data, DATA.T)
    assert volume.voxel_size == (2.0, 1.0, 0.5)
    assert volume.metadata["notes"] == (NO_UNIT,)


@pytest.mark.parametrize("centred", ["cell", "node"])
@pytest.mark.parametrize("field", ["centerings", "centers"])
def test_units_and_positions_without_directions(
    field: str, centred: str, tmp_path
) -> None:
    """Axis minima are faces of cells, or positions of nodes."""
    facts = {
        "spacings": [0.5, 1.0, 0.002],
        "units": ["mm", "mm", "m"],
        "axis mins": [10.0, 20.0, 0.03],
        field: [centred] * 3 if field == "centerings" else " ".join([centred] * 3),
    }
    volume = io.read(save(tmp_path / "a.nrrd", **facts))
    shift = 0.5 * (centred == "cell")
    np.testing.assert_allclose(volume.voxel_size, (0.002, 0.001, 0.0005))
    size = np.array(volume.voxel_size)
    np.testing.assert_allclose(volume.origin, (0.03, 0.02, 0.01) + shift * size)
    assert volume.unit == "m"
    facts["units"] = ["mm", "", "mm"]
    assert not io.read(save(tmp_path / "b.nrrd", **facts)).has_physical_size


@pytest.mark.parametrize(
    "facts",
    [
        {"units": ["mm"] * 3},
        {"units": ["mm"] * 3, "axis mins": [0.0] * 3, "axis maxs": [1.0] * 3},
        {"units": ["mm"] * 3, "spacings": [0.5, 0.5, np.nan]},
        {
            "space": "LPS",
            "space units": ["mm"] * 3,
            "space directions": np.diag([0.0, 1.0, 1.0]),
        },
    ],
)
def test_a_unit_without_a_voxel_size_is_ignored(facts, tmp_path) -> None:
    assert not io.read(save(tmp_path / "a.nrrd", **facts)).has_physical_size


@pytest.mark.parametrize(
    ("facts", "unit"),
    [
        ({}, "mm"),
        ({"space units": ["um"] * 3}, "µm"),
        ({"space units": ["um"] * 3, "units": ["cm"] * 3}, "cm"),
        ({"units": [""] * 3}, "mm"),
        ({"units": ["furlong"] * 3}, "pixel"),
    ],
)
def test_a_space_without_directions_has_a_unit(facts, unit: str, tmp_path) -> None:
    known = {"space": "left-posterior-superior", "spacings": [0.5, 1.0, 2.0]}
    volume = io.read(save(tmp_path / "a.nrrd", **known, **facts))
    assert (volume.voxel_size, volume.unit) == ((2.0, 1.0, 0.5), unit)


@pytest.mark.parametrize(
    ("space", "signs"),
    [("right-anterior-superior", (1, 1)), ("left-posterior-superior", (-1, -1))],
)
def test_both_orientations_have_one_place(space: str, signs, tmp_path) -> None:
    """The same image, described from either side of the patient."""
    directions = np.diag([0.5 * signs[0], 1.0 * signs[1], 2.0])
    origin = [10.0 * signs[0], 20.0 * signs[1], 30.0]
    file = save(
        tmp_path / "a.nrrd",
        **{"space": space, "space directions": directions, "space origin": origin},
    )
    volume = io.read(file)
    assert volume.unit == "mm"
    assert volume.voxel_size == (2.0, 1.0, 0.5)
    assert volume.origin == (30.0, 20.0, 10.0)
    assert "notes" not in volume.metadata
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")
    affine = np.diag([0.5, 1, 2, 1]).astype(float)
    affine[:3, 3] = 10, 20, 30
    nibabel.save(nibabel.Nifti1Image(DATA, affine), tmp_path / "a.nii.gz")
    other = io.read(tmp_path / "a.nii.gz")
    assert other.origin == volume.origin
    assert other.voxel_size == volume.voxel_size
    np.testing.assert_array_equal(other.data, volume.data)


def test_reversed_axes_are_reversed_and_keep_their_place(tmp_path) -> None:
    """X to the left and Y to the back, as most programs write."""
    directions = np.diag([0.5, 1.0, 2.0])
    header = {"space": "left-posterior-superior", "space directions": directions}
    volume = io.read(save(tmp_path / "a.nrrd", **header, **{"space origin": [1, 2, 3]}))
    np.testing.assert_array_equal(volume.data, DATA.T[:, ::-1, ::-1])
    assert volume.origin == (3.0, -2.0 - 2 * 1.0, -1.0 - 3 * 0.5)
    assert "X, Y reversed" in volume.metadata["notes"][0]


def test_directions_that_are_missing_are_said(tmp_path) -> None:
    directions = np.array([[np.nan] * 3, [0, 1.0, 0], [0, 0, 2.0]])
    header = {"space": "left-posterior-superior", "space directions": directions}
    volume = io.read(save(tmp_path / "a.nrrd", **header))
    assert not volume.has_physical_size
    assert "not applied" in volume.metadata["notes"][0]


def test_an_invalid_voxel_size_is_told(tmp_path) -> None:
    volume = io.read(save(tmp_path / "a.nrrd", spacings=[0.5, -1.0, 2.0]))
    assert not volume.has_physical_size
    (note,) = volume.metadata["notes"]
    assert "(2 × -1 × 0.5) is invalid and was ignored" in note
    assert "--voxel-size and --unit" in note


def test_a_damaged_file_is_refused(tmp_path) -> None:
    path = tmp_path / "a.nrrd"
    path.write_bytes(save(tmp_path / "b.nrrd").read_bytes()[:-20])
    with pytest.raises(FileError, match="cannot be read as NRRD"):
        io.read(path)
