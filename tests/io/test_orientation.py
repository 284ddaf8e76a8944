"""Volumes keep their positions and handedness however their axes are stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.file_warnings import file_warnings
from napari_geosr.core.volume import Volume

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")
nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed")

SIZE = np.array([2.0, 2.5, 3.0])  # X, Y, Z
FIRST = np.array([-9.0, -10.0, 7.0])
#: World axis and direction of each stored axis.
STORED = {
    "RAS": ((0, 1), (1, 1), (2, 1)),
    "LPS": ((0, -1), (1, -1), (2, 1)),
    "LAS": ((0, -1), (1, 1), (2, 1)),
    "LPI": ((0, -1), (1, -1), (2, -1)),
    "SRA": ((2, 1), (0, 1), (1, 1)),
    "AIR": ((1, 1), (2, -1), (0, 1)),
    "PSL": ((1, -1), (2, 1), (0, -1)),
}


def chiral() -> np.ndarray:
    """Three arms of different lengths, along X, Y, Z to the right, front and up."""
    shape = np.zeros((24, 20, 18), np.uint8)
    shape[3:21, 3:7, 3:7] = 1
    shape[3:7, 3:15, 3:7] = 1
    shape[3:7, 3:7, 3:12] = 1
    return shape


def stored(order: str, world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The array as stored, and the affine that leads to its positions."""
    data = world.transpose([axis for axis, _ in STORED[order]])
    affine = np.zeros((4, 4))
    affine[:3, 3], affine[3, 3] = FIRST, 1
    for i, (axis, sign) in enumerate(STORED[order]):
        affine[axis, i] = sign * SIZE[axis]
        if sign < 0:
            data = np.flip(data, i)
            affine[axis, 3] += SIZE[axis] * (world.shape[axis] - 1)
    return np.ascontiguousarray(data), affine


