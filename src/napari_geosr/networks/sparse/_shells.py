"""Describe closed shells, e.g. skulls, by two maps over directions from the centre.

An ellipsoid is fitted to the outer surface. In each direction, the outer radius and the
thickness of the outermost wall are measured along a ray, both relative to the
ellipsoid; the two values are missing where the ray meets no wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.interruption import check_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.networks.sparse._directions import (
    DirectionGrid,
    direction_grid,
    equal_directions,
)

#: Distance from the centre at which rays start, relative to the ellipsoid's radius.
_NEAR = 0.25
#: Distance from the centre at which rays end, relative to the ellipsoid's radius.
_FAR = 1.35
#: Step along the rays in voxels.
_STEP = 0.5
#: Number of rays that are traced at a time.
_AT_ONCE = 2000
#: Number of directions for the fit of the ellipsoid.
_FIT_DIRECTIONS = 1500
#: Number of repetitions of the fit, each from an improved centre.
_FITS = 3
#: Relative deviation at which the weight of a position in the fit drops to one half.
_DEVIATION = 0.08
#: Minimum fraction of directions in which a closed shell has a wall, among those in
#: which a wall is expected.
MIN_PRESENT = 0.3
#: Value at which the surface lies, between 0 (empty) and 1 (full).
_HALF = 0.5


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with half-axes along those of a volume, or in other directions.

    Attributes
    ----------
    centre : ndarray of shape (3,)
        Position (Z, Y, X) of the centre, in voxels.
    axes : ndarray of shape (3,)
        Lengths of the half-axes.
    frame : ndarray of shape (3, 3), or None
        Each column is the direction of one half-axis, in voxels (Z, Y, X) per unit of
        `axes`; None if the half-axes, in voxels, lie along the axes of the volume.
    """

    centre: AnyArray
    axes: AnyArray
    frame: AnyArray | None = None

    def offsets(self, places: AnyArray) -> AnyArray:
        """Convert positions (N, 3), in units of the half-axes, to offsets in voxels.

        Both are relative to the centre; positions on the ellipsoid are at a distance
        of 1 from the centre.
        """
        found: AnyArray = places * self.axes
        return found if self.frame is None else found @ self.frame.T

    def places(self, offsets: Sequence[AnyArray]) -> list[AnyArray]:
        """Convert offsets (three broadcastable arrays) to positions; see `offsets`."""
        if self.frame is None:
            pairs = zip(offsets, self.axes, strict=True)
            return [offset / half for offset, half in pairs]
        rows = np.linalg.inv(self.frame) / self.axes[:, None]
        z, y, x = offsets
        return [a * z + b * y + c * x for a, b, c in rows]

    @property
    def extents(self) -> AnyArray:
        """Half the extent along each axis of the volume, in voxels."""
        if self.frame is None:
            return self.axes
        found: AnyArray = np.linalg.norm(self.frame * self.axes, axis=1)
        return found


@dataclass(frozen=True)
class ShellMaps:
    """Radius and wall thickness of a shell by direction; NaN where there is no wall.

    Attributes
    ----------
    outer, thickness : ndarray of float64, shape (N,)
        Outer radius and wall thickness, relative to the ellipsoid of radius 1.
    """

    outer: AnyArray
    thickness: AnyArray

    @property
    def present(self) -> AnyArray:
        """Directions in which there is a wall."""
        found: AnyArray = np.isfinite(self.outer) & np.isfinite(self.thickness)
        return found


def fit_ellipsoid(inside: AnyArray, frame: AnyArray | None = None) -> Ellipsoid:
    """Fit an ellipsoid to the outer surface of a shell, even if a part is missing.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
        Voxels of the shape; at least one.
    frame : ndarray of shape (3, 3), optional
        Directions of the half-axes (see `Ellipsoid`).

    Raises
    ------
    Cancelled
        If stopped in the context `interruptible`.
    """
    centre, axes = _bounds(inside, frame)
    units = equal_directions(_FIT_DIRECTIONS)
    for _ in range(_FITS):
        maps = _rays(inside, Ellipsoid(centre, axes, frame), units, 1.0)
        hit = np.isfinite(maps.outer)
        places = units[hit] * maps.outer[hit, None]  # on a unit sphere
        terms = np.concatenate([places**2, 2 * places], 1)
        weights = np.ones(len(places))
        for _ in range(4):
            rows = terms * weights[:, None]
            solution = np.linalg.lstsq(rows, weights, rcond=None)[0]
            deviation = np.abs(terms @ solution - 1)
            weights = 1 / (1 + (deviation / _DEVIATION) ** 2)
        square = np.maximum(solution[:3], 0.2)
        level = 1 + (solution[3:] ** 2 / square).sum()
        moved = Ellipsoid(centre, axes, frame).offsets(solution[3:] / square)
        centre = centre - moved
        axes = axes * np.sqrt(level / square)
    return Ellipsoid(centre, axes, frame)


