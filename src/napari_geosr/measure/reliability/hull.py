"""Compares a sample mask with the convex hulls of its slices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Ends = npt.NDArray[np.float64]

#: Size of a connected component, relative to the largest one in its slice, below which
#: it is ignored as a speck.
_SPECK_SHARE = 0.01
#: Tolerance for rounding errors at the edges of the hull, in pixels.
_ROUNDING = 1e-6


def hull_area(mask: Mask) -> int:
    """Count the pixels with centres inside the convex hull around a mask.

    Parameters
    ----------
    mask : ndarray of shape (Y, X), bool
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return 0
    filled = mask[rows]
    left = filled.argmax(axis=1).astype(np.float64)
    right = mask.shape[1] - 1.0 - filled[:, ::-1].argmax(axis=1)
    every = np.arange(rows[0], rows[-1] + 1)
    low = np.interp(every, *_lower_chain(rows.astype(np.float64), left))
    high = -np.interp(every, *_lower_chain(rows.astype(np.float64), -right))
    columns = np.floor(high + _ROUNDING) - np.ceil(low - _ROUNDING) + 1
    return int(np.maximum(columns, 0).sum())


def _lower_chain(x: Ends, y: Ends) -> tuple[Ends, Ends]:
    """Return the corners of the lower half of the hull around points sorted by x."""
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) > 1:
            a, b = kept[-2:]
            if (x[b] - x[a]) * (y[i] - y[a]) > (y[b] - y[a]) * (x[i] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return x[kept], y[kept]


def hull_share_outside(
    sample: Mask,
    solid: Callable[[int], Mask],
    *,
    max_slices: int = 32,
) -> float:
    """Return the fraction of the slice-wise convex hulls not in a sample mask, 0 … 1.

    Each hull encloses the mask in the slice and all bodies of solid except specks. The
    fraction is 0 for a mask that is convex in each slice and contains the solid; a mask
    that follows the walls of large pores open to the surface excludes these pores.

    Parameters
    ----------
    sample : ndarray of shape (Z, Y, X), bool
        Sample mask.
    solid : callable
        Returns the solid of a slice, of shape (Y, X), bool.
    max_slices : int
        Maximum number of evenly spaced slices to examine.
    """
    n = sample.shape[0]
    covered = hulls = 0
    for z in np.unique(np.linspace(0, n - 1, min(n, max_slices)).round().astype(int)):
        inside = sample[z]
        covered += int(np.count_nonzero(inside))
        hulls += hull_area(inside | without_specks(solid(int(z))))
    return 0.0 if not hulls else max(0.0, 1 - covered / hulls)


def without_specks(solid: Mask) -> Mask:
    """Remove from a slice the bodies that are much smaller than the largest one."""
    from scipy import ndimage

    labels, n = ndimage.label(solid)
    if not n:
        return solid
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large: Mask = (sizes >= _SPECK_SHARE * sizes.max())[labels]
    return large & solid
