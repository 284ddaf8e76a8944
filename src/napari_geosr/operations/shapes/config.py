"""Settings of the operations on shapes.

This module does not import torch.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import Field, field_validator, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.core.units import PIXEL, convert_length, require_unit
from napari_geosr.operations.inputs import COMMAS, parse_numbers

#: Name of the refinement by interpolation, without a model.
TRILINEAR = "trilinear"
#: Example of a voxel size in messages.
_EXAMPLE = "0.4 or 0.5,0.4,0.4"


class ShapeChoice(Config):
    """Setting that selects the voxels of a shape."""

    label: int | None = Field(
        None,
        ge=1,
        title="Label",
        description="Label of the shape. Needed if the volume has several labels.",
        json_schema_extra={"unset": "the only label"},
    )


class _Computed(ShapeChoice):
    """Settings shared by operations that run a network."""

    memory: MemoryBudget = None
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


class RefineShapeConfig(_Computed):
    """Settings for increasing the resolution of a shape."""

    upscale_factor: Literal[2, 4, 8] = Field(
        2,
        title="Upscale factor",
        description="Output voxels per input voxel along each axis.",
    )
    model: Annotated[str, Parameter(alias="-m")] = Field(
        "shape-sr-x2",
        title="Model",
        description="Model for shapes, by name or path; trilinear interpolates "
        "without a model.",
    )


class CompleteShapeConfig(_Computed):
    """Settings for completing a shape."""

    model: Annotated[str, Parameter(alias="-m")] = Field(
        "skull-complete",
        title="Model",
        description="Model that completes shapes, by name or path.",
    )
    refine_model: str = Field(
        "shape-sr-x2",
        title="Refinement",
        description="Model that refines the completed part to the resolution of the "
        "input, or trilinear.",
    )
    smallest_piece: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Smallest piece",
        description="Discard pieces of the completed part that are smaller than this "
        "fraction of the largest piece.",
    )


#: A grey value, or the rule that finds one.
Threshold = Literal["otsu"] | float
#: How the grey values of a scan are standardised.
GreyScale = Literal["auto", "model", "scan", "mask"]


class SegmentInsideConfig(_Computed):
    """Settings for segmenting a scan inside a mask, or beyond a threshold."""

    label: int | None = Field(
        None,
        ge=1,
        title="Label",
        description="Label of the mask to segment; by default all non-zero voxels of "
        "the mask.",
        json_schema_extra={"unset": "all"},
    )
    model: Annotated[str, Parameter(alias="-m")] = Field(
        ...,
        title="Model",
        description="Path of a model trained with train sparse-segmentation.",
    )
    above: Threshold | None = Field(
        None,
        title="Above",
        union_mode="left_to_right",
        description="Instead of a mask: segment the voxels of the scan above this grey "
        "value. otsu: above Otsu's threshold of the scan.",
        json_schema_extra={"unset": "mask"},
    )
    below: Threshold | None = Field(
        None,
        title="Below",
        union_mode="left_to_right",
        description="Instead of a mask: segment the voxels of the scan at or below "
        "this grey value. otsu: at or below Otsu's threshold of the scan.",
        json_schema_extra={"unset": "mask"},
    )
    grey_scale: GreyScale = Field(
        "auto",
        title="Grey scale",
        description="Mean and standard deviation used to standardise grey values. "
        "model: those of the labelled voxels of the training scan; scan: the same, "
        "converted by the mean and standard deviation of both scans, for scans in "
        "other units; mask: those of the mask, so that another mask can change the "
        "labels; auto: model if the scan has the same grey values as a training scan, "
        "otherwise mask.",
    )

    @property
    def threshold(self) -> Threshold | None:
        """The threshold; None if a mask is needed."""
        return self.below if self.above is None else self.above

    @property
    def is_above(self) -> bool:
        """Whether voxels above the threshold are segmented, not those below it."""
        return self.above is not None

    def check_inside(self, has_mask: bool) -> None:
        """Check that exactly one of mask, `above` and `below` is given.

        Raises
        ------
        ConfigError
            If none or several are given, or if a label is chosen without a mask.
        """
        given = [
            name
            for name, is_given in (
                ("--mask", has_mask),
                ("--above", self.above is not None),
                ("--below", self.below is not None),
            )
            if is_given
        ]
        if not given:
            raise ConfigError(
                "The voxels to segment are not specified. Give a mask (--mask) or a "
                "threshold (--above or --below).",
                fields=("above",),
            )
        if len(given) > 1:
            raise ConfigError(
                f"{' and '.join(given)} cannot be combined. Give one of them, or make "
                "a mask of the voxels to be segmented (--mask).",
                fields=("above", "below"),
            )
        if self.label is not None and not has_mask:
            raise ConfigError(
                "--label chooses a label of a mask, but no mask is given. Leave it "
                f"out, or give a mask (--mask) instead of {given[0]}.",
                fields=("label",),
            )


class CompareShapesConfig(ShapeChoice):
    """Settings for comparing two shapes."""

    reference_label: int | None = Field(
        None,
        ge=1,
        title="Reference label",
        description="Label of the shape in the second volume; by default the same as "
        "--label.",
        json_schema_extra={"unset": "same"},
    )
    tolerance: str | None = Field(
        None,
        title="Tolerance",
        description="Largest distance at which surfaces count as equal, such as 0.5mm; "
        "by default one voxel.",
    )

    @field_validator("tolerance")
    @classmethod
    def _check_tolerance(cls, value: str | None) -> str | None:
        if value is not None:
            parse_length(value)
        return value

    def tolerance_in(self, unit: str) -> float | None:
        """Convert the tolerance to the unit of a volume; return None if it is not set.

        Raises
        ------
        ConfigError
            If the voxel size of the volume is unknown, but the tolerance has a unit.
        """
        if self.tolerance is None:
            return None
        number, own = parse_length(self.tolerance)
        if own is None or own == unit:
            return number
        if PIXEL in (own, unit):
            raise ConfigError(
                f"The tolerance {self.tolerance} cannot be compared with voxels in "
                f"{unit}. Give the voxel size (--voxel-size, --unit), or the tolerance "
                "as a plain number."
            )
        return convert_length(number, own, unit)


def parse_length(text: str) -> tuple[float, str | None]:
    """Split a length such as ``"0.5mm"`` into number and unit (None if missing)."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*(\D*)\s*", text)
    if match is None or not 0 < float(match[1]) < math.inf:
        raise ValueError("a length greater than zero is needed, such as 0.5mm")
    return float(match[1]), require_unit(match[2]) if match[2].strip() else None


