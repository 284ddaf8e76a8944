"""Describe reconstructions; reject those that could not finish a block of slices."""

from __future__ import annotations

import math

import numpy as np

from napari_geosr.core.config import format_bytes, format_enough
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.machine.torch_here import why_no_torch
from napari_geosr.core.text.counts import counted
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility.node import Node, time_text
from napari_geosr.operations.reconstruct.inputs import open_projections
from napari_geosr.operations.reconstruct.job import ReconstructJob
from napari_geosr.operations.reconstruct.outline import ReconstructOutline, outline
from napari_geosr.operations.reconstruct.scan import FREE_SHARE

#: Memory of a process without its data, in bytes: the program and its libraries.
_PROGRAM_BYTES = 500 * 10**6
#: CPU time assumed per voxel, projection and iteration, in seconds, to accept a
#: walltime without timing the algorithm. Measured: 2 to 7 ns.
_SAFE_SECONDS = 30e-9


def check(job: ReconstructJob, profile: Profile) -> None:
    """Reject a reconstruction if its first block does not fit into memory or walltime.

    The algorithm is timed with a small simulated scan, unless the walltime is ample. No
    projection is read: the rotation axis is assumed to be in the middle if its position
    is unknown. Nothing is checked for runs on a GPU or with ASTRA, and the time is not
    checked without torch or for several nodes.

    Parameters
    ----------
    job : ReconstructJob
    profile : Profile

    Raises
    ------
    ConfigError
        If the job does not fit; the message names the setting and its smallest valid
        value.
    DeviceMemoryError
        If the memory budget set in the job is too small on any node.
    """
    node = Node(profile, job.workers, job.settings.threads, _PROGRAM_BYTES)
    found = _outline_on(node, job)
    if found is None:
        return
    given = job.settings.memory
    if given is not None:
        node.check_budget(given, found.memory)
    if profile.nodes > 1 or not node.is_timed:
        return
    threads = max(1, node.threads // node.n_computing)
    if found.work * _SAFE_SECONDS / threads <= node.usable_seconds / 2:
        return
    if why_no_torch():
        return
    seconds = found.seconds() / threads
    part = "one slice" if found.slices == 1 else f"a block of {found.slices} slices"
    remedy = "request more cores (--cores)"
    if found.ready.whole:
        part = "the volume, whose slices depend on each other,"
    elif found.slices > 1:
        remedy = "reduce the memory budget (--memory), which makes blocks smaller"
    node.check_walltime(
        seconds,
        f"{part} takes about {time_text(seconds)} on {threads} "
        f"core{'s' if threads > 1 else ''} like those of this computer",
        "a run would end before its first slices are finished",
        remedy,
    )


def describe(job: ReconstructJob, profile: Profile) -> dict[str, str]:
    """Describe the blocks, the data and the memory of a reconstruction.

    No projection is read. For runs on a GPU or with ASTRA, only the data are described.

    Parameters
    ----------
    job : ReconstructJob
    profile : Profile
    """
    scan = open_projections(job.projections, job.reading)
    n_bytes = math.prod(scan.data.shape) * np.dtype(scan.data.dtype).itemsize
    rows = {"data": f"reads {format_bytes(n_bytes)} of projections"}
    node = Node(profile, job.workers, job.settings.threads, _PROGRAM_BYTES)
    found = _outline_on(node, job)
    if found is not None:
        written = math.prod(found.ready.shape) * np.dtype(np.float32).itemsize
        rows["data"] += f", writes {format_bytes(written)} before compression"
        rows["parts"] = f"blocks of up to {counted(found.slices, 'slice')}"
        rows["memory"] = f"{format_bytes(found.memory)}, plus the program"
    return {**rows, "time": "not estimated for reconstructions"}


def _outline_on(node: Node, job: ReconstructJob) -> ReconstructOutline | None:
    """Divide a reconstruction on a node into blocks; None for a GPU or ASTRA."""
    settings = job.settings
    on_gpu = node.profile.gpus or settings.device not in ("auto", "cpu")
    if on_gpu or settings.engine != "own":
        return None
    given = settings.memory
    if given is None and node.memory:
        budget = node.budget(FREE_SHARE)
        settings = settings.model_copy(update={"memory": f"{budget}B"})
    # A GPU of this computer may differ from those of the nodes.
    settings = settings.model_copy(update={"device": "cpu"})
    scan = open_projections(job.projections, job.reading)
    try:
        return outline(scan, settings, node.workers)
    except DeviceMemoryError as error:
        if given is not None or not node.memory or error.enough is None:
            raise
        needed = error.enough / FREE_SHARE + node.program_bytes
        raise node.too_little_memory(
            f"the smallest block needs {format_enough(error.enough)}",
            needed,
            "make the slices smaller (--size)",
        ) from error
