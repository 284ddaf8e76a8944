"""Grey value of the camera without light, from the darkest parts of raw frames."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

#: Percentile of the smoothed mean frame that is used as the grey value without light.
_DARK_PERCENTILE = 0.1
#: Difference between an area of constant grey value and the darkest other pixels,
#: relative to their noise, above which the area is empty: padding of registered or
#: cropped frames.
_CLEAR = 8.0
#: Pixels next to an empty area are brighter than it by at least this fraction of the
#: difference; those next to a dark background are hardly brighter than it.
_STEP = 0.1
#: Distance from an empty area up to which pixels may be interpolated, in pixels.
_MARGIN = 4


def dark_level(frames: FloatArray) -> float | None:
    """Return the grey value of the darkest parts of the frames of one plane.

    Areas in which all frames have one constant grey value do not count if it is clearly
    lower than all others; they are often padding.

    Parameters
    ----------
    frames : ndarray of shape (n, Y, X)
        Raw frames, including the camera offset.

    Returns
    -------
    float or None
        None if the frames are constant, or have NaN or infinite pixels.
    """
    from scipy import ndimage

    mean = frames.mean(axis=0)
    if not np.isfinite(mean).all() or not np.ptp(mean) > 0:
        return None
    smooth = ndimage.uniform_filter(mean, 3, mode="nearest")
    level = float(np.percentile(smooth, _DARK_PERCENTILE))
    spread = ndimage.maximum_filter(mean, 3) - ndimage.minimum_filter(mean, 3)
    seed = (spread == 0) & (mean <= level)
    if not seed.any():
        return level
    square = np.ones((3, 3))
    area = ndimage.binary_propagation(seed, square, mean <= level)
    used = ~ndimage.binary_dilation(area, square, iterations=_MARGIN)
    if not used.any():
        return level
    other = float(np.percentile(smooth[used], _DARK_PERCENTILE))
    dark = used & (smooth <= np.percentile(smooth[used], 1))
    noise = float(frames[:, dark].std(axis=0).mean())
    edge = ndimage.binary_dilation(area, square) & ~area
    is_step = np.median(mean[edge]) > level + _STEP * (other - level)
    return other if is_step and other - level > _CLEAR * noise else level