class MeshConfig(ShapeChoice):
    """Settings for the surface of a shape."""

    smoothing: float = Field(
        0.7,
        ge=0,
        le=5,
        title="Smoothing",
        description="Standard deviation, in voxels, of the smoothing before the "
        "surface is extracted; 0 gives a surface with steps. Parts that smoothing "
        "would remove are not smoothed.",
    )
    faces: int | None = Field(
        None,
        ge=4,
        title="Triangles",
        description="Approximate number of triangles after simplification; by default "
        "all are kept.",
        json_schema_extra={"unset": "all"},
    )


class VoxeliseConfig(Config):
    """Settings for converting a mesh to voxels."""

    voxel_size: Annotated[tuple[float, ...] | None, COMMAS] = Field(
        None,
        title="Voxel size",
        description="Voxel size as Z,Y,X or one number, such as 0.4 or 400um; numbers "
        "without a unit are in the unit given by --unit. Required without --like.",
        json_schema_extra={"unset": "that of --like"},
    )
    unit: str = Field(
        "mm",
        title="Unit",
        description="Unit of the mesh, unless the file states it, and of --voxel-size.",
    )
    margin: int = Field(
        1,
        ge=1,
        le=4096,
        title="Margin",
        description="Number of empty voxels on each side of the mesh. Leave room for a "
        "part that will be completed. Not used with --like.",
    )
    samples: int = Field(
        1,
        ge=1,
        le=8,
        title="Samples",
        description="Number of sampling points per voxel along each axis. A voxel is "
        "filled if at least half of them are inside the mesh; by default, only its "
        "centre is tested.",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_voxel_size(cls, values: Any) -> Any:
        """Convert a voxel size with a unit to the unit of the mesh."""
        if not isinstance(values, dict) or values.get("voxel_size") is None:
            return values
        given = values["voxel_size"]
        words = [given] if isinstance(given, str | int | float) else list(given)
        parts = [part for word in words for part in str(word).split(",")]
        unit = require_unit(str(values.get("unit", "mm")))
        try:
            lengths = [parse_length(part) for part in parts]
        except ConfigError:  # the unit is unknown
            raise
        except ValueError:
            return values | {"voxel_size": parse_numbers(given, float, _EXAMPLE)}
        stated = lengths[-1][1]  # in 0.5,0.4,0.4mm, the unit applies to all
        sizes = tuple(
            convert_length(number, own or stated or unit, unit)
            for number, own in lengths
        )
        return values | {"voxel_size": sizes}

    @field_validator("voxel_size")
    @classmethod
    def _check_voxel_size(
        cls, value: tuple[float, ...] | None
    ) -> tuple[float, ...] | None:
        if value is None:
            return None
        if len(value) not in (1, 3) or not min(value) > 0:
            raise ValueError("one or three numbers greater than zero are needed")
        return value * 3 if len(value) == 1 else value

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, value: str) -> str:
        return require_unit(value)


class SimulateShapesConfig(Config):
    """Settings for simulated skulls with defects."""

    number: int = Field(
        10, ge=1, le=100_000, title="Number", description="Number of skulls."
    )
    shape: int = Field(
        128,
        ge=16,
        le=1024,
        title="Shape",
        description="Edge length of the volumes in voxels.",
    )
    defects: Literal[
        "none", "mixed", "sphere", "cube", "cylinder", "irregular", "bilateral"
    ] = Field(
        "mixed",
        title="Defects",
        description="Kind of missing part; none: complete skulls only.",
    )
    voxel_size: float | None = Field(
        None,
        gt=0,
        title="Voxel size",
        description="Voxel size in mm; by default chosen so that the volume is 200 "
        "mm wide.",
    )
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Random seed of the first skull; the following ones use the next "
        "integers. For sets without common skulls, choose seeds that differ by at "
        "least the number of skulls.",
    )
