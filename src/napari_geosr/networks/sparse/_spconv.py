"""Sparse convolutions with spconv on CUDA, if it is installed; for inference only.

Only this module imports spconv. It receives our kernel maps, so that the voxels and
their order are those of our own layers. Before spconv is used on a device, it has to
give the same result as torch for a small example.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.interruption import check_stop
from napari_geosr.core.machine.memory import is_out_of_memory

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.networks.sparse._maps import RowPairs

#: Largest accepted difference from torch in the example, relative to the largest value.
TOLERANCE = 1e-4
#: Number of rows in the example.
_N_ROWS = 500
#: Number of input and output channels in the example.
_CHANNELS = (16, 24)
#: Number of matrices in the example, as in a 3³ kernel.
_N_PLACES = 27
#: Memory, in bytes, for each pair of rows.
_PAIR_BYTES = 8


def sparse_backend(device: str) -> str:
    """Return the library, with its version, for sparse convolutions without gradients.

    Parameters
    ----------
    device : str
        Device, such as ``"cpu"`` or ``"cuda:0"``.

    Examples
    --------
    >>> sparse_backend("cpu").split()[0]
    'torch'
    """
    if _works_on(device):
        return f"spconv {_version()}"
    return f"torch {torch.__version__}"


def is_usable(features: Tensor) -> bool:
    """Whether spconv computes convolutions of these features."""
    return (
        features.dtype == torch.float32
        and not torch.is_grad_enabled()
        and _works_on(str(features.device))
    )


def convolution(
    features: Tensor, weight: Tensor, pairs: RowPairs, n_bytes: int
) -> Tensor:
    """Convolve the rows of a sparse tensor; see `sparse_convolution`.

    Parameters
    ----------
    features, weight, pairs
        As in `sparse_convolution`.
    n_bytes : int
        Limit, in bytes, for the pairs that are passed to spconv at a time.
    """
    ops = _operations()
    native = importlib.import_module("spconv.pytorch").ConvAlgo.Native
    n_out, width = pairs.n_targets, int(weight.shape[2])
    out = features.new_zeros(n_out, width)
    kernel = weight.permute(2, 0, 1)  # output channels, positions, input channels
    for places, table, counts in _tables(pairs, n_bytes):
        check_stop()
        part = kernel[:, places, None, None].contiguous()
        given = (features.contiguous(), part, table, counts, n_out)
        out += ops.indice_conv(*given, inverse=False, subm=False, algo=native)
    return out


def _tables(
    pairs: RowPairs, n_bytes: int
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Yield groups of kernel positions with their pairs, as spconv stores them.

    A group consists of `n` positions, an array of their pairs with the shape (2, n,
    length of the longest list), and the number of pairs of each position. Positions
    without pairs are left out.
    """
    lengths = [len(rows) for rows in pairs.sources]
    filled = [k for k, length in enumerate(lengths) if length]
    longest = max(lengths, default=0)
    size = max(1, n_bytes // max(1, _PAIR_BYTES * longest))
    for start in range(0, len(filled), size):
        places = filled[start : start + size]
        like = pairs.sources[places[0]]
        table = like.new_full((2, len(places), longest), -1)
        for i, k in enumerate(places):
            table[0, i, : lengths[k]] = pairs.sources[k]
            table[1, i, : lengths[k]] = pairs.targets[k]
        yield places, table, like.new_tensor([lengths[k] for k in places])


@functools.cache
def _operations() -> Any:
    """Import the operations of spconv."""
    return importlib.import_module("spconv.pytorch.ops")


def _version() -> str:
    return str(importlib.import_module("spconv").__version__)


@functools.cache
def _works_on(device: str) -> bool:
    """Whether spconv is installed and gives the same result as torch on a device.

    Only CUDA devices are considered: on a CPU, our own loops are faster.
    """
    return device.startswith("cuda") and agrees_on(device)


def agrees_on(device: str) -> bool:
    """Whether spconv gives the same result as torch on a device, for an example.

    Raises
    ------
    Cancelled
        If the run is stopped during the test.
    RuntimeError
        If the device has too little free memory for the example.
    """
    from napari_geosr.networks.sparse._maps import RowPairs

    generator = torch.Generator().manual_seed(0)

    def rows() -> Tensor:
        found = torch.randperm(_N_ROWS, generator=generator)[: _N_ROWS // 2]
        return found.int().to(device)

    features = torch.randn(_N_ROWS, _CHANNELS[0], generator=generator).to(device)
    weight = torch.randn(_N_PLACES, *_CHANNELS, generator=generator).to(device)
    sources, targets = ([rows() for _ in range(_N_PLACES)] for _ in range(2))
    pairs = RowPairs(sources, targets, _N_ROWS, _N_ROWS)
    expected = features.new_zeros(_N_ROWS, _CHANNELS[1])
    with torch.no_grad():
        for matrix, source, target in zip(weight, sources, targets, strict=True):
            expected.index_add_(0, target.long(), features[source.long()] @ matrix)
        try:
            found = convolution(features, weight, pairs, 2**20)
        # An incomplete installation, or one for another device, raises all kinds of
        # errors; in this case, torch is used.
        except Exception as error:
            if isinstance(error, Cancelled) or is_out_of_memory(error):
                raise  # another attempt may succeed
            return False
    difference = (found - expected).abs().max()
    return bool(difference <= TOLERANCE * expected.abs().max())
