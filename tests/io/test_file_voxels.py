"""Voxels read with ordinary reads: equal to numpy's, and the process never crashes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io import file_voxels
from napari_geosr.io.file_voxels import FileArray, FileVoxels

Array = np.ndarray[Any, Any]


@pytest.fixture
def stack(rng: np.random.Generator) -> Array:
    return (rng.random((7, 13, 17)) * 60000).astype(np.uint16)


@pytest.fixture
def path(stack: Array, tmp_path: Path) -> Path:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=None)
    return path


@pytest.fixture
def lazy(path: Path, monkeypatch: pytest.MonkeyPatch) -> Volume:
    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    return io.read(path)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[slice, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=2, max_size=5)))
    ends = [
        sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape
    ]
    return shape, tuple(slice(a, b) for a, b in ends)


@settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    found=boxes(),
    dtype=st.sampled_from([">u2", "<f4", "u1", "?", "<f8"]),
    gap=st.sampled_from([0, 20, 10**6]),
    scratch=st.sampled_from([1, 64, 10**6]),
    offset=st.sampled_from([0, 3]),
    with_preadv=st.booleans(),
)
def test_every_box_is_as_in_memory(
    found: tuple[tuple[int, ...], tuple[slice, ...]],
    dtype: str,
    gap: int,
    scratch: int,
    offset: int,
    with_preadv: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    shape, box = found
    voxels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = tmp_path_factory.mktemp("voxels") / "a.raw"
    path.write_bytes(b"\0" * offset + voxels.tobytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_voxels, "_GAP", gap)
        patch.setattr(file_voxels, "_SCRATCH", scratch)
        patch.setattr(file_voxels, "_READS_INTO", with_preadv and hasattr(os, "preadv"))
        read = FileVoxels(path, dtype, offset, shape)[box]
    assert read.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read, voxels[box])


@pytest.fixture
def n_bytes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of bytes of each read of a file."""
    found: list[int] = []
    original = file_voxels._OpenFile.read_into

    def noted(file: Any, target: memoryview, at: int) -> None:
        found.append(len(target))
        original(file, target, at)

    monkeypatch.setattr(file_voxels._OpenFile, "read_into", noted)
    return found


def test_rows_of_neighbours_are_read_once(
    tmp_path: Path, n_bytes: list[int], rng: np.random.Generator
) -> None:
    stack = rng.integers(0, 60000, (6, 40, 200), np.uint16)
    path = tmp_path / "a.raw"
    path.write_bytes(stack.tobytes())
    voxels = FileVoxels(path, "<u2", 0, stack.shape)
    for x in range(0, 200, 20):  # tiles with a halo
        key = slice(1, 4), slice(5, 30), slice(max(0, x - 5), min(200, x + 25))
        np.testing.assert_array_equal(voxels[key], stack[key])
    assert sum(n_bytes) == 3 * 40 * 200 * 2  # small gaps between rows as well
    for x in range(200):  # slices
        whole = slice(0, 6), slice(0, 40), slice(x, x + 1)
        np.testing.assert_array_equal(voxels[whole], stack[whole])
    assert sum(n_bytes) == (3 * 40 + 6 * 40) * 200 * 2


