"""Densely connected dilated convolutions over one buffer: the core of the MSD-net.

Convolution libraries are inefficient for few output maps. Here, a layer is one matrix
product, which yields the 3ⁿ taps of all its maps at every voxel, followed by 3ⁿ shifted
additions. This gives the same values several times faster. All maps share one buffer
``(maps, N, *spatial)``, which is all that training has to store.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

Slices = tuple[slice, ...]
_ALL = slice(None)

#: Number of products computed at once in inference, so that they fit into the cache.
STRIP_VALUES = 1 << 22


def taps(n_axes: int) -> list[tuple[int, ...]]:
    """Return the offsets of the 3ⁿ kernel elements in the order of the weights."""
    return list(itertools.product((-1, 0, 1), repeat=n_axes))


def _shifted(
    offset: Sequence[int], shape: Sequence[int]
) -> tuple[Slices, Slices] | None:
    """Return the slices that ``out[i] += in[i + offset]`` reads and writes, if any."""
    read, write = [], []
    for o, n in zip(offset, shape, strict=True):
        if abs(o) >= n:
            return None
        read.append(slice(max(o, 0), n + min(o, 0)))
        write.append(slice(max(-o, 0), n - max(o, 0)))
    return tuple(read), tuple(write)


def _shifted_taps(
    dilation: int, spatial: Sequence[int]
) -> Iterator[tuple[int, Slices, Slices]]:
    for t, tap in enumerate(taps(len(spatial))):
        places = _shifted([dilation * o for o in tap], spatial)
        if places is not None:
            read, write = places
            yield t, (_ALL, _ALL, *read), (_ALL, _ALL, *write)


def tap_matrix(weight: torch.Tensor) -> torch.Tensor:
    """Reshape ``(maps_out, maps_in, 3, 3[, 3])`` to a matrix ``(taps · out, in)``."""
    n_out, n_in = weight.shape[:2]
    return weight.reshape(n_out, n_in, -1).permute(2, 0, 1).reshape(-1, n_in)


def add_taps(products: torch.Tensor, out: torch.Tensor, dilation: int) -> None:
    """Add the taps ``(taps, maps, N, *spatial)`` to `out`, shifted by their offsets."""
    for t, read, write in _shifted_taps(dilation, out.shape[2:]):
        out[write] += products[t][read]


def gather_taps(gradient: torch.Tensor, dilation: int) -> torch.Tensor:
    """Apply the transpose of `add_taps`, from ``(maps, N, *spatial)`` to all taps."""
    spatial = gradient.shape[2:]
    out = gradient.new_zeros((3 ** len(spatial), *gradient.shape))
    for t, read, write in _shifted_taps(dilation, spatial):
        out[t][read] = gradient[write]
    return out


class DenseStack(torch.autograd.Function):
    """All hidden layers as one differentiable function that stores one buffer.

    The derivative of the ReLU follows from the sign of its output, so only the buffer
    is saved; the gradient needs another buffer of the same size.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, dilations: tuple[int, ...], *parameters: torch.Tensor
    ) -> torch.Tensor:
        """Map `x` ``(N, c_in, *spatial)`` to ``(c_in + depth · width, N, …)``."""
        weights, biases = parameters[::2], parameters[1::2]
        c_in, width = x.shape[1], weights[0].shape[0]
        n_maps = c_in + width * len(weights)
        buffer = x.new_empty((n_maps, x.shape[0], *x.shape[2:]))
        buffer[:c_in] = x.transpose(0, 1)
        flat = buffer.view(n_maps, -1)
        start = c_in
        for weight, bias, dilation in zip(weights, biases, dilations, strict=True):
            slot = buffer[start : start + width]
            slot.copy_(bias.view(-1, *[1] * (slot.ndim - 1)).expand_as(slot))
            products = tap_matrix(weight.to(x.dtype)) @ flat[:start]
            add_taps(products.view(-1, *slot.shape), slot, dilation)
            slot.relu_()
            start += width
        ctx.save_for_backward(buffer, *weights)
        ctx.dilations, ctx.c_in = dilations, c_in
        return buffer

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        """Process the layers in reverse order; accumulate into one gradient buffer."""
        buffer, *weights = ctx.saved_tensors
        # The caller's gradient may be shared or broadcast: work on a copy.
        gradient = gradients[0].contiguous().clone()
        flat, flat_gradient = buffer.flatten(1), gradient.flatten(1)
        width = weights[0].shape[0]
        n_axes = buffer.ndim - 2
        parameter_gradients: list[torch.Tensor | None] = []
        start = buffer.shape[0]
        for weight, dilation in zip(
            reversed(weights), reversed(ctx.dilations), strict=True
        ):
            start -= width
            slot = slice(start, start + width)
            local = gradient[slot] * (buffer[slot] > 0)
            spread = gather_taps(local, dilation).flatten(2).flatten(0, 1)
            d_weight = (spread @ flat[:start].T).view(3**n_axes, width, start)
            d_weight = d_weight.permute(1, 2, 0).reshape(weight.shape)
            exact = torch.promote_types(local.dtype, torch.float32)
            d_bias = local.flatten(1).sum(1, dtype=exact)
            matrix = tap_matrix(weight.to(buffer.dtype))
            flat_gradient[:start].addmm_(matrix.T, spread)
            parameter_gradients += [d_bias.to(weight.dtype), d_weight.to(weight.dtype)]
        d_x = gradient[: ctx.c_in].transpose(0, 1) if ctx.needs_input_grad[0] else None
        return (d_x, None, *reversed(parameter_gradients))


