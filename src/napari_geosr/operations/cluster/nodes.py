"""Worker processes on several computers, started by commands of the queueing system.

This module imports `distributed`, so it is imported only for runs on several
computers.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import dask
from distributed import Client, LocalCluster, Security
from distributed.utils import get_ip

from napari_geosr.core.errors import Cancelled, WorkerError
from napari_geosr.core.machine.processes import WARNINGS, warnings_without_leaks
from napari_geosr.core.steps import ShouldStop
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.operations.cluster import worker_settings
from napari_geosr.operations.cluster.passed_on import (
    PRIVATE_FOLDERS,
    READ_EXPORTS,
    export_lines,
)
from napari_geosr.operations.cluster.shared_folders import FOLDERS_OF_JOBS
from napari_geosr.operations.cluster.starters import start_all
from napari_geosr.operations.cluster.tasks import ALLOCATED

#: Seconds to wait for all workers to start; after that, the run begins with those that
#: have started.
_START_SECONDS = 180.0
#: Seconds within which the commands that started the workers must end.
_END_SECONDS = 15.0
_INTERVAL_SECONDS = 0.2
#: Names of the files with the keys of a run, and of the script of a worker.
_KEYS = {"ca_file": "ca.pem", "cert": "cert.pem", "key": "key.pem"}
_SCRIPT = "worker.sh"

#: Function that takes a worker script and the number of workers, and returns the
#: commands that start them; each command passes its worker's number to the script.
Commands = Callable[[Path, int], Sequence[Sequence[str]]]


@contextmanager
def workers_on_nodes(
    folder: Path,
    commands: Commands,
    n_workers: int,
    threads: int,
    should_stop: ShouldStop,
) -> Iterator[Client]:
    """Run a scheduler here and workers on other nodes until the context exits.

    Parameters
    ----------
    folder : Path
        A folder that all computers share. A hidden folder in it, which only this user
        can read, contains the keys of the encrypted connections, and copies of inputs
        that are in memory.
    commands : callable
    n_workers : int
    threads : int
        CPU threads of each worker.
    should_stop : callable

    Raises
    ------
    Cancelled
        If `should_stop` returns True before the workers have started.
    WorkerError
        If no worker starts.
    """
    security = Security.temporary()
    private = folder / PRIVATE_FOLDERS.replace("*", secrets.token_hex(4))
    settings = worker_settings(threads)
    try:
        with (
            dask.config.set(settings),
            LocalCluster(
                n_workers=0,
                host=get_ip(),
                # The dashboard has no password, and other users can reach the network.
                dashboard_address="127.0.0.1:0",
                silence_logs=50,
                security=security,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            with explained(private):
                private.mkdir(mode=0o700)
                address = cluster.scheduler_address
                script = _write_script(private, security, address)
            exports = export_lines(_environment(threads))
            started = start_all(commands(script, n_workers), passed=exports)
            try:
                _wait_for_workers(client, n_workers, started, should_stop)
                ALLOCATED.add(client)
                FOLDERS_OF_JOBS[client] = private
                yield client
            finally:
                with suppress(OSError, TimeoutError, RuntimeError):
                    # End the workers; otherwise, they would wait for a new scheduler.
                    client.retire_workers(close_workers=True)
                _end(started)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _write_script(folder: Path, security: Security, address: str) -> Path:
    """Write the keys and the script that starts a worker."""
    texts = security.get_tls_config_for_role("worker")
    for name, file in _KEYS.items():
        path = folder / file
        path.touch(mode=0o600)
        path.write_text(str(texts[name]))
    command = [
        *(sys.executable, "-P", "-m", "distributed.cli.dask_worker", address),
        *("--tls-ca-file", str(folder / _KEYS["ca_file"])),
        *("--tls-cert", str(folder / _KEYS["cert"])),
        *("--tls-key", str(folder / _KEYS["key"])),
        *("--nworkers", "1", "--nthreads", "1", "--memory-limit", "0"),
        *("--no-dashboard", "--death-timeout", "60", "--name"),
    ]
    script = folder / _SCRIPT
    script.touch(mode=0o700)
    script.write_text(
        "#!/bin/bash\n# Starts one worker process of the job; $1 is its number.\n"
        f'{READ_EXPORTS}exec {shlex.join(command)} "$1"\n'
    )
    return script


def _environment(threads: int) -> dict[str, str]:
    """Return a worker's environment variables, as Dask sets them on this computer."""
    start = "distributed.nanny.pre-spawn-environ."
    settings = worker_settings(threads)
    return {
        name.removeprefix(start): str(value)
        for name, value in settings.items()
        if name.startswith(start)
    } | {"DASK_LOGGING__DISTRIBUTED": "error", WARNINGS: warnings_without_leaks()}


def _wait_for_workers(
    client: Client,
    n_workers: int,
    started: Sequence[subprocess.Popen[bytes]],
    should_stop: ShouldStop,
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while (n := len(client.nthreads())) < n_workers:
        if should_stop():
            raise Cancelled("Stopped before the workers had started.")
        ended = all(process.poll() is not None for process in started)
        if ended or time.monotonic() > deadline:
            if n:
                return
            raise WorkerError(
                f"None of the {n_workers} worker processes started on the nodes of "
                "this job. The reason is in its log.txt."
            )
        time.sleep(_INTERVAL_SECONDS)


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for the commands to end, and terminate those that do not end in time."""
    deadline = time.monotonic() + _END_SECONDS
    for process in started:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.terminate()
    for process in started:
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
