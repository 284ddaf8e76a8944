"""Angles of projections: gaps, missing wedges, full turns and opposite views."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Angles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
#: Start and width of an arc, in degrees.
Arc = tuple[float, float]

#: Angles closer than this, in degrees, count as repeats of the same view. The limit is
#: far below the resolution of a rotation stage and far above rounding errors in double
#: precision.
_SAME_ANGLE = 1e-6

# A gap between angles is a missing wedge, not a step, if it exceeds both of these
# limits.
#: Limit in degrees. In dense scans, it is the larger one, so that a few dropped views
#: do not count as a wedge.
_WEDGE_DEGREES = 10.0
#: Limit in steps (median gaps). It is the larger one if steps are wider than 2°.
_WEDGE_STEPS = 5.0

#: A full turn may fall short by this many degrees plus one rotation step.
_TURN_TOLERANCE = 5.0

# Detection of views taken in pairs from opposite sides.
#: Maximum deviation of an opposite view from exactly half a turn, in steps; at half a
#: step, every view would have an opposite one.
_OPPOSITE_TOLERANCE = 0.25
#: Maximum deviation of the steps of an evenly divided turn from the mean step, as a
#: fraction of that step.
_EVEN_STEP_TOLERANCE = 0.15
#: Fraction of the views that must meet these tolerances; exceptions occur mainly at the
#: start and end of a scan.
_VIEW_FRACTION = 0.9

#: Distance between views, in mean steps, below which their positions in the rotation
#: are considered equal.
SAME_PLACE_STEPS = 0.1
#: Minimum gap, in mean steps, that can mark the start of a scan: a narrower one only
#: shows that the angles are uneven.
_START_GAP_STEPS = 1.5

# Detection of views taken consecutively around a turn, with encoder noise.
#: Minimum number of views: with fewer, a rotation cannot be distinguished from chance.
_MIN_VIEWS = 12
#: Maximum `_VIEW_FRACTION` quantile of the deviations of the steps from their mean, in
#: steps. The quantile is 0.58 if the noise of each angle is normal (standard deviation
#: 0.25 steps), and 0.68 if it is uniform within half a step.
_ENCODER_TOLERANCE = 0.85
#: Maximum width of a gap that such noise may cause, in steps.
_MAX_GAP_STEPS = 2.5
#: Maximum phase shift of later turns relative to the first, in steps.
_PHASE_TOLERANCE = 0.25
#: Maximum step of a stepwise rotation, in degrees. The limit excludes golden-angle
#: views, which are at least 111° apart.
_MAX_STEP_DEGREES = 60.0


def distinct_angles(angles: Angles, period: float) -> tuple[Angles, Indices, Indices]:
    """Return the sorted distinct angles modulo `period`, inverse indices and counts."""
    turned = np.round(np.mod(angles, period) / _SAME_ANGLE).astype(np.int64)
    turned %= round(period / _SAME_ANGLE)
    places, inverse, counts = np.unique(turned, return_inverse=True, return_counts=True)
    return (places * _SAME_ANGLE).astype(np.float64), inverse, counts


def is_wedge(gaps: Angles, step: float) -> npt.NDArray[np.bool_]:
    """Select the gaps between angles that are missing wedges rather than steps."""
    wide: npt.NDArray[np.bool_] = gaps > max(_WEDGE_DEGREES, _WEDGE_STEPS * step)
    return wide


def covered_degrees(angles: Angles, period: float = 360.0) -> float:
    """Return how many degrees of the turn the projections cover, summed over all arcs.

    Parameters
    ----------
    angles : ndarray of float, shape (n,)
        Angles in degrees, in any order and range.
    period : float
        360, or 180 if views from opposite sides count as one direction.
    """
    gaps = _gaps(angles, period)
    step = float(np.median(gaps))
    return float(np.where(is_wedge(gaps, step), step, gaps).sum())


def missing_arcs(angles: Angles, period: float = 360.0) -> tuple[Arc, ...]:
    """Find arcs without views; each starts and ends half a step from the nearest view.

    Parameters
    ----------
    angles, period
        As for `covered_degrees`.

    Returns
    -------
    tuple of (float, float)
        Start of each arc within the period, and its width, in degrees.
    """
    places, _, _ = distinct_angles(angles, period)
    gaps = _gaps(angles, period)
    step = float(np.median(gaps))
    missing = is_wedge(gaps, step)
    begins = np.mod(places + step / 2, period)
    return tuple(
        (float(a), float(b - step))
        for a, b in zip(begins[missing], gaps[missing], strict=True)
    )


def gaps_between(places: Angles, period: float, missing: Iterable[Arc] = ()) -> Angles:
    """Return the gaps in degrees between adjacent positions, without missing arcs.

    Parameters
    ----------
    places : ndarray of float, shape (n,)
        As returned by `distinct_angles`.
    missing : iterable of (float, float)
        Result of `missing_arcs` for the whole scan if the positions are a subset: with
        few positions, a missing arc looks like a step. Wide gaps that occur only in the
        subset are replaced with the median gap.
    """
    gaps = np.diff(places, append=places[0] + period)
    for begin, width in missing:
        middle = np.mod(begin + width / 2 - places[0], period) + places[0]
        at = int(np.searchsorted(places, middle, side="right")) - 1
        gaps[at] = max(gaps[at] - width, 0.0)
    step = float(np.median(gaps))
    without_wedges: Angles = np.where(is_wedge(gaps, step), step, gaps)
    return without_wedges


def arc_degrees(angles: Angles) -> float:
    """Return the shortest arc that contains all angles, plus one step, in degrees."""
    gaps = _gaps(angles, 360.0)
    n = len(gaps)
    return 0.0 if n < 2 else float((360 - gaps.max()) * n / (n - 1))


def along_turn(angles: Angles) -> Angles:
    """Shift angles by whole turns so that they lie within one turn.

    The turn starts after the widest gap: half a turn across zero, such as 270 … 359 and
    0 … 89, becomes 270 … 449. Angles that span one turn or less, without a wide gap
    between them, are unchanged.

    Parameters
    ----------
    angles : ndarray of float, shape (n,)
        Angles in degrees, in any order and range.

    Returns
    -------
    ndarray of float, shape (n,)
        In the order of `angles`; sorting them gives the order along the turn.
    """
    low = float(angles.min())
    places, inverse, _ = distinct_angles(angles - low, 360.0)
    gaps = np.diff(places, append=360.0)
    widest = int(np.argmax(gaps))
    begin = 0.0
    if widest < len(places) - 1 and gaps[widest] > _START_GAP_STEPS * 360 / len(places):
        begin = float(places[widest + 1])
    target = low + begin + np.mod(places - begin, 360.0)[inverse]
    shifted: Angles = angles + 360.0 * np.round((target - angles) / 360.0)
    return shifted


def closes_turn(angles: Angles, steps: float = 1.0) -> bool:
    """Whether the angles cover a full turn, apart from a few degrees.

    Fewer than three views never cover it, because they leave a gap of at least half a
    turn.

    Parameters
    ----------
    steps : float
        Gaps of up to `steps` mean steps are always accepted.
    """
    gaps = np.sort(_gaps(angles, 360.0))
    if len(gaps) < 3:
        return False
    step = float(gaps[:-1].mean())
    return bool(gaps[-1] < max(step + _TURN_TOLERANCE, steps * step + _SAME_ANGLE))


def steps_around(angles: Angles) -> bool:
    """Whether views were taken consecutively in even steps around a full turn.

    Steps may vary by encoder noise of a fraction of a step (normal with a standard
    deviation of 0.25 steps, or uniform within half a step); within that noise, the
    direction opposite each view coincides with another view or lies between two views.
    Views of later turns must be in phase with those of the first.

    Parameters
    ----------
    angles : ndarray of float, shape (n,)
        Angles in degrees, in the order of recording, increasing or decreasing.
    """
    n = len(angles)
    if n < _MIN_VIEWS:
        return False
    steps = np.mod(np.diff(angles) + 180, 360) - 180
    line = np.polyfit(np.arange(n), np.concatenate([[0.0], np.cumsum(steps)]), 1)
    step = abs(float(line[0]))
    turn = n * step
    if (
        turn < 360 - _TURN_TOLERANCE - _PHASE_TOLERANCE * step
        or step > _MAX_STEP_DEGREES
    ):
        return False
    if np.quantile(np.abs(steps - line[0]), _VIEW_FRACTION) > _ENCODER_TOLERANCE * step:
        return False
    a_turn = 360 / step
    if abs(a_turn - round(a_turn)) * (turn / 360 - 1) > _PHASE_TOLERANCE:
        return False
    widest = float(_gaps(angles, 360.0).max())
    return widest < max(step + _TURN_TOLERANCE, _MAX_GAP_STEPS * step)


def has_opposites(angles: Angles) -> bool:
    """Whether views were taken in pairs from opposite sides.

    True if nearly every view has another view half a turn away, to within a small
    fraction of a step, and also if an odd number of views divides a turn evenly, so
    that the opposite direction lies between two views. False for views that merely
    happen to fill a turn, such as golden-angle views.
    """
    places, _, _ = distinct_angles(angles, 360.0)
    gaps = np.diff(places, append=places[0] + 360)
    step = 360 / len(places)
    if np.quantile(np.abs(gaps - step), _VIEW_FRACTION) <= _EVEN_STEP_TOLERANCE * step:
        return True
    closed = np.concatenate([places[-1:] - 360, places, places[:1] + 360])
    opposite = np.mod(places + 180, 360)
    after = np.clip(np.searchsorted(closed, opposite), 1, len(closed) - 1)
    miss = np.minimum(closed[after] - opposite, opposite - closed[after - 1])
    return bool(np.quantile(np.abs(miss), _VIEW_FRACTION) <= _OPPOSITE_TOLERANCE * step)


def distinct_places(angles: Angles, period: float = 360.0) -> Indices:
    """Select the first view at each distinct angle, in the order along the turn.

    Parameters
    ----------
    angles : ndarray of float, shape (n,)
        Angles in degrees, in any order and range.
    period : float
        360, or 180 for one view of each direction.

    Returns
    -------
    ndarray of int
        Indices of `angles`.
    """
    turned = along_turn(angles)
    places = np.mod(np.round(turned - turned.min(), 6), period)
    order = np.argsort(places, kind="stable")
    same = SAME_PLACE_STEPS * 360 / len(angles)
    distinct = [int(order[0])]
    for view in order[1:].tolist():
        low, high = places[distinct[0]] - same, places[distinct[-1]] + same
        if places[view] > high and places[view] < low + period:
            distinct.append(view)
    return np.array(distinct, np.intp)


def is_full_turn(angles: Angles) -> bool:
    """Whether each ray was measured from both sides; angles are taken modulo 360°.

    Nominal angles may be in any order. Encoder angles must be in the order of recording
    if their noise, or their rounding in the file, is a sizeable fraction of a step.
    """
    planned = closes_turn(angles) and has_opposites(angles)
    return planned or steps_around(angles)


def _gaps(angles: Angles, period: float) -> Angles:
    places, _, _ = distinct_angles(angles, period)
    gaps: Angles = np.diff(places, append=places[0] + period)
    return gaps
