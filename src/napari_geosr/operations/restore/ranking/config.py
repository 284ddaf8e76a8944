"""Settings of a ranking."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from napari_geosr.core.config import Config
from napari_geosr.core.text.vocabulary import Modality, SharpnessChoice
from napari_geosr.operations.inputs import COMMAS

#: Model name that requests an automatic choice by ranking.
AUTO = "auto"
#: Name of the candidate that leaves the scan unchanged.
NONE = "none"


class RankConfig(Config):
    """Settings of a ranking."""

    modality: Modality | None = Field(
        None,
        title="Modality",
        description="How the scan was acquired; models for other kinds of image are "
        "excluded. By default, models for all kinds are compared.",
    )
    models: Annotated[tuple[str, ...], COMMAS] = Field(
        (),
        title="Models",
        description="Names or paths of the models to compare; by default all "
        "denoisers and the classical filters or, with an upscale factor, all "
        "super-resolution models with this factor.",
    )
    upscale_factor: int = Field(
        1,
        ge=1,
        le=16,
        title="Upscale factor",
        description="Compare super-resolution models with this factor, and cubic "
        "interpolation, instead of denoisers.",
    )
    sharpness: SharpnessChoice = Field(
        "scan",
        title="Sharpness",
        description="With an upscale factor: sharpness of the results, as in "
        "restore --sharpness.",
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

    @field_validator("models", mode="before")
    @classmethod
    def _read_names(cls, value: object) -> object:
        """Split names such as ``A,B`` from the command line at commas."""
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list | tuple):
            return value
        return tuple(
            name.strip()
            for word in words
            for name in (word.split(",") if isinstance(word, str) else [word])
        )

    def upscaling_settings(self) -> dict[str, object]:
        """Return the settings that apply only to super-resolution models."""
        return {"upscale_factor": self.upscale_factor, "sharpness": self.sharpness}
