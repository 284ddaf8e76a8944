"""Agreement of two shapes: overlap, surface distances, volume, topology.

The surface of a shape consists of the corners of voxels at which both phases meet, as
in [1]_. Each corner is weighted by the area of the marching-cubes triangles between the
centres of the eight voxels around it.

References
----------
.. [1] Nikolov et al. Deep learning to achieve clinically applicable segmentation of
   head and neck anatomy for radiotherapy. arXiv:1809.04430 (2018).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.interruption import check_stop
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.measure.shapes.match import euler_numbers

#: Positions of the eight voxels around a corner; each is a bit of their pattern.
_CORNERS = tuple(itertools.product((0, 1), repeat=3))
#: Pattern of a corner that is surrounded by voxels of the shape.
_FULL = 2 ** len(_CORNERS) - 1
#: Factor that allows for rounding when a distance is compared with a tolerance: a
#: distance of three voxels of 0.1 mm is slightly more than 0.3 in floating point.
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True)
class ShapeAgreement:
    """Agreement of a shape with a reference.

    Attributes
    ----------
    dice : float
        Dice coefficient of the voxels.
    hausdorff, hausdorff_95 : float
        Largest distance between the surfaces, and 95th percentile of the distances, in
        `unit`; in each case, the larger value of the two directions.
    mean_distance : float
        Average symmetric surface distance, in `unit`.
    border_dice : float
        Dice coefficient of the voxels within `border_distance` of the surface of the
        reference.
    border_distance : float
        `tolerance`, but at least the longest edge of a voxel, in `unit`.
    surface_dice : float
        Fraction of the area of both surfaces that lies within `tolerance` of the other
        surface.
    tolerance : float
        Tolerance of the surface Dice, in `unit`.
    volume, reference_volume : float
        Volumes of the shape and of the reference, in `unit` cubed.
    volume_error : float
        Difference of the volumes, relative to that of the reference.
    euler, reference_euler : int
        Euler numbers (26-connected): objects minus tunnels plus cavities.
    unit : str
    """

    dice: float
    hausdorff: float
    hausdorff_95: float
    mean_distance: float
    border_dice: float
    border_distance: float
    surface_dice: float
    tolerance: float
    volume: float
    reference_volume: float
    volume_error: float
    euler: int
    reference_euler: int
    unit: str

    @property
    def euler_error(self) -> int:
        """Difference between the Euler numbers."""
        return self.euler - self.reference_euler

    def to_dict(self) -> AnyDict:
        """Return all values by name."""
        return {**asdict(self), "euler_error": self.euler_error}


def dice(one: AnyArray, other: AnyArray) -> float:
    """Return the Dice coefficient of two masks; 1 if both are empty.

    Examples
    --------
    >>> import numpy as np
    >>> dice(np.array([1, 1, 0], bool), np.array([0, 1, 1], bool))
    0.5
    """
    total = int(np.count_nonzero(one)) + int(np.count_nonzero(other))
    both = int(np.count_nonzero(one & other))
    return 2 * both / total if total else 1.0


def compare_shapes(
    shape: AnyArray,
    reference: AnyArray,
    voxel_size: Sequence[float],
    unit: str,
    tolerance: float | None = None,
) -> ShapeAgreement:
    """Compare a shape with a reference on the same grid.

    Parameters
    ----------
    shape, reference : ndarray of bool, shape (Z, Y, X)
    voxel_size : sequence of float
    unit : str
    tolerance : float, optional
        Tolerance of the surface Dice, in `unit`; by default the longest edge of a
        voxel.

    Raises
    ------
    VolumeError
        If the grids differ, or one of the shapes is empty.
    Cancelled
        If stopped in the context `interruptible`.
    """
    if shape.shape != reference.shape:
        raise VolumeError(
            f"The two shapes have {_edges(shape)} and {_edges(reference)} voxels. "
            "Compare shapes on the same grid."
        )
    if not shape.any() or not reference.any():
        raise VolumeError(
            "One of the two shapes is empty, so distances are undefined. Check the "
            "label (--label)."
        )
    limit = max(voxel_size) if tolerance is None else tolerance
    border = max(limit, *voxel_size)  # includes the neighbours along every axis
    box = _common_box(shape | reference)
    one, one_areas = _corners(shape[box], voxel_size)
    other, other_areas = _corners(reference[box], voxel_size)
    there = _Distances(_distances(one, other, voxel_size), one_areas)
    back = _Distances(_distances(other, one, voxel_size), other_areas)
    area = there.area + back.area
    cell = math.prod(voxel_size)
    volumes = [float(np.count_nonzero(s)) * cell for s in (shape, reference)]
    return ShapeAgreement(
        dice=dice(shape, reference),
        hausdorff=float(max(there.values.max(), back.values.max())),
        hausdorff_95=max(there.percentile(95), back.percentile(95)),
        mean_distance=(there.total + back.total) / area,
        border_dice=_border_dice(shape[box], reference[box], voxel_size, border),
        border_distance=border,
        surface_dice=(there.area_within(limit) + back.area_within(limit)) / area,
        tolerance=limit,
        volume=volumes[0],
        reference_volume=volumes[1],
        volume_error=volumes[0] / volumes[1] - 1,
        euler=euler_numbers(shape[box])[0],
        reference_euler=euler_numbers(reference[box])[0],
        unit=unit,
    )


def _border_dice(
    shape: AnyArray, reference: AnyArray, voxel_size: Sequence[float], distance: float
) -> float:
    """Return the Dice coefficient of the voxels near the surface of the reference.

    The distance is measured to the closest voxel of the other phase.
    """
    from scipy.ndimage import distance_transform_edt

    padded = np.pad(reference, 1)
    near: AnyArray = np.zeros(padded.shape, bool)
    for phase in (padded, ~padded):
        check_stop()
        depth = distance_transform_edt(phase, sampling=tuple(voxel_size))
        near |= (depth > 0) & (depth <= distance * _ROUNDING)
    near = near[(slice(1, -1),) * 3]
    return dice(shape & near, reference & near)


def _edges(array: AnyArray) -> str:
    return " × ".join(map(str, array.shape))


def _common_box(inside: AnyArray) -> tuple[slice, ...]:
    box = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        where = np.flatnonzero(inside.any(others))
        box.append(slice(int(where[0]), int(where[-1]) + 1))
    return tuple(box)


@dataclass(frozen=True)
class _Distances:
    """Distances of points on one surface from another, and the area of each point."""

    values: AnyArray
    areas: AnyArray

    @property
    def area(self) -> float:
        return float(self.areas.sum())

    @property
    def total(self) -> float:
        """Integral of the distance over the surface."""
        return float((self.values * self.areas).sum())

    def area_within(self, limit: float) -> float:
        """Return the area of the points at a distance of at most `limit`."""
        return float(self.areas[self.values <= limit * _ROUNDING].sum())

    def percentile(self, percent: float) -> float:
        """Return the distance not exceeded on a given percentage of the area."""
        order = np.argsort(self.values)
        shares = np.cumsum(self.areas[order]) / self.area
        at = int(np.searchsorted(shares, percent / 100))
        return float(self.values[order[min(at, len(order) - 1)]])


def _corners(
    inside: AnyArray, voxel_size: Sequence[float]
) -> tuple[AnyArray, AnyArray]:
    """Return the corners of voxels at which both phases meet, and the area of each.

    Along each axis, there is one more corner than there are voxels.
    """
    padded = np.pad(inside, 1).view(np.uint8)
    n = [length - 1 for length in padded.shape]
    codes: AnyArray = np.zeros(n, np.uint8)
    for bit, corner in enumerate(_CORNERS):
        part = padded[tuple(slice(c, c + m) for c, m in zip(corner, n, strict=True))]
        codes |= part << bit
    surface = (codes > 0) & (codes < _FULL)
    return surface, surface_areas(voxel_size)[codes[surface]]


def surface_areas(voxel_size: Sequence[float]) -> AnyArray:
    """Return the area of the surface between eight voxels, for each of 256 patterns.

    Bit ``4 z + 2 y + x`` of a pattern is set if the voxel at this position of the
    2 × 2 × 2 voxels is inside the shape.

    Examples
    --------
    >>> areas = surface_areas((1.0, 1.0, 1.0))
    >>> float(areas[0b00001111])  # the voxels of one plane
    1.0
    >>> float(areas[0]), float(areas[0b11111111])
    (0.0, 0.0)
    """
    patterns, normals = _triangles()
    faces = [math.prod(voxel_size) / edge for edge in voxel_size]
    areas: AnyArray = np.bincount(
        patterns, np.linalg.norm(normals * faces, axis=1), minlength=_FULL + 1
    )
    return areas


@cache
def _triangles() -> tuple[AnyArray, AnyArray]:
    """Return the pattern of each marching-cubes triangle, and its normal.

    The length of a normal is the area of the triangle for voxels of edge 1. A pattern
    with more than four voxels inside has the surface of the opposite pattern, so that a
    shape and its complement have equal areas.
    """
    from skimage.measure import marching_cubes

    patterns, normals = [], []
    for code in range(1, _FULL):
        few = code if code.bit_count() <= len(_CORNERS) // 2 else _FULL - code
        cube = np.array([few >> bit & 1 for bit in range(len(_CORNERS))], np.float32)
        # The method of Lorensen always separates the voxels inside; that of Lewiner
        # connects some of them.
        found = marching_cubes(cube.reshape(2, 2, 2), 0.5, method="lorensen")
        points = found[0].astype(np.float64)[found[1]]
        made = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]) / 2
        normals.append(made)
        patterns.append(np.full(len(made), code))
    return np.concatenate(patterns), np.concatenate(normals)


def _distances(
    surface: AnyArray, other: AnyArray, voxel_size: Sequence[float]
) -> AnyArray:
    """Return the distance of each point of a surface from another surface."""
    from scipy.ndimage import distance_transform_edt

    check_stop()
    field = distance_transform_edt(~other, sampling=tuple(voxel_size))
    found: AnyArray = field[surface]
    return found
