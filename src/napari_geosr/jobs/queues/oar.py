"""OAR: ``oarsub``, ``oarstat``, ``oardel``, as used at GRICAD and on Grid'5000."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

from napari_geosr.core.documents import load_json
from napari_geosr.core.errors import ConfigError, JobError, UnansweredError
from napari_geosr.core.machine.allocation import CORES, MEGABYTES
from napari_geosr.core.machine.file_clock import file_system_time
from napari_geosr.core.types import AnyDict
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.queues import RESUBMIT, QueueState, QueueSystem
from napari_geosr.jobs.queues._scripts import (
    LOG,
    NO_RESPONSE,
    SCRIPT,
    body,
    call,
    find_number,
    plain_name,
    quote,
)

#: Signal number of SIGUSR1; OAR requires signals as numbers.
_SIGNAL = 10
_WAITING = {
    "Waiting": "waiting",
    "Hold": "held",
    "toLaunch": "starting",
    "Launching": "starting",
    "toAckReservation": "waiting",
}
_ENDED = ("Terminated", "Error", "toError")
#: Why a job has ended, by the type of one of its events. The first match counts: OAR
#: also deletes a job that has reached its walltime.
_ENDINGS = {
    "WALLTIME": "walltime reached",
    "BESTEFFORT_KILL": "preempted by a job of higher priority",
    "FRAG_JOB_REQUEST": "cancelled",
}
#: What to change if OAR refuses a job, keyed by part of its message in lower case.
_ADVICE = {
    "project": "Change the project (--project, or project in the profile).",
    "walltime": "Request another walltime (--walltime, or walltime in the profile).",
    "queue": "Change the queue (--partition, or partition in the profile).",
    "properties": "Check the conditions on the nodes (properties and memory_property "
    "in the profile).",
    "resource": "Request fewer nodes, cores or GPUs, or less memory (--nodes, --cores, "
    "--gpus, --mem, or these fields in the profile), or other nodes (properties in "
    "the profile).",
}
#: File in which a job records its state.
_STATE_FILE = "job.json"
#: Maximum time that OAR needs to resubmit a job that has ended, in seconds.
_MAX_RESUBMISSION = 300.0
#: Exit code of oardel if the job has already been deleted.
_ALREADY_DELETED = 6
#: Maximum length of oarstat's output, in bytes.
_MAX_ANSWER = 32 * 10**6


class Oar:
    """The queue system OAR, from release 2.5 on."""

    title = "OAR"
    number_variable = "OAR_JOB_ID"
    renumbers = True

    def script(
        self, name: str, folder: Path, profile: Profile, command: tuple[str, ...]
    ) -> str:
        """Write the script; see `QueueSystem.script`."""
        # On clusters with GPUs, cores belong to a GPU and are allocated with it.
        per_node = f"gpu={profile.gpus}" if profile.gpus else f"core={profile.cores}"
        conditions = [profile.properties] if profile.properties else []
        note = ""
        if profile.megabytes and profile.gpus:
            # The number of cores, and thus the memory per core, is not known here.
            note = "# OAR allocates memory with the GPUs; --mem has no effect.\n"
        elif profile.megabytes:
            # AND binds more tightly than an OR in the user's condition.
            conditions = [f"({condition})" for condition in conditions]
            least = math.ceil(profile.megabytes / profile.cores)
            conditions.append(f"{profile.memory_property} >= {least}")
        options = [
            f"-n {plain_name(name)}",
            f"-l /nodes={profile.nodes}/{per_node},walltime={profile.walltime}",
        ]
        if conditions:
            options.append(f"-p {' AND '.join(conditions)}")
        if profile.project:
            options.append(f"--project {profile.project}")
        if profile.partition:
            options.append(f"-q {profile.partition}")
        options += [
            f"-O {LOG}",
            f"-E {LOG}",
            "-t idempotent",
            f"--checkpoint {profile.warning_seconds}",
            f"--signal {_SIGNAL}",
            *profile.options,
        ]
        header = "".join(f"#OAR {option}\n" for option in options)
        text = _limits(profile) + body(folder, profile, command)
        return f'#!/bin/bash\n{header}{note}\n{text}exit "$code"\n'

    def submit(self, folder: Path) -> str:
        """Submit the script; see `QueueSystem.submit`."""
        words = ["oarsub", "-S", f"./{SCRIPT}"]
        text = call(words, title=self.title, folder=folder, advice=_ADVICE)
        return find_number(r"OAR_JOB_ID=(\d+)", text, title=self.title)

    def states(self, numbers: Mapping[Path, str]) -> dict[Path, QueueState]:
        """Query the jobs of this user; see `QueueSystem.states`."""
        words = ["oarstat", "-u", "-J"]
        waiting = _jobs(call(words, title=self.title, failure=NO_RESPONSE))
        return {
            folder: self._state(folder, number, waiting)
            for folder, number in numbers.items()
        }

    def _state(
        self, folder: Path, number: str, known: Mapping[str, AnyDict]
    ) -> QueueState:
        number = _last(number, known)
        job = known.get(number)
        if job is None:  # a job that has ended is found only by its number
            words = ["oarstat", "-f", "-j", number, "-J"]
            try:  # only the full view has the exit code and the events
                text = call(words, title=self.title)
            except UnansweredError:  # the job may be running
                raise
            except JobError:
                return QueueState("ended", "ended", number)
            job = _jobs(text).get(number, {})
        state = str(job.get("state", ""))
        if state in _WAITING:
            # OAR's message describes the job, but gives no reason for waiting.
            return QueueState("waiting", _WAITING[state], number)
        if state in _ENDED or not state:
            return _ending(job, number, folder)
        return QueueState("running", state.lower(), number)

    def count_nodes(self) -> int:
        """Return the number of different nodes in the file that lists the cores."""
        return max(1, len(_nodes()))

    def start_workers(
        self, script: Path, n: int, threads: int, *, together: bool = False
    ) -> list[list[str]]:
        """Return one ``oarsh`` command per worker; see `QueueSystem.start_workers`."""
        nodes = _nodes()
        if not nodes:
            raise JobError(
                "OAR does not state the nodes of this job (OAR_NODEFILE), so no "
                "processes can be started on them."
            )
        return [
            ["oarsh", nodes[i * len(nodes) // n], f"exec bash {quote(script)} {i}"]
            for i in range(n)
        ]

    def cancel(self, number: str) -> None:
        """Cancel a job; see `QueueSystem.cancel`."""
        call(["oardel", number], title=self.title, accepted=(0, _ALREADY_DELETED))


def _limits(profile: Profile) -> str:
    """Return lines of a script that set limits for which OAR has no variable.

    With GPUs, the number of cores and the memory are not known here.
    """
    if profile.gpus:
        return ""
    memory = f"export {MEGABYTES}={profile.megabytes}\n" if profile.megabytes else ""
    return f"export {CORES}={profile.cores}\n{memory}"


def _nodes() -> list[str]:
    """Return the distinct nodes of the job in which this process runs."""
    path = os.environ.get("OAR_NODEFILE") or os.environ.get("OAR_NODE_FILE")
    try:
        lines = Path(path).read_text().split() if path else []
    except OSError:
        lines = []
    # A name that begins with a hyphen would be interpreted as an option.
    return list(dict.fromkeys(line for line in lines if not line.startswith("-")))


def _ending(job: AnyDict, number: str, folder: Path) -> QueueState:
    """Return the state of a job that has ended."""
    code = _count(job.get("exit_code"))
    # OAR reports the exit status of `wait`, which is 256 times the exit code.
    if code in (RESUBMIT, RESUBMIT * 256):
        # OAR does not resubmit runs that were too short, or that it has killed.
        if _silence(folder) < _MAX_RESUBMISSION:
            return QueueState("waiting", "waiting: resubmitted", number)
        return QueueState("ended", "not resubmitted", number)
    kinds = _event_types(job)
    for kind, words in _ENDINGS.items():
        if kind in kinds:
            return QueueState("ended", words, number)
    failed = job.get("state") in ("Error", "toError")
    return QueueState("ended", "failed" if failed else "ended", number)


def _silence(folder: Path) -> float:
    """Return the seconds since a job last wrote its state, by the file system's clock.

    The clocks of this computer and of the node may differ.
    """
    try:
        written = (folder / _STATE_FILE).stat().st_mtime
    except OSError:
        return math.inf
    return file_system_time(folder) - written


def _event_types(job: AnyDict) -> set[str]:
    """Return the types of the events of a job, which only the full view contains."""
    events = job.get("events")
    found = events if isinstance(events, list) else []
    return {str(event.get("type")) for event in found if isinstance(event, dict)}


def _last(number: str, known: Mapping[str, AnyDict]) -> str:
    """Return the number of the latest resubmission of the job `number`."""
    after = {str(job.get("resubmit_job_id")): other for other, job in known.items()}
    seen = set()
    while number in after and number not in seen:
        seen.add(number)
        number = after[number]
    return number


def _jobs(text: str) -> dict[str, AnyDict]:
    """Parse oarstat's JSON (empty if there are no jobs) into jobs keyed by number."""
    if not text.strip():
        return {}
    try:
        values = load_json(text, _MAX_ANSWER)
    except ConfigError as error:
        raise JobError(f"The output of oarstat cannot be read: {error}") from error
    if not isinstance(values, dict):
        return {}
    return {str(k): job for k, job in values.items() if isinstance(job, dict)}


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else 0


QUEUE: QueueSystem = Oar()
