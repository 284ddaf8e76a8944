"""A computer with a wrong clock does not take running work for abandoned."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from napari_geosr.core.machine import file_clock
from napari_geosr.core.machine.lock_files import LockFile, LockFileHeldError
from napari_geosr.io.unfinished_files.journal import JournalEntry, journal_of
from napari_geosr.jobs.folder import JobFolder


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shared folder, seen from a computer with a clock that is an hour ahead."""
    before = time.time
    monkeypatch.setattr(time, "time", lambda: before() + 3600)
    monkeypatch.setattr(file_clock, "_queried", {})
    return tmp_path


def test_work_of_other_computers_is_running(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"host": "node7", "pid": 7}
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    job = JobFolder.create(shared / "job", values, name="foam")
    with monkeypatch.context() as there:
        ahead = time.time
        there.setattr(time, "time", lambda: ahead() - 3600)
        job.set_state("running", **other)
    assert job.status().state == "running"
    assert not list(job.path.glob("tmp*"))

    part = shared / "part"
    journal_of(part).touch()
    entry = JournalEntry(part, (), {}, {}, 7, 1.0, "node7")
    assert entry.is_running

    lock = shared / "a.lock"
    lock.write_text(json.dumps({**other, "started": 1.0, "owner": ""}))
    with pytest.raises(LockFileHeldError):
        LockFile(lock).acquire()


def test_after_a_real_silence_it_is_not(shared: Path) -> None:
    now = time.time() - 3600
    assert abs(file_clock.file_system_time(shared) - now) < 60
    assert not file_clock.is_older(now - 100, 180, shared)
    assert file_clock.is_older(now - 300, 180, shared)
    # Without a folder to write to, only the clock of this computer is known.
    assert file_clock.is_older(now - 100, 180, shared / "missing")
