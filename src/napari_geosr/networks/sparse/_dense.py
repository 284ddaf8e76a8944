"""The surface network with dense convolutions, for boxes with many active voxels.

Voxels that are not active are set to zero after each layer, so that the active ones
have the same values as with sparse tensors, apart from rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # torch's usual name

from napari_geosr.core.interruption import check_stop
from napari_geosr.networks.sparse._tensor import SparseTensor

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.networks.sparse._layers import RowBatchNorm
    from napari_geosr.networks.spec import NetworkSpec


class SurfaceLayers(Protocol):
    """The layers of the surface network, by name."""

    spec: NetworkSpec
    upscale_factor: int
    first: nn.Module
    first_norm: nn.Module
    down: nn.ModuleList
    down_norms: nn.ModuleList
    encode: nn.ModuleList
    encode_norms: nn.ModuleList
    up: nn.ModuleList
    up_norms: nn.ModuleList
    decode: nn.ModuleList
    decode_norms: nn.ModuleList
    split: nn.Module
    split_norm: nn.Module
    fine: nn.Module
    fine_norm: nn.Module
    head: nn.Module


@torch.no_grad()
def dense_forward(network: SurfaceLayers, x: SparseTensor) -> SparseTensor:
    """Compute the output of the network in evaluation mode, without gradients.

    Parameters
    ----------
    network : SurfaceLayers
        A `SurfaceUNet`.
    x : SparseTensor
        Input at the finest level.
    """
    box = [int(size) for size in x.grid[1:]]
    # Incomplete voxels of the coarser levels are padded with inactive voxels.
    stride = network.spec.stride[0]
    margin = [n for size in reversed(box) for n in (0, -size % stride)]
    mask = F.pad(x.with_features(torch.ones_like(x.features[:, :1])).to_dense(), margin)
    values = _layer(
        network.first, network.first_norm, F.pad(x.to_dense(), margin), mask
    )
    skips = [(values, mask)]
    for i, down in enumerate(network.down):
        mask = F.max_pool3d(mask, 2)
        values = _layer(down, network.down_norms[i], values, mask)
        values = _layer(network.encode[i], network.encode_norms[i], values, mask)
        skips.append((values, mask))
    skips.pop()
    for i in reversed(range(len(network.up))):
        skip, mask = skips.pop()
        values = _layer(network.up[i], network.up_norms[i], values, mask) + skip
        values = _layer(network.decode[i], network.decode_norms[i], values, mask)
    factor = network.upscale_factor
    if factor == 2:
        mask = F.interpolate(mask, scale_factor=2, mode="nearest")
        values = _layer(network.split, network.split_norm, values, mask)
        values = _layer(network.fine, network.fine_norm, values, mask)
    depth, rows, columns = (factor * size for size in box)
    active = mask[:, 0, :depth, :rows, :columns] > 0
    found = SparseTensor.from_dense(values[:, :, :depth, :rows, :columns], active)
    return found.with_features(network.head(found.features))


def _layer(convolution: nn.Module, norm: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Convolve, normalise and rectify, and clear the inactive voxels."""
    check_stop()
    scales = cast("RowBatchNorm", norm)
    made: Tensor = F.batch_norm(
        cast("Tensor", convolution.dense(x)),  # type: ignore[operator]
        scales.running_mean,
        scales.running_var,
        scales.weight,
        scales.bias,
        eps=scales.eps,
    )
    return made.relu_().mul_(mask)
