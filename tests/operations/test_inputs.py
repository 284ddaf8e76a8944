"""Opening inputs: the settings of one input never affect another one."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, FileError, VolumeError
from napari_geosr.core.volume import Volume
from napari_geosr.operations.inputs import (
    InputConfig,
    check_not_source,
    open_companion,
    open_reference,
    open_volume,
)

SHAPE = (3, 8, 9)


def saved(path, data, axes="ZYX", voxel=1.0, unit="pixel"):
    volume = Volume(data, axes, (voxel,) * 3, unit)
    return io.write(volume, path)


@pytest.fixture
def scan(tmp_path):
    path = saved(tmp_path / "scan.tif", np.ones(SHAPE, np.uint8))
    settings = InputConfig.create(voxel_size="4", unit="um")
    return open_volume(path, settings), settings


def test_warnings_about_the_file_of_a_companion_are_said(scan, tmp_path):
    volume, settings = scan
    mask = np.ones(SHAPE, np.uint8)
    tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="miniswhite")
    _, notes = open_companion(tmp_path / "mask.tif", settings, volume)
    assert notes[0].startswith("mask.tif: white is stored as 0")


def test_a_companion_keeps_its_own_voxel_size(scan, tmp_path):
    volume, settings = scan
    path = saved(tmp_path / "fine.tif", np.ones((6, 16, 18), np.uint8), "ZYX", 2, "µm")
    opened, notes = open_companion(path, settings, volume)
    assert opened.voxel_size == (2, 2, 2)
    assert not notes


@pytest.mark.parametrize(("factor", "taken"), [(1, True), (2, False)])
def test_a_voxel_size_is_taken_over_for_the_same_voxels_only(
    scan, tmp_path, factor, taken
):
    volume, settings = scan
    shape = tuple(n * factor for n in SHAPE)
    path = saved(tmp_path / "bare.tif", np.ones(shape, np.uint8))
    opened, notes = open_companion(path, settings, volume)
    assert opened.has_physical_size == taken
    assert len(notes) == taken
    assert all("bare.tif has no voxel size" in note for note in notes)


@pytest.mark.parametrize("factor", [1, 2])
def test_a_wrong_voxel_size_is_corrected_in_both_files(tmp_path, factor):
    path = saved(tmp_path / "scan.tif", np.ones(SHAPE, np.uint8), "ZYX", 2, "µm")
    settings = InputConfig.create(voxel_size="8", unit="nm")
    volume = open_volume(path, settings)
    shape = tuple(n * factor for n in SHAPE)
    geometry = {
        "voxel_size": (2 / factor,) * 3,
        "unit": "µm",
        "origin": (1 / factor - 1,) * 3,
    }
    mask = Volume(np.ones(shape, np.uint8), "ZYX", **geometry)
    mask_path = io.write(mask, tmp_path / "mask.ome.tif")
    opened, notes = open_companion(mask_path, settings, volume)
    assert opened.voxel_size == pytest.approx((8 / factor,) * 3)
    assert opened.unit == "nm"
    # Both start at the same corner.
    corners = [o - v / 2 for o, v in zip(opened.origin, opened.voxel_size, strict=True)]
    assert corners == pytest.approx([-4] * 3)
    assert "mask.ome.tif covers the same region as scan.tif" in notes[0]


@pytest.mark.parametrize("config", ["size", "unit", "none"])
def test_a_reference_of_another_shape_takes_over_the_given_voxel_size(
    scan, tmp_path, config
):
    """It is measured separately, so that it need not show the same region."""
    volume, settings = scan
    other = np.ones(tuple(n + k for n, k in zip(SHAPE, (1, 5, 2), strict=True)), "u1")
    given = {"size": settings, "unit": InputConfig.create(unit="um"), "none": None}
    path = saved(tmp_path / "bare.tif", other)
    opened, notes = open_reference(path, given[config], volume)
    assert opened.has_physical_size == (config == "size")
    if config == "size":
        assert opened.voxel_size == (4, 4, 4)
        (note,) = notes
        assert note.startswith("bare.tif has no voxel size, so the given voxel size of")
        assert "If this is wrong, save it with its voxel size" in note
    else:
        assert not notes
    # A voxel size without a unit only needs the unit.
    tifffile.imwrite(
        tmp_path / "numbers.tif",
        other,
        imagej=True,
        resolution=(1 / 3, 1 / 3),
        metadata={"spacing": 3, "axes": "ZYX"},
    )
    opened, notes = open_reference(tmp_path / "numbers.tif", given[config], volume)
    assert opened.voxel_size == pytest.approx((3, 3, 3))
    assert opened.has_physical_size == (config != "none")
    assert any("has no unit, so the given unit" in n for n in notes) == (
        config != "none"
    )
    # A file with its own voxel size keeps it.
    own = saved(tmp_path / "own.tif", other, "ZYX", 3, "µm")
    opened, notes = open_reference(own, given[config], volume)
    assert opened.voxel_size == (3, 3, 3)
    assert not notes


def test_a_reference_that_may_have_other_voxels_takes_over_no_voxel_size(
    scan, tmp_path
):
    volume, settings = scan
    double = saved(tmp_path / "fine.tif", np.ones([2 * n for n in SHAPE], np.uint8))
    opened, (note,) = open_reference(double, settings, volume)
    assert not opened.has_physical_size
    assert "fine.tif has 2 times as many voxels along each axis" in note
    same = saved(tmp_path / "same.tif", np.ones(SHAPE, np.uint8))
    opened, (note,) = open_reference(same, settings, volume)
    assert opened.voxel_size == (4, 4, 4)
    assert "has the same shape" in note


def test_another_region_keeps_its_voxel_size(tmp_path):
    path = saved(tmp_path / "scan.tif", np.ones(SHAPE, np.uint8), "ZYX", 2, "µm")
    settings = InputConfig.create(voxel_size="8", unit="µm")
    other = saved(tmp_path / "other.tif", np.ones(SHAPE, np.uint8), "ZYX", 1, "µm")
    opened, notes = open_companion(other, settings, open_volume(path, settings))
    assert opened.voxel_size == (1, 1, 1)
    assert not notes


def test_axes_are_corrected_in_files_of_the_same_axes(tmp_path):
    path = saved(tmp_path / "scan.ome.tif", np.ones(SHAPE, np.uint8), "ZYX", 2, "µm")
    settings = InputConfig.create(axes="CYX", channel=1)
    volume = open_volume(path, settings)
    assert volume.shape == SHAPE[1:]
    mask = saved(tmp_path / "mask.ome.tif", np.ones(SHAPE, np.uint8), "ZYX", 2, "µm")
    opened, notes = open_companion(mask, settings, volume)
    assert opened.shape == SHAPE[1:]
    assert "read with the axes CYX" in notes[0]


def test_a_channel_is_taken_over_where_there_are_several(scan, tmp_path):
    volume, _ = scan
    settings = InputConfig(channel=1)
    one = saved(tmp_path / "one.tif", np.ones(SHAPE, np.uint8))
    assert open_companion(one, settings, volume)[1] == []
    data = np.arange(2, dtype=np.uint8)[:, None, None, None] + np.zeros(SHAPE, np.uint8)
    two = saved(tmp_path / "two.ome.tif", data, "CZYX")
    opened, notes = open_companion(two, settings, volume)
    assert np.all(np.asarray(opened.data) == 1)
    assert "Channel 1" in notes[0]
    with pytest.raises(VolumeError, match="2 channels"):
        open_companion(two, None, volume)


def test_a_dataset_is_that_of_the_input_alone(scan, tmp_path):
    volume, _ = scan
    settings = InputConfig(dataset="entry/data")
    path = saved(tmp_path / "mask.tif", np.ones(SHAPE, np.uint8))
    assert open_companion(path, settings, volume)[0].shape == SHAPE


def slices_in(folder):
    folder.mkdir()
    for z in range(3):
        tifffile.imwrite(folder / f"s{z}.tif", np.full((8, 9), z, np.uint8))
    return folder


def test_an_output_never_replaces_or_joins_its_source(tmp_path, monkeypatch):
    slices = open_volume(slices_in(tmp_path / "slices"))
    for name in ("slices/more.tif", "slices", "slices/../slices/a.png"):
        with pytest.raises(FileError, match="the input is never changed"):
            check_not_source(slices, tmp_path / "fine.tif", tmp_path / name)
    check_not_source(slices, tmp_path / "slices/report/a.png", tmp_path / "b.tif")

    path = saved(tmp_path / "scan.ome.zarr", np.ones(SHAPE, np.uint8))
    with pytest.raises(FileError, match="lies inside it"):
        check_not_source(open_volume(path), path / "0" / "deep" / "a.png")

    monkeypatch.setenv("HOME", str(tmp_path))
    path = saved(tmp_path / "scan.tif", np.ones(SHAPE, np.uint8))
    with pytest.raises(FileError, match="is the input"):
        check_not_source(open_volume(path), "~/scan.tif")
    check_not_source(Volume(np.zeros(SHAPE), "ZYX"), path)


@pytest.mark.parametrize("given", ["1.95um", ["1.95um"], "2,0.5,0.5 mm", "3µm"])
def test_a_voxel_size_with_a_unit_is_explained(given) -> None:
    with pytest.raises(ConfigError, match=r"--voxel-size [\d.,]+ --unit (um|mm|µm)"):
        InputConfig.create(voxel_size=given)


def test_voxel_sizes_are_text_or_numbers() -> None:
    for given in (0.5, "0.5", [0.5], (0.5,), "0.5,0.5,0.5"):
        assert set(InputConfig.create(voxel_size=given).voxel_size or ()) == {0.5}
