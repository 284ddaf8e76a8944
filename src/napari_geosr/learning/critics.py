"""Critics: networks that judge patches, used only during training.

They score each position, or average over all positions, and therefore accept patches of
any size, except for a `TomoGANCritic` with a fixed `edge`.

References
----------
.. [1] Isola et al. Image-to-image translation with conditional adversarial networks.
   CVPR (2017). doi:10.1109/CVPR.2017.632
.. [2] Liu et al. TomoGAN: low-dose synchrotron x-ray tomography with generative
   adversarial networks. J. Opt. Soc. Am. A 37, 422-434 (2020).
   doi:10.1364/JOSAA.375595
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from napari_geosr.core.errors import ConfigError

Norm = Literal["none", "batch"]
#: Negative slope of the leaky ReLUs, as in both papers.
_NEGATIVE_SLOPE = 0.2


class PatchCritic(nn.Module):
    """The 70 × 70 PatchGAN [1]_: a logit for each overlapping patch.

    Parameters
    ----------
    ndim : {2, 3}
        Number of spatial axes.
    channels : int
        Channels of the input, including those of the condition.
    width : int
        Number of feature maps of the first layer, 64 in the paper; later layers have up
        to 8 times as many.
    layers : int
        Number of layers with stride 2; three layers give a receptive field of 70
        voxels.
    norm : {"none", "batch"}
        Normalisation of all layers but the first and the last; batch normalisation in
        the paper.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        width: int = 64,
        layers: int = 3,
        norm: Norm = "none",
    ) -> None:
        super().__init__()
        conv = nn.Conv3d if ndim == 3 else nn.Conv2d
        batch_norm = nn.BatchNorm3d if ndim == 3 else nn.BatchNorm2d
        self.norm = norm
        body: list[nn.Module] = [
            conv(channels, width, 4, 2, padding=1),
            nn.LeakyReLU(_NEGATIVE_SLOPE),
        ]
        last = width
        for i in range(1, layers + 1):
            maps, stride = width * min(2**i, 8), 2 if i < layers else 1
            plain = norm == "none"
            body.append(conv(last, maps, 4, stride, padding=1, bias=plain))
            if not plain:
                body.append(batch_norm(maps))
            body.append(nn.LeakyReLU(_NEGATIVE_SLOPE))
            last = maps
        body.append(conv(last, 1, 4, 1, padding=1))
        self.body = nn.Sequential(*body)
        #: Minimum size of patches in voxels; smaller ones are padded.
        self.min_size = 3 * 2**layers
        _initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, 1, …) of the patches of ``(N, C, [Z,] Y, X)``."""
        logits: torch.Tensor = self.body(pad_to_size(x, self.min_size))
        return logits


class TomoGANCritic(nn.Module):
    """TomoGAN's discriminator [2]_, with global pooling before its dense layers.

    The paper flattens the maps instead, which restricts the critic to one patch size.

    Parameters
    ----------
    ndim : {2, 3}
    channels : int
    width : int
        Number of feature maps of the first layers, 64 in the paper.
    edge : int, optional
        If given, the maps are flattened as in the paper, and only patches of this size
        are accepted.
    """

    def __init__(
        self, ndim: int, channels: int = 1, width: int = 64, edge: int | None = None
    ) -> None:
        super().__init__()
        conv = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.norm: Norm = "none"
        self.edge = edge
        # Four feature maps are enough if all positions are kept; a mean over positions
        # needs more.
        final = 4 if edge else 2 * width
        table = [
            (channels, width, 1),
            (width, width, 2),
            (width, 2 * width, 1),
            (2 * width, 2 * width, 2),
            (2 * width, 2 * width, 1),
            (2 * width, final, 2),
        ]
        body: list[nn.Module] = []
        for a, b, stride in table:
            body += [conv(a, b, 3, stride, padding=1), nn.LeakyReLU(_NEGATIVE_SLOPE)]
        self.body = nn.Sequential(*body)
        n_positions = (edge // 8) ** ndim if edge else 1
        self.dense = nn.Sequential(
            nn.Linear(n_positions * final, 64),
            nn.LeakyReLU(_NEGATIVE_SLOPE),
            nn.Linear(64, 1),
        )
        _initialise(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one logit for each sample: (N, 1)."""
        if self.edge and set(x.shape[2:]) != {self.edge}:
            raise ConfigError(
                f"This critic is made for patches of {self.edge} voxels, not "
                f"{' × '.join(map(str, x.shape[2:]))}. Remove its setting 'edge'."
            )
        maps = self.body(x)
        logits: torch.Tensor = self.dense(
            maps.flatten(1) if self.edge else maps.flatten(2).mean(dim=2)
        )
        return logits


def check_penalty(critic: nn.Module) -> None:
    """Reject a critic for which the gradient penalty would be wrong.

    Raises
    ------
    ConfigError
        If the critic has batch norm, because a sample's score then depends on the other
        samples.
    """
    if getattr(critic, "norm", "none") == "batch":
        raise ConfigError(
            "A critic with batch normalisation has no separate gradient for each "
            "sample: with the Wasserstein distance, use no normalisation."
        )


def pad_to_size(x: torch.Tensor, min_size: int) -> torch.Tensor:
    """Pad patches to at least `min_size` voxels per axis by repeating their edges."""
    missing = [max(0, min_size - n) for n in x.shape[2:]]
    if not any(missing):
        return x
    widths = [w for m in reversed(missing) for w in (m // 2, m - m // 2)]
    return functional.pad(x, widths, mode="replicate")


def _initialise(critic: nn.Module) -> None:
    for module in critic.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=_NEGATIVE_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
