"""Shapes without a voxel size or a position in their file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.operations.inputs.same_grid import check_same_grid
from napari_geosr.operations.shapes.agreement import with_known_size


def ball(edge: int, radius: float) -> np.ndarray:
    axis = np.arange(edge) - (edge - 1) / 2
    square = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
    return (square < radius**2).astype(np.uint8)


def save_plain(path, data: np.ndarray, size: float):
    """A TIFF as from ImageJ: with a voxel size, but without a position."""
    facts = {"unit": "mm", "spacing": size, "axes": "ZYX"}
    tifffile.imwrite(
        path, data, imagej=True, resolution=(1 / size,) * 2, metadata=facts
    )
    return path


def test_a_refined_shape_is_compared_with_a_plain_tiff(tmp_path, capsys) -> None:
    """Refining moves the centre of the first voxel; a plain TIFF begins at zero."""
    coarse = save_plain(tmp_path / "coarse.tif", ball(12, 4.5), 1.6)
    truth = save_plain(tmp_path / "truth.tif", ball(48, 18.0), 0.4)
    fine = tmp_path / "fine.ome.tif"
    words = ["shapes", "refine", str(coarse), "--model", "trilinear", "-o", str(fine)]
    assert run([*words, "--upscale-factor", "4"]) == 0
    capsys.readouterr()
    words = ["shapes", "compare", str(fine), str(truth), "--tolerance", "0.5mm"]
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dice"] > 0.9
    (warning,) = found["warnings"]
    assert "truth.tif does not state its position" in warning
    assert run(["shapes", "compare", str(truth), str(truth), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_advice_for_different_grids_works(tmp_path, capsys) -> None:
    one = Volume(ball(12, 4.5), "ZYX", (0.4,) * 3, "mm")
    here = io.write(one, tmp_path / "here.tif", kind="labels")
    there = io.write(
        one.replace(origin=(4.0, 0.0, 0.0)), tmp_path / "there.ome.tif", kind="labels"
    )
    words = ["shapes", "compare", str(here), str(there)]
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "there.ome.tif at 4 × 0 × 0 mm" in error
    assert "save one of them without a position, e.g. as TIFF with ImageJ" in error
    plain = save_plain(tmp_path / "plain.tif", ball(12, 4.5), 0.4)
    assert run(["shapes", "compare", str(there), str(plain)]) == 0
    other = save_plain(tmp_path / "other.tif", ball(12, 4.5), 0.8)
    words = ["shapes", "compare", str(there), str(other)]
    assert run(words) == 2
    assert "give their voxel size (--voxel-size and --unit)" in capsys.readouterr().err
    assert run([*words, "--voxel-size", "0.4", "--unit", "mm"]) == 0


def test_the_known_voxel_size_is_used_in_both_orders(tmp_path, capsys) -> None:
    sized = Volume(ball(12, 4.5), "ZYX", (2.0, 0.5, 0.5), "mm")
    path = str(io.write(sized, tmp_path / "sized.ome.tif", kind="labels"))
    plain = str(tmp_path / "plain.tif")
    tifffile.imwrite(plain, np.roll(sized.data, 1, 0))
    found = []
    for pair in ([path, plain], [plain, path]):
        assert run(["shapes", "compare", *pair, "--tolerance", "1mm", "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
        (warning,) = found[-1]["warnings"]
        assert warning == (
            "The voxel size of sized.ome.tif (2 × 0.5 × 0.5 mm) is used for both "
            "shapes: plain.tif has none."
        )
        assert not any("give --voxel-size" in note for note in found[-1]["notes"])
    one, other = found
    assert one["unit"] == other["unit"] == "mm"
    assert one["hausdorff"] == other["hausdorff"] >= 2
    assert one["surface_dice"] == pytest.approx(other["surface_dice"])
    assert one["volume"] == other["reference_volume"]


@pytest.mark.parametrize(
    ("size", "unit", "fits"),
    [
        ((2.0, 1.0, 1.0), "pixel", True),
        ((4.0, 2.0, 2.0), "pixel", False),
        ((1.0, 2.0, 1.0), "pixel", False),
        ((4.0, 2.0, 2.0), "mm", True),
        ((1.0, 2.0, 1.0), "mm", False),
    ],
)
def test_voxel_sizes_that_contradict_each_other_are_refused(
    size, unit: str, *, fits: bool
) -> None:
    one = Volume(ball(4, 1.5), "ZYX", (2.0, 1.0, 1.0), "pixel", name="one")
    other = one.replace(voxel_size=size, unit=unit, name="other")
    for pair in ((one, other), (other, one)):
        if fits:
            assert with_known_size(*pair)[0].voxel_size == size
            continue
        with pytest.raises(VolumeError, match="do not show the same region") as error:
            with_known_size(*pair)
        assert "2 × 1 × 1 (unknown unit)" in str(error.value)
        assert "give their voxel size" in str(error.value)


def test_the_labels_of_two_shapes_may_differ(tmp_path, capsys) -> None:
    other = ball(12, 4.5)
    both = np.where(np.indices(other.shape)[0] == 0, 2, 3 * other).astype(np.uint8)
    paths = []
    for name, labels in (("both.tif", both), ("other.tif", other)):
        paths.append(str(tmp_path / name))
        tifffile.imwrite(paths[-1], labels)
    words = ["shapes", "compare", *paths, "--label", "3"]
    assert run(words) == 2
    error = capsys.readouterr().err
    assert "other.tif has no label 3. Its labels: 1" in error
    assert "(--reference-label)" in error
    assert run([*words, "--reference-label", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dice"] == 1
    words = ["shapes", "compare", *reversed(paths), "--json"]
    assert run([*words, "--reference-label", "3"]) == 0  # no label is chosen before
    assert json.loads(capsys.readouterr().out)["dice"] == 1


def test_units_are_converted(tmp_path, capsys) -> None:
    one = Volume(ball(12, 4.5), "ZYX", (0.4,) * 3, "mm", (1.0, 2.0, 3.0))
    two = one.replace(voxel_size=(400.0,) * 3, unit="µm", origin=(1000, 2000, 3000))
    paths = [
        str(io.write(v, tmp_path / f"{v.unit}.tif", kind="labels")) for v in (one, two)
    ]
    assert run(["shapes", "compare", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["dice"], found["warnings"]) == (1, [])


def test_shapes_with_opposite_directions_are_compared(tmp_path, capsys) -> None:
    """The same object with X and Y to the left and back, and to the right and front."""
    data = ball(12, 4.5)
    data[:, 1:4, 6] = data[:, 6, 1:3] = 1  # not symmetric
    left = Volume(
        data, "ZYX", (0.4,) * 3, "mm", (1, 2, 3), metadata={"orientation": "LPS"}
    )
    ends = (1.0, -(2 + 11 * 0.4), -(3 + 11 * 0.4))
    right = left.replace(
        data=data[:, ::-1, ::-1], origin=ends, metadata={"orientation": "RAS"}
    )
    paths = [
        str(io.write(v, tmp_path / f"{name}.tif", kind="labels"))
        for name, v in (("left", left), ("right", right))
    ]
    assert run(["shapes", "compare", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["dice"] == 1
    assert "left.tif was rotated by 180° about Z" in found["warnings"][0]
    with pytest.raises(VolumeError, match="Save both with the same axis directions"):
        check_same_grid(left, right)
    for there in (right.replace(origin=(1, 2, 3)), left.replace(origin=(1, 2, 4))):
        io.write(there, tmp_path / "there.tif", kind="labels", overwrite=True)
        words = ["shapes", "compare", paths[0], str(tmp_path / "there.tif")]
        assert run(words) == 2
        assert "do not show the same region" in capsys.readouterr().err
    oblique = {"orientation": "RAS", "rotation": (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)}
    with pytest.raises(VolumeError, match="are rotated relative to each other"):
        check_same_grid(right.replace(metadata=oblique), right)
    rounded = oblique | {"rotation": (0.8004, -0.5995, *oblique["rotation"][2:])}
    assert not check_same_grid(
        *(right.replace(metadata=facts) for facts in (oblique, rounded))
    )


@pytest.mark.parametrize("command", ["compare", "refine", "mesh"])
def test_notes_of_the_reader_are_in_the_json(command: str, tmp_path, capsys) -> None:
    facts = {"unit": "mm", "axes": "ZYX"}  # no slice spacing
    path = tmp_path / "ball.tif"
    tifffile.imwrite(path, ball(12, 4.5), imagej=True, metadata=facts)
    more = {
        "compare": [str(path)],
        "refine": ["--model", "trilinear", "-o", str(tmp_path / "fine.tif")],
        "mesh": ["-o", str(tmp_path / "ball.stl")],
    }[command]
    assert run(["shapes", command, str(path), *more, "--json"]) == 0
    shown = capsys.readouterr()
    notes = json.loads(shown.out)["notes"]
    assert notes
    assert all(note.startswith("ball.tif: ") for note in notes)
    assert all(f"note: {note}" in shown.err for note in notes)
    assert "slice spacing" in notes[0]


def test_a_nifti_without_a_unit_asks_for_it(tmp_path, capsys) -> None:
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed")
    image = nibabel.Nifti1Image(ball(12, 4.5), np.diag([0.4, 0.4, 0.4, 1]))
    image.header.set_xyzt_units(0)
    path = tmp_path / "ball.nii"
    nibabel.save(image, path)
    words = ["shapes", "compare", str(path), str(path), "--json"]
    assert run(words) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert "The unit of the voxel size (0.4 × 0.4 × 0.4) is unknown" in note
    assert "--unit mm" in note
    stl = ["-o", str(tmp_path / "ball.stl")]
    assert run(["shapes", "mesh", str(path), *stl]) == 0
    shown = capsys.readouterr().out
    assert "triangles, in an unknown unit" in shown
    assert " unit³ (" in shown
    assert "pixel" not in shown
    assert run([*words, "--unit", "mm"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["notes"], found["unit"]) == ([], "mm")


def test_a_shape_without_a_voxel_size_asks_for_it(tmp_path, capsys) -> None:
    path = tmp_path / "ball.tif"
    tifffile.imwrite(path, ball(12, 4.5))
    assert run(["shapes", "mesh", str(path), "-o", str(tmp_path / "a.stl")]) == 0
    shown = capsys.readouterr()
    assert "The voxel size is unknown: give --voxel-size" in shown.err
    assert "triangles, in voxels" in shown.out
    assert "The directions of X, Y and Z are unknown" in shown.out


def test_meshes_state_their_coordinates(tmp_path, capsys) -> None:
    """In words, and in the header of an STL as 3D Slicer reads it."""
    turn = (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1)
    for space, more, words in (
        ("RAS", {}, "RAS coordinates (X to the right, Y to the front, Z up). The file"),
        ("LPS", {}, "LPS coordinates (X to the left, Y to the back, Z up), as 3D"),
        ("RAS", {"rotation": turn}, "along the axes of the volume, not in scanner"),
    ):
        one = Volume(ball(12, 4.5), "ZYX", (0.4,) * 3, "mm")
        one = one.replace(metadata={"orientation": space, **more})
        path = io.write(one, tmp_path / "a.tif", kind="labels", overwrite=True)
        out = tmp_path / "a.stl"
        assert run(["shapes", "mesh", str(path), "-o", str(out), "--overwrite"]) == 0
        shown = capsys.readouterr().out
        assert words in shown
        assert ("The file states this" in shown) == (space == "RAS" and not more)
        assert f"SPACE={space}".encode() in out.read_bytes()[:80]
