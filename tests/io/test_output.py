"""Files appear completely or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, ConfigError, FileError, VolumeError

SUFFIXES = [".tif", ".ome.tif", ".ome.zarr"]
_SPEC: dict[str, Any] = {
    "shape": (6, 20, 30),
    "dtype": "float32",
    "axes": "ZYX",
    "voxel_size": (1, 2, 3),
    "unit": "mm",
    "origin": (0, 0, 0),
}


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_filled_in_any_order(
    suffix: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    voxels = rng.random((6, 20, 30), dtype=np.float32)
    path = tmp_path / f"out{suffix}"
    with io.create(path, io.OutputSpec(**_SPEC, provenance=[{"step": 1}])) as output:
        assert output.array.shape == voxels.shape
        for z in (4, 0, 2):
            for y in (15, 0, 5, 10):
                key = np.s_[z : z + 2, y : y + 5, 0:30]
                output.array[key] = voxels[key]
        assert not path.exists()
        np.testing.assert_array_equal(
            output.array[3:5, 2:4, 5:9], voxels[3:5, 2:4, 5:9]
        )
        output.provenance = ({"step": 1}, {"model": "m" * 3000})
    back = io.read(path)
    np.testing.assert_array_equal(np.asarray(back.data), voxels)
    assert back.provenance == ({"step": 1}, {"model": "m" * 3000})
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_failure_leaves_nothing_and_keeps_the_old(
    suffix: str, error: type[BaseException], tmp_path: Path, make_volume: Any
) -> None:
    old = make_volume((6, 20, 30), dtype="float32")
    path = io.write(old, tmp_path / f"out{suffix}")

    def fail() -> None:
        with io.create(path, io.OutputSpec(**_SPEC), overwrite=True) as output:
            output.array[0] = 1
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == [path.name]
    np.testing.assert_array_equal(np.asarray(io.read(path).data), old.data)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("fails", [True, False])
def test_incomplete_is_kept_when_asked(
    suffix: str, fails: bool, tmp_path: Path
) -> None:
    path = tmp_path / f"out{suffix}"

    def run() -> None:
        with io.create(path, io.OutputSpec(**_SPEC)) as output:
            output.array[0:2, :15] = 7
            output.blank([(slice(0, 2), slice(0, 15), slice(0, 30))])
            output.provenance = ({"complete": False},)
            assert output.keep_incomplete() == tmp_path / f"out.incomplete{suffix}"
            if fails:
                raise InterruptedError

    if fails:
        with pytest.raises((InterruptedError, FileError)):
            run()
    else:
        run()
    assert names(tmp_path) == [f"out.incomplete{suffix}"]
    back = io.read(tmp_path / f"out.incomplete{suffix}")
    data = np.asarray(back.data)
    assert np.all(data[:2, :15] == 7)
    assert np.isnan(data).sum() == data.size - 2 * 15 * 30
    assert back.provenance == ({"complete": False},)
    assert back.voxel_size == (1, 2, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_output_is_not_replaced(
    suffix: str, tmp_path: Path, make_volume: Any
) -> None:
    volume = make_volume()
    path = io.write(volume, tmp_path / f"out{suffix}")
    with pytest.raises(FileError, match=r"exists already.*--overwrite"):
        io.write(volume, path)
    with pytest.raises(FileError, match="exists already"):
        io.check_output(path, overwrite=False)
    changed = volume.replace(data=np.asarray(volume.data) + 1)
    io.write(changed, path, overwrite=True)
    np.testing.assert_array_equal(np.asarray(io.read(path).data), changed.data)
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_target_that_appears_meanwhile_is_not_replaced(
    suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"out{suffix}"

    def run() -> None:
        with io.create(path, io.OutputSpec(**_SPEC)) as output:
            output.array[...] = 1
            path.write_text("someone else's")

    with pytest.raises(FileError, match=rf"exists already.*kept as out\.2\{suffix}"):
        run()
    assert path.read_text() == "someone else's"
    kept = tmp_path / f"out.2{suffix}"
    assert names(tmp_path) == sorted([path.name, kept.name])
    assert (np.asarray(io.read(kept).data) == 1).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_little_disk_space_is_told_before(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 5000, 5000)
    )
    with (
        pytest.raises(FileError, match=r"needs 14\.4 kB.*has 5 kB left"),
        io.create(tmp_path / f"out{suffix}", io.OutputSpec(**_SPEC)),
    ):
        pytest.fail("must not start")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "disk.*full"), (errno.EDQUOT, "your quota.*used up")],
)
def test_disk_full_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    import zarr

    def full(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    def run() -> None:
        with io.create(tmp_path / "out.ome.zarr", io.OutputSpec(**_SPEC)) as output:
            monkeypatch.setattr(zarr.Array, "__setitem__", full)
            output.array[...] = 1

    with pytest.raises(FileError, match=rf"out\.ome\.zarr.*{said}"):
        run()
    assert names(tmp_path) == []


def test_disk_full_when_the_tiff_is_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with (
        pytest.raises(FileError, match="disk.*full"),
        io.create(tmp_path / "out.tif", io.OutputSpec(**_SPEC)),
    ):
        pytest.fail("must not start")
    assert names(tmp_path) == []


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_killed_before_the_rename_leaves_the_old_file(
    suffix: str, tmp_path: Path, make_volume: Any
) -> None:
    old = make_volume((4, 5, 6))
    path = io.write(old, tmp_path / f"out{suffix}")
    code = f"""
