"""What OAR itself does differently from other queues."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from queue_helpers import Cluster

from napari_geosr.core.errors import ConfigError, JobError, UnansweredError
from napari_geosr.jobs import __main__ as process
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queries, queue_record, submission
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.facts import recorded
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.queues import oar as oar_queue
from napari_geosr.jobs.queues.oar import QUEUE

#: A job that at once asks to be resubmitted.
SCRIPT = """#!/bin/bash
#OAR -l /nodes=1/core=1,walltime=1:00:00
#OAR -O o
#OAR -E o
#OAR -t idempotent
exit 99
"""


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    values = {"operation": "restore", "method": "tv", "name": "job"}
    return JobFolder.create(tmp_path / "job", values, name="job")


def note_number(job: JobFolder, number: str) -> None:
    queue_record.write_record(job.path, QueueRecord("oar", "OAR", number, profile={}))


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0])
def test_the_clock_of_a_node_does_not_delay_the_end(
    job: JobFolder, seconds: float
) -> None:
    path = job.path / "job.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps(facts | {"updated": facts["updated"] + seconds}))
    ended = {"exit_code": 99 * 256}
    assert oar_queue._ending(ended, "12", job.path).phase == "waiting"
    long_ago = time.time() - 400
    os.utime(path, (long_ago, long_ago))
    assert oar_queue._ending(ended, "12", job.path).words == "not resubmitted"


@pytest.mark.usefixtures("oar")
def test_a_job_that_oar_does_not_resubmit_has_ended(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAR_EMULATOR_LEAST", "60")
    submission.write_script(job.path, SCRIPT)
    number = QUEUE.submit(job.path)
    note_number(job, number)
    end = time.monotonic() + 120
    while QUEUE.states({job.path: number})[job.path].words != "waiting: resubmitted":
        assert time.monotonic() < end
        time.sleep(0.1)
    queries.refresh([job.status()])
    assert job.status().state == "queued"
    monkeypatch.setattr(oar_queue, "_MAX_RESUBMISSION", 0.0)
    monkeypatch.setattr(queries, "_FRESH_SECONDS", 0.0)
    queries.refresh([job.status()])
    status = job.status()
    assert (status.state, status.can_resume) == ("interrupted", True)
    assert "not resubmitted" in status.message


def test_an_oar_that_does_not_respond_ends_no_job(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(words: list[str], **_: Any) -> str:
        if "-j" in words:
            raise UnansweredError("OAR has not responded for 60 s.")
        return ""

    monkeypatch.setattr(oar_queue, "call", call)
    note_number(job, "12")
    assert queries.refresh([job.status()]) == ["OAR has not responded for 60 s."]
    assert job.status().state == "queued"


def test_a_job_may_be_deleted_twice(oar: Cluster, tmp_path: Path) -> None:
    path = submission.write_script(tmp_path, SCRIPT.replace("exit 99", "sleep 60"))
    number = QUEUE.submit(path.parent)
    QUEUE.cancel(number)
    assert subprocess.run(["oardel", number], check=False).returncode == 6
    QUEUE.cancel(number)
    with pytest.raises(JobError, match="does not exist"):
        QUEUE.cancel("7")


@pytest.mark.parametrize("walltime", ["1min", "100s"])
def test_a_walltime_too_short_to_be_resubmitted_is_refused(walltime: str) -> None:
    with pytest.raises(ConfigError, match="Use at least 2min"):
        Profile.from_mapping({"queue": "oar", "walltime": walltime})
    Profile.from_mapping({"queue": "slurm", "walltime": walltime})
    Profile.from_mapping({"queue": "oar", "walltime": "2min"})


def test_a_resubmitted_job_that_was_stopped_does_not_run(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    note_number(job, "12")
    job.set_state("cancelled", pid=0)
    updated = job.status().updated
    queue_record.write_state(
        job.path, "waiting", "waiting", updated, submitted="12", number="13"
    )
    monkeypatch.setenv("OAR_JOB_ID", "13")
    assert submission.was_stopped(job)
    monkeypatch.setenv("OAR_JOB_ID", "14")  # submitted again, by hand
    assert not submission.was_stopped(job)


class RenumberingOar:
    """Resubmits job 12 as job 13 after a number of calls, and records deletions."""

    def __init__(self, n_calls: int) -> None:
        self.n_calls = n_calls
        self.deleted: list[str] = []

    def __call__(self, words: list[str], **_: Any) -> str:
        self.n_calls -= 1
        if words[0] == "oardel":
            self.deleted.append(words[1])
            return ""
        jobs = {"12": {"state": "Terminated", "exit_code": 99 * 256}}
        if "-j" not in words:  # only waiting and running jobs
            jobs = {} if self.n_calls > 0 else {"13": WAITING}
        return json.dumps(jobs)


WAITING = {"state": "Waiting", "resubmit_job_id": 12}


@pytest.fixture
def resubmitted(job: JobFolder) -> JobFolder:
    """A job that has just asked OAR to resubmit it."""
    record = QueueRecord("oar", "OAR", "12", resubmitted=1, profile={})
    queue_record.write_record(job.path, record)
    job.set_state("queued", pid=0, host="")
    return job


@pytest.mark.parametrize(
    ("n_calls", "deleted"), [(0, ["13"]), (4, ["12", "13"]), (99, ["12"])]
)
def test_a_job_is_stopped_while_oar_resubmits_it(
    resubmitted: JobFolder,
    monkeypatch: pytest.MonkeyPatch,
    n_calls: int,
    deleted: list[str],
) -> None:
    """OAR gives it a new number before, while or after it is deleted."""
    job, oar = resubmitted, RenumberingOar(n_calls)
    monkeypatch.setattr(oar_queue, "call", oar)
    submission.stop(job)
    assert oar.deleted == deleted
    assert job.status().state == "cancelled"
    # The run that OAR had started meanwhile ends at once.
    monkeypatch.setenv("OAR_JOB_ID", "13")
    monkeypatch.setattr(process, "_run", lambda *_: pytest.fail("it runs"))
    assert process._run_in_queue(job, process._Asked()) == 0
    assert recorded(job.path)[1] == "cancelled"
    assert job.pending_request() == ""
    monkeypatch.setenv("OAR_JOB_ID", "14")  # submitted again, by hand
    assert not submission.was_stopped(job)


def test_a_job_is_found_by_its_earlier_numbers(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number that ``submit`` has printed remains valid."""
    note_number(job, "12")
    index.register(job)
    monkeypatch.setenv("OAR_JOB_ID", "13")
    submission.note_start(job)  # resubmitted
    updated = job.status().updated
    queue_record.write_state(
        job.path, "ended", "ended", updated, submitted="13", number="14"
    )
    job.set_state("cancelled", pid=0)
    profile = submission.profile_of(job)
    assert profile is not None
    monkeypatch.setattr(type(QUEUE), "submit", lambda *_: "15")
    submission.submit(job, profile)  # resumed
    assert job.status().queue.number == "15"
    for number in ("12", "13", "14", "15"):
        assert index.find(number).path == job.path
    queue_record.forget_number(job.path)  # resumed on this computer
    assert index.find("15").path == job.path
    # The number of another job now.
    other = JobFolder.create(job.path.with_name("other"), job.values(), name="other")
    note_number(other, "12")
    index.register(other)
    assert index.find("12").path == other.path
