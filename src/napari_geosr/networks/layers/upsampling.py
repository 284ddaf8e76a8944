"""Upsampling shared by super-resolution networks.

The trunk works on the coarse grid, where computation is cheap. The sub-voxels are
computed as channels of a final convolution (pixel shuffle), and the cubically
interpolated input is added, so that an untrained network interpolates.

A factor of 8 is reached in two steps: all maps are first upsampled by 2, and the result
by 4, because a last convolution to 8ⁿ sub-voxels would contain most of the network's
weights.

References
----------
.. [1] Shi et al. Real-time single image and video super-resolution using an efficient
   sub-pixel convolutional neural network. CVPR (2016). doi:10.1109/CVPR.2016.207
.. [2] Aitken et al. Checkerboard artifact free sub-pixel convolution (2017).
   arXiv:1707.02937
.. [3] Keys. Cubic convolution interpolation for digital image processing.
   IEEE Trans. ASSP 29, 1153-1160 (1981). doi:10.1109/TASSP.1981.1163711
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from napari_geosr.networks.layers.parts import (
    Part,
    applied,
    convolved,
    cut,
    scaled,
    widened,
    within,
)
from napari_geosr.networks.layers.planes import PlanesConfig
from napari_geosr.networks.spec import NetworkSpec

#: Function that makes a layer from its numbers of input and output maps; the layer
#: preserves the grid.
MakeLayer = Callable[[int, int], nn.Module]
#: Function that convolves maps with weights, without padding.
Convolve = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
#: Anything that maps tensors to tensors, such as a layer.
Apply = Callable[[torch.Tensor], torch.Tensor]

#: Reach of cubic interpolation on either side, in voxels.
CUBIC_REACH = 2
#: Maximum factor by which the last layer enlarges each axis; for larger factors, all
#: maps are first enlarged by 2, once or several times.
_MAX_SHUFFLE_FACTOR = 4


class UpscalingConfig(PlanesConfig):
    """Shared settings of super-resolution networks."""

    ndim: Literal[2, 3] = 3
    """Planes (2) or volumes (3)."""
    upscale_factor: Literal[2, 4, 8] = 2
    """Output voxels per input voxel along every axis on which the network works."""


def count_doublings(factor: int) -> int:
    """Return how many times all maps are upsampled by 2 before the last step."""
    n = 0
    while factor > _MAX_SHUFFLE_FACTOR:
        factor, n = factor // 2, n + 1
    return n


def pixel_shuffle(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Rearrange ``(N, C · factorⁿ, *spatial)`` to ``(N, C, *factor · spatial)``.

    Works for any number of axes; channels are nested in the order C, Z, Y, X.
    """
    n, channels, *spatial = x.shape
    axes = len(spatial)
    if axes == 2:
        return functional.pixel_shuffle(x, factor)
    c = channels // factor**axes
    x = x.reshape(n, c, *(factor,) * axes, *spatial)
    order = [p for i in range(axes) for p in (2 + axes + i, 2 + i)]
    return x.permute(0, 1, *order).reshape(n, c, *(factor * m for m in spatial))


def cubic_kernel(factor: int, ndim: int) -> torch.Tensor:
    """Return weights ``(factorⁿ, 1, 5, …)`` of cubic interpolation at sub-voxels.

    The kernel is Keys' cubic with a = -1/2 [3]_, which reproduces ramps and parabolas.
    Sub-voxel i of a voxel lies at ``(i + 1/2) / factor - 1/2``, so that outer edges do
    not move.
    """
    places = (torch.arange(factor, dtype=torch.float64) + 0.5) / factor - 0.5
    reach = torch.arange(-CUBIC_REACH, CUBIC_REACH + 1, dtype=torch.float64)
    d = (places[:, None] - reach).abs()
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    line = torch.where(d <= 1, near, torch.where(d < 2, far, torch.zeros_like(d)))
    kernel = line
    for _ in range(ndim - 1):
        kernel = torch.einsum("a...,bx->ab...x", kernel, line).flatten(0, 1)
    return kernel.unsqueeze(1)


