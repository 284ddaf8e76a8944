"""Settings for sampling from a diffusion model.

This module does not import torch.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from napari_geosr.core.config import Config
from napari_geosr.operations.inputs import COMMAS, parse_numbers


class GenerateConfig(Config):
    """Number, size and seed of the samples."""

    number: int = Field(
        4, ge=1, le=10_000, title="Number", description="Number of samples."
    )
    shape: Annotated[tuple[int, ...] | None, COMMAS] = Field(
        None,
        title="Shape",
        description="Number of voxels along Y,X or Z,Y,X, such as 64,64,64; by default "
        "128,128 or 64,64,64.",
    )
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Random seed: the same seed gives the same samples, regardless "
        "of their number.",
    )
    porosity: float | None = Field(
        None,
        ge=0,
        le=1,
        title="Porosity",
        description="Porosity of the samples, for models trained with --condition "
        "porosity; by default, the porosity varies as in the training data.",
    )
    guidance: float = Field(
        1.0,
        ge=0,
        le=10,
        title="Guidance",
        description="Weight of the porosity; above 1, samples follow it more closely "
        "but vary less.",
    )
    sampling_steps: int = Field(
        30,
        ge=2,
        le=1000,
        title="Sampling steps",
        description="Number of passes through the network per sample; more passes take "
        "longer, but give slightly more accurate samples.",
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        title="Threads",
        description="CPU threads; by default the number of cores minus one.",
    )

    @field_validator("shape", mode="before")
    @classmethod
    def _read_shape(cls, value: Any) -> object:
        return parse_numbers(value, int, "64,64,64")

    @field_validator("shape")
    @classmethod
    def _check_shape(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (len(value) not in (2, 3) or min(value) < 8):
            raise ValueError("give two or three numbers, each at least 8")
        return value
