"""Classical methods with settings tuned on a validation scan of the same kind.

The settings with the highest PSNR are chosen with the ground truth of the validation
scan, which a user does not have, so the comparison favours the baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import restoration

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Baseline:
    """A method with one setting; `noise` is the true standard deviation."""

    name: str
    settings: Sequence[float]
    run: Callable[[FloatArray, float, float], FloatArray]


def gaussian(volume: FloatArray, noise: float, sigma: float) -> FloatArray:
    """Gaussian filter of `sigma` voxels."""
    result: FloatArray = ndimage.gaussian_filter(volume, sigma, mode="nearest")
    return result


def total_variation(volume: FloatArray, noise: float, weight: float) -> FloatArray:
    """Chambolle's total variation in 3D; `weight` in units of the noise."""
    result: FloatArray = restoration.denoise_tv_chambolle(
        volume, weight=weight * noise, max_num_iter=100, eps=1e-4
    )
    return result


def non_local_means(volume: FloatArray, noise: float, h: float) -> FloatArray:
    """Non-local means in 3D, patches of 5³ in a window of 9³; `h` in units of noise."""
    result: FloatArray = restoration.denoise_nl_means(
        volume, patch_size=5, patch_distance=4, h=h * noise, sigma=noise, fast_mode=True
    )
    return result.astype(np.float32)


def enlarge(volume: FloatArray, factors: Sequence[int]) -> FloatArray:
    """Cubic splines with preserved outer edges; axes of factor 1 are unchanged."""
    if max(factors) == 1:
        return volume
    result: FloatArray = ndimage.zoom(
        volume, factors, order=3, mode="nearest", grid_mode=True
    )
    return result


DENOISERS = (
    Baseline("Gaussian", (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 2.5), gaussian),
    Baseline(
        "total variation (3D)",
        (0.25, 0.4, 0.6, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0, 4.0),
        total_variation,
    ),
    Baseline(
        "non-local means (3D)",
        (0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.1),
        non_local_means,
    ),
)
