"""Pass the noise of each patch to a noise-bounded network.

A sample also contains small arrays that describe the noise: its level as a function of
the grey value (``"greys"``, ``"levels"``), its ``"correlation"`` between neighbours
along Z, Y and X, and its ``"spectrum"`` (white fraction and cutoff). As in a
restoration, the noise level at each voxel is computed from the patch itself, so that it
remains valid when a method changes the patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_geosr import networks
from napari_geosr.core.types import AnyDict
from napari_geosr.networks import needs_noise

if TYPE_CHECKING:
    from torch import Tensor, nn

    from napari_geosr.core.noise import Noise

#: Number of grey values at which noise levels are given; fixed, so that samples can be
#: stacked.
POINTS = 16
_AXES = ("z", "y", "x")


def noise_arrays(noise: Noise, *, swapped: bool = False) -> AnyDict:
    """Return the noise of a patch as arrays of a sample.

    Parameters
    ----------
    noise : Noise
        Noise in the grey scale of the network's input.
    swapped : bool
        Whether Y and X of the patch were exchanged.

    Returns
    -------
    dict of str to ndarray, float32
        ``"greys"`` and ``"levels"`` of shape (16,), ``"correlation"`` of shape (3,),
        ``"spectrum"`` of shape (2,).
    """
    low, high = noise.greys[0], noise.greys[-1]
    greys = np.linspace(low, high if high > low else low + 1, POINTS)
    z, y, x = (noise.correlation.get(axis, 0.0) for axis in _AXES)
    along = (z, x, y) if swapped else (z, y, x)
    result = {"greys": greys, "levels": noise.at(greys), "correlation": along}
    result["spectrum"] = (noise.white, noise.cutoff or 0.0)
    return {name: np.asarray(values, np.float32) for name, values in result.items()}


def noise_of(sample: AnyDict) -> Noise:
    """Return noise with a sample's correlation and spectrum; its level is arbitrary."""
    from napari_geosr.core.noise import Noise

    white, cutoff = (float(value) for value in sample["spectrum"])
    along = dict(zip(_AXES, sample["correlation"].tolist(), strict=True))
    return Noise(1.0, 1.0, correlation=along, white=white, cutoff=cutoff or None)


def apply_network(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return a network's output for ``batch["source"]``, given the noise if needed."""
    import torch

    x = batch["source"]
    if "levels" not in batch or not _takes_noise(network):
        result: Tensor = network(x)
        return result
    curves = zip(x, batch["greys"], batch["levels"], strict=True)
    level = torch.cat(
        [networks.level_map(patch[None], *curve) for patch, *curve in curves]
    )
    result = network(x, level, batch["correlation"].to(x.dtype))
    return result


def _takes_noise(network: object) -> bool:
    """Whether `network` takes the noise; classical filters do not."""
    from torch import nn

    return isinstance(network, nn.Module) and needs_noise(network)
