"""Contrast of the stripes in raw frames, relative to the noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_geosr.operations.sim.estimate import PatternEstimate

FloatArray = npt.NDArray[np.float32]

#: Maximum condition number of the equations for the modulation; if it is exceeded, the
#: phases count as unknown.
_MAX_CONDITION = 10


def modulation_contrast(block: FloatArray, estimate: PatternEstimate) -> FloatArray:
    """Return the local modulation of the frames relative to the noise.

    After the frames are equalised, the value of a pixel is the smoothed amplitude of
    the fundamental (maximum over all angles), divided by the amplitude of noise alone.
    If the phases are unknown, the standard deviation over the phases replaces the
    amplitude.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        Raw frames with the offset subtracted.
    estimate : PatternEstimate

    Returns
    -------
    ndarray of shape (Y, X), float32
    """
    from scipy import ndimage

    light = estimate.intensities
    scales = 1 / np.where(light > 0, light, 1)
    width = 0.5 / estimate.otf.cut_off
    largest = np.zeros(block.shape[-2:], np.float32)
    for angle, frames in enumerate(block):
        weights = _weights(angle, estimate, block.shape[1])
        scale = scales[angle]
        parts = np.tensordot((weights * scale).astype(np.float32), frames, axes=1)
        noise = float((np.square(weights) @ np.square(scale)).sum())
        noise *= max(estimate.noise.variance, 1e-20)
        level = np.square(parts).sum(axis=0) / noise
        smooth = ndimage.gaussian_filter(level, width, mode="nearest")
        largest = np.maximum(largest, smooth)
    return np.asarray(np.sqrt(largest), np.float32)


def _weights(angle: int, estimate: PatternEstimate, n: int) -> npt.NDArray[np.float64]:
    """Return weights that combine the frames of an angle into modulated parts."""
    fringes, fits = estimate.patterns.fringes, estimate.fits
    is_known = bool(fringes) and not (fits and fits[angle].problem)
    if is_known and n >= 3:
        phases = np.asarray(fringes[angle].phases)
        matrix = np.stack([np.ones(n), np.cos(phases), np.sin(phases)], 1)
        if np.linalg.cond(matrix) < _MAX_CONDITION:
            found: npt.NDArray[np.float64] = np.linalg.pinv(matrix)[1:]
            return found
    return np.eye(n) - 1 / n
