"""Settings of structured illumination.

This module does not import torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator

from napari_geosr.core.config import Config
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import MILLIMETRES, parse_unit
from napari_geosr.operations.inputs import COMMAS

#: Reconstruction methods, simplest first.
SimMethod = Literal["widefield", "wiener", "joint-rl", "pinn"]
METHODS: tuple[SimMethod, ...] = get_args(SimMethod)
#: Title of each method.
METHOD_TITLES: dict[str, str] = {
    "widefield": "Widefield",
    "wiener": "Wiener-SIM",
    "joint-rl": "Joint Richardson–Lucy",
    "pinn": "Physics-informed network",
}
_NUMBER = re.compile(r"\s*([0-9.]+(?:[eE][-+]?\d+)?)\s*(\D*)")


def parse_nanometres(value: object, *, default: str = "nm") -> object:
    """Convert a length such as ``"525nm"`` or ``"0.065 µm"`` to nanometres.

    Parameters
    ----------
    value : object
        Text or a number; None stays None.
    default : str
        Unit assumed for a number without a unit.
    """
    if value is None or isinstance(value, bool):
        return value
    match = _NUMBER.fullmatch(str(value))
    unit = None if match is None else parse_unit(match[2].strip() or default)
    if match is None or unit not in MILLIMETRES:
        raise ValueError("give a length, such as 525nm or 0.065um")
    return float(match[1]) * MILLIMETRES[unit] / MILLIMETRES["nm"]


#: Types of the settings that the command ``train pinn-sim`` also has.
UpscaleFactor = Annotated[
    int,
    Field(
        ge=1,
        le=8,
        title="Upscale factor",
        description="Pixels of the result per camera pixel along each axis. Nonlinear "
        "illumination may need 3 or 4.",
    ),
]
Iterations = Annotated[
    int | None,
    Field(
        ge=1,
        le=1000,
        title="Iterations",
        description="Number of iterations of joint Richardson–Lucy; by default chosen "
        "with held-out photons.",
    ),
]
TotalVariation = Annotated[
    float,
    Field(
        ge=0,
        le=0.5,
        title="Total variation",
        description="Weight of the total variation in joint Richardson–Lucy; 0.002 "
        "suits noisy frames.",
    ),
]


def current_recipe(value: object) -> object:
    """Return a recipe by its current name; ``refine`` was called ``ours`` before."""
    return "refine" if value == "ours" else value


Recipe = Annotated[
    Literal["refine", "published"],
    BeforeValidator(current_recipe),
    Field(
        title="Fitting",
        description="How the network is fitted (pinn). refine: start from the result "
        "of joint-rl, and stop when the prediction of held-out photons no longer "
        "improves; published: start from the frames alone and run all steps, as Burns "
        "and Liu (2023) do.",
        json_schema_extra={
            "titles": {
                "refine": "refine joint-rl",
                "published": "as published",
            }
        },
    ),
]
NetworkSteps = Annotated[
    int,
    Field(
        ge=1,
        le=100_000,
        title="Steps",
        description="For pinn: maximum number of optimiser steps (1000 in the "
        "publication).",
    ),
]
NetworkWidth = Annotated[
    int,
    Field(
        ge=4,
        le=128,
        title="Width",
        description="For pinn: number of feature maps of the U-Net at full resolution "
        "(32 in the publication).",
    ),
]
PatternsAfter = Annotated[
    int | None,
    Field(
        ge=0,
        title="Fit patterns after",
        description="For pinn: step after which wave vectors, phases and modulation "
        "are also fitted. Has no effect if the fit ends before this step.",
    ),
]
ComputeDevice = Annotated[
    str,
    Field(
        title="Device",
        description="Device to use: auto, cpu, cuda, cuda:1 or mps.",
    ),
]


class FramesConfig(Config):
    """Arrangement of the frames in a file, and settings of the microscope."""

    na: float | None = Field(
        None,
        gt=0,
        lt=2,
        title="Numerical aperture",
        description="Numerical aperture of the objective; by default, read from the "
        "file.",
    )
    wavelength: Annotated[tuple[float, ...] | None, COMMAS] = Field(
        None,
        title="Wavelength (nm)",
        description="Emission wavelength, such as 525nm; one for each channel, "
        "separated by commas. By default, read from the file.",
    )
    index: float | None = Field(
        None,
        ge=1,
        le=2,
        title="Refractive index",
        description="Refractive index of the immersion medium; by default, read from "
        "the file, or 1.515 (oil) if the file gives none.",
    )
    pixel: float | None = Field(
        None,
        gt=0,
        title="Pixel size (nm)",
        description="Edge length of a camera pixel in the sample plane, such as 65nm; "
        "by default, read from the file.",
    )
    angles: int | None = Field(
        None,
        ge=1,
        le=64,
        title="Angles",
        description="Number of pattern directions; by default, taken from a patterns "
        "file or derived from the number of frames (3 for 9 or 15; 5 for 25, 35 or "
        "45).",
    )
    phases: int | None = Field(
        None,
        ge=1,
        le=4096,
        title="Phases",
        description="Number of phases (frames) per direction; by default, taken from a "
        "patterns file or derived from the number of frames.",
    )
    order: str | None = Field(
        None,
        title="Order",
        description="Order of angle (a), phase (p) and slice (z) in the file, "
        "slowest-varying first, such as apz; by default, determined from the frames. "
        "In a time series, z is the time point.",
    )
    offset: float | None = Field(
        None,
        title="Camera offset",
        description="Grey value without light (camera offset); by default estimated "
        "from the darkest parts of the frames.",
    )
    psf: Path | None = Field(
        None,
        title="PSF image",
        description="Image of a measured point-spread function; replaces numerical "
        "aperture and wavelength.",
        json_schema_extra={"unset": "none"},
    )
    psf_sampling: float | None = Field(
        None,
        ge=1,
        le=32,
        title="PSF sampling",
        description="Number of pixels of the point-spread function per camera pixel; "
        "by default, calculated from the pixel sizes of the two images.",
    )
    damping: float = Field(
        1.0,
        gt=0,
        le=1,
        title="OTF damping",
        description="Transfer of high frequencies relative to an ideal objective "
        "(1: ideal; 0.3 to 1 for real objectives).",
    )
    patterns: Path | None = Field(
        None,
        title="Patterns file",
        description="File with known patterns: patterns.yaml from 'sim check', or an "
        "image stack with one pattern per frame. By default, the patterns are found "
        "in the frames.",
    )
    harmonics: int | None = Field(
        None,
        ge=1,
        le=4,
        title="Harmonics",
        description="Harmonics of the pattern: 1 for two-beam illumination, 2 for "
        "three-beam illumination, 2 or more for nonlinear illumination. Needs at least "
        "2 × harmonics + 1 phases. By default 2 if the frames contain two patterns in "
        "each direction, otherwise 1.",
    )

    threads: int | None = Field(
        None,
        ge=1,
        title="Threads",
        description="CPU threads; by default the number of cores minus one.",
    )

    @field_validator("wavelength", mode="before")
    @classmethod
    def _read_wavelength(cls, value: object) -> object:
        if value is None:
            return None
        words = value if isinstance(value, list | tuple) else (value,)
        parts = [part for word in words for part in str(word).split(",")]
        return tuple(parse_nanometres(part) for part in parts)

    @field_validator("wavelength")
    @classmethod
    def _check_wavelength(cls, value: tuple[float, ...] | None) -> object:
        if value is not None and not all(100 <= v <= 5000 for v in value):
            hint = ""
            if all(0.1 <= v <= 5 for v in value):
                hint = f"; for micrometres, write {value[0]:g}um"
            raise ValueError(
                f"wavelengths of 100 to 5000 nm are needed, such as 525nm{hint}"
            )
        return value

    @field_validator("pixel", mode="before")
    @classmethod
    def _read_pixel(cls, value: object) -> object:
        return parse_nanometres(value)

    def with_absolute_paths(self) -> Self:
        """Return the settings with absolute paths, for another process."""
        changes: AnyDict = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Path):
                changes[name] = value.expanduser().resolve()
        return self.model_copy(update=changes)


class SimConfig(FramesConfig):
    """Settings of a reconstruction from structured illumination."""

    method: SimMethod = Field(
        "joint-rl",
        title="Method",
        description="joint-rl: joint Richardson–Lucy of all frames (best quality); "
        "wiener: Wiener-SIM (fastest); widefield: mean of the frames, for comparison; "
        "pinn: untrained physics-informed network, which corrects joint-rl (slow).",
        json_schema_extra={"titles": {**METHOD_TITLES, "pinn": "Network (pinn)"}},
    )
    upscale_factor: UpscaleFactor = 2
    regularisation: float | None = Field(
        None,
        ge=0,
        le=10,
        title="Regularisation",
        description="Wiener parameter w; by default, estimated from the noise of the "
        "frames. Larger values give smoother results; values below 0.001 are "
        "treated as 0.001.",
    )
    apodisation: Literal["lukosz", "cosine", "none"] = Field(
        "cosine",
        title="Apodisation",
        description="How Wiener-SIM attenuates high frequencies: cosine, lukosz "
        "(least ringing, but softer), or none.",
    )
    notch: float = Field(
        0.0,
        ge=0,
        lt=1,
        title="Haze suppression",
        description="Strength of the notch that suppresses out-of-focus haze in "
        "Wiener-SIM: 0 for none, 0.9 for strong haze.",
    )
    iterations: Iterations = None
    tv: TotalVariation = 0.0
    recipe: Recipe = "refine"
    steps: NetworkSteps = 200
    features: NetworkWidth = 16
    patterns_after: PatternsAfter = 200
    checks: bool = Field(
        True,
        title="Checks",
        description="Check the result: residuals, resolution and agreement of the "
        "patterns.",
    )
    memory: MemoryBudget = None
    device: ComputeDevice = "auto"
