"""Average the inputs of a network's last layer over each patch of a scan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.attribution._window import ExplainedScan
from napari_geosr.core.errors import ModelError
from napari_geosr.core.types import AnyArray
from napari_geosr.learning.training.linear_start import LinearEnd

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_geosr.inference.tiles.tiling import Box, Size
    from napari_geosr.models.bundle import Model
    from napari_geosr.models.similarity import SimilarityIndex


@dataclass(frozen=True, eq=False)
class TrainingPatches:
    """Index of a model's training patches, and the scan to compare with them.

    Attributes
    ----------
    index : SimilarityIndex
    scene : ExplainedScan
        The scan and the trained network alone, without the layers that the model's
        card adds.
    """

    index: SimilarityIndex
    scene: ExplainedScan


def training_patches(model: Model, scene: ExplainedScan) -> TrainingPatches:
    """Read the index of a model's training patches.

    Raises
    ------
    ModelError
        If the model has no index, or it is damaged.
    """
    index = model.similarity_index()
    if index is None:
        raise ModelError(
            f"The model {model.card.name!r} has no index of its training patches, so "
            "similar ones cannot be found. Train it with the setting "
            "similarity_index (--similarity-index), or omit the method 'similar'."
        )
    return TrainingPatches(index, replace(scene, network=model.network()))


def patch_features(
    scene: ExplainedScan, core: Box, corners: Sequence[Size], edge: Size
) -> AnyArray:
    """Return the means of the last feature maps over each patch.

    Parameters
    ----------
    scene : ExplainedScan
    core : Box
        Box of the scan that contains all patches; one plane for 2D networks.
    corners : sequence of (int, int, int)
        First voxel of each patch in the scan.
    edge : (int, int, int)
        Edge lengths of the patches.

    Returns
    -------
    ndarray of shape (patches, maps)

    Raises
    ------
    ModelError
        If the network has no layers with feature maps.
    """
    region = tuple(
        slice(part.start * s, part.stop * s)
        for part, s in zip(core, scene.layout.scale, strict=True)
    )
    window = scene.window((region[0], region[1], region[2]))
    with _recorded(scene.network) as found:
        window.values()
    if not found:
        raise ModelError(
            f"The network {type(scene.network).__name__} has no convolutional layers "
            "with feature maps to compare. Omit the method 'similar'."
        )
    maps = found[-1][0].float()
    if maps.ndim == 3:  # feature maps of a 2D network
        maps = maps[:, None]
    place = window.network_window
    ratios = [
        n / (part.stop - part.start)
        for n, part in zip(maps.shape[1:], place, strict=True)
    ]
    means = []
    for corner in corners:
        key = tuple(
            _scaled(c - part.start, e, ratio)
            for c, e, part, ratio in zip(corner, edge, place, ratios, strict=True)
        )
        means.append(maps[(slice(None), *key)].double().mean((1, 2, 3)).cpu().numpy())
    return np.asarray(means)


def _scaled(start: int, length: int, ratio: float) -> slice:
    """Map a range of an axis to a grid that is finer or coarser by a factor."""
    first = math.floor(start * ratio)
    return slice(first, max(first + 1, math.ceil((start + length) * ratio)))


@contextmanager
def _recorded(network: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Record the input of the last convolution; yield a list of 0 or 1 tensors."""
    from torch import nn

    found: list[torch.Tensor] = []

    def keep_input(module: nn.Module, values: tuple[torch.Tensor, ...]) -> None:
        found[:] = [values[0]]

    def keep_maps(module: nn.Module, values: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(module, LinearEnd)
        found[:] = [module.feature_maps(values[0])]

    kinds = (
        nn.Conv2d,
        nn.Conv3d,
        nn.ConvTranspose2d,
        nn.ConvTranspose3d,
    )
    with ExitStack() as stack:
        for module in network.modules():
            hook = None
            if isinstance(module, kinds):
                hook = keep_input
            elif isinstance(module, LinearEnd):  # its last layer is not a module
                hook = keep_maps
            if hook is not None:
                stack.callback(module.register_forward_pre_hook(hook).remove)
        yield found
