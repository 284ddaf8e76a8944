"""How jobs in queues end: stopped by the user, ended by the queue, killed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from queue_helpers import Cluster, submit, wait_for

from napari_geosr.cli.app import run
from napari_geosr.cli.jobs import manage
from napari_geosr.cli.jobs.listing import explanations, table
from napari_geosr.cli.submit import command as submit_command
from napari_geosr.core.errors import FileError, GeoSRError, JobError, UnansweredError
from napari_geosr.core.steps import Step, run_to_end
from napari_geosr.jobs import __main__ as process
from napari_geosr.jobs import feasibility, index
from napari_geosr.jobs import run as run_module
from napari_geosr.jobs import status as status_module
from napari_geosr.jobs.cluster import queries, queue_record, submission, torchrun
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.cluster.reservation import check_no_other_writer
from napari_geosr.jobs.facts import RUN, recorded
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import describe_state
from napari_geosr.jobs.queues import slurm as slurm_queue
from napari_geosr.jobs.run import run_steps
from napari_geosr.jobs.status import main_reason, reasons, stopping_text


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    """A job that was submitted to SLURM as number 12."""
    values = {"operation": "restore", "method": "tv", "name": "job"}
    made = JobFolder.create(tmp_path / "job", values, name="job")
    record = QueueRecord("slurm", "SLURM", "12", profile={})
    queue_record.write_record(made.path, record)
    return made


def queue_says(job: JobFolder, words: str) -> None:
    queue_record.write_state(job.path, "ended", words, job.status().updated)


#: States that the files of a job may contain when its queue has ended it: it was
#: waiting, its process was killed, or it was still able to save its work.
MOMENTS = ("queued", "running", "paused", "interrupted")


@pytest.mark.parametrize(
    ("words", "state"),
    [
        *itertools.product(("cancelled", "ended"), MOMENTS),
        # Without an answer of the queue, a waiting job may still start.
        ("", "paused"),
        ("", "interrupted"),
    ],
)
def test_a_stopped_job_is_cancelled_whatever_the_moment(
    job: JobFolder, state: Any, words: str
) -> None:
    job.set_state(state, pid=2**30 if state == "running" else 0, host="")
    job.request("cancel")
    if words:
        queue_says(job, words)
    assert job.status().state == "cancelled"
    assert job.status().message == ""


@pytest.mark.parametrize("request_", ["cancel", "pause"])
def test_a_job_without_a_number_is_stopped_and_resumed(
    job: JobFolder, slurm_says: Any, monkeypatch: pytest.MonkeyPatch, request_: Any
) -> None:
    """The queue may have taken it, but has not printed its number."""
    record = queue_record.read_record(job.path)
    queue_record.write_record(job.path, dataclasses.replace(record, number=""))
    slurm = slurm_says("PENDING")
    monkeypatch.setattr(feasibility, "check_steps", lambda *_: (_ for _ in ()))
    monkeypatch.setattr(manage, "read_job", lambda *_: (None, None))
    if request_ == "cancel":
        assert run(["jobs", "stop", str(job.path)]) == 0
        assert recorded(job.path)[1] == "cancelled"
        assert job.pending_request() == ""
        # The queue starts it after all.
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        assert process._run_in_queue(job, process._Asked()) == 0
        assert job.status().state == "cancelled"
    else:  # by an earlier version, which waited for a process
        job.request("pause")
    assert run(["jobs", "resume", str(job.path)]) == 0
    assert slurm.commands == ["sbatch"]
    status = job.status()
    assert (status.state, status.request, status.queue.number) == ("queued", "", "13")


@pytest.mark.parametrize("state", ["queued", "paused"])
def test_a_job_in_a_queue_is_not_removed(
    job: JobFolder, slurm_says: Any, capsys: Any, state: Any
) -> None:
    job.set_state(state, pid=0, host="")
    slurm_says("PENDING" if state == "queued" else "COMPLETING")
    assert run(["jobs", "remove", str(job.path)]) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert "cannot be removed" in text
    assert "napari-geosr jobs stop" in text
    assert job.path.is_dir()
    slurm_says("CANCELLED")
    assert run(["jobs", "remove", str(job.path)]) == 0
    assert not job.path.exists()


class FakeSlurm:
    """Answers ``squeue`` with one state of job 12, and records the other commands.

    The state may be followed by "|" and its reason.
    """

    def __init__(self, state: str) -> None:
        self.state = state
        self.commands: list[str] = []

    def __call__(self, words: list[str], **_: Any) -> str:
        if words[0] == "squeue":
            state = self.state if "|" in self.state else f"{self.state}|None"
            return f"12|{state}"
        self.commands.append(words[0])
        return "13"


@pytest.fixture
def slurm_says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], FakeSlurm]:
    """Make SLURM answer with a state."""

    def say(state: str) -> FakeSlurm:
        fake = FakeSlurm(state)
        monkeypatch.setattr(slurm_queue, "call", fake)
        monkeypatch.setattr(queries, "_FRESH_SECONDS", 0.0)
        return fake

    return say


#: What SLURM says after the last process of a job, until it has ended the job.
UNFINISHED = ("RUNNING", "COMPLETING", "SUSPENDED", "PENDING")


@pytest.mark.parametrize("said", UNFINISHED)
@pytest.mark.parametrize("state", ["paused", "interrupted"])
def test_a_job_that_its_queue_has_not_ended_can_be_stopped(
    job: JobFolder,
    slurm_says: Any,
    monkeypatch: pytest.MonkeyPatch,
    state: Any,
    said: str,
) -> None:
    """The queue may start it again; it is then not submitted a second time."""
    job.set_state(state, pid=0, host="")
    slurm = slurm_says(said)
    with pytest.raises(JobError, match="jobs stop"):
        submission.submit(job, Profile(queue="slurm"))
    assert slurm.commands == []
    submission.stop(job)
    assert slurm.commands == ["scancel"]
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert submission.was_stopped(job) or job.pending_request() == "cancel"
    slurm_says("CANCELLED")
    queries.refresh([job.status()])
    assert job.status().state == "cancelled"
    with pytest.raises(JobError, match="has ended"):
        submission.stop(job)
    assert submission.submit(job, Profile(queue="slurm")) == "13"


def test_a_recent_answer_does_not_hold_for_a_job_that_has_stopped_since(
    job: JobFolder, slurm_says: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = slurm_says("RUNNING")
    monkeypatch.setattr(queries, "_FRESH_SECONDS", 60.0)
    job.set_state("running", pid=1, host="elsewhere")
    queries.refresh([job.status()])
    job.set_state("paused")
    submission.stop(job)
    assert slurm.commands == ["scancel"]


def test_a_job_that_is_stopped_at_its_walltime_is_not_resubmitted(
    job: JobFolder,
) -> None:
    job.set_state("paused", pid=0)
    job.request("cancel")
    assert not submission.note_walltime(job, 7000.0)
    assert recorded(job.path)[1] == "cancelled"
    assert job.pending_request() == ""


@pytest.mark.parametrize("state", ["paused", "interrupted"])
def test_a_job_is_watched_until_its_queue_has_ended_it(
    job: JobFolder, slurm_says: Any, monkeypatch: pytest.MonkeyPatch, state: Any
) -> None:
    """At the walltime of a training with torchrun, and when it is requeued."""
    moments = [
        lambda: job.set_state(state, pid=0, host=""),
        lambda: slurm_says("PENDING"),
        # An interrupted job may not be found for a moment.
        lambda: slurm_says("" if state == "interrupted" else "PENDING"),
        lambda: slurm_says("RUNNING"),
        lambda: job.set_state("running", pid=os.getpid(), host=socket.gethostname()),
        lambda: job.set_state("done"),
    ]
    slurm_says("COMPLETING")
    job.set_state("running", pid=os.getpid(), host=socket.gethostname())
    monkeypatch.setattr(manage, "_QUEUE_SECONDS", 0.0)
    monkeypatch.setattr(manage.time, "sleep", lambda _: moments.pop(0)())
    assert run(["jobs", "watch", str(job.path), "--json"]) == 0
    assert moments == []
    assert job.status().state == "done"


def test_a_job_that_is_stopped_while_it_is_submitted_is_cancelled_in_the_queue(
    job: JobFolder, slurm_says: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = slurm_says("CANCELLED")
    job.set_state("paused")

    def submit(_self: Any, _folder: Path) -> str:
        submission.stop(JobFolder(job.path))
        return "13"

    monkeypatch.setattr(type(slurm_queue.QUEUE), "submit", submit)
    assert submission.submit(job, Profile(queue="slurm")) == "13"
    assert slurm.commands == ["scancel"]


def make_silent(job: JobFolder, seconds: float) -> None:
    """Let a node run the job, the last sign of life of which was some time ago."""
    job.set_state("running", pid=123, host="node7")
    path = job.path / "job.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"updated": facts["updated"] - seconds}))


@pytest.mark.parametrize(
    ("said", "words"), [("RUNNING", "running"), ("SUSPENDED", "suspended")]
)
def test_a_queue_is_believed_rather_than_a_silent_process(
    job: JobFolder, slurm_says: Any, capsys: Any, said: str, words: str
) -> None:
    """It may be suspended, its drive may hang, or clocks may differ."""
    index.register(job)
    make_silent(job, 240)
    assert job.status().state == "interrupted"
    slurm = slurm_says(said)
    silence = f"no heartbeat for 4 min; SLURM reports it as {words}"
    assert run(["jobs", "list"]) == 0
    assert silence in capsys.readouterr().out
    assert job.status().state == "running"
    for where in ([], ["--queue", "local"]):
        assert run(["jobs", "resume", str(job.path), *where]) == 2
        said_then = " ".join(capsys.readouterr().err.split())
        assert silence in said_then
        assert "jobs stop" in said_then
    assert slurm.commands == []
    assert run(["jobs", "stop", str(job.path)]) == 0
    assert slurm.commands == ["scancel"]
    slurm_says("CANCELLED")
    queries.refresh([job.status()])
    assert job.status().state == "cancelled"


def test_stopping_a_copy_does_not_cancel_the_original(
    job: JobFolder, slurm_says: Any, tmp_path: Path
) -> None:
    slurm = slurm_says("RUNNING")
    job.set_state("running", pid=1, host="node7")
    queries.refresh([job.status()])
    copy = JobFolder(shutil.copytree(job.path, tmp_path / "copy"))
    with pytest.raises(JobError, match="nothing to stop"):
        submission.stop(copy)
    assert slurm.commands == []


@pytest.mark.parametrize("state", ["queued", "running", "interrupted"])
def test_a_job_cancelled_in_the_queue_is_interrupted_whatever_the_moment(
    job: JobFolder, state: Any
) -> None:
    job.set_state(state, pid=2**30 if state == "running" else 0, host="")
    queue_says(job, "cancelled")
    status = job.status()
    assert status.state == "interrupted"
    assert status.message == "SLURM job 12 was cancelled in the queue."


def steps_until(job: JobFolder, action: Any, error: Exception | None) -> Any:
    def operation(_job: JobFolder, should_stop: Any) -> Iterator[Step]:
        yield Step(3, 9)
        action()
        if error is not None:
            raise error
        assert should_stop()
        yield Step(4, 9)

    return operation


@pytest.mark.parametrize("error", [None, JobError("The workers were lost.")])
def test_a_run_that_ends_because_it_is_stopped_is_cancelled(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """Even if the queue's signal reaches the process, or a worker, first."""
    asked = process._Asked()

    def stopped() -> None:
        asked.to_stop()
        asked.stop  # noqa: B018
        job.request("cancel")

    monkeypatch.setattr(run_module, "_operation", steps_until(job, stopped, error))
    process._run(job, asked)
    assert job.status().state == "cancelled"
    assert job.pending_request() == ""


