"""Computes the automatic sample mask and the grey values inside it, for a preview."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import histogram_steps
from napari_geosr.measure.reliability.mask_fit import (
    SampleMaskFit,
    sample_mask_fit_steps,
)
from napari_geosr.measure.remarks import has_one_phase
from napari_geosr.measure.sample_mask import sample_mask_bytes, sample_mask_steps
from napari_geosr.measure.segment import phase_mask
from napari_geosr.operations.measure.grey_levels import GreyLevels, one_volume

#: Maximum number of voxels for which the mask is computed before a measurement; this
#: takes about ten seconds and 300 MB.
MAX_VOXELS = 2**25
#: Maximum number of voxels for which a mask is computed only to test whether it would
#: fit; this takes about six seconds.
_MAX_CHECKED = 2**24


@dataclass(frozen=True)
class AutomaticSample:
    """The sample mask that a measurement will use, with its grey values and fit.

    Attributes
    ----------
    mask : ndarray of bool
        True inside the sample; one value per voxel of the volume.
    levels : GreyLevels
        Grey values that determine the threshold: those inside the mask, or all grey
        values if the sample contains only one phase.
    fit : SampleMaskFit
        Whether the mask excludes only the surroundings of the sample.
    """

    mask: AnyArray
    levels: GreyLevels
    fit: SampleMaskFit


def automatic_sample_steps(
    volume: Volume,
    levels: GreyLevels,
    config: PorosityConfig,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, AutomaticSample]:
    """Compute the automatic sample mask that `measure` would use.

    Parameters
    ----------
    volume : Volume
        Volume of at most `MAX_VOXELS` voxels, so that the mask is found without delay.
    levels : GreyLevels
        The grey values of the whole volume.
    config : PorosityConfig
        Threshold, phase and closing of the mask.

    Raises
    ------
    VolumeError
        If there is no solid.
    """
    volume = one_volume(volume)
    data = np.asarray(volume.data)
    planes = data[None] if data.ndim == 2 else data
    threshold = levels.threshold(config)
    solid = ~phase_mask(planes, threshold, config.phase)
    if planes.dtype.kind == "f":
        solid &= np.isfinite(planes)
    options: dict[str, Any] = {"name": volume.name, "should_stop": should_stop}
    mask = yield from sample_mask_steps(solid, config.mask_closing, **options)
    fit = yield from sample_mask_fit_steps(solid, mask, config.mask_closing, **options)
    found = AutomaticSample(mask.reshape(data.shape), levels, fit)
    if isinstance(config.threshold, float):
        return found
    try:
        inside = yield from histogram_steps(
            planes, thickness=len(planes), mask=mask, **options
        )
        inner = replace(levels, histogram=inside)
        if not has_one_phase(inside, inner.threshold(config)):
            return replace(found, levels=inner)
    except VolumeError:  # too few grey values inside
        pass
    return found


def automatic_fit_steps(
    volume: Volume,
    threshold: float,
    config: PorosityConfig,
    *,
    max_bytes: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SampleMaskFit | None]:
    """Check how well an automatic mask would fit a volume measured without a mask.

    Parameters
    ----------
    volume : Volume
    threshold : float
        Threshold between pores and solid.
    config : PorosityConfig
        Phase and closing of the mask.
    max_bytes : int, optional
        Memory that may be used.

    Returns
    -------
    generator of Step
        The result is a `SampleMaskFit`, or None if the volume is too large for a mask
        or contains no solid.
    """
    shape = volume.shape
    too_much = max_bytes is not None and sample_mask_bytes(shape) > max_bytes
    if math.prod(shape) > _MAX_CHECKED or too_much:
        return None
    data = np.asarray(volume.data)
    planes = data[None] if data.ndim == 2 else data
    solid = ~phase_mask(planes, threshold, config.phase)
    if planes.dtype.kind == "f":
        solid &= np.isfinite(planes)
    if not solid.any():
        return None
    yield StageStarted(message="Checking whether air surrounds the sample")
    options: dict[str, Any] = {"name": volume.name, "should_stop": should_stop}
    mask = yield from sample_mask_steps(solid, config.mask_closing, **options)
    fit: SampleMaskFit = yield from sample_mask_fit_steps(
        solid, mask, config.mask_closing, **options
    )
    return fit
