"""A sparse U-Net that generates the voxels of a complete shape, level by level.

Its encoder reads the occupied voxels of an incomplete shape. Its decoder occupies the
children of all voxels, predicts which of them belong to the shape, and discards the
others before proceeding to the next finer level. The network must be given the whole
shape: results for blocks would differ from those for the whole shape.

References
----------
.. [1] Li et al. Sparse convolutional neural network for high-resolution skull shape
   completion and shape super-resolution. Sci. Rep. 13, 20229 (2023).
   doi:10.1038/s41598-023-47437-6
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from pydantic import Field, field_validator
from torch import nn

from napari_geosr.core.config import Config
from napari_geosr.networks.sparse._layers import (
    GenerativeConvolution,
    RowBatchNorm,
    StridedConvolution,
    SubmanifoldConvolution,
)
from napari_geosr.networks.sparse._presets import PRESETS
from napari_geosr.networks.sparse._tensor import SparseTensor, union_add
from napari_geosr.networks.spec import NetworkSpec

if TYPE_CHECKING:
    from torch import Tensor


class NetworkConfig(Config):
    """Settings of a sparse U-Net."""

    channels: tuple[int, ...] = Field(
        PRESETS["medium"],
        title="Channels",
        description="Number of feature maps at each level, from the finest to the "
        "coarsest.",
    )

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(value) < 2 or not all(1 <= n <= 512 for n in value):
            raise ValueError("two or more numbers from 1 to 512 are needed")
        return value


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters."""
    channels = config.channels
    total = 29 * channels[0]
    for i, (fine, coarse) in enumerate(itertools.pairwise(channels)):
        places = 64 if i == len(channels) - 2 else 8
        total += 8 * fine * coarse + 27 * coarse**2 + 4 * coarse
        total += places * fine * coarse + 27 * fine**2 + 5 * fine + 1
    return total + channels[0] + 1


def _block(layer: nn.Module, channels: int) -> nn.ModuleList:
    return nn.ModuleList([layer, RowBatchNorm(channels)])


def _rectified(x: SparseTensor, norm: nn.Module) -> SparseTensor:
    """Return the tensor after normalisation and rectification."""
    return x.with_features(norm(x.features).relu())


class SparseUNet(nn.Module):
    """Sparse U-Net that generates complete shapes; see the module docstring.

    Parameters
    ----------
    channels : sequence of int
        Number of feature maps per level, from the finest to the coarsest.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        n_levels = len(channels)
        stride = 2 ** (n_levels - 1)
        self.spec = NetworkSpec(
            axes="ZYX",
            halo=(0, 0, 0),
            stride=(stride,) * 3,
            upscale_factor=(1, 1, 1),
            local=False,
            input="shape",
        )
        steps = list(itertools.pairwise(channels))
        self.first = _block(SubmanifoldConvolution(1, channels[0]), channels[0])
        self.down = nn.ModuleList(_block(StridedConvolution(a, b), b) for a, b in steps)
        self.encode = nn.ModuleList(
            _block(SubmanifoldConvolution(b, b), b) for _, b in steps
        )
        self.up = nn.ModuleList(
            _block(GenerativeConvolution(b, a, wide=i == n_levels - 2), a)
            for i, (a, b) in enumerate(steps)
        )
        self.decode = nn.ModuleList(
            _block(SubmanifoldConvolution(a, a), a) for a, _ in steps
        )
        self.heads = nn.ModuleList(nn.Linear(a, 1) for a, _ in steps)
        self.last = nn.Linear(channels[0], 1)

    def forward(
        self, x: SparseTensor, targets: Sequence[SparseTensor] = ()
    ) -> tuple[SparseTensor, list[SparseTensor]]:
        """Complete a shape.

        Parameters
        ----------
        x : SparseTensor
            Occupied voxels with one feature, which equals 1.
        targets : sequence of SparseTensor, optional
            The complete shape at each level, from the finest to the coarsest but one:
            its voxels are kept even if they are not predicted, so that finer levels
            can learn them.

        Returns
        -------
        shape : SparseTensor
            Voxels of the complete shape, with one feature: a logit.
        levels : list of SparseTensor
            Logits of the candidates of all levels, from the finest to the coarsest.
        """
        skips = [self._through(self.first, x)]
        for down, encode in zip(self.down, self.encode, strict=True):
            skips.append(self._through(encode, self._through(down, skips[-1])))
        x = skips.pop()
        levels: list[SparseTensor] = []
        for level in reversed(range(len(self.up))):
            skip = skips.pop()
            generate, norm = cast("nn.ModuleList", self.up[level])
            x = _rectified(generate(x, skip.grid[1:]), norm)
            x = union_add(self._through(self.decode[level], x), skip)
            logits = self.heads[level](x.features)
            levels.insert(0, x.with_features(logits))
            x = x.pruned(self._kept(x, logits, targets[level] if targets else None))
        return x.with_features(self.last(x.features)), levels

    @staticmethod
    def _through(block: nn.Module, x: SparseTensor) -> SparseTensor:
        assert isinstance(block, nn.ModuleList)
        layer, norm = block
        return _rectified(layer(x), norm)

    @staticmethod
    def _kept(x: SparseTensor, logits: Tensor, target: SparseTensor | None) -> Tensor:
        keep = logits[:, 0] > 0
        return keep if target is None else keep | target.contains(x)


def build(config: NetworkConfig) -> SparseUNet:
    """Build the network with initial weights."""
    return SparseUNet(config.channels)
