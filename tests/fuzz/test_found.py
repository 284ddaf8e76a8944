"""Bugs found with damaged and unusual files, each with a minimal example."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from variants import nothing_at_once

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.file_warnings import file_warnings


def claimed(path: Path, **entries: Any) -> Path:
    """A zarr whose metadata do not match its contents."""
    zarr.create_array(path, data=np.ones((4, 4), "u1"), chunks=(2, 2), zarr_format=2)
    file = path / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))
    return path


def test_a_zarr_that_claims_more_voxels_than_there_are(tmp_path: Path) -> None:
    path = claimed(tmp_path / "a.zarr", shape=[1, 10**30])
    with pytest.raises(
        FileError, match=r"a\.zarr is damaged: its metadata give a size of 1e\+30"
    ):
        io.read(path)


def test_chunks_of_a_voxel_by_the_million(tmp_path: Path) -> None:
    path = claimed(tmp_path / "a.zarr", shape=[4000, 4000], chunks=[1, 1])
    with pytest.raises(FileError, match="16,000,000 chunks of 1 voxels"):
        io.read(path)


def test_missing_chunks_of_a_huge_grid(tmp_path: Path) -> None:
    """The indices are counted, not listed."""
    path = claimed(tmp_path / "a.zarr", shape=[10**13, 10], chunks=[10, 10])
    volume = io.read(path)
    assert volume.shape == (10**13, 10)
    (said,) = file_warnings(volume.metadata)
    assert said.startswith("999,999,999,998 of 1,000,000,000,000 chunks are not in")
    assert "(Y 20–9999999999999)" in said


def test_a_link_elsewhere_does_not_hide_the_coordinates(tmp_path: Path) -> None:
    """They are next to the dataset, and the link comes first alphabetically."""
    path = tmp_path / "a.nxs"
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/data")
        group["values"] = np.ones((3, 4), "u1")
        file["again"] = h5py.SoftLink("/entry/data/values")
        for name, n in (("y", 3), ("x", 4)):
            group[name] = 5 + 2.5 * np.arange(n)
            group[name].attrs["units"] = "um"
        group.attrs["axes"] = ["y", "x"]
    volume = io.read(path)
    assert (volume.voxel_size, volume.unit) == ((2.5, 2.5), "µm")
    assert volume.origin == (5.0, 5.0)
    assert volume.metadata["dataset"] == "entry/data/values"


def test_a_width_that_is_no_whole_number(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((1, 2), np.uint8), metadata=None)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].tags["ImageWidth"].offset
    content = bytearray(path.read_bytes())
    content[at + 2 : at + 4] = struct.pack("<H", 11)  # a float: 2.8e-45
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"a\.tif"):
        io.read(path)


def test_an_image_one_voxel_wide_is_the_same_lazily(tmp_path: Path) -> None:
    """tifffile stores it with exchanged axes, so pages are not parts of the image."""
    voxels = np.array([[[95], [130], [7]]], np.int16)
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"compression": "zlib", "tile": (16, 32)}
    tifffile.imwrite(path, voxels, metadata={"axes": "ZYX"}, **options)
    with nothing_at_once():
        volume = io.read(path)
    np.testing.assert_array_equal(np.asarray(volume.data).ravel(), voxels.ravel())