@torch.no_grad()
def dense_maps(
    x: torch.Tensor,
    dilations: Sequence[int],
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    between_strips: Callable[[], None] | None = None,
) -> torch.Tensor:
    """Return maps ``(c_in + depth · width, *spatial)`` of a sample, without gradients.

    Parameters
    ----------
    x : Tensor of shape (c_in, *spatial)
    dilations, weights, biases
        Dilation, weights and biases of each layer.
    between_strips : callable, optional
        Called before each matrix product.
    """
    return _Inference(x, dilations, weights, biases, between_strips).run()


class _Inference:
    """Computation of the maps; unfinished maps hold partial sums."""

    def __init__(
        self,
        x: torch.Tensor,
        dilations: Sequence[int],
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor],
        between_strips: Callable[[], None] | None,
    ) -> None:
        self.between_strips = between_strips
        self.dilations, self.weights = dilations, weights
        self.c_in, self.width = x.shape[0], weights[0].shape[0]
        n_maps = self.c_in + self.width * len(weights)
        self.maps = x.new_empty((n_maps, *x.shape[1:]))
        self.maps[: self.c_in] = x
        for i, bias in enumerate(biases):
            self.slot(i).copy_(
                bias.view(-1, *[1] * (x.ndim - 1)).expand_as(self.slot(i))
            )
        self.block = max(1, 8 // self.width)

    def slot(self, layer: int) -> torch.Tensor:
        """Return a view of the maps that `layer` computes."""
        start = self.c_in + self.width * layer
        return self.maps[start : start + self.width]

    def run(self) -> torch.Tensor:
        """Compute the layers block by block.

        First, the contributions of all earlier maps to a block are computed in one
        product per strip of rows, which fits into the cache. Then the contributions of
        the layers within the block are added.
        """
        depth = len(self.weights)
        for first in range(0, depth, self.block):
            layers = range(first, min(first + self.block, depth))
            before = self.c_in + self.width * first
            self._add_contributions(layers, 0, before)
            for layer in layers:
                done = self.c_in + self.width * layer
                if done > before:
                    self._add_contributions(range(layer, layer + 1), before, done)
                self.slot(layer).relu_()
        return self.maps

    def _add_contributions(self, layers: range, start: int, stop: int) -> None:
        """Add the contributions of maps start … stop to the sums of `layers`."""
        n_axes = self.maps.ndim - 1
        matrix = torch.cat([tap_matrix(self.weights[i][:, start:stop]) for i in layers])
        source = self.maps[start:stop]
        per_row = matrix.shape[0] * source[0, 0].numel()
        rows = max(1, STRIP_VALUES // per_row)
        n_rows = source.shape[1]
        n_taps = 3**n_axes
        for top in range(0, n_rows, rows):
            if self.between_strips is not None:
                self.between_strips()
            strip = source[:, top : top + rows]
            products = matrix @ strip.reshape(stop - start, -1)
            products = products.view(len(layers), n_taps, self.width, *strip.shape[1:])
            for part, layer in zip(products, layers, strict=True):
                self._scatter(part, self.slot(layer), self.dilations[layer], top)

    @staticmethod
    def _scatter(
        products: torch.Tensor, out: torch.Tensor, dilation: int, top: int
    ) -> None:
        """Add taps as `add_taps` does, for a strip of rows that starts at `top`."""
        spatial = out.shape[1:]
        n = products.shape[2]
        for t, tap in enumerate(taps(len(spatial))):
            places = _shifted([dilation * o for o in tap[1:]], spatial[1:])
            target = top - dilation * tap[0]
            low, high = max(target, 0), min(target + n, spatial[0])
            if places is None or low >= high:
                continue
            read, write = places
            source = (_ALL, slice(low - target, high - target), *read)
            out[(_ALL, slice(low, high), *write)] += products[t][source]
