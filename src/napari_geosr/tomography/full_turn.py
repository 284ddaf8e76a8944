"""Scans over a full turn: each ray twice, or a field of view nearly twice as wide."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ProjectionsError

FloatArray = npt.NDArray[np.float32]
Angles = npt.NDArray[np.float64]


def fold_full_turn(
    sinogram: FloatArray, angles: Angles, centre: float
) -> tuple[FloatArray, Angles, float]:
    """Turn a scan over 360° into one over 180°, with all columns that were seen.

    The view from the other side is the mirrored view. With the axis near the middle the
    two are averaged; with the axis near an edge of the detector they lie side by side
    and meet at the axis: the field of view grows up to twofold. Where they overlap, one
    fades into the other.

    Parameters
    ----------
    sinogram : ndarray of shape (row, angle, column)
        Line integrals.
    angles : ndarray of shape (angle,)
        In degrees, over 360 at least; in any order.
    centre : float
        Column of the rotation axis.

    Returns
    -------
    sinogram : ndarray of shape (row, angle, column)
        Half as many angles, as many columns or more.
    angles : ndarray
        Ascending, over 180 degrees.
    centre : float
        Column of the axis in the new sinogram.

    Raises
    ------
    ProjectionsError
        If the angles cover less than a full turn, or the axis is not on the detector.
    """
    n_columns = sinogram.shape[2]
    if not 0 <= centre <= n_columns - 1:
        raise ProjectionsError(
            f"The rotation axis at column {centre:g} is not on the detector (columns "
            f"0 … {n_columns - 1}); the halves of a full turn cannot be joined. Check "
            "the centre."
        )
    order = np.argsort(angles, kind="stable")
    ascending = angles[order]
    step = (ascending[-1] - ascending[0]) / max(len(angles) - 1, 1)
    if ascending[-1] - ascending[0] + 1.5 * step < 360:
        raise ProjectionsError(
            f"The angles cover {ascending[-1] - ascending[0] + step:.4g} degrees; to "
            "join the halves of a full turn 360 are needed."
        )
    half = order[ascending - ascending[0] < 180 - 0.01 * step]
    before, after, share = _partners(angles, order, angles[half] + 180)
    opposite = sinogram[:, before] * (1 - share) + sinogram[:, after] * share
    joined, new_centre = join(sinogram[:, half], opposite, centre)
    return joined, angles[half], new_centre


def _partners(
    angles: Angles, order: npt.NDArray[np.intp], wanted: Angles
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], FloatArray]:
    """Views on either side of each wanted angle, and the share of the second."""
    ascending = angles[order]
    # The first view again, one turn later, closes the gap after the last one.
    closed = np.append(ascending, ascending[0] + 360)
    views = np.append(order, order[0])
    closed, first = np.unique(closed, return_index=True)
    views = views[first]
    at = np.clip(np.searchsorted(closed, wanted), 1, len(closed) - 1)
    share = (wanted - closed[at - 1]) / (closed[at] - closed[at - 1])
    share = np.clip(share, 0, 1).astype(np.float32)
    return views[at - 1], views[at], share[:, None]


def join(near: FloatArray, far: FloatArray, centre: float) -> tuple[FloatArray, float]:
    """Join views and views from the other side around the axis.

    Parameters
    ----------
    near, far : ndarray of shape (..., column)
        Seen from angles θ and θ + 180°, on the same detector.
    centre : float
        Column of the axis.

    Returns
    -------
    joined : ndarray of shape (..., column)
    centre : float
    """
    n = near.shape[-1]
    first = min(0, math.ceil(2 * centre - (n - 1)))
    last = max(n - 1, math.floor(2 * centre))
    columns = np.arange(first, last + 1)
    mirrored = 2 * centre - columns
    at = np.clip(mirrored, 0, n - 1)
    left = np.clip(np.floor(at).astype(int), 0, max(n - 2, 0))
    share = (at - left).astype(np.float32)
    from_far = (
        far[..., left] * (1 - share) + far[..., np.minimum(left + 1, n - 1)] * share
    )
    from_near = near[..., np.clip(columns, 0, n - 1)]
    weight = _fading(columns, mirrored, n)
    joined = from_near * weight + from_far * (1 - weight)
    return joined.astype(np.float32, copy=False), centre - first


def _fading(columns: npt.NDArray[np.intp], mirrored: Angles, n: int) -> FloatArray:
    """Weight of the near view: 1 where only it sees, else falling to 0."""
    # How deep inside the detector both see a column: at its edge a view has no weight.
    inside_near = np.minimum(columns, n - 1 - columns) + 1.0
    inside_far = np.minimum(mirrored, n - 1 - mirrored) + 1.0
    near, far = np.clip(inside_near, 0, None), np.clip(inside_far, 0, None)
    weight: FloatArray = (near / np.maximum(near + far, 1e-9)).astype(np.float32)
    return weight
