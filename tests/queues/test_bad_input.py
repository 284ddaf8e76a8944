"""Invalid submissions are rejected in one sentence, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from programs import write_program
from queue_helpers import Cluster, submit, wait_for

from napari_geosr.cli.app import run
from napari_geosr.cli.kit import run_plan
from napari_geosr.cli.submit import command as submit_command
from napari_geosr.core.errors import FileError, JobError
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queue_record, reservation, submission
from napari_geosr.jobs.cluster.profiles import profiles_folder
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.queues import load_queue


def refused(capsys: Any, *words: str) -> str:
    """The sentence with which a command is rejected."""
    assert run(list(words)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    said = "\n".join(line for line in lines if not line.startswith("note: "))
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1, said
    return said.removeprefix("napari-geosr: ")


def wait_until(is_reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def restoring(scan: Path, *more: str) -> list[str]:
    out = str(scan.parent / "clean.ome.tif")
    return ["submit", "restore", str(scan), "-o", out, *more]


@pytest.fixture
def nothing_left(scan: Path) -> Any:
    before = sorted(scan.parent.iterdir())
    yield
    assert sorted(scan.parent.iterdir()) == before
    assert index.list_jobs() == []


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "Choose where to run the job: --queue slurm, oar or local"),
        (["--queue", "lsf"], "There is no queue 'lsf'. Known: local, oar, slurm."),
        (["--profile", "mine"], "There is no profile 'mine'. Known: gricad"),
        (["--profile", "../x"], "'../x' is not a valid profile name"),
        (["--profile", "gricad"], "(OAR) refuses jobs without a project"),
        (["--profile", "gricad", "--queue", "slurm"], "is for oar, not for slurm"),
        (["--queue", "slurm", "--walltime", "soon"], "'soon' is not a valid walltime"),
        (["--queue", "SLURM", "--walltime", "10"], "Did you mean 10h or 10min?"),
        (["--queue", "slurm", "--walltime", "0"], "A walltime of 0 is too short."),
        (["--queue", "slurm", "--options=--qos=x"], "profiles new NAME --options …"),
        (["--queue", "slurm", "--setup", "x"], "--setup is a setting of the profile"),
        (["--queue", "slurm", "--mem", "64"], "Did you mean 64GB or 64MB?"),
        (["--queue", "slurm", "--walltime", "20s"], "20s is too short"),
        (["--queue", "slurm", "--mem", "much"], "'much' is not an amount of memory"),
        (["--queue", "oar", "--mem", "64GB"], "OAR does not accept an amount"),
        (["--queue", "oar", "--mem", "64GB"], "memory per core (--memory-property)"),
        (["--queue", "slurm", "--gpus", "-1"], "gpus: "),
        (["--queue", "slurm", "--project", "a b"], "project: must be one word"),
        (["--queue", "slurm", "--average"], "--average"),
    ],
)
def test_before_anything_is_written(
    scan: Path, capsys: Any, more: list[str], said: str
) -> None:
    assert said in refused(capsys, *restoring(scan, *more))


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(("queue", "program"), [("slurm", "sbatch"), ("oar", "oarsub")])
def test_without_the_queue_here(
    scan: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    queue: str,
    program: str,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused(capsys, *restoring(scan, "--queue", queue))
    assert f"'{program}' is not on PATH" in said
    assert "login node" in said


@pytest.mark.usefixtures("oar", "nothing_left")
def test_the_queue_s_own_reason_is_quoted(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAR_EMULATOR_PROJECT", "pr-aiax")
    words = restoring(scan, "--profile", "gricad", "--project", "pr-other")
    said = refused(capsys, *words)
    assert said == (
        "OAR refused: # ERROR: [ADMISSION RULE] You must provide a valid project "
        "(--project), not 'pr-other'. Change the project (--project, or project in the "
        "profile)."
    )


@pytest.mark.slow
@pytest.mark.usefixtures("slurm", "nothing_left")
@pytest.mark.parametrize(
    ("more", "advice"),
    [
        (("--partition", "nowhere"), "Change the partition (--partition"),
        (("--mem", "900GB"), "Request less memory per node (--mem"),
        (("--gpus", "2"), "Omit or reduce the GPUs (--gpus"),
    ],
)
def test_slurm_s_own_reason_is_quoted(
    scan: Path, capsys: Any, more: tuple[str, str], advice: str
) -> None:
    said = refused(capsys, *restoring(scan, "--queue", "slurm", *more))
    assert said.startswith("SLURM refused: sbatch: error: ")
    assert advice in said


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("Invalid account or account/partition combination specified", "account"),
        ("Job violates accounting/QOS policy (job submit limit)", "quality of service"),
        ("Requested time limit is invalid", "shorter walltime"),
        ("Requested node configuration is not available", "No node has all"),
    ],
)
def test_a_refusal_names_the_option_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, advice: str
) -> None:
    text = f"#!/bin/sh\necho 'sbatch: error: {line}' >&2\nexit 1\n"
    write_program(tmp_path / "sbatch", text)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(JobError, match=advice) as caught:
        load_queue("slurm").submit(tmp_path)
    assert f"sbatch: error: {line}. " in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        ("submit", "Socket timed out on send/recv operation"),
        ("resume", "Socket timed out on send/recv operation"),
        ("submit", "Unable to contact slurm controller (connect failure)"),
        ("submit", "Zero Bytes were transmitted or received"),
        ("submit", "killed"),
    ],
)
def test_a_lost_connection_is_not_taken_for_a_refusal(
    scan: Path,
    capsys: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    line: str,
) -> None:
    """A busy controller often accepts a job after sbatch has given up."""
    end = "kill $$" if line == "killed" else "exit 1"
    text = f"#!/bin/sh\necho 'sbatch: error: {line}' >&2\n{end}\n"
    write_program(tmp_path / "sbatch", text)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    words = restoring(scan, "--queue", "slurm")
    folder = scan.parent / "clean.job"
    if verb == "resume":
        write_program(tmp_path / "sbatch", "#!/bin/sh\necho 11\n")
        write_program(tmp_path / "squeue", "#!/bin/sh\n")
        assert run(words) == 0
        capsys.readouterr()
        JobFolder(folder).set_state("paused")
        write_program(tmp_path / "sbatch", text)
        words = ["jobs", "resume", str(folder)]
    said = refused(capsys, *words)
    assert said.startswith(f"SLURM does not respond: sbatch: error: {line}. Check")
    assert "whether the job is in the queue before you submit it again" in said
    job = JobFolder(folder)
    assert (job.status().state, job.status().queue.number) == ("queued", "")
    # If it was accepted, it records its number itself when it starts.
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    submission.note_start(job)
    assert job.status().queue.number == "12"


#: Two ways in which ``sbatch`` behaves when Ctrl-C is pressed in the terminal.
_SBATCH = {
    "accepts": "sleep 1; echo 4321",
    "does not respond": "sleep 60",
}


@pytest.mark.parametrize("how", list(_SBATCH))
def test_ctrl_c_while_the_queue_accepts_a_job_keeps_its_folder(
    scan: Path, tmp_path: Path, how: str
) -> None:
    write_program(tmp_path / "sbatch", f"#!/bin/sh\ntouch begun\n{_SBATCH[how]}\n")
    write_program(tmp_path / "scancel", f"#!/bin/sh\necho $2 >{tmp_path}/cancelled\n")
    path = f"{tmp_path}:{os.environ['PATH']}"
    words = restoring(scan, "--queue", "slurm")
    process = subprocess.Popen(
        [sys.executable, "-m", "napari_geosr", *words],
        env=os.environ | {"PATH": path},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    job = scan.parent / "clean.job"
    wait_until((job / "begun").exists)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    if how == "does not respond":
        time.sleep(0.5)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "press Ctrl-C again" in said
    assert "Its folder is kept" in said
    assert JobFolder(job).status().state == "cancelled"
    if how == "accepts":
        assert "SLURM had already accepted clean as job 4321; it was cancelled" in said
        assert (tmp_path / "cancelled").read_text() == "4321\n"
    else:
        assert "Stopped before SLURM had given clean a number" in said


def test_an_accepted_job_is_kept_if_its_number_cannot_be_recorded(
    scan: Path, capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_record(folder: Path, record: QueueRecord) -> None:
        if record.number:
            raise FileError("the disk is full.")
        write(folder, record)

    write = queue_record.write_record
    monkeypatch.setattr(queue_record, "write_record", write_record)
    write_program(tmp_path / "sbatch", "#!/bin/sh\necho 4321\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    said = refused(capsys, *restoring(scan, "--queue", "slurm"))
    assert "SLURM has accepted clean as job 4321" in said
    assert "the disk is full. " in said
    assert JobFolder(scan.parent / "clean.job").status().state == "queued"


def test_an_output_in_no_folder(scan: Path, capsys: Any, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    more = ["--queue", "slurm", "--dry-run"]
    words = ["submit", "restore", str(scan), "-o", str(nowhere / "a.ome.tif"), *more]
    assert str(nowhere) in refused(capsys, *words)
    words = ["submit", "measure", str(scan), "-o", str(nowhere / "report"), *more]
    assert f"{nowhere} does not exist" in refused(capsys, *words)


def test_an_existing_output(scan: Path, capsys: Any) -> None:
    out = scan.parent / "clean.ome.tif"
    out.write_bytes(b"the old result")
    said = refused(capsys, *restoring(scan, "--queue", "slurm", "--dry-run"))
    assert "exists already" in said
    assert run(restoring(scan, "--queue", "slurm", "--dry-run", "--overwrite")) == 0
    assert out.read_bytes() == b"the old result"


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("clean_std", ["--uncertainty", "tta"]),
        ("clean_residual", ["--check-consistency"]),
    ],
)
def test_an_existing_companion_of_the_output(
    scan: Path, capsys: Any, name: str, more: list[str]
) -> None:
    path = scan.parent / f"{name}.ome.tif"
    path.write_bytes(b"of an earlier result")
    words = restoring(scan, "--queue", "slurm", "--dry-run", *more)
    assert f"{path} exists already" in refused(capsys, *words)


def test_names_with_line_breaks(scan: Path, capsys: Any, tmp_path: Path) -> None:
    folder = tmp_path / "a\n#SBATCH --wrap=touch"
    folder.mkdir()
    words = ["submit", "restore", str(scan), "-o", str(folder / "a.ome.tif")]
    said = refused(capsys, *words, "--queue", "slurm")
    assert "contains a line break" in said
    assert list(folder.iterdir()) == []


def test_two_jobs_with_one_output(
    oar: Cluster, scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = scan.parent / "clean.ome.tif"
    said = submit(capsys, "restore", str(scan), "-o", str(out), "--queue", "oar")
    words = restoring(scan, "--queue", "oar")
    job = JobFolder(said["job"])
    error = refused(capsys, *words)
    assert f"The job in {job.path} (OAR job {said['number']}, " in error
    assert f"also writes {out}. Stop it first" in error
    link = scan.parent.with_name("link")
    link.symlink_to(scan.parent)
    out = link / out.name
    words = ["submit", "restore", str(scan), "-o", str(out), "--queue", "oar"]
    assert f"also writes {out}. Stop it first" in refused(capsys, *words)
    # Both commands check the output before either job is in the list.
    before = sorted(scan.parent.iterdir())
    with monkeypatch.context() as context:
        context.setattr(submit_command, "check_no_other_writer", lambda *_: None)
        assert f"also writes {out}. Stop it first" in refused(capsys, *words)
        with reservation._only_output(scan.parent / out.name):
            assert "Another process is submitting" in refused(capsys, *words)
    assert sorted(scan.parent.iterdir()) == before
    assert run(["jobs", "stop", said["number"]]) == 0
    wait_for(job, lambda: not job.status().is_alive)


def test_a_dry_run_writes_nothing_and_makes_paths_absolute(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scan.parent)
    monkeypatch.setenv("PATH", str(scan.parent / "no programs"))
    words = ["submit", "restore", "scan.tif", "-o", "clean.ome.zarr", "--queue", "oar"]
    assert run([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"output     {scan.parent / 'clean.ome.zarr'}" in said
    assert "#OAR -l /nodes=1/core=4,walltime=2:00:00" in said
    assert [path.name for path in scan.parent.iterdir()] == ["scan.tif"]
    assert index.list_jobs() == []
    assert not profiles_folder().exists()


def _dry_run(scan: Path, capsys: Any, *more: str) -> str:
    assert run(restoring(scan, "--dry-run", *more)) == 0
    return " ".join(capsys.readouterr().out.partition("\n\n")[0].split())


def test_a_dry_run_prints_the_plan(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["-m", "gaussian", "--threads", "1", "--queue", "slurm"]
    said = _dry_run(scan, capsys, *words)
    for part in (
        "parts 1 tile of 16 × 48 × 48 voxels",
        "data reads 147 kB, writes 147 kB before compression",
        "memory ",
        "(1 CPU thread), in one run within the walltime",
    ):
        assert part in said
    plan = run_plan.restoration.plan_steps

    def long(*args: Any, **kwargs: Any) -> Any:
        done = yield from plan(*args, **kwargs)
        assert 10 <= done.check_seconds < 600
        return replace(
            done, seconds=12 * 3600, parts=n_parts, check_seconds=check_seconds
        )

    monkeypatch.setattr(run_plan.restoration, "plan_steps", long)
    n_parts, check_seconds = 1, 0.0
    short = restoring(scan, "--dry-run", *words, "--walltime", "5h")
    assert (
        "The walltime of 5:00:00 is too short: one tile takes about 12.0 h"
    ) in refused_last(capsys, *short)
    n_parts = 10
    said = _dry_run(scan, capsys, *words, "--walltime", "5h")
    assert "about 12.0 h on a computer like this one" in said
    assert ", in 3 runs within the walltime" in said
    assert "to predict the effect" not in said
    # The queue warns two minutes before the end.
    said = _dry_run(scan, capsys, *words, "--walltime", "12h")
    assert ", in 2 runs within the walltime" in said
    check_seconds = 4 * 3600.0
    said = _dry_run(scan, capsys, *words, "--walltime", "5h")
    assert "about 16.0 h on a computer like this one" in said
    assert ", in 4 runs within the walltime; this includes 4.0 h to predict the" in said
    words[-1] = "local"
    assert "walltime" not in _dry_run(scan, capsys, *words)


def test_a_dry_run_says_why_there_is_no_plan(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = _dry_run(scan, capsys, "-m", "auto", "--queue", "slurm")
    assert "not available, because the model will be chosen when the job runs" in said
    monkeypatch.setattr(run_plan, "why_no_torch", lambda: "no such module")
    words = ["-m", "gaussian", "--queue", "slurm"]
    said = _dry_run(scan, capsys, *words)
    assert "because torch cannot be imported on this computer (no such module)" in said
    monkeypatch.setattr(run_plan, "_QUICK_BYTES", 100)
    assert "all 147 kB would have to be read" in _dry_run(scan, capsys, *words)


def test_a_run_that_cannot_start_is_refused_before(scan: Path, capsys: Any) -> None:
    words = ["-m", "gaussian", "--memory", "1kB", "--queue", "slurm", "--dry-run"]
    assert "memory" in refused_last(capsys, *restoring(scan, *words))


def refused_last(capsys: Any, *words: str) -> str:
    """The sentence with which a command is rejected after it has started."""
    assert run(list(words)) == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("words", "needed"),
    [
        # 16 x 48 x 48 voxels of 4 bytes
        (("restore", "-m", "ct-denoise"), "147 kB"),
        (("restore", "-m", "auto"), "147 kB"),
        (("restore", "-m", "cubic-x2"), "1.18 MB"),
        (("restore", "-m", "ct-denoise", "--uncertainty", "tta"), "295 kB"),
        (("measure",), "147 kB"),
    ],
)
def test_a_full_disk_is_noticed_before_the_job_starts(
    scan: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    needed: str,
) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 10**5)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    verb, *more = words
    name = "clean.ome.tif" if verb == "restore" else "report"
    out = str(scan.parent / name)
    said = refused(
        capsys, "submit", verb, str(scan), *more, "-o", out, "--queue", "local"
    )
    assert f"needs {needed} of disk space" in said
    assert "has 100 kB left" in said
