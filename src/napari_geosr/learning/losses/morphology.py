"""Erosion, dilation and centre lines of soft maps, differentiable.

Maps are (N, C, [Z,] Y, X), 0 outside a phase and 1 in it; of hard maps (0 and 1) the
results are those of mathematical morphology. Beyond the border there is nothing that
counts: an object that is cut by it goes on.

The largest and smallest values of windows are made by shifting, not by ``max_pool``: of
48³ voxels that takes a tenth of the time on a processor, and where several voxels are
as large the gradient is shared among them, not given to the first.

References
----------
.. [1] Shit et al. clDice: a novel topology-preserving loss function for tubular
   structure segmentation. CVPR (2021). doi:10.1109/CVPR46437.2021.01629
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Axis, and by how many voxels a window reaches along it beside its own place.
Offsets = tuple[tuple[int, int], ...]


class _Extreme(torch.autograd.Function):
    """Maximum or minimum in a window around, or beside, each voxel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: Offsets, largest: bool) -> Tensor:
        choose = torch.maximum if largest else torch.minimum
        found = x.clone()
        for offset in offsets:
            here, there = _overlap(x, *offset)
            found[here] = choose(found[here], x[there])
        ctx.offsets = offsets
        ctx.save_for_backward(x, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, found = ctx.saved_tensors
        places = [_overlap(x, *offset) for offset in ctx.offsets]
        own = x == found
        equal = [x[there] == found[here] for here, there in places]
        count = own.to(gradient.dtype)
        for (here, _), same in zip(places, equal, strict=True):
            count[here] += same
        share = gradient / count
        given = share * own
        for (here, there), same in zip(places, equal, strict=True):
            given[there] += share[here] * same
        return given, None, None


def extreme(x: Tensor, offsets: Offsets, *, largest: bool) -> Tensor:
    """Largest (or smallest) of each value and of those at `offsets` from it.

    Parameters
    ----------
    x : Tensor
    offsets : tuple of (int, int)
        Axis, and by how many voxels the window reaches along it.
    largest : bool
        Largest (dilation) or smallest (erosion).
    """
    found: Tensor = _Extreme.apply(x, offsets, largest)  # type: ignore[no-untyped-call]
    return found


def eroded(x: Tensor) -> Tensor:
    """Smallest of each voxel and its face neighbours (5 voxels in 2D, 7 in 3D)."""
    return extreme(x, _cross(range(2, x.ndim)), largest=False)


def dilated(x: Tensor) -> Tensor:
    """Largest of the 3ⁿ voxels around each."""
    for axis in range(2, x.ndim):
        x = extreme(x, _cross((axis,)), largest=True)
    return x


def soft_skeleton(x: Tensor, steps: int) -> Tensor:
    """What opening removes from `x` during stepwise erosion [1]_.

    Parameters
    ----------
    x : Tensor of shape (N, C, [Z,] Y, X)
    steps : int
        Erosions. Parts that are wider than ``2 · steps + 1`` voxels have no skeleton.

    Returns
    -------
    Tensor
        Within `x`; a line one voxel wide is its own skeleton.
    """
    smaller = eroded(x)
    skeleton = (x - dilated(smaller)).relu()
    for _ in range(steps):
        x = smaller
        smaller = eroded(x)
        rest = (x - dilated(smaller)).relu()
        skeleton = skeleton + (rest - skeleton * rest).relu()
    return skeleton


def signed_depth(x: Tensor, most: int) -> Tensor:
    """Depth of each voxel inside or outside the phase, up to `most` voxels.

    Erosions by face neighbours and by all 3ⁿ take turns, which makes the distance that
    of octagons: along an axis it is exact, aslant up to a tenth too long or short.

    Returns
    -------
    Tensor
        Of a hard map the number of voxels to the wall, 1 … most in the phase and
        -1 … -most outside; of soft ones the mean of that over all thresholds.
    """
    inside, outside = x, 1 - x
    depth = inside - outside
    for step in range(1, most):
        offsets = _cross(range(2, x.ndim))
        if step % 2:
            inside = extreme(inside, offsets, largest=False)
            outside = extreme(outside, offsets, largest=False)
        else:
            inside, outside = -dilated(-inside), -dilated(-outside)
        depth = depth + inside - outside
    return depth


def _cross(axes: Any) -> Offsets:
    return tuple((axis, step) for axis in axes for step in (-1, 1))


def _overlap(
    x: Tensor, axis: int, step: int
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Places that have a neighbour `step` along `axis`, and where these lie."""
    n = x.shape[axis]
    before = (slice(None),) * axis
    low, high = slice(0, n - abs(step)), slice(abs(step), n)
    here, there = (low, high) if step > 0 else (high, low)
    return (*before, here), (*before, there)
