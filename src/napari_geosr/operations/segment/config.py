"""Settings of segmentation by strokes.

This module does not import torch.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from napari_geosr.core.config import Config
from napari_geosr.models.names import MODEL_NAME


class SegmentConfig(Config):
    """Settings: model, seed and meaning of the painted values."""

    model: Annotated[str | None, Parameter(alias="-m"), MODEL_NAME] = Field(
        None,
        title="Model",
        description="Diffusion model (train ddpm) that provides additional features; "
        "by default, none.",
        json_schema_extra={"unset": "none"},
    )
    unpainted: int | None = Field(
        None,
        ge=0,
        title="Unpainted",
        description="Value of the labels where nothing is painted; by default 255 if "
        "it occurs, otherwise 0.",
    )
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Random seed: the same labels and seed give the same result.",
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device for the model: auto, cpu, cuda, cuda:1 or mps.",
    )
