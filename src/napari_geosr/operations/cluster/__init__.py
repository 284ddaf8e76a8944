"""Shares work among the processes of a Dask cluster, on this computer or elsewhere.

The packages of the extra ``cluster`` are imported only when workers are requested.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from napari_geosr.core.errors import ConfigError, WorkerError
from napari_geosr.core.machine.processes import start_resource_tracker
from napari_geosr.core.types import AnyDict
from napari_geosr.operations.cluster.tasks import RETRIES, WorkerPool
from napari_geosr.operations.cluster.versions import check_versions

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

#: Number of processes on this computer, or a client of any Dask cluster.
Workers: TypeAlias = "int | Client"

#: Message shown if a script starts workers outside ``if __name__ == "__main__":``. Each
#: worker imports the script that started it, as every child process of Python does on
#: Windows.
_UNGUARDED = (
    'In a script, put the call below the line if __name__ == "__main__":, because each '
    "worker imports the script."
)

#: Maximum number of attempts to start the workers of a run; another attempt is made if
#: a worker ends while the workers start.
_ATTEMPTS = 3
#: Time in seconds allowed for Dask to replace a worker that has died. After this time,
#: a new worker with the same name is started.
_RESTART_SECONDS = 60.0
#: Memory of a worker process in addition to its budget, in bytes: the program and its
#: libraries.
_PROGRAM_BYTES = 1 << 30
#: Multiple of its budget that a worker may use in addition to `_PROGRAM_BYTES`.
_TOLERANCE = 1.25
#: Environment variable with the amount of unused memory above which glibc returns
#: memory to the system.
_TRIM = "MALLOC_TRIM_THRESHOLD_"
#: Value that Dask assigns to this variable in its workers.
_TRIM_OF_DASK = "65536"
#: Limits of glibc's allocator in a process that was not started by Dask. Dask lowers
#: the trim threshold, which also fixes the mmap threshold at 128 kB: larger arrays are
#: then mapped separately, and page faults take a quarter of the CPU time.
_MEMORY_ALLOCATOR = {
    _TRIM: str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}


def check_workers(workers: object) -> None:
    """Raise an error unless `workers` is a number of workers or a client.

    Raises
    ------
    ConfigError
        If `workers` is invalid, the extra ``cluster`` is not installed, a script lacks
        ``if __name__ == "__main__":``, or a client has no workers or has a worker with
        another release of napari-geosr.
    """
    if isinstance(workers, int) and not isinstance(workers, bool):
        if workers < 1:
            raise ConfigError(f"workers is {workers}, but at least one is needed.")
        check_installed()
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise ConfigError(_UNGUARDED)
        return
    check_installed()
    from distributed import Client

    if not isinstance(workers, Client):
        raise ConfigError(
            "workers must be a whole number or a distributed.Client, not "
            f"{type(workers).__name__}."
        )
    if workers.asynchronous:
        raise ConfigError(
            "workers is an asynchronous client: create it with asynchronous=False."
        )
    if not workers.nthreads():
        raise ConfigError("The cluster of this client has no workers: add some first.")
    check_versions(workers)


def check_installed() -> None:
    """Raise `ConfigError` if the extra ``cluster`` is not installed."""
    try:
        found = all(map(find_spec, ("distributed", "cryptography")))
    except ValueError:  # a package is partly imported or replaced
        found = False
    if not found:
        raise ConfigError(
            "Several workers require the optional dependencies 'cluster'. Install "
            'them (pip install "napari-geosr[cluster]"), or omit --workers.'
        )


def count_workers(workers: Workers) -> int:
    """Return the current number of workers."""
    return workers if isinstance(workers, int) else len(workers.nthreads())


def workers_per_host(workers: Workers) -> int:
    """Return the current maximum number of workers on one computer."""
    if isinstance(workers, int):
        return workers
    addresses = [each.rpartition("://")[2] for each in workers.nthreads()]
    hosts = [address.rpartition(":")[0] for address in addresses]
    return max(map(hosts.count, hosts), default=1)


@contextmanager
def open_pool(
    workers: Workers, *, threads: int, memory: int | None
) -> Iterator[WorkerPool]:
    """Start local workers that end with the context, or use the workers of a client.

    Parameters
    ----------
    workers : int or distributed.Client
    threads : int
        CPU threads of each process that is started.
    memory : int or None
        Memory budget of each process in bytes; a process that uses much more is
        terminated and replaced. None: no limit, for example if the work uses a GPU.

    Raises
    ------
    WorkerError
        If no process can be started.
    """
    if not isinstance(workers, int):
        yield WorkerPool(workers)
        return
    import dask

    # Import before the settings are changed: resetting them would discard the defaults
    # that this import adds.
    from distributed import Client

    if os.environ.get(_TRIM) == _TRIM_OF_DASK:
        # An earlier cluster of this process has set this variable, which would take
        # precedence over the setting below.
        del os.environ[_TRIM]
    start_resource_tracker()
    with dask.config.set(worker_settings(threads)):
        cluster = _local_cluster(workers, memory)
        try:
            with Client(cluster, set_as_default=False) as client:
                yield WorkerPool(client, cluster, workers)
        finally:
            # A worker that has just died may be unknown to Dask's cluster (KeyError).
            with suppress(TimeoutError, KeyError):
                cluster.close(timeout=10)


def worker_settings(threads: int) -> AnyDict:
    """Return the settings of Dask for workers with this number of CPU threads."""
    n = str(threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = dict.fromkeys(names, n) | _MEMORY_ALLOCATOR
    return {
        # The run limits its own memory; a paused worker would never resume.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.multiprocessing-method": "spawn",
        # On a busy computer, the next worker may not have started within the 15 seconds
        # after which Dask would give up by default.
        "distributed.deploy.lost-worker-timeout": f"{_RESTART_SECONDS} seconds",
        "distributed.scheduler.allowed-failures": RETRIES,
        **{
            f"distributed.nanny.pre-spawn-environ.{name}": value
            for name, value in environment.items()
        },
    }


def _local_cluster(n_workers: int, memory: int | None) -> LocalCluster:
    from distributed import LocalCluster, Security

    limit = 0 if memory is None else int(_TOLERANCE * memory) + _PROGRAM_BYTES
    is_unguarded = _is_unguarded_script()
    for left in reversed(range(1 if is_unguarded else _ATTEMPTS)):
        try:
            return LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=limit,
                dashboard_address="127.0.0.1:0",  # the default port may be in use
                silence_logs=logging.CRITICAL,
                # Use separate keys, so that other users of the computer cannot connect.
                security=Security.temporary(),
            )
        except (RuntimeError, OSError, TimeoutError) as error:
            # Dask gives up as soon as one worker ends before it has started, for
            # example because the system kills it; the others are then ended as well.
            if left:
                continue
            raise _not_started(n_workers, error, is_unguarded) from error
    raise AssertionError  # not reached: the last attempt returns or raises


def _not_started(n: int, error: Exception, is_unguarded: bool) -> WorkerError:
    """Return the error for the user if the workers cannot be started."""
    reason = str(error).partition("\n")[0].rstrip(".")
    which = f"{n} worker processes" if n > 1 else "worker process"
    advice = (
        "If memory ran out, start fewer workers (--workers), or give each less "
        "memory (--memory)."
    )
    return WorkerError(
        f"The {which} could not be started ({reason}). "
        f"{_UNGUARDED if is_unguarded else advice}"
    )


def _is_unguarded_script() -> bool:
    """Return whether the program is a script that does not mention ``__main__``.

    Workers import the file of the program. The result is False for the commands of
    napari-geosr and for programs without a file, such as notebooks.
    """
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None or getattr(main, "__spec__", None) is not None:
        return False
    try:
        return "__main__" not in Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):  # not a text file, for example an executable
        return False
