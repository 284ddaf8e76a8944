"""Folders and patterns of slices: counted, checked, lazy."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.slices import natural_key


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve slices, s1.tif … s12.tif, each filled with its number."""
    place = tmp_path / "scan"
    place.mkdir()
    for i in range(1, 13):
        tifffile.imwrite(place / f"s{i}.tif", np.full((6, 7), i, np.uint16))
    (place / ".hidden.tif").write_text("no slice")
    (place / "notes.txt").write_text("no slice")
    return place


def test_folder_counts(folder: Path) -> None:
    volume = io.read(folder)
    assert (volume.axes, volume.shape, volume.name) == ("ZYX", (12, 6, 7), "scan")
    assert isinstance(volume.data, LazyArray)
    assert volume.source == folder
    np.testing.assert_array_equal(volume.data[:, 0, 0], np.arange(1, 13))
    np.testing.assert_array_equal(volume.data[3:5, 2, 1:3], [[4, 4], [5, 5]])


def test_pattern(folder: Path) -> None:
    volume = io.read(str(folder / "s?.tif"))
    assert volume.shape == (9, 6, 7)
    with pytest.raises(FileError, match="there is no such file"):
        io.read(str(folder / "t*.tif"))
    with pytest.raises(FileError, match=r"notes\.txt is not an image"):
        io.read(str(folder / "*[a-z0-9].t*"))


def test_time_instead_of_slices(folder: Path) -> None:
    assert io.read(folder, axes="TYX").axes == "TYX"
    with pytest.raises(FileError, match="Use ZYX or TYX"):
        io.read(folder, axes="CYX")


def test_odd_slice_is_named(folder: Path) -> None:
    tifffile.imwrite(folder / "s5.tif", np.zeros((6, 8), np.uint16))
    with pytest.raises(
        FileError, match=r"s5\.tif is 6 × 8 uint16, but s1\.tif is 6 × 7"
    ):
        io.read(folder)
    tifffile.imwrite(folder / "s5.tif", np.zeros((6, 7), np.uint8))
    with pytest.raises(FileError, match=r"s5\.tif is .* uint8"):
        io.read(folder)


def test_broken_slice_is_named(folder: Path) -> None:
    (folder / "s7.tif").write_bytes((folder / "s7.tif").read_bytes()[:-9])
    with pytest.raises(FileError, match=r"s7\.tif is truncated"):
        io.read(folder)


def test_slice_that_breaks_later_is_named(folder: Path) -> None:
    volume = io.read(folder)
    (folder / "s7.tif").write_bytes(b"words")
    assert volume.data[5, 0, 0] == 6
    with pytest.raises(FileError, match=r"s7\.tif is not a TIFF file"):
        volume.data[6]


def test_gap_in_the_numbers_is_noted(folder: Path) -> None:
    (folder / "s4.tif").unlink()
    (warning,) = io.read(folder).metadata["warnings"]
    assert "1 image seems to be missing (s5.tif follows s3.tif)" in warning


def test_pictures_and_colours(tmp_path: Path, rng: np.random.Generator) -> None:
    planes = rng.integers(0, 255, (3, 6, 7, 3)).astype(np.uint8)
    for i, plane in enumerate(planes):
        (tmp_path / f"{i}.png").write_bytes(imagecodecs.png_encode(plane))
    volume = io.read(tmp_path)
    assert volume.axes == "CZYX"
    np.testing.assert_array_equal(
        np.asarray(volume.select(channel=1).data), planes[..., 1]
    )


def test_folders_that_are_no_volume(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileError, match="contains no image slices"):
        io.read(empty)
    (folder / "a.png").write_bytes(imagecodecs.png_encode(np.zeros((3, 3), np.uint8)))
    with pytest.raises(FileError, match=r"TIFF and picture files.*'scan/\*\.tif'"):
        io.read(folder)
    stacks = tmp_path / "stacks"
    stacks.mkdir()
    for i in range(2):
        stack = np.zeros((5, 6, 7), np.uint8)
        tifffile.imwrite(stacks / f"{i}.tif", stack, photometric="minisblack")
    with pytest.raises(FileError, match=r"0\.tif .*is itself a stack"):
        io.read(stacks)


def test_natural_order() -> None:
    names = ["b2.tif", "a10.tif", "a9.tif", "A1.tif", "a.tif"]
    ordered = sorted((Path(n) for n in names), key=natural_key)
    assert [p.name for p in ordered] == [
        "A1.tif",
        "a9.tif",
        "a10.tif",
        "a.tif",
        "b2.tif",
    ]