@pytest.mark.parametrize(
    ("warned", "state", "code"), [(False, "interrupted", 0), (True, "queued", 99)]
)
def test_a_run_that_the_queue_ends_is_interrupted(
    job: JobFolder,
    monkeypatch: pytest.MonkeyPatch,
    warned: bool,
    state: str,
    code: int,
) -> None:
    """Unless its walltime is over."""
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)}
    monkeypatch.setenv("SLURM_JOB_ID", "12")

    def ended() -> None:
        os.kill(os.getpid(), signal.SIGUSR1 if warned else signal.SIGTERM)

    monkeypatch.setattr(run_module, "_operation", steps_until(job, ended, None))
    try:
        assert process.main(str(job.path), in_queue=True) == code
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    status = job.status()
    assert status.state == state
    if not warned:
        assert "SLURM ended this run before its walltime was over" in status.message


@pytest.mark.parametrize("by", [signal.SIGUSR1, signal.SIGTERM])
def test_the_next_run_follows_a_request_to_finish(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch, by: signal.Signals
) -> None:
    """The walltime, or a more urgent job, has ended the run that was finishing."""
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    requests = []

    def operation(_job: JobFolder, should_stop: Any) -> Iterator[Step]:
        yield Step(3, 9)
        if not requests:
            job.request("finish")
        assert should_stop()
        requests.append(should_stop.request)
        if len(requests) == 1:
            os.kill(os.getpid(), by)
            assert should_stop()
            requests.append(should_stop.request)

    monkeypatch.setattr(run_module, "_operation", operation)
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        for _ in range(2):
            process.main(str(job.path), in_queue=True)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert requests == ["finish", "pause", "finish"]
    assert job.pending_request() == ""


