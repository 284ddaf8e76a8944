"""Volumes whose files state different positions, with and without a unit of length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.positions import other_position, states_position
from napari_geosr.core.volume import Volume
from napari_geosr.learning.sampling.pairs import check_pair, position_warning
from napari_geosr.measure.comparison.frame import on_common_frame
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.operations.compare.positions import placed_mask, with_positions
from napari_geosr.operations.inputs.same_grid import check_same_grid
from napari_geosr.operations.measure.deviation import align_deviation
from napari_geosr.operations.measure.mask import align_mask
from napari_geosr.operations.shapes.job import ShapeTrainJob

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")

#: Units of two volumes of which at least one has no unit of length.
UNITS = [("", ""), ("mm", ""), ("", "mm")]
#: Edge length of a voxel.
EDGE = 0.5
#: Part of a message about different positions.
APART = "do not show the same region"


def write_nifti(
    path: Path, unit: str = "", shift: int = 0, *, scale: float = 1.0
) -> Path:
    """Write a cube with its position, moved along X by `shift` voxels, as nibabel."""
    cube = np.zeros((20, 20, 20), np.uint8)
    cube[5:15, 5:15, 5:15] = 1
    affine = np.diag([EDGE * scale] * 3 + [1.0])
    affine[:3, 3] = np.array([5.0 + EDGE * shift, 6.0, 7.0]) * scale
    image = nibabel.Nifti1Image(cube, affine)
    if unit:
        image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


def read_pair(folder: Path, units: tuple[str, str], shift: int) -> list[Volume]:
    return [
        io.read(write_nifti(folder / f"{name}.nii.gz", unit, moved))
        for name, unit, moved in zip("ab", units, (0, shift), strict=True)
    ]


@pytest.mark.parametrize("units", [*UNITS, ("mm", "mm")])
def test_shapes_at_different_positions_are_refused(units, tmp_path) -> None:
    check_same_grid(*read_pair(tmp_path, units, 0))
    with pytest.raises(VolumeError, match=APART) as found:
        check_same_grid(*read_pair(tmp_path, units, 10))
    places = "7 × 6 × 10 mm" if "" not in units else "14 × 12 × 20 voxels"
    assert f"b.nii.gz at {places}" in str(found.value)


def test_positions_in_other_units_are_compared_in_voxels(tmp_path) -> None:
    """One file states mm; the lengths in the other are µm without a unit."""
    one = io.read(write_nifti(tmp_path / "a.nii", "mm"))
    other = io.read(write_nifti(tmp_path / "b.nii", scale=1000.0))
    assert other_position(one, other) == ""
    moved = io.read(write_nifti(tmp_path / "c.nii", shift=1, scale=1000.0))
    assert "c.nii at 14 × 12 × 11 voxels" in other_position(one, moved)


def test_opposite_directions_are_other_positions(tmp_path) -> None:
    """Without a unit, files with reversed axes show the region beyond the origin."""
    one = io.read(write_nifti(tmp_path / "a.nii"))
    affine = np.diag([-EDGE, -EDGE, EDGE, 1.0])
    image = nibabel.Nifti1Image(np.ones(one.shape, np.uint8), affine)
    nibabel.save(image, tmp_path / "b.nii")
    with pytest.raises(VolumeError, match=APART):
        check_same_grid(one, io.read(tmp_path / "b.nii"), may_be_turned=True)


def test_default_positions_are_not_compared(tmp_path) -> None:
    one = io.read(write_nifti(tmp_path / "a.nii"))
    plain = Volume(one.data, "ZYX", name="plain")
    assert states_position(one)
    assert not states_position(plain)
    note = check_same_grid(plain, one)
    assert "'plain' does not state its position" in note
    assert align_mask(plain, one.replace(unit="mm")) is plain.data


def test_other_axes_are_refused() -> None:
    data = np.zeros((3, 4, 5), np.uint8)
    with pytest.raises(VolumeError, match="has the axes Z, Y, X and .* C, Y, X"):
        check_same_grid(Volume(data, "ZYX"), Volume(data, "CYX"))


@pytest.mark.parametrize("units", UNITS)
def test_the_command_refuses_them(units, tmp_path, capsys) -> None:
    names = ("a.nii.gz", "b.nii.gz")
    for shift, code in ((0, 0), (10, 2)):
        read_pair(tmp_path, units, shift)
        words = ["shapes", "compare", *(str(tmp_path / name) for name in names)]
        assert run(words) == code
    assert APART in capsys.readouterr().err


@pytest.mark.parametrize("units", UNITS)
def test_scans_and_labels_at_different_positions_are_refused(
    units, tmp_path, capsys
) -> None:
    """For training and for segmentation inside a mask."""
    read_pair(tmp_path, units, 10)
    scan, labels = (str(tmp_path / name) for name in ("a.nii.gz", "b.nii.gz"))
    job = ShapeTrainJob.from_values(
        {
            "method": "sparse_segmentation",
            "training": {"source": [scan], "target": [labels]},
        }
    )
    with pytest.raises(VolumeError, match=APART):
        job.shapes()
    words = ["shapes", "segment", scan, "--mask", labels, "--model", "none"]
    assert run([*words, "-o", str(tmp_path / "out.nii.gz")]) == 2
    assert APART in capsys.readouterr().err


@pytest.mark.parametrize("units", UNITS[1:])
def test_sample_masks_and_deviations_at_different_positions_are_refused(
    units, tmp_path
) -> None:
    mask, volume = read_pair(tmp_path, units, 0)
    assert align_mask(mask, volume) is mask.data
    align_deviation(mask, volume, PorosityConfig(interval_factor=1.0))
    mask, volume = read_pair(tmp_path, units, 3)
    with pytest.raises(VolumeError, match=APART):
        align_mask(mask, volume)
    with pytest.raises(VolumeError, match="has a different voxel grid"):
        align_deviation(mask, volume, PorosityConfig(interval_factor=1.0))


@pytest.mark.parametrize("units", UNITS[1:])
def test_compared_volumes_at_different_positions_are_refused(units, tmp_path) -> None:
    one, other = read_pair(tmp_path, units, 0)
    found = with_positions({"a": one, "b": other}, [])
    assert found["a"].origin == found["b"].origin
    one, other = read_pair(tmp_path, units, 3)
    with pytest.raises(VolumeError, match=APART):
        with_positions({"a": one, "b": other}, [])
    (placed,) = on_common_frame({"a": one}).values()
    placed_mask(one, placed)
    with pytest.raises(VolumeError, match=APART):
        placed_mask(other, placed)


@pytest.mark.parametrize("units", [*UNITS, ("mm", "mm")])
def test_pairs_at_different_positions_give_a_warning(units, tmp_path) -> None:
    assert check_pair(*read_pair(tmp_path, units, 0)).warnings == ()
    (warning,) = check_pair(*read_pair(tmp_path, units, 10)).warnings
    assert "b.nii.gz is shifted by +0, +0, +10 voxels (Z, Y, X)" in warning


@pytest.mark.parametrize("unit", ["µm", "pixel"])
def test_finer_targets_begin_at_another_centre(unit: str) -> None:
    """The outer edges of the first voxels are compared, not their centres."""
    source = Volume(np.zeros((8,) * 3), "ZYX", (2.0,) * 3, "mm", (6.0, 0.0, 0.0))
    origin = (6.0 - 0.75, -0.75, -0.75)
    scale = 1000.0 if unit == "µm" else 1.0
    lengths = ([scale * length for length in each] for each in ((0.5,) * 3, origin))
    size, begin = map(tuple, lengths)
    target = Volume(np.zeros((32,) * 3), "ZYX", size, unit, begin)
    assert position_warning(source, target, 4, 3) == ""
    moved = target.replace(origin=(begin[0], begin[1], begin[2] + 4.0 * scale))
    assert "+0, +0, +2 voxels" in position_warning(source, moved, 4, 3)
