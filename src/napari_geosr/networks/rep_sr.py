"""Super-resolution network of layers with several branches, merged after training.

In training, every layer is a sum of branches. For the model's bundle, each layer is
merged into a single convolution that gives the same values. The design follows ECBSR
[1]_, with a cubic skip instead of the repeated input, and also supports volumes.

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
from torch.nn import functional

from napari_geosr.networks.layers.upsampling import (
    MakeLayer,
    UpscalingConfig,
    UpscalingNetwork,
    count_doublings,
    plain_layer,
)

#: Number of maps between the two convolutions of the widening branch, relative to the
#: number of input or output maps, whichever is smaller.
_WIDENING = 2
#: Scale factor for the initial weights of layers that add their input.
_INITIAL_GAIN = 0.1


def edge_filters(ndim: int) -> torch.Tensor:
    """Return fixed filters ``(n + 1, 3, …)``: n smoothed derivatives and a Laplacian.

    The derivatives are Sobel filters. Weights are normalised so that their absolute
    values add up to 1, or 2 for the Laplacian.
    """
    smooth = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    slope = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
    kernels = []
    for axis in range(ndim):
        kernel = torch.ones((), dtype=torch.float64)
        for i in range(ndim):
            kernel = kernel[..., None] * (slope if i == axis else smooth)
        kernels.append(kernel)
    laplacian = torch.zeros((3,) * ndim, dtype=torch.float64)
    for axis in range(ndim):
        for side in (0, 2):
            laplacian[tuple(side if i == axis else 1 for i in range(ndim))] = 1
    laplacian[(1,) * ndim] = -2 * ndim
    return torch.stack([*kernels, laplacian / (2 * ndim)])


def branch_parameters(ndim: int, maps_in: int, maps_out: int) -> int:
    """Return the number of parameters of a `BranchedLayer`, from a closed formula.

    Parameters
    ----------
    ndim : int
        Number of spatial axes: 2 or 3.
    maps_in, maps_out : int
        Number of input and output maps.
    """
    k, wide = 3**ndim, _WIDENING * min(maps_in, maps_out)
    single = k + 1 + (ndim + 1)  # kernels of 3ⁿ and 1 voxels, fixed filters
    return int(maps_out * (maps_in * single + 1) + wide * (maps_in + k * maps_out))


class BranchedLayer(nn.Module):
    """A sum of convolutions: 3ⁿ voxels, pointwise, both in sequence, and edge filters.

    ``3ⁿ + 1 + (1 → wide → 3ⁿ) + (1 → fixed edge filters) [+ the input]``. All branches
    except the first, ``weight``, are initially zero. If the input is added, ``weight``
    is initially small, so that the maps do not grow along a chain of layers.

    Parameters
    ----------
    ndim, maps_in, maps_out : int
    adds_input : bool
        Whether the input is added; `maps_in` and `maps_out` must then be equal.
    """

    filters: torch.Tensor

    def __init__(
        self, ndim: int, maps_in: int, maps_out: int, *, adds_input: bool = False
    ) -> None:
        super().__init__()
        kernel, wide = (3,) * ndim, _WIDENING * min(maps_in, maps_out)
        self.weight = nn.Parameter(torch.empty(maps_out, maps_in, *kernel))
        self.bias = nn.Parameter(torch.zeros(maps_out))
        self.point = nn.Parameter(torch.zeros(maps_out, maps_in))
        self.expand = nn.Parameter(torch.empty(wide, maps_in))
        self.contract = nn.Parameter(torch.zeros(maps_out, wide, *kernel))
        self.edges = nn.Parameter(torch.zeros(ndim + 1, maps_out, maps_in))
        nn.init.kaiming_normal_(self.weight)
        nn.init.kaiming_normal_(self.expand)
        if adds_input:
            with torch.no_grad():
                self.weight.mul_(_INITIAL_GAIN)
        self.register_buffer("filters", edge_filters(ndim).float(), persistent=False)
        self.adds_input = adds_input
        self.ndim = ndim

    def kernel(self) -> torch.Tensor:
        """Return the weights of the convolution that is equivalent to all branches."""
        maps_out, maps_in = self.point.shape
        # Compute in full precision, like the merged weights.
        with torch.autocast(self.weight.device.type, enabled=False):
            wide = torch.einsum("owt,wi->oit", self.contract.flatten(2), self.expand)
            filters = self.filters.to(self.edges.dtype).flatten(1)
            edges = torch.einsum("foi,ft->oit", self.edges, filters)
            point: torch.Tensor = self.point
            if self.adds_input:
                point = point + torch.eye(
                    maps_out, maps_in, dtype=point.dtype, device=point.device
                )
            centre = point.view(maps_out, maps_in, *(1,) * self.ndim)
            centre = functional.pad(centre, (1, 1) * self.ndim)
            return self.weight + (wide + edges).view_as(self.weight) + centre

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to ``(N, maps_in, …)``, with zero padding."""
        conv = functional.conv3d if self.ndim == 3 else functional.conv2d
        return conv(x, self.kernel(), self.bias, padding=1)

    def merged(self) -> nn.Module:
        """Return the equivalent plain convolution."""
        maps_out, maps_in = self.point.shape
        conv = nn.Conv3d if self.ndim == 3 else nn.Conv2d
        plain = conv(maps_in, maps_out, 3, padding=1)
        plain.to(self.weight.device, self.weight.dtype)
        with torch.no_grad():
            plain.weight.copy_(self.kernel())
            assert plain.bias is not None
            plain.bias.copy_(self.bias)
        return plain


