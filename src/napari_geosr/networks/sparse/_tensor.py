"""A sparse tensor: the occupied voxels of a batch of boxes, and their features."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from napari_geosr.core.errors import VolumeError
from napari_geosr.networks.sparse import _maps

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.networks.sparse._maps import Grid, MapCache, RowPairs


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features at the occupied voxels of a batch of boxes of equal size.

    Use `from_coords` or `from_dense`, which sort the voxels.

    Parameters
    ----------
    coords : Tensor of int32, shape (N, 4)
        Sample, plane, row and column of each voxel, in lexicographic order.
    features : Tensor, shape (N, C)
    grid : Grid
        Number of samples, and size of their boxes (Z, Y, X) in voxels of this level.
    level : int
        Number of halvings since the input: voxels are ``2**level`` input voxels wide.

    Examples
    --------
    >>> import torch
    >>> box = torch.zeros(1, 1, 4, 4, 4)
    >>> box[0, 0, 1, 2, 3] = 5
    >>> SparseTensor.from_dense(box).coords.tolist()
    [[0, 1, 2, 3]]
    """

    coords: Tensor
    features: Tensor
    grid: Grid
    level: int = 0
    _cache: MapCache = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return int(self.coords.shape[0])

    @classmethod
    def from_coords(
        cls, coords: Tensor, features: Tensor, grid: Grid, level: int = 0
    ) -> SparseTensor:
        """Create a tensor from voxels in any order.

        Raises
        ------
        VolumeError
            If a voxel lies outside the box or is listed twice.
        """
        limits = torch.tensor(grid, device=coords.device)
        if len(coords) and bool(((coords < 0) | (coords >= limits)).any()):
            raise VolumeError(
                f"A voxel lies outside the box of {tuple(grid[1:])} voxels. Use "
                "coordinates within the box."
            )
        keys = _maps.keys_of(coords, grid)
        order = torch.argsort(keys)
        keys = keys[order]
        if bool((keys[1:] == keys[:-1]).any()):
            raise VolumeError("A voxel is listed twice. List each voxel only once.")
        cache: MapCache = {("keys", level): keys}
        return cls(coords[order].int(), features[order], grid, level, cache)

    @classmethod
    def from_dense(cls, dense: Tensor, active: Tensor | None = None) -> SparseTensor:
        """Create a tensor from the voxels of a dense tensor (N, C, Z, Y, X).

        Parameters
        ----------
        dense : Tensor
        active : Tensor of bool, shape (N, Z, Y, X), optional
            The voxels to take; by default those with a channel that is not zero.
        """
        if active is None:
            active = (dense != 0).any(1)
        places = active.nonzero()  # in lexicographic order
        n, z, y, x = places.unbind(1)
        grid = (len(dense), *(int(s) for s in dense.shape[2:]))
        return cls(places.int(), dense[n, :, z, y, x], grid)

    def to_dense(self, background: float = 0.0) -> Tensor:
        """Return the features as a dense tensor (N, C, Z, Y, X)."""
        n, *box = self.grid
        shape = (n, *box, self.features.shape[1])
        dense = self.features.new_full(shape, background)
        dense[self.coords.long().unbind(1)] = self.features
        return dense.movedim(-1, 1)

    @property
    def keys(self) -> Tensor:
        """One int64 number per voxel, in increasing order."""
        found = self._cache.get(("keys", self.level))
        if found is None:
            found = _maps.keys_of(self.coords, self.grid)
            self._cache["keys", self.level] = found
        assert isinstance(found, torch.Tensor)
        return found

    def neighbours(self) -> RowPairs:
        """Return the pairs of voxels that touch, for 3³ convolutions; computed once."""
        found = self._cache.get(("neighbours", self.level))
        if found is None:
            found = _maps.neighbour_pairs(self.coords, self.keys, self.grid)
            self._cache["neighbours", self.level] = found
        assert isinstance(found, _maps.RowPairs)
        return found

    def with_features(self, features: Tensor) -> SparseTensor:
        """Return the same voxels with other features; kernel maps are shared."""
        return dataclasses.replace(self, features=features)

    def pruned(self, keep: Tensor) -> SparseTensor:
        """Return only the voxels where `keep` (N) is True."""
        cache: MapCache = {("keys", self.level): self.keys[keep]}
        coords, features = self.coords[keep], self.features[keep]
        return SparseTensor(coords, features, self.grid, self.level, cache)

    def contains(self, other: SparseTensor) -> Tensor:
        """Return, for each voxel of `other`, whether this tensor contains it."""
        return _maps.rows_of(self.keys, other.keys) >= 0


def union_add(one: SparseTensor, other: SparseTensor) -> SparseTensor:
    """Return the sum of two tensors on the union of their voxels."""
    if len(one) == len(other) and torch.equal(one.keys, other.keys):
        return one.with_features(one.features + other.features)
    keys, rows = torch.unique(
        torch.cat([one.keys, other.keys]), sorted=True, return_inverse=True
    )
    width = one.features.shape[1]
    total = one.features.new_zeros(len(keys), width)
    total = total.index_add(0, rows, torch.cat([one.features, other.features]))
    cache: MapCache = {("keys", one.level): keys}
    coords = _maps.coords_of(keys, one.grid)
    return SparseTensor(coords, total, one.grid, one.level, cache)
