"""Linear interpolation as places and weights, for operators made of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

_CPU_BYTES = 64 * 2**20
_DEVICE_BYTES = 2**30


def linear_taps(
    place: Tensor, n: int, dim: int, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Both neighbours of places on a grid of `n`, and their weights.

    Both stand in a new axis `dim`. Beyond the grid is zero: such neighbours have weight
    0 and any place on the grid. The grid begins at the place `first`.

    Parameters
    ----------
    place : Tensor
        Places on the grid, in voxels.
    n : int
        Length of the grid.
    dim : int
        Where the new axis of length 2 is put.
    first : int
        Place at which the grid begins.

    Returns
    -------
    places : Tensor of int64
    weights : Tensor
    """
    low = place.floor()
    share = place - low
    left = (low - first).clamp(-2, n).long()
    both = torch.stack([left, left + 1], dim=dim)
    weight = torch.stack([1 - share, share], dim=dim)
    weight *= (both >= 0) & (both < n)
    return both.clamp(0, n - 1), weight


def chunk_length(device: torch.device, bytes_each: int) -> int:
    """How many of something fit into the memory that places and weights may take."""
    budget = _CPU_BYTES if device.type == "cpu" else _DEVICE_BYTES
    return max(1, budget // bytes_each)
