"""Blur of the imaging system."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def gaussian_blur(
    volume: npt.NDArray[np.float32], sigma: float | Sequence[float]
) -> npt.NDArray[np.float32]:
    """Blur a volume with a Gaussian point-spread function; uniform areas are unchanged.

    Parameters
    ----------
    volume : ndarray of shape (Z, Y, X)
        Any other number of axes is possible.
    sigma : float or sequence of float
        Standard deviation in voxels: one number for all axes, or one per axis.
    """
    from scipy import ndimage

    blurred: npt.NDArray[np.float32] = ndimage.gaussian_filter(
        np.asarray(volume, np.float32), sigma, mode="nearest", truncate=4.0
    )
    return blurred