def test_processes_of_a_queue_keep_a_request_to_finish(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked to pause, and the next run finishes."""
    asked = process._Asked()
    seen = []

    def run_processes(*arguments: Any) -> int:
        should_stop = arguments[-1]
        job.set_state("running", pid=os.getpid())
        job.request("finish")
        assert not should_stop()
        asked.by_queue()
        with subprocess.Popen(["sleep", "0.1"]) as worker:
            assert torchrun._wait(job, [worker], should_stop) == 0
        seen.append(job.pending_request())
        job.set_state("paused", pid=0)
        return 0

    monkeypatch.setattr(process.signal, "signal", lambda *_: None)
    monkeypatch.setattr(process, "run_processes", run_processes)
    assert process._run_processes_in_queue(job, asked, ["--nproc-per-node=2"]) == 99
    assert seen == ["pause"]
    assert (job.status().state, job.pending_request()) == ("queued", "finish")


def test_a_signal_at_the_end_of_the_walltime_is_no_cancellation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = process._Asked(walltime_end=1000.0, warned=True)
    monkeypatch.setattr(process.time, "monotonic", lambda: 990.0)
    asked.to_stop()
    assert not asked.ended_by_queue
    early = process._Asked(walltime_end=1000.0, warned=True)
    monkeypatch.setattr(process.time, "monotonic", lambda: 950.0)
    early.to_stop()
    assert early.ended_by_queue


def test_a_job_that_was_stopped_while_it_started_does_not_run(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    job.set_state("cancelled", pid=0)
    assert process._run_in_queue(job, process._Asked()) == 0
    assert job.status().state == "cancelled"
    monkeypatch.setenv("SLURM_JOB_ID", "13")  # submitted again, by hand
    assert not submission.was_stopped(job)


def test_a_stopping_job_says_what_it_waits_for(job: JobFolder, capsys: Any) -> None:
    job.claim("running")
    job.request("cancel")
    assert describe_state(job.status()) == "stopping"
    for words in (["resume"], ["remove"]):
        assert run(["jobs", *words, str(job.path)]) == 2
        said = capsys.readouterr().err
        assert "is still stopping: it finishes its current tile" in said
        assert f"jobs watch {job.path}" in said.replace("\n", "")
        assert "SLURM kills job 12" in said.replace("\n", " ")
    queue_record.forget_number(job.path)
    job.set_state("queued", pid=0)
    assert stopping_text(job.status()).endswith(", and try again.")


def test_an_interrupted_job_is_explained(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    index.register(job)
    job.set_state("running", pid=2**30, host="node1", total=0)
    (job.path / "log.txt").write_text("first\nslurmstepd: error: OUT OF MEMORY\n\n")
    said = "12|OUT_OF_MEMORY|None"
    monkeypatch.setattr(slurm_queue, "call", lambda *_, **__: said)
    resume = f"Resume it with: napari-geosr jobs resume {job.path}"
    for words, code in ((["list"], 0), (["watch", "job"], 1), (["show", "job"], 0)):
        assert run(["jobs", *words]) == code
        printed = capsys.readouterr()
        text = " ".join((printed.out + printed.err).split())
        is_list = words == ["list"]
        assert "SLURM job 12 no longer exists (out of memory)" in text
        assert ("log.txt: slurmstepd: error: OUT OF MEMORY" in text) != is_list
        assert (resume in text) != is_list
        assert ("jobs show FOLDER` gives all details" in text) == is_list
        assert "0 of 0" not in text
    assert run(["jobs", "stop", "job"]) == 2
    assert "job has ended (interrupted)" in capsys.readouterr().err


def test_a_killed_process_is_explained_without_the_script(job: JobFolder) -> None:
    job.set_state("running", pid=2**30, host=socket.gethostname())
    log = job.path / "log.txt"
    log.write_text(
        "/tmp/job00023/slurm_script: line 26: 15906 Killed                  ( trap '' "
        "USR1; exec /env/bin/python -P -m napari_geosr.jobs /a ) >> log.txt 2>&1\n"
    )
    killed = (
        "Its process was killed (kill -9, or out of memory); request more memory if "
        "this recurs."
    )
    assert reasons(job.status()) == [killed]
    queue_says(job, "ended")
    assert reasons(job.status())[1:] == [killed]
    assert main_reason(job.status()) == killed
    log.write_text(log.read_text().replace("Killed", "Bus error (core dumped)"))
    said = "Its process was ended by a signal: Bus error (core dumped)."
    assert main_reason(job.status()) == said


def test_a_full_disk_of_an_interrupted_job_is_named(
    job: JobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk, the process could not write why it ended."""
    out = tmp_path / "disk" / "clean.ome.zarr"
    out.parent.mkdir()
    job.replace_values({**job.values(), "out": str(out)})
    job.set_state("running", pid=2**30, host=socket.gethostname())
    free = {job.path: 10**9, out.parent: 10**9}
    monkeypatch.setattr(
        status_module.shutil,
        "disk_usage",
        lambda path: SimpleNamespace(total=10**10, free=free[path]),
    )
    assert "disk" not in " ".join(reasons(job.status()))
    for folder in (out.parent, job.path):
        free[folder] = 0
        said = f"The disk of {folder} is full (0 B left); free some space before"
        assert reasons(job.status())[-1].startswith(said)
        assert main_reason(job.status()).startswith(said[:80])


def test_a_job_that_never_started_points_to_its_setup(job: JobFolder) -> None:
    queue_says(job, "ended")
    assert "check the setup commands" in job.status().message
    assert main_reason(job.status()) == (
        "SLURM job 12 no longer exists (ended), and napari-geosr was not started in it."
    )


def test_old_interrupted_jobs_are_only_counted(
    job: JobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.set_state("running", pid=2**30, host=socket.gethostname())
    new = job.status()
    old = dataclasses.replace(new, path=tmp_path / "old", name="old", updated=1e9)
    said = explanations([new, old])
    assert said[0].startswith("job was interrupted: Its process")
    assert said[1] == "1 more interrupted job."
    assert len(said) == 3
    assert explanations([old]) == []


def test_a_long_state_does_not_widen_the_list(job: JobFolder) -> None:
    words = "will not start: more nodes than the partition allows; stop it and request"
    queue_record.write_state(job.path, "waiting", words, job.status().updated)
    row = table([job.status()], None)[1]
    assert row.index("SLURM 12") < 85
    assert "…" in row


def test_an_output_is_free_once_the_queue_has_ended_its_job(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting job that was cancelled with scancel cannot record its end itself."""
    out = job.path.with_name("clean.ome.zarr")
    job.replace_values(job.values() | {"out": str(out)})
    index.register(job)
    monkeypatch.setattr(queries, "_FRESH_SECONDS", 0.0)
    line = "12|PENDING|Resources\n"
    monkeypatch.setattr(slurm_queue, "call", lambda *_, **__: line)
    refusal = r"SLURM job 12, waiting: resources\) also writes"
    with pytest.raises(JobError, match=refusal):
        check_no_other_writer([out], None)
    line = ""
    check_no_other_writer([out], None)
    assert job.status().state == "interrupted"


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        (
            "PENDING|BeginTime",
            r"SLURM job 12, waiting: starts again soon\) also writes",
        ),
        ("RUNNING|None", "is interrupted, but SLURM has not ended job 12 yet"),
        ("no answer", "may be waiting as SLURM job 12 to start again: SLURM .* timed"),
    ],
)
def test_an_output_is_not_free_while_its_job_waits_to_start_again(
    job: JobFolder,
    slurm_says: Any,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    refusal: str,
) -> None:
    """SLURM has requeued a job that recorded its end; nobody has queried it since."""
    out = job.path.with_name("clean.ome.zarr")
    job.replace_values(job.values() | {"out": str(out)})
    index.register(job)
    job.set_state("interrupted", pid=0, host="")
    slurm_says(said)
    if said == "no answer":

        def call(*_: Any, **__: Any) -> str:
            raise UnansweredError(
                "SLURM does not respond: socket timed out. Try later."
            )

        monkeypatch.setattr(slurm_queue, "call", call)
    with pytest.raises(JobError, match=refusal):
        check_no_other_writer([out], None)
    slurm_says("TIMEOUT")
    check_no_other_writer([out], None)


def test_a_waiting_job_keeps_its_part_when_another_one_overwrites_its_output(
    job: JobFolder, slurm_says: Any, scan: Path, capsys: Any, monkeypatch: Any
) -> None:
    out = scan.parent / "clean.ome.zarr"
    job.replace_values(job.values() | {"out": str(out)})
    index.register(job)
    job.set_state("interrupted", pid=0, host="")
    slurm_says("PENDING|BeginTime")
    checked: list[Any] = []
    monkeypatch.setattr(
        submit_command.io, "check_output", lambda *a, **_: checked.append(a)
    )
    words = ["submit", "restore", str(scan), "-o", str(out), "--overwrite"]
    assert run([*words, "--queue", "slurm"]) == 2
    assert "also writes" in capsys.readouterr().err
    assert checked == []  # this check deletes unfinished files


def test_a_dock_queries_seldom_if_nothing_changes(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every query is work for the controller that all users of a cluster share."""
    clock, times = SimpleNamespace(), list[int]()
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(queries, "time", clock)
    monkeypatch.setattr(queries, "refresh", lambda _: times.append(clock.now))
    watch = queries.QueueWatch()
    for clock.now in range(1000, 4600, 2):
        watch.refresh([job.status()])
    assert times[:31] == list(range(1000, 1062, 2))  # for a minute
    assert 120 < len(times) < 200
    assert times[-1] - times[-2] == 30
    job.request("cancel")
    for clock.now in (4600, 4602):
        watch.refresh([job.status()])
    assert times[-2:] == [4600, 4602]


def test_a_removed_source_is_named(
    job: JobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = tmp_path / "scan.ome.zarr"
    scan.mkdir()
    job.replace_values({**job.values(), "data": {"volume": str(scan)}, "out": "/a/b"})
    error = FileError("scan.ome.zarr can no longer be read.")
    monkeypatch.setattr(run_module, "_operation", steps_until(job, scan.rmdir, error))
    process._run(job, process._Asked())
    message = job.status().message
    assert message.startswith(f"The job needs {scan}, which no longer exists")
    assert "can no longer be read" in (job.path / "log.txt").read_text()
    assert f"napari-geosr jobs resume {job.path}" in message


def test_the_list_shows_the_number_in_the_queue(job: JobFolder, capsys: Any) -> None:
    index.register(job)
    assert run(["jobs", "list"]) == 0
    header, row = capsys.readouterr().out.splitlines()[:2]
    assert row[header.index("queue") :].startswith("SLURM 12 ")


def test_watching_says_where_the_next_run_begins(job: JobFolder, capsys: Any) -> None:
    index.register(job)
    for state in ("paused", "done"):
        job.append("stage", message="Loading model tv")
        job.append("state", state=state)
        if state == "paused":
            job.append("state", state="queued", resubmitted=1)
    job.set_state("done")
    assert run(["jobs", "watch", "job"]) == 0
    said = capsys.readouterr().err.split("Run 2")
    assert ["Loading model tv" in each for each in said] == [True, True]


def test_watching_counts_runs_that_were_killed_or_recorded_no_step(
    job: JobFolder, capsys: Any
) -> None:
    index.register(job)
    job.append(RUN)
    job.append("stage", message="Loading model tv")  # and killed
    job.append(RUN)
    for state in ("paused", "queued"):  # warned at once
        job.append("state", state=state)
    job.append("settings", learning_rate=1e-4)  # changed when it was resumed
    job.append(RUN)
    job.append("stage", message="Loading model tv")
    job.set_state("done")
    assert run(["jobs", "watch", "job"]) == 0
    said = capsys.readouterr().err
    assert [said.count(f"Run {n}") for n in (1, 2, 3, 4)] == [0, 1, 1, 0]


def test_each_run_records_its_start(job: JobFolder) -> None:
    job.set_state("paused")
    with pytest.raises(GeoSRError):  # the job has no scan
        run_to_end(run_steps(job))
    assert [event["event"] for event in job.events()[0]].count(RUN) == 1


def test_a_job_that_will_not_start_is_explained(
    job: JobFolder, slurm_says: Any, capsys: Any
) -> None:
    index.register(job)
    slurm_says("PENDING|PartitionNodeLimit")
    assert run(["jobs", "list"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "job: will not start: more nodes than the partition allows; stop it" in said


def test_a_job_is_found_by_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A finished measurement ``twice`` was written by the job in ``twice.job``."""
    report = tmp_path / "twice"
    values = {"operation": "measure", "name": "twice", "out": str(report)}
    job = JobFolder.create(tmp_path / "twice.job", values, name="twice")
    job.set_state("done", result=str(report))
    report.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("twice", "twice/", str(report)):  # not yet in the list of jobs
        assert index.find(name).path == job.path
    index.register(job)
    other = JobFolder.create(tmp_path / "away" / "twice.job", values, name="twice")
    other.replace_values({**values, "out": str(tmp_path / "away" / "twice")})
    index.register(other)
    assert index.find("twice").path == job.path  # written here
    assert run(["jobs", "watch", "twice"]) == 0
    assert "twice: done" in capsys.readouterr().out
    # A second job has replaced the result.
    again = JobFolder.create(tmp_path / "twice-2.job", values, name="twice")
    again.claim("running")
    with pytest.raises(JobError) as caught:
        index.find("twice")
    assert f"{again.path} (running), {job.path} (done)" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(JobError, match="is not a job folder"):
        index.find("empty")
    assert run(["jobs", "remove", "twice.job"]) == 0
    assert report.is_dir()


CANCEL = {"slurm": "scancel", "oar": "oardel"}


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["slurm", "oar"], indirect=True)
@pytest.mark.parametrize("moment", ["at once", "starting", "running"])
@pytest.mark.parametrize("by_us", [True, False])
def test_a_real_queue_ends_jobs_alike(
    cluster: Cluster, moment: str, by_us: bool, scan: Path, capsys: Any
) -> None:
    words = ["train", "neighbor2neighbor", "--source", str(scan), "--steps", "200000"]
    words += ["--patch", "24", "--layers", "3", "--width", "2", "--threads", "1"]
    out = str(scan.parent / "job")
    said = submit(capsys, *words, "-o", out, "--queue", cluster.name)
    job = JobFolder(said["job"])
    if moment == "starting":
        wait_for(job, lambda: job.status().queue.words == "running")
    elif moment == "running":
        wait_for(job, lambda: job.status().done > 2)
    if by_us:
        assert run(["jobs", "stop", str(job.path)]) == 0
    else:
        command = [CANCEL[cluster.name], said["number"]]
        subprocess.run(command, check=True, capture_output=True)
    wait_for(job, lambda: not job.status().is_alive)
    for _ in range(20):  # and it stays so
        wait_for(job, lambda: True)
        queries.refresh([job.status()])
    assert job.status().state == ("cancelled" if by_us else "interrupted")


@pytest.mark.slow
def test_a_job_that_slurm_requeues_is_stopped_and_not_submitted_twice(
    slurm: Cluster, scan: Path, capsys: Any
) -> None:
    words = ["train", "neighbor2neighbor", "--source", str(scan), "--steps", "200000"]
    words += ["--patch", "24", "--layers", "3", "--width", "2", "--threads", "1"]
    out = str(scan.parent / "job")
    said = submit(capsys, *words, "-o", out, "--queue", slurm.name)
    job, number = JobFolder(said["job"]), said["number"]
    wait_for(job, lambda: job.status().done > 2)
    command = ["scontrol", "requeue", number]
    subprocess.run(command, check=True, capture_output=True)
    wait_for(job, lambda: recorded(job.path)[1] == "interrupted")
    assert run(["jobs", "resume", str(job.path)]) == 2
    assert "jobs stop" in capsys.readouterr().err
    assert run(["jobs", "stop", str(job.path)]) == 0
    wait_for(job, lambda: job.status().queue.has_ended)
    assert job.status().state == "cancelled"
    command = ["squeue", "--noheader", "--format=%i %T", "--states=PD,R,CG"]
    assert subprocess.check_output(command, text=True) == ""
