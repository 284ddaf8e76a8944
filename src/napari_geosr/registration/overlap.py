"""The largest axis-aligned box common to two fields of view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.registration.sampled import Box, Grid
from napari_geosr.registration.transform import Transform


def common_box(
    low: Grid, high: Grid, to_high: Transform, factors: Sequence[int]
) -> Box | None:
    """Return a box of voxels of `low`, with all refined voxel centres inside `high`.

    Finds (nearly) the largest such box: the logarithm of the volume is a concave
    function of the face positions, and both fields of view are convex.

    Parameters
    ----------
    to_high : Transform
        Maps positions in `low` to positions in `high`.
    factors : sequence of int
        Refined voxels per voxel of `low` along each axis.

    Returns
    -------
    tuple of slice, or None
        None if there is no such box.
    """
    n = len(low.shape)
    normals, limits = _half_spaces(low, high, to_high)
    # The faces of the box are half a refined voxel beyond the outermost centres.
    inner = 0.5 / np.array(factors)
    start = _inscribed_sphere(normals, limits, n)
    if start is None:
        return None
    faces = _widened(normals, limits + np.abs(normals) @ inner, start, n)
    first = np.ceil(faces[:n] + 0.5 - 1e-3).astype(int)
    stop = np.floor(faces[n:] + 0.5 + 1e-3).astype(int)
    first = np.maximum(first, 0)
    stop = np.minimum(stop, np.array(low.shape))
    if (stop <= first).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))


def _half_spaces(
    low: Grid, high: Grid, to_high: Transform
) -> tuple[AnyArray, AnyArray]:
    """Return the faces of the common region, in voxels of `low`: normals and limits.

    A position x is in this region if ``normals @ x <= limits``.
    """
    n = len(low.shape)
    way = low.index_map(high, to_high)
    outer = np.array(high.shape) - 0.5
    normals = np.concatenate([np.eye(n), -np.eye(n), way.matrix, -way.matrix])
    limits = np.concatenate(
        [
            np.array(low.shape) - 0.5,
            np.full(n, 0.5),
            outer - way.shift,
            way.shift + 0.5,
        ]
    )
    length = np.linalg.norm(normals, axis=1)
    return normals / length[:, None], limits / length


def _inscribed_sphere(normals: AnyArray, limits: AnyArray, n: int) -> Any:
    """Find the centre and radius of the largest inscribed sphere, if there is one."""
    from scipy.optimize import linprog

    found = linprog(
        np.r_[np.zeros(n), -1.0],
        A_ub=np.c_[normals, np.ones(len(normals))],
        b_ub=limits,
        bounds=[(None, None)] * n + [(0, None)],
    )
    if not found.success or found.x[-1] <= 0:
        return None
    return found.x


def _widened(normals: AnyArray, limits: AnyArray, start: AnyArray, n: int) -> Any:
    """Return the positions of the faces (low, then high) of the largest box."""
    from scipy.optimize import minimize

    # The corner that reaches furthest along a normal is at the high faces where the
    # normal is positive, and at the low faces elsewhere.
    reach = np.c_[np.minimum(normals, 0), np.maximum(normals, 0)]
    half = start[-1] / np.sqrt(n) / 2
    faces = np.r_[start[:n] - half, start[:n] + half]
    size = max(1.0, float(start[-1]))

    def volume(x: AnyArray) -> float:
        """Return the negative logarithm of the box's volume."""
        return -float(np.log(np.maximum(x[n:] - x[:n], 1e-9)).sum())

    def slope(x: AnyArray) -> Any:
        """Return the gradient of `volume`."""
        inverse = 1 / np.maximum(x[n:] - x[:n], 1e-9)
        return np.r_[inverse, -inverse]

    found = minimize(
        lambda x: volume(x * size),
        faces / size,
        jac=lambda x: slope(x * size) * size,
        constraints={
            "type": "ineq",
            "fun": lambda x: limits - reach @ (x * size),
            "jac": lambda x: -reach * size,
        },
        method="SLSQP",
        options={"maxiter": 200, "ftol": 1e-9},
    )
    best = found.x * size
    # Correct for the solver's overshoot.
    over = float(np.max(reach @ best - limits))
    if over > 0:
        best = best + over * np.r_[np.ones(n), -np.ones(n)]
    return best
