"""``jobs list|watch|stop|resume`` and the state of jobs in queues."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from programs import write_program
from queue_helpers import Cluster, submit, wait_for

from napari_geosr.cli.app import run
from napari_geosr.cli.jobs import manage
from napari_geosr.cli.kit.queue_options import Resources
from napari_geosr.core.errors import JobError
from napari_geosr.jobs import facts as reading
from napari_geosr.jobs import index, local
from napari_geosr.jobs.__main__ import _Asked, _end_in_queue, _is_pausing
from napari_geosr.jobs.cluster import queries, queue_record, submission
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.cost import cost_of
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.index import describe_state
from napari_geosr.jobs.kinds import START_AGAIN
from napari_geosr.jobs.queues import RESUBMIT, QueueState
from napari_geosr.jobs.queues import oar as oar_queue
from napari_geosr.jobs.queues import slurm as slurm_queue
from napari_geosr.jobs.queues._scripts import STARTED


def busy(cluster: Cluster, folder: Path, seconds: int = 1200) -> None:
    """Keep the cluster busy, so that other jobs wait."""
    script = (
        "#!/bin/bash\n#OAR -l /nodes=1/core=1,walltime=1:00:00\n#OAR -O o\n#OAR -E o\n"
    )
    script += "#SBATCH --exclusive --nodes=2\n#SBATCH --output=o\n"
    script += f"exec sleep {seconds}\n"
    path = folder / "busy.sh"
    path.write_text(script)
    path.chmod(0o755)
    words = {"slurm": ["sbatch"], "oar": ["oarsub", "-S"]}[cluster.name]
    subprocess.run([*words, "./busy.sh"], cwd=folder, check=True, capture_output=True)
    end = time.monotonic() + 120
    while "running" not in states(cluster):
        assert time.monotonic() < end
        time.sleep(0.1)


def states(cluster: Cluster) -> list[str]:
    """States of all jobs, as the queue itself names them."""
    if cluster.name == "slurm":
        words = ["squeue", "--noheader", "--format=%T"]
        return subprocess.check_output(words, text=True).lower().split()
    said = subprocess.check_output(["oarstat", "-u", "-J"], text=True)
    return [job["state"].lower() for job in json.loads(said or "{}").values()]


def waiting_job(cluster: Cluster, scan: Path, capsys: Any) -> JobFolder:
    busy(cluster, scan.parent)
    out = scan.parent / "clean.ome.tif"
    said = submit(capsys, "restore", str(scan), "-o", str(out), "--queue", cluster.name)
    job = JobFolder(said["job"])
    wait_for(job, lambda: job.status().queue.words.startswith("waiting"))
    return job


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ("oar", "waiting"),
        pytest.param("slurm", "waiting: resources", marks=pytest.mark.slow),
    ],
    indirect=["cluster"],
)
def test_a_waiting_job_is_listed_stopped_and_resumed(
    cluster: Cluster, words: str, scan: Path, capsys: Any
) -> None:
    job = waiting_job(cluster, scan, capsys)
    wait_for(job, lambda: describe_state(job.status()) == words)
    assert run(["jobs", "list"]) == 0
    assert words in capsys.readouterr().out
    number = job.status().queue.number
    # By the number in the queue, as in the cluster's own commands.
    assert run(["jobs", "stop", number]) == 0
    assert f"job {number}" in capsys.readouterr().out
    assert job.status().state == "cancelled"
    with pytest.raises(JobError, match="nothing to stop"):
        submission.stop(job)
    assert run(["jobs", "resume", str(job.path), "--walltime", "3h"]) == 0
    assert "Submitted clean as" in capsys.readouterr().out
    status = job.status()
    assert status.state == "queued"
    assert status.queue.number not in ("", number)
    assert "3:00:00" in (job.path / "submit.sh").read_text()
    assert run(["jobs", "stop", str(job.path)]) == 0


@pytest.mark.parametrize(
    "cluster", ["oar", pytest.param("slurm", marks=pytest.mark.slow)], indirect=True
)
def test_a_job_cancelled_in_the_queue_is_noticed(
    cluster: Cluster, scan: Path, capsys: Any
) -> None:
    job = waiting_job(cluster, scan, capsys)
    number = job.status().queue.number
    command = {"slurm": "scancel", "oar": "oardel"}[cluster.name]
    subprocess.run([command, number], check=True, capture_output=True)
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "interrupted"
    assert "was cancelled in the queue" in job.status().message
    assert job.status().can_resume


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["slurm", "oar"], indirect=True)
def test_a_running_job_is_watched_and_stopped(
    cluster: Cluster, scan: Path, capsys: Any
) -> None:
    words = ["train", "neighbor2neighbor", "--source", str(scan), "--steps", "200000"]
    words += ["--patch", "24", "--layers", "3", "--width", "2", "--threads", "1"]
    out = str(scan.parent / "job")
    said = submit(capsys, *words, "-o", out, "--queue", cluster.name)
    job = JobFolder(said["job"])
    watching = subprocess.Popen(
        [sys.executable, "-m", "napari_geosr", "jobs", "watch", str(job.path)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    wait_for(job, lambda: job.status().done > 2)
    assert run(["jobs", "stop", str(job.path)]) == 0
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "cancelled"
    out, _ = watching.communicate(timeout=300)
    assert "cancelled" in out
    assert list(job.path.glob("checkpoints/*.pt"))


# States without a queue


def made(tmp_path: Path, operation: str = "restore", **facts: Any) -> JobFolder:
    values = {"operation": operation, "method": "tv", "name": "job"}
    job = JobFolder.create(tmp_path / "job", values, name="job")
    queue_record.write_record(
        job.path, QueueRecord("slurm", "SLURM", "12", profile={}, **facts)
    )
    return job


def test_old_folders_have_no_queue(tmp_path: Path) -> None:
    values = {"operation": "restore", "method": "tv", "name": "job"}
    job = JobFolder.create(tmp_path / "job", values, name="job")
    assert job.status().queue.queue == ""
    assert describe_state(job.status()) == "waiting"
    (job.path / "queue.json").write_text("[1, 2")
    assert job.status().queue.queue == ""


def test_a_resubmitted_job_says_so(tmp_path: Path) -> None:
    job = made(tmp_path, resubmitted=2)
    job.set_state("queued", done=61, total=100)
    queue_record.write_state(
        job.path, "waiting", "waiting: priority", job.status().updated
    )
    assert describe_state(job.status()) == (
        "waiting: priority, walltime reached, resubmitted twice, 61 % done"
    )


@pytest.mark.parametrize(("n", "words"), [(0, ""), (1, "once"), (4, "4 times")])
def test_a_finished_job_says_how_often_it_was_resubmitted(
    tmp_path: Path, capsys: Any, n: int, words: str
) -> None:
    job = made(tmp_path, resubmitted=n)
    job.set_state("done", done=9, total=9)
    assert run(["jobs", "show", str(job.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("queue "))
    number = job.status().queue.number
    more = f", resubmitted {words} after reaching its walltime" if n else ""
    assert line.split(maxsplit=1)[1] == f"SLURM job {number}{more}"


def test_a_job_that_the_queue_itself_stopped_waits_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a preemption or ``scontrol requeue``; its process was asked to end."""
    job = made(tmp_path)
    job.set_state("paused", done=3, total=9)
    said = "12|PENDING|BeginTime"
    monkeypatch.setattr(slurm_queue, "call", lambda *_, **__: said)
    assert queries.refresh([job.status()]) == []
    assert describe_state(job.status()) == "waiting: starts again soon"
    with pytest.raises(JobError, match="is waiting: starts again soon, so it cannot"):
        submission.submit(job, Profile(queue="slurm"))
    job.set_state("running", pid=1, host="elsewhere")
    assert job.status().state == "running"


