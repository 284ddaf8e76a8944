"""Prepares two volumes for a pair: common axes and unit, and a valid upscale factor."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_geosr.core.config import parse_bytes
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.units import convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.operations.inputs import open_volume
from napari_geosr.operations.pairs.config import (
    LARGEST_FACTOR,
    PairConfig,
    PairsInput,
)

#: Tolerance for the ratio of the voxel sizes relative to the upscale factor: above it,
#: a warning states that several high-resolution voxels are averaged; below its inverse,
#: the high-resolution scan is too coarse.
_TOLERANCE = 1.25
#: Default memory budget for blocks of voxels, as a fraction of the free memory.
_MEMORY_SHARE = 0.25
#: Upper limit of this default, in bytes.
_MAX_BYTES = 2 * 10**9


def open_low(path: str | Path, reading: PairsInput | None = None) -> Volume:
    """Open the low-resolution scan lazily."""
    reading = reading or PairsInput()
    return open_volume(path, reading.reading(reading.low_voxel_size))


def open_high(path: str | Path, reading: PairsInput | None = None) -> Volume:
    """Open the high-resolution scan lazily."""
    reading = reading or PairsInput()
    return open_volume(path, reading.reading(reading.high_voxel_size))


def with_matching_axes(low: Volume, high: Volume) -> tuple[Volume, Volume]:
    """Return both scans with spatial axes only, and `high` in the unit of `low`.

    Raises
    ------
    VolumeError
        If one is an image and the other a volume, a channel must be chosen, or a voxel
        size is unknown.
    """
    low, high = real_volume(low), real_volume(high)
    if low.axes != high.axes:
        shown = {"YX": "a single image", "ZYX": "a volume"}
        raise VolumeError(
            f"{low.title} is {shown[low.axes]} and {high.title} is "
            f"{shown[high.axes]}: use two volumes or two images."
        )
    if low.unit == high.unit:
        return low, high
    if not (low.has_physical_size and high.has_physical_size):
        known, unknown = (low, high) if low.has_physical_size else (high, low)
        flag = "--high-voxel-size" if unknown is high else "--low-voxel-size"
        raise VolumeError(
            f"{known.title} has a voxel size in {known.unit}, but the voxel size of "
            f"{unknown.title} is not given in a unit of length. Give it ({flag} and "
            "--unit)."
        )
    to = low.unit
    size = tuple(convert_length(v, high.unit, to) for v in high.voxel_size)
    origin = tuple(convert_length(v, high.unit, to) for v in high.origin)
    return low, high.replace(voxel_size=size, origin=origin, unit=to)


def real_volume(volume: Volume) -> Volume:
    """Drop axes of length one, and refuse volumes that are not real-valued.

    Raises
    ------
    VolumeError
        If another axis is longer than one, or the volume is empty or not real-valued.
    """
    volume = volume.select()
    if volume.dtype.kind not in "buif":
        raise VolumeError(
            f"{volume.title} contains {volume.dtype} values; pairs must be "
            "real-valued. Take the magnitude or the phase first."
        )
    if 0 in volume.shape:
        raise VolumeError(f"{volume.title} is empty: its shape is {volume.shape}.")
    return volume


def fitting_factor(low: Volume, high: Volume, config: PairConfig) -> int:
    """Return the upscale factor of two scans: as set, or computed from voxel sizes.

    Parameters
    ----------
    low, high : Volume
        Both scans, with voxel sizes in the same unit.
    config : PairConfig

    Raises
    ------
    VolumeError
        If the voxels of `high` are too coarse for the factor, or the computed factor
        is greater than `LARGEST_FACTOR`.
    """
    ratio = np.divide(low.voxel_size, high.voxel_size)
    along = ratio[-2:] if config.dimensions == "2D" else ratio
    if config.upscale_factor is not None:
        factor = config.upscale_factor
    else:
        factor = max(1, round(float(np.exp(np.log(along).mean()))))
        if factor > LARGEST_FACTOR:
            raise VolumeError(
                f"The voxels of {high.title} are {factor} times smaller than those of "
                f"{low.title}. Check voxel sizes and units, or choose a smaller "
                f"upscale factor, 1 … {LARGEST_FACTOR} (--upscale-factor)."
            )
    factors = config.factors(len(ratio), factor)
    for letter, actual, needed in zip(low.spatial_axes, ratio, factors, strict=True):
        if actual * _TOLERANCE < needed:
            raise VolumeError(_too_coarse(low, high, config, letter, actual, needed))
    return factor


def _too_coarse(
    low: Volume,
    high: Volume,
    config: PairConfig,
    letter: str,
    ratio: float,
    factor: int,
) -> str:
    what = f"an upscale factor of {factor}" if factor > 1 else "a pair"
    text = (
        f"Along {letter}, the voxels of {high.title} are only {ratio:.3g} times "
        f"smaller than those of {low.title}, so they are too large for {what}. "
    )
    if low.unit == "pixel" and low.voxel_size == high.voxel_size:
        return text + (
            "Neither file specifies a voxel size: give both (--low-voxel-size, "
            "--high-voxel-size and --unit)."
        )
    if letter == "Z" and config.dimensions == "3D":
        return text + (
            "Choose another factor (--upscale-factor), or upscale along Y and X only "
            "(--dimensions 2D)."
        )
    return text + "Check voxel sizes and units, or choose another --upscale-factor."


def finer_than_needed(low: Volume, high: Volume, factors: tuple[int, ...]) -> str:
    """Return a note if fine detail of `high` is lost by averaging, else "".

    Parameters
    ----------
    low, high : Volume
    factors : tuple of int
        Upscale factor along each axis.
    """
    ratio = np.divide(low.voxel_size, high.voxel_size)
    lost = [
        f"{actual / needed:.3g} times along {letter}"
        for letter, actual, needed in zip(low.spatial_axes, ratio, factors, strict=True)
        if actual > _TOLERANCE * needed
    ]
    if not lost:
        return ""
    return (
        f"The voxels of {high.title} are smaller than the pair needs "
        f"({', '.join(lost)}), so several are averaged. A larger upscale factor "
        "preserves more detail."
    )


def memory_for_voxels(config: PairConfig) -> int:
    """Return the memory budget for blocks of voxels, in bytes."""
    if config.memory is not None:
        return parse_bytes(config.memory)
    return int(min(_MEMORY_SHARE * free_host_memory(), _MAX_BYTES))


def millimetres(volume: Volume) -> float | None:
    """Return the volume's unit in millimetres; None if it is not a unit of length."""
    if not volume.has_physical_size:
        return None
    return convert_length(1.0, volume.unit, "mm")


def offset_for(
    low: Volume, offset: tuple[float, ...] | None
) -> tuple[float, ...] | None:
    """Return an offset after checking that it has one value for each axis.

    Raises
    ------
    ConfigError
        If the number of values is wrong.
    """
    if offset is not None and len(offset) != len(low.axes):
        axes = ",".join(low.axes)
        raise ConfigError(
            f"The offset needs {len(low.axes)} numbers, {axes}, but has {len(offset)} "
            "(--offset)."
        )
    return offset
