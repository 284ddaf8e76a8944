"""Compares differences between neighbours, to make edges as sharp as the target's.

Unless a grey-value loss is given, this loss is combined with the mean absolute error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "gradient error"
ABOUT = "edges; l1 is added unless a grey-value loss is given"
KIND = "edges"
WEIGHT = 0.2


def loss(output: Tensor, target: Tensor) -> Tensor:
    """Return the loss; see `napari_geosr.learning.losses.pixel.gradient_difference`."""
    return losses.pixel.gradient_difference(output, target)
