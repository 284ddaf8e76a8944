"""Settings of an explanation.

This module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import Field, field_validator, model_validator

from napari_geosr.attribution import METHODS
from napari_geosr.core.config import Config
from napari_geosr.models.names import MODEL_NAME
from napari_geosr.operations.inputs import COMMAS, parse_numbers


class ExplainConfig(Config):
    """Settings of an explanation."""

    model: Annotated[str, Parameter(alias="-m"), MODEL_NAME] = Field(
        "ct-denoise", title="Model", description="Name or path of a model."
    )
    method: Annotated[tuple[str, ...], COMMAS] = Field(
        ("evidence", "reach"),
        min_length=1,
        title="Methods",
        description="What to compute, separated by commas. evidence: whether the scan "
        "supports the pore, or the model would produce it anyway; reach: how far "
        "away voxels still affect the result; filter: the linear filter that the "
        "network applies there; lam: which details of the scan produce the "
        "result; occlusion: which regions of the scan change the result when they "
        "are removed; similar: the most similar training patches (only for "
        "models with an index of them).",
    )
    at: Annotated[tuple[int, ...] | None, COMMAS] = Field(
        None,
        title="Voxel",
        description="Voxel of the result to explain, as Z,Y,X (counted from 0). For "
        "super-resolution, count voxels of the result, not of the scan.",
    )
    position: Annotated[tuple[float, ...] | None, COMMAS] = Field(
        None,
        title="Position",
        description="Position to explain, instead of a voxel: Z,Y,X in the unit and "
        "coordinate system of the scan.",
    )
    threshold: float | None = Field(
        None,
        title="Threshold",
        description="Grey value that separates pores from solid in the result; by "
        "default, the threshold in the pore report or, without a report, Otsu's "
        "threshold around the voxel.",
    )
    phase: Literal["dark", "bright"] | None = Field(
        None,
        title="Pores are",
        description="Whether pores are darker or brighter than the solid; by default "
        "as in the pore report or, without a report, darker.",
    )
    draws: int = Field(
        8,
        ge=2,
        le=256,
        title="Noise realisations",
        description="Number of noise realisations (evidence, occlusion).",
    )
    margin: int = Field(
        2,
        ge=0,
        le=16,
        title="Margin",
        description="Width, in voxels of the scan, of the margin around a pore that "
        "is also replaced by solid (evidence).",
    )
    radius: int = Field(
        0,
        ge=0,
        le=16,
        title="Radius",
        description="Half-width, in voxels, of the cube that is explained where "
        "there is no pore.",
    )
    feature: Literal["grey", "edge"] = Field(
        "grey",
        title="Feature",
        description="Quantity that lam explains: the mean grey value, or the mean "
        "gradient.",
    )
    steps: int = Field(
        32,
        ge=2,
        le=512,
        title="Steps",
        description="Number of steps from the blurred to the sharp scan (lam).",
    )
    blur: float = Field(
        4.0,
        gt=0,
        le=32,
        title="Blur",
        description="Standard deviation, in voxels of the scan, of the blur from which "
        "lam starts.",
    )
    patch: int = Field(
        3,
        ge=1,
        le=32,
        title="Patch",
        description="Edge length of the cubes that occlusion replaces, in voxels of "
        "the scan.",
    )
    seed: int = Field(0, ge=0, title="Seed", description="Seed for the random noise.")
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )
    nonfinite: Literal["mean", "zero", "refuse"] = Field(
        "mean",
        title="NaN and Inf",
        description=(
            "How unknown voxels (NaN, infinite) are treated. mean, zero: replace "
            "them with the mean or with zero in the model's input; refuse: stop "
            "with a message."
        ),
    )
    threads: int | None = Field(
        None,
        ge=1,
        title="Threads",
        description="CPU threads; by default the number of cores minus one.",
    )
    strength: float = Field(
        1.0,
        ge=0,
        le=2,
        title="Strength",
        description=(
            "How much noise to remove, as in restore: 0 returns the scan, 1 removes "
            "as much noise as was measured."
        ),
    )
    sharpness: Literal["auto", "scan", "object"] = Field(
        "scan",
        title="Sharpness",
        description=(
            "Sharpness of a super-resolved result, as in restore: that of the scan, "
            "that of the object, or chosen automatically."
        ),
    )

    @field_validator("method", mode="before")
    @classmethod
    def _read_methods(cls, value: object) -> object:
        """Split names such as ``A,B`` from the command line at commas."""
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list | tuple):
            return value
        return tuple(
            name.strip()
            for word in words
            for name in (word.split(",") if isinstance(word, str) else [word])
        )

    @field_validator("method")
    @classmethod
    def _check_methods(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        known = METHODS.names()
        if not set(value) <= set(known):
            raise ValueError(f"one or more of {', '.join(map(repr, known))} are needed")
        return tuple(dict.fromkeys(value))

    @field_validator("at", mode="before")
    @classmethod
    def _read_voxel(cls, value: object) -> object:
        return parse_numbers(value, int, "12,32,32")

    @field_validator("position", mode="before")
    @classmethod
    def _read_position(cls, value: object) -> object:
        return parse_numbers(value, float, "24.5,64,64")

    @model_validator(mode="after")
    def _one_place(self) -> ExplainConfig:
        if self.at is not None and self.position is not None:
            raise ValueError("give a voxel or a position, not both")
        return self


def with_training_patches(config: ExplainConfig) -> ExplainConfig:
    """Add the method ``similar`` if the model has an index of its training patches."""
    from napari_geosr.models import zoo

    if zoo.find(config.model).card.similarity_sha256 is None:
        return config
    method = tuple(dict.fromkeys([*config.method, "similar"]))
    return config.model_copy(update={"method": method})


@dataclass(frozen=True)
class MethodDescription:
    """Description of a method for menus.

    Attributes
    ----------
    name : str
        Name used in settings.
    title, help : str
        Texts shown to the user.
    """

    name: str
    title: str
    help: str


def methods() -> list[MethodDescription]:
    """Return all available methods, without importing torch."""
    return [
        MethodDescription(name, module.TITLE, module.HELP)
        for name in METHODS.names()
        for module in (METHODS.load(name),)
    ]
