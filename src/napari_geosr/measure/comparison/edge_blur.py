"""Estimates the blur of a scan from the edges between two phases.

The slope of a sharp edge between two grey values, blurred by a Gaussian, depends on the
grey value and on the width of the Gaussian. The scan is smoothed by a known Gaussian
first, so that noise matters less; the variance of this Gaussian is then subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.types import AnyArray

#: Full width at half maximum of a Gaussian, in standard deviations.
FWHM = 2 * math.sqrt(2 * math.log(2))
#: Variance of the blur due to averaging over one voxel, in squared voxel edges.
VOXEL_VARIANCE = 1 / 12
#: Standard deviation, in voxels, of the smoothing before edges are measured.
_SMOOTHING = 1.0
#: Minimum distance from edges, in voxels, of voxels used for a phase's grey value.
_DEPTH = 4
#: Minimum number of voxels in each phase that are at least `_DEPTH` from any edge, and
#: minimum number of edges normal to an axis.
_MIN_DEEP = 64
_MIN_EDGES = 64
#: Maximum sum of the squared components of an edge's unit normal along axes with an
#: unknown blur.
_MAX_UNKNOWN = 0.05
#: Maximum difference between the grey value at an edge and the midpoint between the two
#: phases, as a fraction of the contrast.
_MIDDLE = 0.35
#: Maximum standard deviation within a smoothed phase, as a fraction of the contrast.
_MAX_VARIATION = 0.15


@dataclass(frozen=True)
class ScanBlur:
    """Width of a scan's point-spread function.

    Attributes
    ----------
    width : tuple of (float or None)
        Full width at half maximum along Z, Y and X, in the unit of the voxel size,
        including the blur by the voxel itself; None where it is not known.
    reason : str
        Reason why no width is known; empty if a width is known.
    """

    width: tuple[float | None, float | None, float | None]
    reason: str = ""

    @classmethod
    def unknown(cls, reason: str) -> ScanBlur:
        """Return a result without a width along any axis."""
        return cls((None, None, None), reason=reason)


def edge_blur(
    blocks: Sequence[AnyArray], voxel_size: tuple[float, float, float]
) -> ScanBlur:
    """Estimate the width of the point-spread function.

    The estimate is an upper limit if the edges of the object are not sharp.

    Parameters
    ----------
    blocks : sequence of ndarray of shape (Z, Y, X)
        Parts of the scan with structure.
    voxel_size : tuple of float
        Along Z, Y and X.
    """
    parts = [_EdgeBlock(block) for block in blocks if min(block.shape[1:]) > 2 * _DEPTH]
    if not parts:
        return ScanBlur.unknown("the scan is too small or has no structure")
    threshold = _threshold(np.concatenate([part.smooth.ravel() for part in parts]))
    if threshold is None:
        return ScanBlur.unknown("the scan has no structure")
    deep: list[list[AnyArray]] = [[], []]
    for part in parts:
        part.split(threshold)
        for phase in (0, 1):
            deep[phase].append(part.smooth[part.depth[phase] >= _DEPTH])
    dark, bright = (np.concatenate(values) for values in deep)
    if min(len(dark), len(bright)) < _MIN_DEEP:
        return ScanBlur.unknown(
            f"it has too few regions more than {2 * _DEPTH} voxels wide in each phase"
        )
    low, high = float(np.median(dark)), float(np.median(bright))
    contrast = high - low
    variation = max(float(dark.std()), float(bright.std()))
    if not contrast > 0 or variation > _MAX_VARIATION * contrast:
        return ScanBlur.unknown(
            "its two phases are not clearly different in grey value, or the noise is "
            "too strong"
        )
    edges = [part.edges(axis, (low, high)) for part in parts for axis in range(3)]
    sigmas = np.concatenate([sigma for sigma, _ in edges])
    normals = np.concatenate([normal for _, normal in edges])
    return _fitted(sigmas, normals, voxel_size)


def _threshold(values: AnyArray) -> float | None:
    from skimage.filters import threshold_otsu

    if not values.max() > values.min():
        return None
    return float(threshold_otsu(values))


def _fitted(
    sigmas: AnyArray, normals: AnyArray, voxel_size: tuple[float, float, float]
) -> ScanBlur:
    """Return the widths along the axes, from edges in all directions.

    Parameters
    ----------
    sigmas : ndarray of shape (n,)
        Standard deviations across smoothed edges, in voxels.
    normals : ndarray of shape (n, 3)
        Unit vectors across the edges, in voxels.
    """
    from scipy.optimize import least_squares

    squares = normals**2
    known = squares.sum(axis=0) >= _MIN_EDGES
    if not known.any():
        return ScanBlur.unknown("it has too few isolated edges")
    # Leave out edges that are also blurred along an axis with an unknown blur.
    used = squares[:, ~known].sum(axis=1) < _MAX_UNKNOWN
    logs, parts = np.log(sigmas[used]), squares[used][:, known]

    def residuals(variances: AnyArray) -> AnyArray:
        fitted: AnyArray = 0.5 * np.log(parts @ np.exp(variances)) - logs
        return fitted

    start = np.full(int(known.sum()), 2 * float(np.median(logs)))
    fit = least_squares(residuals, start, loss="soft_l1", f_scale=0.1)
    found = iter(np.maximum(np.exp(fit.x) - _SMOOTHING**2, VOXEL_VARIANCE))
    z, y, x = (
        FWHM * math.sqrt(next(found)) * voxel if is_known else None
        for is_known, voxel in zip(known, voxel_size, strict=True)
    )
    return ScanBlur((z, y, x))


class _EdgeBlock:
    """A smoothed part of a scan, with its gradient."""

    def __init__(self, values: AnyArray) -> None:
        from scipy import ndimage

        wide = np.asarray(values, np.float64)
        # Neither smooth nor differentiate along Z if there is a single plane.
        sigma = [0.0 if n == 1 else _SMOOTHING for n in wide.shape]
        self.smooth = ndimage.gaussian_filter(wide, sigma, mode="nearest")
        self.gradient = [
            np.zeros_like(wide)
            if n == 1
            else ndimage.gaussian_filter(
                wide,
                sigma,
                order=[int(a == axis) for a in range(3)],
                mode="nearest",
            )
            for axis, n in enumerate(wide.shape)
        ]
        self.depth: tuple[AnyArray, AnyArray] = (self.smooth, self.smooth)

    def split(self, threshold: float) -> None:
        """Compute the depth of each voxel inside its phase, in voxels."""
        from scipy import ndimage

        dark = self.smooth <= threshold
        if dark.all() or not dark.any():
            # If this part contains no edge, every voxel is far from an edge.
            self.depth = np.where(dark, np.inf, 0.0), np.where(dark, 0.0, np.inf)
            return
        self.depth = (
            ndimage.distance_transform_edt(dark),
            ndimage.distance_transform_edt(~dark),
        )

    def edges(
        self, axis: int, levels: tuple[float, float]
    ) -> tuple[AnyArray, AnyArray]:
        """Return standard deviations of the blur, and normals, at isolated edges.

        Only edges with normals closer to `axis` than to any other axis are used. The
        grey value and the slope at a voxel of a blurred edge determine the width of the
        blur, wherever the voxel lies: no interpolation is needed.
        """
        from scipy.special import ndtri

        n = self.smooth.shape[axis]
        if n < 2 * _DEPTH + 2:
            return np.empty(0), np.empty((0, 3))

        def along(values: AnyArray, shift: int) -> AnyArray:
            """Return the values `shift` voxels after the first voxel of each edge."""
            first = _DEPTH + shift
            part: AnyArray = np.take(
                values, np.arange(first, first + n - 2 * _DEPTH - 1), axis
            )
            return part

        middle = sum(levels) / 2
        before, after = (along(self.smooth, s) - middle for s in (0, 1))
        far = [[along(d, s) for s in (-_DEPTH, 1 + _DEPTH)] for d in self.depth]
        least = _DEPTH - 1
        isolated = ((far[0][0] >= least) & (far[1][1] >= least)) | (
            (far[1][0] >= least) & (far[0][1] >= least)
        )
        edges = (before * after < 0) & isolated
        sigmas, normals = [], []
        for shift, values in enumerate((before, after)):
            slopes = np.stack([along(g, shift)[edges] for g in self.gradient], axis=1)
            steepest = np.linalg.norm(slopes, axis=1)
            height = 0.5 + values[edges] / (levels[1] - levels[0])
            used = (np.abs(height - 0.5) < _MIDDLE) & (steepest > 0)
            used &= np.abs(slopes[:, axis]) >= np.abs(slopes).max(axis=1)
            density = np.exp(-0.5 * ndtri(height[used]) ** 2) / math.sqrt(2 * math.pi)
            sigmas.append(density * (levels[1] - levels[0]) / steepest[used])
            normals.append(slopes[used] / steepest[used, None])
        return np.concatenate(sigmas), np.concatenate(normals)
