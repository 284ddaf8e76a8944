"""Computes the automatic sample mask and the grey values inside it, for a preview."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.measure.blocks import blocks_along_z, slab_thickness
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.reliability.mask_fit import (
    SampleMaskFit,
    sample_mask_fit_steps,
)
from napari_geosr.measure.sample.found import SampleSearch, found_sample_steps
from napari_geosr.measure.sample.mask import sample_mask_bytes, sample_mask_steps
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
        True inside the sample, except in solid voxels at its surface that would count
        as pores because of blur; one value per voxel of the volume.
    levels : GreyLevels
        Grey values inside the mask, or all grey values if the sample contains only one
        phase, with the threshold.
    fit : SampleMaskFit or None
        Whether an automatic mask excludes only the surroundings of the sample.
    """

    mask: AnyArray
    levels: GreyLevels
    fit: SampleMaskFit | None


def automatic_sample_steps(
    volume: Volume,
    levels: GreyLevels,
    config: PorosityConfig,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, AutomaticSample]:
    """Compute the mask that `measure` would use: automatic, cortex or marrow.

    Parameters
    ----------
    volume : Volume
        Volume of at most `MAX_VOXELS` voxels, so that the mask is found without delay.
    levels : GreyLevels
        The grey values of the whole volume.
    config : PorosityConfig
        Threshold, phase, kind of mask (automatic if it is "none") and its closing.

    Raises
    ------
    VolumeError
        If there is no solid, or no such sample.
    """
    volume = one_volume(volume)
    data = np.asarray(volume.data)
    planes = data[None] if data.ndim == 2 else data
    if config.sample_mask == "none":
        config = config.model_copy(update={"sample_mask": "auto"})
    search = SampleSearch(
        planes,
        blocks_along_z(planes.shape, slab_thickness(planes)),
        config,
        volume.name,
        (len(planes), len(planes)),
        should_stop,
    )
    threshold = levels.threshold(config)
    found = yield from found_sample_steps(search, levels.histogram, threshold)
    fit = None
    if config.sample_mask == "auto":
        fit = yield from sample_mask_fit_steps(
            found.solid,
            found.mask,
            config.mask_closing,
            name=volume.name,
            should_stop=should_stop,
        )
    inner = levels
    if found.histogram is not levels.histogram:
        known = (config.threshold, config.phase, found.threshold)
        inner = replace(levels, histogram=found.histogram, known=known)
    mask = found.mask if found.covered is None else found.mask & ~found.covered
    return AutomaticSample(mask.reshape(data.shape), inner, fit)


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
