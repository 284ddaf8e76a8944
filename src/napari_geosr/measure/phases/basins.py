"""Maxima of a distance map, and the faces between the basins around them.

The axes are first put into a standard order, because the order of the axes determines
which of several equally deep voxels is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.signedinteger[Any]]
Depths = npt.NDArray[np.float32]

#: Approximate number of voxels that are searched for faces at a time.
_SLAB_VOXELS = 2**18


@dataclass(frozen=True, eq=False)
class Maxima:
    """Voxels of numbered maxima.

    Attributes
    ----------
    shape : tuple of int
        Shape of the volume.
    at : ndarray of int64
        Flat indices of the voxels.
    numbers : ndarray of int32
        Number of the maximum that each voxel belongs to, from 1.
    """

    shape: tuple[int, ...]
    at: Integers
    numbers: Integers

    @classmethod
    def of(cls, tops: npt.NDArray[np.int32]) -> Maxima:
        """Find the voxels of maxima, which are numbered in `tops`."""
        at = np.flatnonzero(tops)
        return cls(tops.shape, at, tops.ravel()[at])

    @property
    def sizes(self) -> Integers:
        """Number of voxels of each maximum."""
        return np.bincount(self.numbers)[1:]

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Mean position of the voxels of each maximum, shape (n, ndim)."""
        sizes = self.sizes
        sums = [
            np.bincount(self.numbers, place)[1:]
            for place in np.unravel_index(self.at, self.shape)
        ]
        return np.stack([each / sizes for each in sums], axis=1)

    def highest(self, depth: Depths) -> Integers:
        """Return the flat index of the deepest voxel of each maximum."""
        return _highest_of_each(self.numbers, self.at, depth)[1]


