"""Sums and means over boxes, for local rather than voxel-wise comparison.

Boxes overlap by half. Along an axis that is shorter than a box, the box is as long as
the axis. The last box along an axis may be truncated.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional


def box_means(x: Tensor, edge: int) -> Tensor:
    """Return the means of (N, C, [Z,] Y, X) over boxes of ``edgeⁿ`` voxels.

    The last box along an axis may be smaller.
    """
    return _pool_boxes(x, edge, count_include_pad=False)


def box_sums(x: Tensor, edge: int) -> Tensor:
    """Return the sums of (N, C, [Z,] Y, X) over boxes of ``edgeⁿ`` voxels.

    The last box along an axis may be smaller.
    """
    return _pool_boxes(x, edge, divisor_override=1)


def _pool_boxes(x: Tensor, edge: int, **options: Any) -> Tensor:
    pool = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
    size = [min(edge, n) for n in x.shape[2:]]
    stride = [max(1, n // 2) for n in size]
    result: Tensor = pool(x, size, stride, ceil_mode=True, **options)
    return result
