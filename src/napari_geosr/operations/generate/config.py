"""Settings of samples drawn from a diffusion model. No torch: ``--help`` reads it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

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
        description="Voxels along Y,X or Z,Y,X, such as 64,64,64; by default 128,128 "
        "or 64,64,64.",
    )
    porosity: float | None = Field(
        None,
        gt=0,
        lt=1,
        title="Porosity",
        description="Fraction of dark voxels of the samples, such as 0.2, for models "
        "trained with --condition porosity; by default that of the training data.",
    )
    guidance: float = Field(
        1.0,
        ge=0,
        le=10,
        title="Guidance",
        description="How strictly the porosity is kept: 1: as trained; more: closer to "
        "it, with less variety.",
    )
    training: Annotated[tuple[str, ...], COMMAS] = Field(
        (),
        title="Training images",
        description="Files that the model was trained on. Samples are then compared "
        "with them, and nothing is written if the model copies them.",
    )
    held_out: Annotated[tuple[str, ...], COMMAS] = Field(
        (),
        title="Held-out images",
        description="Files of the same kind that the model was not trained on, of "
        "other objects: how much new images resemble the training images.",
    )
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Random seed: the same seed gives the same samples, in whatever "
        "number.",
    )
    sampling_steps: int = Field(
        30,
        ge=2,
        le=1000,
        title="Sampling steps",
        description="Passes of the network per sample; more are slower and slightly "
        "more accurate.",
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )

    @model_validator(mode="after")
    def _check_comparison(self) -> GenerateConfig:
        if bool(self.training) != bool(self.held_out):
            raise ValueError(
                "copies are found by comparing training and held-out images: give both"
            )
        return self

    @field_validator("shape", mode="before")
    @classmethod
    def _read_shape(cls, value: Any) -> object:
        return parse_numbers(value, int, "64,64,64")

    @field_validator("shape")
    @classmethod
    def _check_shape(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (len(value) not in (2, 3) or min(value) < 8):
            raise ValueError("give two or three numbers of 8 or more")
        return value
