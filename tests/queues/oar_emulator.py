"""OAR on one computer, according to the documentation of its commands.

``oarsub -S SCRIPT`` reads the ``#OAR`` lines of a script, ``oarsub OPTIONS COMMAND``
takes the same options and a command, ``oarstat [-u] [-f] [-j ID] -J`` prints JSON (the
exit code and the events only with ``-f``), ``oardel [-c] ID`` deletes a job or sends it
the checkpoint signal. One job runs at a time. An idempotent job that ends with exit
code 99 is resubmitted under a new number that records the old one as
``resubmit_job_id``. ``oarsh NODE COMMAND`` runs a command on a node of the job, which
is this computer under another name. Environment variables:

``OAR_EMULATOR``
    Folder of the jobs.
``OAR_EMULATOR_PROJECT``
    The only project accepted by the admission rule; if empty, every job may run.
``OAR_EMULATOR_LEAST``
    Duration in seconds below which a run is not resubmitted: 60 with OAR itself, by
    default 0.
``OAR_EMULATOR_SECOND``
    Duration of a second of walltime.

It imports no third-party library, so each call takes about 30 ms.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from programs import write_program

COMMANDS = ("oarsub", "oarstat", "oardel", "oarsh")
#: Options of oarsub in a script, with their names in a job.
_OPTIONS = {
    "-n": "name",
    "-l": "resources",
    "-p": "properties",
    "--project": "project",
    "-q": "queue",
    "-O": "stdout_file",
    "-E": "stderr_file",
    "-t": "types",
    "--checkpoint": "checkpoint",
    "--signal": "checkpoint_signal",
}
#: Facts that only the full view contains.
_FULL_VIEW = ("exit_code", "events", "walltime")
_LIVE = ("Waiting", "Launching", "Running", "Hold")
Job = dict[str, Any]


def install(folder: Path) -> None:
    """Write the three commands into a folder for PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        text = f'#!/bin/sh\nexec "{sys.executable}" -S -E "{__file__}" {name} "$@"\n'
        write_program(folder / name, text)


def _place() -> Path:
    return Path(os.environ["OAR_EMULATOR"])