import os
from napari_geosr import io
import napari_geosr.io.writing as writing
writing.move_into_place = lambda *args: os._exit(9)
volume = io.read({str(path)!r})
volume = volume.replace(data=volume.data[:] * 0, source=None)
io.write(volume, {str(path)!r}, overwrite=True)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == 9
    np.testing.assert_array_equal(np.asarray(io.read(path).data), old.data)
    (left,) = tmp_path.glob(".*.partial*")
    unknown = tmp_path / f".out.0123abcd.partial{suffix}"  # of an earlier release
    unknown.touch()
    with io.create(path, io.OutputSpec(**_SPEC), overwrite=True) as output:
        assert not left.exists()
        assert unknown.name in output.note
        assert "Delete them" in output.note
    io.write(old, tmp_path / f"out.of{suffix}")
    with io.create(
        tmp_path / f"out.of{suffix}", io.OutputSpec(**_SPEC), overwrite=True
    ) as output:
        assert output.note == ""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xyz", "does not have a supported suffix"),
        ("a", "does not have a supported suffix"),
        ("missing/deep/a.tif", r"folder \S*missing.deep does not exist\. Create it"),
    ],
)
def test_impossible_outputs(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=message):
        io.check_output(tmp_path / name)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FileError, match="not writable"):
            io.check_output(tmp_path / "a.tif")
    finally:
        tmp_path.chmod(0o700)


def test_contradictions_are_told_before(tmp_path: Path) -> None:
    for change in ({"axes": "YX"}, {"voxel_size": (1, 0, 1)}, {"shape": (0, 2, 3)}):
        with (
            pytest.raises(VolumeError),
            io.create(tmp_path / "a.tif", io.OutputSpec(**_SPEC | change)),
        ):
            pytest.fail("must not start")
    with (
        pytest.raises(VolumeError, match="provenance"),
        io.create(
            tmp_path / "a.tif", io.OutputSpec(**_SPEC, provenance=[{"a": object()}])
        ),
    ):
        pytest.fail("must not start")
    assert names(tmp_path) == []


def test_a_volume_is_not_written_over_itself(
    tmp_path: Path, make_volume: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_geosr.io.formats.tiff.reading.EAGER_BYTES", 0)
    path = io.write(make_volume(), tmp_path / "a.tif")
    with pytest.raises(ConfigError, match="different file name"):
        io.write(io.read(path), path, overwrite=True)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_writing_can_be_stopped(suffix: str, tmp_path: Path, make_volume: Any) -> None:
    path = io.write(make_volume(), tmp_path / f"old{suffix}")
    before = np.asarray(io.read(path).data)
    with pytest.raises(Cancelled):
        io.write(make_volume(), path, overwrite=True, should_stop=lambda: True)
    assert names(tmp_path) == [path.name]
    np.testing.assert_array_equal(np.asarray(io.read(path).data), before)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.every(3)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_streaming_takes_little_memory(suffix: str, tmp_path: Path) -> None:
    code = f"""
import numpy as np
from napari_geosr import io
def peak():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(s.split()[1] for s in lines if s.startswith("VmHWM"))) // 1024
def fill(name, depth):
    place = dict(axes="ZYX", voxel_size=(1, 1, 1), unit="mm", origin=(0, 0, 0))
    shape = (depth, 768, 768)
    path = {str(tmp_path)!r} + name
    with io.create(path, io.OutputSpec(shape=shape, dtype="u1", **place)) as out:
        for z in range(0, depth, 8):
            out.array[z : z + 8] = z
    return io.read(path)
fill("/warm{suffix}", 8)
before = peak()
volume = fill("/a{suffix}", 256)
io.write(volume, {str(tmp_path)!r} + "/b{suffix}")
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 110  # MB, for a file of 151 MB