def _bounds(inside: AnyArray, frame: AnyArray | None) -> tuple[AnyArray, AnyArray]:
    """Return the centre and half the edge lengths of a shape's bounding box."""
    if frame is None:
        centre, axes = np.zeros(3), np.ones(3)
        for axis in range(3):
            check_stop()
            others = tuple(a for a in range(3) if a != axis)
            where = np.flatnonzero(inside.any(others))
            centre[axis] = (where[0] + where[-1]) / 2
            axes[axis] = (where[-1] - where[0] + 1) / 2
        return centre, axes
    inverse = np.linalg.inv(frame)
    ends = []
    for i, plane in enumerate(inside):
        check_stop()
        if plane.any():
            y, x = plane.nonzero()
            places = np.stack([np.full_like(y, i), y, x]).astype(np.float32)
            along = inverse.astype(np.float32) @ places
            ends.append((along.min(1), along.max(1)))
    low, high = (np.array(end, np.float64) for end in zip(*ends, strict=True))
    low, high = low.min(0), high.max(0)
    return frame @ ((low + high) / 2), (high - low + 1) / 2


def shell_maps(
    inside: AnyArray, ellipsoid: Ellipsoid, grid: DirectionGrid
) -> ShellMaps:
    """Measure the outer radius and thickness of a shell in all directions of a grid.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    ellipsoid : Ellipsoid
    grid : DirectionGrid

    Raises
    ------
    Cancelled
        If stopped in the context `interruptible`.
    """
    return _rays(inside, ellipsoid, grid.units, _STEP)


def wall_share(inside: AnyArray) -> float:
    """Return the fraction of the rays from the centre of a shape that meet a wall.

    It is 0 for a solid shape, which encloses no cavity.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
        Voxels of the shape; at least one.
    """
    grid = direction_grid(_FIT_DIRECTIONS)
    return float(shell_maps(inside, fit_ellipsoid(inside), grid).present.mean())


def _rays(
    inside: AnyArray, ellipsoid: Ellipsoid, units: AnyArray, step: float
) -> ShellMaps:
    from scipy.ndimage import map_coordinates

    rays = ellipsoid.offsets(units)
    n = int(np.ceil(_FAR * np.linalg.norm(rays, axis=1).max() / step))
    radii = np.linspace(_NEAR, _FAR, max(n, 2))
    outer, thickness = np.full((2, len(units)), np.nan)
    values = inside.view(np.uint8)
    for start in range(0, len(units), _AT_ONCE):
        check_stop()
        part = slice(start, start + _AT_ONCE)
        places = ellipsoid.centre[:, None, None] + rays[part].T[:, :, None] * radii
        along = map_coordinates(values, places, np.float32, order=1, prefilter=False)
        outer[part], thickness[part] = _outermost_wall(along, radii)
    return ShellMaps(outer, thickness)


def _outermost_wall(along: AnyArray, radii: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return the outer radius and thickness of the last wall on each ray, or NaN."""
    n, step = len(radii), radii[1] - radii[0]
    rows = np.arange(len(along))
    occupied = along >= _HALF
    hit = occupied.any(1)
    last = n - 1 - occupied[:, ::-1].argmax(1)
    outer = radii[last] + step * _crossing(along, rows, last, last + 1)
    free = ~occupied & (np.arange(n) < last[:, None])
    first = n - 1 - free[:, ::-1].argmax(1)
    inner = radii[first] + step * _crossing(along, rows, first, first + 1)
    outer = np.where(hit, outer, np.nan)
    return outer, np.where(hit & free.any(1), outer - inner, np.nan)


def _crossing(
    along: AnyArray, rows: AnyArray, one: AnyArray, other: AnyArray
) -> AnyArray:
    """Return where values cross 0.5, as a fraction of the way from `one` to `other`."""
    a, b = along[rows, one], along[rows, np.minimum(other, along.shape[1] - 1)]
    change = np.where(a == b, 1, b - a)
    found: AnyArray = np.clip((_HALF - a) / change, 0, 1) * (a != b)
    return found
