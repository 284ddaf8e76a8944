"""Resamples a sample mask to the grid of a volume."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.positions import other_position
from napari_geosr.core.types import AnyArray
from napari_geosr.core.units import convert_length, same_position, same_sizes
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.measure.blocks import inside_mask
from napari_geosr.measure.number_text import percent_text


class ResampledMask:
    """A mask resampled by position while it is read.

    Parameters
    ----------
    data : ArrayLike
        The original mask.
    index : tuple of ndarray
        For each axis, the indices in `data` that belong to the voxels of the volume.
    """

    def __init__(self, data: ArrayLike, index: tuple[AnyArray, ...]) -> None:
        self._data = self.stored = data
        self._index = index
        self.shape = tuple(len(axis) for axis in index)
        self.ndim = len(index)
        self.dtype = np.dtype(bool)
        #: Number of voxels of the original mask that are read for each voxel of the
        #: volume.
        self.density = math.prod(
            (np.max(part) - np.min(part) + 1) / len(part) for part in index
        )

    def __getitem__(self, key: Any) -> AnyArray:
        key = key if isinstance(key, tuple) else (key,)
        key += (slice(None),) * (self.ndim - len(key))
        indices = [axis[part] for axis, part in zip(self._index, key, strict=True)]
        # Read only the box that is needed: the mask may be on disk.
        starts = [int(np.min(part, initial=2**62)) for part in indices]
        if any(np.size(part) == 0 for part in indices):
            return np.zeros([np.size(p) for p in indices if np.ndim(p)], bool)
        box = tuple(
            slice(start, int(np.max(part)) + 1)
            for start, part in zip(starts, indices, strict=True)
        )
        block: AnyArray = inside_mask(np.asarray(self._data[box]))
        for axis in reversed(range(self.ndim)):
            block = np.take(block, indices[axis] - starts[axis], axis=axis)
        return block


def placement_remark(mask: Volume, volume: Volume) -> str:
    """Return a remark if a mask of the volume's shape has another voxel size."""
    mask = mask.select()
    if mask.shape != volume.shape or mask.axes != volume.axes:
        return ""
    if not (mask.has_physical_size and volume.has_physical_size):
        return ""
    scale = convert_length(1.0, mask.unit, volume.unit)
    sizes = tuple(v * scale for v in mask.voxel_size)
    if same_sizes(sizes, volume.voxel_size):
        return ""
    share = math.prod(volume.voxel_size) / math.prod(sizes)
    theirs, ours = (
        " × ".join(f"{v:.4g}" for v in (each[:1] if len(set(each)) == 1 else each))
        for each in (sizes, volume.voxel_size)
    )
    return (
        f"The sample mask {mask.name!r} has the shape of {volume.name!r}, but a "
        f"different voxel size ({theirs} instead of {ours} {volume.unit}). It was "
        f"placed by position: the volume covers {percent_text(share)} of it. If the "
        "voxels of both have the same size, correct the wrong voxel size."
    )


def check_known_place(mask: Volume | None, volume: Volume) -> None:
    """Refuse a larger mask if neither file states a position.

    Mask and volume are then assumed to start at the same voxel, which is wrong for a
    mask with a margin around the volume. Layers in napari need no such check: their
    positions are visible.

    Raises
    ------
    VolumeError
        If the mask extends beyond the volume by more than one of its own voxels, and
        both have the default origin.
    """
    if mask is None:
        return
    mask, volume = mask.select(), volume.select()
    if mask.axes != volume.axes or mask.shape == volume.shape:
        return
    if any(mask.origin) or any(volume.origin):
        return
    if not (mask.has_physical_size and volume.has_physical_size):
        return  # `align_mask` refuses such masks
    scale = convert_length(1.0, mask.unit, volume.unit)
    beyond = {}
    for axis, n in enumerate(volume.shape):
        size = mask.voxel_size[axis] * scale
        over = mask.shape[axis] * size - n * volume.voxel_size[axis]
        if over > size:
            beyond[volume.axes[axis]] = f"{over:.4g}"
    if not beyond:
        return
    by = ", ".join(f"{over} {volume.unit} along {a}" for a, over in beyond.items())
    if len(amounts := set(beyond.values())) == 1:
        by = f"{amounts.pop()} {volume.unit} along {', '.join(beyond)}"
    raise VolumeError(
        f"The sample mask {mask.name!r} extends beyond {volume.name!r} by {by}, and "
        "neither has an origin that would show where the mask lies. Crop the mask to "
        "the volume, or store the origin of both.",
        fields=["mask"],
    )


