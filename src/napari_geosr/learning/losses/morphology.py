"""Erosion, dilation and centrelines of soft maps, differentiable.

Maps have the shape (N, C, [Z,] Y, X), and are 0 outside and 1 inside a phase; for
binary maps, the results are those of mathematical morphology. Voxels beyond the border
are ignored, so that objects cut by the border are treated as if they continued.

Maxima and minima of windows are computed by shifting instead of ``max_pool``. For 48³
voxels this takes a tenth of the time on a CPU, and if several voxels have the extreme
value, the gradient is shared among them instead of being assigned to the first one.

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

#: Pairs of an axis and an offset along it in voxels; the window also includes its
#: centre.
Offsets = tuple[tuple[int, int], ...]


class _LocalExtremum(torch.autograd.Function):
    """Maximum or minimum over each voxel and the voxels at given offsets from it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, offsets: Offsets, largest: bool) -> Tensor:
        choose = torch.maximum if largest else torch.minimum
        result = x.clone()
        for offset in offsets:
            here, there = _overlap(x, *offset)
            result[here] = choose(result[here], x[there])
        ctx.offsets = offsets
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, result = ctx.saved_tensors
        pairs = [_overlap(x, *offset) for offset in ctx.offsets]
        is_extreme = x == result
        is_equal = [x[there] == result[here] for here, there in pairs]
        count = is_extreme.to(gradient.dtype)
        for (here, _), same in zip(pairs, is_equal, strict=True):
            count[here] += same
        share = gradient / count
        result_gradient = share * is_extreme
        for (here, there), same in zip(pairs, is_equal, strict=True):
            result_gradient[there] += share[here] * same
        return result_gradient, None, None


def extreme(x: Tensor, offsets: Offsets, *, largest: bool) -> Tensor:
    """Return the extreme value over each voxel and the voxels at `offsets` from it.

    Parameters
    ----------
    x : Tensor
    offsets : tuple of (int, int)
        Pairs of an axis and an offset along it, in voxels.
    largest : bool
        Whether the maximum (dilation) or the minimum (erosion) is taken.
    """
    result: Tensor = _LocalExtremum.apply(x, offsets, largest)  # type: ignore[no-untyped-call]
    return result


def eroded(x: Tensor) -> Tensor:
    """Return the minimum of each voxel and its face neighbours (4 in 2D, 6 in 3D)."""
    return extreme(x, _cross(range(2, x.ndim)), largest=False)


def dilated(x: Tensor) -> Tensor:
    """Return the maximum of the 3ⁿ voxels around each voxel."""
    for axis in range(2, x.ndim):
        x = extreme(x, _cross((axis,)), largest=True)
    return x


def soft_skeleton(x: Tensor, steps: int) -> Tensor:
    """Return the soft skeleton: the parts of `x` that openings remove [1]_.

    Parameters
    ----------
    x : Tensor of shape (N, C, [Z,] Y, X)
    steps : int
        Number of erosions. Parts wider than ``2 · steps + 2`` voxels have no skeleton.

    Returns
    -------
    Tensor
        The skeleton inside `x`; a line one voxel wide is its own skeleton.
    """
    smaller = eroded(x)
    skeleton = (x - dilated(smaller)).relu()
    for _ in range(steps):
        x = smaller
        smaller = eroded(x)
        rest = (x - dilated(smaller)).relu()
        skeleton = skeleton + (rest - skeleton * rest).relu()
    return skeleton


def signed_distance(x: Tensor, max_distance: int) -> Tensor:
    """Return the signed distance of each voxel to the wall, up to `max_distance`.

    Erosions by face neighbours and by all 3ⁿ voxels alternate, so that points at equal
    distance form octagons in 2D: the distance is exact along the axes, and approximate
    in other directions.

    Returns
    -------
    Tensor
        For binary maps, the number of voxels to the wall: positive inside the phase and
        negative outside. For soft maps, the mean of this number over all thresholds.
    """
    inside, outside = x, 1 - x
    depth = inside - outside
    for step in range(1, max_distance):
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
    """Return slices of voxels with a neighbour at `step`, and of the neighbours."""
    n = x.shape[axis]
    before = (slice(None),) * axis
    low, high = slice(0, n - abs(step)), slice(abs(step), n)
    here, there = (low, high) if step > 0 else (high, low)
    return (*before, here), (*before, there)
