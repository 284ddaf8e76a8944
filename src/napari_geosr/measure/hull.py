"""Compares an envelope with the convex hulls of its slices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Ends = npt.NDArray[np.float64]

#: Bodies of a slice that are smaller than this part of its largest one are specks.
_SPECK = 0.01
#: What rounding may take from an edge between two pixels, in pixels.
_ROUNDING = 1e-6


def hull_area(mask: Mask) -> int:
    """Pixels whose centres lie in the convex hull around the pixels of a slice.

    Parameters
    ----------
    mask : ndarray of shape (Y, X), bool
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return 0
    some = mask[rows]
    left = some.argmax(axis=1).astype(np.float64)
    right = mask.shape[1] - 1.0 - some[:, ::-1].argmax(axis=1)
    every = np.arange(rows[0], rows[-1] + 1)
    low = np.interp(every, *_lower_chain(rows.astype(np.float64), left))
    high = -np.interp(every, *_lower_chain(rows.astype(np.float64), -right))
    columns = np.floor(high + _ROUNDING) - np.ceil(low - _ROUNDING) + 1
    return int(np.maximum(columns, 0).sum())


def _lower_chain(x: Ends, y: Ends) -> tuple[Ends, Ends]:
    """Corners of the lower convex hull around points that go along x."""
    kept: list[int] = []
    for i in range(len(x)):
        while len(kept) > 1:
            a, b = kept[-2:]
            if (x[b] - x[a]) * (y[i] - y[a]) > (y[b] - y[a]) * (x[i] - x[a]):
                break
            kept.pop()
        kept.append(i)
    return x[kept], y[kept]


def left_out_of_hull(
    envelope: Mask,
    solid: Callable[[int], Mask],
    *,
    most_slices: int = 32,
) -> float:
    """Share of the slice-wise convex hulls outside an envelope, 0 … 1.

    A slice's hull is that of its part of the envelope and of all bodies of solid
    but specks. An envelope that is convex in each slice leaves nothing out; one that
    follows the walls of large pores open to the surface leaves those out.

    Parameters
    ----------
    envelope : ndarray of shape (Z, Y, X), bool
    solid : callable
        Gives the solid of a slice, of shape (Y, X), bool.
    most_slices : int
        So many, evenly spread, are looked at.
    """
    n = envelope.shape[0]
    held = hulls = 0
    for z in np.unique(np.linspace(0, n - 1, min(n, most_slices)).round().astype(int)):
        inside = envelope[z]
        held += int(np.count_nonzero(inside))
        hulls += hull_area(inside | without_specks(solid(int(z))))
    return 0.0 if not hulls else max(0.0, 1 - held / hulls)


def without_specks(solid: Mask) -> Mask:
    """The bodies of a slice of a size similar to its largest one."""
    from scipy import ndimage

    labels, n = ndimage.label(solid)
    if not n:
        return solid
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    large: Mask = (sizes >= _SPECK * sizes.max())[labels]
    return large & solid
