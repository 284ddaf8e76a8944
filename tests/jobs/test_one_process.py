"""Only one process works on a job, whatever is started twice."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from napari_geosr.cli.app import run
from napari_geosr.core.errors import FileError, JobError
from napari_geosr.core.machine import processes
from napari_geosr.core.steps import run_to_end
from napari_geosr.jobs import __main__ as jobs_main
from napari_geosr.jobs import index, local
from napari_geosr.jobs.cluster.reservation import submitting
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps

HOLD = (
    "import sys, time; from napari_geosr.jobs.folder import JobFolder\n"
    "with JobFolder(sys.argv[1]).hold(): print('held', flush=True); time.sleep(60)"
)
#: Like a killed process whose threads are still ending: it holds the lock, but the
#: record names a process that has ended.
OUTLIVE = (
    "import sys, time; from filelock import FileLock\n"
    "with FileLock(sys.argv[1]):\n"
    "    print('held', flush=True); time.sleep(float(sys.argv[2]))"
)


@contextmanager
def locked_by_another(job: JobFolder, seconds: float) -> Iterator[None]:
    """The lock of a job whose recorded process is dead is held for some seconds."""
    host = socket.gethostname()
    job.set_state("running", pid=os.getpid(), host=host, started=1.0)
    words = [sys.executable, "-c", OUTLIVE, str(job.path / "lock"), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.kill()


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    values = {"operation": "train", "method": "noise2noise", "training": {}}
    job = JobFolder.create(tmp_path / "job", values, name="foam")
    job.set_state("paused", done=3, total=9)
    return job


def facts(job: JobFolder) -> str:
    return (job.path / "job.json").read_text()


def process(job: JobFolder) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "napari_geosr.jobs", str(job.path)],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_job_that_is_held_is_refused_and_left_as_it_is(
    job: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = facts(job)
    with JobFolder(job.path).hold():
        second = process(job)
        assert run(["jobs", "resume", str(job.path)]) != 0
        error = capsys.readouterr().err
        assert "already running in another process" in error.lower()
        assert "Traceback" not in error
        with pytest.raises(JobError, match="running in another process"):
            local.start(job)
        with pytest.raises(JobError, match="running in another process"):
            run_to_end(run_steps(job))
        with pytest.raises(JobError, match="running in another process"):
            index.remove(job)
        _, error = second.communicate(timeout=300)
        assert second.returncode != 0
        assert "running in another process" in error
    assert facts(job) == before


def test_a_kill_lets_go(job: JobFolder) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(job.path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(JobError, match="running in another process"), job.hold():
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(120)
    with job.hold():
        pass


def test_the_lock_of_a_dead_process_is_waited_for(job: JobFolder) -> None:
    """A process counts as dead before the system has released its lock."""
    with locked_by_another(job, 1.0):
        assert job.status().state == "interrupted"
        with job.hold():
            job.claim("queued")
    assert job.status().state == "queued"


def test_a_lock_that_outlives_its_process_is_refused(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "_MAX_RELEASE", 0.5)
    with locked_by_another(job, 600.0):
        before = facts(job)
        assert run(["jobs", "resume", str(job.path)]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert f"process {os.getpid()} has ended" in error
        assert "running" not in error
        assert facts(job) == before


def test_a_process_that_took_over_is_not_waited_for(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process records itself while another one waits for the lock of the dead one."""
    monkeypatch.setattr(processes, "_MAX_RELEASE", 600.0)
    with locked_by_another(job, 600.0):
        started = processes.own_start_time()
        take_over = threading.Timer(
            0.5, job.set_state, ("running",), {"started": started}
        )
        take_over.start()
        with pytest.raises(JobError, match="running in another process"), job.hold():
            pass
        take_over.join()


def test_a_second_click_begins_nothing(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []
    real = subprocess.Popen

    def popen(_words: Any, **more: Any) -> Any:
        waits = [sys.executable, "-c", "import time; time.sleep(60)"]
        begun.append(real(waits, **more))
        return begun[-1]

    monkeypatch.setattr(local.subprocess, "Popen", popen)
    try:
        pid = local.start(job)
        assert (job.status().state, job.status().pid) == ("queued", pid)
        with pytest.raises(JobError, match="already queued"):
            local.start(job)
        assert len(begun) == 1
    finally:
        for child in begun:
            child.kill()
            child.wait()
    assert job.status().state == "interrupted"


def test_what_is_done_is_not_done_again(job: JobFolder) -> None:
    job.set_state("done", result="result/m")
    with pytest.raises(JobError, match="done"):
        run_to_end(run_steps(job))
    with pytest.raises(JobError, match="done"):
        local.start(job)
    assert job.status().state == "done"


def test_a_job_that_lives_elsewhere_is_not_taken(job: JobFolder) -> None:
    job.set_state("running", pid=12, host="node7", started=0.0)
    with pytest.raises(JobError, match="node7"):
        run_to_end(run_steps(job))
    assert job.status().host == "node7"


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_queue_replaces_a_process_that_was_lost_with_its_node(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch, is_alive: bool
) -> None:
    """Its last heartbeat is so recent that it still counts as alive."""
    with monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "node7")
        job.claim("running")
    assert job.status().host == "node7"
    monkeypatch.setattr(jobs_main, "_MAX_SILENCE", 0.7)
    if is_alive:
        monkeypatch.setattr(time, "sleep", lambda _: job.send_heartbeat())
    with job.hold():
        jobs_main._replace_lost_process(job, jobs_main._Asked())
        if is_alive:
            with pytest.raises(JobError, match="on node7"):
                job.claim("running")
        else:
            job.claim("running")
            assert job.status().host == socket.gethostname()