def test_slices_of_a_large_file_are_read_in_groups(
    tmp_path: Path,
    n_bytes: list[int],
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stack = rng.integers(0, 60000, (6, 40, 50), np.uint16)
    path = tmp_path / "a.raw"
    path.write_bytes(stack.tobytes())
    voxels = FileVoxels(path, "<u2", 0, stack.shape)
    monkeypatch.setattr(file_voxels._ROW_CACHE, "nbytes", 6 * 40 * 2 * 20)
    for x in range(50):
        whole = slice(0, 6), slice(0, 40), slice(x, x + 1)
        np.testing.assert_array_equal(voxels[whole], stack[whole])
    assert sum(n_bytes) == 3 * stack.nbytes


def test_a_run_with_a_budget_keeps_no_rows(path: Path, stack: Array) -> None:
    voxels = FileVoxels(path, "<u2", 0, stack.shape)
    key = slice(0, 7), slice(0, 13), slice(2, 4)
    with file_voxels.row_cache_disabled():
        voxels[key]
        assert file_voxels._ROW_CACHE.find(voxels.place, key) is None
    voxels[key]
    assert file_voxels._ROW_CACHE.find(voxels.place, key) is not None
    del voxels  # when closed, the file needs none
    assert file_voxels._ROW_CACHE._voxels is None


def test_a_large_tiff_is_read_where_it_is_asked_for(lazy: Volume, stack: Array) -> None:
    assert isinstance(lazy.data, FileArray)
    assert lazy.is_lazy
    np.testing.assert_array_equal(lazy.data[3], stack[3])
    np.testing.assert_array_equal(lazy.data[:, 4, 2:9], stack[:, 4, 2:9])
    np.testing.assert_array_equal(np.asarray(lazy.data), stack)


def test_a_slice_in_napari_reads_its_own_voxels_alone(
    lazy: Volume, stack: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every direction, dask must not read whole blocks for slices."""
    read = []
    original = FileVoxels.__getitem__

    def count(voxels: FileVoxels, key: Any) -> Array:
        found = original(voxels, key)
        read.append(found.size)
        return found

    monkeypatch.setattr(FileVoxels, "__getitem__", count)
    array = lazy.data.to_dask()
    for key in ((3,), (slice(None), 4), (slice(None), slice(None), 5)):
        read.clear()
        np.testing.assert_array_equal(np.asarray(array[key]), stack[key])
        assert sum(read) == stack[key].size


def test_a_time_point_is_read_alone(
    rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    series = (rng.random((3, 4, 5, 6)) * 255).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, series, imagej=True, metadata={"axes": "TZYX"})
    volume = io.read(path)
    np.testing.assert_array_equal(np.asarray(volume.take(time=1).data), series[1])


#: Code of a child process: read a file lazily, damage it, and continue reading.
_CHILD = """
    import os, sys
    import numpy as np
    import napari_geosr.io.formats.tiff.reading as tiff
    from napari_geosr import io
    from napari_geosr.core.errors import FileError
    tiff.EAGER_BYTES = 0
    volume = io.read(sys.argv[1])
    np.array(volume.data[0])
    os.truncate(sys.argv[1], 1_000_000)
    try:
        np.array(volume.data[-1])
    except FileError as error:
        print(error)
"""


def test_a_file_that_shrinks_does_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "big.tif"
    tifffile.imwrite(path, np.ones((40, 256, 256), np.uint16), photometric="minisblack")
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_CHILD), path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.returncode
    assert "big.tif was truncated while it was in use" in child.stdout


def test_a_file_that_is_written_over_is_no_longer_read(
    lazy: Volume, path: Path
) -> None:
    np.asarray(lazy.data[0])
    stat = path.stat()
    with path.open("r+b") as stream:
        stream.seek(-8, os.SEEK_END)
        stream.write(b"other")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    with pytest.raises(FileError, match="scan.tif was changed while it was in use"):
        np.asarray(lazy.data[1])


def test_a_file_that_is_touched_is_read_on(
    lazy: Volume, path: Path, stack: Array
) -> None:
    """Backups, and copying a file over itself, change only its time."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    np.testing.assert_array_equal(np.asarray(lazy.data), stack)


@pytest.mark.parametrize("place", [0.01, 0.3, 0.5, 0.7, 0.99])
def test_another_scan_in_the_same_file_is_noticed(tmp_path: Path, place: float) -> None:
    """A part is enough if it is at least a few per cent of the file."""
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(10**6))
    voxels = FileVoxels(path, "u1", 0, (1000, 1000))
    stat = path.stat()
    with path.open("r+b") as stream:
        stream.seek(int(place * 960_000))
        stream.write(b"\1" * 40_000)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    with pytest.raises(FileError, match="was changed while it was in use"):
        voxels[slice(0, 1), slice(0, 1)]


@pytest.mark.skipif(sys.platform == "win32", reason="an open file stays there")
@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_file_that_is_replaced_is_read_to_its_end(
    how: str, lazy: Volume, path: Path, stack: Array
) -> None:
    if how == "deleted":
        path.unlink()
    else:
        other = path.with_name("other.tif")
        tifffile.imwrite(other, stack[::-1], photometric="minisblack")
        other.replace(path)
    np.testing.assert_array_equal(np.asarray(lazy.data), stack)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_files_are_closed_when_nobody_reads_them(path: Path, stack: Array) -> None:
    def n_open() -> int:
        links = [p for p in Path("/proc/self/fd").iterdir() if p.is_symlink()]
        return sum(link.resolve() == path for link in links)

    voxels = FileVoxels(path, "u2", 0, (3, 4))
    other = voxels.reshape((12,))
    assert n_open() == 1
    del voxels
    assert n_open() == 1
    del other
    assert n_open() == 0
