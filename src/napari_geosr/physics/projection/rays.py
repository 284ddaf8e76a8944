"""Describe rays through a slice as straight lines across its rows or columns.

A ray that is closer in direction to the Y axis than to the X axis crosses every row
once; any other ray crosses every column once. A ray is parametrised as
``across = offset + slope · along``, in voxels, where `along` counts rows (columns) and
`across` is the column (row) of the crossing. Linear interpolation at the crossings,
times the step length, is Joseph's method [1]_.

References
----------
.. [1] Joseph. An improved algorithm for reprojecting rays through pixel images. IEEE
   Trans. Med. Imaging 1, 192-196 (1982). doi:10.1109/TMI.1982.4307572
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from napari_geosr.physics.projection.geometry import (
    ConeGeometry,
    FanGeometry,
    ParallelGeometry,
)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rays:
    """One straight line per angle and detector column.

    Attributes
    ----------
    offset, slope : ndarray of shape (n_angles, n_columns), float32
        Parameters of the line, in voxels.
    step : ndarray of shape (n_angles, n_columns), float32
        Length of the ray between two rows (columns), in the unit of the pixel size.
    along_y : ndarray of shape (n_angles, n_columns), bool
        Whether the ray crosses rows rather than columns.
    runs : ndarray of shape (n_runs, 4), int32
        Runs of neighbouring rays with the same `along_y`: angle, first column, column
        after the last, along_y.
    depth_offset, depth_slope : ndarray of shape (n_angles, n_columns), float32
        Distance from the source along the central ray as ``offset + slope · along``,
        in units of the distance from source to detector; zeros for parallel rays.
    """

    offset: Floats
    slope: Floats
    step: Floats
    along_y: npt.NDArray[np.bool_]
    runs: npt.NDArray[np.int32]
    depth_offset: Floats
    depth_slope: Floats


#: Cache of the rays of geometries in use; entries are dropped with the geometry.
_known: WeakKeyDictionary[ParallelGeometry, Rays] = WeakKeyDictionary()


def rays_of(geometry: ParallelGeometry) -> Rays:
    """Return the rays of a geometry, computed once and cached."""
    found = _known.get(geometry)
    if found is None:
        found = _known[geometry] = trace(geometry)
    return found


def trace(geometry: ParallelGeometry) -> Rays:
    """Compute the rays of one detector row (for a cone beam: the central row)."""
    angle = np.deg2rad(geometry.angles)[:, None]
    cos, sin = np.cos(angle), np.sin(angle)
    t = (np.arange(geometry.n_columns) - geometry.centre) * geometry.pixel_size
    if isinstance(geometry, FanGeometry):
        source, to_detector = geometry.source_distance, geometry.detector_distance
        full = source + to_detector
        start = (source * sin + 0 * t, -source * cos + 0 * t)
        way = (-sin * full + cos * t, cos * full + sin * t)
    else:
        full = 1.0
        start = (cos * t, sin * t)
        way = (-sin + 0 * t, cos + 0 * t)
    along_y = np.abs(way[1]) >= np.abs(way[0])
    across_start, along_start = _sorted(along_y, start)
    across_way, along_way = _sorted(along_y, way)
    h, middle = geometry.voxel_size, (geometry.size - 1) / 2
    slope = across_way / along_way
    offset = (across_start - along_start * slope) / h + middle * (1 - slope)
    depth_slope = h / along_way  # a fraction of the way from source to detector
    depth_offset = -along_start / along_way - middle * depth_slope
    if not isinstance(geometry, FanGeometry):
        depth_slope, depth_offset = 0 * slope, 0 * slope
    return Rays(
        offset=offset.astype(np.float32),
        slope=slope.astype(np.float32),
        step=(h * np.hypot(1, slope)).astype(np.float32),
        along_y=along_y,
        runs=_runs(along_y),
        depth_offset=depth_offset.astype(np.float32),
        depth_slope=depth_slope.astype(np.float32),
    )


def row_heights(geometry: ConeGeometry) -> Floats:
    """Return the height of every detector row above the central ray, in voxels."""
    rows = np.arange(geometry.n_rows) - geometry.row_centre
    return (rows * geometry.row_size / geometry.voxel_size).astype(np.float32)


def _sorted(
    along_y: npt.NDArray[np.bool_], xy: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates across and along the rays from coordinates along X and Y."""
    x, y = xy
    return np.where(along_y, x, y), np.where(along_y, y, x)


def _runs(along_y: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    n_columns = along_y.shape[1]
    found = []
    for angle, flags in enumerate(along_y):
        edges = np.flatnonzero(np.diff(flags)) + 1
        bounds = [0, *edges.tolist(), n_columns]
        for first, stop in itertools.pairwise(bounds):
            found.append((angle, first, stop, int(flags[first])))
    return np.array(found, np.int32)
