"""Reject runs in one process that need more memory or walltime than is available.

These runs keep nothing when they are stopped, so they must end within one walltime.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_geosr.core.array_parts.packed_mask import MOST_BYTES_IN_MEMORY
from napari_geosr.core.config import format_enough
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.text.counts import counted
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility.node import Node, time_text
from napari_geosr.operations.segment.config import SegmentConfig
from napari_geosr.operations.segment.job import SegmentJob
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.sim.inputs import open_frames, transfer_function
from napari_geosr.operations.sim.job import SimJob
from napari_geosr.operations.sim.memory import FREE_SHARE, require_memory

if TYPE_CHECKING:
    from napari_geosr.operations.shapes.runs import ShapeJob

#: Memory of a process without its data, in bytes: the program and its libraries.
_PROGRAM_BYTES = 500 * 10**6
#: Minimum memory per voxel of the input, in bytes. A completion holds the shape, the
#: completed part, and both together; the other tasks hold one bit per voxel (for large
#: volumes, in a temporary file).
_LEAST_BYTES = {"complete": 4.0, "refine": 0.125, "segment": 0.125}
#: Shortest CPU time per camera pixel and frame, in seconds, for an upscale factor of 2
#: or more: half of what was measured on one core (docs/evidence/scale.md). The network
#: starts from joint Richardson–Lucy. The time for finding the patterns and for the
#: checks is not included.
_FRAME_SECONDS = {
    "widefield": 2e-9,
    "wiener": 100e-9,
    "joint-rl": 100e-9,
    "pinn": 100e-9,
}
#: Shortest CPU time per camera pixel and frame, in seconds, for each iteration of joint
#: Richardson–Lucy, if the number of iterations is given.
_ITERATION_SECONDS = 18e-9
#: Shortest CPU time per voxel for a segmentation from two painted classes, in seconds:
#: half of what was measured. One core is used.
_SEGMENT_SECONDS = 500e-9
#: Minimum memory per voxel of a slice that is segmented, in bytes: the standardised
#: slice, two neighbours on each side, and their mean, as float32.
_SLICE_BYTES = 4.0 * 6
#: Why the time of a run on a shape is unknown, by task.
_UNKNOWN_SHAPE = {
    "complete": "the size of the surface",
    "refine": "the size of the surface",
    "segment": "the number of voxels in the region",
}
#: Why a run that does not fit into its walltime is refused, as a clause.
_NEVER_DONE = "the run would never be completed, because a stopped run keeps nothing"


def describe_time(
    settings: SimConfig | SegmentConfig, shape: tuple[int, ...], profile: Profile
) -> str:
    """Describe the time of a run for which only a lower limit is known.

    Parameters
    ----------
    settings : SimConfig or SegmentConfig
    shape : tuple of int
        Shape of the frames or of the scan.
    profile : Profile
    """
    if not _is_timed(settings, profile):
        return "cannot be estimated for a GPU or a model; choose an ample walltime"
    node = Node(profile, None, _threads(settings), _PROGRAM_BYTES)
    seconds = _least_seconds(settings, shape, node)
    is_segmentation = isinstance(settings, SegmentConfig)
    used = counted(1 if is_segmentation else node.threads, "core")
    depends = "the iterations and the search for patterns"
    if is_segmentation:
        depends = "the number of classes"
    return (
        f"at least about {time_text(seconds)} on {used}; usually more than twice as "
        f"long, depending on {depends}"
    )


def describe_shape_time(method: str) -> str:
    """State that the time of a run on a shape is not known.

    Parameters
    ----------
    method : str
        The task, as in `ShapeJob`.
    """
    return (
        f"cannot be estimated, because it depends on {_UNKNOWN_SHAPE[method]}, "
        "which is known only after reading the voxels; choose an ample walltime"
    )


def input_shape(job: SimJob | SegmentJob) -> tuple[int, ...]:
    """Return the shape of the frames or of the scan of a job; no voxel is read."""
    return (
        job.data.open().shape
        if isinstance(job, SegmentJob)
        else (job.open_input().shape)
    )


def _is_timed(settings: SimConfig | SegmentConfig, profile: Profile) -> bool:
    """Return whether a lower limit of the time of a run is known."""
    if isinstance(settings, SegmentConfig):
        return settings.model is None
    return not profile.gpus and settings.device in ("auto", "cpu")


def _threads(settings: SimConfig | SegmentConfig) -> int | None:
    return settings.threads if isinstance(settings, SimConfig) else 1


def _least_seconds(
    settings: SimConfig | SegmentConfig, shape: tuple[int, ...], node: Node
) -> float:
    """Return the time of a run on a computer twice as fast as in the benchmarks."""
    if isinstance(settings, SegmentConfig):
        return math.prod(shape) * _SEGMENT_SECONDS
    each = _FRAME_SECONDS[settings.method]
    if settings.method == "joint-rl":
        each += _ITERATION_SECONDS * (settings.iterations or 0)
    # Most arrays have the size of the result.
    each *= min(settings.upscale_factor, 2) ** 2 / 4
    return math.prod(shape) * each / node.threads


def _check_time(job: SimJob | SegmentJob, node: Node, remedy: str) -> None:
    """Reject a run that cannot end within the walltime."""
    if not _is_timed(job.settings, node.profile):
        return
    seconds = _least_seconds(job.settings, input_shape(job), node)
    used = counted(1 if isinstance(job, SegmentJob) else node.threads, "core")
    node.check_walltime(
        seconds,
        f"the run takes at least about {time_text(seconds)} on {used}",
        _NEVER_DONE,
        remedy,
    )


def check_segmentation(job: SegmentJob, profile: Profile) -> None:
    """Reject a segmentation that does not fit into memory, or cannot finish in time.

    No voxel is read. The time of a model, which takes longer, is not checked.

    Parameters
    ----------
    job : SegmentJob
    profile : Profile

    Raises
    ------
    ConfigError
        If the job does not fit; the message gives the smallest valid value.
    """
    node = Node(profile, None, 1, _PROGRAM_BYTES)
    volume = job.data.open()
    least = int(_SLICE_BYTES * math.prod(volume.shape[-2:]))
    needed = least + node.program_bytes
    if node.memory and needed > node.memory:
        raise node.too_little_memory(
            f"a slice of {volume.title} needs at least {format_enough(least)}",
            needed,
            "crop the scan",
        )
    _check_time(job, node, "segment a part of the scan")


def check_frames(job: SimJob, profile: Profile) -> None:
    """Reject a reconstruction that does not fit into memory, or cannot finish in time.

    No frame is read. Nothing is checked for runs on a GPU.

    Parameters
    ----------
    job : SimJob
    profile : Profile

    Raises
    ------
    ConfigError
        If the job does not fit; the message gives the smallest sufficient memory.
    DeviceMemoryError
        If the memory budget set in the job is too small on any node.
    """
    settings = job.settings
    if profile.gpus or settings.device not in ("auto", "cpu"):
        return
    node = Node(profile, None, settings.threads, _PROGRAM_BYTES)
    _check_time(job, node, "request more cores (--cores) or reconstruct fewer frames")
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
    time is not checked, because it depends on this surface.

    Parameters
    ----------
    job : ShapeJob
    profile : Profile

    Raises
    ------
    ConfigError
        If the job does not fit; the message gives the smallest sufficient memory.
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
