"""Super-resolution by layers of many branches, each merged into one convolution.

While it is trained every layer is a sum of branches; merged it is a plain chain of
convolutions of the same numbers, which is what a model's bundle holds. In the manner of
ECBSR [1]_, with a cubic skip in place of the repeated input, and for volumes as well.

References
----------
.. [1] Zhang et al. Edge-oriented convolution block for real-time super resolution on
   mobile devices. ACM Multimedia (2021). doi:10.1145/3474085.3475291
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from napari_geosr.networks._branches import BranchedLayer, branch_parameters
from napari_geosr.networks._upsampling import (
    MakeLayer,
    UpscalingConfig,
    UpscalingNetwork,
    doublings,
    plain_layer,
)


class NetworkConfig(UpscalingConfig):
    """Shape of a network of layers with many branches."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"

    features: int = Field(16, ge=1, le=256)
    """Maps of the trunk."""
    blocks: int = Field(8, ge=1, le=64)
    """Layers of the trunk."""
    merged: bool = False
    """Plain convolutions in place of branches; models are kept so."""


def parameter_count(config: NetworkConfig) -> int:
    """Number of parameters in closed form."""
    n, f, s = config.ndim, config.features, config.upscale_factor
    last = s // 2 ** doublings(s)
    layers = [(config.adjacent_slices, f), *[(f, f)] * config.blocks]
    layers += [(f, f * 2**n)] * doublings(s) + [(f, last**n)]
    if config.merged:
        count = sum((3**n * a + 1) * b for a, b in layers)
    else:
        count = sum(branch_parameters(n, a, b) for a, b in layers)
    return int(count + config.blocks * f)


class RepSR(UpscalingNetwork):
    """A chain of layers with many branches, sub-voxel upsampling, a cubic skip."""

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        n, f = config.ndim, config.features
        make, inner = plain_layer(n), plain_layer(n)
        if not config.merged:
            make, inner = _branched(n), _branched(n, adds_input=True)
        self.head = make(config.adjacent_slices, f)
        self.blocks = nn.ModuleList(inner(f, f) for _ in range(config.blocks))
        # One less than layers: what follows the last is what follows every trunk.
        self.activations = nn.ModuleList(nn.PReLU(f) for _ in range(config.blocks))
        self._end(make, f, 1 + config.blocks)

    @property
    def remark(self) -> str:
        """What a person should know who trains it further; nothing of branches."""
        if not self.config.merged:
            return ""
        return (
            "The branches of its layers were merged into plain convolutions when it "
            "was saved: training goes on with those, of the same numbers, and without "
            "branches."
        )

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """``(N, C, [Z,] Y, X)`` to ``(N, features, [Z,] Y, X)``."""
        maps: torch.Tensor = self.head(x)
        for activation, block in zip(self.activations, self.blocks, strict=True):
            maps = block(activation(maps))
        return maps

    def merged(self) -> RepSR:
        """The same network of plain convolutions; itself where it is one."""
        if self.config.merged:
            return self
        first = next(self.parameters())
        plain = RepSR(self.config.model_copy(update={"merged": True}))
        plain.to(first.device, first.dtype).train(self.training)
        plain.head = _merged(self.head)
        plain.tail = _merged(self.tail)
        plain.blocks = nn.ModuleList(map(_merged, self.blocks))
        plain.stages = nn.ModuleList(map(_merged, self.stages))
        plain.activations.load_state_dict(self.activations.state_dict())
        return plain


def _branched(ndim: int, *, adds_input: bool = False) -> MakeLayer:
    def make(maps_in: int, maps_out: int) -> nn.Module:
        return BranchedLayer(ndim, maps_in, maps_out, adds_input=adds_input)

    return make


def _merged(layer: nn.Module) -> nn.Module:
    assert isinstance(layer, BranchedLayer)
    return layer.merged()


def build(config: NetworkConfig) -> RepSR:
    """Build a network of layers with many branches, with fresh weights."""
    return RepSR(config)
