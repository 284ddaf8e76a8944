"""Describe measurements; reject those that exceed the available memory or walltime."""

from __future__ import annotations

import math

from napari_geosr.core.config import format_bytes, format_enough, parse_bytes
from napari_geosr.core.text.counts import counted
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility.node import Node, time_text
from napari_geosr.measure.blocks import slab_thickness
from napari_geosr.measure.budget import check_memory, least_bytes, most_bytes
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.operations.measure.job import MeasureJob

#: Memory of a process without its data, in bytes: the program and its libraries.
_PROGRAM_BYTES = 300 * 10**6
#: Shortest CPU time per voxel for the histogram, in seconds: half of what was
#: measured on one core (docs/evidence/scale.md). Every run computes the histogram, in
#: one process.
_HISTOGRAM_SECONDS = 1e-9
#: Shortest CPU time per voxel for labelling the pores, in seconds.
_LABEL_SECONDS = 10e-9
#: Shortest CPU time per voxel for the local thickness of both phases, in seconds;
#: a run that ends before the thickness is complete computes it again.
_THICKNESS_SECONDS = 90e-9
#: Statistics that need the local thickness.
_WITH_THICKNESS = frozenset(("thickness", "trabecular"))


def check(job: MeasureJob, profile: Profile) -> None:
    """Reject a measurement that does not fit into memory, or cannot finish in time.

    No voxel is read. The time is the shortest possible one, on a computer twice as fast
    as the one used for the benchmarks in the documentation. An interrupted run keeps
    only its labelled slabs. The estimate therefore includes the histogram of the grey
    values, one slab of labels and, if it is requested and not limited to a sample, the
    local thickness.

    Parameters
    ----------
    job : MeasureJob
    profile : Profile

    Raises
    ------
    ConfigError
        If the job does not fit; the message names the setting and its smallest valid
        value.
    VolumeError
        If the memory budget set in the job is too small on any node.
    """
    opened, _ = job.open()
    node = Node(profile, job.workers, None, _PROGRAM_BYTES)
    measured = [
        one_volume(opened[role]) for role in ("data", "reference") if role in opened
    ]
    mask, deviation = opened.get("mask"), opened.get("deviation")
    for volume in measured:
        _check_memory(job, node, volume, mask, deviation)
    seconds = sum(_least_seconds(job, node, volume) for volume in measured)
    has_thickness = not _WITH_THICKNESS.isdisjoint(job.settings.statistics)
    what = "local thickness" if has_thickness else "histogram and one slab of labels"
    cores = f"{node.n_computing} process{'es' if node.n_computing > 1 else ''}"
    node.check_walltime(
        seconds,
        f"the {what} must be computed in a single run, which takes at least about "
        f"{time_text(seconds)} with {cores}",
        "the measurement would never be completed",
        "measure a smaller part of the volume",
    )


def describe(job: MeasureJob, profile: Profile) -> dict[str, str]:
    """Describe the slabs, the data and the memory of a measurement; no voxel is read.

    Parameters
    ----------
    job : MeasureJob
    profile : Profile
    """
    opened, _ = job.open()
    node = Node(profile, job.workers, None, _PROGRAM_BYTES)
    measured = [
        one_volume(opened[role]) for role in ("data", "reference") if role in opened
    ]
    slabs, limits = [], []
    for volume in measured:
        flat = len(volume.shape) < 3
        planes = 1 if flat else volume.shape[0]
        thickness = 1 if flat else min(planes, slab_thickness(volume.data))
        each = f"of up to {counted(thickness, 'plane')}"
        n = -(-planes // thickness)
        each = f"{'of up to' if n > 1 else 'of'} {counted(thickness, 'plane')}"
        slabs.append(f"{counted(n, 'slab')} {each}")
        least, most = (
            bound(
                volume,
                job.settings,
                mask=opened.get("mask"),
                deviation=opened.get("deviation"),
                processes=node.n_processes,
            )
            for bound in (least_bytes, most_bytes)
        )
        limits.append((least, most))
    least, most = (max(values) for values in zip(*limits, strict=True))
    if job.settings.memory is not None:
        most = max(least, min(parse_bytes(job.settings.memory), most))
    return {
        "parts": f"{' and '.join(slabs)}; slabs are thinner if memory is short",
        "data": f"{format_bytes(sum(each.nbytes for each in measured))} of voxels, "
        "which are read more than once",
        "memory": f"{format_enough(least)} to {format_enough(most)}, depending on the "
        "budget, plus the program",
        "time": "not estimated for measurements",
    }


def _check_memory(
    job: MeasureJob,
    node: Node,
    volume: Volume,
    mask: Volume | None,
    deviation: Volume | None,
) -> None:
    settings, n = job.settings, node.n_processes
    if settings.memory is not None:
        check_memory(volume, settings, mask=mask, deviation=deviation, processes=n)
        most = most_bytes(volume, settings, mask=mask, deviation=deviation, processes=n)
        node.check_budget(settings.memory, min(parse_bytes(settings.memory), most))
        return
    least = least_bytes(volume, settings, mask=mask, deviation=deviation, processes=n)
    needed = least + node.program_bytes
    if node.memory and needed > node.memory:
        raise node.too_little_memory(
            f"measuring {volume.name!r} needs at least {format_enough(least)}",
            needed,
            "measure a smaller part of the volume",
        )


def _least_seconds(job: MeasureJob, node: Node, volume: Volume) -> float:
    """Return the shortest time, in seconds, in which a run makes progress or ends."""
    voxels = math.prod(volume.shape)
    shape = volume.shape if len(volume.shape) > 2 else (1, *volume.shape)
    slab = slab_thickness(volume.data) if len(volume.shape) > 2 else 1
    seconds = voxels * _HISTOGRAM_SECONDS
    seconds += min(slab, shape[0]) * math.prod(shape[1:]) * _LABEL_SECONDS
    limited = job.mask is not None or job.settings.sample_mask != "none"
    if not limited and not _WITH_THICKNESS.isdisjoint(job.settings.statistics):
        seconds += voxels * _THICKNESS_SECONDS / node.n_computing
    return seconds
