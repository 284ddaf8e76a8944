"""Angles of projections: gaps, missing wedges, full turns and opposite views."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Angles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
#: Where it begins, and how wide it is, in degrees.
Arc = tuple[float, float]

#: In degrees. Angles closer than this are one view that was taken several times: far
#: below what a rotation stage can resolve, far above rounding in double precision.
_SAME_ANGLE = 1e-6

# A gap between angles that is wider than both of these is a missing wedge, not a step.
#: In degrees. This decides in dense scans, where a few dropped views are not a wedge.
_WEDGE_DEGREES = 10.0
#: In steps (the median gap). This decides where steps are wider than 2°.
_WEDGE_STEPS = 5.0

#: In degrees. How much a full turn may lack, one step of the rotation added.
_TURN_TOLERANCE = 5.0

# Views taken in pairs from opposite sides.
#: In steps. How far an opposite view may lie from exactly half a turn away; at half a
#: step every view would lie opposite to some other.
_OPPOSITE_TOLERANCE = 0.25
#: In steps. How much steps may vary where a turn is evenly divided.
_EVEN_STEP_TOLERANCE = 0.15
#: A fraction. How many of the views have to meet these tolerances; the others may be
#: where the scan begins and ends.
_MOST_VIEWS = 0.9

#: In mean steps. Views nearer to each other than this are of one place on the turn.
SAME_PLACE_STEPS = 0.1
#: In mean steps. A scan does not begin after a narrower gap: the angles are uneven.
_START_GAP_STEPS = 1.5

# Views taken one after the other around a turn, with the noise of the encoder.
#: Number of views: fewer are too few to tell a rotation from chance.
_FEWEST_VIEWS = 12
#: In steps. How much steps may vary in `_MOST_VIEWS` of them: that quantile is 0.58 for
#: normal noise of each angle (standard deviation 0.25 steps), and 0.68 for even noise
#: within half a step.
_ENCODER_TOLERANCE = 0.85
#: In steps. How wide the widest gap may be with such noise.
_WIDEST_GAP_STEPS = 2.5
#: In steps. How far later turns may be out of step with the first.
_PHASE_TOLERANCE = 0.25
#: In degrees. Wider steps are no rotation: views of golden angles are 111° or more
#: apart.
_WIDEST_STEP_DEGREES = 60.0


def distinct_angles(angles: Angles, period: float) -> tuple[Angles, Indices, Indices]:
    """Angles in a period from low to high; which each one is, how often each came."""
    turned = np.round(np.mod(angles, period) / _SAME_ANGLE).astype(np.int64)
    turned %= round(period / _SAME_ANGLE)
    places, inverse, counts = np.unique(turned, return_inverse=True, return_counts=True)
    return (places * _SAME_ANGLE).astype(np.float64), inverse, counts


def is_wedge(gaps: Angles, step: float) -> npt.NDArray[np.bool_]:
    """Which gaps between angles are no steps, but pieces that are missing."""
    found: npt.NDArray[np.bool_] = gaps > max(_WEDGE_DEGREES, _WEDGE_STEPS * step)
    return found


def covered_degrees(angles: Angles, period: float = 360.0) -> float:
    """Degrees of the turn that lie beside a projection, pieces of a scan together.

    Parameters
    ----------
    angles : ndarray of float, shape (n,)
        In degrees, in any order and range.
    period : float
        360; 180 where views from opposite sides are one direction.
    """
    gaps = _gaps(angles, period)
    step = float(np.median(gaps))
    return float(np.where(is_wedge(gaps, step), step, gaps).sum())


def missing_arcs(angles: Angles, period: float = 360.0) -> tuple[Arc, ...]:
    """Pieces that no view looks along, half a step from the views beside them.

    Parameters
    ----------
    angles, period
        As for :func:`covered_degrees`.

    Returns
    -------
    tuple of (float, float)
        Where each begins in the period, and how wide it is, in degrees.
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
    """Degrees from each place to the next, without what is missing.

    Parameters
    ----------
    places : ndarray of float, shape (n,)
        Of `distinct_angles`.
    missing : iterable of (float, float)
        As of :func:`missing_arcs` of the scan that the places are some of: between few
        of them, a missing piece looks like a step. Pieces that are missing in these
        places alone are left out as well.
    """
    gaps = np.diff(places, append=places[0] + period)
    for begin, width in missing:
        middle = np.mod(begin + width / 2 - places[0], period) + places[0]
        at = int(np.searchsorted(places, middle, side="right")) - 1
        gaps[at] = max(gaps[at] - width, 0.0)
    step = float(np.median(gaps))
    found: Angles = np.where(is_wedge(gaps, step), step, gaps)
    return found


def arc_degrees(angles: Angles) -> float:
    """Degrees of the shortest arc that holds all angles, and one step more."""
    gaps = _gaps(angles, 360.0)
    n = len(gaps)
    return 0.0 if n < 2 else float((360 - gaps.max()) * n / (n - 1))