def align_mask(mask: Volume, volume: Volume) -> ArrayLike:
    """Return the mask's array on the grid of `volume`.

    Raises
    ------
    VolumeError
        If the mask has other axes, does not cover the volume, or has the same shape
        but, in voxels, another position.
    """
    mask = mask.select()
    if mask.axes != volume.axes:
        raise VolumeError(
            f"The sample mask {mask.name!r} has axes {', '.join(mask.axes)}, but "
            f"{volume.name!r} has {', '.join(volume.axes)}. Draw the mask on that "
            "volume.",
            fields=["mask"],
        )
    same_unit = mask.unit == volume.unit
    same_place = same_sizes(mask.voxel_size, volume.voxel_size) and same_position(
        mask.origin, volume.origin, volume.voxel_size
    )
    if mask.shape == volume.shape and same_unit and same_place:
        return mask.data
    if not same_unit and not (mask.has_physical_size and volume.has_physical_size):
        if mask.shape == volume.shape:
            if apart := other_position(mask, volume):
                raise VolumeError(
                    f"{apart} Draw the mask on that volume. If they do show the same "
                    "region, save the mask without a position, e.g. as TIFF with "
                    "ImageJ.",
                    fields=["mask"],
                )
            return mask.data
        raise VolumeError(
            f"The sample mask {mask.name!r} has shape {mask.shape}, but "
            f"{volume.name!r} has shape {volume.shape}, and at least one of them has "
            "no voxel size. Draw the mask on the volume or set both voxel sizes.",
            fields=["mask"],
        )
    if mask.shape != volume.shape and not volume.has_physical_size:
        raise VolumeError(
            f"The sample mask {mask.name!r} has shape {mask.shape}, but "
            f"{volume.name!r} has shape {volume.shape}, and neither has a voxel size "
            "that would show where the mask lies. Draw the mask on the volume or set "
            "both voxel sizes."
        )
    index = []
    for axis, n in enumerate(volume.shape):
        position = volume.origin[axis] + np.arange(n) * volume.voxel_size[axis]
        if not same_unit:
            position = position * convert_length(1.0, volume.unit, mask.unit)
        found = (position - mask.origin[axis]) / mask.voxel_size[axis]
        # Positions may be rounded, so allow centres up to a quarter of a mask voxel
        # outside the mask.
        if found[0] < -0.75 or found[-1] > mask.shape[axis] - 0.25:
            raise VolumeError(
                f"The sample mask {mask.name!r} does not cover {volume.name!r} along "
                f"{volume.axes[axis]}: the mask extends from {_extent(mask, axis)}, "
                f"the volume from {_extent(volume, axis)}. Use a mask of the whole "
                "volume, or measure a volume of the mask's size.",
                fields=["mask"],
            )
        nearest = np.floor(found + 0.5).astype(np.int64)
        index.append(np.clip(nearest, 0, mask.shape[axis] - 1))
    return ResampledMask(mask.data, tuple(index))


def _extent(volume: Volume, axis: int) -> str:
    """Return the extent of a volume along an axis as text: ``-2 to 62 µm``."""
    size = volume.voxel_size[axis]
    unit = f" {volume.unit}" if volume.has_physical_size else ""
    start = volume.origin[axis] - size / 2
    end = start + volume.shape[axis] * size
    # Positions far from zero need more digits to show a tenth of a voxel.
    digits = 2 + math.ceil(math.log10(max(abs(start), abs(end), size) / size))
    n = max(6, digits)
    return f"{start:.{n}g} to {end:.{n}g}{unit}"
