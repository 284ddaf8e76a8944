"""Masks voxels of a patch, so that none is predicted from itself.

What stands in for a hidden voxel never comes from any hidden voxel: two that lie near
each other would otherwise show each other's values, and a network could learn to put
them back.
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
Places = npt.NDArray[np.intp]

#: Voxels on either side from which values stand in: in planes, and in volumes.
_RADIUS = {2: 5, 3: 2}
#: Draws that may fail before the neighbourhood is widened.
_TRIES = 20
#: Draws before one of all voxels that can be seen stands in.
_MOST_TRIES = 200


@dataclass(frozen=True)
class BlindSpots:
    """How voxels are chosen and hidden.

    Attributes
    ----------
    ndim : int
        Axes that the network convolves over; 2 for slices with neighbours as well.
    share : float
        Of the voxels that are predicted, 0 … 1.
    replacement : {"uniform", "median"}
        One of the neighbours, or their median; never the voxel itself.
    offsets : sequence of (z, y, x)
        Neighbours that are hidden together with each, for noise along a line.
    """

    ndim: int
    share: float
    replacement: Literal["uniform", "median"]
    offsets: Sequence[tuple[int, int, int]] = ()

    @property
    def cell(self) -> int:
        """Edge of the cells that have one predicted voxel each."""
        edge: float = (1 / self.share) ** (1 / self.ndim)
        return max(1, round(edge))

    def hide(
        self, patch: Array, rng: np.random.Generator, slices: Array | None = None
    ) -> tuple[Array, Array]:
        """Hide voxels of a patch.

        Parameters
        ----------
        patch : ndarray of shape (Z, Y, X)
            Of a network on planes, all its slices; voxels of the middle one are chosen.
        slices : ndarray of int, shape (Z,), optional
            Which slice of the volume each is. Where one is there more than once, as
            near the ends of a volume, it is hidden alike in every place: another copy
            would show what was hidden.

        Returns
        -------
        hidden : ndarray of shape (Z, Y, X)
            A copy with other values in hidden voxels.
        chosen : ndarray of bool, the shape of what the network predicts
            The voxels to be predicted: (Z, Y, X), or (1, Y, X).
        """
        middle = patch.shape[0] // 2
        if slices is not None:
            # Their order stays that of neighbours, whichever way they were turned.
            _, first, copies = np.unique(slices, return_index=True, return_inverse=True)
            hidden, chosen = self._hide(patch[first], int(copies[middle]), rng)
            return hidden[copies], chosen
        return self._hide(patch, middle, rng)

    def _hide(
        self, patch: Array, middle: int, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        shape = patch.shape if self.ndim == 3 else (1, *patch.shape[1:])
        places = _one_per_cell(shape, self.cell, self.ndim, rng)
        chosen = np.zeros(shape, bool)
        chosen[tuple(places.T)] = True
        if self.ndim == 2:
            places[:, 0] += middle
        blind = np.zeros(patch.shape, bool)
        for offset in ((0, 0, 0), *self.offsets):
            near = places + np.array(offset)
            near = near[((near >= 0) & (near < patch.shape)).all(1)]
            blind[tuple(near.T)] = True
        # What stands in comes from the same slice, or anywhere in a volume.
        if blind.all(axis=(1, 2) if self.ndim == 2 else None).any():
            raise ConfigError(
                "The mask hides whole patches: choose a smaller mask length, fewer "
                "masked voxels or a larger patch."
            )
        hidden = patch.copy()
        every = np.argwhere(blind)
        fill = _median if self.replacement == "median" else _one_of
        radius = _RADIUS[self.ndim]
        reach = np.array((radius if self.ndim == 3 else 0, radius, radius))
        hidden[blind] = fill(patch, blind, every, reach, rng)
        return hidden, chosen


def line_offsets(
    axis: Literal["none", "x", "y", "z", "cross"], length: int, ndim: int
) -> tuple[tuple[int, int, int], ...]:
    """Neighbours along a line of `length` voxels (odd), centred on the voxel.

    ``cross`` is lines along all axes that the network convolves over.

    Parameters
    ----------
    axis : {"none", "x", "y", "z", "cross"}
    length : int
        Odd, in voxels.
    ndim : int
        Axes that the network convolves over: 2 or 3.

    Returns
    -------
    tuple of (int, int, int)
        Along Z, Y and X.
    """
    across = {"none": (), "cross": (0, 1, 2)[-ndim:]}.get(axis)
    axes = ("zyx".index(axis),) if across is None else across
    steps = [s for s in range(-(length // 2), length // 2 + 1) if s]
    return tuple(
        (s * (a == 0), s * (a == 1), s * (a == 2)) for a in axes for s in steps
    )


def _one_per_cell(
    shape: tuple[int, ...], cell: int, ndim: int, rng: np.random.Generator
) -> Places:
    """Coordinates of one voxel in each cell; cells over the border may have none."""
    edges = np.array((1,) * (3 - ndim) + (cell,) * ndim)
    counts = -(-np.array(shape) // edges)
    corners = np.indices(counts).reshape(3, -1).T * edges
    places = corners + rng.integers(0, edges, corners.shape)
    inside: Places = places[(places < shape).all(1)]
    if not len(inside):  # patches smaller than a cell
        inside = rng.integers(0, shape, (1, 3))
    return inside


def _one_of(
    patch: Array, blind: Array, every: Places, reach: Places, rng: np.random.Generator
) -> Array:
    """For each position, the value of a neighbour that is not hidden."""
    values = np.empty(len(every), patch.dtype)
    left = np.arange(len(every))
    for tries in range(1, _MOST_TRIES + 1):
        if not left.size:
            return values
        wide = reach * (1 + tries // _TRIES)
        found = every[left] + rng.integers(-wide, wide + 1, (left.size, 3))
        inside = ((found >= 0) & (found < patch.shape)).all(1)
        found[~inside] = every[left][~inside]  # hidden, so it does not count
        index = tuple(found.T)
        seen = ~blind[index]
        values[left[seen]] = patch[index][seen]
        left = left[~seen]
    # Hardly any is left to see: one of them, however far.
    for z in np.unique(every[left, 0]):
        here = left[every[left, 0] == z]
        left_to_see = patch[z][~blind[z]] if reach[0] == 0 else patch[~blind]
        values[here] = rng.choice(left_to_see, here.size)
    return values


def _median(
    patch: Array, blind: Array, every: Places, reach: Places, rng: np.random.Generator
) -> Array:
    """For each position, the median of the neighbours that are not hidden."""
    wide = reach
    while True:
        seen = np.where(blind, np.nan, patch.astype(np.float64))
        padded = np.pad(seen, [(r, r) for r in wide], constant_values=np.nan)
        window = tuple(2 * r + 1 for r in wide)
        around = np.lib.stride_tricks.sliding_window_view(padded, window)
        values = np.sort(around[tuple(every.T)].reshape(len(every), -1), axis=1)
        n = np.isfinite(values).sum(1)  # NaN are sorted to the end
        if n.min() > 0:
            break
        wide = wide + np.sign(reach)
    rows = np.arange(len(every))
    result: Array = 0.5 * (values[rows, (n - 1) // 2] + values[rows, n // 2])
    return result.astype(patch.dtype)
