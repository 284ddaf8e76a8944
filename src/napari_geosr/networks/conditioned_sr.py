"""Super-resolution network that uses the scan's noise and agrees with the scan.

Averaged over each voxel of the scan, the result equals the scan, apart from a
correction that is limited by the noise. A result is split into averages over the voxels
and the detail within them (range and null space of averaging [1]_)::

    y = P(x - k σ s(c / (k σ))) + r - P(D(r))

`D` averages over the voxels of the scan, and `P` spreads averages out along parabolas
so that ``D(P(x)) = x``. The network predicts the noise `c` of the averages, which is
limited to `k` times the noise level `σ` [2]_, and the detail `r`. Thus
``D(y) = x - k σ s(…)`` whatever the network predicts, and without noise ``D(y) = x``.

The noise level, its correlation along each axis and, on request, the sharpness of the
scan are inputs of the network [3]_.

References
----------
.. [1] Wang, Yu, Zhang. Zero-shot image restoration using denoising diffusion null-space
   model. ICLR (2023). arXiv:2212.00490
.. [2] Zhang, Zuo, Zhang. FFDNet: toward a fast and flexible solution for CNN-based
   image denoising. IEEE TIP 27, 4608-4622 (2018). doi:10.1109/TIP.2018.2839891
.. [3] Zhang, Zuo, Zhang. Learning a single convolutional super-resolution network for
   multiple degradations. CVPR (2018). doi:10.1109/CVPR.2018.00344
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from napari_geosr.core.noise import Noise
from napari_geosr.core.types import AnyDict
from napari_geosr.networks.layers import noise_map
from napari_geosr.networks.layers.noise_map import NoiseMap, bounded
from napari_geosr.networks.layers.parabolas import (
    parabola_weights,
    upscaled_by_parabolas,
)
from napari_geosr.networks.layers.parts import (
    Part,
    applied,
    convolved_part,
    cut,
    scaled,
    widened,
    within,
)
from napari_geosr.networks.layers.two_layer_block import TwoLayerBlock
from napari_geosr.networks.layers.upsampling import (
    CUBIC_REACH,
    UpscalingConfig,
    pixel_shuffle,
)
from napari_geosr.networks.resnet import crop_to, pad_to
from napari_geosr.networks.spec import NetworkSpec

#: Input channels in addition to grey values: noise level, and noise correlation along
#: Z, Y and X.
NOISE_CHANNELS = 1 + len(noise_map.AXES)
#: Sharpness given to the network if that of the scan is unknown.
UNKNOWN_SHARPNESS = 0.0


class NetworkConfig(UpscalingConfig):
    """Settings of a super-resolution network that uses the noise of the scan."""

    layers_field: ClassVar[str] = "blocks"
    width_field: ClassVar[str] = "features"
    training_defaults: ClassVar[AnyDict] = {}

    features: int = Field(24, ge=2, le=256)
    """Number of feature maps on the grid of the scan; on the grid with half the
    resolution, there are twice as many."""
    blocks: int = Field(2, ge=1, le=16)
    """Number of residual blocks before and after the branch at half the resolution."""
    coarse_blocks: int = Field(1, ge=1, le=16)
    """Number of residual blocks at half the resolution."""
    bound: float = Field(4.0, gt=0, le=20)
    """Largest change of the average over a voxel of the scan, as a multiple of the
    noise level."""
    sharpness: bool = False
    """Whether the sharpness of the scan is an input. `napari-geosr train` does not
    provide it."""

    @property
    def channels(self) -> int:
        """Number of input channels of the first layer."""
        return self.adjacent_slices + NOISE_CHANNELS + int(self.sharpness)


def parameter_count(config: NetworkConfig) -> int:
    """Return the number of parameters, computed from a closed formula."""
    n, k, f = config.ndim, 3**config.ndim, config.features
    merged = 2**n
    head = (k * config.channels + 1) * f
    block = 2 * (k * f + 1) * f
    coarse = 2 * (k * 2 * f + 1) * 2 * f
    down = (merged * f + 1) * 2 * f
    up = (2 * f + 1) * merged * f
    tail = (k * f + 1) * (config.upscale_factor**n + 1)
    blocks = 2 * config.blocks * block + config.coarse_blocks * coarse
    return head + blocks + down + up + tail


class ConditionedSR(nn.Module):
    """A network that predicts detail, and noise of the averages within a bound.

    Attributes
    ----------
    between_strips : callable or None
        Called between the layers; may raise to cancel the run.
    """

    #: `set_noise` must be called before a restoration.
    needs_noise = True
    #: Results agree with the scan and are not sharper, so neither a data-consistency
    #: layer nor a measurement of their sharpness is needed.
    is_as_sharp_as_scan = True

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.between_strips: Callable[[], None] | None = None
        self.noise = NoiseMap()
        self._sharpness = UNKNOWN_SHARPNESS
        n, f = config.ndim, config.features
        conv = nn.Conv3d if n == 3 else nn.Conv2d
        self.head = conv(config.channels, f, 3, padding=1)
        self.before = nn.Sequential(
            *(TwoLayerBlock(conv, f) for _ in range(config.blocks))
        )
        self.down = conv(f, 2 * f, 2, stride=2)
        self.coarse = nn.Sequential(
            *(TwoLayerBlock(conv, 2 * f) for _ in range(config.coarse_blocks))
        )
        self.up = conv(2 * f, 2**n * f, 1)
        self.after = nn.Sequential(
            *(TwoLayerBlock(conv, f) for _ in range(config.blocks))
        )
        self.tail = conv(f, config.upscale_factor**n + 1, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)
        self._weights = parabola_weights(config.upscale_factor)
        # The reach is the sum of the reaches of the tail and the last blocks, of the
        # coarse blocks (plus one, because a coarse voxel is two voxels wide), and of
        # the first blocks, the head and the noise level. Averaging the detail and
        # spreading it out extends the reach further.
        reach = 1 + 2 * config.blocks
        reach += 1 + 2 * 2 * config.coarse_blocks
        reach += 2 * config.blocks + 1 + noise_map.REACH
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(reach + CUBIC_REACH,) * n,
            stride=(2,) * n,
            upscale_factor=(config.upscale_factor,) * n,
            adjacent_slices=config.adjacent_slices,
        )

    def set_noise(self, noise: Noise) -> None:
        """Set the noise of a scan, on the network's grey scale."""
        self.noise.set_noise(noise)

    def set_scan_sharpness(self, sharpness: float | None) -> None:
        """Set the sharpness of the scan; None if it is unknown.

        It is measured by `napari_geosr.measure.resolution.edge_sharpness`.
        """
        self._sharpness = UNKNOWN_SHARPNESS if sharpness is None else sharpness

    def forward(
        self,
        x: torch.Tensor,
        level: torch.Tensor | None = None,
        correlation: torch.Tensor | None = None,
        sharpness: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Upscale ``(N, C, [Z,] Y, X)`` to ``(N, 1, [s·Z,] s·Y, s·X)``.

        Parameters
        ----------
        level : Tensor of shape (N, 1, [Z,] Y, X), optional
            Standard deviation of the noise at every voxel; by default, as set by
            `set_noise`.
        correlation : Tensor of shape (N, 3), optional
            Noise correlation of adjacent voxels along Z, Y and X; by default, as set by
            `set_noise`.
        sharpness : Tensor of shape (N, 1), optional
            Sharpness of the scan; by default, as set by `set_scan_sharpness`.
        """
        given, level = self._given(x, level, correlation, sharpness)
        found = crop_to(self._predicted(pad_to(given, 2)), x.shape[2:])
        averages, detail = self._split(x, level, found)
        fine = pixel_shuffle(detail, self.config.upscale_factor)
        return fine + upscaled_by_parabolas(averages, self._weights)

    def restore_core(self, x: torch.Tensor, core: Part) -> torch.Tensor:
        """Compute a part of the output of `forward` without computing all of it.

        Parameters
        ----------
        x : Tensor of shape (N, C, [Z,] Y, X)
        core : tuple of slice
            The part in output voxels, with a slice for each spatial axis.
        """
        factor, shape = self.config.upscale_factor, x.shape[2:]
        inner = tuple(slice(p.start // factor, -(-p.stop // factor)) for p in core)
        near = widened(inner, CUBIC_REACH, shape)
        given, level = self._given(x, None, None, None)
        found = self._predicted_part(pad_to(given, 2), near)
        averages, detail = self._split(cut(x, near), cut(level, near), found)
        self.pause()
        fine = pixel_shuffle(cut(detail, within(inner, near)), factor)
        spread = upscaled_by_parabolas(averages, self._weights)
        fine = fine + cut(spread, within(scaled(inner, factor), scaled(near, factor)))
        return cut(fine, within(core, scaled(inner, factor)))

    def pause(self) -> None:
        """Call `between_strips`, which may cancel the run."""
        if self.between_strips is not None:
            self.between_strips()

    def _given(
        self,
        x: torch.Tensor,
        level: torch.Tensor | None,
        correlation: torch.Tensor | None,
        sharpness: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the input of the first layer, and the noise level at every voxel."""
        if level is None:
            level = self.noise(x)
        if correlation is None:
            correlation = self.noise.correlation.to(x.dtype).expand(x.shape[0], 3)
        told = correlation
        if self.config.sharpness:
            if sharpness is None:
                sharpness = torch.full_like(correlation[:, :1], self._sharpness)
            told = torch.cat([correlation, sharpness], 1)
        told = told.view(*told.shape, *(1,) * (x.ndim - 2))
        told = told.expand(-1, -1, *x.shape[2:])
        return torch.cat([x, level, told], 1), level

    def _split(
        self, x: torch.Tensor, level: torch.Tensor, found: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the averages to spread out, and the sub-voxels to add to them."""
        centre = self.config.adjacent_slices // 2
        scan = x[:, centre : centre + 1]
        # Reduced precision would break the agreement with the scan.
        with torch.autocast(x.device.type, enabled=False):
            found, level = found.to(scan.dtype), level.to(scan.dtype)
            change, detail = found[:, :1], found[:, 1:]
            averages = bounded(scan, level * change, level, self.config.bound)
            return averages - detail.mean(1, keepdim=True), detail

    def _predicted(self, x: torch.Tensor) -> torch.Tensor:
        """Return the noise of the averages, relative to its level, and the sub-voxels.

        Parameters
        ----------
        x : Tensor of shape (N, C, [Z,] Y, X)
            Input of the first layer; sizes must be even.
        """
        maps = self.before(functional.relu(self.head(_laid_out(x))))
        below = self.coarse(functional.relu(self.down(maps), inplace=True))
        found: torch.Tensor = self.tail(
            self.after(maps + pixel_shuffle(self.up(below), 2))
        )
        return found

    def _predicted_part(self, x: torch.Tensor, part: Part) -> torch.Tensor:
        """Return a part of the output of `_predicted`.

        Each layer computes only what this part depends on.
        """
        x, shape = _laid_out(x), x.shape[2:]
        after = widened(part, 1, shape)
        joined = widened(after, 2 * len(self.after), shape)
        half = tuple(slice(p.start // 2, -(-p.stop // 2)) for p in joined)
        coarse_shape = tuple(n // 2 for n in shape)
        coarse = widened(half, 2 * len(self.coarse), coarse_shape)
        joined = scaled(half, 2)
        whole = tuple(slice(0, n) for n in shape)
        have = widened(scaled(coarse, 2), 2 * len(self.before), shape)
        maps = functional.relu(convolved_part(self.head, x, whole, have))
        maps, have = self._blocks(self.before, maps, have, scaled(coarse, 2), shape)
        below = functional.relu(self.down(maps), inplace=True)
        below, _ = self._blocks(self.coarse, below, coarse, half, coarse_shape)
        above = pixel_shuffle(applied(self.up)(below), 2)
        maps = above + cut(maps, within(joined, have))
        maps, have = self._blocks(self.after, maps, joined, after, shape)
        return convolved_part(self.tail, maps, have, part)

    def _blocks(
        self,
        blocks: nn.Sequential,
        maps: torch.Tensor,
        have: Part,
        part: Part,
        shape: Sequence[int],
    ) -> tuple[torch.Tensor, Part]:
        """Apply blocks to the maps within `have`; return them within `part`."""
        for left in reversed(range(len(blocks))):
            block = blocks[len(blocks) - 1 - left]
            assert isinstance(block, TwoLayerBlock)
            self.pause()
            rest = widened(part, 2 * left, shape)
            need = widened(rest, 1, shape)
            between = convolved_part(block.first, maps, have, need)
            between = functional.relu(between, inplace=True)
            self.pause()
            added = convolved_part(block.second, between, need, rest)
            maps, have = added.add_(cut(maps, within(rest, have))), rest
        return maps, have


def _laid_out(x: torch.Tensor) -> torch.Tensor:
    """Return the tensor in the layout used by oneDNN; ONNX graphs have no layouts."""
    if x.device.type != "cpu" or torch.onnx.is_in_onnx_export():
        return x
    layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=layouts[x.ndim])


def build(config: NetworkConfig) -> ConditionedSR:
    """Build a network that spreads averages out along parabolas until it is trained."""
    return ConditionedSR(config)
