"""Share a job among the nodes that its queue has reserved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from socket import gethostname
from typing import Any
from urllib.parse import urlsplit

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import ShouldStop
from napari_geosr.jobs.cluster import queue_record, submission
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.kinds import Job
from napari_geosr.jobs.queues import load_queue
from napari_geosr.operations.cluster import check_installed

#: Operations in which each worker uses one GPU.
_ON_GPUS = ("restore", "reconstruct")


def automatic_workers(operation: str, n_nodes: int, gpus: int) -> int:
    """Return the number of workers for a job that does not set one; 0 for no workers.

    Parameters
    ----------
    operation : str
        Operation of a job that can use workers.
    n_nodes : int
    gpus : int
        Number of GPUs per node.
    """
    if n_nodes > 1:
        return n_nodes * max(1, gpus)
    return gpus if gpus > 1 and operation in _ON_GPUS else 0


def with_workers(spec: Job, n_workers: int, *, is_here: bool = True) -> Job:
    """Return a copy of a job with this number of workers.

    Parameters
    ----------
    is_here : bool
        Whether this Python will run the job, and thus needs the extra ``cluster``.

    Raises
    ------
    GeoSRError
        If the job cannot use workers.
    """
    values: Any = spec
    shared: Job = values.model_copy(update={"workers": n_workers})
    if is_here:
        check_installed()
    shared.check()
    return shared


@contextmanager
def on_all_nodes(job: JobFolder, spec: Job, should_stop: ShouldStop) -> Iterator[Job]:
    """Let a job use workers on all its nodes; the workers end with the context.

    On one node, the job starts its workers itself, if it needs any. If no number of
    workers is set, there is one worker for each node or, if the job uses GPUs, for each
    GPU. Jobs that cannot be shared are not changed.

    Parameters
    ----------
    job : JobFolder
    spec : Job
        Settings of the job.
    should_stop : callable

    Raises
    ------
    Cancelled
        If `should_stop` returns True before the workers have started.
    WorkerError
        If no worker starts.
    """
    values: Any = spec
    record = queue_record.read_record(job.path)
    # Without a number, the job was resumed on this computer.
    queue = load_queue(record.queue) if record.queue and record.number else None
    n_nodes = 1 if queue is None else queue.count_nodes()
    if queue is None or not hasattr(values, "workers"):
        yield spec
        return
    profile = submission.profile_of(job)
    gpus = 0 if profile is None else profile.gpus
    n_workers = values.workers
    known = automatic_workers(job.status().operation, n_nodes, gpus)
    if n_nodes == 1:
        is_shared = n_workers is None and known > 0
        yield _shared(job, spec, known, "GPU") if is_shared else spec
        return
    if n_workers is None:
        found: Any = _shared(job, spec, known, "node")
        n_workers = found.workers
        if n_workers is None:
            yield spec
            return
    check_installed()
    from napari_geosr.operations.cluster.nodes import workers_on_nodes

    cores = 1 if profile is None else profile.cores
    threads = max(1, cores // -(-n_workers // n_nodes))

    def commands(script: Any, n: int) -> list[list[str]]:
        return queue.start_workers(script, n, threads)

    with workers_on_nodes(
        job.path, commands, n_workers, threads, should_stop
    ) as client:
        n_started = len(client.nthreads())
        if n_started < n_workers:
            text = f"Only {n_started} of {n_workers} worker processes started."
            job.append("warning", message=f"{text} The reason is in log.txt.")
        if port := dashboard_port(client):
            job.append("stage", message=_dashboard_text(port, gethostname()))
        # A run accepts a Dask client instead of a number of workers. A client cannot be
        # stored in a file, so only this copy of the job contains it.
        shared: Job = values.model_copy(update={"workers": client})
        yield shared


def _shared(job: JobFolder, spec: Job, n_workers: int, unit: str) -> Job:
    """Set a job's number of workers; if it cannot use them, record the reason."""
    try:
        return with_workers(spec, n_workers)
    except GeoSRError as error:
        job.append("warning", message=f"Only one {unit} is used. {error}")
        return spec


def dashboard_port(client: Any) -> int | None:
    """Return the port of the page on which Dask shows its workers; None without bokeh.

    Parameters
    ----------
    client : distributed.Client
    """
    if not find_spec("bokeh"):
        return None
    return urlsplit(str(client.dashboard_link or "")).port


def _dashboard_text(port: int, node: str) -> str:
    """Explain how to open the page, which can be reached only from its own node."""
    return (
        f"Dask's dashboard is on node {node}. To see it at "
        f"http://localhost:{port}/status, run: ssh -L {port}:localhost:{port} {node}"
    )