def test_the_lock_of_another_node_is_not_broken(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of another node is never looked up among those of this one."""
    other = JobFolder(job.path)
    with job.hold():
        with monkeypatch.context() as there:
            there.setattr(socket, "gethostname", lambda: "node7")
            job.claim("running")
        job.set_state("running", pid=2**22 + 1)
        with (
            pytest.raises(JobError, match=r"already running .* on node7"),
            other.hold(),
        ):
            pass


def test_a_cancel_just_after_the_turn_is_not_lost(job: JobFolder) -> None:
    with job.hold():
        job.claim("queued")
        job.request("cancel")
        job.claim("running")
        assert job.pending_request() == "cancel"


def test_what_was_asked_of_a_dead_process_is_forgotten(job: JobFolder) -> None:
    host = socket.gethostname()
    job.set_state("running", pid=os.getpid(), host=host, started=1.0)
    job.request("cancel")
    with job.hold():
        job.claim("queued")
    assert job.pending_request() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_waiting_job_obeys_sigterm(job: JobFolder) -> None:
    folder = index.index_folder()
    folder.mkdir(parents=True)
    with FileLock(local.turn_file()):
        waiting = process(job)
        deadline = time.monotonic() + 240
        while job.status().pid != waiting.pid:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        waiting.terminate()
        _, error = waiting.communicate(timeout=300)
    assert waiting.returncode == 0, error
    assert job.status().state == "paused"


#: Like a file system without locks, such as Lustre with ``noflock``.
KILLED_WITHOUT_LOCKS = """
import errno, fcntl, os, sys
def fail(*_): raise OSError(errno.ENOSYS, "no locks here")
fcntl.flock = fail
from napari_geosr.jobs.folder import JobFolder
job = JobFolder(sys.argv[1])
with job.hold():
    job.claim("running")
    os._exit(9)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no flock")
def test_without_locks_heartbeats_decide(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSYS, "no locks here")

    subprocess.run([sys.executable, "-c", KILLED_WITHOUT_LOCKS, job.path], check=False)
    assert job.status().state == "interrupted"
    monkeypatch.setattr(fcntl, "flock", fail)
    monkeypatch.setattr(os, "getppid", lambda: 0)
    with job.hold():
        job.claim("queued")
        job.claim("running")
    # Another process on this host, and one on another host, are alive.
    one = psutil.Process(os.getpid()).parents()[-1]
    here = {"pid": one.pid, "host": socket.gethostname(), "started": one.create_time()}
    for facts in (here, {"pid": 7, "host": "node7"}):
        job.set_state("running", **facts)
        with job.hold(), pytest.raises(JobError, match="is already running"):
            job.claim("running")
    # The only job that runs on this machine has its turn.
    index.register(job)
    second = JobFolder.create(job.path.parent / "b", job.values(), name="b")
    index.register(second)
    job.set_state("running", **here)
    answers = iter([False, True])
    with local.turn(second, lambda: next(answers)) as request:
        assert request == "pause"
    job.set_state("paused", pid=0)
    with local.turn(second) as request:
        assert request == ""
    for _ in range(2):
        with submitting(job):
            # Another command, at the same time.
            again = submitting(JobFolder(job.path))
            with pytest.raises(JobError, match="is being submitted"):
                again.__enter__()


def test_a_job_is_not_resumed_while_another_one_writes_its_output(
    job: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = str(job.path.parent / "clean.tif")
    scan = job.path.parent / "scan.tif"
    scan.write_bytes(b"")
    data = {"volume": str(scan)}
    values = {"operation": "restore", "name": "clean", "data": data, "out": clean}
    job.replace_values(values)
    other = JobFolder.create(job.path.parent / "b", job.values(), name="b")
    index.register(other)
    with pytest.raises(JobError, match="also writes"):
        local.start(job)
    assert run(["jobs", "resume", str(job.path)]) == 2
    assert "also writes" in capsys.readouterr().err
    assert (job.status().state, job.status().pid) == ("paused", 0)


def test_a_log_that_cannot_be_opened_changes_nothing(job: JobFolder) -> None:
    (job.path / "log.txt").mkdir()
    with pytest.raises(FileError, match="log.txt"):
        local.start(job)
    status = job.status()
    assert (status.state, status.pid, status.can_resume) == ("paused", 0, True)
