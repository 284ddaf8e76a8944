"""Assigns positions to volumes and sample masks if their files define none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.positions import other_position
from napari_geosr.core.types import AnyArray
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.measure.comparison.frame import (
    FrameArray,
    FrameVolume,
    on_common_frame,
)
from napari_geosr.operations.measure.grey_levels import one_volume


def with_positions(
    volumes: Mapping[str, Volume], remarks: list[str]
) -> dict[str, Volume]:
    """Give volumes without a voxel size the geometry of a volume of the same shape.

    Raises
    ------
    VolumeError
        If volumes of different shapes have no voxel sizes to derive their positions
        from, or volumes of the same shape begin at different positions, in voxels.
    """
    known = [v for v in volumes.values() if v.has_physical_size]
    found = dict(volumes)
    for key, volume in volumes.items():
        alike = next((v for v in known if v.shape == volume.shape), None)
        if volume.has_physical_size or alike is None:
            continue
        _refuse_other_position(volume, alike)
        found[key] = volume.replace(
            voxel_size=alike.voxel_size, unit=alike.unit, origin=alike.origin
        )
        remarks.append(
            f"{volume.title} has no voxel size, but has the same shape as "
            f"{alike.title}; it is assumed to be at the same position."
        )
    if known:
        return found
    plain = [v for v in volumes.values() if _has_no_position(v)]
    if len({volume.shape for volume in plain}) > 1:
        one, other = plain[0], next(v for v in plain if v.shape != plain[0].shape)
        raise VolumeError(
            f"{one.title} has shape {one.shape} and {other.title} {other.shape}, and "
            "neither has a voxel size: without one, only volumes of the same shape "
            "can be compared. Set both voxel sizes (--voxel-size, --unit), or crop "
            "one of the volumes."
        )
    return found


def _refuse_other_position(volume: Volume, reference: Volume) -> None:
    """Raise `VolumeError` if a volume without a unit has another position in voxels."""
    if volume.axes != reference.axes:
        return  # the caller refuses other axes later, whether or not the unit is known
    if apart := other_position(volume, reference):
        raise VolumeError(
            f"{apart} The unit of length of {volume.title} is unknown, so positions "
            "can only be compared in voxels. Set the voxel size (--voxel-size, "
            "--unit), or crop both to the same region."
        )


def _has_no_position(volume: Volume) -> bool:
    """Return whether a volume has no position information at all."""
    unset = set(volume.voxel_size) == {1.0} and not any(volume.origin)
    return volume.unit == PIXEL and unset


def placed_mask(mask: Volume | None, base: FrameVolume) -> FrameArray | None:
    """Return the sample mask, resampled to the base's frame; None if there is no mask.

    Raises
    ------
    VolumeError
        If the mask does not cover the frame, or has no unit of length and begins at
        another position, in voxels.
    """
    if mask is None:
        return None
    mask = one_volume(mask)
    frame = base.frame
    here = frame.as_volume(np.broadcast_to(np.float32(0), frame.shape))
    if mask.unit != frame.unit and PIXEL in (mask.unit, frame.unit):
        if mask.shape != base.volume.shape:
            raise VolumeError(
                f"The sample mask {mask.title} has no voxel size, and its shape "
                f"differs from that of {base.volume.title}. Set its voxel size, or "
                "draw it on that volume."
            )
        _refuse_other_position(mask, base.volume)
        mask = mask.replace(
            voxel_size=base.volume.voxel_size,
            unit=base.volume.unit,
            origin=base.volume.origin,
        )
    scale = convert_length(1.0, mask.unit, frame.unit)
    sample = mask.replace(
        data=_BinaryMask(mask.data),
        voxel_size=tuple(v * scale for v in mask.voxel_size),
        origin=tuple(o * scale for o in mask.origin),
        unit=frame.unit,
    )
    # Subdivide the voxels of a coarser mask until none is larger than a voxel of the
    # frame.
    factors = np.array(sample.voxel_size) / np.array(frame.voxel_size)
    if (factors > 1.001).any():
        sample = _refined(sample, frame.voxel_size)
    found = on_common_frame({"frame": here, "mask": sample})["mask"]
    if found.frame.shape != frame.shape:
        raise VolumeError(
            f"The sample mask {mask.title} does not cover the region that the volumes "
            "have in common. Extend it."
        )
    return found.array


class _BinaryMask:
    """A mask as zeros and ones, read lazily."""

    def __init__(self, data: ArrayLike) -> None:
        self._data = data
        self.shape = tuple(data.shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.uint8)

    def __getitem__(self, key: Any) -> AnyArray:
        block: AnyArray = np.asarray(self._data[key])
        found: AnyArray = (np.nan_to_num(block) != 0).astype(np.uint8)
        return found


def _refined(mask: Volume, voxel_size: tuple[float, ...]) -> Volume:
    """Return a mask with its voxels subdivided, so that none exceeds a given size."""
    factors = [
        max(1, math.ceil(m / v - 1e-3))
        for m, v in zip(mask.voxel_size, voxel_size, strict=True)
    ]
    data = np.asarray(mask.data[(slice(None),) * mask.ndim])
    for axis, factor in enumerate(factors):
        data = data.repeat(factor, axis=axis)
    size, origin = mask.upscaled_geometry(factors)
    return mask.replace(data=data, voxel_size=size, origin=origin)
