"""Reject runs in a single process that need more memory than a node has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_geosr.core.array_parts.packed_mask import MOST_BYTES_IN_MEMORY
from napari_geosr.core.config import format_enough
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility.node import Node
from napari_geosr.operations.sim.inputs import open_frames, transfer_function
from napari_geosr.operations.sim.job import SimJob
from napari_geosr.operations.sim.memory import FREE_SHARE, require_memory

if TYPE_CHECKING:
    from napari_geosr.operations.shapes.runs import ShapeJob

#: Memory of a process without its data, in bytes: the program and its libraries.
_PROGRAM_BYTES = 500 * 10**6
#: Least memory for each voxel of the input, in bytes. A completion holds the shape, the
#: completed part, and both together; the other tasks hold one bit per voxel, for large
#: volumes in a temporary file.
_LEAST_BYTES = {"complete": 4.0, "refine": 0.125, "segment": 0.125}


def check_frames(job: SimJob, profile: Profile) -> None:
    """Reject a reconstruction if its method, or a tile, does not fit into memory.

    No frame is read. Nothing is checked for runs on a GPU; the time is not checked.

    Parameters
    ----------
    job : SimJob
    profile : Profile

    Raises
    ------
    ConfigError
        If the job does not fit; the message gives the smallest sufficient memory.
    DeviceMemoryError
        If the memory budget set in the job is too small, whatever the node.
    """
    settings = job.settings
    if profile.gpus or settings.device not in ("auto", "cpu"):
        return
    node = Node(profile, None, settings.threads, _PROGRAM_BYTES)
    given = settings.memory
    if given is None:
        if not node.memory:
            return
        budget = node.budget(FREE_SHARE)
        settings = settings.model_copy(update={"memory": f"{budget}B"})
    frames = open_frames(job.frames, settings, job.reading)
    shape = frames.volume.shape[-2], frames.volume.shape[-1]
    otf = transfer_function(frames, settings)
    try:
        used = require_memory(shape, frames.angles, frames.phases, otf, settings)
    except DeviceMemoryError as error:
        if given is not None or error.enough is None:
            raise
        raise node.too_little_memory(
            f"{settings.method!r} needs {format_enough(error.enough)} for a plane",
            error.enough / FREE_SHARE + node.program_bytes,
            "crop the frames or use a smaller upscale factor (--upscale-factor)",
        ) from error
    if given is not None:
        node.check_budget(given, used)


def check_shape(job: ShapeJob, profile: Profile) -> None:
    """Reject a run on a shape if the shape alone does not fit into memory.

    No voxel is read, so the memory for the surface of the shape is not included. The
    time is not checked.

    Parameters
    ----------
    job : ShapeJob
    profile : Profile

    Raises
    ------
    ConfigError
        If the job does not fit; the message gives the least memory.
    """
    node = Node(profile, None, job.settings.threads, _PROGRAM_BYTES)
    volume = job.data.open()
    least = int(_LEAST_BYTES[job.method] * math.prod(volume.shape))
    if job.method != "complete":
        least = min(least, MOST_BYTES_IN_MEMORY)
    needed = least + node.program_bytes
    if node.memory and needed > node.memory:
        raise node.too_little_memory(
            f"the voxels of {volume.title} need at least {format_enough(least)}",
            needed,
            "crop the volume to the shape",
        )