def as_nifti(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def as_nrrd(path: Path, data: np.ndarray, affine: np.ndarray, space: str) -> Path:
    signs = np.array([-1, -1, 1] if space.startswith("l") else [1, 1, 1])
    header: dict[str, Any] = {
        "space": space,
        "space directions": (affine[:3, :3] * signs[:, None]).T,
        "space origin": affine[:3, 3] * signs,
    }
    nrrd.write(str(path), data, header)
    return path


def write(name: str, order: str, folder: Path) -> Path:
    data, affine = stored(order, chiral())
    if name == "nifti":
        return as_nifti(folder / f"{order}.nii.gz", data, affine)
    return as_nrrd(folder / f"{order}.nrrd", data, affine, name)


FORMATS = ["nifti", "left-posterior-superior", "ras"]


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("order", STORED)
@pytest.mark.parametrize("name", FORMATS)
def test_voxels_are_at_their_positions(
    name: str, order: str, lazy: bool, tmp_path, monkeypatch
) -> None:
    if lazy:
        monkeypatch.setattr("napari_geosr.io.formats.nifti.EAGER_BYTES", 0)
    volume = io.read(write(name, order, tmp_path))
    assert volume.voxel_size == pytest.approx(tuple(SIZE[::-1]))
    assert volume.unit == "mm"
    assert volume.origin == pytest.approx(tuple(FIRST[::-1]))
    np.testing.assert_array_equal(np.asarray(volume.data), chiral().T)
    assert ("notes" in volume.metadata) == (order != "RAS")
    if lazy and name == "nifti":
        assert volume.is_lazy
        part = volume.data[5:12, 2:9, 4:]
        np.testing.assert_array_equal(part, chiral().T[5:12, 2:9, 4:])
        assert all(step > 0 for step in np.asarray(part).strides)


@pytest.mark.parametrize("name", FORMATS)
def test_a_mesh_is_not_mirrored(name: str, tmp_path, capsys) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh is not installed")
    meshes = {}
    for order in STORED:
        out = tmp_path / f"{order}.stl"
        source = write(name, order, tmp_path)
        assert run(["shapes", "mesh", str(source), "-o", str(out)]) == 0
        meshes[order] = trimesh.load_mesh(out)
    ends = np.argwhere(chiral())
    low, high = (ends.min(0) - 0.5) * SIZE + FIRST, (ends.max(0) + 0.5) * SIZE + FIRST
    for order, mesh in meshes.items():
        np.testing.assert_allclose(mesh.bounds, [low, high], atol=0.25 * SIZE.max())
        # The corner where the arms meet is at the low end of all axes.
        assert (mesh.center_mass < (low + high) / 2).all(), order
        assert mesh.volume == pytest.approx(meshes["RAS"].volume, rel=1e-4)
        np.testing.assert_allclose(mesh.bounds, meshes["RAS"].bounds, atol=1e-3)
        np.testing.assert_allclose(
            mesh.center_mass, meshes["RAS"].center_mass, atol=1e-3
        )


def rotation(degrees: float) -> np.ndarray:
    angle = np.radians(degrees)
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn


@pytest.mark.parametrize("order", STORED)
@pytest.mark.parametrize("name", FORMATS)
def test_an_oblique_volume_keeps_its_voxels_and_handedness(
    name: str, order: str, tmp_path
) -> None:
    data, affine = stored(order, chiral())
    affine[:3] = rotation(20) @ affine[:3]
    if name == "nifti":
        path = as_nifti(tmp_path / "a.nii", data, affine)
    else:
        path = as_nrrd(tmp_path / "a.nrrd", data, affine, name)
    volume = io.read(path)
    np.testing.assert_array_equal(np.asarray(volume.data), chiral().T)
    # Positions refer to the rotated axes.
    assert volume.origin == pytest.approx(tuple(FIRST[::-1]), abs=1e-4)
    assert "rotated by 20°" in volume.metadata["notes"][-1]
    assert "not applied" in volume.metadata["notes"][-1]


@pytest.mark.parametrize("name", FORMATS)
def test_sheared_axes_are_warned_about(name: str, tmp_path) -> None:
    data, affine = stored("RAS", chiral())
    shear = np.eye(3)
    shear[0, 1] = 0.1
    affine[:3] = rotation(20) @ shear @ affine[:3]
    if name == "nifti":
        path = as_nifti(tmp_path / "a.nii", data, affine)
    else:
        path = as_nrrd(tmp_path / "a.nrrd", data, affine, name)
    volume = io.read(path)
    assert "rotation" not in volume.metadata
    (warning,) = file_warnings(volume.metadata)
    assert "shear of up to 5.7°" in warning
    assert "rotation (by 17.1°)" in warning
    assert "neither applied nor recorded" in warning
    assert "volumes are too large by 0.5 %" in warning
    assert not any("rotated" in note for note in volume.metadata.get("notes", ()))


@pytest.mark.parametrize("shear", [0.0, 0.5])
def test_a_small_shear_keeps_the_rotation(shear: float, tmp_path) -> None:
    """Such as that of a header rounded to three decimal places."""
    affine = np.eye(4)
    sheared = rotation(20)
    sheared[:, 1] += np.radians(shear) * sheared[:, 0]
    affine[:3, :3] = np.round(sheared * (0.41, 0.41, 0.6), 3)
    volume = io.read(as_nifti(tmp_path / "a.nii", chiral(), affine))
    assert not file_warnings(volume.metadata)
    assert volume.metadata["orientation"] == "RAS"
    found = np.reshape(volume.metadata["rotation"], (3, 3))
    np.testing.assert_allclose(found, rotation(20), atol=1e-3 + np.radians(shear) / 2)
    np.testing.assert_allclose(found.T @ found, np.eye(3), atol=1e-9)
    notes = " ".join(volume.metadata["notes"])
    assert "rotated by" in notes
    assert ("shear of up to 0." in notes) == bool(shear)


def test_two_voxel_sizes_in_a_header_are_warned_about(tmp_path) -> None:
    affine = stored("RAS", chiral())[1]
    plain = io.read(as_nifti(tmp_path / "b.nii", chiral(), affine))
    assert not file_warnings(plain.metadata)
    affine[:3, :3] *= 1.1
    image = nibabel.Nifti1Image(chiral(), affine)
    image.header.set_xyzt_units("mm")
    image.header["pixdim"][1:4] = SIZE
    nibabel.save(image, tmp_path / "a.nii")
    volume = io.read(tmp_path / "a.nii")
    assert volume.voxel_size == pytest.approx(SIZE[::-1])
    (warning,) = file_warnings(volume.metadata)
    assert "2 × 2.5 × 3 (pixdim) and 2.2 × 2.75 × 3.3 (sform)" in warning


@pytest.mark.parametrize("seed", range(8))
def test_any_rotation_keeps_the_handedness(seed: int, tmp_path) -> None:
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn
    volume = io.read(as_nifti(tmp_path / "a.nii", chiral(), affine))
    # Ends of the arms, in the order of their lengths, along the world's axes.
    arms = []
    for end in ((3, 3, 3), (20, 3, 3), (3, 14, 3), (3, 3, 11)):
        marked = np.zeros_like(chiral())
        marked[end] = 1
        found = io.read(as_nifti(tmp_path / "b.nii", marked, affine))
        arms.append(np.argwhere(np.asarray(found.data))[0][::-1])
    sides = np.array([arm - arms[0] for arm in arms[1:]]).astype(float)
    assert np.sign(np.linalg.det(sides)) == np.sign(np.linalg.det(turn))
    assert np.asarray(volume.data).sum() == chiral().sum()


def test_a_nifti_file_without_orientation_is_kept(tmp_path) -> None:
    nibabel.save(nibabel.Nifti1Image(chiral(), None), tmp_path / "a.nii")
    volume = io.read(tmp_path / "a.nii")
    np.testing.assert_array_equal(np.asarray(volume.data), chiral().T)
    assert volume.origin == (0, 0, 0)


def test_a_slice_in_another_plane_is_kept_and_said(tmp_path) -> None:
    affine = np.array([[0, 0, 2.0, 5], [2, 0, 0, 6], [0, 2, 0, 7], [0, 0, 0, 1]])
    image = np.arange(12, dtype=np.uint8).reshape(4, 3, 1)
    volume = io.read(as_nifti(tmp_path / "a.nii", image, affine))
    assert volume.axes == "YX"
    np.testing.assert_array_equal(volume.data, image[..., 0].T)
    assert "not applied" in volume.metadata["notes"][0]


def test_permuted_axes_without_anatomical_directions_are_said(tmp_path) -> None:
    path = tmp_path / "a.nrrd"
    directions = np.eye(3)[[1, 2, 0]]
    facts = {"space": "3D-right-handed", "space directions": directions}
    nrrd.write(str(path), chiral(), facts)
    (note,) = io.read(path).metadata["notes"]
    assert note.endswith("(axes stored in the order Y, Z, X).")


def test_an_invalid_orientation_is_said(tmp_path) -> None:
    path = tmp_path / "a.nrrd"
    directions = np.array([[1.0, 0, 0], [1, 0, 0], [0, 0, 1]])
    nrrd.write(str(path), chiral(), {"space": "ras", "space directions": directions})
    volume = io.read(path)
    np.testing.assert_array_equal(volume.data, chiral().T)
    assert "invalid" in volume.metadata["notes"][0]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("unit", ["mm", "µm", "nm", "cm", "pixel"])
def test_written_nifti_is_understood_by_others(
    suffix: str, unit: str, tmp_path
) -> None:
    labels = Volume(chiral().T, "ZYX", (3, 2.5, 2), unit, (7, -10, -9))
    path = io.write(labels, tmp_path / f"a{suffix}", kind="labels")
    image = nibabel.load(path)
    factor = {"nm": 1e-3, "cm": 10}.get(unit, 1)
    names = {"mm": "mm", "cm": "mm", "pixel": "unknown"}
    assert image.header.get_xyzt_units()[0] == names.get(unit, "micron")
    assert nibabel.aff2axcodes(image.affine) == ("R", "A", "S")
    np.testing.assert_allclose(image.affine[:3, 3], factor * FIRST, rtol=1e-6)
    np.testing.assert_allclose(image.header.get_zooms(), factor * SIZE, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(image.dataobj), chiral())
    assert image.get_data_dtype() == np.uint8


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_written_nifti_states_left_and_back(suffix: str, tmp_path) -> None:
    """Voxels stay in the order of the volume; other programs see their positions."""
    facts = {"orientation": "LPS"}
    labels = Volume(chiral().T, "ZYX", (3, 2.5, 2), "mm", (7, -10, -9), metadata=facts)
    path = io.write(labels, tmp_path / f"a{suffix}", kind="labels")
    image = nibabel.load(path)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_allclose(image.affine[:3, 3], FIRST * (-1, -1, 1))
    np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(image.dataobj), chiral())
    back = io.read(path)
    np.testing.assert_array_equal(np.asarray(back.data), chiral().T)
    assert (back.origin, back.voxel_size) == (labels.origin, labels.voxel_size)
    assert back.metadata["orientation"] == "LPS"
    assert "notes" not in back.metadata
    # Another program changes the axes: its header is believed.
    nibabel.save(nibabel.as_closest_canonical(image), tmp_path / "b.nii")
    turned = io.read(tmp_path / "b.nii")
    assert turned.metadata["orientation"] == "RAS"
    np.testing.assert_array_equal(np.asarray(turned.data), chiral().T[:, ::-1, ::-1])