@contextmanager
def _jobs() -> Iterator[dict[str, Job]]:
    """All jobs, locked until they are written again."""
    with (_place() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = _place() / "jobs.json"
        jobs = json.loads(path.read_text()) if path.exists() else {}
        yield jobs
        new = path.with_suffix(".new")
        new.write_text(json.dumps(jobs))
        new.replace(path)


def _change(number: str, **facts: Any) -> Job:
    with _jobs() as jobs:
        jobs[number].update(facts)
        return dict(jobs[number])


def _fail(text: str, code: int = 1) -> int:
    print(text, file=sys.stderr)
    return code


def oarsub(words: list[str]) -> int:
    """Submit a script, or a command with options."""
    facts: Job = {"types": []}
    if words[:1] == ["-S"] and len(words) == 2:
        command, script = words[1], Path(words[1])
        if not os.access(script, os.X_OK):
            return _fail(f"# Error: {script} is not executable.", 5)
        lines = script.read_text().splitlines()
        options = [
            line.removeprefix("#OAR ").strip().partition(" ")[::2]
            for line in lines
            if line.startswith("#OAR ")
        ]
    elif len(words) % 2:
        *given, command = words
        options = list(zip(given[::2], given[1::2], strict=True))
        # OAR names these files by itself.
        facts |= {"stdout_file": "OAR.stdout", "stderr_file": "OAR.stderr"}
    else:
        return _fail("# Error: neither oarsub -S SCRIPT nor OPTIONS COMMAND", 3)
    for option, value in options:
        if option not in _OPTIONS:
            return _fail(f"# Error: unknown option {option}", 4)
        name = _OPTIONS[option]
        if name == "types":
            facts[name].append(value)
        else:
            facts[name] = value
    print("[ADMISSION RULE] Modify resource description with type constraints")
    wanted = os.environ.get("OAR_EMULATOR_PROJECT", "")
    if wanted and facts.get("project") != wanted:
        return _fail(
            "# ERROR: [ADMISSION RULE] You must provide a valid project "
            f"(--project), not {facts.get('project')!r}",
            6,
        )
    clock = re.search(r"walltime=(\d+):(\d\d):(\d\d)$", str(facts.get("resources")))
    if clock is None:
        return _fail("# Error: no walltime", 4)
    hours, minutes, seconds = map(int, clock.groups())
    facts["walltime"] = (hours * 60 + minutes) * 60 + seconds
    number = _submit({**facts, "command": command, "launchingDirectory": os.getcwd()})
    print(f"OAR_JOB_ID={number}")
    return 0


def _submit(facts: Job) -> str:
    with _jobs() as jobs:
        number = str(36000 + len(jobs))
        jobs[number] = {
            "resubmit_job_id": 0,
            **facts,
            # In every state, the message describes the job.
            "message": "R=1,W=2:0:0,J=B (Karma=0.087,quota_ok)",
            "events": [],
            "state": "Waiting",
            "exit_code": None,
            "owner": "me",
        }
    subprocess.Popen(
        [sys.executable, "-S", "-E", __file__, "launch", number],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return number


def launch(words: list[str]) -> int:
    """Run a job when no other one is running, for at most its walltime."""
    number = words[0]
    while True:
        with _jobs() as jobs:
            job = jobs[number]
            if job["state"] not in ("Waiting", "Hold"):
                return 0
            busy = any(other["state"] == "Running" for other in jobs.values())
            if job["state"] == "Waiting" and not busy:
                job.update(state="Running", start_time=time.time())
                break
        time.sleep(0.05)
    folder = Path(job["launchingDirectory"])
    with (
        (folder / job["stdout_file"]).open("ab") as out,
        (folder / job["stderr_file"]).open("ab") as errors,
    ):
        process = subprocess.Popen(
            ["bash", "-c", job["command"]],
            cwd=folder,
            env={
                **os.environ,
                "OAR_JOB_ID": number,
                "OAR_JOBID": number,
                "OAR_NODEFILE": str(_write_nodes(number, job["resources"])),
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            start_new_session=True,
        )
    _change(number, pid=process.pid)
    code, events = _attend(number, job, process)
    job = _change(number, state="Terminated", exit_code=code * 256, events=events)
    took = time.time() - job["start_time"]
    is_killed = bool(events)
    is_long = took >= float(os.environ.get("OAR_EMULATOR_LEAST", "0"))
    if code == 99 and "idempotent" in job["types"] and is_long and not is_killed:
        kept = {k: job[k] for k in job if k not in ("pid", "start_time")}
        _submit({**kept, "resubmit_job_id": int(number)})
    return 0


def _write_nodes(number: str, resources: str) -> Path:
    """Write the file that lists the node of each core."""
    found = re.match(r"/nodes=(\d+)/\w+=(\d+)", resources)
    assert found is not None, resources
    path = Path(os.environ["OAR_EMULATOR"]) / f"nodes-{number}"
    names = [f"node{i}" for i in range(int(found[1])) for _ in range(int(found[2]))]
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def oarsh(words: list[str]) -> int:
    """Run a command on a node, without the environment of the job."""
    node, *command = words
    if node not in Path(os.environ["OAR_NODEFILE"]).read_text().split():
        return _fail(f"oarsh: {node} is not part of this job", 1)
    kept = {"OAR_EMULATOR_NODE": node, "PATH": os.defpath}
    os.execve("/bin/sh", ["sh", "-c", " ".join(command)], kept)


def _event(kind: str) -> Job:
    return {"type": kind, "date": int(time.time()), "to_check": "NO"}


def _attend(
    number: str, job: Job, process: subprocess.Popen[bytes]
) -> tuple[int, list[Job]]:
    """Wait for a job; return its exit code and the events if it was killed."""
    second = float(os.environ.get("OAR_EMULATOR_SECOND", "1"))
    end = time.monotonic() + job["walltime"] * second
    warning = end - float(job.get("checkpoint", 0)) * second
    events, is_warned, killed = list[Job](), "checkpoint" not in job, False
    while process.poll() is None:
        now = time.monotonic()
        if not is_warned and now > warning:
            is_warned = True
            process.send_signal(int(job["checkpoint_signal"]))
        with _jobs() as jobs:
            is_deleted = jobs[number].get("deleted", False)
        if not killed and (is_deleted or now > end):
            killed = True
            # At the walltime, OAR itself requests the deletion.
            kinds = ("FRAG_JOB_REQUEST", *(() if is_deleted else ("WALLTIME",)))
            events = [_event(kind) for kind in kinds]
            os.killpg(process.pid, signal.SIGTERM)
            end = now + 10
        elif killed and now > end:
            os.killpg(process.pid, signal.SIGKILL)
        time.sleep(0.05)
    code = process.returncode
    return (code if code >= 0 else 128 - code), events


def oarstat(words: list[str]) -> int:
    """Print jobs as JSON: those of a user that have not ended, or one by its number."""
    if "-J" not in words:
        return _fail("# Error: only JSON is emulated")
    with _jobs() as jobs:
        found = {k: j for k, j in jobs.items() if j["state"] in _LIVE}
        if "-j" in words:
            number = words[words.index("-j") + 1]
            if number not in jobs:
                return _fail(f"# Error: job {number} does not exist")
            found = {number: jobs[number]}
    hidden = () if "-f" in words else _FULL_VIEW
    found = {
        number: {name: value for name, value in job.items() if name not in hidden}
        for number, job in found.items()
    }
    if found:
        print(json.dumps(found))
    return 0


def oardel(words: list[str]) -> int:
    """Delete a job, or with ``-c`` send it the checkpoint signal."""
    number = words[-1]
    with _jobs() as jobs:
        if number not in jobs:
            return _fail(f"# Error: job {number} does not exist")
        job = jobs[number]
        if job.get("deleted") or job["state"] not in _LIVE:
            return _fail(f"# Error: job {number} is already killed", 6)
        if "-c" in words:
            os.kill(job["pid"], int(job["checkpoint_signal"]))
        elif job["state"] in ("Waiting", "Hold"):
            job.update(state="Error", events=[_event("FRAG_JOB_REQUEST")])
        else:
            job["deleted"] = True
    return 0


def end_all() -> None:
    """Delete what is left, at the end of a test."""
    with _jobs() as jobs:
        # A job without resources would only make others wait.
        live = {k: job for k, job in jobs.items() if job["state"] in _LIVE}
        left = [k for k, job in live.items() if "resources" in job]
    for number in left:
        oardel([number])
    deadline = time.monotonic() + 120
    while left and time.monotonic() < deadline:
        with _jobs() as jobs:
            left = [number for number in left if jobs[number]["state"] in _LIVE]
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(globals()[sys.argv[1]](sys.argv[2:]))
