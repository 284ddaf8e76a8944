"""Features of voxels next to a surface or inside a mask: values and local means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812  # torch's usual name

from napari_geosr.core.interruption import check_stop
from napari_geosr.networks.sparse._tensor import SparseTensor

if TYPE_CHECKING:
    from torch import Tensor

#: Number of features of a voxel at a surface: its phase and two local means.
SURFACE_FEATURES = 3
#: Edges, in voxels, of the boxes over which the phase is averaged.
MEAN_EDGES = (3, 5)


def surface_voxels(occupied: Tensor) -> SparseTensor:
    """Return voxels with both phases in their 3³ neighbourhood, and their features."""
    highest = F.max_pool3d(occupied, 3, 1, 1)
    check_stop()
    lowest = -F.max_pool3d(-occupied, 3, 1, 1)
    means = _means(occupied)
    features = 2 * torch.cat([occupied, *means], 1) - 1
    return SparseTensor.from_dense(features, (highest != lowest)[:, 0])


def masked_voxels(grey: Tensor, mask: Tensor) -> SparseTensor:
    """Return grey values of a mask's voxels, and means over their neighbourhoods.

    NaN and infinite values are left out of the means.

    Parameters
    ----------
    grey : Tensor of shape (N, 1, Z, Y, X)
        Standardised grey values; finite in the mask.
    mask : Tensor of bool, shape (N, Z, Y, X)
    """
    finite = grey.isfinite()
    if finite.all():
        means = _means(grey)
    else:
        grey = grey.where(finite, 0.0)
        # Means over neighbourhoods without finite values are NaN, but such
        # neighbourhoods contain no voxel of the mask.
        shares = _means(finite.to(grey.dtype))
        means = [m / s for m, s in zip(_means(grey), shares, strict=True)]
    return SparseTensor.from_dense(torch.cat([grey, *means], 1), mask)


def _means(values: Tensor) -> list[Tensor]:
    """Return the means over the neighbourhoods of all voxels."""
    means = []
    for edge in MEAN_EDGES:
        check_stop()
        if min(values.shape[2:]) < edge:
            means.append(_means_of_thin(values, edge))
            continue
        pooled = F.avg_pool3d(values, edge, 1, edge // 2, count_include_pad=False)
        means.append(pooled)
    check_stop()
    return means


def _means_of_thin(values: Tensor, edge: int) -> Tensor:
    """Return the means over cubes that are larger than the volume along some axis.

    The pooling layers of torch reject such volumes, so the volume is padded, and each
    sum is divided by the number of voxels of the volume in the cube.
    """
    size = values.shape[2:]
    margin = [n for length in reversed(size) for n in (0, max(0, edge - length))]
    sums, counts = (
        F.avg_pool3d(F.pad(part, margin), edge, 1, edge // 2, divisor_override=1)
        for part in (values, torch.ones_like(values))
    )
    means: Tensor = (sums / counts)[:, :, : size[0], : size[1], : size[2]]
    return means