class NetworkConfig(UpscalingConfig):
    """Settings of a network of layers with several branches."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"

    features: int = Field(16, ge=1, le=256)
    """Number of feature maps of the trunk."""
    blocks: int = Field(8, ge=1, le=64)
    """Number of layers of the trunk."""
    merged: bool = False
    """Use plain convolutions instead of branches, as in stored models."""


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    n, f, s = config.ndim, config.features, config.upscale_factor
    last = s // 2 ** count_doublings(s)
    layers = [(config.adjacent_slices, f), *[(f, f)] * config.blocks]
    layers += [(f, f * 2**n)] * count_doublings(s) + [(f, last**n)]
    if config.merged:
        count = sum((3**n * a + 1) * b for a, b in layers)
    else:
        count = sum(branch_parameters(n, a, b) for a, b in layers)
    return int(count + config.blocks * f)


class RepSR(UpscalingNetwork):
    """Layers with several branches, sub-voxel upsampling, skip connection.

    The skip connection interpolates the input.
    """

    config: NetworkConfig

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        n, f = config.ndim, config.features
        make, inner = plain_layer(n), plain_layer(n)
        if not config.merged:
            make, inner = _branched(n), _branched(n, adds_input=True)
        self.head = make(config.adjacent_slices, f)
        self.blocks = nn.ModuleList(inner(f, f) for _ in range(config.blocks))
        # One activation after the head, and one after each block but the last.
        self.activations = nn.ModuleList(nn.PReLU(f) for _ in range(config.blocks))
        self._end(make, f, 1 + config.blocks)

    @property
    def remark(self) -> str:
        """Remark about further training; empty for layers with branches."""
        if not self.config.merged:
            return ""
        return (
            "The branches of the model's layers were merged into plain convolutions "
            "when it was saved: training resumes with these equivalent convolutions, "
            "without branches."
        )

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, [Z,] Y, X)`` to ``(N, features, [Z,] Y, X)``."""
        maps: torch.Tensor = self.head(x)
        for activation, block in zip(self.activations, self.blocks, strict=True):
            maps = block(activation(maps))
        return maps

    def merged(self) -> RepSR:
        """Return the equivalent network of plain convolutions (itself if merged)."""
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
    """Build a network of layers with several branches, with initial weights."""
    return RepSR(config)
