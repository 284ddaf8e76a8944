"""Express linear interpolation as indices and weights, for tensor operators."""

from __future__ import annotations

import torch
from torch import Tensor

_CPU_BYTES = 64 * 2**20
_DEVICE_BYTES = 2**30


def linear_taps(
    place: Tensor, n: int, dim: int, first: int = 0
) -> tuple[Tensor, Tensor]:
    """Return indices and weights of both neighbours of positions on a grid of length n.

    The two neighbours are stored along a new axis `dim`. Values beyond the grid are
    zero: neighbours there get weight 0 and an arbitrary valid index. The grid starts at
    the position `first`.

    Parameters
    ----------
    place : Tensor
        Positions on the grid, in voxels.
    n : int
        Length of the grid.
    dim : int
        Position of the new axis of length 2.
    first : int
        Position at which the grid starts.

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
    """Return the number of items of `bytes_each` bytes that fit into the budget."""
    budget = _CPU_BYTES if device.type == "cpu" else _DEVICE_BYTES
    return max(1, budget // bytes_each)