@dataclass(frozen=True)
class AxisOrder:
    """The order and directions of axes in which a volume is processed.

    Attributes
    ----------
    axes : tuple of int
        Axes of the volume in their order after turning.
    reversed_axes : tuple of int
        Axes of the volume that are reversed.
    """

    axes: tuple[int, ...]
    reversed_axes: tuple[int, ...]

    @classmethod
    def standard(cls, masks: Sequence[npt.NDArray[np.bool_]]) -> AxisOrder:
        """Find the orientation that does not depend on how the masks were turned.

        Axes are sorted by length and then by the voxel counts of their planes; an axis
        is reversed if that makes the sequence of counts larger. Axes with equal counts
        keep their order, and axes with symmetric counts keep their direction.
        """
        profiles, reversed_axes = [], []
        for axis in range(masks[0].ndim):
            others = tuple(i for i in range(masks[0].ndim) if i != axis)
            counts = np.stack([np.count_nonzero(m, axis=others) for m in masks], axis=1)
            profile = max(counts.tolist(), counts[::-1].tolist())
            if profile != counts.tolist():
                reversed_axes.append(axis)
            profiles.append((len(profile), profile))
        axes = sorted(range(len(profiles)), key=lambda axis: profiles[axis])
        return cls(tuple(axes), tuple(reversed_axes))

    def turned(self, volume: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return a volume in this orientation."""
        return np.ascontiguousarray(
            np.flip(volume, self.reversed_axes).transpose(self.axes)
        )

    def restored(self, volume: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Return a turned volume in its original orientation."""
        found = volume.transpose(np.argsort(self.axes))
        return np.ascontiguousarray(np.flip(found, self.reversed_axes))

    def restored_places(
        self, places: npt.NDArray[np.float64], shape: Sequence[int]
    ) -> npt.NDArray[np.float64]:
        """Return positions in a turned volume as positions in the original volume.

        Parameters
        ----------
        places : ndarray of shape (n, ndim)
        shape : sequence of int
            Shape of the original volume.
        """
        found = places[:, np.argsort(self.axes)]
        for axis in self.reversed_axes:
            found[:, axis] = shape[axis] - 1 - found[:, axis]
        return found


def positions(at: Integers, shape: tuple[int, ...]) -> Integers:
    """Return the positions of flat indices, shape (n, ndim)."""
    return np.stack(np.unravel_index(at, shape), axis=1)


def _highest_of_each(
    codes: Integers, at: Integers, depth: Depths
) -> tuple[Integers, Integers]:
    """Return the distinct codes, and the deepest voxel of each.

    Of several equally deep voxels, the first in the volume is returned.
    """
    order = np.lexsort((at, -depth.ravel()[at], codes))
    found, first = np.unique(codes[order], return_index=True)
    return found, at[order[first]]


def _faces(
    labels: npt.NDArray[np.int32],
) -> Iterator[tuple[int, Integers, Integers, int]]:
    """Yield the faces between different labels, some planes at a time.

    Yields
    ------
    axis : int
    codes : ndarray of int64
        Lower label × (largest label + 1) + higher label, for each face.
    at : ndarray of int64
        Flat index of the voxel on the lower side of each face.
    stride : int
        Flat index of the voxel on the other side minus `at`.
    """
    n = int(labels.max(initial=0)) + 1
    plane = math.prod(labels.shape[1:])
    step = max(1, _SLAB_VOXELS // plane)
    for axis in range(labels.ndim):
        extra = int(axis == 0)
        stride = math.prod(labels.shape[axis + 1 :])
        for start in range(0, len(labels) - extra, step):
            part = labels[start : start + step + extra]
            one, other = part[_but(axis, 0)], part[_but(axis, 1)]
            shared = (one != other) & (one > 0) & (other > 0)
            low, high = np.sort(np.stack([one[shared], other[shared]]), axis=0)
            at = np.ravel_multi_index(np.nonzero(shared), labels.shape)
            yield axis, low.astype(np.int64) * n + high, at + start * plane, stride


def _but(axis: int, first: int) -> tuple[slice, ...]:
    """Return slices without the last (`first` = 0) or first plane along an axis."""
    part = slice(1, None) if first else slice(-1)
    return (*(slice(None),) * axis, part)


def passes(labels: npt.NDArray[np.int32], smooth: Depths) -> tuple[Integers, Integers]:
    """Return pairs of adjacent basins, and the voxel at the pass between them.

    Returns
    -------
    pairs : ndarray of shape (m, 2)
    at : ndarray of shape (m,)
        Flat index of the voxel at the pass.
    """
    n = int(labels.max(initial=0)) + 1
    found, places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    depth = smooth.ravel()
    for _, codes, at, stride in _faces(labels):
        lower = np.where(depth[at] <= depth[at + stride], at, at + stride)
        code, place = _highest_of_each(codes, lower, smooth)
        found.append(code)
        places.append(place)
    pairs, at = _highest_of_each(np.concatenate(found), np.concatenate(places), smooth)
    return np.stack([pairs // n, pairs % n], axis=1), at


def throats(
    labels: npt.NDArray[np.int32],
) -> tuple[Integers, npt.NDArray[np.float64]]:
    """Find pairs of labels that share faces, and the area (2D: length) between them.

    The faces normal to an axis are the projection of a flat throat along that axis; the
    area of the throat is the square root of the sum of their squared areas.
    """
    n, ndim = int(labels.max(initial=0)) + 1, labels.ndim
    pairs, faces = [np.zeros(0, np.int64)], [np.zeros((0, ndim), np.int64)]
    for axis, codes, _, _ in _faces(labels):
        # Pairs are encoded as numbers: sorting rows is far slower and blocks the GUI.
        code, counts = np.unique(codes, return_counts=True)
        along = np.zeros((len(code), ndim), np.int64)
        along[:, axis] = counts
        pairs.append(code)
        faces.append(along)
    found, index = np.unique(np.concatenate(pairs), return_inverse=True)
    sums = np.zeros((len(found), ndim), np.int64)
    np.add.at(sums, index.ravel(), np.concatenate(faces))
    areas = np.linalg.norm(sums, axis=1)
    return np.stack([found // n, found % n], axis=1), areas
