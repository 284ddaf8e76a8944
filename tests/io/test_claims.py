"""Two runs never write to the same output, and a killed run blocks none."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.claims import (
    FileInUseError,
    claimed,
    lock_of,
    refuse_claimed,
)

SPEC: dict[str, Any] = {
    "shape": (4, 30, 31),
    "dtype": "float32",
    "axes": "ZYX",
    "voxel_size": (1, 2, 3),
    "unit": "mm",
    "origin": (0, 0, 0),
}
_HOLDER = """
import sys, time
from pathlib import Path
from napari_geosr.io.unfinished_files.claims import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that claims `path` until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_another_process_is_refused_and_named(tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    with other_process(path) as process:
        for refused in (
            lambda: io.check_output(path),
            lambda: io.check_output(path, overwrite=True, continues=True),
            lambda: io.write(Volume(np.zeros((4, 5)), "YX"), path),
        ):
            with pytest.raises(FileInUseError, match="still writing") as caught:
                refused()
            if os.name != "nt":
                assert f"process {process.pid} on" in str(caught.value)
        io.check_output(tmp_path / "other.tif")
    io.check_output(path)
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.tif"
    with other_process(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert names(tmp_path) == []
        io.write(Volume(np.zeros((4, 5)), "YX"), path)
    assert names(tmp_path) == ["out.tif"]


def test_the_claim_of_a_dead_process_is_waited_for(tmp_path: Path) -> None:
    """A process counts as dead before the system has released its lock."""
    path = tmp_path / "out.tif"
    place = lock_of(path)
    with other_process(path) as process:
        own = {"pid": process.pid, "host": socket.gethostname(), "started": 1.0}
        place.write_text(json.dumps(own))  # another process had this number before
        assert process.stdin is not None
        release = threading.Timer(1.0, process.stdin.close)
        release.start()
        refuse_claimed(path)
        release.join()


def test_another_thread_is_refused_and_the_same_one_is_not(tmp_path: Path) -> None:
    """For example, two docks of one napari."""
    path = tmp_path / "out.tif"
    found: list[str] = []

    def claim() -> None:
        try:
            refuse_claimed(path)
        except FileInUseError as error:
            found.append(str(error))

    with claimed(path):
        with claimed(tmp_path / "." / "out.tif"):
            thread = threading.Thread(target=claim)
            thread.start()
            thread.join()
        assert names(tmp_path) == []
        refuse_claimed(path)
    thread = threading.Thread(target=claim)
    thread.start()
    thread.join()
    assert len(found) == 1
    assert f"process {os.getpid()}" in found[0]
    assert names(tmp_path) == []


def test_where_nothing_can_be_locked_runs_go_on(tmp_path, monkeypatch) -> None:
    """Then only the journal shows whether another run is writing."""
    fcntl = pytest.importorskip("fcntl")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSYS, "no locks here")

    path = tmp_path / "out.tif"
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", fail)
        with claimed(path):
            pass
    assert names(tmp_path) == []
    refuse_claimed(path)


def test_files_of_others_are_neither_read_nor_changed(tmp_path: Path) -> None:
    path, mine = tmp_path / "out.tif", tmp_path / ".out.tif.lock"
    mine.write_text("mine")
    refuse_claimed(path)
    assert mine.read_text() == "mine"


def test_a_file_is_claimed_while_it_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "out.ome.zarr"
    found: list[bool] = []

    def claim() -> None:
        try:
            io.check_output(path)
        except FileInUseError:
            found.append(True)

    with io.create(path, io.OutputSpec(**SPEC)) as output:
        output.array[...] = 1
        thread = threading.Thread(target=claim)
        thread.start()
        thread.join()
    assert found
    assert names(tmp_path) == ["out.ome.zarr"]


def test_a_link_without_a_target_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "out.tif"
    link.symlink_to(tmp_path / "elsewhere.tif")
    for overwrite in (False, True):
        with pytest.raises(FileError, match=r"link to .*elsewhere.tif, which does"):
            io.check_output(link, overwrite)
    assert link.is_symlink()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(FileError, match="no files can be created in /proc"):
        io.check_output("/proc/x.tif")


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr"])
def test_a_folder_that_is_removed_is_said_in_a_sentence(
    tmp_path: Path, suffix: str
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    path = folder / f"out{suffix}"

    def fill() -> None:
        with io.create(path, io.OutputSpec(**SPEC)) as output:
            output.array[:2] = 1
            output.flush_to_disk()
            folder.rename(tmp_path / "moved")
            output.array[2:] = 1
            output.provenance = ({"complete": True},)

    said = rf"out{suffix}.*removed.*(while it was being written|before it was complete)"
    with pytest.raises(FileError, match=said):
        fill()


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
@pytest.mark.parametrize("when", ["before the last block", "at the end", "stopped"])
def test_an_unfinished_file_that_is_truncated_is_said_in_a_sentence(
    tmp_path: Path, suffix: str, when: str
) -> None:
    path = tmp_path / f"out{suffix}"

    def fill() -> None:
        with io.create(path, io.OutputSpec(**SPEC)) as output:
            output.array[:2] = 1
            if when == "at the end":
                output.array[2:] = 1
            os.truncate(output.temporary, 1000)
            if when == "before the last block":
                output.array[2:] = 1
            if when == "stopped":
                output.blank([(slice(0, 2), slice(0, 30), slice(0, 31))])
                output.keep_incomplete()
            output.provenance = ({"complete": True},)

    with pytest.raises(FileError, match=rf"out{suffix} was truncated by another"):
        fill()
    assert names(tmp_path) == []
