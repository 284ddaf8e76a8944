"""Projections as images, with angles from a file or a range."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_geosr.core.errors import FileError, ProjectionsError
from napari_geosr.io.projections import read_projections
from napari_geosr.io.projections.angles import (
    AngleSettings,
    StoredAngles,
    in_degrees,
    read_angles,
)

STACK = np.arange(4 * 3 * 5, dtype=np.uint16).reshape(4, 3, 5)


@pytest.fixture
def stack(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack")
    return path


def test_a_stack_and_a_range(stack):
    scan = read_projections(stack, angle_range=(0, 180))
    np.testing.assert_array_equal(np.asarray(scan.data), STACK)
    assert scan.angles.tolist() == [0, 45, 90, 135]
    assert scan.name == "scan"
    assert "notes" not in scan.metadata
    to_the_end = read_projections(stack, angle_range=(0, 180), endpoint=True)
    assert to_the_end.angles.tolist() == [0, 60, 120, 180]


def test_a_stack_and_a_file_of_angles(stack, tmp_path):
    (tmp_path / "angles.csv").write_text("angle (deg)\n0\n45.5\n\n90,\n# end\n135\n")
    scan = read_projections(stack, angles=tmp_path / "angles.csv")
    assert scan.angles.tolist() == [0, 45.5, 90, 135]


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.floats(-720, 720), min_size=1, max_size=30))
def test_angles_are_read_as_they_were_written(tmp_path, values):
    path = tmp_path / "angles.txt"
    path.write_text("# deg\n" + "\n".join(map(repr, values)))
    found = in_degrees(read_angles(path))
    assert found.tolist() == values


@pytest.mark.parametrize("said", ["radians\n", "# Rad.\n", "theta [rad]\n"])
def test_radians_are_taken_where_the_file_says_so(tmp_path, said):
    path = tmp_path / "angles.txt"
    path.write_text(said + "0\n1.5707963267948966\n")
    assert in_degrees(read_angles(path)).tolist() == [0, 90]


def test_what_looks_like_radians_has_to_be_said():
    stored = StoredAngles(np.linspace(0, 3.1, 20), None, "angles.txt")
    with pytest.raises(
        FileError, match="angles.txt does not specify.*degrees or radians"
    ):
        in_degrees(stored)
    assert in_degrees(stored, "deg")[-1] == 3.1
    assert in_degrees(stored, "rad")[-1] == pytest.approx(177.6, abs=0.1)
    with pytest.raises(FileError, match="'turns' is not a unit of angle"):
        in_degrees(stored, "turns")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0\n1\nx\n3\n", "angles.txt, line 3: 'x' is not an angle"),
        ("0 1 2 3\n", "line 1: '0 1 2 3' is not an angle"),
        ("# nothing\n", "angles.txt contains no angles"),
        ("0\n1\n2\n", "4 projections, but angles.txt has 3 angles"),
        ("0\n1\nnan\n3\n", "1 of its 4 angles are NaN"),
    ],
)
def test_bad_lists_of_angles_are_told(stack, tmp_path, text, says):
    (tmp_path / "angles.txt").write_text(text)
    with pytest.raises((FileError, ProjectionsError), match=says):
        read_projections(stack, angles=tmp_path / "angles.txt")


def test_images_without_angles_are_refused(stack, tmp_path):
    with pytest.raises(
        FileError, match=r"scan.tif does not contain its angles.*--angles"
    ):
        read_projections(stack)
    with pytest.raises(FileError, match=r"no.txt cannot be read as a list of angles"):
        read_projections(stack, angles=tmp_path / "no.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="it is not a text file"):
        read_projections(stack, angles=tmp_path / "bytes.txt")
    with pytest.raises(ProjectionsError, match="nan to 180 is not a range"):
        AngleSettings(angle_range=(float("nan"), 180)).resolve(4, "scan.tif", None)


def test_a_single_image_is_a_sinogram(tmp_path):
    path = tmp_path / "sinogram.tif"
    tifffile.imwrite(path, STACK[:, 0], resolution=(1e4, 1e4), resolutionunit=3)
    scan = read_projections(path, angle_range=(0, 360))
    assert scan.shape == (4, 1, 5)
    np.testing.assert_array_equal(np.asarray(scan.data)[:, 0], STACK[:, 0])
    tifffile.imwrite(tmp_path / "flat.tif", STACK[:2, 1])
    flats = tmp_path / "flat.tif"
    with_flats = read_projections(path, angle_range=(0, 360), flats=flats)
    np.testing.assert_array_equal(with_flats.flats[:, 0], STACK[:2, 1])


def test_a_folder_with_flats_and_darks_among_its_files(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    for i, view in enumerate(STACK):
        tifffile.imwrite(folder / f"proj_{i}.tif", view)
    for name in ("flat_0", "Flat_1", "dark_0"):
        tifffile.imwrite(folder / f"{name}.tif", STACK[0])
    scan = read_projections(folder, angle_range=(0, 180))
    np.testing.assert_array_equal(np.asarray(scan.data), STACK)
    assert scan.flats.shape == (2, 3, 5)
    assert scan.darks.shape == (1, 3, 5)
    assert "2 of the files are flat fields." in scan.metadata["notes"]
    assert "2 of the files are flat fields." in scan.metadata["remarks"]
    pattern = read_projections(str(folder / "proj_*.tif"), angle_range=(0, 180))
    assert pattern.flats is None
    given = read_projections(
        str(folder / "proj_*.tif"),
        angle_range=(0, 180),
        flats=folder / "flat_0.tif",
        darks=folder / "dark_0.tif",
    )
    assert given.flats.shape == given.darks.shape == (1, 3, 5)


def test_images_that_are_no_projections(tmp_path, stack):
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(FileError, match=r"rgb.tif has axes C, Y, X"):
        read_projections(tmp_path / "rgb.tif", angle_range=(0, 180))
    with pytest.raises(FileError, match=r"rgb.tif has axes C, Y, X.*greyscale images"):
        read_projections(stack, angle_range=(0, 180), flats=tmp_path / "rgb.tif")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileError, match="contains no projections"):
        read_projections(tmp_path / "nothing", angle_range=(0, 180))
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((2, 3, 6), np.uint16))
    with pytest.raises(ProjectionsError, match="dark fields have shape"):
        read_projections(stack, angle_range=(0, 180), darks=tmp_path / "small.tif")
    stack.write_bytes(stack.read_bytes()[:200])
    with pytest.raises(FileError, match=r"scan.tif"):
        read_projections(stack, angle_range=(0, 180))


@pytest.mark.parametrize(
    ("name", "shape", "are_lines"),
    [
        ("shale_prj.tiff", (181, 1, 366), True),
        ("sinogram_360_neutron_image.tif", (459, 1, 503), False),
    ],
)
def test_real_sinograms_open(shared_data, name, shape, are_lines):
    path = shared_data / "projections" / name
    scan = read_projections(path, angle_range=(0, 180))
    assert scan.shape == shape
    assert scan.is_line_integrals is are_lines
    assert ("notes" in scan.metadata) is are_lines
