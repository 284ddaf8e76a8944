"""Compare the patterns of two time points."""

from __future__ import annotations

import math

import numpy as np

from napari_geosr.core.sim_frames.fringes import PatternSet

#: Change of a phase between time points, in radians, above which patterns are
#: considered to drift.
MAX_DRIFT = math.radians(10)


def drift(before: PatternSet, after: PatternSet) -> float:
    """Return the largest phase change of a pattern in the field of view, in radians.

    The effect of a change of the wave vector is largest in the corners.
    """
    corner = np.asarray(before.shape) / 2
    largest = 0.0
    for one, other in zip(before.fringes, after.fringes, strict=True):
        k, new = np.asarray(one.wave_vector), np.asarray(other.wave_vector)
        sign = 1.0 if float(k @ new) >= 0 else -1.0
        shift = 2 * math.pi * float(np.abs(sign * new - k) @ corner)
        phases = sign * np.asarray(other.phases) - np.asarray(one.phases)
        turned = np.abs(np.angle(np.exp(1j * phases)))
        largest = max(largest, float(turned.max()) + shift)
    return min(largest, math.pi)