def along_turn(angles: Angles) -> Angles:
    """Angles with whole turns added, so that they ascend along one turn.

    It begins after the widest gap between them: a half turn over zero, such as
    270 … 359 and 0 … 89, becomes 270 … 449. Angles of a turn or less that has no gap
    within stay what they are.

    Parameters
    ----------
    angles : ndarray of float, shape (n,)
        In degrees, in any order and range.

    Returns
    -------
    ndarray of float, shape (n,)
        In the order of `angles`; sort them to go along the turn.
    """
    low = float(angles.min())
    places, inverse, _ = distinct_angles(angles - low, 360.0)
    gaps = np.diff(places, append=360.0)
    widest = int(np.argmax(gaps))
    begin = 0.0
    if widest < len(places) - 1 and gaps[widest] > _START_GAP_STEPS * 360 / len(places):
        begin = float(places[widest + 1])
    wanted = low + begin + np.mod(places - begin, 360.0)[inverse]
    found: Angles = angles + 360.0 * np.round((wanted - angles) / 360.0)
    return found


def closes_turn(angles: Angles, steps: float = 1.0) -> bool:
    """Whether angles go all around, but for a few degrees.

    Two views do not, as whatever they are, half a turn or more lies beside them.

    Parameters
    ----------
    steps : float
        How wide a gap may be in any case, in parts of a usual one.
    """
    gaps = np.sort(_gaps(angles, 360.0))
    if len(gaps) < 3:
        return False
    step = float(gaps[:-1].mean())
    return bool(gaps[-1] < max(step + _TURN_TOLERANCE, steps * step + _SAME_ANGLE))


def steps_around(angles: Angles) -> bool:
    """Whether views were taken one after the other, all around in even steps.

    Steps are even but for an encoder's noise of a fraction of a step (normal with a
    standard deviation of 0.25 steps, or even within half a step), so that views lie
    opposite, or between two that do, to that noise. After several turns they have to be
    in step with those of the first.

    Parameters
    ----------
    angles : ndarray of float, shape (n,)
        In degrees, in the order of recording; either way around.
    """
    n = len(angles)
    if n < _FEWEST_VIEWS:
        return False
    steps = np.mod(np.diff(angles) + 180, 360) - 180
    line = np.polyfit(np.arange(n), np.concatenate([[0.0], np.cumsum(steps)]), 1)
    step = abs(float(line[0]))
    turn = n * step
    if (
        turn < 360 - _TURN_TOLERANCE - _PHASE_TOLERANCE * step
        or step > _WIDEST_STEP_DEGREES
    ):
        return False
    if np.quantile(np.abs(steps - line[0]), _MOST_VIEWS) > _ENCODER_TOLERANCE * step:
        return False
    a_turn = 360 / step
    if abs(a_turn - round(a_turn)) * (turn / 360 - 1) > _PHASE_TOLERANCE:
        return False
    widest = float(_gaps(angles, 360.0).max())
    return widest < max(step + _TURN_TOLERANCE, _WIDEST_GAP_STEPS * step)


def has_opposites(angles: Angles) -> bool:
    """Whether views were taken in pairs from opposite sides.

    So they are where nearly each has one half a turn away, to a small part of a step;
    and where a turn is evenly divided by an odd number, where they lie between two.
    Views that merely happen to fill a turn, as those of a golden angle do, are not.
    """
    places, _, _ = distinct_angles(angles, 360.0)
    gaps = np.diff(places, append=places[0] + 360)
    step = 360 / len(places)
    if np.quantile(np.abs(gaps - step), _MOST_VIEWS) <= _EVEN_STEP_TOLERANCE * step:
        return True
    closed = np.concatenate([places[-1:] - 360, places, places[:1] + 360])
    wanted = np.mod(places + 180, 360)
    after = np.clip(np.searchsorted(closed, wanted), 1, len(closed) - 1)
    miss = np.minimum(closed[after] - wanted, wanted - closed[after - 1])
    return bool(np.quantile(np.abs(miss), _MOST_VIEWS) <= _OPPOSITE_TOLERANCE * step)


def distinct_places(angles: Angles, period: float = 360.0) -> Indices:
    """One view of each place on the turn, along it; the first where there are several.

    Parameters
    ----------
    angles : ndarray of float, shape (n,)
        In degrees, in any order and range.
    period : float
        360; 180 for one view of each direction.

    Returns
    -------
    ndarray of int
        Indices of `angles`.
    """
    turned = along_turn(angles)
    places = np.mod(np.round(turned - turned.min(), 6), period)
    order = np.argsort(places, kind="stable")
    same = SAME_PLACE_STEPS * 360 / len(angles)
    kept = [int(order[0])]
    for view in order[1:].tolist():
        low, high = places[kept[0]] - same, places[kept[-1]] + same
        if places[view] > high and places[view] < low + period:
            kept.append(view)
    return np.array(kept, np.intp)


def is_full_turn(angles: Angles) -> bool:
    """Whether each ray was measured from both sides, whatever turns angles are of.

    Angles as they were planned tell it in any order. Those of an encoder whose noise is
    a good part of a step, or that a file rounds to it, tell it in that of recording.
    """
    planned = closes_turn(angles) and has_opposites(angles)
    return planned or steps_around(angles)


def _gaps(angles: Angles, period: float) -> Angles:
    places, _, _ = distinct_angles(angles, period)
    found: Angles = np.diff(places, append=places[0] + period)
    return found
