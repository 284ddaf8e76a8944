"""Initialise a linear last layer by least squares.

If the output of a network is a weighted sum of its feature maps, as in the MSD-net,
these weights need not be learned step by step: for given maps, least squares yields
them from a few samples. Although the maps are random at first, the network then starts
as a filter adapted to the noise, instead of one that returns its input or zero. Because
Adam changes a weight by at most the learning rate per step, a short training run would
spend much of its time reaching this point (results:
``benchmarks/bench_efficiency.py``).

This is valid if the target is on average the desired output: if it is clean, has
independent noise [1]_, or shows voxels that are hidden in the source.

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

    from napari_geosr.learning.training.batches import Batches

#: Last entry of the random seed, which differs from that of the training steps.
_SEED_KEY = 5
#: Approximate number of voxels used for the fit.
_N_VOXELS = 2**17
#: Minimum number of samples drawn.
_MIN_SAMPLES = 4
#: Maximum number of samples drawn.
_MAX_SAMPLES = 32
#: Strength of the ridge regularisation, as a fraction of the diagonal; it is needed
#: because the maps are strongly correlated.
_RIDGE = 1e-3


@runtime_checkable
class LinearEnd(Protocol):
    """A network that outputs a weighted sum of its feature maps."""

    def feature_maps(self, x: Tensor) -> Tensor:
        """Return the feature maps before the weighted sum: ``(N, maps, [Z,] Y, X)``."""
        ...

    def set_last_layer(self, weights: Tensor, bias: Tensor) -> None:
        """Set the last layer to ``weights @ maps + bias``."""
        ...


def fit_last_layer(network: object, batches: Batches, ndim: int) -> bool:
    """Fit the last layer of an untrained network to a few samples.

    Parameters
    ----------
    network : Module
        Left unchanged if its last layer is not linear.
    batches : Batches
        Gives the samples, which depend on the seed alone, and the device.
    ndim : int
        Number of spatial axes of the network.

    Returns
    -------
    bool
        Whether the layer was fitted.
    """
    import torch

    method = batches.method
    if not (method.fits_last_layer and method.labels == 1):
        return False
    if not isinstance(network, LinearEnd):
        return False
    moments = torch.zeros((), dtype=torch.float64)
    n_samples = _MAX_SAMPLES
    was_training, i = network.training, 0  # type: ignore[attr-defined]
    network.eval()  # type: ignore[attr-defined]
    try:
        with torch.no_grad():
            while i < n_samples:
                rng = np.random.default_rng([method.config.seed, i, _SEED_KEY])
                batch = batches.on_device([method.draw(batches.patches, rng)])
                rows = _rows(network, batch)
                # Sum on the CPU, as not every device supports double precision.
                moments = moments + (rows @ rows.T).double().cpu()
                enough = math.ceil(_N_VOXELS / math.prod(batch["source"].shape[-ndim:]))
                n_samples, i = min(_MAX_SAMPLES, max(_MIN_SAMPLES, enough)), i + 1
    finally:
        network.train(was_training)  # type: ignore[attr-defined]
    solved = _solve(moments)
    if solved is None:
        return False
    network.set_last_layer(solved[:-1].float(), solved[-1].float())
    return True


def _rows(network: LinearEnd, batch: dict[str, Tensor]) -> Tensor:
    """Return maps, ones and target as rows of a matrix, within the mask if given."""
    import torch

    maps = network.feature_maps(batch["source"])[0].flatten(1)
    target = batch["target"].reshape(1, -1)
    rows = torch.cat([maps, torch.ones_like(target), target])
    return rows[:, batch["mask"].flatten() > 0] if "mask" in batch else rows


def _solve(moments: Tensor) -> Tensor | None:
    """Return the least-squares weights and bias; None if there is no solution."""
    import torch

    matrix, vector = moments[:-1, :-1], moments[:-1, -1]
    # The bias is not regularised; maps that are zero everywhere get zero weight.
    ridge = _RIDGE * matrix.diagonal().clone()
    ridge[-1] = 0
    if not bool(torch.isfinite(moments).all()):
        return None
    solved: Tensor = (
        torch.linalg.pinv(matrix + torch.diag(ridge), hermitian=True) @ vector
    )
    return solved if bool(torch.isfinite(solved).all()) else None
