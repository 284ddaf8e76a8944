"""Jobs of one machine run one after the other, independently of other machines."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from filelock import FileLock

from napari_geosr.jobs import index, local
from napari_geosr.jobs.folder import JobFolder


def make(folder: Path, name: str, created: float, host: str) -> JobFolder:
    job = JobFolder.create(folder / name, {"operation": "train"}, name=name)
    job.set_state("queued", created=created, pid=1, host=host)
    index.register(job)
    return job


@pytest.fixture
def mine(tmp_path: Path) -> JobFolder:
    return make(tmp_path, "mine", 100.0, socket.gethostname())


def gets_its_turn(job: JobFolder) -> bool:
    checks = iter([False] * 10)
    with local.turn(job, lambda: next(checks, True)) as wish:
        return wish == ""


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_WAIT_SECONDS", 0.02)


def test_who_waits_on_another_machine_is_not_waited_for(
    mine: JobFolder, tmp_path: Path
) -> None:
    make(tmp_path, "theirs", 1.0, "node7")
    assert gets_its_turn(mine)


def test_who_runs_on_another_machine_is_not_waited_for(
    mine: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "node 7/b")
        theirs = local.turn_file()
    theirs.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(theirs):
        assert gets_its_turn(mine)
    with FileLock(local.turn_file()):
        assert not gets_its_turn(mine)


def test_processes_that_train_together_do_not_wait(
    mine: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FileLock(local.turn_file()):
        assert not gets_its_turn(mine)
        monkeypatch.setenv("WORLD_SIZE", "2")
        assert gets_its_turn(mine)
