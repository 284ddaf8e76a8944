"""Compute parts of a network's output without computing the whole window.

A tile is restored from a window with a halo. After each layer, less of the halo is
needed; a network that discards the excess takes half the time for a thin tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

#: A slice for each spatial axis, in voxels of the window.
Part = tuple[slice, ...]
_HAS_MKLDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def cut(maps: torch.Tensor, part: Sequence[slice]) -> torch.Tensor:
    """Return a part of ``(..., [Z,] Y, X)``, as a view."""
    for axis, piece in enumerate(part, -len(part)):
        maps = maps.narrow(axis, piece.start, piece.stop - piece.start)
    return maps


def widened(part: Part, by: int, shape: Sequence[int]) -> Part:
    """Widen the part by up to `by` voxels on each side, within the window."""
    return tuple(
        slice(max(0, piece.start - by), min(size, piece.stop + by))
        for piece, size in zip(part, shape, strict=True)
    )


def within(part: Part, region: Part) -> Part:
    """Return the same part, relative to the start of a region."""
    return tuple(
        slice(piece.start - start.start, piece.stop - start.start)
        for piece, start in zip(part, region, strict=True)
    )


def scaled(part: Part, factor: int) -> Part:
    """Convert the part to voxels of a grid that is finer by the given factor."""
    return tuple(slice(p.start * factor, p.stop * factor) for p in part)


def convolved(
    maps: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, pad: list[int]
) -> torch.Tensor:
    """Convolve ``(N, C, [Z,] Y, X)``; beyond the edges, values count as zero.

    On a CPU, torch chooses a slow algorithm for maps of few planes or a single channel,
    so oneDNN is called directly there.

    Parameters
    ----------
    maps, weight, bias : Tensor
        As for ``torch.nn.functional.conv3d``.
    pad : list of int
        Number of zeros on each side, for each axis.
    """
    n = len(pad)
    if (
        n == 3
        and maps.device.type == "cpu"
        and maps.dtype == weight.dtype == torch.float32
        and _HAS_MKLDNN
        and not torch.is_grad_enabled()
    ):
        ones = [1] * n
        return torch.mkldnn_convolution(maps, weight, bias, pad, ones, ones, 1)
    convolve = functional.conv3d if n == 3 else functional.conv2d
    return convolve(maps, weight, bias, padding=tuple(pad))


def applied(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the layer as a function; convolutions (of stride 1) use `convolved`."""
    if not isinstance(layer, nn.Conv2d | nn.Conv3d):
        return layer
    conv = layer

    def apply(maps: torch.Tensor) -> torch.Tensor:
        pad = [int(p) for p in conv.padding]
        return convolved(maps, conv.weight, conv.bias, pad)

    return apply


def convolved_part(
    layer: nn.Module, maps: torch.Tensor, have: Part, need: Part
) -> torch.Tensor:
    """Compute a part of a layer's output from the maps around it.

    Parameters
    ----------
    layer : Conv2d or Conv3d
        Convolution of 3ⁿ voxels that keeps the grid.
    maps : Tensor of shape (N, C, [Z,] Y, X)
        The layer's input within `have`.
    have : tuple of slice
        Contains `need` and one more voxel on each side, except where the window ends.
    need : tuple of slice
        The part to compute.

    Returns
    -------
    Tensor
        The layer's output within `need`.
    """
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, torch.Tensor)
    assert isinstance(bias, torch.Tensor)
    around = tuple(
        slice(max(h.start, n.start - 1), min(h.stop, n.stop + 1))
        for h, n in zip(have, need, strict=True)
    )
    # The convolution adds zeros on both sides of an axis, even if the window ends on
    # one side only; the excess voxels are cut off below.
    pad = [
        1 - min(n.start - a.start, a.stop - n.stop)
        for a, n in zip(around, need, strict=True)
    ]
    found = convolved(cut(maps, within(around, have)), weight, bias, pad)
    covered = tuple(
        slice(a.start + 1 - p, a.stop - 1 + p) for a, p in zip(around, pad, strict=True)
    )
    return cut(found, within(need, covered))
