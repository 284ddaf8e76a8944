"""Finds small dark and bright objects of a scan, and counts those that a result keeps.

A scan may contain more than two phases: small pores next to metal, or faint pores in a
sample surrounded by air. No threshold between two phases separates such pores. These
pores are found where grey values differ from their surroundings in all directions by
more than noise can explain. The result at the same positions shows whether the pores
are still present.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.operations.restore.verdict.compared_block import (
    Array,
    ComparedBlock,
    Mask,
    Values,
    Vector,
    shifted,
)

Directions = npt.NDArray[np.bool_]

#: Radii of the objects, in voxels; each is 1.25 times the next smaller one. Objects of
#: the first radius look like hot voxels.
_RADII = (1.28, 1.6, 2.0, 2.5, 3.1)
#: Width of the Gaussian filter that finds objects, relative to their radius; at this
#: width, spheres of each radius stand out most.
_WIDTH = 0.7
#: Distance, in voxels, of the examined surroundings from the surface of an object.
_DISTANCE = 2.0
#: Number of standard deviations by which an object must exceed the expected maximum of
#: noise alone.
_MARGIN = 1.2
#: Minimum fraction of the directions in which the surroundings belong to the sample; at
#: a face of the block, a third of them do not.
_MIN_DIRECTIONS = 0.6
#: Objects at the ends of an axis are not examined if the axis has at least this many
#: voxels: at the ends, fibres that are cut off look like small objects.
_LONG = 32
#: Quantile, over all directions, of the difference between an object and its
#: surroundings; it must exceed the noise. (The mean is also large next to other
#: objects.)
_WEAK = 0.3
#: A voxel is hot or dead if it differs from the median of its neighbours by more than
#: this many standard deviations of the noise.
_HOT = 6.0
#: Minimum difference between an object and its surroundings in every direction,
#: relative to the mean difference over all directions.
_MIN_NEAREST = 0.4
#: Minimum of the same difference in standard deviations of the noise, because noise
#: makes some parts of a fibre brighter than others.
_MIN_SINGLE = 3.0
#: Minimum contrast of an object in the result, relative to that in the scan: with less
#: contrast, an object that just exceeds a threshold in the scan does not exceed it in
#: the result.
_MIN_CONTRAST = 0.75


@dataclass(frozen=True)
class SmallObjects:
    """Small dark or bright objects of a scan.

    Attributes
    ----------
    voxels : int
        Size of the objects, in voxels.
    seen : int
        Number of objects of about this size that the scan shows.
    kept : int
        Number of these objects that keep most of their contrast in the result.
    is_certain : bool
        Whether the objects are too large to be hot voxels.
    """

    voxels: int
    seen: int
    kept: int
    is_certain: bool = True


def small_objects(
    blocks: Sequence[ComparedBlock],
) -> tuple[tuple[SmallObjects, ...], tuple[SmallObjects, ...]]:
    """Find small objects in a scan, and count those that remain in the result.

    Parameters
    ----------
    blocks : sequence of ComparedBlock
        Blocks, all with the same axes.

    Returns
    -------
    dark, bright : tuple of SmallObjects
        Objects that are darker, and objects that are brighter, than their surroundings,
        by size.
    """
    counts = np.zeros((2, len(_RADII), 2), int)
    for block in blocks:
        counts += _compare(block)
    ndim = sum(n > 1 for n in blocks[0].scan.shape)
    sizes = [_size(radius, ndim) for radius in _RADII]
    dark, bright = (
        tuple(
            SmallObjects(size, int(seen), int(kept), is_certain=size > sizes[0])
            for size, (seen, kept) in zip(sizes, kind, strict=True)
        )
        for kind in counts
    )
    return dark, bright


def _size(radius: float, ndim: int) -> int:
    """Return the volume of a sphere (area of a circle) in voxels."""
    return round(4 / 3 * math.pi * radius**3 if ndim == 3 else math.pi * radius**2)


def _compare(block: ComparedBlock) -> npt.NDArray[np.intp]:
    """Count dark and bright objects of each size in the scan, and those kept."""
    from scipy import ndimage

    shape = block.scan.shape
    least = block.least_level
    level = np.maximum(block.level, least).astype(np.float32)
    scan = _without_hot_voxels(block.scan, level)
    limit = math.sqrt(2 * math.log(max(2, block.scan.size))) + _MARGIN
    strength = np.zeros((2, len(_RADII), *shape), np.float32)
    kept = np.zeros((len(_RADII), *shape), np.float32)
    for n, radius in enumerate(_RADII):
        around = _around(shape, radius + _DISTANCE)
        there = np.stack([shifted(block.inside, by) for by in around])
        valid = block.inside & (there.mean(0) >= _MIN_DIRECTIONS)
        valid &= _inner(shape, math.ceil(radius + _DISTANCE))
        width = [_WIDTH * radius if length > 1 else 0 for length in shape]
        own, result, noise = (
            ndimage.gaussian_filter(values.astype(np.float32), width)
            for values in (scan, block.result, block.noise)
        )
        depth, spread = (
            _mean(values, around, there) - values for values in (own, noise)
        )
        if not valid.any():
            continue
        unit = np.maximum(float(np.std(spread[valid])) * level, least)
        # Voxels that differ less from the mean of their surroundings are not objects.
        valid &= np.abs(depth) > limit * unit
        left = (_mean(result, around, there) - result)[valid]
        kept[n][valid] = left / depth[valid]
        strength[:, n, valid] = _weakest(own, around, there, valid, unit[valid])
    counts = np.zeros((2, len(_RADII), 2), np.intp)
    # An object differs most from its surroundings at its own size.
    size = [len(_RADII), *(5 if n > 1 else 1 for n in shape)]
    for kind, values in enumerate(strength):
        peaks = (values == ndimage.maximum_filter(values, size)) & (values > limit)
        for n, mask in enumerate(peaks):
            shares = kept[n][mask]
            counts[kind, n] = shares.size, np.sum(shares >= _MIN_CONTRAST)
    return counts


def _without_hot_voxels(scan: Array, level: Values) -> Array:
    """Replace voxels far from the median of their neighbours with this median."""
    from scipy import ndimage

    median = ndimage.median_filter(scan, [3 if n > 1 else 1 for n in scan.shape])
    cleaned: Array = np.where(np.abs(scan - median) > _HOT * level, median, scan)
    return cleaned


def _inner(shape: Sequence[int], margin: int) -> Mask:
    """Return a mask of the voxels away from the ends of a block's long axes."""
    inner = np.zeros(shape, bool)
    margins = [margin if n >= _LONG else 0 for n in shape]
    inner[tuple(slice(m, n - m) for m, n in zip(margins, shape, strict=True))] = True
    return inner


