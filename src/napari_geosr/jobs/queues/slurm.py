"""SLURM: ``sbatch``, ``squeue``, ``scancel``; accounting (``sacct``) is not needed."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.queues import (
    NEVER_STARTS,
    RESUBMIT,
    Phase,
    QueueState,
    QueueSystem,
)
from napari_geosr.jobs.queues._scripts import (
    LOG,
    NO_RESPONSE,
    SCRIPT,
    body,
    call,
    find_number,
    plain_name,
    quote,
    whole_number,
)

#: Reasons for waiting, in plain words; others are shown as SLURM gives them.
_REASONS = {
    "None": "",
    "Priority": "priority",
    "Resources": "resources",
    "BeginTime": "starts again soon",
    "Dependency": "another job",
    "JobHeldUser": "held by you",
    "JobHeldAdmin": "held by the administrators",
    "PartitionDown": "the partition is closed",
    "PartitionInactive": "the partition is closed",
    "ReqNodeNotAvail": "nodes are not available",
    "NodeDown": "nodes are down",
    "Licenses": "licences",
    "QOSMaxJobsPerUserLimit": "your limit on the number of jobs",
    "QOSMaxCpuPerUserLimit": "your limit on the number of cores",
    "QOSMaxGRESPerUser": "your limit on the number of GPUs",
    "QOSMaxMemoryPerUser": "your limit on memory",
    "AssocGrpCpuLimit": "the project's limit on the number of cores",
    "AssocGrpCPUMinutesLimit": "the project has used up its time",
    "MaxJobsPerAccount": "the project's limit on the number of jobs",
}
_FEWER_NODES = "request fewer nodes (--nodes)"
_FEWER_CORES = "request fewer cores (--cores)"
_SHORTER = "request a shorter walltime (--walltime)"
#: Reasons for which a job never starts, and what to change.
_OBSTACLES = {
    "PartitionTimeLimit": (
        "the walltime is longer than the partition allows",
        _SHORTER,
    ),
    "PartitionNodeLimit": ("more nodes than the partition allows", _FEWER_NODES),
    "PartitionConfig": (
        "more nodes or cores than the partition has",
        "request fewer (--nodes, --cores)",
    ),
    "BadConstraints": (
        "no node has these properties",
        "change the properties, memory or GPUs in the profile",
    ),
    "InvalidAccount": ("the project is unknown", "change the project (--project)"),
    "InvalidQOS": (
        "the quality of service is unknown",
        "change the options in the profile",
    ),
    "QOSMaxWallDurationPerJobLimit": (
        "the walltime is longer than the quality of service allows",
        _SHORTER,
    ),
    "QOSMaxNodePerJobLimit": ("more nodes than allowed", _FEWER_NODES),
    "QOSMaxCpuPerJobLimit": ("more cores than allowed", _FEWER_CORES),
    "AssocMaxWallDurationPerJobLimit": (
        "the walltime is longer than the project allows",
        _SHORTER,
    ),
    "AssocMaxNodePerJobLimit": ("more nodes than the project allows", _FEWER_NODES),
    "AssocMaxCpuPerJobLimit": ("more cores than the project allows", _FEWER_CORES),
}
_ENDINGS = {
    "COMPLETED": "ended",
    "CANCELLED": "cancelled",
    "TIMEOUT": "walltime reached",
    "OUT_OF_MEMORY": "out of memory",
    "NODE_FAIL": "the node failed",
    "BOOT_FAIL": "the node failed",
    "PREEMPTED": "preempted by a job of higher priority",
    "DEADLINE": "deadline reached",
    "FAILED": "failed",
    "REVOKED": "revoked",
}
#: What to change if SLURM refuses a job, keyed by part of its message in lower case.
_ADVICE = {
    "qos": "Change the quality of service (options in the profile, such as "
    "--qos=NAME), or request less time or fewer cores (--walltime, --cores).",
    "memory": "Request less memory per node (--mem, or memory in the profile), or "
    "choose a partition with larger nodes (--partition).",
    "gres": "Omit or reduce the GPUs (--gpus, or gpus in the profile), or choose a "
    "partition that has them (--partition; `sinfo -o '%P %G'` lists them).",
    "account": "Change the account (--project, or project in the profile), and check "
    "that it may use the partition (--partition). `sacctmgr show assoc "
    "user=$USER` lists your accounts.",
    "partition": "Change the partition (--partition, or partition in the profile). "
    "`sinfo -s` lists the partitions.",
    "time limit": "Request a shorter walltime (--walltime, or walltime in the "
    "profile): most jobs are resubmitted until they are done; those of segment, shapes "
    "and sim must end within it. `sinfo -o '%P %l'` lists the limits.",
    "feature": "Change the required properties (properties in the profile). `sinfo -o "
    "'%P %f'` lists them.",
    "cpu count": "Request fewer cores per node (--cores, or cores in the profile).",
    "node count": "Request fewer nodes (--nodes, or nodes in the profile).",
    "node configuration": "No node has all that was requested: reduce the cores, "
    "memory or GPUs per node (--cores, --mem, --gpus, or these fields in the profile), "
    "or choose another partition (--partition).",
}
#: Bash command that runs a script with the number of its task as an argument.
_RUN_TASK = 'exec bash "$1" "$SLURM_PROCID"'
_WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT")


class Slurm:
    """The queue system SLURM, from release 20.11 on."""

    title = "SLURM"
    number_variable = "SLURM_JOB_ID"
    renumbers = False

    def script(
        self, name: str, folder: Path, profile: Profile, command: tuple[str, ...]
    ) -> str:
        """Write the script; see `QueueSystem.script`."""
        options = [
            f"--job-name={plain_name(name)}",
            f"--time={profile.walltime}",
            f"--nodes={profile.nodes}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={profile.cores}",
        ]
        if profile.gpus:
            options.append(f"--gpus-per-node={profile.gpus}")
        if profile.megabytes:
            options.append(f"--mem={profile.megabytes}M")
        if profile.project:
            options.append(f"--account={profile.project}")
        if profile.partition:
            options.append(f"--partition={profile.partition}")
        if profile.properties:
            options.append(f"--constraint={quote(profile.properties)}")
        options += [
            f"--output={_output(folder)}",
            "--open-mode=append",
            f"--signal=B:USR1@{profile.warning_seconds}",
            "--requeue",
            *profile.options,
        ]
        header = "".join(f"#SBATCH {option}\n" for option in options)
        return (
            f"#!/bin/bash\n{header}\n{body(folder, profile, command)}"
            f'if [ "$code" -eq {RESUBMIT} ]; then\n'
            '    scontrol requeue "$SLURM_JOB_ID"\n'
            'fi\nexit "$code"\n'
        )

    def submit(self, folder: Path) -> str:
        """Submit the script; see `QueueSystem.submit`."""
        words = ["sbatch", "--parsable", SCRIPT]
        text = call(words, title=self.title, folder=folder, advice=_ADVICE)
        # With --parsable, the line is "12" or "12;cluster"; sites may add other lines.
        pattern = r"^[ \t]*(\d+(?:;\S*)?)[ \t\r]*$"
        number, _, cluster = find_number(pattern, text, title=self.title).partition(";")
        return f"{number}@{cluster}" if cluster else number

    def states(self, numbers: Mapping[Path, str]) -> dict[Path, QueueState]:
        """Query all jobs of this user; see `QueueSystem.states`."""
        words = ["squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%r"]
        found = {}
        for cluster in sorted(
            {number.partition("@")[2] for number in numbers.values()}
        ):
            options = _options_for(cluster)
            text = call([*words, *options], title=self.title, failure=NO_RESPONSE)
            for line in text.splitlines():
                number, state, reason = (*line.strip().split("|", 2), "", "")[:3]
                found[f"{number}@{cluster}" if cluster else number] = state, reason
        # SLURM forgets a job a few minutes after its end.
        return {
            folder: _state(number, *found.get(number, ("", "")))
            for folder, number in numbers.items()
        }

    def count_nodes(self) -> int:
        """Return the number of nodes of the allocation."""
        return whole_number(os.environ.get("SLURM_JOB_NUM_NODES"))

    def start_workers(
        self, script: Path, n: int, threads: int, *, together: bool = False
    ) -> list[list[str]]:
        """Return one command for all workers; see `QueueSystem.start_workers`."""
        n_nodes = self.count_nodes()
        options = [
            f"--nodes={n_nodes}",
            f"--ntasks={n}",
            f"--ntasks-per-node={-(-n // n_nodes)}",
            f"--cpus-per-task={threads}",
            # Run alongside other steps and the job script itself, which needs few
            # resources.
            "--overlap",
            "--overcommit",
        ]
        if together:
            options.append("--kill-on-bad-exit=1")
        else:
            # The loss of a worker or a node does not end the other workers.
            options += ["--wait=0", "--kill-on-bad-exit=0", "--no-kill"]
        return [["srun", *options, "bash", "-c", _RUN_TASK, "bash", str(script)]]

    def cancel(self, number: str) -> None:
        """Cancel a job; see `QueueSystem.cancel`."""
        number, _, cluster = number.partition("@")
        words = ["scancel", "--quiet", *_options_for(cluster), number]
        call(words, title=self.title)


def _output(folder: Path) -> str:
    """Return the file for messages of SLURM itself; the script redirects all others.

    In the path of this file, which begins with the job's folder, SLURM replaces ``%``
    and the letter after it, and removes backslashes. It would therefore not find a
    folder with these characters in its path.
    """
    return os.devnull if set("%\\") & set(str(folder)) else LOG


def _options_for(cluster: str) -> list[str]:
    """Return the options that select one of the clusters of a site."""
    return [f"--clusters={cluster}"] if cluster else []


def _state(number: str, state: str, reason: str) -> QueueState:
    phase: Phase = "running"
    if state in _WAITING:
        # Details may follow, as in "ReqNodeNotAvail, Reserved for maintenance".
        reason, _, details = reason.strip("()").partition(",")
        if reason in _OBSTACLES:
            why, remedy = _OBSTACLES[reason]
            words = f"{NEVER_STARTS}: {why}; stop it and {remedy}"
            return QueueState("waiting", words, number)
        known = _REASONS.get(reason, _in_words(reason))
        if "maintenance" in details.lower():
            known = f"{known} (maintenance)"
        return QueueState("waiting", f"waiting: {known}".rstrip(": "), number)
    if state == "" or state in _ENDINGS:
        return QueueState("ended", _ENDINGS.get(state, "ended"), number)
    words = "suspended" if state == "SUSPENDED" else "running"
    return QueueState(phase, words, number)


def _in_words(reason: str) -> str:
    """Convert a reason such as ``AssocGrpCpuLimit`` to "assoc grp cpu limit"."""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", reason)
    return re.sub(r"(?<=[A-Z])(?=[A-Z][a-z])", " ", text).lower()


QUEUE: QueueSystem = Slurm()
