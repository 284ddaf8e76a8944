"""Find reasons why a pattern found in raw frames is unreliable."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from napari_geosr.core.sim_frames.fringes import FringePattern

#: Confidence below which a pattern does not count as found.
MIN_CONFIDENCE = 6.0
#: Modulation below which a pattern does not count as found.
MIN_MODULATION = 0.05
#: Modulation of a frame, relative to the mean of the frames, below which a pattern does
#: not count as found. The ratio is at least 0.76 for correct frames, even noisy ones;
#: if frames of two angles are swapped, it is 0.37 to 0.51 for at least one of the
#: angles.
MIN_EVENNESS = 0.6
#: Minimum number of phases per angle for which equal phases are allowed.
_MANY_PHASES = 6
#: Distance between two phases below which they count as equal, in radians.
_MIN_GAP = math.radians(10)


def missing_pattern(
    pattern: FringePattern, confidence: float, needed: float = MIN_CONFIDENCE
) -> str:
    """Return why no pattern was found, with the limit; empty if one was found.

    Parameters
    ----------
    pattern : FringePattern
    confidence : float
    needed : float
        Minimum confidence.
    """
    modulation = abs(pattern.modulation[0])
    reasons = []
    # Values are rounded down, so that none appears to reach its limit.
    if not confidence >= needed:
        shown = math.floor(10 * confidence) / 10
        reasons.append(f"confidence {shown:.1f} (at least {needed:g} is needed)")
    if not modulation >= MIN_MODULATION:
        shown = math.floor(100 * modulation) / 100
        reasons.append(
            f"modulation {shown:.2f} (at least {MIN_MODULATION:g} is needed)"
        )
    return f"no pattern found; {', '.join(reasons)}." if reasons else ""


def doubtful_frames(pattern: FringePattern, evenness: float) -> str:
    """Return why the frames do not share one pattern; empty if they do.

    Parameters
    ----------
    pattern : FringePattern
    evenness : float
        Smallest modulation of a frame relative to the mean.
    """
    gap = _smallest_gap(pattern.phases)
    # With many phases, some may be equal.
    if gap < _MIN_GAP and len(pattern.phases) < _MANY_PHASES:
        return (
            f"two frames have nearly the same phase ({math.degrees(gap):.0f}° apart): "
            "check the order of the frames (--order)."
        )
    if evenness < MIN_EVENNESS:
        return (
            f"one frame has only {100 * evenness:.0f} % of the mean modulation of all "
            "frames, so it probably belongs to another angle: check the order of the "
            "frames (--order)."
        )
    return ""


def _smallest_gap(phases: Sequence[float]) -> float:
    """Return the smallest distance between two phases on the circle."""
    turned = np.sort(np.mod(phases, 2 * math.pi))
    gaps = np.diff(np.append(turned, turned[0] + 2 * math.pi))
    return float(gaps.min())
