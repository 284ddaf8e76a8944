"""NXtomo: image_key, links to other files, and links to missing files."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from napari_geosr.core.errors import FileError
from napari_geosr.io.projections import is_projections, read_projections

KEYS = np.array([1, 2, 0, 0, 0, 0, 1, 3])
FRAMES = np.arange(8 * 3 * 4, dtype=np.uint16).reshape(8, 3, 4)
DETECTOR = "entry/instrument/detector"


def nxtomo(path, **changes):
    """A file that follows the standard; None omits a part."""
    parts = {
        f"{DETECTOR}/data": FRAMES,
        f"{DETECTOR}/image_key": KEYS,
        "entry/sample/rotation_angle": np.arange(8) * 20.0,
    } | changes
    with h5py.File(path, "w") as file:
        for name, value in parts.items():
            if value is not None:
                file[name] = value
    return path


def test_frames_are_told_apart_by_their_keys(tmp_path):
    scan = read_projections(nxtomo(tmp_path / "a.nxs"))
    np.testing.assert_array_equal(np.asarray(scan.data), FRAMES[2:6])
    np.testing.assert_array_equal(np.asarray(scan.flats), FRAMES[[0, 6]])
    np.testing.assert_array_equal(np.asarray(scan.darks), FRAMES[[1]])
    assert scan.angles.tolist() == [40, 60, 80, 100]
    assert is_projections(tmp_path / "a.nxs")
    assert "rotation_angle" in scan.metadata["notes"][0]
    assert scan.metadata["remarks"] == scan.metadata["notes"]


def test_angles_of_projections_alone_will_do(tmp_path):
    angles = {"entry/sample/rotation_angle": np.arange(4) * 45.0}
    scan = read_projections(nxtomo(tmp_path / "a.nxs", **angles))
    assert scan.angles.tolist() == [0, 45, 90, 135]


def test_the_pixel_size_comes_with_its_unit(tmp_path):
    path = nxtomo(tmp_path / "a.nxs")
    with h5py.File(path, "a") as file:
        for axis in "xy":
            file[DETECTOR][f"{axis}_pixel_size"] = 6.5e-6
            file[DETECTOR][f"{axis}_pixel_size"].attrs["units"] = "m"
    scan = read_projections(path)
    assert (scan.pixel_size, scan.unit) == ((6.5e-6, 6.5e-6), "m")


def test_several_detectors_need_a_choice(tmp_path):
    second = {
        "entry/instrument/other/data": FRAMES[::-1].copy(),
        "entry/instrument/other/image_key": KEYS,
    }
    path = nxtomo(tmp_path / "a.nxs", **second)
    with pytest.raises(FileError, match=r"several detectors.*--dataset entry/instr"):
        read_projections(path)
    scan = read_projections(path, dataset="entry/instrument/other")
    np.testing.assert_array_equal(np.asarray(scan.data), FRAMES[::-1][2:6])
    assert read_projections(f"{path}::{DETECTOR}/data").shape == (4, 3, 4)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({f"{DETECTOR}/image_key": KEYS[:5]}, "8 images but image_key has 5 values"),
        ({f"{DETECTOR}/image_key": KEYS * 0 + 1}, "no image of .* is a projection"),
        (
            {"entry/sample/rotation_angle": None},
            "contain the angles of its 8 projections",
        ),
        (
            {"entry/sample/rotation_angle": np.arange(7.0)},
            "4 projections, but .* 7 ang",
        ),
        ({f"{DETECTOR}/data": None}, "has no dataset 'entry/instrument/detector/data'"),
        ({f"{DETECTOR}/data": FRAMES[0]}, "projections need three axes"),
    ],
)
def test_bad_files_are_told_in_one_sentence(tmp_path, parts, says):
    path = nxtomo(tmp_path / "a.nxs", **parts)
    with pytest.raises(FileError, match=says) as caught:
        read_projections(path)
    assert "a.nxs" in str(caught.value)


def test_given_angles_make_those_of_the_file_unneeded(tmp_path):
    path = nxtomo(tmp_path / "a.nxs", **{"entry/sample/rotation_angle": None})
    scan = read_projections(path, angle_range=(0, 180))
    assert scan.angles.tolist() == [0, 45, 90, 135]


def test_a_linked_file_that_is_gone_is_named_when_it_is_needed(tmp_path):
    away = h5py.ExternalLink("away.h5", "entry/values")
    path = nxtomo(tmp_path / "a.nxs", **{"entry/sample/rotation_angle": away})
    with pytest.raises(FileError, match=r"a.nxs: its angles are in away.h5, which is"):
        read_projections(path)
    path = nxtomo(tmp_path / "b.nxs", **{f"{DETECTOR}/data": away})
    with pytest.raises(FileError, match=r"is in away.h5, which is missing"):
        read_projections(path)


@pytest.fixture
def diad(shared_data):
    return shared_data / "projections" / "k11_diad"


def test_a_real_scan_opens_with_two_of_its_linked_files_gone(diad):
    scan = read_projections(diad / "k11-18014.nxs")
    assert scan.shape == (3001, 22, 26)
    assert scan.flats.shape == scan.darks.shape == (100, 22, 26)
    assert scan.angles[[0, -1]] == pytest.approx([89.99511, 269.99463], abs=1e-4)
    assert "gts_theta_value" in scan.metadata["notes"][0]
    flats, darks = np.asarray(scan.flats), np.asarray(scan.darks)
    assert flats.mean() > 300 * darks.mean()
    some = np.asarray(scan.rows(3, 5).every(500).data)
    assert some.shape == (7, 2, 26)
    assert is_projections(diad / "k11-18014.nxs")


def test_the_angles_of_a_real_scan_are_missed_only_where_they_are_needed(
    diad, tmp_path
):
    (tmp_path / "k11-18014").mkdir()
    shutil.copy(diad / "k11-18014.nxs", tmp_path)
    imaging = "k11-18014/k11-18014-imaging.h5"
    shutil.copy(diad / imaging, tmp_path / imaging)
    with pytest.raises(FileError, match=r"angles are in .*pcompPanda.h5.*missing"):
        read_projections(tmp_path / "k11-18014.nxs")
    scan = read_projections(tmp_path / "k11-18014.nxs", angle_range=(0, 180))
    assert scan.n_angles == 3001
    (tmp_path / imaging).unlink()
    with pytest.raises(FileError, match="which is missing"):
        read_projections(tmp_path / "k11-18014.nxs")