def interpolated(
    x: torch.Tensor,
    kernel: torch.Tensor,
    factor: int,
    convolve: Convolve | None = None,
) -> torch.Tensor:
    """Interpolate ``(N, C, *spatial)`` on the fine grid with a `cubic_kernel`.

    Edge values are repeated beyond the border. By default, torch's own convolution is
    used, which can be exported.
    """
    n, channels, *spatial = x.shape
    padded = functional.pad(
        x, (CUBIC_REACH,) * (2 * len(spatial)), mode="replicate"
    ).reshape(n * channels, 1, *(m + 2 * CUBIC_REACH for m in spatial))
    conv = convolve
    if conv is None:
        conv = functional.conv3d if len(spatial) == 3 else functional.conv2d
    # Reduced precision would lose the last bits of the grey values.
    with torch.autocast(x.device.type, enabled=False):
        fine = conv(padded, kernel.to(x.dtype))
    shuffled = pixel_shuffle(fine, factor)
    return shuffled.reshape(n, channels, *shuffled.shape[2:])


def initialise_icnr(weight: torch.Tensor, factor: int, gain: float = 0.1) -> None:
    """Initialise `weight` so that all sub-voxels of a voxel are equal (ICNR [2]_)."""
    n_sub = factor ** (weight.ndim - 2)
    kernel = torch.empty(weight.shape[0] // n_sub, *weight.shape[1:])
    nn.init.kaiming_normal_(kernel)
    with torch.no_grad():
        weight.copy_(gain * kernel.repeat_interleave(n_sub, dim=0))


def sized_layer(ndim: int, size: int) -> MakeLayer:
    """Return a factory for size-preserving convolutions with an odd kernel `size`."""
    conv = nn.Conv3d if ndim == 3 else nn.Conv2d

    def make(maps_in: int, maps_out: int) -> nn.Module:
        return conv(maps_in, maps_out, size, padding=size // 2)

    return make


def plain_layer(ndim: int) -> MakeLayer:
    """Return a factory for size-preserving convolutions of 3ⁿ voxels."""
    return sized_layer(ndim, 3)


def pointwise_layer(ndim: int) -> MakeLayer:
    """Return a factory for pointwise (1ⁿ) convolutions."""
    conv = nn.Conv3d if ndim == 3 else nn.Conv2d

    def make(maps_in: int, maps_out: int) -> nn.Module:
        return conv(maps_in, maps_out, 1)

    return make


def make_end(
    make: MakeLayer, ndim: int, features: int, factor: int, n_doublings: int
) -> tuple[nn.ModuleList, nn.Module]:
    """Make the layers that upsample `features` maps to an image.

    Their ``weight`` and ``bias`` are initialised so that sub-voxels are equal.

    Returns
    -------
    stages : ModuleList
        One layer for each upsampling of all maps by a factor of 2.
    tail : Module
        Computes the remaining sub-voxels as channels.
    """
    last = factor // 2**n_doublings
    stages = nn.ModuleList(
        make(features, features * 2**ndim) for _ in range(n_doublings)
    )
    tail = make(features, last**ndim)
    for layer, step, gain in (*((s, 2, 1.0) for s in stages), (tail, last, 0.1)):
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, torch.Tensor)
        assert isinstance(bias, torch.Tensor)
        nn.init.zeros_(bias)
        initialise_icnr(weight, step, gain)
    return stages, tail


def enlarged(
    maps: torch.Tensor,
    stages: Iterable[Apply],
    tail: Apply,
    factor: int,
) -> torch.Tensor:
    """Run the layers of `make_end`: ``(N, features, …)`` to ``(N, 1, …)``."""
    for stage in stages:
        maps, factor = pixel_shuffle(stage(functional.relu(maps)), 2), factor // 2
    return pixel_shuffle(tail(functional.relu(maps)), factor)


def end_reach(n_doublings: int) -> int:
    """Return the maximum reach of the layers of `make_end`, in coarse voxels.

    After upsampling by 2, the neighbour of a voxel is at most one coarse voxel away.
    """
    low = -1
    for _ in range(n_doublings):
        low = low // 2 - 1
    return -low


def end_parameters(ndim: int, features: int, factor: int, n_doublings: int) -> int:
    """Return the number of parameters of the layers of `make_end`, if unbranched."""
    k, last = 3**ndim, factor // 2**n_doublings
    layer = k * features + 1
    return int(layer * (n_doublings * features * 2**ndim + last**ndim))


class UpscalingNetwork(nn.Module):
    """A trunk on the coarse grid, sub-voxel upsampling and a skip connection.

    The skip connection interpolates the input.

    A subclass builds its trunk, then calls `_end`, and defines `trunk`.

    Attributes
    ----------
    between_strips : callable or None
        Called between the layers in `restore_core`; may raise to cancel the run.
    """

    kernel: torch.Tensor
    stages: nn.ModuleList
    tail: nn.Module
    spec: NetworkSpec

    def __init__(self, config: UpscalingConfig) -> None:
        super().__init__()
        self.config = config
        self.between_strips: Callable[[], None] | None = None

    def _end(
        self, make: MakeLayer, features: int, reach: int, end: int | None = None
    ) -> None:
        """Add the layers after a trunk with `features` maps and the given reach.

        `end` is the additional reach of the layers made by `make`; by default that of
        convolutions of 3ⁿ voxels.
        """
        config = self.config
        n, s = config.ndim, config.upscale_factor
        self._end_reach = end_reach(count_doublings(s)) if end is None else end
        reach += self._end_reach
        self.stages, self.tail = make_end(make, n, features, s, count_doublings(s))
        self.register_buffer("kernel", cubic_kernel(s, n).float(), persistent=False)
        self.spec = NetworkSpec(
            axes="ZYX"[-n:],
            halo=(max(CUBIC_REACH, reach),) * n,
            stride=(1,) * n,
            upscale_factor=(s,) * n,
            adjacent_slices=config.adjacent_slices,
            minimum_size=(1,) * n,
        )

    def trunk(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(N, C, [Z,] Y, X)`` to ``(N, features, [Z,] Y, X)``."""
        raise NotImplementedError

    def trunk_part(self, x: torch.Tensor, part: Part) -> torch.Tensor:
        """Return part of the trunk's output; subclasses may compute only this part."""
        return cut(self.trunk(x), part)

    def pause(self) -> None:
        """Call `between_strips`, which may cancel the run."""
        if self.between_strips is not None:
            self.between_strips()

    def interpolate(
        self, x: torch.Tensor, convolve: Convolve | None = None
    ) -> torch.Tensor:
        """Interpolate the centre plane cubically to the fine grid."""
        centre = self.config.adjacent_slices // 2
        plane = x[:, centre : centre + 1]
        return interpolated(plane, self.kernel, self.config.upscale_factor, convolve)

    def restore_core(self, x: torch.Tensor, core: Part) -> torch.Tensor:
        """Compute a part of the output of `forward`, and few voxels outside this part.

        Parameters
        ----------
        x : Tensor of shape (N, C, [Z,] Y, X)
        core : tuple of slice
            The part to compute in output voxels, as a slice for each spatial axis.
        """
        factor, shape = self.config.upscale_factor, x.shape[2:]
        inner = tuple(slice(p.start // factor, -(-p.stop // factor)) for p in core)
        near = widened(inner, self._end_reach, shape)
        maps = self.trunk_part(x, near)
        self.pause()
        stages = [applied(stage) for stage in self.stages]
        detail = enlarged(maps, stages, applied(self.tail), factor)
        self.pause()
        around = widened(inner, CUBIC_REACH, shape)
        smooth = self.interpolate(
            cut(x, around), lambda m, w: convolved(m, w, None, [0] * len(shape))
        )
        return cut(detail, within(core, scaled(near, factor))) + cut(
            smooth, within(core, scaled(around, factor))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upscale ``(N, C, [Z,] Y, X)`` to ``(N, 1, [s·Z,] s·Y, s·X)``.

        If the input has neighbouring planes (C > 1), the middle plane is upscaled.
        """
        factor = self.config.upscale_factor
        detail = enlarged(self.trunk(x), self.stages, self.tail, factor)
        return self.interpolate(x) + detail
