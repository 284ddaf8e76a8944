"""Networks that predict labels: one score map per label, and the most likely label.

In training, such a network returns the scores, from which cross-entropy is computed. In
evaluation it returns one value per voxel like other networks, so that it is tiled in
the same way. Because labels are chosen voxel by voxel, the halo is the same for labels
as for scores.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import Field, model_validator

from napari_geosr.networks.layers.planes import PlanesConfig

#: Maximum number of labels, so that a label fits into one byte.
MAX_LABELS = 256


class ScoresConfig(PlanesConfig):
    """Settings of a network that outputs grey values or label scores."""

    residual: bool = True
    """Add the (centre) input plane to the output."""
    out_channels: int = Field(1, ge=1, le=MAX_LABELS)
    """1: output grey values. More than 1: number of labels; the most likely label is
    output."""
    extra_channels: int = Field(0, ge=0, le=64)
    """Additional input channels after those of the scan, set by a wrapping network."""

    @model_validator(mode="after")
    def _check_scores(self) -> Self:
        if self.out_channels > 1 and self.residual:
            raise ValueError(
                "the input cannot be added to label scores: set residual to false"
            )
        return self


def most_likely_label(scores: torch.Tensor) -> torch.Tensor:
    """Convert scores ``(N, n, …)`` to the most likely label ``(N, 1, …)``.

    In a tie, the first label is returned; if any score is NaN, the label is NaN as
    well.
    """
    labels = scores.argmax(dim=1, keepdim=True).to(scores.dtype)
    return labels.masked_fill_(scores.isnan().any(dim=1, keepdim=True), math.nan)
