"""The generator of TomoGAN: a U-Net of three levels with few convolutions.

Its layers are those of the table in [1]_. In addition, it supports volumes,
images of any size and an optional skip from input to output.

References
----------
.. [1] Liu et al. TomoGAN: low-dose synchrotron x-ray tomography with generative
   adversarial networks. J. Opt. Soc. Am. A 37, 422-434 (2020).
   doi:10.1364/JOSAA.375595
"""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.core.types import AnyDict
from napari_geosr.networks.layers.planes import PlanesConfig
from napari_geosr.networks.resnet import crop_to, pad_to
from napari_geosr.networks.spec import NetworkSpec

#: Radius of the receptive field, in voxels: 50 at the worst position relative to the
#: strides, rounded up to a multiple of the stride.
_HALO = 56
#: Total stride, in voxels.
_STRIDE = 8


class NetworkConfig(PlanesConfig):
    """Settings of TomoGAN's generator."""

    width_field: ClassVar[str] = "width"
    #: A generator that starts near the identity needs far fewer training steps.
    training_defaults: ClassVar[AnyDict] = {"residual": True}

    width: int = Field(32, ge=1, le=128)
    """Number of feature maps at the first level (paper: 32); two and four times as many
    below."""
    residual: bool = False
    """Add the (centre) input plane to the output, unlike in the paper."""


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    k, w = 3**config.ndim, config.width
    pairs = [(8, w), (w, w), (w, 2 * w), (2 * w, 2 * w), (2 * w, 4 * w)]
    pairs += [(4 * w, 4 * w)] * 2
    pairs += [(8 * w, 2 * w), (2 * w, 2 * w), (4 * w, w), (w, w), (2 * w, w), (w, w)]
    ends = (config.adjacent_slices + 1) * 8 + (w + 1) * 16 + 17
    return ends + sum((k * a + 1) * b for a, b in pairs)


class TomoGAN(nn.Module):
    """Generator of TomoGAN [1]_: max pooling, linear upsampling, no norms."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        n, w = config.ndim, config.width
        conv = nn.Conv3d if n == 3 else nn.Conv2d
        self.pool = nn.MaxPool3d(2) if n == 3 else nn.MaxPool2d(2)

        def box(*channels: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for a, b in itertools.pairwise(channels):
                layers += [conv(a, b, 3, padding=1), nn.ReLU()]
            return nn.Sequential(*layers)

        self.stack = nn.Sequential(conv(config.adjacent_slices, 8, 1), nn.ReLU())
        self.down = nn.ModuleList(
            [box(8, w, w), box(w, 2 * w, 2 * w), box(2 * w, 4 * w, 4 * w)]
        )
        self.middle = box(4 * w, 4 * w)
        self.up = nn.ModuleList(
            [box(8 * w, 2 * w, 2 * w), box(4 * w, w, w), box(2 * w, w, w)]
        )
        self.head = nn.Sequential(conv(w, 16, 1), nn.ReLU(), conv(16, 1, 1))
        self._initialise()
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(_HALO,) * n,
            stride=(_STRIDE,) * n,
            upscale_factor=(1,) * n,
            adjacent_slices=config.adjacent_slices,
        )

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if self.config.residual:
            # Start near zero, not at zero, so that gradients reach all layers from the
            # start.
            last = self.head[-1]
            assert isinstance(last, nn.Conv2d | nn.Conv3d)
            with torch.no_grad():
                last.weight.mul_(0.05)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Restore ``(N, C, [Z,] Y, X)`` to ``(N, 1, [Z,] Y, X)``."""
        maps = self.stack(pad_to(x, _STRIDE))
        skips = []
        for box in self.down:
            maps = box(maps)
            skips.append(maps)
            maps = self.pool(maps)
        maps = self.middle(maps)
        mode = "trilinear" if self.config.ndim == 3 else "bilinear"
        for box in self.up:
            wide = functional.interpolate(
                maps, scale_factor=2, mode=mode, align_corners=False
            )
            maps = box(torch.cat([wide, skips.pop()], dim=1))
        y = crop_to(self.head(maps), x.shape[2:])
        if not self.config.residual:
            return y
        centre = self.config.adjacent_slices // 2
        return y + x[:, centre : centre + 1]


def build(config: NetworkConfig) -> TomoGAN:
    """Build TomoGAN's generator with initial weights."""
    return TomoGAN(config)
