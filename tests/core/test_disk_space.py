"""Memory-mapped files have disk space before they are written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from napari_geosr.core.array_parts import packed_mask
from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.errors import FileError
from napari_geosr.core.machine.disk_space import (
    fill_space,
    is_in_memory,
    reserve_space,
)

linux = pytest.mark.skipif(
    not hasattr(os, "posix_fallocate"), reason="space cannot be reserved here"
)
SIZE = 10_000_000


def n_stored(path: Path) -> int:
    return 512 * path.stat().st_blocks


@linux
def test_space_is_reserved_and_content_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"head")
    with path.open("r+b") as stream:
        assert reserve_space(stream, SIZE)
    assert path.stat().st_size == SIZE <= n_stored(path)
    assert path.read_bytes()[:6] == b"head\0\0"


@pytest.mark.parametrize("code", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_zeros_are_written_where_space_cannot_be_reserved(
    code: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, "not supported")

    if code is None:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    path = tmp_path / "a"
    with path.open("w+b") as stream:
        stream.write(b"head")
        assert not reserve_space(stream, SIZE)
        fill_space(stream, SIZE, 4)
    assert path.stat().st_size == SIZE
    assert path.read_bytes() == b"head" + bytes(SIZE - 4)
    if os.name == "posix":
        assert n_stored(path) >= SIZE


def partitions(**kinds: str) -> Any:
    rows = [("/", kinds.pop("root", "ext4"))]
    rows += [(f"/{name}", kind) for name, kind in kinds.items()]
    made = [SimpleNamespace(mountpoint=m, fstype=f) for m, f in rows]
    return lambda *, all: made  # noqa: A006


@pytest.mark.skipif(os.name != "posix", reason="paths of POSIX systems")
@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ({"geosr": "tmpfs"}, True),
        ({"geosr": "ext4", "root": "tmpfs"}, False),
        ({"geosr2": "tmpfs"}, False),
        ({"root": "ramfs"}, True),
    ],
)
def test_folders_in_memory(
    kinds: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", partitions(**kinds))
    assert is_in_memory(Path("/geosr/a/b")) == expected


def test_a_large_mask_counts_as_memory_if_temporary_files_are_kept_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed_mask, "MOST_BYTES_IN_MEMORY", 99)
    monkeypatch.setattr(packed_mask, "is_in_memory", lambda folder: str(folder) == "/m")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/m")
    assert PackedMask((10, 10, 8)).nbytes == 100
    monkeypatch.undo()
    monkeypatch.setattr(packed_mask, "MOST_BYTES_IN_MEMORY", 99)
    monkeypatch.setattr(packed_mask, "is_in_memory", lambda _: False)
    assert PackedMask((10, 10, 8)).nbytes == 0


def test_a_full_folder_for_temporary_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packed_mask, "MOST_BYTES_IN_MEMORY", 99)
    monkeypatch.setattr(packed_mask, "is_in_memory", lambda _: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(packed_mask, "fill_space", full)
    with pytest.raises(FileError) as raised:
        PackedMask((1000, 1000, 80))
    message = str(raised.value)
    assert "10 MB" in message
    assert f"{tmp_path}: No space left on device" in message
    assert "TMPDIR" in message
    assert not list(tmp_path.iterdir())


#: Fills a large mask although no file may be larger than a few kB.
_LIMITED = """
import resource
import numpy as np
from napari_geosr.core.array_parts import packed_mask
from napari_geosr.core.errors import FileError

packed_mask.MOST_BYTES_IN_MEMORY = 99
packed_mask.is_in_memory = lambda _: False
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    mask = packed_mask.PackedMask((64, 64, 64))
except FileError as error:
    print(error)
else:
    mask.write(0, np.ones((64, 64, 64), bool))
"""


@linux
def test_a_limit_on_the_size_of_files_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED],
        capture_output=True, text=True, check=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert f"cannot be created in {tmp_path}: File too large" in done.stdout


def test_a_npy_file_is_removed_if_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.io import mapping

    path = tmp_path / "a.npy"
    array = mapping.create_npy(path, np.float32, (100, 1000))
    array[:] = 1
    array.flush()
    del array
    np.testing.assert_array_equal(np.load(path), np.ones((100, 1000), np.float32))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mapping, "fill_space", full)
    with pytest.raises(OSError, match="No space left"):
        mapping.create_npy(path, np.float32, (100, 1000))
    assert not path.exists()


@pytest.mark.parametrize("reserved", [True, False])
def test_a_npy_file_has_disk_space(
    reserved: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_geosr.io.mapping import create_npy

    if not reserved:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    path = tmp_path / "a.npy"
    array = create_npy(path, np.float32, (100, 10_000))
    assert not array.any()
    assert array.dtype == np.float32
    if os.name == "posix":
        assert n_stored(path) >= array.nbytes