def _mean(values: Values, around: Sequence[Vector], there: Directions) -> Values:
    """Return, for each voxel, the mean of its surroundings inside the sample."""
    total, number = np.zeros_like(values), np.zeros_like(values)
    for by, own in zip(around, there, strict=True):
        np.add(total, shifted(values, by), out=total, where=own)
        number += own
    np.divide(total, np.maximum(number, 1), out=total)
    return total


def _weakest(
    values: Values,
    around: Sequence[Vector],
    there: Directions,
    where: Mask,
    unit: Values,
) -> Values:
    """Return how much dark and bright voxels differ from their surroundings.

    Each value is a low quantile of the differences in all directions, divided by
    `unit`; it is 0 for edges, walls and fibres, which hardly differ in some directions.
    """
    centre = values[where]
    found = np.empty((len(around), len(centre)), np.float32)
    for by, own, one in zip(around, there, found, strict=True):
        difference = (shifted(values, by)[where] - centre) / unit
        one[:] = np.where(own[where], difference, np.nan)
    mean = np.nanmean(found, 0)
    found.sort(0)  # this puts NaN last
    last = np.isfinite(found).sum(0) - 1
    weak = (_WEAK * last).astype(np.intp)
    weakest = np.zeros((2, len(centre)), np.float32)
    kinds = ((1, np.zeros_like(last), weak), (-1, last, last - weak))
    for kind, (sign, nearest, low) in zip(weakest, kinds, strict=True):
        least, difference = (
            sign * np.take_along_axis(found, place[None], 0)[0]
            for place in (nearest, low)
        )
        alone = least >= np.maximum(_MIN_NEAREST * sign * mean, _MIN_SINGLE)
        kind[alone] = difference[alone]
    return weakest


def _around(shape: Sequence[int], distance: float) -> list[Vector]:
    """Return offsets of about `distance` voxels in the directions of all neighbours."""
    steps = [(-1, 0, 1) if n > 1 else (0,) for n in shape]
    return [
        np.rint(distance / math.hypot(*v) * np.array(v)).astype(np.intp)
        for v in itertools.product(*steps)
        if any(v)
    ]
