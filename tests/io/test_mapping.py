"""Mapped files behave like arrays, with few resident pages."""

from __future__ import annotations

import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_geosr.io.mapping import RELEASE_BYTES, MappedFile, map_file, release_pages


@pytest.fixture
def voxels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 255, (20, 30, 40)).astype(np.uint8)


@pytest.fixture
def mapped(voxels: np.ndarray, tmp_path: Path) -> MappedFile:
    path = tmp_path / "a.raw"
    path.write_bytes(b"head" + voxels.tobytes())
    return map_file(path, np.uint8, "r+", 4, voxels.shape)


def test_reads_like_an_array(mapped: MappedFile, voxels: np.ndarray) -> None:
    np.testing.assert_array_equal(mapped, voxels)
    np.testing.assert_array_equal(mapped[3:5, ::2, -1], voxels[3:5, ::2, -1])
    np.testing.assert_array_equal(mapped.transpose(2, 0, 1)[5], voxels[:, :, 5])
    assert mapped[1, 2, 3] == voxels[1, 2, 3]
    assert mapped.max() == voxels.max()
    assert isinstance(mapped[2:4], np.memmap)


def test_results_are_plain_arrays(mapped: MappedFile) -> None:
    assert type(mapped + 1) is np.ndarray
    assert type(mapped.sum(axis=0)) is np.ndarray
    assert np.isscalar(mapped.mean())
    assert type(mapped[[1, 2]]) is np.ndarray
    assert type(mapped[mapped > 200]) is np.ndarray


def test_release_loses_nothing(mapped: MappedFile) -> None:
    mapped[...] = 7
    release_pages(mapped.T[3:])
    release_pages(np.zeros(3))
    assert (mapped == 7).all()


def test_release_keeps_edits_that_are_in_no_file(
    voxels: np.ndarray, tmp_path: Path
) -> None:
    """Changed pages of a copy-on-write map exist only in memory."""
    np.save(tmp_path / "a.npy", voxels)
    edited = np.load(tmp_path / "a.npy", mmap_mode="c")
    edited[3] = 77
    release_pages(edited)
    release_pages(edited[1:].T)
    assert (edited[3] == 77).all()
    with (tmp_path / "a.npy").open("r+b") as stream:
        private = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        plain = np.frombuffer(private, np.uint8)
        plain[-1] = 99
        release_pages(plain)
        assert plain[-1] == 99
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), voxels)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("mode", ["r", "r+", "w+"])
def test_plain_maps_of_files_are_released(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(50 << 20))
    mapped: np.ndarray = np.memmap(path, np.uint8, mode, shape=(50, 1 << 20))
    before = resident()
    assert mapped.sum() == 0
    assert resident() - before > 40 << 20
    release_pages(mapped[3:].T)
    assert resident() - before < 10 << 20


def resident() -> int:
    """Bytes of mapped files that are resident in this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssFile")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("write", [True, False])
def test_a_sweep_keeps_few_pages(write: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    shape = (160, 1024, 1024)
    with path.open("wb") as stream:
        stream.truncate(np.prod(shape))
    array = map_file(path, np.uint8, "r+" if write else "r", 0, shape)
    before, most = resident(), 0
    for z in range(0, shape[0], 8):
        if write:
            array[z : z + 8] = 1
        else:
            np.array(array[z : z + 8])
        most = max(most, resident() - before)
    assert most < 4 * RELEASE_BYTES < np.prod(shape)
