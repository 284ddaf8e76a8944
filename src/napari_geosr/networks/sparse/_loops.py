"""Sums over pairs of rows as compiled loops, for layers with few channels on the CPU.

Torch gathers the rows of all pairs, multiplies them and adds the products, and writes
each intermediate result to memory. With few channels, this takes several times as long
as the multiplications; a loop over the pairs keeps the values in registers.

Python threads are used rather than numba's, whose portable threading layer aborts the
process when it is called from two threads at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numba
import numpy as np
import torch

from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.networks.sparse._maps import RowPairs

F = TypeVar("F", bound=Callable[..., Any])
#: Maximum number of values of one weight matrix; with more, torch's matrix product is
#: as fast.
_MAX_PRODUCTS = 16 * 16
#: Number of products that are added in the precision of the features before they are
#: added to a sum in double precision.
_AT_ONCE = 1024
#: Minimum number of pairs for which a second thread is worth its start.
_MIN_PAIRS = 20_000


def _compiled(function: F) -> F:
    """Compile a function on its first call, and cache it on disk."""
    jit = numba.njit(cache=True, nogil=True, fastmath={"contract"})
    return cast("F", jit(function))


def can_loop(features: Tensor, weight: Tensor) -> bool:
    """Whether the loops are used for these features and weights."""
    return (
        features.device.type == "cpu"
        and features.dtype == weight.dtype
        and features.dtype in (torch.float32, torch.float64)
        and weight.shape[1] * weight.shape[2] <= _MAX_PRODUCTS
    )


def convolved(features: Tensor, weight: Tensor, pairs: RowPairs) -> Tensor:
    """The convolution: sum of the products of each row with the matrices.

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
        # No row occurs twice among the targets of a matrix: threads share no rows.
        _in_threads(_add_products, pairs, k, rows, matrix, out.numpy())
    return out


def weight_gradient(features: Tensor, received: Tensor, pairs: RowPairs) -> Tensor:
    """Gradient of the matrices, shape (K, C_in, C_out).

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
    """Results of a loop for parts of the pairs of a matrix, in their order."""
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
    """Sum of the outer products of paired rows, in double precision."""
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
