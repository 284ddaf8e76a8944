"""Scans of a full turn: average opposite views, or join them to widen the field."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from napari_geosr.core.angles import (
    SAME_PLACE_STEPS,
    arc_degrees,
    closes_turn,
    distinct_angles,
    steps_around,
)
from napari_geosr.core.errors import ProjectionsError

FloatArray = npt.NDArray[np.float32]
Angles = npt.NDArray[np.float64]

#: Maximum gap between views, in mean steps; views within a gap are interpolated.
_MAX_GAP_STEPS = 2.5


def fold_full_turn(
    sinogram: FloatArray, angles: Angles, centre: float
) -> tuple[FloatArray, Angles, float]:
    """Convert a scan over 360° to one over 180° that includes all measured columns.

    Each view is the mirror image of the view from the opposite side. If the axis is
    near the middle of the detector, the two are averaged; if it is near an edge, they
    are joined at the axis, which widens the field of view up to twofold. Where they
    overlap, one fades into the other.

    Angles are taken modulo 360°: views repeated in later turns are averaged first.
    Missing opposite views are interpolated between their two neighbours, so no
    direction is lost.

    Parameters
    ----------
    sinogram : ndarray of shape (row, angle, column)
        Line integrals.
    angles : ndarray of shape (angle,)
        Angles in degrees, covering at least 360, in any order and over any number of
        turns.
    centre : float
        Column of the rotation axis.

    Returns
    -------
    sinogram : ndarray of shape (row, angle, column)
        One view for each direction, with at least as many columns as the input.
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
    if not closes_turn(angles, _MAX_GAP_STEPS) and not steps_around(angles):
        raise ProjectionsError(
            f"The {len(angles)} angles span {arc_degrees(angles):.4g} degrees or "
            "leave too wide a gap; joining the halves of a full turn requires 360 "
            "degrees without a gap."
        )
    places, views = _around(sinogram, angles)
    same = SAME_PLACE_STEPS * 360 / len(angles)
    half = _unique_places(np.sort(np.mod(places, 180)), same, 180)
    near = _interpolate_views(views, places, half)
    far = _interpolate_views(views, places, half + 180)
    joined, new_centre = join(near, far, centre)
    return joined, half + float(angles.min()), new_centre


def _around(sinogram: FloatArray, angles: Angles) -> tuple[Angles, FloatArray]:
    """Return angles relative to the lowest one, and the mean of the views at each."""
    places, inverse, _ = distinct_angles(angles - angles.min(), 360.0)
    places = places[inverse]
    order = np.argsort(places, kind="stable")
    same = SAME_PLACE_STEPS * 360 / len(angles)
    firsts = _unique_places(places[order], same, 360)
    if len(firsts) == len(angles):
        return places[order], sinogram[:, order]
    group = np.searchsorted(firsts, places + 1e-9, side="right") - 1
    # Views just before the end of the turn are grouped with those at its start.
    group[places > firsts[-1] + same] = 0
    views = np.zeros((len(sinogram), len(firsts), sinogram.shape[2]), np.float32)
    for view, at in enumerate(group):
        views[:, at] += sinogram[:, view]
    views /= np.bincount(group, minlength=len(firsts)).astype(np.float32)[:, None]
    return firsts, views


def _unique_places(places: Angles, same: float, period: float) -> Angles:
    """Return the first of each group of equal angles, which must be ascending."""
    kept = [float(places[0])]
    for place in places[1:].tolist():
        if same < place - kept[-1] and place < kept[0] + period - same:
            kept.append(place)
    return np.array(kept)


def _interpolate_views(
    views: FloatArray, places: Angles, targets: Angles
) -> FloatArray:
    """Interpolate views at the target angles from the two neighbours of each."""
    closed = np.concatenate([places[-1:] - 360, places, places[:1] + 360])
    at = np.mod(targets, 360)
    after = np.clip(np.searchsorted(closed, at), 1, len(closed) - 1)
    gap = closed[after] - closed[after - 1]
    # Round the weight, so that a view exactly at the target angle is used unchanged.
    share = np.round((at - closed[after - 1]) / gap, 4).astype(np.float32)[:, None]
    before, behind = (after - 2) % len(places), (after - 1) % len(places)
    seen: FloatArray = views[:, before] * (1 - share) + views[:, behind] * share
    return seen


def join(near: FloatArray, far: FloatArray, centre: float) -> tuple[FloatArray, float]:
    """Join views with the opposite views at the axis.

    Parameters
    ----------
    near, far : ndarray of shape (..., column)
        Views at angles θ and θ + 180°, on the same detector.
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
    """Return weights of the near view: 1 where only this view has data, down to 0."""
    # Weights depend on the distance from the detector's edge, where they vanish.
    inside_near = np.minimum(columns, n - 1 - columns) + 1.0
    inside_far = np.minimum(mirrored, n - 1 - mirrored) + 1.0
    near, far = np.clip(inside_near, 0, None), np.clip(inside_far, 0, None)
    weight: FloatArray = (near / np.maximum(near + far, 1e-9)).astype(np.float32)
    return weight
