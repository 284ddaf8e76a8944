"""Quantities behind the verdict's cautions, measured with known ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu

from napari_geosr.core.noise import Noise
from napari_geosr.measure.comparison.removed import SMOOTHING, smoothed_spread
from napari_geosr.operations.restore.verdict.run_verdict import DEFAULT_MIN_VOXELS

Array = npt.NDArray[np.float32]
#: Range of sizes of the small pores compared between scan and result, in voxels.
_SMALL = (15, 50)
#: Sizes in voxels up to which pores may be uncountable, as in the verdict.
_LIMITS = (19, 33, 81, 147)
#: Number of voxels to evaluate: those from which the restoration removed the most that
#: does not look like noise.
_PLACES = 10
#: Minimum depth of thin structures, relative to the contrast of the ground truth.
_MIN_DEPTH = 0.15
#: Minimum number of voxels of a thin structure.
_ELONGATED = 200
_NEIGHBOURS = np.ones((3, 3, 3))


def truth_of(
    clean: Array, scan: Array, result: Array, noise: Noise | None
) -> Mapping[str, Any]:
    """Compare a restoration with the ground truth.

    Returns
    -------
    mapping
        ``"counts"``: number of pores (bright objects in volumes that are mostly dark)
        of at least 8 and 27 voxels in ground truth, scan and result. ``"small"``:
        number of true pores of 15 to 50 voxels, of those shown by the scan, and of
        those also shown by the result. ``"found"``: number of true pores from 8 up to
        19, 33, 81 and 147 voxels, and of those shown by the result. ``"structure"``:
        mean error of result and scan, in standard deviations of smoothed noise, at the
        voxels where the smoothed difference between them is largest. ``"thin"``:
        contrast of thin dark and of thin bright structures in the result, relative to
        that in the ground truth; None if it shows none.
    """
    bright = bool(np.mean(clean <= threshold_otsu(clean)) > 0.5)
    masks = [
        (volume <= threshold_otsu(volume)) != bright for volume in (clean, scan, result)
    ]
    sizes = [_sizes(mask) for mask in masks]
    counts = {n: [int((each >= n).sum()) for each in sizes] for n in (8, 27)}
    return {
        "bright": bright,
        "counts": counts,
        "small": _small(*masks),
        "found": _found(masks[0], masks[2]),
        "structure": _structure(clean, scan, result, noise),
        "thin": [_thin(sign * clean, sign * result) for sign in (1, -1)],
    }


def _sizes(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    return np.bincount(ndimage.label(mask, _NEIGHBOURS)[0].ravel())[1:]


def _small(*masks: npt.NDArray[np.bool_]) -> list[int]:
    true, scan, result = masks
    labels, n = ndimage.label(true, _NEIGHBOURS)
    sizes = np.bincount(labels.ravel())[1:]
    in_scan, in_result = (
        ndimage.mean(mask.astype(float), labels, np.arange(1, n + 1)) >= 0.5
        for mask in (scan, result)
    )
    small = (sizes >= _SMALL[0]) & (sizes <= _SMALL[1])
    both = small & in_scan & in_result
    return [int(found.sum()) for found in (small, small & in_scan, both)]


def _found(
    true: npt.NDArray[np.bool_], result: npt.NDArray[np.bool_]
) -> dict[int, list[int]]:
    labels, n = ndimage.label(true, _NEIGHBOURS)
    sizes = np.bincount(labels.ravel())[1:]
    shown = ndimage.mean(result.astype(float), labels, np.arange(1, n + 1)) >= 0.5
    numbers = {}
    for limit in _LIMITS:
        small = (sizes >= DEFAULT_MIN_VOXELS) & (sizes <= limit)
        numbers[limit] = [int(small.sum()), int((small & shown).sum())]
    return numbers


def _structure(
    clean: Array, scan: Array, result: Array, noise: Noise | None
) -> list[float] | None:
    if noise is None or noise.level == 0:
        return None

    def smooth(values: Any) -> Any:
        return np.abs(ndimage.gaussian_filter(values.astype(np.float64), SMOOTHING))

    gradient = np.sqrt(sum(np.square(each) for each in np.gradient(result)))
    # An edge may move by half a voxel without a loss of structure.
    removed = smooth(scan - result) - 0.5 * smooth(gradient)
    places = np.argsort(removed, axis=None)[-_PLACES:]
    unit = noise.level * smoothed_spread(noise, 3)
    errors = (smooth(result - clean), smooth(scan - clean))
    return [float(error.ravel()[places].mean() / unit) for error in errors]


def _thin(clean: Array, result: Array) -> float | None:
    """Contrast of thin dark structures in the result, relative to the true contrast.

    These structures are what a closing with a ball of radius 2 removes from the ground
    truth, if they have at least `_ELONGATED` voxels; small pores are thus excluded. The
    contrast is the slope of a line through the grey values of result and truth in and
    near them.
    """
    ball = np.linalg.norm(np.indices((5, 5, 5)) - 2, axis=0) <= 2.3
    depth = ndimage.grey_closing(clean, footprint=ball) - clean
    thin = depth > _MIN_DEPTH * float(np.subtract(*np.percentile(clean, [98, 2])))
    labels, _ = ndimage.label(thin, _NEIGHBOURS)
    sizes = np.bincount(labels.ravel())
    large = sizes >= _ELONGATED
    large[0] = False
    thin = large[labels]
    if not thin.any():
        return None
    near = ndimage.binary_dilation(thin, iterations=2)
    true, shown = clean[near].astype(np.float64), result[near].astype(np.float64)
    return float(np.cov(true, shown)[0, 1] / np.var(true, ddof=1))
