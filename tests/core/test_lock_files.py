"""Files that replace locks belong to one process, until that process has ended."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from napari_geosr.core.machine import lock_files
from napari_geosr.core.machine.lock_files import LockFile, LockFileHeldError

KILLED = """
import os, sys
from pathlib import Path
from napari_geosr.core.machine.lock_files import LockFile
LockFile(Path(sys.argv[1]), "job").acquire()
os._exit(9)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".study.owner.lock"


def left_by(path: Path, **facts: object) -> None:
    known = {"host": "node7", "pid": 7, "started": 1.0, "owner": ""}
    path.write_text(json.dumps(known | facts))


def test_one_process_holds_the_file(path: Path) -> None:
    first, second = LockFile(path), LockFile(path)
    first.acquire()
    with pytest.raises(LockFileHeldError):
        second.acquire()
    second.release()  # not its own
    assert path.exists()
    first.release()
    assert not path.exists()
    second.acquire()
    second.release()


def test_the_file_of_a_killed_process_is_replaced(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert path.exists()
    lock = LockFile(path)
    lock.acquire()
    lock.release()
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("content", [None, "{"])
def test_another_computer_counts_as_running_while_it_gives_signs_of_life(
    path: Path, content: str | None
) -> None:
    left_by(path)
    if content is not None:  # just created, or the disk was full
        path.write_text(content)
    lock = LockFile(path, "job")
    with pytest.raises(LockFileHeldError):
        lock.acquire()
    os.utime(path, (old := time.time() - 200, old))
    lock.acquire()
    lock.release()


def test_an_earlier_process_of_the_same_job_has_ended(path: Path) -> None:
    left_by(path, owner="job")
    with pytest.raises(LockFileHeldError):
        LockFile(path, "another job").acquire()
    LockFile(path, "job").acquire()


def test_a_file_that_was_just_replaced_is_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by(path)
    os.utime(path, (old := time.time() - 200, old))
    rename = os.rename

    def replaced_before(old: Path, new: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        left_by(path, pid=8)
        rename(old, new)

    monkeypatch.setattr(os, "rename", replaced_before)
    with pytest.raises(LockFileHeldError):
        LockFile(path).acquire()
    assert json.loads(path.read_text())["pid"] == 8
    assert list(path.parent.iterdir()) == [path]


def test_the_file_of_a_third_process_is_never_replaced(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by(path)
    os.utime(path, (old := time.time() - 200, old))
    rename = os.rename

    def replaced_twice(old: Path, new: Path) -> None:
        monkeypatch.setattr(os, "rename", rename)
        left_by(path, pid=8)
        rename(old, new)
        left_by(path, pid=9)

    monkeypatch.setattr(os, "rename", replaced_twice)
    with pytest.raises(LockFileHeldError):
        LockFile(path).acquire()
    assert json.loads(path.read_text())["pid"] == 9
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_no_empty_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, mode: str) -> None:
        os.close(descriptor)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "fdopen", full)
        with pytest.raises(OSError, match="No space left"):
            LockFile(path).acquire()
    lock = LockFile(path)
    lock.acquire()
    lock.release()


def test_the_file_shows_signs_of_life(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_files, "_BEAT_SECONDS", 0.01)
    lock = LockFile(path)
    lock.acquire()
    os.utime(path, (0, 0))
    end = time.monotonic() + 60
    while path.stat().st_mtime == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
    lock.release()
