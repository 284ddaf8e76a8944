"""Structural similarity in windows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "SSIM loss"
ABOUT = "structural similarity"
KIND = "voxels"
WEIGHT = 1.0


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the loss; see `napari_geosr.learning.losses.pixel.ssim`."""
    return losses.pixel.ssim(output, target)
