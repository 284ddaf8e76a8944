"""Passes the noise of each patch to a noise-bounded network.

A sample holds three small arrays beside its patches: the curve of the noise level over
grey values (``"greys"``, ``"levels"``) and the ``"correlation"`` of neighbours along Z,
Y and X. The level at every voxel follows from the patch itself, as when a volume is
restored, so that it fits whatever a method has done to the patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_geosr import networks
from napari_geosr.core.types import AnyDict
from napari_geosr.networks import wants_noise

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_geosr.core.noise import Noise

#: Points of the curves: all samples of a batch have as many.
POINTS = 16
_AXES = ("z", "y", "x")


def as_arrays(noise: Noise, *, swapped: bool = False) -> AnyDict:
    """The noise of a patch, for a sample.

    Parameters
    ----------
    noise : Noise
        In the grey values that the network sees.
    swapped : bool
        Whether Y and X of the patch were exchanged.

    Returns
    -------
    dict of str to ndarray, float32
        ``"greys"`` and ``"levels"`` of shape (16,), ``"correlation"`` of shape (3,).
    """
    low, high = noise.greys[0], noise.greys[-1]
    greys = np.linspace(low, high if high > low else low + 1, POINTS)
    z, y, x = (noise.correlation.get(axis, 0.0) for axis in _AXES)
    along = (z, x, y) if swapped else (z, y, x)
    found = {"greys": greys, "levels": noise.at(greys), "correlation": along}
    return {name: np.asarray(values, np.float32) for name, values in found.items()}


def restored(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Output of a network for ``batch["source"]``, given the noise if it needs it."""
    import torch

    x = batch["source"]
    if "levels" not in batch or not _wants_noise(network):
        found: Tensor = network(x)
        return found
    curves = zip(x, batch["greys"], batch["levels"], strict=True)
    level = torch.cat(
        [networks.level_map(patch[None], *curve) for patch, *curve in curves]
    )
    found = network(x, level, batch["correlation"].to(x.dtype))
    return found


def _wants_noise(network: object) -> bool:
    """Filters stand in for networks where these are judged."""
    from torch import nn

    return isinstance(network, nn.Module) and wants_noise(network)
