"""Recorded processes are recognised, even if the clock of the computer was set."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from napari_geosr import io
from napari_geosr.core.machine import processes
from napari_geosr.core.machine.lock_files import LockFile, LockFileHeldError
from napari_geosr.io.unfinished_files import claims
from napari_geosr.io.unfinished_files.journal import Journal, read_journal
from napari_geosr.jobs import facts as job_facts

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="setting the clock changes no start times there"
)


def ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the clock an hour ahead: Linux then states a later start of the computer."""
    create_time = psutil.Process.create_time
    monkeypatch.setattr(
        psutil.Process, "create_time", lambda self: create_time(self) + 3600
    )


def test_a_process_is_recognised_after_the_clock_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid, facts = os.getpid(), processes.start_facts()
    started, since_boot = facts["started"], facts[processes.SINCE_BOOT]
    job = {"host": socket.gethostname(), "pid": pid, **facts}
    lock = LockFile(tmp_path / "a.lock")
    lock.acquire()
    spec = io.OutputSpec((4, 8, 8), "uint8", "ZYX", (1, 1, 1), "mm", (0, 0, 0))
    with io.create(tmp_path / "v.tif", spec) as output:
        Journal(output)
        ahead(monkeypatch)
        assert not processes.is_process_running(pid, started)
        assert processes.is_process_running(pid, started, since_boot)
        assert job_facts.is_alive(job, tmp_path)
        entry = read_journal(output.temporary)
        assert entry is not None
        assert entry.is_this_process
        place = claims.lock_of((tmp_path / "v.tif").resolve())
        assert claims._holder(place)[0] == pid
        assert not claims._has_holder_ended(place)
    with pytest.raises(LockFileHeldError):
        LockFile(lock.path).acquire()
    lock.release()


def test_another_process_of_the_same_number_is_not_mistaken() -> None:
    facts = processes.start_facts()
    pid, started = os.getpid(), facts["started"]
    boot, _, ticks = facts[processes.SINCE_BOOT].split()
    for other in (f"{boot} {pid} {int(ticks) - 1}", f"an-earlier-boot {pid} {ticks}"):
        assert not processes.is_process_running(pid, started, other)
    # Records of earlier releases, of another process, and damaged ones.
    for unknown in ("", None, 3, f"{boot} {pid + 1} {ticks}", "x"):
        assert processes.is_process_running(pid, started, unknown)
        assert not processes.is_process_running(pid, started - 60, unknown)


def test_the_start_of_a_child_is_known_and_ends() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    facts = processes.start_facts(child.pid)
    known = (child.pid, facts["started"], facts[processes.SINCE_BOOT])
    assert processes.is_process_running(*known)
    child.communicate(b"\n")
    assert not processes.is_process_running(*known)