@pytest.mark.parametrize("name", FORMATS)
def test_written_nifti_states_the_rotation(name: str, tmp_path) -> None:
    """Also after a detour through a TIFF."""
    data, affine = stored("PSL", chiral())
    affine[:3] = rotation(20) @ affine[:3]
    if name == "nifti":
        path = as_nifti(tmp_path / "a.nii", data, affine)
    else:
        path = as_nrrd(tmp_path / "a.nrrd", data, affine, name)
    volume = io.read(io.write(io.read(path), tmp_path / "a.tif"))
    written = nibabel.load(io.write(volume, tmp_path / "b.nii"))
    expected = stored("RAS", chiral())[1]
    expected[:3] = rotation(20) @ expected[:3]
    np.testing.assert_allclose(written.affine, expected, atol=1e-4)
    back = io.read(tmp_path / "b.nii")
    np.testing.assert_array_equal(np.asarray(back.data), chiral().T)
    assert back.origin == volume.origin
    assert back.metadata["orientation"] == "RAS"


def test_a_header_changed_by_another_program_is_believed(tmp_path) -> None:
    labels = Volume(chiral().T, "ZYX", (3, 2.5, 2), "nm", (7, -10, -9))
    path = io.write(labels, tmp_path / "a.nii", kind="labels")
    assert io.read(path).unit == "nm"
    image = nibabel.load(path)
    affine = np.diag([-0.004, 0.005, 0.006, 1])
    image.header.set_sform(affine, 2)
    image.header.set_qform(affine, 2)
    nibabel.save(
        nibabel.Nifti1Image(np.asarray(image.dataobj), affine, image.header),
        tmp_path / "b.nii",
    )
    changed = io.read(tmp_path / "b.nii")
    assert changed.unit == "µm"
    assert changed.voxel_size == pytest.approx((0.006, 0.005, 0.004))
    np.testing.assert_array_equal(np.asarray(changed.data), chiral().T[..., ::-1])
    assert changed.holds_labels


