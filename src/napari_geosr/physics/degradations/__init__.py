"""Kinds of low-resolution imaging, one module per kind, found by file name.

Each module defines the following, without importing torch:

``TITLE``
    Title, as shown to the user.
``Config``
    A `DegradationConfig` with the settings of the noise.
``blur_widths(config, voxel_size, millimetres)``
    Standard deviations of the point-spread function along the axes, in low-resolution
    voxels. ``millimetres`` is the length of the unit of ``voxel_size`` in mm (None
    if it is not a unit of length).
``Noise(config, levels, shape)``
    Class with a method ``add(plane, index)`` that adds noise to plane number ``index``
    (Y, X). The noise depends only on the plane, so blocks of any thickness give the
    same result.
``adopted(measured, levels)``
    Settings that reproduce the measurements of a real scan; optional.
``SAMPLING``
    ``"mean"`` (the default): a low-resolution voxel is the mean over a block of
    high-resolution voxels; ``"kept"``: it is one voxel of the block
    (`napari_geosr.physics.sampling.kept_samples`).
``separates_noise(config)``
    With ``"kept"``: whether the kept voxels are replaced in the target, so that it does
    not share their noise (`napari_geosr.physics.sampling.without_kept`); optional.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.registry import Registry

DEGRADATIONS = Registry(
    package="napari_geosr.physics.degradations",
    group="napari_geosr.degradations",
    noun="kind of degradation",
)
#: Standard deviation of the box profile of a voxel, in voxels.
_BOX = 1 / math.sqrt(12)
#: Largest standard deviation of a blur, in low-resolution voxels.
_MAX_BLUR = 20


class DegradationConfig(Config):
    """Settings shared by all kinds of degradation: blur, grey scale and seed."""

    blur: float = Field(
        0.5,
        ge=0,
        le=_MAX_BLUR,
        title="Blur",
        description="Standard deviation of the point-spread function in the plane, in "
        "low-resolution voxels. The blur caused by the voxel itself is added to it.",
    )
    mtf10: float | None = Field(
        None,
        gt=0,
        title="Resolution (MTF 10 %)",
        description="Resolution of the low-resolution system, in line pairs per mm at "
        "10 % contrast; replaces the blur.",
        json_schema_extra={"unset": "none"},
    )
    grey_gain: float = Field(
        1.0,
        title="Grey-value gain",
        description="Factor by which all grey values are multiplied, including those "
        "of the target.",
    )
    grey_offset: float = Field(
        0.0,
        title="Grey-value offset",
        description="Value added to the grey values after the gain is applied.",
    )
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Seed for the noise: the same seed gives the same noise.",
    )

    @model_validator(mode="after")
    def _check_gain(self) -> DegradationConfig:
        if self.grey_gain == 0 or not math.isfinite(self.grey_gain + self.grey_offset):
            raise ValueError(
                "grey gain and offset must be finite, and the gain not zero"
            )
        return self


@dataclass(frozen=True)
class ContrastLevels:
    """Grey values of the high-resolution scan to which noise levels refer.

    Attributes
    ----------
    dark, bright : float
        Grey values of the background and of bright structures.
    contrast : float
        Difference between the means of the two classes separated by Otsu's threshold;
        positive.
    """

    dark: float
    bright: float
    contrast: float


@dataclass(frozen=True)
class ImagingEstimate:
    """Imaging parameters of a low-resolution scan relative to a high-resolution one.

    Attributes
    ----------
    blur : float
        Standard deviation of the point-spread function in the plane, in low-resolution
        voxels.
    gain, offset : float
        Linear map from grey values of the high-resolution scan to those of the
        low-resolution scan.
    noise : float
        Standard deviation of the noise in grey values of the low-resolution scan.
    shape : str
        Type of noise spectrum: ``"white"``, ``"reconstruction"`` or ``"smooth"``.
    spectrum : tuple of float
        Noise power at evenly spaced frequencies from zero to √2 times the Nyquist
        frequency.
    along_z : float
        Correlation of the noise of adjacent slices.
    slope, intercept : float
        Linear fit of the noise variance as a function of the grey value of the
        low-resolution scan.
    misfit : float
        Root-mean-square residual of the fit to the logarithm of the power.
    """

    blur: float
    gain: float
    offset: float
    noise: float
    shape: str
    spectrum: tuple[float, ...]
    along_z: float
    slope: float = 0.0
    intercept: float = 0.0
    misfit: float = 0.0


def config_class(kind: str) -> type[DegradationConfig]:
    """Return the config class of a kind."""
    found: type[DegradationConfig] = DEGRADATIONS.load(kind).Config
    return found


def titles() -> dict[str, str]:
    """Return the title of each kind, by name."""
    return {name: str(DEGRADATIONS.load(name).TITLE) for name in DEGRADATIONS.names()}


def options() -> dict[str, tuple[Any, str, str]]:
    """Return settings of all kinds by name, each with its type, title and help."""
    found: dict[str, tuple[Any, str, str]] = {}
    users: dict[str, list[str]] = {}
    for kind in DEGRADATIONS.names():
        for name, field in config_class(kind).model_fields.items():
            users.setdefault(name, []).append(kind.replace("_", "-"))
            help_ = (field.description or "").rstrip(".")
            found.setdefault(name, (field.annotation, field.title or name, help_))
    n = len(DEGRADATIONS.names())
    return {
        name: (
            kind,
            title,
            f"{help_}." if len(users[name]) == n else f"{help_} ({users[name][0]}).",
        )
        for name, (kind, title, help_) in found.items()
    }


def blur_in_plane(config: DegradationConfig, voxel_mm: float | None) -> float:
    """Return the standard deviation of the blur in low-resolution voxels.

    Parameters
    ----------
    voxel_mm : float or None
        Edge length of a low-resolution voxel in mm; None if unknown.

    Raises
    ------
    ConfigError
        If a resolution in line pairs per mm is given, but the voxel size is unknown or
        too large for it.
    """
    if config.mtf10 is None:
        return config.blur
    if voxel_mm is None:
        raise ConfigError(
            "A resolution in line pairs per mm needs a voxel size in a unit of length "
            "(--high-voxel-size, --unit); or give the blur in voxels (--blur)."
        )
    # Solve exp(-2 π² σ² f²) = 0.1, then remove the blur caused by averaging over a
    # voxel.
    whole = math.sqrt(math.log(10) / 2) / (math.pi * config.mtf10) / voxel_mm
    if whole > _MAX_BLUR:
        raise ConfigError(
            f"A resolution of {config.mtf10:g} line pairs per mm corresponds to a "
            f"blur of {whole:.3g} voxels of {voxel_mm:g} mm, but at most {_MAX_BLUR} "
            "voxels are possible. Check the number."
        )
    if whole < _BOX:
        raise ConfigError(
            f"A resolution of {config.mtf10:g} line pairs per mm cannot be reached "
            f"with voxels of {voxel_mm:g} mm. Check the number, or choose a smaller "
            "upscale factor."
        )
    return math.sqrt(whole**2 - _BOX**2)
