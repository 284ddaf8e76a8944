"""Means over boxes, for what is compared place by place and not voxel by voxel."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def box_means(x: Tensor, edge: int) -> Tensor:
    """Means of ``edgeⁿ`` voxels, in boxes that overlap by half.

    Parameters
    ----------
    x : Tensor of shape (N, C, [Z,] Y, X)
    edge : int
        Of a box; along axes that are shorter, it is the axis. The last box may be
        smaller: its mean is over the voxels that there are.
    """
    pool = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
    size = [min(edge, n) for n in x.shape[2:]]
    stride = [max(1, n // 2) for n in size]
    return pool(x, size, stride, ceil_mode=True, count_include_pad=False)
