"""How much the porosity depends on the threshold."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.histogram import GreyHistogram

#: The threshold is moved by this part of the distance between the phases' means.
SENSITIVITY = 0.05


def shifted_thresholds(
    histogram: GreyHistogram, threshold: float
) -> tuple[float, float]:
    """Threshold ∓ 5 % of the distance between the mean grey values of both phases.

    Where no grey values lie round the threshold, the middle of that gap is moved: any
    value in it gives the same pores.
    """
    low = histogram.centres <= threshold
    weights = histogram.counts
    if not weights[low].any() or not weights[~low].any():
        return threshold, threshold
    below = float(np.average(histogram.centres[low], weights=weights[low]))
    above = float(np.average(histogram.centres[~low], weights=weights[~low]))
    shift = SENSITIVITY * (above - below)
    filled = weights > 0
    last, following = (
        histogram.centres[low & filled][-1],
        histogram.centres[~low & filled][0],
    )
    # Integers have no values between neighbours: such a gap is always halved.
    gap = histogram.is_integer or following - last > histogram.width
    middle = (last + following) / 2 if gap else threshold
    return float(middle - shift), float(middle + shift)
