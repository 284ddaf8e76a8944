"""Train in several processes: one on each GPU of a job, or one on each of its nodes.

torchrun starts the processes; on several nodes, they connect to each other through an
address on the node where the job starts. The process with number 0 owns the job's
folder. It also reads requests there, so that all processes stop after the same step.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from napari_geosr.core.steps import ShouldStop
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations.cluster.passed_on import READ_EXPORTS, export_lines
from napari_geosr.operations.cluster.starters import start_all

#: Argument of ``python -m napari_geosr.jobs`` that precedes torchrun's options.
TORCHRUN = "torchrun"
#: Operations that torchrun can run in several processes.
SHARED_OPERATIONS = ("train",)
#: Module that the command torchrun runs.
_MODULE = "torch.distributed.run"
#: Option with the number of nodes.
_NODES = "--nnodes="
#: Names of the hidden folder and of the script that starts torchrun on a node.
_FOLDER, _SCRIPT = ".torchrun.{}.partial", "torchrun.sh"
#: Seconds that torchrun may take to end after it has failed on another node.
_END_SECONDS = 60.0
_INTERVAL_SECONDS = 0.2

#: Function that takes a script and a number of nodes, and returns the commands that
#: run the script on these nodes.
Commands = Callable[[Path, int], Sequence[Sequence[str]]]


def count_processes(profile: Profile) -> int:
    """Return the number of processes that train with these resources."""
    return profile.nodes * max(1, profile.gpus)


def torchrun_words(operation: str, profile: Profile) -> tuple[str, ...]:
    """Return ``torchrun`` and its options for a job's script; empty for one process.

    Parameters
    ----------
    operation : str
        Operation of the job, as in its ``config.yaml``.
    profile : Profile
    """
    if operation not in SHARED_OPERATIONS or count_processes(profile) < 2:
        return ()
    counts = (f"{_NODES}{profile.nodes}", f"--nproc-per-node={max(1, profile.gpus)}")
    if profile.nodes == 1:
        return (TORCHRUN, *counts, "--standalone")
    return (TORCHRUN, *counts, "--rdzv-backend=c10d")


def run_processes(
    job: JobFolder,
    options: Sequence[str],
    commands: Commands,
    threads: int,
    should_stop: ShouldStop,
) -> int:
    """Run a job in several processes and wait until they have ended.

    Parameters
    ----------
    job : JobFolder
        Job with a free lock, because process 0 acquires the lock.
    options : sequence of str
        Options of torchrun from the job's script.
    commands : callable
        Starts a script on each node, if there are several.
    threads : int
        CPU threads of each process, unless ``OMP_NUM_THREADS`` is set.
    should_stop : callable
        Once it returns True, the job is asked to pause.

    Returns
    -------
    int
        0 if all processes have ended without an error.
    """
    n_nodes = _count_nodes(options)
    torchrun = [sys.executable, "-P", "-m", _MODULE, *options]
    program = ["-m", "napari_geosr.jobs", str(job.path)]
    environment = {
        # Python must not import modules from the folder of the job.
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }
    if n_nodes == 1:
        with _ended(
            *start_all([[*torchrun, *program]], os.environ | environment)
        ) as started:
            return _wait(job, started, should_stop)
    meeting = [
        f"--rdzv-endpoint={socket.gethostname()}:{_free_port()}",
        f"--rdzv-id={secrets.token_hex(4)}",
    ]
    with _script(job.path, [*torchrun, *meeting, *program]) as script:
        exports = export_lines(environment)
        processes = start_all(commands(script, n_nodes), passed=exports)
        with _ended(*processes) as started:
            return _wait(job, started, should_stop)


def _count_nodes(options: Sequence[str]) -> int:
    given = (o.removeprefix(_NODES) for o in options if o.startswith(_NODES))
    return int(next(given, "1"))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("", 0))
        port: int = found.getsockname()[1]
    return port


@contextmanager
def _script(folder: Path, command: Sequence[str]) -> Iterator[Path]:
    """Write a script that starts torchrun on a node; it is removed at the end."""
    for left in folder.glob(_FOLDER.format("*")):  # left by a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    private = folder / _FOLDER.format(secrets.token_hex(4))
    try:
        with explained(private):
            private.mkdir(mode=0o700)
            script = private / _SCRIPT
            script.touch(mode=0o700)
            script.write_text(
                "#!/bin/bash\n# Starts the training processes of one node.\n"
                f"{READ_EXPORTS}cd {shlex.quote(str(folder))} || exit 2\n"
                f"exec {shlex.join(command)}\n"
            )
        yield script
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _wait(
    job: JobFolder,
    started: Sequence[subprocess.Popen[bytes]],
    should_stop: ShouldStop,
) -> int:
    is_asked, deadline = False, 0.0
    while True:
        codes = [process.poll() for process in started]
        failed = [code for code in codes if code]
        if None not in codes:
            return failed[0] if failed else 0
        if should_stop() and not is_asked:
            is_asked = True
            if job.pending_request() != "cancel":
                job.request("pause")
        if failed:
            # The other processes end by themselves, unless the connection to them was
            # lost.
            deadline = deadline or time.monotonic() + _END_SECONDS
            if time.monotonic() > deadline:
                return failed[0]
        time.sleep(_INTERVAL_SECONDS)


@contextmanager
def _ended(
    *started: subprocess.Popen[bytes],
) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
    """On exit, terminate any processes that are still running."""
    try:
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        for process in started:
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
