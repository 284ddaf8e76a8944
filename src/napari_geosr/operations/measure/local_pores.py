"""Finds pores by a local threshold or hysteresis, for a preview."""

from __future__ import annotations

from collections.abc import Generator

from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.porosity import pore_mask_steps
from napari_geosr.operations.measure.grey_levels import one_volume
from napari_geosr.operations.measure.mask import align_mask


def local_pores_steps(
    volume: Volume,
    config: PorosityConfig,
    mask: Volume | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, AnyArray]:
    """Find all pores as `measure` does, without removing small ones.

    Parameters
    ----------
    volume : Volume
        Axes (Z, Y, X) or (Y, X); other axes must have length one.
    config : PorosityConfig
    mask : Volume, optional
        Sample mask; non-zero voxels are sample.

    Returns
    -------
    ndarray of bool
        True in pores; one value per voxel of the volume.

    Raises
    ------
    VolumeError
        If there is no threshold, or the mask does not fit.
    Cancelled
        If `should_stop` returns True.
    """
    volume = one_volume(volume)
    sample = None if mask is None else align_mask(mask, volume)
    return (yield from pore_mask_steps(volume, config, sample, should_stop=should_stop))
