"""Mean absolute error of the voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "absolute error"
ABOUT = "absolute error; predicts the median, with sharper edges than l2"
KIND = "voxels"
WEIGHT = 1.0


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the loss; see `napari_geosr.learning.losses.pixel.l1`."""
    return losses.pixel.l1(output, target)
