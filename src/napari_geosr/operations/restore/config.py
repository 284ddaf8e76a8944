"""Settings of a restoration, and the kinds of uncertainty.

This module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field, field_validator

from napari_geosr.core.config import Config
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.core.text.vocabulary import SharpnessChoice
from napari_geosr.inference.members import KINDS, NONE, is_generative
from napari_geosr.models.names import MODEL_NAME
from napari_geosr.operations.inputs import COMMAS

if TYPE_CHECKING:
    from napari_geosr.models.card import ModelCard

__all__ = ["NONE", "RestoreConfig", "UncertaintyKind", "are_compatible", "kinds"]


class RestoreConfig(Config):
    """Settings of a restoration."""

    model: Annotated[str, Parameter(alias="-m"), MODEL_NAME] = Field(
        "ct-denoise",
        title="Model",
        description="Name or path of a model. auto: choose the model with the "
        "smallest expected error on this scan, or leave the scan as it is; with an "
        "upscale factor, choose a super-resolution model or cubic interpolation.",
    )
    device: str = Field(
        "auto",
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    )
    memory: MemoryBudget = None
    output_dtype: Literal["float32", "input"] = Field(
        "float32",
        title="Output type",
        description="Data type of the result: float32, or the type of the input, "
        "rounded and clipped. Label images are always stored as integers.",
    )
    nonfinite: Literal["mean", "zero", "refuse"] = Field(
        "mean",
        title="NaN and Inf",
        description="How unknown voxels (NaN, infinite) are treated. mean, zero: "
        "replace them with the mean or with zero in the model's input, and return NaN "
        "there; refuse: stop with a message.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        title="Threads",
        description="CPU threads; by default the number of cores minus one.",
    )
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        title="Backend",
        description="Library that runs the model on the CPU. auto: OpenVINO for long "
        "runs, provided that it is installed, is faster than torch and agrees "
        "with it on the first tile; otherwise torch.",
    )
    strength: float = Field(
        1.0,
        ge=0,
        le=2,
        title="Strength",
        description="How much noise to remove, from 0 to 2, for filters and for models "
        "that take the noise level as input: 0 returns the scan, 1 removes as much "
        "noise as was measured. If the model is chosen automatically, 0.9 or 0.8 may "
        "be used instead of 1 to keep structures of the scan; to use exactly 1, name "
        "the model.",
    )
    sharpness: SharpnessChoice = Field(
        "scan",
        title="Sharpness",
        description="Sharpness of a super-resolved result. scan: as sharp as the scan, "
        "on a finer grid, so that the result agrees with the scan to within its noise; "
        "object: as sharp as the model predicts the object to be; auto: object if the "
        "result, blurred, is consistent with the scan, otherwise scan.",
    )
    uncertainty: str = Field(
        NONE,
        title="Uncertainty",
        description="Also write a volume of standard deviations. tta: over mirrored "
        "and rotated copies of the scan; ensemble: over several models; "
        "diffusion: over samples of a diffusion model (train ddpm or srdiff) "
        "that agree with the scan; none: write none.",
    )
    uncertainty_members: int | None = Field(
        None,
        ge=2,
        le=64,
        title="Members",
        description="Number of mirrored and rotated copies, or of samples of a "
        "diffusion model; each takes as long as a normal run. By default 8, or fewer "
        "if the model or the voxel size does not allow 8.",
    )
    sampling_steps: int = Field(
        20,
        ge=2,
        le=1000,
        title="Sampling steps",
        description="Number of passes through the network per sample of a diffusion "
        "model. More passes take longer, but give slightly more accurate samples.",
    )
    upscale_factor: int = Field(
        1,
        ge=1,
        le=8,
        title="Upscale factor",
        description="Voxels of the result per voxel of the scan along each axis, for "
        "the model auto and for samples of a diffusion model. Other models have a "
        "fixed factor.",
    )
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Random seed for samples of a diffusion model: the same seed "
        "gives the same samples.",
    )
    ensemble_with: Annotated[tuple[str, ...], COMMAS] = Field(
        (),
        title="Ensemble with",
        description="Additional models for an ensemble, with the same task and "
        "upscale factor.",
    )

    @field_validator("uncertainty")
    @classmethod
    def _check_uncertainty(cls, value: str) -> str:
        known = [NONE, *KINDS.names()]
        if value not in known:
            raise ValueError(f"one of {', '.join(map(repr, known))} is needed")
        return value

    @field_validator("ensemble_with", mode="before")
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


@dataclass(frozen=True)
class UncertaintyKind:
    """A method for estimating the uncertainty of a restoration.

    Attributes
    ----------
    name : str
        Name used in settings.
    title, help : str
        Texts shown to the user.
    needs_others : bool
        Whether the method requires further models.
    generative : bool
        Whether the method requires a diffusion model.
    """

    name: str
    title: str
    help: str
    needs_others: bool
    generative: bool = False


def kinds() -> list[UncertaintyKind]:
    """Return all kinds of uncertainty, starting with those of a single model."""
    found = []
    for name in KINDS.names():
        module = KINDS.load(name)
        found.append(
            UncertaintyKind(
                name,
                module.TITLE,
                module.HELP,
                module.NEEDS_OTHERS,
                is_generative(name),
            )
        )
    return sorted(
        found, key=lambda kind: (kind.generative, kind.needs_others, kind.name)
    )


def are_compatible(one: ModelCard, other: ModelCard) -> bool:
    """Return whether two models can form an ensemble, according to their cards."""
    return (
        (one.task, one.upscale_factor, one.axes)
        == (other.task, other.upscale_factor, other.axes)
        and one.weights_sha256 != other.weights_sha256
        and one.labels == other.labels == 1
        and one.has_weights
        and other.has_weights
    )