def test_a_stopped_run_leaves_an_incomplete_nifti(tmp_path) -> None:
    spec = io.OutputSpec((2, 3, 4), "f4", "ZYX", (1, 1, 1), "mm", (0, 0, 0))
    with io.create(tmp_path / "a.nii.gz", spec) as output:
        output.array[0] = 7
        output.blank([(slice(0, 1), slice(0, 3), slice(0, 4))])
        output.keep_incomplete()
    assert [p.name for p in tmp_path.iterdir()] == ["a.incomplete.nii.gz"]
    data = np.asarray(io.read(tmp_path / "a.incomplete.nii.gz").data)
    assert (data[0] == 7).all()
    assert np.isnan(data[1]).all()


def test_shapes_are_written_as_nifti(tmp_path, capsys) -> None:
    source = write("nifti", "LPS", tmp_path)
    out = tmp_path / "fine.nii.gz"
    words = ["shapes", "refine", str(source), "-o", str(out), "--model", "trilinear"]
    assert run(words) == 0
    assert "X, Y reversed" in capsys.readouterr().err
    fine = io.read(out)
    assert fine.shape == (36, 40, 48)
    assert fine.voxel_size == pytest.approx((1.5, 1.25, 1.0))
    assert fine.origin == pytest.approx((7 - 0.75, -10 - 0.625, -9 - 0.5))
    assert fine.holds_labels