def test_a_paused_job_that_left_the_queue_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = made(tmp_path)
    job.set_state("paused")
    calls: list[str] = []
    monkeypatch.setattr(slurm_queue, "call", lambda *_, **__: calls.append("") or "")
    monkeypatch.setattr(queries, "_FRESH_SECONDS", 0)
    for _ in range(3):
        queries.refresh([job.status()])
    assert len(calls) == 1  # not asked again once it is known
    assert job.status().state == "paused"
    assert job.status().can_resume

    def fails(*_: Any, **__: Any) -> str:
        raise JobError("squeue is not on PATH.")

    # On a computer without the queue, the list of jobs does not complain about it.
    monkeypatch.setattr(slurm_queue, "call", fails)
    job.set_state("paused")
    assert queries.refresh([job.status()]) == []


def test_a_refused_resubmission_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, the next attempt would run the job on the login node."""
    job = made(tmp_path)
    profile = Profile(nodes=2, project="pr-aiax")
    record = replace(
        queue_record.read_record(job.path),
        profile=profile.model_dump(mode="json", exclude_defaults=True),
    )
    queue_record.write_record(job.path, record)
    submission.write_script(job.path, "#!/bin/bash\n")
    job.set_state("failed", message="The walltime is too short.")
    known = queue_record.read_record(job.path)

    def refuses(*_: Any, **__: Any) -> str:
        raise JobError("SLURM: the account is unknown.")

    monkeypatch.setattr(slurm_queue, "call", refuses)
    monkeypatch.setattr(submission, "refresh", lambda *_: [])
    with pytest.raises(JobError, match="account is unknown"):
        submission.submit(job, profile)
    assert queue_record.read_record(job.path) == known
    assert submission.profile_of(job) == profile
    assert (job.path / "submit.sh").read_text() == "#!/bin/bash\n"
    assert job.status().state == "failed"
    assert "walltime is too short" in job.status().message


def test_a_job_that_the_queue_may_have_taken_is_kept(
    scan: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The queue has printed a message, but no number."""
    monkeypatch.setattr(slurm_queue, "call", lambda *_, **__: "slow today")
    out = scan.parent / "clean.ome.tif"
    words = ["submit", "restore", str(scan), "-o", str(out), "--queue", "slurm"]
    assert run(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "contains no job number: slow today. Check whether" in said
    job = JobFolder(scan.parent / "clean.job")
    assert job.status().state == "queued"
    assert index.find(str(job.path)).path == job.path
    assert submission.profile_of(job) is not None


def test_outside_the_queue_its_earlier_number_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, the queue's answer about that number would apply to the new run."""
    job = made(tmp_path)
    job.set_state("interrupted")
    profile = submission.profile_of(job)

    class Process:
        pid = os.getpid()

        def poll(self) -> None:
            return None

    monkeypatch.setattr(local, "_spawn", lambda *_: Process())
    local.start(job)
    assert queue_record.read_record(job.path).number == ""
    assert submission.profile_of(job) == profile
    monkeypatch.setattr(slurm_queue, "call", lambda *_, **__: "")
    monkeypatch.setattr(queries, "_FRESH_SECONDS", 0)
    queries.refresh([job.status()])
    assert job.status().state == "queued"


def test_other_settings_of_the_queue_are_not_submitted_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    job = made(tmp_path)
    job.set_state("failed")
    elsewhere = index.Elsewhere("login", "/bettik/scan.job")
    monkeypatch.setattr(index, "elsewhere_of", lambda _: elsewhere)
    before = queue_record.read_record(job.path)
    assert run(["jobs", "resume", str(job.path), "--walltime", "12h"]) == 2
    assert "was submitted on login" in capsys.readouterr().err
    assert queue_record.read_record(job.path) == before


def test_what_the_queue_said_holds_until_the_job_speaks(tmp_path: Path) -> None:
    job = made(tmp_path)
    job.set_state("running", pid=1, host="elsewhere")
    queue_record.write_state(job.path, "ended", "the node failed", job.status().updated)
    status = job.status()
    assert status.state == "interrupted"
    assert "SLURM job 12 no longer exists (the node failed)" in status.message
    job.send_heartbeat()
    assert job.status().state == "running"


def test_a_queue_that_does_not_answer_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = made(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    (said,) = queries.refresh([job.status()])
    assert "'squeue' is not on PATH" in said
    assert job.status().state == "queued"


def test_a_state_is_shown_with_its_time_if_the_queue_does_not_respond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    programs, reason = tmp_path / "programs", "Unable to contact slurm controller"
    programs.mkdir()
    squeue = f"#!/bin/sh\necho 'slurm_load_jobs error: {reason}' >&2\nexit 1\n"
    write_program(programs / "squeue", squeue)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(queries, "_FRESH_SECONDS", 0.0)
    job = made(tmp_path)
    index.register(job)
    queue_record.write_state(job.path, "waiting", "waiting", job.status().updated)
    checked = job.status().queue.checked
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(checked))
    expected = f"SLURM does not respond: slurm_load_jobs error: {reason}"
    expected += f"; state as of {when}."
    assert run(["jobs", "list"]) == 0
    said = capsys.readouterr()
    assert (said.out + said.err).count(expected) == 1
    assert run(["jobs", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["problems"] == [expected]
    place = listed["jobs"][0]["queue"]
    assert (place["problem"], place["checked"]) == (expected.split(";")[0], checked)
    assert run(["jobs", "show", str(job.path)]) == 0
    assert expected in capsys.readouterr().out
    events = manage._events(job, lambda: False)
    found = [event["message"] for _, event in zip(range(2), events, strict=False)]
    assert found == ["waiting", expected]
    # The next answer is current again.
    monkeypatch.setattr(slurm_queue, "call", lambda *_, **__: "12|PENDING|Priority")
    assert run(["jobs", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["problems"] == []
    assert listed["jobs"][0]["queue"]["words"] == "waiting: priority"


#: Durations, in seconds, of a run that uses the walltime of two hours, and of one that
#: is warned early.
FULL, SHORT = 7000.0, 30.0


def walltimes(job: JobFolder, *runs: tuple[int, float]) -> list[bool]:
    """Whether a job restarts after runs with given numbers of steps and seconds."""
    answers = []
    for done, seconds in runs:
        job.set_state("paused", done=done, total=50)
        answers.append(submission.note_walltime(job, seconds))
    return answers


@pytest.mark.parametrize("operation", START_AGAIN)
def test_a_run_that_keeps_nothing_is_not_repeated_after_a_full_one(
    tmp_path: Path, operation: str
) -> None:
    job = made(tmp_path, operation)
    assert walltimes(job, (3, SHORT), (9, FULL)) == [True, False]
    assert job.status().state == "failed"
    assert "did not finish in one run" in job.status().message


@pytest.mark.parametrize("operation", START_AGAIN)
def test_texts_on_the_walltime_name_the_jobs_that_cannot_be_resumed(
    operation: str,
) -> None:
    """In the help, in the dialog, and in the advice of a queue."""
    fields = Resources.model_fields["walltime"], Profile.model_fields["walltime"]
    texts = [str(field.description) for field in fields]
    for text in (*texts, slurm_queue._ADVICE["time limit"]):
        exception = text.partition("resubmitted")[2]
        assert operation in exception
        assert "must end within it" in exception


def test_a_record_that_cannot_be_read_now_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """One read error on a network drive would lose queue, number and profile."""
    job = made(tmp_path)
    job.set_state("interrupted")
    known = queue_record.read_record(job.path)
    read = reading.read_mapping

    def fails(path: Path) -> Any:
        if path.name == queue_record.RECORD:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    with monkeypatch.context() as context:
        context.setattr(reading, "read_mapping", fails)
        assert job.status().state == "interrupted"
        assert cost_of(job.status()) is None
        assert run(["jobs", "list"]) == 0
        assert run(["jobs", "resume", str(job.path)]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert "queue.json cannot be read at the moment (Input/output error)" in said
        assert submission.note_walltime(job, 60.0)
        # It may wait in a queue.
        assert run(["jobs", "remove", str(job.path), "--force"]) != 0
        assert job.path.exists()
    assert job.status().state == "queued"
    assert queue_record.read_record(job.path) == known


def test_a_record_is_read_again_after_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another node may be replacing the file, which NFS reports as ESTALE."""
    job = made(tmp_path)
    known, read, errors = queue_record.read_record(job.path), reading.read_mapping, [1]

    def fails_once(path: Path) -> Any:
        if path.name == queue_record.RECORD and errors:
            errors.pop()
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path)

    monkeypatch.setattr(reading, "read_mapping", fails_once)
    assert queue_record.read_record(job.path) == known
    assert not errors


def test_a_walltime_without_progress_is_not_repeated_for_ever(
    tmp_path: Path, capsys: Any
) -> None:
    job = made(tmp_path)
    assert walltimes(job, *[(5, FULL)] * 3) == [True, True, True]
    assert walltimes(job, (5, FULL)) == [False]
    status = job.status()
    assert status.state == "failed"
    assert "walltime of 2:00:00 is too short: 3 consecutive runs" in status.message
    assert status.queue.resubmitted == 4
    # The command to copy asks for a longer walltime, not for the same one again.
    assert status.message.endswith("with a longer walltime (--walltime 4:00:00).")
    resume = f"Resume it with: napari-geosr jobs resume {job.path}"
    for verb in ("show", "watch"):
        assert run(["jobs", verb, str(job.path)]) == (0 if verb == "show" else 1)
        said = capsys.readouterr()
        lines = (said.out + said.err).splitlines()
        assert f"{resume} --walltime 4:00:00" in lines
    # The walltime is not the cause of a later failure.
    record = queue_record.read_record(job.path)
    queue_record.write_record(job.path, replace(record, longer=""))
    assert run(["jobs", "show", str(job.path)]) == 0
    assert resume in capsys.readouterr().out.splitlines()


def test_a_run_that_is_warned_early_counts_less(tmp_path: Path) -> None:
    job = made(tmp_path)
    assert all(walltimes(job, (5, FULL), *[(5, SHORT)] * 11))
    assert walltimes(job, (6, SHORT)) == [True]  # a step resets the count
    assert all(walltimes(job, *[(6, SHORT)] * 11))
    assert walltimes(job, (6, SHORT)) == [False]
    assert "12 consecutive runs" in job.status().message


@pytest.mark.parametrize(
    ("seconds_before", "delay"),
    [
        (45.0, 45.0),  # SLURM is early
        (7000.0, 0.0),  # the job is preempted by another one
        (-5.0, 0.0),
    ],
)
def test_a_warning_that_is_early_takes_effect_when_it_is_due(
    monkeypatch: pytest.MonkeyPatch, seconds_before: float, delay: float
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    asked = _Asked(warning_due=now + seconds_before)
    assert not asked.stop
    asked.by_queue()
    assert asked.warned
    assert asked.stop == (delay == 0)
    now = 1000.0 + delay
    asked.by_queue()  # the script repeats it
    assert asked.stop


@pytest.mark.parametrize(
    ("asked_for", "is_due", "code"),
    [
        ("", True, RESUBMIT),
        ("pause", True, 0),  # the user is first
        ("pause", False, 0),
    ],
)
def test_a_pause_before_the_warning_takes_effect_remains_a_pause(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked_for: Any,
    is_due: bool,
    code: int,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    job = made(tmp_path)
    asked = _Asked(warning_due=now + 45, asks_pause=lambda: _is_pausing(job))
    job.set_state("running")
    asked.by_queue()
    if asked_for:
        job.request(asked_for)
    if is_due:
        now += 45
        assert asked.stop
    job.clear_request()
    job.set_state("paused", done=3)
    now += 45
    assert _end_in_queue(job, asked, 0, 60.0) == code
    place = job.status().queue
    assert job.status().state == ("queued" if code else "paused")
    assert place.resubmitted == bool(code)


def test_what_a_queue_says_at_the_walltime_changes_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dock queries OAR while the job ends because of its walltime."""
    job = made(tmp_path)
    asked = _Asked()
    asked.by_queue()
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    said = QueueState("ended", "ended", "12")

    def states(_self: Any, numbers: dict[Path, str]) -> dict[Path, QueueState]:
        if not ended:
            assert asked.stop
            job.set_state("paused", done=3)
            write_state(job.path, "waiting", "waiting: resubmitted", updated())
            ended.append(_end_in_queue(job, asked, 0, 7000.0))
        return dict.fromkeys(numbers, said)

    def updated() -> float:
        return job.status().updated

    write_state, ended = queue_record.write_state, list[int]()
    monkeypatch.setattr(type(slurm_queue.QUEUE), "states", states)
    monkeypatch.setattr(queries, "_FRESH_SECONDS", 0.0)
    job.set_state("running")
    queries.refresh([job.status()])
    assert ended == [RESUBMIT]
    assert queue_record.read_record(job.path).resubmitted == 1
    # The queue does not find the job while it resubmits the job.
    queries.refresh([job.status()])
    assert job.status().state == "interrupted"
    said = QueueState("waiting", "waiting", "13")
    queries.refresh([job.status()])
    status = job.status()
    assert (status.state, status.queue.number) == ("queued", "13")
    # It is not asked again and again about a job that has ended.
    said = QueueState("ended", "failed", "13")
    queries.refresh([job.status()])
    monkeypatch.setattr(queries, "_DOUBT_SECONDS", 0.0)
    said = QueueState("running", "running", "13")
    queries.refresh([job.status()])
    assert job.status().state == "interrupted"
    # The number that the next run records replaces what the queue said.
    monkeypatch.setenv(slurm_queue.QUEUE.number_variable, "14")
    submission.note_start(job)
    assert job.status().queue.number == "14"
    assert job.status().queue.resubmitted == 1


def test_the_time_of_the_warning_follows_from_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = made(tmp_path)
    assert submission.seconds_until_warning(job) == 0
    # The default walltime is two hours, with a warning two minutes before its end.
    monkeypatch.setattr(time, "time", lambda: 2000.0)
    monkeypatch.setenv(STARTED, "1990")
    assert submission.seconds_until_warning(job) == 7200 - 120 - 10
    monkeypatch.setattr(time, "time", lambda: 20000.0)
    assert submission.seconds_until_warning(job) == 0


def test_a_job_in_a_queue_is_submitted_once(tmp_path: Path) -> None:
    job = made(tmp_path)
    with pytest.raises(
        JobError, match="is waiting in SLURM, so it cannot be submitted again"
    ):
        submission.submit(job, Profile(queue="slurm"))


def test_a_job_is_not_submitted_again_while_the_queue_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no number then."""
    job, profile = made(tmp_path), Profile(queue="slurm")
    queue_record.write_record(job.path, QueueRecord())
    job.set_state("paused")
    refused = []

    def submit(_self: Any, folder: Path) -> str:
        with pytest.raises(JobError) as caught:
            submission.submit(JobFolder(folder), profile)
        refused.append(str(caught.value))
        return "101"

    monkeypatch.setattr(type(slurm_queue.QUEUE), "submit", submit)
    assert submission.submit(job, profile) == "101"
    assert len(refused) == 1
    assert "is being submitted by another process" in refused[0]
    assert queue_record.read_record(job.path).number == "101"


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("4711\n", "4711"),
        ("4711;chama\n", "4711@chama"),
        (
            "Welcome to Chama, 3 partitions\n2 jobs are ahead.\n4711;chama\n",
            "4711@chama",
        ),
        ("100\nYour project has 100 hours left\n4711\nGood luck!\n", "4711"),
    ],
)
def test_the_number_is_found_among_other_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, number: str
) -> None:
    monkeypatch.setattr(slurm_queue, "call", lambda *_, **__: said)
    assert slurm_queue.QUEUE.submit(tmp_path) == number


def state_of(monkeypatch: pytest.MonkeyPatch, module: Any, said: str) -> QueueState:
    monkeypatch.setattr(module, "call", lambda *_, **__: said)
    folder = Path("job")
    return module.QUEUE.states({folder: "12"})[folder]


@pytest.mark.parametrize(
    ("said", "phase", "words"),
    [
        ("12|PENDING|Priority\n13|RUNNING|None", "waiting", "waiting: priority"),
        (
            "12|PENDING|PartitionConfig",
            "waiting",
            "will not start: more nodes or cores than the partition has; stop it and "
            "request fewer (--nodes, --cores)",
        ),
        (
            "12|PENDING|BadConstraints",
            "waiting",
            "will not start: no node has these properties; stop it and change the "
            "properties, memory or GPUs in the profile",
        ),
        ("12|PENDING|AssocGrpGRES", "waiting", "waiting: assoc grp gres"),
        ("12|PENDING|None", "waiting", "waiting"),
        (
            "12|PENDING|ReqNodeNotAvail, UnavailableNodes:node[1-3]",
            "waiting",
            "waiting: nodes are not available",
        ),
        (
            "12|PENDING|(ReqNodeNotAvail, Reserved for maintenance)",
            "waiting",
            "waiting: nodes are not available (maintenance)",
        ),
        (
            "12|PENDING|QOSMaxWallDurationPerJobLimit",
            "waiting",
            "will not start: the walltime is longer than the quality of service "
            "allows; stop it and request a shorter walltime (--walltime)",
        ),
        ("12|PENDING|QOSGrpNodeLimit", "waiting", "waiting: qos grp node limit"),
        ("12|RUNNING|None", "running", "running"),
        ("12|COMPLETING|None", "running", "running"),
        ("12|TIMEOUT|TimeLimit", "ended", "walltime reached"),
        ("12|CANCELLED|None", "ended", "cancelled"),
        ("13|RUNNING|None", "ended", "ended"),
        ("", "ended", "ended"),
    ],
)
def test_slurm_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, said: str, phase: str, words: str
) -> None:
    found = state_of(monkeypatch, slurm_queue, said)
    assert (found.phase, found.words, found.number) == (phase, words, "12")


def test_a_job_on_one_of_several_clusters_is_queried_and_cancelled_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, a waiting job counts as interrupted, and is submitted twice."""
    job = made(tmp_path)
    record = queue_record.read_record(job.path)
    queue_record.write_record(job.path, replace(record, number=""))
    index.register(job)
    words: list[list[str]] = []

    def call(said: list[str], **_: Any) -> str:
        words.append(said)
        if said[0] == "sbatch":  # the job starts before its number is known
            with monkeypatch.context() as context:
                context.setenv("SLURM_JOB_ID", "12")
                submission.note_start(job)
            return "12;chama\n"
        is_there = "--clusters=chama" in said
        return "CLUSTER: chama\n12|PENDING|Priority\n" if is_there else ""

    monkeypatch.setattr(slurm_queue, "call", call)
    monkeypatch.setattr(queries, "_FRESH_SECONDS", 0)
    assert submission.submit(job, Profile(queue="slurm")) == "12@chama"
    assert job.status().queue.number == "12@chama"
    queries.refresh([job.status()])
    assert describe_state(job.status()) == "waiting: priority"
    assert index.find("12").path == index.find("12@chama").path == job.path
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    submission.note_start(job)
    assert job.status().queue.number == "12@chama"
    submission.stop(job)
    assert ["scancel", "--quiet", "--clusters=chama", "12"] in words


def ended_by(*kinds: str) -> dict[str, Any]:
    """A job that has ended, in the full view of OAR."""
    return {"state": "Terminated", "events": [{"type": kind} for kind in kinds]}


@pytest.mark.parametrize(
    ("job", "phase", "words"),
    [
        ({"state": "Hold"}, "waiting", "held"),
        # OAR describes every job in this way; it is no reason for waiting.
        ({"state": "Waiting", "message": "R=1 (Karma=0.08)"}, "waiting", "waiting"),
        ({"state": "Running"}, "running", "running"),
        ({"state": "Finishing"}, "running", "finishing"),
        ({"state": "Terminated", "exit_code": 0}, "ended", "ended"),
        ({"state": "Terminated", "exit_code": 99 * 256}, "ended", "not resubmitted"),
        (ended_by("FRAG_JOB_REQUEST", "WALLTIME"), "ended", "walltime reached"),
        (ended_by("FRAG_JOB_REQUEST"), "ended", "cancelled"),
        # The message contains the name of the job.
        (ended_by() | {"message": "R=1,N=kill"}, "ended", "ended"),
    ],
)
def test_oar_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, job: Any, phase: str, words: str
) -> None:
    found = state_of(monkeypatch, oar_queue, json.dumps({"12": job}))
    assert (found.phase, found.words, found.number) == (phase, words, "12")


def test_oar_numbers_are_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {
        "15": {"state": "Waiting", "resubmit_job_id": 14},
        "14": {"state": "Terminated", "resubmit_job_id": 12},
    }
    assert state_of(monkeypatch, oar_queue, json.dumps(jobs)).number == "15"
