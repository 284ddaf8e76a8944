"""The reading function: fast import, suffixes, choices, messages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.suffixes import stem_of, suffix_of
from napari_geosr.io.unfinished_files.atomic import write_bytes, write_text

_HEAVY = ["tifffile", "zarr", "dask", "h5py", "imagecodecs", "nibabel", "scipy"]


def test_importing_loads_no_format() -> None:
    code = "import sys, napari_geosr.io; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()).isdisjoint(_HEAVY)


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("a.tif", ".tif", "a"),
        ("a.b.OME.TIFF", ".ome.tiff", "a.b"),
        ("a.ome.zarr", ".ome.zarr", "a"),
        ("a.nii.gz", ".nii.gz", "a"),
        ("a.csv", ".csv", "a"),
        ("a", "", "a"),
    ],
)
def test_suffixes(name: str, suffix: str, stem: str) -> None:
    assert suffix_of(Path(name)) == suffix
    assert stem_of(Path(name)) == stem


def test_every_writable_suffix_is_readable() -> None:
    assert set(io.write_suffixes()) <= set(io.read_suffixes())


def test_one_axis_may_be_chosen_and_the_other_kept(
    tmp_path: Path, make_volume: Any
) -> None:
    whole = make_volume((2, 3, 4, 5, 6), "TCZYX")
    path = io.write(whole, tmp_path / "a.tif")
    channel = io.read(path, channel=2)
    assert channel.axes == "TZYX"
    np.testing.assert_array_equal(np.asarray(channel.data), whole.data[:, 2])
    assert io.read(path, time=1).axes == "CZYX"
    with pytest.raises(FileError, match=r"no time 2: choose 0 to 1"):
        io.read(path, time=2)
    with pytest.raises(FileError, match=r"no channel -1: choose 0 to 2"):
        io.read(path, channel=-1)
    with pytest.raises(FileError, match=r"no channel 3: choose 0 to 2"):
        io.read(path, channel=3)
    flat = io.write(make_volume((5, 6), "YX"), tmp_path / "b.tif")
    with pytest.raises(FileError, match=r"no channel axis. Omit the channel"):
        io.read(flat, channel=1)


def test_the_part_that_is_chosen_stays_in_the_file(
    tmp_path: Path, make_volume: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = io.write(make_volume((2, 3, 4, 5, 6), "TCZYX"), tmp_path / "a.ome.zarr")

    def refuse(*_: Any) -> None:
        raise AssertionError("voxels were read")

    with monkeypatch.context() as context:
        context.setattr(LazyArray, "__getitem__", refuse)
        part = io.read(path, channel=2, time=1)
    assert part.is_lazy
    whole = np.asarray(io.read(path))
    np.testing.assert_array_equal(np.asarray(part), whole[1, 2])


def test_a_unit_alone_is_refused(tmp_path: Path, make_volume: Any) -> None:
    path = io.write(make_volume(), tmp_path / "a.tif")
    with pytest.raises(ConfigError, match=r"a\.tif already states its voxel size .*µm"):
        io.read(path, unit="mm")
    same = io.read(path, unit="um")  # the unit of the file
    assert (same.voxel_size, same.unit) == (io.read(path).voxel_size, "µm")
    assert io.read(path, voxel_size=[4], unit="mm").voxel_size == (4, 4, 4)


@pytest.mark.parametrize("shape", [(3, 4, 5, 6, 1), (2, 2, 2, 1, 1), (1, 1, 1, 1, 1)])
def test_images_one_voxel_wide(
    shape: tuple[int, ...], tmp_path: Path, make_volume: Any
) -> None:
    whole = make_volume(shape, "TCZYX")
    back = io.read(io.write(whole, tmp_path / "a.tif"))
    np.testing.assert_array_equal(np.asarray(back.data), whole.data)


def test_small_files_are_atomic_too(tmp_path: Path) -> None:
    path = write_text(tmp_path / "report.json", "µ")
    assert path.read_text("utf-8") == "µ"
    with pytest.raises(FileError, match="exists already"):
        write_bytes(path, b"")
    write_bytes(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"
    with pytest.raises(FileError, match="does not exist"):
        write_text(tmp_path / "gone" / "a.txt", "")
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scan.tif")
    with pytest.raises(FileError, match="is a pipe"):
        io.read(tmp_path / "scan.tif")


@pytest.mark.parametrize(
    "given", [{"shape": (2, 3, 4)}, {"dtype": "<u2"}, {"offset": 8}]
)
def test_options_of_raw_files_are_not_ignored_elsewhere(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    path = io.write(Volume(np.zeros((4, 8, 8), np.uint8), "ZYX"), tmp_path / "a.tif")
    with pytest.raises(FileError, match=r"a\.tif is read as TIFF, which states its"):
        io.read(path, **given)
