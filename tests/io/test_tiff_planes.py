"""Planes that a TIFF description omits or invents, and inverted grey values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import file_warnings

STACK = np.random.default_rng(0).integers(0, 255, (8, 6, 7)).astype(np.uint8)


def described(path: Path, text: str, data: Any = STACK, **options: Any) -> Path:
    """A file with an ImageJ description written by another program."""
    text = f"ImageJ=1.54f\n{text}\nunit=um\nspacing=2\n"
    tifffile.imwrite(
        path, data, description=text, metadata=None, resolution=(0.5, 0.5), **options
    )
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("n", [5, 20])
def test_all_planes_are_read_whatever_imagej_states(
    tmp_path: Path, n: int, compression: str | None
) -> None:
    text = f"images={n}\nslices={n}"
    volume = io.read(described(tmp_path / "a.tif", text, compression=compression))
    np.testing.assert_array_equal(np.asarray(volume.data), STACK)
    assert (volume.voxel_size, volume.unit) == ((2, 2, 2), "µm")
    assert file_warnings(volume.metadata) == (
        f"its ImageJ description states {n} planes, but it contains 8; all 8 were "
        "read. Check that the file is complete.",
    )


@pytest.mark.parametrize("text", ["images=8\nslices=8", "slices=4\nframes=2", ""])
def test_nothing_is_said_of_matching_descriptions(tmp_path: Path, text: str) -> None:
    volume = io.read(described(tmp_path / "a.tif", text))
    assert np.asarray(volume.data).size == STACK.size
    assert file_warnings(volume.metadata) == ()


def virtual(path: Path, text: str, n_stored: int) -> Path:
    """A stack as ImageJ writes large ones: one page, followed by the other planes."""
    described(path, text, STACK[:1])
    with path.open("ab") as stream:
        stream.write(STACK[1:n_stored].tobytes())
    return path


def test_stacks_of_one_page(tmp_path: Path) -> None:
    whole = virtual(tmp_path / "a.tif", "images=8\nslices=8", 8)
    np.testing.assert_array_equal(np.asarray(io.read(whole).data), STACK)
    assert file_warnings(io.read(whole).metadata) == ()
    with pytest.raises(FileError, match=r"b\.tif is truncated: it needs"):
        io.read(virtual(tmp_path / "b.tif", "images=8\nslices=8", 4))
    shorter = io.read(virtual(tmp_path / "c.tif", "images=8\nslices=5", 8))
    np.testing.assert_array_equal(np.asarray(shorter.data), STACK[:5])
    (said,) = file_warnings(shorter.metadata)
    assert said.startswith("3 of the 8 planes in the file are omitted, because its I")


def with_planes(path: Path, n: int, **options: Any) -> Path:
    """An OME-TIFF of 8 planes whose description states another number."""
    tifffile.imwrite(path, STACK, metadata={"axes": "ZYX"}, **options)
    for word in (b"SizeZ", b"PlaneCount"):
        content = path.read_bytes()
        assert b'%s="8"' % word in content
        path.write_bytes(content.replace(b'%s="8"' % word, b'%s="%d"' % (word, n)))
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_that_ome_does_not_mention_are_said(
    tmp_path: Path, compression: str | None
) -> None:
    path = with_planes(tmp_path / "a.ome.tif", 5, compression=compression)
    volume = io.read(path)
    np.testing.assert_array_equal(np.asarray(volume.data), STACK[:5])
    (said,) = file_warnings(volume.metadata)
    assert said.startswith("3 of the 8 planes in the file are omitted, because its O")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planes_that_are_not_in_the_file_are_never_zeros(
    tmp_path: Path, compression: str | None
) -> None:
    path = with_planes(tmp_path / "a.ome.tif", 9, compression=compression)
    with pytest.raises(FileError, match="is incomplete: 1 of its 9 planes are missing"):
        io.read(path)


def test_pyramids_leave_nothing_out(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(STACK[0], metadata={"axes": "YX"})
        writer.write(STACK[0, ::2, ::2], subfiletype=1)
    assert file_warnings(io.read(path).metadata) == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
def test_inverted_grey_values_are_said(tmp_path: Path, dtype: type) -> None:
    path, stored = tmp_path / "a.tif", (STACK > 99 if dtype is bool else STACK)
    stored = stored.astype(dtype)
    tifffile.imwrite(path, stored, photometric="miniswhite", software="scanner")
    volume = io.read(path)
    np.testing.assert_array_equal(np.asarray(volume.data), np.invert(stored))
    (said,) = file_warnings(volume.metadata)
    white = 1 if dtype is bool else np.iinfo(dtype).max
    assert f"the grey values were inverted (0 became {white})" in said


def test_masks_of_python_are_not_inverted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK > 99)  # states that white is zero
    volume = io.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.asarray(volume.data), STACK > 99)
    assert file_warnings(volume.metadata) == ()


@pytest.mark.parametrize("kind", ["float", "signed", "imagej"])
def test_values_that_are_only_displayed_inverted_are_said(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "a.tif"
    types = {"float": np.float32, "signed": np.int16, "imagej": np.uint8}
    stored = STACK.astype(types[kind])
    if kind == "imagej":
        described(path, "images=8\nslices=8", photometric="miniswhite")
    else:
        tifffile.imwrite(path, stored, photometric="miniswhite")
    volume = io.read(path)
    np.testing.assert_array_equal(np.asarray(volume.data), stored)
    (said,) = file_warnings(volume.metadata)
    assert "they are used as stored" in said


def test_slices_pass_on_the_warning_of_the_first(tmp_path: Path) -> None:
    for i in range(3):
        tifffile.imwrite(tmp_path / f"{i}.tif", STACK[i], photometric="miniswhite")
    (said,) = file_warnings(io.read(tmp_path).metadata)
    assert said.startswith("0.tif: white is stored as 0 in this file")
