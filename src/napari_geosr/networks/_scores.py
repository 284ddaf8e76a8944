"""Networks that predict labels: one score map each, and the most likely label.

In training such a network gives the scores, from which cross-entropy is computed; in
evaluation it gives one number per voxel like any other, so that it is tiled alike. The
choice is made voxel by voxel: its halo is that of the scores.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import Field, model_validator

from napari_geosr.networks._planes import PlanesConfig

#: Labels fit into one byte.
MOST_LABELS = 256


class ScoresConfig(PlanesConfig):
    """Settings of a network that outputs grey values or label scores."""

    residual: bool = True
    """Add the (centre) input plane to the output."""
    out_channels: int = Field(1, ge=1, le=MOST_LABELS)
    """1: grey values. More: as many labels, of which the likeliest is given."""
    extra_channels: int = Field(0, ge=0, le=64)
    """Channels behind those of the scan, for a network that wraps this one."""

    @model_validator(mode="after")
    def _check_scores(self) -> Self:
        if self.out_channels > 1 and self.residual:
            raise ValueError(
                "the input cannot be added to label scores: set residual to false"
            )
        return self


def likeliest(scores: torch.Tensor) -> torch.Tensor:
    """Convert scores ``(N, n, …)`` to the most likely label ``(N, 1, …)``.

    Of equal scores the first label is taken; where a score is no number, neither is
    the label.
    """
    labels = scores.argmax(dim=1, keepdim=True).to(scores.dtype)
    return labels.masked_fill_(scores.isnan().any(dim=1, keepdim=True), math.nan)
