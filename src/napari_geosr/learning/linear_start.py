"""Initial weights of a linear last layer, by least squares.

A network whose output is a weighted sum of its maps, such as the MSD-net, need not
learn those weights step by step: for the maps as they are they follow from a few
samples. The maps are random at first, and still the network begins as a filter that
suits the noise, instead of one that returns its input or nothing. Adam moves a weight
by no more than the learning rate in a step, so a short training would spend much of
its time on the way there (figures: ``benchmarks/bench_efficiency.py``).

Valid where the target is what the output should be on the mean: clean, or with noise
of its own [1]_, or hidden from the source at the voxels that count.

References
----------
.. [1] Lehtinen et al. Noise2Noise: Learning image restoration without clean data.
   ICML (2018). arXiv:1803.04189
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from napari_geosr.learning.batches import Batches

#: Beside the seed, so that no other numbers are drawn with the same.
_START = 5
#: Samples are drawn until there are so many voxels, but so many at least and at most.
_VOXELS, _LEAST, _MOST = 2**17, 4, 32
#: Added to the diagonal, as a share of it: maps of few layers are much alike.
_RIDGE = 1e-3


@runtime_checkable
class LinearEnd(Protocol):
    """A network with a weighted sum of its maps as output."""

    def all_maps(self, x: Tensor) -> Tensor:
        """The maps to be weighted: ``(N, maps, [Z,] Y, X)``."""
        ...

    def set_end(self, weights: Tensor, bias: Tensor) -> None:
        """Set the output to ``weights @ maps + bias``."""
        ...


def begin(network: object, batches: Batches, ndim: int) -> bool:
    """Fit the last layer of a fresh network to the first samples.

    Parameters
    ----------
    network : Module
        Left as it is where its end is not linear.
    batches : Batches
        Where samples come from, and the device that they come to. They are a function
        of the seed alone.
    ndim : int
        Axes of the network.

    Returns
    -------
    bool
        Whether it was fitted.
    """
    import torch

    method = batches.method
    if not (method.begins_linear and method.labels == 1):
        return False
    if not isinstance(network, LinearEnd):
        return False
    moments = torch.zeros((), dtype=torch.float64)
    wanted = _MOST
    trained, i = network.training, 0  # type: ignore[attr-defined]
    network.eval()  # type: ignore[attr-defined]
    try:
        with torch.no_grad():
            while i < wanted:
                rng = np.random.default_rng([method.config.seed, i, _START])
                batch = batches.on_device([method.draw(batches.patches, rng)])
                rows = _rows(network, batch)
                # In double precision on the processor: not every device has it.
                moments = moments + (rows @ rows.T).double().cpu()
                enough = math.ceil(_VOXELS / math.prod(batch["source"].shape[-ndim:]))
                wanted, i = min(_MOST, max(_LEAST, enough)), i + 1
    finally:
        network.train(trained)  # type: ignore[attr-defined]
    solved = _solve(moments)
    if solved is None:
        return False
    network.set_end(solved[:-1].float(), solved[-1].float())
    return True


def _rows(network: LinearEnd, batch: dict[str, Tensor]) -> Tensor:
    """Maps, ones and the target, a row each, at the voxels that count."""
    import torch

    maps = network.all_maps(batch["source"])[0].flatten(1)
    target = batch["target"].reshape(1, -1)
    rows = torch.cat([maps, torch.ones_like(target), target])
    return rows[:, batch["mask"].flatten() > 0] if "mask" in batch else rows


def _solve(moments: Tensor) -> Tensor | None:
    """Least-squares weights and bias; None if there is no solution."""
    import torch

    left, right = moments[:-1, :-1], moments[:-1, -1]
    # The bias is free; maps that are zero everywhere get no weight.
    ridge = _RIDGE * left.diagonal().clone()
    ridge[-1] = 0
    if not bool(torch.isfinite(moments).all()):
        return None
    solved: Tensor = torch.linalg.pinv(left + torch.diag(ridge), hermitian=True) @ right
    return solved if bool(torch.isfinite(solved).all()) else None
