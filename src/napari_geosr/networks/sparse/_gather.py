"""Compute sparse convolutions (gather rows, multiply, scatter) and their gradient.

Ordinary automatic differentiation would keep the gathered rows of all weights for the
backward pass, and thus take more memory than a dense convolution. Here, only the
features and the kernel maps are kept, and the rows are gathered again.

For layers with few channels on the CPU, compiled loops over the pairs of rows replace
torch, which writes the gathered rows and the products to memory; writing takes several
times as long as the multiplications. The loops run in Python's threads rather than
numba's, because numba's portable threading layer aborts the process when it is called
from two threads at once.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch

from napari_geosr.core.interruption import check_stop
from napari_geosr.core.machine.compiling import compile_loops
from napari_geosr.core.types import AnyArray
from napari_geosr.networks.sparse import _spconv

if TYPE_CHECKING:
    from torch import Tensor
    from torch.autograd.function import FunctionCtx

    from napari_geosr.networks.sparse._maps import RowPairs

F = TypeVar("F", bound=Callable[..., Any])
#: Maximum size, in bytes, of the rows that are gathered at a time.
_BYTES: ContextVar[int] = ContextVar("gather_bytes", default=16 * 1024**2)
#: Maximum number of values of one weight matrix; with more, torch's matrix product is
#: as fast.
_MAX_PRODUCTS = 16 * 16
#: Number of products that are added in the precision of the features before they are
#: added to a sum in double precision.
_AT_ONCE = 1024
#: Minimum number of pairs for which a second thread is worth starting.
_MIN_PAIRS = 20_000


@contextlib.contextmanager
def gather_bytes(n: int) -> Iterator[None]:
    """Limit the temporary memory of sparse convolutions in this context to `n` bytes.

    Results do not depend on this limit, apart from the rounding of weight gradients.
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
    if _spconv.is_usable(features):
        return _spconv.convolution(features, weight, pairs, _BYTES.get())
    apply: Callable[..., Tensor] = _GatherConvolution.apply
    return apply(features, weight, pairs)


def _chunks(pairs: RowPairs, k: int, row_bytes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield source and target rows of matrix `k`, a limited number at a time."""
    size = max(1, _BYTES.get() // max(1, row_bytes))
    sources, targets = pairs.sources[k], pairs.targets[k]
    for start in range(0, len(sources), size):
        check_stop()
        yield sources[start : start + size], targets[start : start + size]


class _Saved:
    """Tensors that the forward pass stores for the backward pass."""

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
        if _can_loop(features, weight):
            return _looped(features, weight, pairs)
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
        # Second derivatives would be zero or missing, even with `once_differentiable`.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "Sparse convolutions have no second derivatives. Compute gradients "
                "without create_graph, or use dense_forward."
            )
        saved = cast("_Saved", ctx)
        (features, weight), pairs = saved.saved_tensors, saved.pairs
        (out,) = outputs
        needs_feature, needs_weight = saved.needs_input_grad[:2]
        if _can_loop(features, weight):
            back = weight.transpose(1, 2)
            return (
                _looped(out, back, pairs.swapped()) if needs_feature else None,
                _weight_gradient(features, out, pairs) if needs_weight else None,
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


def _compiled(function: F) -> F:
    """Compile a function with numba on its first call; see `compile_loops`."""
    return compile_loops(function, fastmath={"contract"})


def _can_loop(features: Tensor, weight: Tensor) -> bool:
    """Whether the loops are used for these features and weights."""
    return (
        features.device.type == "cpu"
        and features.dtype == weight.dtype
        and features.dtype in (torch.float32, torch.float64)
        and weight.shape[1] * weight.shape[2] <= _MAX_PRODUCTS
    )


def _looped(features: Tensor, weight: Tensor, pairs: RowPairs) -> Tensor:
    """Return the convolution: sums of the products of source rows and matrices.

    Parameters
    ----------
    features : Tensor, shape (n_sources, C_in)
    weight : Tensor, shape (K, C_in, C_out)
    pairs : RowPairs
        One list of pairs for each of the `K` matrices.

    Returns
    -------
    Tensor, shape (n_targets, C_out)
    """
    out = features.new_zeros(pairs.n_targets, weight.shape[2])
    rows, matrices = _array(features), _array(weight)
    for k, matrix in enumerate(matrices):
        check_stop()
        # No row occurs twice among the targets of a matrix, so threads share no rows.
        _in_threads(_add_products, pairs, k, rows, matrix, out.numpy())
    return out


def _weight_gradient(features: Tensor, received: Tensor, pairs: RowPairs) -> Tensor:
    """Return the gradient of the matrices, shape (K, C_in, C_out).

    Parameters
    ----------
    features : Tensor, shape (n_sources, C_in)
    received : Tensor, shape (n_targets, C_out)
        Gradient of the result.
    pairs : RowPairs
    """
    rows, gradient = _array(features), _array(received)
    shape = rows.shape[1], gradient.shape[1]
    found = [
        sum(_in_threads(_outer_products, pairs, k, rows, gradient), np.zeros(shape))
        for k in range(len(pairs.sources))
    ]
    return torch.from_numpy(np.stack(found)).to(features.dtype)


def _array(values: Tensor) -> AnyArray:
    array: AnyArray = values.detach().contiguous().numpy()
    return array


def _in_threads(
    loop: Callable[..., Any], pairs: RowPairs, k: int, *arguments: AnyArray
) -> list[Any]:
    """Run a loop on parts of the pairs of matrix `k`; return the results in order."""
    sources, targets = pairs.sources[k].numpy(), pairs.targets[k].numpy()
    n = len(sources)
    parts = max(1, min(torch.get_num_threads(), n // _MIN_PAIRS))
    bounds = itertools.pairwise(n * part // parts for part in range(parts + 1))
    slices = [slice(*each) for each in bounds]
    if parts == 1:
        return [loop(sources, targets, *arguments)]
    with ThreadPoolExecutor(parts) as pool:
        running = [
            pool.submit(loop, sources[part], targets[part], *arguments)
            for part in slices
        ]
        return [each.result() for each in running]


@_compiled
def _add_products(
    sources: AnyArray,
    targets: AnyArray,
    features: AnyArray,
    matrix: AnyArray,
    out: AnyArray,
) -> None:
    """Add the product of each source row with the matrix to its target row."""
    for i in range(len(sources)):
        source, target = sources[i], targets[i]
        for c in range(features.shape[1]):
            value = features[source, c]
            for o in range(out.shape[1]):
                out[target, o] += value * matrix[c, o]


@_compiled
def _outer_products(
    sources: AnyArray, targets: AnyArray, features: AnyArray, received: AnyArray
) -> AnyArray:
    """Return the sum of the outer products of paired rows, in double precision."""
    shape = (features.shape[1], received.shape[1])
    total, part = np.zeros(shape), np.zeros(shape, features.dtype)
    for start in range(0, len(sources), _AT_ONCE):
        part[:] = 0
        for i in range(start, min(start + _AT_ONCE, len(sources))):
            source, target = sources[i], targets[i]
            for c in range(shape[0]):
                value = features[source, c]
                for o in range(shape[1]):
                    part[c, o] += value * received[target, o]
        total += part
    return total
