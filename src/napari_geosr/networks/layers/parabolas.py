"""Upscaling that preserves the average over each voxel: piecewise parabolas.

A voxel is an average over its volume. Its value is distributed over finer voxels along
a parabola that preserves this average and continues smoothly into the neighbouring
voxels [1]_. Constant values within a voxel would preserve the average as well, but
cause steps.

References
----------
.. [1] Colella, Woodward. The piecewise parabolic method (PPM) for gas-dynamical
   simulations. J. Comput. Phys. 54, 174-201 (1984). doi:10.1016/0021-9991(84)90143-8
"""

from __future__ import annotations

import torch
from torch.nn import functional

from napari_geosr.networks.layers.upsampling import CUBIC_REACH


def parabola_weights(factor: int) -> torch.Tensor:
    """Return the weights ``(factor, 5)`` that distribute block averages along an axis.

    Each value is replaced with a parabola with this average. Its end values follow from
    cubic interpolation of the running sum (fourth order), and the weights are averages
    of the parabola over `factor` sub-voxels. Averaging the result over blocks yields
    the original values exactly; the values of neighbouring blocks do not matter.
    """
    right = torch.tensor([0, -1, 7, 7, -1], dtype=torch.float64) / 12
    left = right.flip(0)
    own = torch.tensor([0, 0, 1, 0, 0], dtype=torch.float64)
    slope, bend = right - left, 6 * own - 3 * (left + right)
    ends = torch.arange(factor + 1, dtype=torch.float64)[:, None] / factor
    running = ends * left + ends**2 / 2 * (slope + bend) - ends**3 / 3 * bend
    return factor * running.diff(dim=0)


def upscaled_by_parabolas(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Upscale ``(N, 1, *spatial)`` by `parabola_weights` along every axis.

    Edge values are repeated beyond the border.
    """
    n = values.ndim - 2
    conv = functional.conv3d if n == 3 else functional.conv2d
    kernel = weights.to(values)
    for axis in range(n):
        shape = [len(weights), 1, *(5 if i == axis else 1 for i in range(n))]
        padded = functional.pad(
            values, one_axis_pads(n, axis, CUBIC_REACH), mode="replicate"
        )
        parts = conv(padded, kernel.reshape(shape))
        # Sub-voxels are channels: move them behind their axis.
        sub = parts.unsqueeze(1).movedim(2, 3 + axis)
        values = sub.flatten(2 + axis, 3 + axis)
    return values


def one_axis_pads(n: int, axis: int, width: int) -> list[int]:
    """Return padding of `width` at both ends of one of `n` axes, in torch's order."""
    return [width if i == axis else 0 for i in reversed(range(n)) for _ in (0, 1)]
