"""Make super-resolution consistent: averaging the result reproduces the scan.

The output of a network must agree with the scan. The average over the fine voxels of
each coarse voxel is compared with that voxel, and the part of the difference that noise
does not explain is added back [1]_ [2]_::

    e  = x - D(y)                    D: blur, then average over blocks
    y' = y + U(e - b(e))             D(U(e)) = e

The difference to add back is computed in two steps. First, the difference `e` is split
into detail and a smooth part, and each is weighted by the fraction of its local power
that exceeds the power of the noise (a local Wiener filter [3]_). Then the remainder is
bounded: ``b(r) = k σ tanh(r / (k σ))``. Thus the averaged result differs from the scan
by less than `k` times the noise level; without noise, the two are equal. If `D`
includes a blur (see `Sharpness`), `U` is not its exact inverse, and both statements
hold only approximately.

`U` distributes a value over its block along a parabola that preserves the average of
the block and continues smoothly into the neighbouring blocks [4]_. Constant values
within a block would preserve the average as well, but cause steps.

References
----------
.. [1] Irani, Peleg. Improving resolution by image registration. CVGIP: Graphical Models
   and Image Processing 53, 231-239 (1991). doi:10.1016/1049-9652(91)90045-L
.. [2] Wang, Yu, Zhang. Zero-shot image restoration using denoising diffusion null-space
   model. ICLR (2023). arXiv:2212.00490
.. [3] Lee. Digital image enhancement and noise filtering by use of local statistics.
   IEEE Trans. PAMI 2, 165-168 (1980). doi:10.1109/TPAMI.1980.4766994
.. [4] Colella, Woodward. The piecewise parabolic method (PPM) for gas-dynamical
   simulations. J. Comput. Phys. 54, 174-201 (1984). doi:10.1016/0021-9991(84)90143-8
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional

from napari_geosr.core.errors import ConfigError
from napari_geosr.networks.layers.parabolas import (
    one_axis_pads,
    parabola_weights,
    upscaled_by_parabolas,
)
from napari_geosr.networks.layers.parts import Part, cut, scaled, widened, within
from napari_geosr.networks.layers.upsampling import CUBIC_REACH

if TYPE_CHECKING:
    from napari_geosr.core.noise import Noise
    from napari_geosr.networks.spec import NetworkSpec

#: Largest difference between the averaged result and the scan, in standard deviations
#: of the noise.
BOUND = 4.0
#: Maximum excess sharpness (standard deviation of a blur), in voxels of the scan; it
#: determines the halo of the layer.
MAX_EXCESS = 0.9
#: Radius at which Gaussian kernels are cut off, in standard deviations.
_TRUNCATE = 3.0
#: Kernel along each axis that yields the smooth part of a difference.
_SMOOTH = (0.25, 0.5, 0.25)
#: Edge length of the window in which local power is measured, in voxels, by number of
#: axes; windows in planes and volumes have about the same number of voxels.
_WINDOW = {2: 5, 3: 3}


@dataclass(frozen=True)
class Sharpness:
    """Sharpness of a network's result relative to that of the scan.

    Attributes
    ----------
    excess : float
        Standard deviation, in voxels of the scan, of the Gaussian blur after which the
        averaged result agrees best with the scan.
    keep : bool
        True: the result is as sharp as the network's output, and `D` includes the blur.
        False: the result is blurred to the sharpness of the scan, and `D` only
        averages.
    """

    excess: float = 0.0
    keep: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.excess <= MAX_EXCESS:
            raise ConfigError(
                "The excess sharpness, given as the standard deviation of a blur, must "
                f"be between 0 and {MAX_EXCESS} voxels of the scan, not "
                f"{self.excess:g}."
            )


class ConsistentUpscaling(nn.Module):
    """An upscaling network followed by a data-consistency layer.

    Parameters
    ----------
    network : nn.Module
        Network with a `NetworkSpec`, one output and the same factor along all axes.
    bound : float
        The bound `k`, in standard deviations of the noise.

    Raises
    ------
    ConfigError
        If the network is not for super-resolution, or has several outputs.

    Notes
    -----
    Before a scan is restored, its noise (`set_noise`) and the sharpness of the
    network's output (`set_sharpness`) must be set to the same values for all tiles. By
    default, the scan is treated as free of noise and as sharp as the output.
    """

    needs_noise = True

    def __init__(self, network: nn.Module, bound: float = BOUND) -> None:
        super().__init__()
        inner = cast("NetworkSpec", network.spec)
        factors = set(inner.upscale_factor)
        if len(factors) != 1 or max(factors) < 2 or inner.n_outputs != 1:
            raise ConfigError(
                "Data consistency needs a network with one output and the same "
                f"upscale factor along all axes, not {inner.upscale_factor}."
            )
        if not bound > 0:
            raise ConfigError(
                "The largest allowed difference from the scan must be above 0."
            )
        self.network, self.bound, self.sharpness = network, bound, Sharpness()
        self.factor = max(factors)
        self._ndim = len(inner.axes)
        self._middle = inner.adjacent_slices // 2
        self._weights = parabola_weights(self.factor)
        self._greys: tuple[float, ...] = (0.0,)
        self._levels: tuple[float, ...] = (0.0,)
        self._parts = (0.0, 0.0)
        self._margin = 1.0
        reach = (
            math.ceil(math.ceil(_TRUNCATE * MAX_EXCESS * self.factor) / self.factor)
            + 1  # reach of the smooth part
            + _WINDOW[self._ndim] // 2
            + CUBIC_REACH
        )
        self.spec = replace(inner, halo=tuple(h + reach for h in inner.halo))
        self.eval()

    def set_sharpness(self, sharpness: Sharpness) -> None:
        """Set the sharpness of the network's result relative to the scan."""
        self.sharpness = sharpness

    def set_noise(self, noise: Noise) -> None:
        """Set the noise of the scan, on the network's grey scale.

        Correlation along axes that the network does not work on is ignored.
        """
        own = getattr(self.network, "set_noise", None)
        if own is not None:
            own(noise)
        along = [
            max(0.0, noise.correlation.get(a.lower(), 0.0)) for a in self.spec.axes
        ]
        self._greys, self._levels = noise.greys, noise.levels
        self._parts = _noise_of_parts(along)
        independent = _WINDOW[self._ndim] ** self._ndim
        for rho in along:
            independent *= (1 - rho**2) / (1 + rho**2)
        # One plus the standard deviation of the mean square of noise in a window with
        # this many independent voxels.
        self._margin = 1.0 + math.sqrt(2.0 / max(1.0, independent))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upscale ``(N, C, [Z,] Y, X)`` to ``(N, 1, [s·Z,] s·Y, s·X)``."""
        y: torch.Tensor = self.network(x)
        scan = x[:, self._middle : self._middle + 1]
        # Reduced precision would break the consistency.
        with torch.autocast(x.device.type, enabled=False):
            y, back = self._compared(y.to(scan.dtype), scan)
            return y + upscaled_by_parabolas(back, self._weights)

    def restore_core(self, x: torch.Tensor, core: Part) -> torch.Tensor:
        """Compute a part of the output of `forward` without computing all of it.

        Parameters
        ----------
        x : Tensor of shape (N, C, [Z,] Y, X)
        core : tuple of slice
            The part in output voxels, with a slice for each spatial axis.
        """
        shape, factor = x.shape[2:], self.factor
        inner = tuple(slice(p.start // factor, -(-p.stop // factor)) for p in core)
        blur = math.ceil(_reach(self.sharpness.excess * factor) / factor)
        near = widened(inner, CUBIC_REACH, shape)
        # The smooth part reaches one voxel further.
        seen = widened(near, 1 + _WINDOW[self._ndim] // 2 + blur, shape)
        fine = scaled(seen, factor)
        restore_core = getattr(self.network, "restore_core", None)
        if restore_core is None:
            y = cut(self.network(x), fine)
        else:
            y = restore_core(x, fine)
        scan = cut(x[:, self._middle : self._middle + 1], seen)
        with torch.autocast(x.device.type, enabled=False):
            y, back = self._compared(y.to(scan.dtype), scan)
            added = upscaled_by_parabolas(cut(back, within(near, seen)), self._weights)
            return cut(y, within(core, fine)) + cut(
                added, within(core, scaled(near, factor))
            )

    def _compared(
        self, y: torch.Tensor, scan: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the result at the chosen sharpness, and the difference to add back."""
        width = self.sharpness.excess * self.factor
        if self.sharpness.keep:
            seen = self.averaged(blurred(y, width))
        else:
            y = blurred(y, width)
            seen = self.averaged(y)
        return y, self._unexplained_part(scan - seen, self._level(seen))

    def averaged(self, y: torch.Tensor) -> torch.Tensor:
        """Return the means over the fine voxels of each coarse voxel."""
        pool = functional.avg_pool3d if self._ndim == 3 else functional.avg_pool2d
        return pool(y, self.factor)

    def _level(self, grey: torch.Tensor) -> torch.Tensor:
        """Return the standard deviation of the noise at these grey values."""
        level = torch.full_like(grey, self._levels[0])
        for a, b, low, high in zip(
            self._greys, self._greys[1:], self._levels, self._levels[1:], strict=False
        ):
            level += (grey.clamp(a, b) - a) * ((high - low) / (b - a))
        return level

    def _unexplained_part(self, e: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Return the part of a difference that noise of this level does not explain."""
        if max(self._levels) == 0:
            return e
        smooth = _smoothed(e)
        fine, coarse = (level * part for part in self._parts)
        back = self._wiener_weighted(e - smooth, fine) + self._wiener_weighted(
            smooth, coarse
        )
        rest = e - back
        most = self.bound * level
        tiny = torch.finfo(e.dtype).tiny
        return e - most * torch.tanh(rest / most.clamp_min(tiny))

    def _wiener_weighted(self, part: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Weight a part by the fraction of its local power that exceeds the noise."""
        edge = _WINDOW[self._ndim]
        pool = functional.avg_pool3d if self._ndim == 3 else functional.avg_pool2d
        padded = _replicated(part.square(), edge // 2)
        power = pool(padded, edge, 1)
        excess = (power - self._margin * level.square()).clamp_min(0)
        return part * (excess / power.clamp_min(torch.finfo(part.dtype).tiny))


def _reach(width: float) -> int:
    """Return the radius of a Gaussian filter of this standard deviation."""
    return math.ceil(_TRUNCATE * width) if width else 0


def blurred(y: torch.Tensor, width: float) -> torch.Tensor:
    """Apply a Gaussian filter to ``(N, 1, [Z,] Y, X)``; repeats edge values outside.

    Parameters
    ----------
    width : float
        Standard deviation along every axis, in voxels of `y`.
    """
    reach = _reach(width)
    if not reach:
        return y
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (places / width).square())
    return _filtered(y, (weights / weights.sum()).tolist())


def _filtered(y: torch.Tensor, weights: Sequence[float]) -> torch.Tensor:
    """Apply the same filter, with an odd number of weights, along every axis.

    Adding shifted copies is several times faster than a convolution of one map.
    """
    reach = len(weights) // 2
    for axis in range(2, y.ndim):
        n = y.shape[axis]
        pads = one_axis_pads(y.ndim - 2, axis - 2, reach)
        padded = functional.pad(y, pads, mode="replicate")
        y = torch.zeros_like(y)
        for i, weight in enumerate(weights):
            y.add_(padded.narrow(axis, i, n), alpha=weight)
    return y


def _smoothed(e: torch.Tensor) -> torch.Tensor:
    return _filtered(e, _SMOOTH)


def _replicated(e: torch.Tensor, width: int) -> torch.Tensor:
    return functional.pad(e, (width,) * (2 * (e.ndim - 2)), mode="replicate")


def _noise_of_parts(along: Sequence[float]) -> tuple[float, float]:
    """Return the noise levels of the detail and the smooth part, relative to the total.

    Parameters
    ----------
    along : sequence of float
        Correlation of adjacent voxels along each axis; it is assumed to fall by the
        same factor with every further voxel.
    """
    side, centre, _ = _SMOOTH
    smooth = both = 1.0
    for rho in along:
        smooth *= 2 * side**2 * (1 + rho**2) + centre**2 + 4 * side * centre * rho
        both *= centre + 2 * side * rho
    return math.sqrt(max(0.0, 1 + smooth - 2 * both)), math.sqrt(smooth)
