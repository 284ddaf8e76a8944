"""Structural similarity, window by window."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "structure differs"
ABOUT = "structure"
KIND = "voxels"
WEIGHT = 1.0


def loss(output: Tensor, target: Tensor) -> Tensor:
    """See :func:`napari_geosr.learning.losses.pixel.ssim`."""
    from napari_geosr.learning.losses.pixel import ssim

    return ssim(output, target)
