"""Perceptual losses: distance between the features of two images [1]_.

The feature network is chosen by name. Its weights must be on disk, or an error is
raised; nothing is downloaded, and random weights are never used.

``structure``
    A small network that is part of this package. It was trained to classify simulated
    porous media by type and size of their pores and by noise
    (``scripts/train_features.py``), so its features represent these properties.
``vgg19``
    VGG-19 trained on photographs, as in the TomoGAN paper; needs torchvision and its
    weights file.
``gradient``
    Differences between neighbouring voxels at three scales, without a network.

References
----------
.. [1] Johnson, Alahi, Fei-Fei. Perceptual losses for real-time style transfer and
   super-resolution. ECCV (2016). doi:10.1007/978-3-319-46475-6_43
.. [2] Simonyan, Zisserman. Very deep convolutional networks for large-scale image
   recognition. ICLR (2015). arXiv:1409.1556
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict

FeatureName = Literal["structure", "vgg19", "gradient"]

STRUCTURE_FILE = "structure_features.safetensors"
#: Checksum of the weights file; a different file is rejected.
STRUCTURE_SHA256 = "b0bfc8faa1920b28d37cb5f4b66e282c2e7cc664a712b397b5a1c9580fc86541"
#: Number of feature maps of each layer; there are two layers at each of three scales.
STRUCTURE_WIDTHS = (16, 16, 32, 32, 48, 48)
#: Number of layers of VGG-19 up to relu5_4, the last one before the last pooling.
_VGG_LAYERS = 36


class StructureFeatures(nn.Module):
    """Two 3 × 3 convolutions at each of three scales; maps have a mean square of 1."""

    def __init__(self) -> None:
        super().__init__()
        sizes = (1, *STRUCTURE_WIDTHS)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes)
        )
        for i, n in enumerate(STRUCTURE_WIDTHS[1::2]):
            self.register_buffer(f"scale{i}", torch.ones(n))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps at full, half and quarter resolution of ``(N, 1, Y, X)``."""
        maps = []
        for i in range(len(self.convs) // 2):
            if i:
                x = functional.avg_pool2d(x, 2, ceil_mode=True)
            x = functional.relu(self.convs[2 * i](x))
            x = functional.relu(self.convs[2 * i + 1](x))
            scale: Tensor = getattr(self, f"scale{i}")
            maps.append(x * scale.view(1, -1, 1, 1))
        return maps


class GradientFeatures(nn.Module):
    """Differences between neighbours along Y and X, at three resolutions."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the differences of ``(N, 1, Y, X)``, a pair for each scale."""
        maps = []
        for i in range(3):
            if i:
                x = functional.avg_pool2d(x, 2, ceil_mode=True)
            maps += [x[..., 1:, :] - x[..., :-1, :], x[..., 1:] - x[..., :-1]]
        return [f for f in maps if f.numel()]


class _VGGFeatures(nn.Module):
    """VGG-19 features; the input must already be standardised as photographs are."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> list[Tensor]:
        size = [max(16, n) for n in x.shape[-2:]]
        if size != list(x.shape[-2:]):
            missing = [a - b for a, b in zip(size, x.shape[-2:], strict=True)]
            x = functional.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")
        return [self.layers(x.expand(-1, 3, -1, -1))]


def load_features(name: FeatureName) -> nn.Module:
    """Return the feature network called `name`, frozen, in evaluation mode.

    Raises
    ------
    ConfigError
        If there is no network of that name, or its weights are not on this machine.
    """
    makers: dict[str, Callable[[], nn.Module]] = {
        "structure": _structure,
        "vgg19": _vgg19,
        "gradient": GradientFeatures,
    }
    if name not in makers:
        raise ConfigError(
            f"There is no feature network {name!r}. Known: {', '.join(makers)}."
        )
    return makers[name]().requires_grad_(False).eval()


def perceptual_loss(features: nn.Module, output: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference between features, averaged over the layers.

    Parameters
    ----------
    features : Module
        From `load_features`.
    output, target : Tensor of shape (N, 1, [Z,] Y, X)
        Standardised grey values. Volumes are compared slice by slice.
    """
    # Process output and target in one pass, without gradients of the target.
    both = torch.cat([planes(output), planes(target.detach())])
    half = len(both) // 2
    losses = [(f[:half] - f[half:]).square().mean() for f in features(both)]
    return torch.stack(losses).mean()


def planes(x: Tensor) -> Tensor:
    """Reshape ``(N, 1, Z, Y, X)`` to ``(N · Z, 1, Y, X)``; keep planes unchanged."""
    return x.transpose(1, 2).flatten(0, 1) if x.ndim == 5 else x


def _structure() -> nn.Module:
    from safetensors.torch import load

    file = resources.files(__package__).joinpath(STRUCTURE_FILE)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The weights of the feature network 'structure' ({file}) cannot be "
            "read: reinstall napari-geosr, or set features to 'gradient'."
        ) from error
    if hashlib.sha256(raw).hexdigest() != STRUCTURE_SHA256:
        raise ConfigError(
            f"{file} is not the weights file of this release: reinstall "
            "napari-geosr, or set features to 'gradient'."
        )
    network = StructureFeatures()
    network.load_state_dict(load(raw))
    return network


def _vgg19() -> nn.Module:
    try:
        from torchvision import models
    except ImportError as error:
        raise ConfigError(
            "The feature network 'vgg19' needs torchvision, which is not installed: "
            "install it (pip install torchvision), or set features to 'structure'."
        ) from error
    url = str(models.VGG19_Weights.IMAGENET1K_V1.url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise ConfigError(
            f"The weights of 'vgg19' are not on this computer: download {url} to "
            f"{path}, or set features to 'structure'."
        )
    # The file name ends with the first digits of the checksum: vgg19-dcbb9e9d.pth
    expected = path.stem.rpartition("-")[2]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if not digest.startswith(expected):
        raise ConfigError(f"{path} is damaged: download it again from {url}.")
    network = models.vgg19(weights=None)
    state: AnyDict = torch.load(path, map_location="cpu", weights_only=True)
    network.load_state_dict(state)
    return _VGGFeatures(network.features[:_VGG_LAYERS])
