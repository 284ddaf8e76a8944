"""Mean squared error of the voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "squared error"
ABOUT = "squared error; predicts the mean, with the highest PSNR"
KIND = "voxels"
WEIGHT = 1.0


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the loss; see `napari_geosr.learning.losses.pixel.l2`."""
    return losses.pixel.l2(output, target)
