"""Reject jobs that would leave nodes or GPUs of a cluster idle."""

from __future__ import annotations

from typing import Any

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.text.counts import counted
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.submission import LOCAL
from napari_geosr.jobs.cluster.torchrun import SHARED_OPERATIONS, count_processes
from napari_geosr.jobs.kinds import Job


def check(job: Job, profile: Profile) -> None:
    """Reject a job that has no workers and cannot use all nodes and GPUs.

    Parameters
    ----------
    job : Job
        A training run, a study, or another job that is not divided among workers.
    profile : Profile

    Raises
    ------
    ConfigError
        If the job runs in one process but several nodes or GPUs are requested, or if
        there are more training processes than patches in a batch.
    """
    n = count_processes(profile)
    if n < 2:
        return
    values: Any = job.to_values()
    operation = str(values.get("operation", ""))
    requested = _describe(profile)
    if operation not in SHARED_OPERATIONS:
        raise ConfigError(
            f"A {operation!r} job runs in a single process and would use only one of "
            f"the {requested}. Request one node and at most one GPU (--nodes 1 --gpus "
            "1)."
        )
    if profile.queue == LOCAL:
        raise ConfigError(
            "On this computer, jobs train in one process and would not use the "
            f"{requested}. Omit --nodes and --gpus, or create the job with train "
            "--prepare and start it with torchrun."
        )
    batch = int(values["training"]["batch_size"])
    if n > batch:
        raise ConfigError(
            f"The {requested} require {n} training processes, but a batch has only "
            f"{batch} patches. Request fewer nodes or GPUs, or set a larger batch "
            f"(--batch-size {n})."
        )


def _describe(profile: Profile) -> str:
    """Return the requested nodes and GPUs, such as "2 nodes with 4 GPUs each"."""
    if profile.nodes == 1:
        return counted(profile.gpus, "GPU")
    nodes = counted(profile.nodes, "node")
    if not profile.gpus:
        return nodes
    return f"{nodes} with {counted(profile.gpus, 'GPU')} each"
