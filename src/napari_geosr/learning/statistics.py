"""Compute mean and standard deviation of the training data, for each role."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from skimage.measure import block_reduce

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.grey_values.grey_range import (
    float32_contrast_fault,
    float32_range_fault,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume

#: Maximum number of planes read from each volume.
_MAX_PLANES = 64


@dataclass(frozen=True)
class GreyScale:
    """Mean and standard deviation, to standardise grey values: ``(x - mean) / std``."""

    mean: float
    std: float

    def standardise(self, values: AnyArray) -> AnyArray:
        """Standardise grey values (float32); NaN and infinity become 0."""
        # Subtract in float64: float32 would lose digits of large grey values.
        wide = np.asarray(values, np.float64)
        scaled = ((wide - self.mean) / self.std).astype(np.float32)
        bad = ~np.isfinite(scaled)
        if bad.any():
            scaled[bad] = 0
        return scaled

    def restore(self, values: AnyArray) -> AnyArray:
        """Undo `standardise`."""
        return (values * np.float32(self.std) + np.float32(self.mean)).astype(
            np.float32
        )


def grey_scale(
    volumes: Sequence[Volume], block: tuple[int, int, int] = (1, 1, 1)
) -> GreyScale:
    """Return mean and standard deviation over up to 64 evenly spaced planes per volume.

    Parameters
    ----------
    block : (int, int, int)
        Shape (Z, Y, X) of blocks that are averaged first, to get larger voxels.

    Raises
    ------
    VolumeError
        If a volume has no finite values, all values of all volumes are the same, or
        float32 cannot represent them.
    """
    count, mean, squares = 0, 0.0, 0.0
    lowest, highest = math.inf, -math.inf
    for volume in volumes:
        n_finite = 0
        for values in sample_planes(volume, block):
            values = values[np.isfinite(values)].astype(np.float64)
            n = values.size
            if not n:
                continue
            low, high = float(values.min()), float(values.max())
            if text := float32_range_fault(low, high):
                raise VolumeError(f"{volume.title}: {text}")
            lowest, highest = min(lowest, low), max(highest, high)
            n_finite += n
            shift = values.mean() - mean
            squares += values.var() * n + shift**2 * count * n / (count + n)
            mean += shift * n / (count + n)
            count += n
        if not n_finite:
            raise VolumeError(
                f"{volume.title} has no finite grey values (all are NaN or infinite), "
                "so it cannot be used for training. Check the file."
            )
    std = float(np.sqrt(squares / max(count, 1)))
    names = ", ".join(volume.title for volume in volumes)
    if not std > 1e-12 * abs(mean):
        raise VolumeError(
            f"{names}: all grey values are {mean:g}, so there is nothing to learn. "
            "Check the file."
        )
    for dtype in {np.dtype(volume.dtype) for volume in volumes}:
        if text := float32_contrast_fault(float(mean), std, lowest, highest, dtype):
            raise VolumeError(f"{names}: {text}")
    return GreyScale(float(mean), std)


def sample_planes(
    volume: Volume, block: tuple[int, int, int] = (1, 1, 1)
) -> Iterator[AnyArray]:
    """Read up to 64 evenly spaced planes, averaged over blocks if given."""
    if volume.axes == "YX":
        yield _block_means(np.asarray(volume.data[:]), block[1:])
        return
    last, thickness = max(volume.shape[0] - block[0], 0), block[0]
    for z in np.unique(np.linspace(0, last, _MAX_PLANES).round().astype(int)):
        if block == (1, 1, 1):
            yield np.asarray(volume.data[int(z)])
        else:
            slab = np.asarray(volume.data[int(z) : int(z) + thickness])
            yield _block_means(slab, (len(slab), *block[1:]))[0]


def _block_means(values: AnyArray, block: Sequence[int]) -> AnyArray:
    """Return the means over complete blocks; NaN if a block contains NaN."""
    if all(n == 1 for n in block):
        return values
    whole = tuple(
        slice(0, n // size * size) for n, size in zip(values.shape, block, strict=True)
    )
    wide = values[whole].astype(np.float64)
    return np.asarray(block_reduce(wide, tuple(block), np.mean))
