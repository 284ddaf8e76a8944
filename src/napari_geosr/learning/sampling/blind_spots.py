"""Mask voxels of a patch, so that no voxel is predicted from itself.

The replacement of a hidden voxel is never the value of another hidden voxel: otherwise
hidden voxels close to each other would reveal each other's values, and a network could
learn to copy them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyArray

Array = AnyArray
Points = npt.NDArray[np.intp]

#: Radius, in voxels, of the neighbourhood from which replacement values are taken, by
#: number of dimensions.
_RADIUS = {2: 5, 3: 2}
#: Number of failed draws after which the neighbourhood is enlarged.
_TRIES_PER_RADIUS = 20
#: Number of failed draws after which any visible voxel may be the replacement.
_MAX_TRIES = 200


@dataclass(frozen=True)
class BlindSpots:
    """Rules for choosing and hiding voxels.

    Attributes
    ----------
    ndim : int
        Number of axes over which the network convolves; 2 for adjacent slices as well.
    share : float
        Fraction of the voxels that are predicted, 0 … 1.
    replacement : {"uniform", "median"}
        A random neighbour, or the median of the neighbours; never the voxel itself.
    offsets : sequence of (z, y, x)
        Offsets of neighbours that are hidden as well, for noise along a line.
    """

    ndim: int
    share: float
    replacement: Literal["uniform", "median"]
    offsets: Sequence[tuple[int, int, int]] = ()

    @property
    def cell(self) -> int:
        """Edge length of the cells, in voxels; each has one predicted voxel."""
        edge: float = (1 / self.share) ** (1 / self.ndim)
        return max(1, round(edge))

    def hide(
        self, patch: Array, rng: np.random.Generator, slices: Array | None = None
    ) -> tuple[Array, Array]:
        """Hide voxels of a patch.

        Parameters
        ----------
        patch : ndarray of shape (Z, Y, X)
            For a 2D network, all adjacent slices; voxels of the middle one are chosen.
        slices : ndarray of int, shape (Z,), optional
            Index of each slice in the volume. Slices that are repeated near the ends of
            a volume have the same hidden voxels in all copies: otherwise, one copy
            would reveal the voxels hidden in another.

        Returns
        -------
        hidden : ndarray of shape (Z, Y, X)
            A copy in which hidden voxels have replacement values.
        chosen : ndarray of bool, the shape of the network's output
            The voxels to be predicted: (Z, Y, X), or (1, Y, X).
        """
        middle = patch.shape[0] // 2
        if slices is not None:
            # Hide voxels once per distinct slice. Sorting keeps neighbours adjacent.
            _, first, copies = np.unique(slices, return_index=True, return_inverse=True)
            hidden, chosen = self._hide(patch[first], int(copies[middle]), rng)
            return hidden[copies], chosen
        return self._hide(patch, middle, rng)

    def _hide(
        self, patch: Array, middle: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        shape = patch.shape if self.ndim == 3 else (1, *patch.shape[1:])
        points = _one_per_cell(shape, self.cell, self.ndim, rng)
        chosen = np.zeros(shape, bool)
        chosen[tuple(points.T)] = True
        if self.ndim == 2:
            points[:, 0] += middle
        blind = np.zeros(patch.shape, bool)
        for offset in ((0, 0, 0), *self.offsets):
            near = points + np.array(offset)
            near = near[((near >= 0) & (near < patch.shape)).all(1)]
            blind[tuple(near.T)] = True
        # Replacements come from the same slice (2D) or from the whole patch (3D).
        if blind.all(axis=(1, 2) if self.ndim == 2 else None).any():
            raise ConfigError(
                "The mask hides whole patches: choose a smaller mask length, fewer "
                "masked voxels or a larger patch."
            )
        hidden = patch.copy()
        positions = np.argwhere(blind)
        fill = _median_visible if self.replacement == "median" else _random_visible
        radius = _RADIUS[self.ndim]
        reach = np.array((radius if self.ndim == 3 else 0, radius, radius))
        hidden[blind] = fill(patch, blind, positions, reach, rng)
        return hidden, chosen


def line_offsets(
    axis: Literal["none", "x", "y", "z", "cross"], length: int, ndim: int
) -> tuple[tuple[int, int, int], ...]:
    """Return the offsets of a voxel's neighbours on a line of `length` voxels (odd).

    ``cross`` means lines along all axes over which the network convolves.

    Parameters
    ----------
    axis : {"none", "x", "y", "z", "cross"}
    length : int
        Length of the line in voxels, an odd number.
    ndim : int
        Number of axes over which the network convolves: 2 or 3.

    Returns
    -------
    tuple of (int, int, int)
        Offsets along Z, Y and X.
    """
    across = {"none": (), "cross": (0, 1, 2)[-ndim:]}.get(axis)
    axes = ("zyx".index(axis),) if across is None else across
    steps = [s for s in range(-(length // 2), length // 2 + 1) if s]
    return tuple(
        (s * (a == 0), s * (a == 1), s * (a == 2)) for a in axes for s in steps
    )


def _one_per_cell(
    shape: tuple[int, ...], cell: int, ndim: int, rng: np.random.Generator
) -> Points:
    """Draw one voxel per cell; cells cut by the border may have none."""
    edges = np.array((1,) * (3 - ndim) + (cell,) * ndim)
    counts = -(-np.array(shape) // edges)
    corners = np.indices(counts).reshape(3, -1).T * edges
    points = corners + rng.integers(0, edges, corners.shape)
    inside: Points = points[(points < shape).all(1)]
    if not len(inside):  # the patch is smaller than a cell
        inside = rng.integers(0, shape, (1, 3))
    return inside


def _random_visible(
    patch: Array,
    blind: Array,
    positions: Points,
    reach: Points,
    rng: np.random.Generator,
) -> Array:
    """Return, for each position, the value of a random neighbour that is not hidden."""
    values = np.empty(len(positions), patch.dtype)
    remaining = np.arange(len(positions))
    for tries in range(1, _MAX_TRIES + 1):
        if not remaining.size:
            return values
        radius = reach * (1 + tries // _TRIES_PER_RADIUS)
        drawn = positions[remaining] + rng.integers(
            -radius, radius + 1, (remaining.size, 3)
        )
        inside = ((drawn >= 0) & (drawn < patch.shape)).all(1)
        drawn[~inside] = positions[remaining][
            ~inside
        ]  # a hidden voxel, so this counts as a failed draw
        index = tuple(drawn.T)
        visible = ~blind[index]
        values[remaining[visible]] = patch[index][visible]
        remaining = remaining[~visible]
    # Hardly any voxels are visible: take a random visible one, however far away.
    for z in np.unique(positions[remaining, 0]):
        here = remaining[positions[remaining, 0] == z]
        candidates = patch[z][~blind[z]] if reach[0] == 0 else patch[~blind]
        values[here] = rng.choice(candidates, here.size)
    return values


def _median_visible(
    patch: Array,
    blind: Array,
    positions: Points,
    reach: Points,
    rng: np.random.Generator,
) -> Array:
    """Return, for each position, the median of the neighbours that are not hidden."""
    radius = reach
    while True:
        visible = np.where(blind, np.nan, patch.astype(np.float64))
        padded = np.pad(visible, [(r, r) for r in radius], constant_values=np.nan)
        window = tuple(2 * r + 1 for r in radius)
        around = np.lib.stride_tricks.sliding_window_view(padded, window)
        values = np.sort(around[tuple(positions.T)].reshape(len(positions), -1), axis=1)
        n = np.isfinite(values).sum(1)  # NaN is sorted to the end
        if n.min() > 0:
            break
        radius = radius + np.sign(reach)
    rows = np.arange(len(positions))
    result: Array = 0.5 * (values[rows, (n - 1) // 2] + values[rows, n // 2])
    return result.astype(patch.dtype)
