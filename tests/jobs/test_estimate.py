"""An abandoned estimate ends; one made during another training run reports this."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from napari_geosr.core.steps import Step, TrainingProgress, run_to_end
from napari_geosr.jobs import estimate, index, run
from napari_geosr.jobs.folder import JobFolder

VALUES = {"operation": "train", "method": "noise2noise", "training": {}}
#: A job whose first step never ends, so that it handles no request.
STUCK = """
import sys, time
from napari_geosr.jobs import estimate, run
def operation(*_):
    print("begun", flush=True)
    time.sleep(100)
    yield
run._operation = operation
estimate._CHECK_INTERVAL = estimate._GRACE_PERIOD = 0.1
estimate._MAX_LIFETIME = float(sys.argv[3])
estimate.main(sys.argv[1], int(sys.argv[2]))
"""
#: Starts one, instead of napari.
PARENT = """
import os, subprocess, sys
words = [sys.executable, "-c", sys.argv[1], sys.argv[2], str(os.getpid()), "100"]
print(subprocess.Popen(words).pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder.create(tmp_path / "job", VALUES, name="estimate")


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + 90  # it would sleep longer
    with suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_an_estimate_ends_with_the_process_that_wants_it(job: JobFolder) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, STUCK, str(job.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert parent.stdout.readline() == "begun\n"
        assert psutil.pid_exists(pid)
        parent.kill()
        parent.wait(60)
        wait_for_end(pid)


def test_an_estimate_ends_after_its_time(job: JobFolder) -> None:
    words = [sys.executable, "-c", STUCK, str(job.path), str(os.getpid()), "3"]
    child = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert child.returncode == 1
    assert child.stdout == b"begun\n"


def test_a_parent_that_is_gone_already_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(estimate._ParentWatch, "_watch", lambda _self: None)
    assert estimate._ParentWatch(2**22 + 1)()
    assert not estimate._ParentWatch(os.getpid())()


def test_it_says_what_trains_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = socket.gethostname()
    places = {"foam": host, "far": "node7", "done": host}
    for name, where in places.items():
        other = JobFolder.create(tmp_path / name, VALUES, name=name)
        index.register(other)
        started = psutil.Process().create_time()
        state: Any = "done" if name == "done" else "running"
        other.set_state(state, pid=os.getpid(), host=where, started=started)

    def training() -> Generator[Step, None, None]:
        for step in range(1, 9):
            yield TrainingProgress(step, 8, memory=1)

    def begin(words: Any, **_: Any) -> subprocess.Popen[bytes]:
        for step in training():
            run._record_step(JobFolder(words[-2]), step)
        return real([sys.executable, "-c", ""])

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", begin)
    found = run_to_end(estimate.estimate_steps(VALUES))
    assert found.concurrent == ("foam",)
