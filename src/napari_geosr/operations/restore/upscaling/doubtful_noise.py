"""Noise that may be fine structure, which super-resolution must not remove."""

from __future__ import annotations

import math
from dataclasses import replace

from napari_geosr.core.noise import Noise
from napari_geosr.measure.number_text import rough_percent

#: Noise level, as a fraction of the contrast, above which measured noise may be fine
#: structure: in a scan 32 voxels wide, texture was mistaken for noise.
_DOUBTFUL_LEVEL = 0.33
#: Noise correlation along every axis above which measured noise may be fine structure.
_DOUBTFUL_CORRELATION = 0.35

#: Correlation of adjacent voxels below which they count as independent along an axis.
_INDEPENDENT = 0.1


def undoubted_noise(noise: Noise) -> Noise:
    """Return the part of the measured noise that is certainly noise.

    If the measured noise may be fine structure (its interval includes 0, and it is
    correlated along every axis, as structure is), only the part that is independent
    between voxels is returned. Otherwise, all of the noise is returned. In real volumes
    averaged over blocks, with independent noise added, texture was mistaken for
    correlated noise, and the independent part was close to the noise that had been
    added.

    Examples
    --------
    >>> texture = Noise(0.2, 1.0, white=0.25, correlation={"x": 0.5}, interval=(0, 0.3))
    >>> found = undoubted_noise(texture)
    >>> found.level, found.correlation, found.interval
    (0.1, {'x': 0.0}, (0.0, 0.1))
    >>> sure = Noise(0.2, 1.0, correlation={"x": 0.5}, interval=(0.1, 0.3))
    >>> undoubted_noise(sure) is sure
    True
    """
    is_sure = noise.interval[0] > 0 or noise.interval[1] == 0
    if is_sure or min(noise.correlation.values(), default=0.0) < _INDEPENDENT:
        return noise
    share = math.sqrt(min(max(noise.white, 0.0), 1.0))
    independent = noise.scaled(share)
    return replace(
        independent,
        correlation=dict.fromkeys(noise.correlation, 0.0),
        white=1.0,
        cutoff=None,
        interval=(0.0, independent.level),
    )


def structure_doubt(noise: Noise) -> str:
    """Return a sentence if fine structure may have been mistaken for noise."""
    least = min(noise.correlation.values(), default=0)
    if noise.relative <= _DOUBTFUL_LEVEL or least <= _DOUBTFUL_CORRELATION:
        return ""
    return (
        f"The noise was measured as {rough_percent(noise.relative)} of the contrast "
        "and is correlated along every axis, so fine structure may have been mistaken "
        "for noise."
    )
