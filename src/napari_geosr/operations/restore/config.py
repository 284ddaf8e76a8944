"""Settings of a restoration, and the kinds of uncertainty. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from pydantic import Field, field_validator

from napari_geosr.core.config import Config
from napari_geosr.core.memory_budget import MemoryBudget
from napari_geosr.inference.members import KINDS, NONE
from napari_geosr.operations.inputs import COMMAS

if TYPE_CHECKING:
    from napari_geosr.models.card import ModelCard

__all__ = ["NONE", "RestoreConfig", "UncertaintyKind", "go_together", "kinds"]


class RestoreConfig(Config):
    """Settings of a restoration."""

    model: Annotated[str, Parameter(alias="-m")] = Field(
        "ct-denoise",
        title="Model",
        description="Name of a model in the zoo, or the path of a model bundle; "
        "auto: the one with the smallest expected error on this scan, or none.",
    )
    device: str = Field(
        "auto", title="Device", description="auto, cpu, cuda, cuda:1 or mps."
    )
    memory: MemoryBudget = None
    output_dtype: Literal["float32", "input"] = Field(
        "float32",
        title="Output type",
        description="float32, or the input's own integer type, rounded and clipped; "
        "labels are always whole numbers.",
    )
    nonfinite: Literal["mean", "zero", "refuse"] = Field(
        "mean",
        title="NaN and Inf",
        description="The model sees the mean or zero in their place; or refuse to run. "
        "In the result they stay NaN.",
    )
    threads: int | None = Field(
        None,
        ge=1,
        title="Threads",
        description="CPU threads, at most as many as cores; by default cores - 1.",
    )
    backend: Literal["auto", "torch", "openvino"] = Field(
        "auto",
        title="Backend",
        description="What computes on the CPU. Auto: openvino for long runs, where it "
        "is installed, faster, and equal to torch on the first tile; else torch.",
    )
    strength: float = Field(
        1.0,
        ge=0,
        le=2,
        title="Strength",
        description="How much noise to remove, relative to the level measured in the "
        "scan: 0 returns the scan, 1 is the measured level. For models that are "
        "bounded by the noise.",
    )
    sharpness: Literal["auto", "scan", "object"] = Field(
        "auto",
        title="Sharpness",
        description="Of a super-resolved result: as sharp as the scan, on a finer "
        "grid; or as sharp as the model makes the object. Auto: the latter only where "
        "it explains the scan down to its noise.",
    )
    uncertainty: str = Field(
        NONE,
        title="Uncertainty",
        description="none; tta: also a volume of standard deviations over flips and "
        "quarter turns; ensemble: over several models.",
    )
    uncertainty_members: int | None = Field(
        None,
        ge=2,
        le=16,
        title="Members",
        description="How many flips and turns: a member takes as long as a plain run; "
        "by default 8, or as many as the voxels allow.",
    )
    ensemble_with: Annotated[tuple[str, ...], COMMAS] = Field(
        (),
        title="Together with",
        description="Further models of an ensemble, of the same task and factor.",
    )

    @field_validator("uncertainty")
    @classmethod
    def _check_uncertainty(cls, value: str) -> str:
        known = [NONE, *KINDS.names()]
        if value not in known:
            raise ValueError(f"one of {', '.join(map(repr, known))}")
        return value

    @field_validator("ensemble_with", mode="before")
    @classmethod
    def _read_names(cls, value: object) -> object:
        """Take ``A,B`` for two names, as a command line gives them."""
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
    """A way to find out how sure a model is.

    Attributes
    ----------
    name : str
        As settings have it.
    title, help : str
        For people.
    needs_others : bool
        Whether further models are given.
    """

    name: str
    title: str
    help: str
    needs_others: bool


def kinds() -> list[UncertaintyKind]:
    """All kinds there are; imports no torch. One that needs no other models first."""
    found = []
    for name in KINDS.names():
        module = KINDS.load(name)
        found.append(
            UncertaintyKind(name, module.TITLE, module.HELP, module.NEEDS_OTHERS)
        )
    return sorted(found, key=lambda kind: (kind.needs_others, kind.name))


def go_together(one: ModelCard, other: ModelCard) -> bool:
    """Whether two models may be an ensemble, by what their cards say."""
    return (
        (one.task, one.upscale_factor, one.axes)
        == (other.task, other.upscale_factor, other.axes)
        and one.weights_sha256 != other.weights_sha256
        and one.labels == other.labels == 1
        and one.has_weights
        and other.has_weights
    )
