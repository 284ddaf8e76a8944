"""Settings of training pairs.

This module does not import torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import Field, field_validator, model_validator

from napari_geosr.core.config import Config, parse_bytes
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import require_unit
from napari_geosr.operations.inputs import COMMAS, InputConfig, parse_numbers
from napari_geosr.physics.degradations import (
    DEGRADATIONS,
    DegradationConfig,
)
from napari_geosr.physics.degradations import config_class as imaging_class
from napari_geosr.physics.degradations import options as imaging_options
from napari_geosr.physics.degradations import titles as imaging_titles

__all__ = [
    "LARGEST_FACTOR",
    "DegradeConfig",
    "PairConfig",
    "PairsConfig",
    "PairsInput",
    "imaging_class",
    "imaging_options",
    "imaging_titles",
]

#: Maximum ratio of the two voxel sizes.
LARGEST_FACTOR = 16


class PairsInput(Config):
    """Corrections and additions to the metadata of the files of a pair."""

    low_voxel_size: Annotated[tuple[float, ...] | None, COMMAS] = Field(
        None,
        title="Voxel size, low resolution",
        description="Voxel size of the low-resolution scan along Z,Y,X, such as 8,4,4, "
        "or one number for all axes. Overrides the voxel size in the file.",
    )
    high_voxel_size: Annotated[tuple[float, ...] | None, COMMAS] = Field(
        None,
        title="Voxel size, high resolution",
        description="Voxel size of the high-resolution scan along Z,Y,X, such as "
        "2,1,1, or one number for all axes. Overrides the voxel size in the file.",
    )
    unit: str | None = Field(
        None,
        title="Unit",
        description="Unit of the voxel sizes: nm, µm (or um), mm and so on.",
    )
    channel: int | None = Field(
        None,
        title="Channel",
        description="Channel to use, counted from 0, for files with several channels.",
    )
    time: int | None = Field(
        None,
        title="Time point",
        description="Time point to use, counted from 0, for time series.",
    )
    axes: str | None = Field(
        None,
        title="Axes",
        description="Axes of the arrays in order, such as ZYX. Overrides the axes in "
        "the files.",
    )

    @field_validator("low_voxel_size", "high_voxel_size", mode="before")
    @classmethod
    def _read_voxel_size(cls, value: object) -> object:
        return parse_numbers(value, float, "4,2,2")

    @field_validator("low_voxel_size", "high_voxel_size")
    @classmethod
    def _check_voxel_size(
        cls, value: tuple[float, ...] | None
    ) -> tuple[float, ...] | None:
        if value is not None and (len(value) not in (1, 2, 3) or not min(value) > 0):
            raise ValueError("one to three numbers greater than zero are needed")
        return value

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, value: str | None) -> str | None:
        return None if value is None else require_unit(value)

    def reading(self, voxel_size: tuple[float, ...] | None) -> InputConfig:
        """Return the settings to open one of the files."""
        return InputConfig(
            voxel_size=voxel_size,
            unit=self.unit if voxel_size else None,
            channel=self.channel,
            time=self.time,
            axes=self.axes,
        )


class PairConfig(Config):
    """Settings common to pairs of two scans and pairs made from one scan."""

    upscale_factor: int | None = Field(
        None,
        ge=1,
        le=LARGEST_FACTOR,
        title="Upscale factor",
        description="High-resolution voxels per low-resolution voxel along each axis. "
        "With two scans, it is calculated from their voxel sizes by default.",
    )
    dimensions: Literal["3D", "2D"] = Field(
        "3D",
        title="Dimensions",
        description="3D: the target has smaller voxels along all axes; 2D: along Y and "
        "X only, for networks that work on slices.",
    )
    memory: str | None = Field(
        None,
        title="Memory",
        description="Memory for voxel data, such as 4GB; by default a fraction of the "
        "free memory.",
    )

    @field_validator("memory", mode="before")
    @classmethod
    def _take_bytes(cls, value: object) -> object:
        """Treat a plain number in a settings file as bytes."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return str(value) if is_number else value

    @field_validator("memory")
    @classmethod
    def _check_memory(cls, value: str | None) -> str | None:
        if value is not None:
            parse_bytes(value)
        return value

    def factors(self, ndim: int, factor: int) -> tuple[int, ...]:
        """Return the upscale factor along each spatial axis."""
        kept = ndim - 2 if self.dimensions == "2D" else 0
        return (1,) * kept + (factor,) * (ndim - kept)


class PairsConfig(PairConfig):
    """Settings for a pair of two scans, which are aligned."""

    start: Literal["search", "centres", "positions"] = Field(
        "search",
        title="Start",
        description="Where the alignment starts. search: search the whole "
        "low-resolution scan for the high-resolution one; centres: align the centres; "
        "positions: as stored in the files.",
    )
    offset: Annotated[tuple[float, ...] | None, COMMAS] = Field(
        None,
        title="Offset",
        description="Initial offset for the alignment; takes precedence over Start. "
        "Vector from the corner of the low-resolution scan (at the start of all axes) "
        "to the same corner of the high-resolution scan, as Z,Y,X in the unit of the "
        "low-resolution scan.",
    )
    search_angle: float = Field(
        10.0,
        ge=0,
        le=180,
        title="Maximum search angle",
        description="Largest rotation about Z that the search tries in either "
        "direction, in degrees; 180 covers all rotations.",
    )
    transform: Literal["translation", "rigid", "similarity"] = Field(
        "rigid",
        title="Transform",
        description="What the alignment may change. translation: the position; rigid: "
        "also the rotation; similarity: also the scale, if a voxel size is slightly "
        "wrong.",
    )
    intensity: Literal["linear", "histogram", "none"] = Field(
        "linear",
        title="Grey values",
        description="How grey values of the high-resolution scan are matched to the "
        "low-resolution scan. linear: by a linear fit, ignoring outliers; histogram: "
        "by matching the histograms; none: left as they are.",
    )

    @field_validator("offset", mode="before")
    @classmethod
    def _read_offset(cls, value: object) -> object:
        return parse_numbers(value, float, "120,40,40")

    @field_validator("offset")
    @classmethod
    def _check_offset(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and len(value) not in (2, 3):
            raise ValueError("two or three numbers are needed, e.g. 120,40,40")
        return value


class DegradeConfig(PairConfig):
    """Settings for a pair made from one high-resolution scan."""

    degrade: str = Field(
        "ct",
        title="Degradation",
        description=f"Degradation model: one of {', '.join(DEGRADATIONS.names())}.",
    )
    options: Annotated[
        AnyDict, Parameter(negative="", accepts_keys=True, show=False)
    ] = Field(
        default_factory=dict,
        title="Degradation settings",
        description="Blur, noise and grey scale of the simulated scan, such as blur: "
        "0.6. Values that are not given are measured on the real scan, if there "
        "is one.",
    )

    @model_validator(mode="after")
    def _check_options(self) -> DegradeConfig:
        self.imaging()
        return self

    def imaging(self, **measured: Any) -> DegradationConfig:
        """Return the degradation settings: as set or, if not set, as `measured`.

        Raises
        ------
        ConfigError
            If the degradation model does not exist, or has no such setting.
        """
        kind = imaging_class(self.degrade)
        for name in self.options:
            if name not in kind.model_fields:
                raise ConfigError(
                    f"The degradation model {self.degrade!r} has no setting {name!r}. "
                    f"Its settings: {', '.join(kind.model_fields)}."
                )
        return kind.create(**{**measured, **self.options})
