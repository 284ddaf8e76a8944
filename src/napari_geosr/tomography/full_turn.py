"""Scans over a full turn: each ray twice, or a field of view nearly twice as wide."""

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

#: A gap may be so many steps wide: what lies within is interpolated.
_WIDEST_STEPS = 2.5


def fold_full_turn(
    sinogram: FloatArray, angles: Angles, centre: float
) -> tuple[FloatArray, Angles, float]:
    """Turn a scan over 360° into one over 180°, with all columns that were seen.

    The view from the other side is the mirrored view. With the axis near the middle the
    two are averaged; with the axis near an edge of the detector they lie side by side
    and meet at the axis: the field of view grows up to twofold. Where they overlap, one
    fades into the other.

    Angles count by their place on the turn: views that come again in a later turn are
    averaged first. Where no view lies opposite, it is interpolated between the two
    beside, and every direction is kept.

    Parameters
    ----------
    sinogram : ndarray of shape (row, angle, column)
        Line integrals.
    angles : ndarray of shape (angle,)
        In degrees, over 360 at least; in any order, and over any number of turns.
    centre : float
        Column of the rotation axis.

    Returns
    -------
    sinogram : ndarray of shape (row, angle, column)
        An angle for each direction, as many columns or more.
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
    if not closes_turn(angles, _WIDEST_STEPS) and not steps_around(angles):
        raise ProjectionsError(
            f"The {len(angles)} angles cover {arc_degrees(angles):.4g} degrees, or "
            "leave too wide a gap; to join the halves of a full turn 360 are needed."
        )
    places, views = _around(sinogram, angles)
    same = SAME_PLACE_STEPS * 360 / len(angles)
    half = _first_of_each(np.sort(np.mod(places, 180)), same, 180)
    near = _seen_from(views, places, half)
    far = _seen_from(views, places, half + 180)
    joined, new_centre = join(near, far, centre)
    return joined, half + float(angles.min()), new_centre


def _around(sinogram: FloatArray, angles: Angles) -> tuple[Angles, FloatArray]:
    """Places on the turn, from the lowest angle on, and the mean of the views there."""
    places, inverse, _ = distinct_angles(angles - angles.min(), 360.0)
    places = places[inverse]
    order = np.argsort(places, kind="stable")
    same = SAME_PLACE_STEPS * 360 / len(angles)
    firsts = _first_of_each(places[order], same, 360)
    if len(firsts) == len(angles):
        return places[order], sinogram[:, order]
    group = np.searchsorted(firsts, places + 1e-9, side="right") - 1
    # A view just before the end of the turn is one of those at its beginning.
    group[places > firsts[-1] + same] = 0
    views = np.zeros((len(sinogram), len(firsts), sinogram.shape[2]), np.float32)
    for view, at in enumerate(group):
        views[:, at] += sinogram[:, view]
    views /= np.bincount(group, minlength=len(firsts)).astype(np.float32)[:, None]
    return firsts, views


def _first_of_each(places: Angles, same: float, period: float) -> Angles:
    """The first of every group of ascending places that are the same."""
    kept = [float(places[0])]
    for place in places[1:].tolist():
        if same < place - kept[-1] and place < kept[0] + period - same:
            kept.append(place)
    return np.array(kept)


def _seen_from(views: FloatArray, places: Angles, wanted: Angles) -> FloatArray:
    """Views at the wanted places, interpolated between the two beside each."""
    closed = np.concatenate([places[-1:] - 360, places, places[:1] + 360])
    at = np.mod(wanted, 360)
    after = np.clip(np.searchsorted(closed, at), 1, len(closed) - 1)
    gap = closed[after] - closed[after - 1]
    # Rounded, so that a view that lies there is taken as it is.
    share = np.round((at - closed[after - 1]) / gap, 4).astype(np.float32)[:, None]
    before, behind = (after - 2) % len(places), (after - 1) % len(places)
    seen: FloatArray = views[:, before] * (1 - share) + views[:, behind] * share
    return seen


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
