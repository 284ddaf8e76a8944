"""Files appear complete, even if other programs have them open or the power fails."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from napari_geosr.core.errors import FileError
from napari_geosr.io.unfinished_files import atomic, hidden


class Busy:
    """``os.replace`` that fails for some calls, as if another program had the file
    open.
    """

    def __init__(self, times: int) -> None:
        self.left, self.real = times, os.replace

    def __call__(self, old: Path, new: Path) -> None:
        if self.left:
            self.left -= 1
            raise PermissionError(13, "used by another process")
        self.real(old, new)


def test_a_file_that_is_open_for_a_moment_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    atomic.write_text(path, "old")
    busy = Busy(3)
    monkeypatch.setattr(os, "replace", busy)
    atomic.write_text(path, "new", overwrite=True)
    assert (path.read_text(), busy.left) == ("new", 0)


def test_a_file_that_stays_open_is_left_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    atomic.write_text(path, "old")
    monkeypatch.setattr(os, "replace", Busy(-1))
    began = time.monotonic()
    with pytest.raises(FileError, match="used by another process"):
        atomic.write_text(path, "new", overwrite=True)
    assert time.monotonic() - began > 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("is_folder", [False, True])
def test_the_disk_has_the_content_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_folder: bool
) -> None:
    done: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(number: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{number}") else "file"
        done.append(kind if os.path.exists("/proc/self/fd") else "")
        real_sync(number)

    def replace(old: Path, new: Path) -> None:
        done.append("replace")
        real_replace(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    with atomic.replacing(tmp_path / "a", overwrite=True) as temporary:
        if is_folder:
            temporary.mkdir()
            (temporary / "b").write_bytes(b"x")
        else:
            temporary.write_bytes(b"x")
    if os.path.exists("/proc/self/fd"):
        assert done == ["file", "replace", "folder"]
    else:
        assert done[1] == "replace"
    done.clear()
    atomic.write_text(tmp_path / "beat", "x", overwrite=True, durable=False)
    assert done == ["replace"]


def test_what_a_killed_process_left_of_a_set_is_removed(tmp_path, monkeypatch):
    """A file of a set is written under a temporary name derived from its temporary
    name.
    """
    report = tmp_path / "report.json"
    staged = hidden.temporary_sibling(report, ".json")
    nested = hidden.temporary_sibling(staged)
    other = hidden.temporary_sibling(hidden.temporary_sibling(tmp_path / "other.json"))
    for path in (staged, nested, other):
        path.write_text("{")
    monkeypatch.setattr(hidden.processes, "has_run_since", lambda *_: True)
    with atomic.replacing_all([report], overwrite=False) as made:
        made[report].write_text("{}")
    assert nested.exists()  # its process is still writing
    monkeypatch.setattr(hidden.processes, "has_run_since", lambda *_: False)
    with atomic.replacing_all([report], overwrite=True) as made:
        made[report].write_text("{}")
    assert sorted(tmp_path.iterdir()) == sorted([report, other])


def test_a_file_larger_than_allowed_is_no_matter_of_permissions(tmp_path):
    path = tmp_path / "out.tif"
    with (
        pytest.raises(FileError, match="exceed the maximum file size") as said,
        atomic.explained(path),
    ):
        raise OSError(errno.EFBIG, "File too large")
    assert "permissions" not in str(said.value)


def test_errors_name_the_folder_of_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError) as said, atomic.explained(Path("out.tif")):
        raise OSError(errno.EFBIG, "File too large")
    assert f"maximum file size in {tmp_path}. Choose" in str(said.value)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no such folder there")
def test_a_folder_without_a_disk_is_refused():
    with pytest.raises(FileError, match="no files can be created in /proc. Choose"):
        atomic.check_folder(Path("/proc/out.ome.zarr"), 1000)


def test_a_disk_of_unknown_size_is_used(tmp_path, monkeypatch):
    usage = SimpleNamespace(total=0, used=0, free=0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    atomic.check_folder(tmp_path / "out.ome.zarr", 1000)
    assert list(tmp_path.iterdir()) == []
