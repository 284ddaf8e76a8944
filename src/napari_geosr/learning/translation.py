"""Base of image-to-image methods: settings and grids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from napari_geosr.learning.adversarial import AdversarialConfig, AdversarialMethod
from napari_geosr.learning.config import TrainingConfig

if TYPE_CHECKING:
    from torch import Tensor


class TranslationConfig(AdversarialConfig):
    """Settings of image-to-image methods."""

    network: str = Field(
        "resnet",
        title="Network",
        description="Architecture of the generator: resnet (light; also for "
        "super-resolution), light_sr, unet, tomogan, msdnet and others.",
    )
    adjacent_slices: int = Field(
        3,
        ge=1,
        le=31,
        title="Adjacent slices",
        description="Number of adjacent slices that a 2.5D network takes as input; "
        "must be odd.",
    )
    upscale_factor: Literal[1, 2, 4, 8] | None = Field(
        None,
        title="Upscale factor",
        description="Voxels of the target per voxel of the source along each axis: 1, "
        "2, 4 or 8; by default the network's own factor.",
    )


class TranslationMethod(AdversarialMethod):
    """A generator from source to target, on the same grid or with smaller voxels."""

    task = "translate"
    config: TranslationConfig

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.upscale_factor = int(self.network_kwargs().get("upscale_factor", 1))


def middle(x: Tensor) -> Tensor:
    """Return the centre channel of ``(N, C, …)``, as ``(N, 1, …)``."""
    centre = x.shape[1] // 2
    return x[:, centre : centre + 1]


def finer(x: Tensor, factor: int) -> Tensor:
    """Interpolate `x` linearly to voxels that are `factor` times smaller."""
    from torch.nn import functional

    if factor == 1:
        return x
    mode = "trilinear" if x.ndim == 5 else "bilinear"
    return functional.interpolate(
        x, scale_factor=factor, mode=mode, align_corners=False
    )


def coarser(x: Tensor, factor: int) -> Tensor:
    """Return means of ``factorⁿ`` voxels, as larger detector pixels would record."""
    from torch.nn import functional

    if factor == 1:
        return x
    pool = functional.avg_pool3d if x.ndim == 5 else functional.avg_pool2d
    return pool(x, factor)
