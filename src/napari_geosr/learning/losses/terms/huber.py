"""Huber's loss, voxel by voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Huber's loss"
ABOUT = "outliers count less"
KIND = "voxels"
WEIGHT = 1.0


def loss(output: Tensor, target: Tensor) -> Tensor:
    """See :func:`napari_geosr.learning.losses.pixel.huber`."""
    from napari_geosr.learning.losses.pixel import huber

    return huber(output, target)
