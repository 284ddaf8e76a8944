"""How many counts a detector gives for a photon, told by how its flat fields vary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_geosr.core.projections import Projections

Floats = npt.NDArray[np.float64]

#: Frames that tell a variance.
_FRAMES = 3
#: Pixels that a variance is averaged over; the median of such patches is taken, that
#: hot pixels do not matter.
_PATCH = 256
#: Of more values every second, third … detector row tells.
_VALUES = 2**23
#: Pixels with less than this part of the usual light are left out.
_LIT = 0.1
#: So near to 1, or within so many standard errors, a count is a photon.
_NEAR, _ERRORS = 0.05, 3.0


def counts_per_photon(projections: Projections) -> float | None:
    """Counts that one photon gives: variance over mean of the flat fields.

    The number of photons in a pixel has its mean as variance, and counts are the gain
    times that. What the whole beam flickers is taken out, and the variance of the dark
    fields.

    Returns
    -------
    float or None
        1 where counts may be photons; None where there are fewer than three flat
        fields, or they do not vary.
    """
    if projections.flats is None or projections.flats.shape[0] < _FRAMES:
        return None
    n_frames, n_rows = projections.flats.shape[:2]
    pixels = n_rows * projections.flats.shape[2]
    step = max(1, -(-n_frames * pixels // _VALUES))
    flats, noise = _flat(projections.flats[:, ::step]), 0.0
    if projections.darks is not None:
        darks = _flat(projections.darks[:, ::step])
        flats -= darks.mean(axis=0)
        if len(darks) >= _FRAMES:
            noise = float(np.median(_patches(darks.var(axis=0, ddof=1))))
    mean = flats.mean(axis=0)
    lit = mean > _LIT * np.median(mean)
    if not lit.any():
        return None
    flats, mean = flats[:, lit], mean[lit]
    flicker = flats.mean(axis=1) / mean.mean()
    if not (flicker > 0).all():
        return None
    variance = (flats / flicker[:, None]).var(axis=0, ddof=1)
    ratios = (_patches(variance) - noise) / _patches(mean)
    found = float(np.median(ratios))
    if not np.isfinite(found) or found <= 0:
        return None
    error = np.sqrt(2 / ((n_frames - 1) * mean.size))
    return 1.0 if abs(found - 1) <= max(_NEAR, _ERRORS * error) else found


def _flat(frames: object) -> Floats:
    values: Floats = np.asarray(frames, np.float64)
    return values.reshape(len(values), -1)


def _patches(values: Floats) -> Floats:
    """Means of patches of pixels."""
    edges = np.arange(0, max(len(values) - _PATCH, 0) + 1, _PATCH)
    sizes = np.diff(edges, append=len(values))
    found: Floats = np.add.reduceat(values, edges) / sizes
    return found
