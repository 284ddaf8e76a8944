"""Upper limits of noise that the fine detail of a scan does not show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_geosr.core.noise import FLOOR
from napari_geosr.measure.noise.sample import NoiseSample

#: Fraction of the blocks that count as quiet.
_QUIET = 0.05
#: Correlation of adjacent voxels above which the scan is considered smoothed.
SMOOTHED = 0.72
#: Standard deviation of quiet blocks, relative to the contrast, above which they may
#: contain noise that is as smooth as structure.
_MAX_QUIET_SPREAD = 0.025
#: The same, relative to the measured noise: a smoothed scan has hardly any fine detail.
_MAX_SPREAD_RATIO = 3.0
#: The same if all of the measured noise is smooth.
_MAX_SMOOTH_RATIO = 1.5


def smooth_noise(
    sample: NoiseSample,
    level: float,
    contrast: float,
    structured: bool,
    lags: Sequence[float],
) -> float:
    """Variation of the quietest blocks that may be noise; 0 if it is negligible.

    Noise that is as smooth as structure has no fine detail that would show it. Where
    there is none, quiet blocks hardly vary. With structure everywhere, some regions may
    have no noise at all.

    Parameters
    ----------
    sample : NoiseSample
    level, contrast : float
        Measured noise level and contrast, in grey values of the sample.
    structured : bool
        Whether even the quietest blocks contain structure.
    lags : sequence of float
        Correlation of the measured noise of adjacent voxels along each axis.
    """
    if not contrast > 0:
        return 0.0
    deviations = sample.blocks.std((1, 2, 3))
    if structured and deviations.any():
        deviations = deviations[deviations > 0]
    spread = float(np.quantile(deviations, _QUIET))
    floor = FLOOR * contrast
    if structured:
        limit = floor
    elif level < floor:
        known = min(_MAX_SPREAD_RATIO * level, _MAX_QUIET_SPREAD * contrast)
        limit = max(floor, known)
    elif max(lags) > SMOOTHED:
        limit = _MAX_SMOOTH_RATIO * level
    else:  # some of the noise is fine
        return 0.0
    return spread if spread > limit else 0.0


def variation_limit(sample: NoiseSample) -> float:
    """Upper limit of the noise in a sample in which it cannot be measured.

    Blocks without any variation at several grey values show that there is none, as in a
    segmented volume.
    """
    spread = sample.blocks.std((1, 2, 3))
    is_flat = spread == 0
    phases = np.unique(sample.greys[is_flat])
    varying = spread[~is_flat]
    if len(phases) > 1 or not len(varying):
        return 0.0
    return float(np.median(varying))
