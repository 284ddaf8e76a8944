"""Describe jobs; reject those that a queue would end before a part is finished."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, cast

from napari_geosr.core.steps import Step
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.feasibility import (
    measurements,
    reconstructions,
    restorations,
    trainings,
    undivided,
)
from napari_geosr.jobs.feasibility.node import time_text
from napari_geosr.jobs.feasibility.restorations import check_plan, settings_on_node
from napari_geosr.jobs.kinds import FIT_NETWORKS, Job
from napari_geosr.operations.measure.job import MeasureJob
from napari_geosr.operations.reconstruct.job import ReconstructJob
from napari_geosr.operations.restore.job import RestoreJob
from napari_geosr.operations.segment.job import SegmentJob
from napari_geosr.operations.sim.job import SimJob

if TYPE_CHECKING:
    from napari_geosr.operations.shapes.runs import ShapeJob

#: Operation of runs on shapes. The class of these runs is not imported, because its
#: module imports the training code for shapes, and the help of the command line must
#: appear at once.
_SHAPES = "shapes"

__all__ = [
    "check_plan",
    "check_steps",
    "describe_run",
    "describe_time",
    "settings_on_node",
    "time_text",
]


def check_steps(job: Job, profile: Profile) -> Generator[Step, None, None]:
    """Reject a job if its first part would not fit into memory or walltime.

    Restorations, measurements, reconstructions, segmentations and runs on shapes are
    checked, without reading voxels, projections or frames; see `restorations`,
    `measurements`, `reconstructions` and `undivided`. Jobs that would not use all nodes
    or GPUs are rejected as well; see `trainings`.

    Parameters
    ----------
    job : Job
    profile : Profile
        Walltime and memory of the cluster.

    Raises
    ------
    ConfigError
        If the job does not fit; the message names the setting and its smallest valid
        value.
    GeoSRError
        If the memory budget set in the job is too small on any node.
    """
    if isinstance(job, RestoreJob):
        yield from restorations.check_steps(job, profile)
    elif isinstance(job, MeasureJob):
        measurements.check(job, profile)
    elif isinstance(job, ReconstructJob):
        reconstructions.check(job, profile)
    else:
        trainings.check(job, profile)
    if isinstance(job, SimJob):
        undivided.check_frames(job, profile)
    elif isinstance(job, SegmentJob):
        undivided.check_segmentation(job, profile)
    elif job.to_values().get("operation") == _SHAPES:
        undivided.check_shape(cast("ShapeJob", job), profile)


def describe_run(job: Job, profile: Profile) -> dict[str, str]:
    """Describe the parts, data, memory and time of a job, as far as they are known.

    If the time is unknown, the text says so. For restorations, the result is empty,
    because their plan requires the model.
    """
    if isinstance(job, RestoreJob):
        return {}
    if isinstance(job, MeasureJob):
        return measurements.describe(job, profile)
    if isinstance(job, ReconstructJob):
        return reconstructions.describe(job, profile)
    return {"time": describe_time(job, profile)}


def describe_time(job: Job, profile: Profile) -> str:
    """Describe the time of a job that is not divided into independent parts.

    If the time is unknown, the text says so.
    """
    operation = job.to_values().get("operation")
    if isinstance(job, SimJob | SegmentJob):
        shape = undivided.input_shape(job)
        return undivided.describe_time(job.settings, shape, profile)
    if operation == _SHAPES:
        return undivided.describe_shape_time(cast("ShapeJob", job).method)
    if operation in FIT_NETWORKS:
        return "not estimated; the Jobs dock shows the time left once the job runs"
    return "not estimated for this kind of job"
