"""Single values that are no measurement: zingers, dead pixels, NaN."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

#: Noise that a row has at least, in units of the intensity without sample: below it,
#: noise-free data would be full of zingers.
_LEAST_NOISE = 1e-3


def fill(sinogram: FloatArray, bad: BoolArray) -> None:
    """Fill bad values in place, linearly between good columns of the same view.

    Views without any good value are left alone.

    Parameters
    ----------
    sinogram : ndarray of shape (row, angle, column)
    bad : ndarray of bool, shape (row, angle, column)
    """
    lines = bad.any(axis=2) & ~bad.all(axis=2)
    columns = np.arange(sinogram.shape[2])
    for row, angle in zip(*np.nonzero(lines), strict=True):
        line, wrong = sinogram[row, angle], bad[row, angle]
        line[wrong] = np.interp(columns[wrong], columns[~wrong], line[~wrong])


def remove_zingers(sinogram: FloatArray, threshold: float) -> int:
    """Replace flashes in the detector by the median around them, in place.

    A gamma ray or a cosmic ray that hits the sensor makes single pixels of single views
    far too bright, i.e. line integrals far too low. Counted photons vary by the square
    root of the intensity, exp(-p / 2), which the difference from the median of 3 × 3
    (angle, column) is weighted with.

    Parameters
    ----------
    sinogram : ndarray of shape (row, angle, column)
        Line integrals.
    threshold : float
        How many standard deviations of a row's noise too bright a zinger is.

    Returns
    -------
    int
        How many there were.
    """
    from scipy import ndimage

    median = ndimage.median_filter(sinogram, size=(1, 3, 3), mode="nearest")
    excess = (median - sinogram) * np.exp(-np.maximum(median, 0) / 2)
    middle = np.median(np.abs(excess), axis=(1, 2), keepdims=True)
    noise = np.maximum(1.4826 * middle, _LEAST_NOISE)
    found = excess > threshold * noise
    sinogram[found] = median[found]
    return int(found.sum())
