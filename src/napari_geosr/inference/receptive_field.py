"""Find the receptive field of a network by tracing a NaN through it.

Gradients underestimate the receptive field (dead ReLUs, maxima), whereas a NaN passes
through every layer, even if the weights are zero. A plane of NaN across a thin slab
gives the reach along one axis; every phase of the stride is tried. Networks with layers
that depend on the whole input (instance norm, attention, global pooling) or on absolute
position (``align_corners``) are recognised without a list of layer types.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ModelError
from napari_geosr.inference.memory import network_spec
from napari_geosr.inference.tiles.tiling import minimum_window

if TYPE_CHECKING:
    import torch
    from torch import nn

_MAX_WINDOW = 4096
_STRIDES = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64)
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive field and stride of a network, measured by `probe`.

    Attributes
    ----------
    halo : tuple of int
        Reach along the spec's axes, in input voxels; 0 if `local` is False.
    stride : tuple of int
        Smallest shift of the input along each axis that shifts the output by the same
        distance.
    local : bool
        Whether every output voxel depends only on a bounded neighbourhood, at any
        position.
    reason : str
        Explanation for the user if the network is not local; otherwise empty.
    """

    halo: tuple[int, ...]
    stride: tuple[int, ...]
    local: bool
    reason: str = ""


def probe(network: nn.Module, *, longest: int = _MAX_WINDOW) -> ReceptiveField:
    """Probe halo, stride and locality of a network with a `spec`.

    The spec's axes, adjacent slices, upscale factor, stride (for sizes the network
    accepts) and minimum size are taken as given; halo and locality are not.
    The network itself is not changed.

    Parameters
    ----------
    longest : int
        Longest window in voxels: a network that reaches further than half of it counts
        as not local.
    """
    import torch

    spec = network_spec(network)
    copied = copy.deepcopy(network).cpu().double().eval()
    halos, strides = [], []
    with torch.no_grad():
        for axis in range(len(spec.axes)):
            slab = _Slab(copied, axis, longest)
            halo = slab.halo()
            if halo is None:
                return _not_local(
                    spec.axes,
                    f"a voxel affects others more than {longest // 2} voxels away "
                    f"along {spec.axes[axis]} (does the network use statistics of "
                    "the whole image?)",
                )
            stride = slab.stride(halo)
            if stride is None:
                return _not_local(
                    spec.axes,
                    f"results depend on the position along {spec.axes[axis]} "
                    "(does the network interpolate with align_corners?)",
                )
            halos.append(halo)
            strides.append(stride)
    return ReceptiveField(tuple(halos), tuple(strides), local=True)


def check_spec(network: nn.Module) -> ReceptiveField:
    """Raise `ModelError` if a network's spec contradicts the probe.

    A declared halo larger than the probed one, or a declared stride that is a multiple
    of the probed one, is wasteful but correct, and is accepted.
    """
    spec = network_spec(network)
    measured = probe(network)
    name = type(network).__name__
    if spec.local and not measured.local:
        raise ModelError(f"{name} cannot be tiled exactly: {measured.reason}.")
    if not spec.local:
        return measured
    for letter, declared, probed in zip(
        spec.axes, spec.halo, measured.halo, strict=True
    ):
        if declared < probed:
            raise ModelError(
                f"{name} declares a halo of {declared} along {letter}, but voxels up "
                f"to {probed} away affect the result: tiles would show seams."
            )
    for letter, declared, probed in zip(
        spec.axes, spec.stride, measured.stride, strict=True
    ):
        if declared % probed:
            raise ModelError(
                f"{name} declares stride {declared} along {letter}, but has stride "
                f"{probed}."
            )
    return measured


