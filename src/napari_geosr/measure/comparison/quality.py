"""Quality of a restored volume, compared with the ground truth.

Some metrics are intended for publications on porosity, others for tuning models. All
relative errors are signed: ``(found - true) / |true|``.

References
----------
.. [1] Wang et al. Image quality assessment: from error visibility to structural
   similarity. IEEE Trans. Image Process. 13, 600-612 (2004).
   doi:10.1109/TIP.2003.819861
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray

Mask = npt.NDArray[np.bool_]
Array = AnyArray


@dataclass(frozen=True)
class PoreQuality:
    """Agreement of the pores of a mask with the true pores.

    Attributes
    ----------
    porosity_error : float
        Relative error of the pore fraction.
    pores_per_mm3_error : float
        Relative error of the number per mm³ of pores above the minimum volume.
    volume_histogram_distance : float
        Wasserstein distance between the log10 pore volumes (1: one order of magnitude).
    euler_error : float
        Relative error of the Euler number.
    dice : float
        Dice overlap; 1 if the masks are equal.
    """

    porosity_error: float
    pores_per_mm3_error: float
    volume_histogram_distance: float
    euler_error: float
    dice: float


def psnr(image: Array, truth: Array, data_range: float) -> float:
    """Return the peak signal-to-noise ratio in dB.

    Parameters
    ----------
    image, truth : ndarray of the same shape
        Real numbers.
    data_range : float
        Range of the signal; for two phases, their contrast. Use the same range for all
        images that are compared.
    """
    _require_same_shape(image, truth)
    if not data_range > 0:
        raise VolumeError(f"The range must be greater than zero, not {data_range}.")
    difference = image.astype(np.float64) - truth
    mse = float((difference**2).mean())
    return math.inf if mse == 0 else 10 * math.log10(data_range**2 / mse)


def ssim(image: Array, truth: Array, data_range: float) -> float:
    """Return the structural similarity [1]_ with a Gaussian window of σ = 1.5.

    The window has as many axes as the image, so the value for a volume is not the mean
    over its planes.

    Parameters
    ----------
    image, truth : ndarray
        (Y, X) or (Z, Y, X), both of the same shape.
    data_range : float
        Range of the grey values.
    """
    _require_same_shape(image, truth)
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            truth.astype(np.float64),
            image.astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def dice(mask: Mask, truth: Mask) -> float:
    """Return the Dice coefficient of two masks of equal shape; 1 if both are empty."""
    _require_same_shape(mask, truth)
    total = int(mask.sum()) + int(truth.sum())
    return 1.0 if total == 0 else 2 * int((mask & truth).sum()) / total


def relative_error(found: float, true: float) -> float:
    """Return ``(found - true) / |true|``; infinite if only `true` is zero."""
    if true == 0:
        return 0.0 if found == 0 else math.copysign(math.inf, found)
    return (found - true) / abs(true)


def porosity_error(mask: Mask, truth: Mask) -> float:
    """Return the relative error of the pore fraction; voxel sizes may differ."""
    return relative_error(float(mask.mean()), float(truth.mean()))


def pore_volumes(
    mask: Mask,
    voxel_volume: float = 1.0,
    smallest: float = 8.0,
    connectivity: Literal[6, 26] = 26,
) -> npt.NDArray[np.float64]:
    """Return the volumes of connected pores, omitting those below `smallest`.

    Parameters
    ----------
    mask : ndarray of bool
        Shape (Z, Y, X) or (Y, X).
    voxel_volume, smallest : float
        In the same unit of volume, e.g. µm³: a *physical* minimum volume makes counts
        comparable between voxel sizes.
    connectivity : int
        6 or 26 (in images, 4 or 8).
    """
    import cc3d

    neighbours: Literal[4, 6, 8, 26] = connectivity
    if mask.ndim == 2:
        neighbours = 4 if connectivity == 6 else 8
    labels, n = cc3d.connected_components(
        np.ascontiguousarray(mask), connectivity=neighbours, return_N=True
    )
    counts = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    volumes = counts.astype(np.float64) * voxel_volume
    kept: npt.NDArray[np.float64] = volumes[volumes >= smallest * (1 - 1e-9)]
    return kept


def pores_per_mm3_error(
    volumes: npt.NDArray[np.float64],
    extent: float,
    true_volumes: npt.NDArray[np.float64],
    true_extent: float,
) -> float:
    """Return the relative error of the number of pores per volume of the sample.

    Parameters
    ----------
    volumes, true_volumes : ndarray of shape (n,)
        Volumes of the pores.
    extent, true_extent : float
        Volume of the sample, in mm³.
    """
    return relative_error(len(volumes) / extent, len(true_volumes) / true_extent)


def volume_histogram_distance(
    volumes: npt.NDArray[np.float64], true_volumes: npt.NDArray[np.float64]
) -> float:
    """Return the Wasserstein-1 distance between log10 volumes.

    Zero if neither has pores, infinite if only one has pores.
    """
    if len(volumes) == 0 or len(true_volumes) == 0:
        return 0.0 if len(volumes) == len(true_volumes) else math.inf
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(np.log10(volumes), np.log10(true_volumes)))


def euler_number(mask: Mask) -> int:
    """Return the Euler number; pores are connected across faces, edges and corners."""
    from skimage.measure import euler_number as skimage_euler_number

    return int(skimage_euler_number(mask, connectivity=mask.ndim))


def euler_error(
    mask: Mask, truth: Mask, extent: float = 1.0, true_extent: float = 1.0
) -> float:
    """Return the relative error of the Euler number per volume of the sample.

    Parameters
    ----------
    mask, truth : ndarray of bool
        Pore voxels.
    extent, true_extent : float
        Volume of the sample, in the same unit.
    """
    return relative_error(
        euler_number(mask) / extent, euler_number(truth) / true_extent
    )


def compare_pores(
    mask: Mask,
    truth: Mask,
    *,
    voxel_volume: float = 1.0,
    true_voxel_volume: float = 1.0,
    smallest: float = 8.0,
) -> PoreQuality:
    """Compare the pores of `mask` with those of `truth`.

    `mask` may be sampled more coarsely than `truth` over the same field of view (such
    as the mask of a low-resolution scan); its voxels are then repeated to compute the
    overlap.

    Parameters
    ----------
    mask, truth : ndarray of bool
        Shape (Z, Y, X).
    voxel_volume, true_voxel_volume, smallest : float
        In the same unit of volume.
    """
    volumes = pore_volumes(mask, voxel_volume, smallest)
    true_volumes = pore_volumes(truth, true_voxel_volume, smallest)
    extent, true_extent = mask.size * voxel_volume, truth.size * true_voxel_volume
    return PoreQuality(
        porosity_error=porosity_error(mask, truth),
        pores_per_mm3_error=pores_per_mm3_error(
            volumes, extent, true_volumes, true_extent
        ),
        volume_histogram_distance=volume_histogram_distance(volumes, true_volumes),
        euler_error=euler_error(mask, truth, extent, true_extent),
        dice=dice(_repeat_to(mask, truth.shape), truth),
    )


def _repeat_to(mask: Mask, shape: tuple[int, ...]) -> Mask:
    for axis, (n, target) in enumerate(zip(mask.shape, shape, strict=True)):
        if target % n:
            raise VolumeError(
                f"Masks of shapes {mask.shape} and {shape} do not cover the same "
                "field of view: along each axis, the length of the second must be a "
                "multiple of that of the first."
            )
        mask = mask.repeat(target // n, axis=axis)
    return mask


def _require_same_shape(image: Array, truth: Array) -> None:
    if image.shape != truth.shape:
        raise VolumeError(
            f"Images of shapes {image.shape} and {truth.shape} cannot be compared; "
            "resample one of them first."
        )
