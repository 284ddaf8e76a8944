"""Upper limits of noise that is not visible in the fine detail of a scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_geosr.core.noise import FLOOR
from napari_geosr.measure.noise.basis import FloatArray
from napari_geosr.measure.noise.sample import NoiseSample

#: Fraction of the blocks that count as quiet.
_QUIET = 0.05
#: Correlation of adjacent voxels above which the scan is considered smoothed.
SMOOTHED = 0.72
#: Standard deviation of quiet blocks, relative to the contrast, above which they may
#: contain noise that is as smooth as structure.
_MAX_QUIET_SPREAD = 0.025
#: The same limit relative to the measured noise level, which is low in smoothed scans.
_MAX_SPREAD_RATIO = 3.0
#: The same limit if all of the measured noise is smooth.
_MAX_SMOOTH_RATIO = 1.5
#: Maximum number of different grey values in a volume that counts as segmented.
_SEGMENTED = 4
#: Half a step between grey values, relative to their range, above which noise that is
#: lost in rounding matters. Noise of a sixth of a step changes one voxel in 400.
_MAX_HIDDEN = 3 * FLOOR
#: Maximum fraction of the voxels of a block that may differ from its median, and
#: minimum number of such blocks, for recognising noise that is lost in rounding.
_NEARLY_UNIFORM = 0.05
_MIN_ROUNDED_BLOCKS = 20
#: Minimum fraction of the differing voxels that have no differing neighbour: 0.45 to
#: 0.73 in rounded scans, 0.07 in a segmented volume.
_SINGLE_SHARE = 0.3


def smooth_noise(
    sample: NoiseSample,
    level: float,
    contrast: float,
    structured: bool,
    lags: Sequence[float],
) -> float:
    """Return how much of the quietest blocks' variation may be noise; 0 if negligible.

    Noise that is as smooth as structure has no fine detail by which it could be
    recognised. Without such noise, quiet blocks hardly vary. If `structured`, blocks
    without any variation are ignored, because some regions may be free of noise.

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
    else:  # the measured noise has fine detail
        return 0.0
    return spread if spread > limit else 0.0


def variation_limit(sample: NoiseSample) -> float:
    """Return the upper limit of the noise in a sample in which it cannot be measured.

    Blocks without any variation at several grey values show that there is no noise, as
    in a segmented volume, or that noise is lost in rounding. The latter is assumed if
    single voxels in other blocks differ from all of their neighbours, or if the steps
    between grey values are large.
    """
    spread = sample.blocks.std((1, 2, 3))
    is_flat = spread == 0
    phases = np.unique(sample.greys[is_flat])
    varying = sample.blocks[~is_flat]
    if not len(varying):
        return 0.0
    if sample.levels > _SEGMENTED and _has_single_voxels(varying):
        return sample.step / 2
    if len(phases) <= 1:
        return float(np.median(spread[~is_flat]))
    hidden = sample.step / 2 if sample.levels > _SEGMENTED else 0.0
    return hidden if hidden > _MAX_HIDDEN * float(np.ptp(sample.values)) else 0.0


def _has_single_voxels(blocks: FloatArray) -> bool:
    """Whether nearly uniform blocks deviate from their median mostly in single voxels.

    At the surface of a phase, adjacent voxels deviate.
    """
    middle = np.median(blocks, (1, 2, 3), keepdims=True)
    differs = blocks != middle
    differs = differs[differs.mean((1, 2, 3)) < _NEARLY_UNIFORM]
    if len(differs) < _MIN_ROUNDED_BLOCKS:
        return False
    has_neighbour = np.zeros_like(differs)
    for axis in (1, 2, 3):
        ahead = np.moveaxis(differs, axis, 1)
        beside = np.moveaxis(has_neighbour, axis, 1)
        beside[:, 1:] |= ahead[:, :-1]
        beside[:, :-1] |= ahead[:, 1:]
    single = np.count_nonzero(differs & ~has_neighbour)
    return bool(single > _SINGLE_SHARE * np.count_nonzero(differs))
