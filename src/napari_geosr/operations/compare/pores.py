"""Measures the pores of volumes on their own grids; matches them on a common grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, WarningIssued
from napari_geosr.core.text.counts import counted
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison.pores import PoreMatch, Status, match_pores
from napari_geosr.measure.comparison.sweep import (
    FrameVolumes,
    KnownArray,
    central_box,
)
from napari_geosr.measure.reports.report import PorosityReport
from napari_geosr.measure.segment import phase_mask
from napari_geosr.operations.compare.config import CompareConfig
from napari_geosr.operations.measure import measure_several_steps
from napari_geosr.operations.measure.files import column_titles as titles_of
from napari_geosr.operations.measure.mask import align_mask

__all__ = ["PoreMatch", "Status", "pore_steps"]

#: Bytes per voxel for matching pores: masks and labels of both volumes, and the
#: overlap.
_BYTES_PER_VOXEL = 60


def pore_steps(
    group: FrameVolumes,
    config: CompareConfig,
    mask: Volume | None,
    unknown: int,
    budget: int,
    remarks: list[str],
    warn: Callable[[str], WarningIssued],
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[dict[str, PorosityReport], dict[str, PoreMatch]]]:
    """Measure the pores of each volume within the common region, and match them.

    If the pores of a volume cannot be measured (for example, because it has a single
    grey value), a warning is issued and the pores are not compared; all other results
    are kept.

    Parameters
    ----------
    unknown : int
        Number of voxels that are NaN or infinite in at least one volume. If there are
        any, the pores of all volumes are measured without them.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    cropped = {key: placed.cropped() for key, placed in group.placed.items()}
    titles = titles_of({key: p.volume for key, p in group.placed.items()})
    if unknown:
        mask = _known_mask(group, mask, cropped)
        remarks.append(
            f"{counted(unknown, 'voxel')} of the comparison "
            f"{'is' if unknown == 1 else 'are'} NaN or infinite in at least one "
            "volume; pores were measured without such voxels in all volumes."
        )
    try:
        if mask is not None:
            for volume in cropped.values():
                align_mask(mask, volume)
        measured = yield from measure_several_steps(
            {titles[key]: volume for key, volume in cropped.items()},
            config.measuring(),
            mask,
            keep_labels=False,
            should_stop=should_stop,
        )
    except VolumeError as error:
        yield warn(f"The pores were not compared: {error}")
        return {}, {}
    reports = {key: measured[title] for key, title in titles.items()}
    yield StageStarted(message="Matching pores")
    box = central_box(group.shape, max(1, budget // _BYTES_PER_VOXEL))
    shape = tuple(s.stop - s.start for s in box)
    if math.prod(shape) < math.prod(group.shape):
        remarks.append(
            "Pores were matched only in the central block of "
            f"{' × '.join(map(str, shape))} voxels, the largest that fits into memory."
        )
    frame = group.placed[group.base].frame
    values, known = group.read(box)
    masks = {
        key: phase_mask(np.nan_to_num(v), reports[key].threshold, config.phase) & known
        for key, v in values.items()
    }
    found = {}
    for key in group.others:
        if should_stop():
            raise Cancelled("The comparison was cancelled.")
        found[key] = match_pores(
            masks[key],
            masks[group.base],
            voxel_size=frame.voxel_size,
            origin=frame.position([s.start for s in box]),
            unit=frame.length_unit,
            min_voxels=config.min_voxels,
            connectivity=config.connectivity,
        )
    return reports, found


def _known_mask(
    group: FrameVolumes, mask: Volume | None, cropped: Mapping[str, Volume]
) -> Volume | None:
    """Return a mask of the voxels that are known in all volumes.

    If the position of this mask in one of the volumes is unknown, `mask` is returned.
    """
    frame = group.placed[group.base].frame
    known = frame.as_volume(KnownArray(group), name="known voxels")
    try:
        for volume in cropped.values():
            align_mask(known, volume)
    except VolumeError:  # voxel sizes differ and have no unit
        return mask
    return known
