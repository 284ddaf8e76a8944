"""Prepares the reference of a study, and the region in which pores are measured."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import ShouldStop, Step, WarningIssued
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.measure.reliability.hull import hull_share_outside
from napari_geosr.measure.sample.mask import sample_mask_steps
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.operations.study.cell import Rows, StudyContext
from napari_geosr.operations.study.config import StudyConfig
from napari_geosr.operations.study.judge import (
    Mask,
    StudyReference,
    grey_slice,
    measured_figures,
    pore_mask,
    reference_steps,
    rendered,
)

#: Name used for the reference's algorithm and for the table row of the whole scan.
FULL = "full"
#: Maximum fraction of the convex hull that the sample may leave unfilled without a
#: warning; foams with cells that are cut open by the surface leave 7 to 9 % unfilled.
_MAX_OMITTED_SHARE = 0.1
#: The same fraction relative to the porosity, which applies to samples of small
#: porosity.
_MAX_OMITTED_PER_POROSITY = 0.4
#: Lower bound of the limit, which allows for rough edges.
_MIN_OMITTED_LIMIT = 0.01


def judge_steps(
    context: StudyContext,
    full: Volume,
    reference: Volume | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, StudyReference]:
    """Measure the reference volume in the evaluated rows.

    Parameters
    ----------
    context : StudyContext
    full : Volume
        Reconstruction of the whole scan.
    reference : Volume or None
        Reference to use instead of `full`.
    should_stop : callable
    """
    against = full
    if reference is not None:
        rows = slice(*context.evaluated_rows)
        truth = np.asarray(one_volume(reference).data[rows], np.float32)
        against = full.replace(data=truth, name=reference.name)
    sample = yield from sample_steps(
        context, context.evaluated_rows, lambda: _select_steps(against), should_stop
    )
    if context.mask is not None and sample is not None and not sample.any():
        first, stop = context.evaluated_rows
        raise VolumeError(
            f"The mask {context.mask.title} is empty in the evaluated rows {first} … "
            f"{stop - 1}. Mark the sample with non-zero voxels."
        )
    return (yield from reference_steps(against, sample, context.config, should_stop))


def sample_steps(
    context: StudyContext,
    rows: Rows,
    slices: Callable[[], Generator[Step, None, Volume]],
    should_stop: ShouldStop,
) -> Generator[Step, None, Mask | None]:
    """Find the sample mask in the given rows of a study.

    The mask is None if the whole volume belongs to the sample.

    Parameters
    ----------
    slices : callable
        Provides these rows, in which the sample is found if neither mask nor region was
        given.
    """
    sample: Mask | None = None
    if context.mask is not None:
        sample = np.asarray(one_volume(context.mask).data[slice(*rows)]) != 0
    elif context.config.sample == "circle":
        shape = rows[1] - rows[0], context.size, context.size
        sample = np.broadcast_to(circle(context.size), shape)
    elif context.config.sample == "auto":
        volume = yield from slices()
        sample = yield from _find_region_steps(volume, context.config, should_stop)
    return sample


def circle(n: int) -> Mask:
    """Return the field of view in a slice of `n` × `n` voxels."""
    axis = np.arange(n) - (n - 1) / 2
    inside: Mask = np.hypot(axis[:, None], axis[None, :]) <= n / 2 - 1
    return inside


def _select_steps(volume: Volume) -> Generator[Step, None, Volume]:
    yield from ()
    return volume


def _find_region_steps(
    volume: Volume, config: StudyConfig, should_stop: ShouldStop
) -> Generator[Step, None, Mask]:
    """Find the region in which pores are measured in all reconstructions."""
    found = yield from reference_steps(volume, None, config, should_stop)
    solid = ~pore_mask(np.asarray(volume.data), found.report.threshold, None, config)
    field_of_view = circle(volume.shape[-1])
    solid &= field_of_view
    steps = sample_mask_steps(solid, 5, name=volume.name, should_stop=should_stop)
    sample = yield from steps
    inside: Mask = sample & field_of_view
    left_out = hull_share_outside(inside, lambda z: solid[z])
    pores = int(np.count_nonzero(inside & ~solid))
    porosity = pores / max(1, int(np.count_nonzero(inside)))
    if left_out > max(
        _MIN_OMITTED_LIMIT,
        min(_MAX_OMITTED_SHARE, _MAX_OMITTED_PER_POROSITY * porosity),
    ):
        yield WarningIssued(
            message="The automatic sample mask fills only "
            f"{100 * (1 - left_out):.0f} % of its convex hull; pores in the rest that "
            "are open to the surface are not counted. If there are such pores, "
            "use a sample mask, or evaluate the whole field of view."
        )
    return inside


def judge_pictures(judge: StudyReference, config: StudyConfig) -> AnyDict:
    """Return pictures of the reference: a slice, and its pores."""
    voxels = np.asarray(judge.volume.data)
    pores = pore_mask(voxels, judge.report.threshold, judge.sample, config)
    return {"slice": grey_slice(voxels, judge.levels), "pores": rendered(pores)}


def full_row(context: StudyContext, judge: StudyReference, seconds: float) -> AnyDict:
    """Return the row of the whole scan.

    All differences in this row are 0, because the scan is compared with itself.

    Parameters
    ----------
    context : StudyContext
    judge : StudyReference
    seconds : float
        Duration of the reconstruction.
    """
    zero = dict.fromkeys(
        (
            "porosity_error",
            "pores_per_mm3_error",
            "volume_histogram_distance",
            "euler_error",
        ),
        0.0,
    )
    return {
        "projections": context.scan.n_angles,
        "exposure": 1.0,
        "algorithm": FULL,
        "title": "Full reconstruction (FBP)",
        **measured_figures(judge.report),
        **zero,
        "dice": 1.0,
        "psnr": None,
        "ssim": 1.0,
        "seconds": round(seconds, 3),
        "training_seconds": 0.0,
        "settings": {},
    }
