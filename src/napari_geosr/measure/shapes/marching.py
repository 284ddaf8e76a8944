"""Marching cubes in small cubes, so that other threads can run in between.

scikit-image does not release the interpreter lock: in one pass over a large volume, it
would block all other threads, such as that of the user interface, for seconds.
"""

from __future__ import annotations

import itertools

import numpy as np

from napari_geosr.core.interruption import check_stop
from napari_geosr.core.types import AnyArray

#: Number of cells along each edge of a cube. A cube takes about 10 ms.
_CELLS = 64
#: Values closer to the level are moved to this distance from it, so that vertices on
#: different edges differ in float32. It shifts vertices by up to 1/5000 of a voxel.
_NEAREST = 2e-4


def marched(field: AnyArray, level: float) -> tuple[AnyArray, AnyArray]:
    """Extract the surface between the values above a level and the others.

    The surface does not depend on the division into cubes, except for the order of its
    vertices and triangles and for rounding.

    Parameters
    ----------
    field : ndarray of float32, shape (Z, Y, X)
        Values from 0 to 1; at least two along each axis.
    level : float

    Returns
    -------
    vertices : ndarray of float32, shape (N, 3)
        Positions along Z, Y, X, in voxels.
    faces : ndarray of int32, shape (M, 3)
        Vertices of each triangle.

    Raises
    ------
    Cancelled
        If stopped in the context `interruptible`.

    Examples
    --------
    >>> import numpy as np
    >>> field = np.zeros((3, 3, 3), np.float32)
    >>> field[1, 1, 1] = 1
    >>> vertices, faces = marched(field, 0.5)
    >>> vertices.shape, faces.shape
    ((6, 3), (8, 3))
    """
    vertices, faces = [np.empty((0, 3), np.float32)], [np.empty((0, 3), np.int32)]
    keys, shared = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    n_vertices = 0
    for start in itertools.product(*(range(0, n - 1, _CELLS) for n in field.shape)):
        check_stop()
        part = field[tuple(slice(first, first + _CELLS + 1) for first in start)]
        places, triangles = _marched_cube(part, level)
        if not len(places):
            continue
        joint = np.flatnonzero(_on_joints(places, start, part.shape, field.shape))
        keys.append(_edges(places[joint], start, field.shape))
        shared.append(joint + n_vertices)
        vertices.append(places + np.array(start, np.float32))
        faces.append(triangles + np.int32(n_vertices))
        n_vertices += len(places)
    return _joined(
        np.concatenate(vertices),
        np.concatenate(faces),
        np.concatenate(keys),
        np.concatenate(shared),
    )


def _marched_cube(part: AnyArray, level: float) -> tuple[AnyArray, AnyArray]:
    """Extract the part of a surface that lies in a cube."""
    from skimage.measure import marching_cubes

    inside = part > level
    n_inside = np.count_nonzero(inside)
    if n_inside in (0, inside.size):
        return np.empty((0, 3), np.float32), np.empty((0, 3), np.int32)
    values = np.where(
        inside,
        np.maximum(part, np.float32(level + _NEAREST)),
        np.minimum(part, np.float32(level - _NEAREST)),
    )
    vertices, faces, _, _ = marching_cubes(values, level)
    return vertices.astype(np.float32), faces.astype(np.int32)


def _on_joints(
    places: AnyArray,
    start: tuple[int, ...],
    part: tuple[int, ...],
    whole: tuple[int, ...],
) -> AnyArray:
    """Tell which vertices lie on faces that a cube shares with another cube."""
    found: AnyArray = np.zeros(len(places), bool)
    for axis, (first, n, n_whole) in enumerate(zip(start, part, whole, strict=True)):
        if first:
            found |= places[:, axis] == 0
        if first + n < n_whole:
            found |= places[:, axis] == n - 1
    return found


def _edges(
    places: AnyArray, start: tuple[int, ...], shape: tuple[int, ...]
) -> AnyArray:
    """Return a number for the edge between two voxels on which each vertex lies.

    Vertices on the faces of a cube lie on such edges, and never at their ends.
    """
    lower = np.floor(places)
    along = (places != lower).argmax(1)
    z, y, x = (lower.astype(np.int64) + start).T
    keys: AnyArray = 3 * ((z * shape[1] + y) * shape[2] + x) + along
    return keys


def _joined(
    vertices: AnyArray, faces: AnyArray, keys: AnyArray, shared: AnyArray
) -> tuple[AnyArray, AnyArray]:
    """Merge the vertices `shared` that have equal keys."""
    order = np.argsort(keys, kind="stable")
    ordered, shared = keys[order], shared[order]
    is_new: AnyArray = np.ones(len(keys), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    if is_new.all():
        return vertices, faces
    kept: AnyArray = np.ones(len(vertices), bool)
    kept[shared[~is_new]] = False
    number = np.cumsum(kept, dtype=np.int32) - np.int32(1)
    number[shared] = number[shared[is_new]][np.cumsum(is_new) - 1]
    return vertices[kept], number[faces]