class _Slab:
    """Windows that are long along one axis and thin along the others."""

    def __init__(self, network: nn.Module, axis: int, longest: int) -> None:
        self.network, self.axis, self.longest = network, axis, longest
        self.spec = network_spec(network)
        self.min_size = list(minimum_window(self.spec))
        self.step = self.spec.stride[axis]
        self.scale = self.spec.upscale_factor[axis]

    def noise(self, length: int) -> torch.Tensor:
        """Return the same noise in every call, `length` voxels long along the axis."""
        import torch

        size = list(self.min_size)
        size[self.axis] = length
        generator = torch.Generator().manual_seed(length)
        shape = (1, self.spec.adjacent_slices, *size)
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def round_up(self, length: int) -> int:
        """Round `length` up to a length that the network accepts along the axis."""
        return math.ceil(max(length, self.min_size[self.axis]) / self.step) * self.step

    def halo(self) -> int | None:
        """Find the largest distance at which an input voxel affects an output voxel."""
        declared = self.spec.halo[self.axis] if self.spec.local else 0
        length = self.round_up(2 * declared + 4 * self.step + 9)
        while True:
            reach = self._reach(length)
            if reach is not None:
                return reach
            if length >= self.longest:
                return None
            length = self.round_up(2 * length)

    def _reach(self, length: int) -> int | None:
        """Return the reach in a window of `length`; None if it touches either end."""
        middle = length // 2 // self.step * self.step
        base = self.output(self.noise(length))
        reach = 0
        for phase in range(self.step):
            position = middle + phase
            x = self.noise(length)
            self.plane(x, position).fill_(math.nan)
            # A large value reveals the reach of layers that remove NaN (clamp, where).
            perturbed = self.noise(length)
            self.plane(perturbed, position).add_(1e4)
            changed = self._changed(base, perturbed)
            affected = {*self._nan(x), *changed}
            if not affected:
                continue
            if min(affected) <= 0 or max(affected) >= length - 1:
                return None
            reach = max(reach, position - min(affected), max(affected) - position)
        return reach

    def stride(self, halo: int) -> int | None:
        """Return the smallest input shift that shifts the output equally, or None."""
        for shift in sorted({*_STRIDES, self.step}):
            if self.is_equivariant_to(shift, halo):
                return shift
        return None

    def is_equivariant_to(self, shift: int, halo: int) -> bool:
        """Whether shifting the input by `shift` voxels shifts the output equally."""
        length = self.round_up(2 * halo + 4 * max(shift, self.step) + 9)
        long = self.noise(length + shift)
        here = self.output(long.narrow(2 + self.axis, 0, length))
        there = self.output(long.narrow(2 + self.axis, shift, length))
        # Voxels with their entire neighbourhood inside both windows.
        start, stop = shift + halo + self.step, length - halo - self.step
        n = (stop - start) * self.scale
        if n <= 0:
            return False
        a = here.narrow(2 + self.axis, start * self.scale, n)
        b = there.narrow(2 + self.axis, (start - shift) * self.scale, n)
        return bool((a - b).abs().max() <= _TOLERANCE * max(1.0, float(a.abs().max())))

    def plane(self, x: torch.Tensor, position: int) -> torch.Tensor:
        """Return a view of the plane at `position` along the axis."""
        return x.narrow(2 + self.axis, position, 1)

    def output(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the network for a window."""
        try:
            y: torch.Tensor = self.network(x.contiguous())
        except RuntimeError as error:
            raise ModelError(
                f"{type(self.network).__name__} fails on a window of "
                f"{tuple(x.shape[2:])} voxels, which its spec allows: {error}"
            ) from error
        return y

    def _nan(self, x: torch.Tensor) -> Iterable[int]:
        return self._positions(self.output(x).isnan())

    def _changed(self, base: torch.Tensor, x: torch.Tensor) -> Iterable[int]:
        y = self.output(x)
        # Compare relative to each value, so that rounding errors far from the change do
        # not count.
        return self._positions((y - base).abs() > 1e-12 * (1.0 + base.abs()))

    def _positions(self, mask: torch.Tensor) -> Iterable[int]:
        """Return the input positions along the axis to which masked outputs belong."""
        other = [d for d in range(mask.ndim) if d != 2 + self.axis]
        along = mask.sum(dim=other) > 0
        return {int(i) // self.scale for i in along.nonzero().ravel()}


def _not_local(axes: str, reason: str) -> ReceptiveField:
    nothing = (0,) * len(axes)
    return ReceptiveField(nothing, (1,) * len(axes), local=False, reason=reason)
