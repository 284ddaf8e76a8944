"""Voxel-wise Huber loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Huber loss"
ABOUT = "like l1, but smooth near zero; outliers count less than with l2"
KIND = "voxels"
WEIGHT = 1.0


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the loss; see `napari_geosr.learning.losses.pixel.huber`."""
    return losses.pixel.huber(output, target)
