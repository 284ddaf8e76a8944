"""A sparse U-Net that works on the voxels next to a surface and halves their size.

Only voxels with both phases in their 3³ neighbourhood are computed; other voxels
are full or empty at any resolution. The network predicts the phase of their eight
children, as a correction to the trilinear interpolation. It is local: with the halo of
its ``spec``, results for blocks are identical to those for the whole shape.

With an upscale factor of 1, it predicts labels of the given voxels from grey values.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field, field_validator
from torch import nn
from torch.nn import functional as F  # noqa: N812  # torch's usual name

from napari_geosr.core.config import Config
from napari_geosr.core.interruption import check_stop
from napari_geosr.networks.sparse._dense import dense_forward
from napari_geosr.networks.sparse._features import (
    MEAN_EDGES,
    SURFACE_FEATURES,
    surface_voxels,
)
from napari_geosr.networks.sparse._layers import (
    GenerativeConvolution,
    RowBatchNorm,
    StridedConvolution,
    SubmanifoldConvolution,
    UpConvolution,
)
from napari_geosr.networks.sparse._tensor import SparseTensor
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.networks.sparse._dense import SurfaceLayers

#: Factor that turns the trilinearly interpolated shape, minus one half, into a logit.
_STEEPNESS = 8.0
#: Logit at a distance of one fine voxel from a plane between coarse voxels, where the
#: interpolated shape changes by one half for each fine voxel.
LOGIT_PER_VOXEL = _STEEPNESS / 2
#: Probability above which a voxel is kept if the result will be refined again. With
#: 0.5, thin walls and tubes, which have an uncertain position, lose volume in each
#: stage (10 % instead of 1 % for skulls refined by a factor of 4).
_INTERMEDIATE = 0.4


class NetworkConfig(Config):
    """Settings of a surface U-Net."""

    channels: tuple[int, ...] = Field(
        (16, 24, 32),
        title="Channels",
        description="Number of feature maps at each level, from the finest to the "
        "coarsest. More maps take more time and memory.",
    )
    in_channels: int = Field(
        SURFACE_FEATURES,
        ge=1,
        le=64,
        title="Input channels",
        description="Number of features of each voxel.",
    )
    out_channels: int = Field(
        1,
        ge=1,
        le=256,
        title="Output channels",
        description="Number of output channels. 1: the phase; 2 or more: one channel "
        "for each label.",
    )
    upscale_factor: Literal[1, 2] = Field(
        2,
        title="Upscale factor",
        description="Output voxels per input voxel along each axis.",
    )

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or not all(1 <= n <= 512 for n in value):
            raise ValueError("numbers from 1 to 512 are needed")
        return value


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters."""
    channels, first = config.channels, config.channels[0]
    total = 27 * config.in_channels * first + 2 * first
    for fine, coarse in itertools.pairwise(channels):
        total += 8 * fine * coarse + 27 * coarse**2 + 4 * coarse
        total += 8 * fine * coarse + 27 * fine**2 + 4 * fine
    if config.upscale_factor == 2:
        total += 8 * first**2 + 27 * first**2 + 4 * first
    return total + (first + 1) * config.out_channels


