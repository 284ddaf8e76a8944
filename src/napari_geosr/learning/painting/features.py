"""Compute features of the voxels of a slice with filters at several scales.

The features are grey values, Gaussian filters, gradients and eigenvalues of the Hessian
matrix, as in ilastik and Labkit [1]_, and means over nearby slices, because these means
contain less noise. Each feature depends only on nearby voxels, so that a slice can be
processed in bands of rows.

References
----------
.. [1] Berg et al. ilastik: interactive machine learning for (bio)image analysis. Nature
   Methods 16 (2019). doi:10.1038/s41592-019-0582-9
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from napari_geosr.core.types import AnyArray

#: Standard deviations of the Gaussian filters, in voxels.
SCALES = (1.0, 2.0, 4.0, 8.0)
#: Number of slices on either side that are averaged with a slice, and the weights of
#: all of these slices, relative to that of the slice itself.
SLICES = 2
WEIGHTS = tuple(math.exp(-(d**2) / 2) for d in range(-SLICES, SLICES + 1))
#: Standard deviations, in voxels, of the Gaussian filters applied to this mean; 0 means
#: no filter.
_SCALES_OF_MEAN = (0.0, 1.0, 2.0)
#: Features of a voxel: its grey value; the smoothed grey value, the gradient magnitude
#: and two eigenvalues at each scale; and means over slices.
N_FEATURES = 1 + 4 * len(SCALES) + len(_SCALES_OF_MEAN)
#: Radius, in voxels, of the neighbourhood that determines the features: four standard
#: deviations of the widest Gaussian filter, and one voxel for each of two differences.
_REACH = int(4 * SCALES[-1] + 0.5) + 2
#: Approximate number of voxels in a band of rows; bands are processed one at a time.
_BAND_VOXELS = 1 << 19


def filter_features(plane: AnyArray, around: AnyArray) -> AnyArray:
    """Return the features of all voxels of a slice.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
        Standardised grey values, float32.
    around : ndarray of shape (Y, X)
        Mean of these values and those of the slices nearby, float32; for an image, the
        image itself.

    Returns
    -------
    ndarray of shape (N_FEATURES, Y, X)
        float32; derivatives are multiplied by the scale (second ones by its square).
    """
    found = np.empty((N_FEATURES, *plane.shape), np.float32)
    found[0] = plane
    for i, scale in enumerate(SCALES):
        mean = _smoothed(plane, scale)
        dy, dx = _differences(mean, scale)
        (yy, yx), xx = _differences(dy, scale), _differences(dx, scale)[1]
        middle, half = (yy + xx) / 2, (yy - xx) / 2
        radius = np.sqrt(half**2 + yx**2)
        at = 1 + 4 * i
        found[at] = mean
        found[at + 1] = np.sqrt(dy**2 + dx**2)
        found[at + 2], found[at + 3] = middle + radius, middle - radius
    for i, scale in enumerate(_SCALES_OF_MEAN, N_FEATURES - len(_SCALES_OF_MEAN)):
        found[i] = _smoothed(around, scale) if scale else around
    return found


def _smoothed(values: AnyArray, scale: float) -> AnyArray:
    smooth: AnyArray = ndimage.gaussian_filter(
        values, scale, mode="nearest", truncate=4.0
    )
    return smooth


def _differences(values: AnyArray, scale: float) -> tuple[AnyArray, AnyArray]:
    """Return the central differences along Y and X, times the scale."""
    half = np.float32(scale / 2)
    wide = np.pad(values, 1, mode="edge")
    return (
        half * (wide[2:, 1:-1] - wide[:-2, 1:-1]),
        half * (wide[1:-1, 2:] - wide[1:-1, :-2]),
    )


def bands(shape: tuple[int, int]) -> list[slice]:
    """Return bands of rows of a slice, to be processed one at a time."""
    rows = max(1, _BAND_VOXELS // max(1, shape[1]))
    return [slice(y, min(y + rows, shape[0])) for y in range(0, shape[0], rows)]


def banded_features(
    plane: AnyArray, around: AnyArray
) -> Iterator[tuple[slice, AnyArray]]:
    """Yield the rows and features of each band, as computed for the whole slice.

    Parameters
    ----------
    plane, around : ndarray of shape (Y, X)
        As for `filter_features`.
    """
    for rows in bands((plane.shape[0], plane.shape[1])):
        low = max(0, rows.start - _REACH)
        wide = slice(low, rows.stop + _REACH)
        found = filter_features(plane[wide], around[wide])
        yield rows, found[:, rows.start - low : rows.stop - low]
