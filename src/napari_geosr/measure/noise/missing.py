"""Replaces scattered unknown voxels in blocks from which noise is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]

#: Fraction of unknown voxels in a block up to which they are replaced.
_MAX_FILLED = 1 / 3


def with_neighbours(blocks: Any, known: Bools) -> tuple[Any, Bools]:
    """Replace scattered unknown voxels with their nearest known neighbours.

    Unlike a mean of neighbours, a copied value is as noisy as any other voxel. Blocks
    with many unknown voxels, or with several adjacent ones, as at the edge of a field
    of view, are not changed.

    Parameters
    ----------
    blocks : ndarray, shape (n, z, y, x)
    known : ndarray of bool
        True for known voxels; same shape as `blocks`.

    Returns
    -------
    blocks, known : ndarray
        Copies if any block was changed.

    Examples
    --------
    >>> blocks = np.array([[[[1.0, 2.0, np.nan, 4.0, 4.0]]]])
    >>> with_neighbours(blocks, np.isfinite(blocks))[0].tolist()
    [[[[1.0, 2.0, 2.0, 4.0, 4.0]]]]
    """
    share = 1 - known.mean((1, 2, 3))
    filled = (share > 0) & (share <= _MAX_FILLED)
    filled &= ~_has_holes(~known)
    if not filled.any():
        return blocks, known
    from scipy.ndimage import distance_transform_edt

    # The distance between blocks is set so large that no voxel is copied from another
    # block.
    far = float(max(blocks.shape[1:])) * 4
    nearest = distance_transform_edt(
        ~known[filled],
        sampling=(far, 1, 1, 1),
        return_distances=False,
        return_indices=True,
    )
    blocks, known = blocks.copy(), known.copy()
    blocks[filled] = blocks[filled][tuple(nearest)]
    known[filled] = True
    return blocks, known


def _has_holes(missing: Bools) -> Bools:
    """Whether 2 × 2 × 2 adjacent voxels (2D: 2 × 2) of each block are unknown."""
    for axis in (1, 2, 3):
        n = missing.shape[axis]
        if n > 1:
            missing = missing.take(range(1, n), axis) & missing.take(range(n - 1), axis)
    return np.asarray(missing.any((1, 2, 3)))