class SurfaceUNet(nn.Module):
    """U-Net on the voxels near a surface; see the module docstring.

    Parameters
    ----------
    channels : sequence of int
        Number of feature maps per level, from the finest to the coarsest.
    in_channels, out_channels, upscale_factor : int
    """

    def __init__(
        self,
        channels: Sequence[int],
        in_channels: int = SURFACE_FEATURES,
        out_channels: int = 1,
        upscale_factor: int = 2,
    ) -> None:
        super().__init__()
        steps = list(itertools.pairwise(channels))
        stride = 2 ** len(steps)
        self.spec = NetworkSpec(
            axes="ZYX",
            halo=(_reach(len(steps)),) * 3,
            stride=(stride,) * 3,
            upscale_factor=(upscale_factor,) * 3,
            input="shape",
        )
        first = channels[0]
        self.first = SubmanifoldConvolution(in_channels, first)
        self.first_norm = RowBatchNorm(first)
        self.down = nn.ModuleList(StridedConvolution(a, b) for a, b in steps)
        self.down_norms = nn.ModuleList(RowBatchNorm(b) for _, b in steps)
        self.encode = nn.ModuleList(SubmanifoldConvolution(b, b) for _, b in steps)
        self.encode_norms = nn.ModuleList(RowBatchNorm(b) for _, b in steps)
        self.up = nn.ModuleList(UpConvolution(b, a) for a, b in steps)
        self.up_norms = nn.ModuleList(RowBatchNorm(a) for a, _ in steps)
        self.decode = nn.ModuleList(SubmanifoldConvolution(a, a) for a, _ in steps)
        self.decode_norms = nn.ModuleList(RowBatchNorm(a) for a, _ in steps)
        self.upscale_factor = upscale_factor
        if upscale_factor == 2:
            self.split = GenerativeConvolution(first, first)
            self.split_norm = RowBatchNorm(first)
            self.fine = SubmanifoldConvolution(first, first)
            self.fine_norm = RowBatchNorm(first)
        self.head = nn.Linear(first, out_channels)
        if upscale_factor == 2:  # initially equal to the interpolation
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Predict a logit for each label and voxel (or child of a voxel)."""
        x = _rectified(self.first(x), self.first_norm)
        skips = [x]
        for i, down in enumerate(self.down):
            x = _rectified(down(x), self.down_norms[i])
            x = _rectified(self.encode[i](x), self.encode_norms[i])
            skips.append(x)
        x = skips.pop()
        for i in reversed(range(len(self.up))):
            skip = skips.pop()
            x = _rectified(self.up[i](x, skip), self.up_norms[i])
            x = x.with_features(x.features + skip.features)
            x = _rectified(self.decode[i](x), self.decode_norms[i])
        if self.upscale_factor == 2:
            x = _rectified(self.split(x), self.split_norm)
            x = _rectified(self.fine(x), self.fine_norm)
        return x.with_features(self.head(x.features))

    def dense_forward(self, x: SparseTensor) -> SparseTensor:
        """Compute the result of `forward`, except for rounding, by dense convolutions.

        Runs in evaluation mode, without gradients. This is faster than sparse tensors
        if many voxels of the box are active.
        """
        return dense_forward(cast("SurfaceLayers", self), x)

    def surface_logits(self, occupied: Tensor, *, dense: bool = False) -> SparseTensor:
        """Return the logits of the children of all voxels next to a surface.

        Parameters
        ----------
        occupied : Tensor of shape (N, 1, Z, Y, X)
            1 in the shape and 0 elsewhere.
        dense : bool
            Whether dense convolutions are used.
        """
        voxels = surface_voxels(occupied)
        children: SparseTensor = self.dense_forward(voxels) if dense else self(voxels)
        check_stop()
        n, z, y, x = children.coords.long().unbind(1)
        smooth = F.interpolate(occupied, scale_factor=2, mode="trilinear")
        check_stop()
        prior = _STEEPNESS * (smooth[n, 0, z, y, x] - 0.5)
        return children.with_features(children.features + prior[:, None])

    def surface_distances(self, occupied: Tensor) -> SparseTensor:
        """Return the logits as signed distances in fine voxels, negative inside.

        Only a network that was trained on distances predicts them; for other networks,
        only the sign is meaningful. The initial weights give the interpolated distance.
        """
        logits = self.surface_logits(occupied)
        return logits.with_features(-logits.features / LOGIT_PER_VOXEL)

    def refined(
        self, occupied: Tensor, *, is_last: bool = True, dense: bool = False
    ) -> Tensor:
        """Return the shape at twice the resolution, a bool tensor (N, 1, 2Z, 2Y, 2X).

        If the result will be refined again (`is_last` is False), less probable voxels
        are kept as well: see `_INTERMEDIATE`. `dense` selects dense convolutions.
        """
        children = self.surface_logits(occupied, dense=dense)
        check_stop()
        fine = F.interpolate(occupied, scale_factor=2, mode="nearest") > 0.5
        check_stop()
        n, z, y, x = children.coords.long().unbind(1)
        least = 0.5 if is_last else _INTERMEDIATE
        fine[n, 0, z, y, x] = children.features[:, 0] > math.log(least / (1 - least))
        return fine


def _rectified(x: SparseTensor, norm: nn.Module) -> SparseTensor:
    check_stop()
    normalised = norm(x.features)
    check_stop()
    return x.with_features(normalised.relu())


def _reach(n_steps: int) -> int:
    """Return the radius of the receptive field, as a multiple of the stride."""
    stride = int(2**n_steps)
    convolutions = sum(int(2 * 2**level) for level in range(n_steps)) + stride
    reach = convolutions + (stride - 1) + 1 + max(MEAN_EDGES) // 2
    return -(-reach // stride) * stride


def build(config: NetworkConfig) -> SurfaceUNet:
    """Build the network with initial weights."""
    return SurfaceUNet(
        config.channels,
        config.in_channels,
        config.out_channels,
        config.upscale_factor,
    )
