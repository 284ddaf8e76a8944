"""Build kernel maps: which input voxel contributes to which output voxel.

Voxels have increasing int64 keys, so that a neighbour is found by binary search. Of the
26 neighbours, only the 13 with larger keys are searched; the others are their mirror
images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from napari_geosr.core.interruption import check_stop

if TYPE_CHECKING:
    from torch import Tensor

#: Number of samples, followed by the numbers of planes, rows and columns of their
#: boxes.
Grid = tuple[int, ...]
#: Offsets (plane, row, column) of a 3³ kernel; the centre is the 14th.
OFFSETS = tuple(itertools.product((-1, 0, 1), repeat=3))
CENTRE = 13
#: Positions of the eight children of a voxel.
CHILDREN = tuple(itertools.product((0, 1), repeat=3))
#: Positions of the 64 finer voxels that a 4³ kernel generates from a voxel: its
#: children and the voxels around them.
WIDE_CHILDREN = tuple(itertools.product((-1, 0, 1, 2), repeat=3))


@dataclass(frozen=True, eq=False)
class RowPairs:
    """A kernel map: pairs of an input and an output row for each weight of a kernel.

    Attributes
    ----------
    sources, targets : sequence of Tensor of int32
        Input and output rows, one tensor for each weight. No row occurs twice among
        the sources, or among the targets, of one weight.
    n_sources, n_targets : int
        Numbers of input and output rows.
    """

    sources: Sequence[Tensor]
    targets: Sequence[Tensor]
    n_sources: int
    n_targets: int

    def swapped(self) -> RowPairs:
        """Return the kernel map of the transposed convolution."""
        return RowPairs(self.targets, self.sources, self.n_targets, self.n_sources)


MapCache = dict[tuple[str, int], "Tensor | RowPairs"]


def keys_of(coords: Tensor, grid: Grid) -> Tensor:
    """Return one int64 number per voxel, increasing in lexicographic order."""
    n, z, y, x = coords.long().unbind(1)
    _, depth, rows, columns = grid
    return ((n * depth + z) * rows + y) * columns + x


def coords_of(keys: Tensor, grid: Grid) -> Tensor:
    """Return the voxels that `keys_of` maps to these keys."""
    parts = []
    for size in reversed(grid[1:]):
        parts.append(keys % size)
        keys = torch.div(keys, size, rounding_mode="floor")
    return torch.stack([keys, *reversed(parts)], 1).int()


def rows_of(keys: Tensor, wanted: Tensor) -> Tensor:
    """Find the row of each wanted key among the sorted `keys`; -1 if there is none."""
    if not len(keys):
        return torch.full_like(wanted, -1)
    at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    return torch.where(keys[at] == wanted, at, -1)


def neighbour_pairs(coords: Tensor, keys: Tensor, grid: Grid) -> RowPairs:
    """Return the kernel map of a 3³ convolution with equal input and output voxels.

    As in torch, the output at ``p`` is the sum of ``weight[k] * input[p + offset[k]]``.
    """
    n = len(keys)
    everything = torch.arange(n, dtype=torch.int32, device=keys.device)
    sources: list[Tensor] = [everything] * len(OFFSETS)
    targets: list[Tensor] = [everything] * len(OFFSETS)
    _, *box = grid
    for k in range(CENTRE + 1, len(OFFSETS)):
        check_stop()
        dz, dy, dx = OFFSETS[k]
        inside = torch.ones(n, dtype=torch.bool, device=keys.device)
        for axis, (step, size) in enumerate(zip((dz, dy, dx), box, strict=True), 1):
            if step:
                moved = coords[:, axis] + step
                inside &= (moved >= 0) & (moved < size)
        here = inside.nonzero().squeeze(1)
        step = (dz * box[1] + dy) * box[2] + dx
        there = rows_of(keys, keys[here] + step)
        found = there >= 0
        low, high = here[found].int(), there[found].int()
        mirrored = len(OFFSETS) - 1 - k
        sources[k], targets[k] = high, low
        sources[mirrored], targets[mirrored] = low, high
    return RowPairs(sources, targets, n, n)


def halved(grid: Grid) -> Grid:
    """Return the grid with voxels that are twice as wide."""
    return (grid[0], *(math.ceil(size / 2) for size in grid[1:]))


def parent_pairs(coords: Tensor, grid: Grid) -> tuple[RowPairs, Tensor, Tensor]:
    """Return the kernel map, output keys and coordinates for a 2³ kernel, stride 2."""
    parents = coords.clone()
    parents[:, 1:] = torch.div(coords[:, 1:], 2, rounding_mode="floor")
    coarse = halved(grid)
    keys, rows = torch.unique(
        keys_of(parents, coarse), sorted=True, return_inverse=True
    )
    odd = coords[:, 1:] & 1
    child = odd[:, 0] * 4 + odd[:, 1] * 2 + odd[:, 2]
    sources, targets = [], []
    for k in range(len(CHILDREN)):
        check_stop()
        of_child = (child == k).nonzero().squeeze(1)
        sources.append(of_child.int())
        targets.append(rows[of_child].int())
    pairs = RowPairs(sources, targets, len(coords), len(keys))
    return pairs, keys, coords_of(keys, coarse)


def child_pairs(
    coords: Tensor, fine: Grid, places: Sequence[tuple[int, ...]]
) -> tuple[RowPairs, Tensor, Tensor]:
    """Return the kernel map of a transposed convolution that generates voxels.

    The keys and coordinates of the generated voxels are returned as well.

    Parameters
    ----------
    coords : Tensor
        Coarse voxels.
    fine : Grid
        Grid of the generated voxels; children outside the grid are omitted.
    places : sequence of tuple of int
        Positions of the candidates around a voxel, relative to its first child.
    """
    limits = torch.tensor(fine[1:], device=coords.device, dtype=coords.dtype)
    first = coords.clone()
    first[:, 1:] *= 2
    parents, keys = [], []
    for place in places:
        check_stop()
        child = first.clone()
        child[:, 1:] += torch.tensor(place, device=coords.device, dtype=coords.dtype)
        inside = ((child[:, 1:] >= 0) & (child[:, 1:] < limits)).all(1)
        parents.append(inside.nonzero().squeeze(1).int())
        keys.append(keys_of(child[inside], fine))
    check_stop()
    unique, rows = torch.unique(torch.cat(keys), sorted=True, return_inverse=True)
    targets = rows.int().split([len(part) for part in keys])
    pairs = RowPairs(parents, targets, len(coords), len(unique))
    return pairs, unique, coords_of(unique, fine)


def known_child_pairs(
    coords: Tensor, keys: Tensor, fine: Grid, coarse_keys: Tensor
) -> RowPairs:
    """Return the kernel map of a 2³ transposed convolution onto known voxels.

    Parameters
    ----------
    coords, keys : Tensor
        The fine voxels.
    fine : Grid
        Grid of the fine voxels.
    coarse_keys : Tensor
        Keys of the coarse voxels; fine voxels outside all coarse voxels receive
        nothing.
    """
    parents = coords.clone()
    parents[:, 1:] = torch.div(coords[:, 1:], 2, rounding_mode="floor")
    rows = rows_of(coarse_keys, keys_of(parents, halved(fine)))
    odd = coords[:, 1:] & 1
    child = odd[:, 0] * 4 + odd[:, 1] * 2 + odd[:, 2]
    sources, targets = [], []
    for k in range(len(CHILDREN)):
        check_stop()
        of_child = ((child == k) & (rows >= 0)).nonzero().squeeze(1)
        sources.append(rows[of_child].int())
        targets.append(of_child.int())
    return RowPairs(sources, targets, len(coarse_keys), len(keys))
