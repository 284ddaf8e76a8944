"""Layers on sparse tensors.

Weights are initialised like those of torch's dense layers with the same fan-in. There
is no bias: each convolution is followed by a normalisation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # torch's usual name

from napari_geosr.networks.sparse import _maps
from napari_geosr.networks.sparse._gather import sparse_convolution
from napari_geosr.networks.sparse._tensor import SparseTensor

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.networks.sparse._maps import MapCache


class _Kernel(nn.Module):
    """Base of sparse convolutions: one matrix for each position in the kernel."""

    def __init__(self, places: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(places * in_channels)
        weight = torch.empty(places, in_channels, out_channels).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight)

    def _dense_weight(self, *, transposed: bool = False) -> Tensor:
        """Return the matrices as a kernel of torch's (transposed) convolution."""
        edge = round(len(self.weight) ** (1 / 3))
        kernel = self.weight.reshape(edge, edge, edge, *self.weight.shape[1:])
        return (
            kernel.permute(3, 4, 0, 1, 2)
            if transposed
            else kernel.permute(4, 3, 0, 1, 2)
        )


class SubmanifoldConvolution(_Kernel):
    """3³ convolution with equal input and output voxels.

    At these voxels, the result equals that of a dense convolution with zero padding.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(len(_maps.OFFSETS), in_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        pairs = x.neighbours()
        return x.with_features(sparse_convolution(x.features, self.weight, pairs))

    def dense(self, x: Tensor) -> Tensor:
        """Convolve a dense tensor."""
        return F.conv3d(x, self._dense_weight(), padding=1)


class StridedConvolution(_Kernel):
    """2³ convolution with stride 2; output voxels are those containing input voxels."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(len(_maps.CHILDREN), in_channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        pairs, keys, coords = _maps.parent_pairs(x.coords, x.grid)
        features = sparse_convolution(x.features, self.weight, pairs)
        grid, level = _maps.halved(x.grid), x.level + 1
        cache: MapCache = {("keys", level): keys}
        return SparseTensor(coords, features, grid, level, cache)

    def dense(self, x: Tensor) -> Tensor:
        """Convolve a dense tensor with an even number of voxels along each axis."""
        return F.conv3d(x, self._dense_weight(), stride=2)


class GenerativeConvolution(_Kernel):
    """Transposed convolution with stride 2 that occupies all voxels it reaches.

    Parameters
    ----------
    in_channels, out_channels : int
    wide : bool
        Whether the kernel has 4³ instead of 2³ positions: new voxels may then also lie
        next to the 2³ fine voxels within an input voxel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, wide: bool = False
    ) -> None:
        self.places = _maps.WIDE_CHILDREN if wide else _maps.CHILDREN
        super().__init__(len(self.places), in_channels, out_channels)

    def forward(self, x: SparseTensor, box: tuple[int, ...] = ()) -> SparseTensor:
        """Apply the layer.

        Parameters
        ----------
        x : SparseTensor
        box : tuple of int, optional
            Size of the finer box (Z, Y, X); by default twice that of `x`.
        """
        grid = (x.grid[0], *(box or (2 * size for size in x.grid[1:])))
        pairs, keys, coords = _maps.child_pairs(x.coords, grid, self.places)
        features = sparse_convolution(x.features, self.weight, pairs)
        level = x.level - 1
        cache: MapCache = {("keys", level): keys}
        return SparseTensor(coords, features, grid, level, cache)

    def dense(self, x: Tensor) -> Tensor:
        """Convolve a dense tensor; only for kernels of 2³ positions."""
        return F.conv_transpose3d(x, self._dense_weight(transposed=True), stride=2)


class UpConvolution(_Kernel):
    """2³ transposed convolution with stride 2 onto the voxels of another tensor."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(len(_maps.CHILDREN), in_channels, out_channels)

    def forward(self, x: SparseTensor, onto: SparseTensor) -> SparseTensor:
        pairs = _maps.known_child_pairs(onto.coords, onto.keys, onto.grid, x.keys)
        return onto.with_features(sparse_convolution(x.features, self.weight, pairs))

    def dense(self, x: Tensor) -> Tensor:
        """Convolve a dense tensor."""
        return F.conv_transpose3d(x, self._dense_weight(transposed=True), stride=2)


class RowBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over all voxels of a batch.

    A single voxel has no variance, so it is normalised by the running statistics.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        if self.training and len(input) < 2:
            assert self.running_mean is not None
            assert self.running_var is not None
            scale = (self.running_var + self.eps).rsqrt() * self.weight
            return (input - self.running_mean) * scale + self.bias
        return super().forward(input)
