"""The sparse convolution: gather rows, multiply, scatter; and its gradient.

Ordinary automatic differentiation would keep the gathered rows of all weights for the
backward pass, which takes more memory than a dense convolution. This function keeps
only the features and the maps, and gathers the rows again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

import torch

from napari_geosr.networks.sparse import _loops

if TYPE_CHECKING:
    from torch import Tensor
    from torch.autograd.function import FunctionCtx

    from napari_geosr.networks.sparse._maps import RowPairs

#: Maximum size, in bytes, of the rows that are gathered at a time.
_BYTES: ContextVar[int] = ContextVar("gather_bytes", default=16 * 1024**2)


@contextlib.contextmanager
def gather_bytes(n: int) -> Iterator[None]:
    """Limit the temporary memory of sparse convolutions in this context to `n` bytes.

    Results do not depend on it, apart from the rounding of weight gradients.
    """
    token = _BYTES.set(max(1, n))
    try:
        yield
    finally:
        _BYTES.reset(token)


def sparse_convolution(features: Tensor, weight: Tensor, pairs: RowPairs) -> Tensor:
    """Convolve the rows of a sparse tensor.

    Parameters
    ----------
    features : Tensor, shape (n_sources, C_in)
    weight : Tensor, shape (K, C_in, C_out)
        One matrix for each of the `K` lists of pairs.
    pairs : RowPairs

    Returns
    -------
    Tensor, shape (n_targets, C_out)
    """
    apply: Callable[..., Tensor] = _GatherConvolution.apply
    return apply(features, weight, pairs)


def _chunks(pairs: RowPairs, k: int, row_bytes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Source and target rows of weight `k`, some at a time."""
    size = max(1, _BYTES.get() // max(1, row_bytes))
    sources, targets = pairs.sources[k], pairs.targets[k]
    for start in range(0, len(sources), size):
        yield sources[start : start + size], targets[start : start + size]


class _Saved:
    """What the forward pass stores for the backward pass."""

    saved_tensors: tuple[Tensor, Tensor]
    pairs: RowPairs
    needs_input_grad: tuple[bool, ...]


class _GatherConvolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, features: Tensor, weight: Tensor, pairs: RowPairs
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        cast("_Saved", ctx).pairs = pairs
        if _loops.can_loop(features, weight):
            return _loops.convolved(features, weight, pairs)
        out = features.new_zeros(pairs.n_targets, weight.shape[2])
        row_bytes = features.element_size() * sum(weight.shape[1:])
        for k in range(len(weight)):
            for sources, targets in _chunks(pairs, k, row_bytes):
                out.index_add_(
                    0, targets, features.index_select(0, sources) @ weight[k]
                )
        return out

    @staticmethod
    def backward(
        ctx: FunctionCtx, *outputs: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        saved = cast("_Saved", ctx)
        (features, weight), pairs = saved.saved_tensors, saved.pairs
        (out,) = outputs
        needs_feature, needs_weight = saved.needs_input_grad[:2]
        if _loops.can_loop(features, weight):
            back = weight.transpose(1, 2)
            return (
                _loops.convolved(out, back, pairs.swapped()) if needs_feature else None,
                _loops.weight_gradient(features, out, pairs) if needs_weight else None,
                None,
            )
        by_feature = torch.zeros_like(features) if needs_feature else None
        by_weight = torch.zeros_like(weight) if needs_weight else None
        row_bytes = features.element_size() * sum(weight.shape[1:])
        for k in range(len(weight)):
            for sources, targets in _chunks(pairs, k, row_bytes):
                received = out.index_select(0, targets)
                if by_feature is not None:
                    by_feature.index_add_(0, sources, received @ weight[k].T)
                if by_weight is not None:
                    given = features.index_select(0, sources)
                    by_weight[k].addmm_(given.T, received)
        return by_feature, by_weight, None
