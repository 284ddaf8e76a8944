"""Settings of a simulated sample and its scan.

This module does not import torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import PIXEL, check_edge_range, require_unit
from napari_geosr.operations.inputs import COMMAS, parse_numbers
from napari_geosr.physics.scan_config import ScanConfig

StructureName = Literal["foam", "blobs", "bone", "lacunae", "dentin", "cells"]

#: Default porosity, voxel size in µm, and range of radii as fractions of a slice's edge
#: length.
DEFAULTS: dict[str, tuple[float, float, tuple[float, float]]] = {
    "foam": (0.3, 10.0, (1 / 85, 1 / 20)),
    "blobs": (0.2, 10.0, (1 / 60, 1 / 40)),
    "bone": (0.75, 20.0, (1 / 30, 1 / 30)),
    "lacunae": (0.01, 1.0, (1 / 40, 1 / 25)),
    "dentin": (0.12, 0.2, (1 / 100, 3 / 100)),
    "cells": (0.02, 0.2, (1 / 128, 3 / 32)),
}
#: Minimum wall thickness between two spheres of a foam, in voxels.
FOAM_GAP = 1.0
#: Minimum radius of a pore that the grid can represent, in voxels.
_MIN_RADIUS = 2.0
#: Upper limit of the pore radii, in voxels; larger than the radius of any sample.
_MAX_RADIUS = 10_000
#: Default number of angles per exposure for continuous rotation.
_SUB_ANGLES = 8


class SimulateConfig(ScanConfig):
    """Settings of a porous cylinder of known porosity and of its scan."""

    projections: int = Field(
        default=500,
        ge=1,
        le=100_000,
        title="Projections",
        description="Number of projections.",
    )
    size: int = Field(
        default=256,
        ge=16,
        le=8192,
        title="Size",
        description="Edge length of the slices in voxels.",
    )
    rows: int | None = Field(
        default=None,
        ge=1,
        le=8192,
        title="Rows",
        description="Number of slices; by default equal to the slice size.",
    )
    porosity: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        title="Porosity",
        description="Target porosity, as a fraction; the exact porosity of the result "
        "is reported. By default 0.3 for foam, 0.2 for blobs, 0.75 for bone, 0.01 for "
        "lacunae, 0.12 for dentin and 0.02 for cells.",
    )
    radius: Annotated[tuple[float, ...] | None, COMMAS] = Field(
        default=None,
        title="Pore radius",
        description="Smallest and largest radius of the pores in voxels, such as "
        "3,12; by default in proportion to the size. For cells: the radius of the "
        "canaliculi, and half the length of a lacuna.",
    )
    gap: float | None = Field(
        default=None,
        ge=0,
        le=1000,
        title="Gap between pores",
        description="Minimum wall thickness between two pores of a foam, in voxels; by "
        "default 1.",
    )
    voxel_size: float | None = Field(
        default=None,
        gt=0,
        title="Voxel size",
        description="Voxel size; by default 10 µm (bone 20 µm, lacunae 1 µm, dentin "
        "and cells 0.2 µm).",
    )
    unit: str = Field(
        default="µm",
        title="Unit",
        description="Unit of the voxel size: µm (or um), mm and so on.",
    )
    continuous: bool = Field(
        default=False,
        title="Continuous",
        description="Rotate the sample during the exposures, which blurs the "
        "projections.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        title="Threads",
        description="CPU threads; by default the number of cores minus one. The "
        "result does not depend on this number.",
    )

    @field_validator("radius", mode="before")
    @classmethod
    def _read_radius(cls, value: Any) -> Any:
        return parse_numbers(value, float, "3,12")

    @field_validator("radius")
    @classmethod
    def _check_radius(cls, value: tuple[float, ...] | None) -> Any:
        if value is None:
            return value
        if len(value) != 2 or not 0 < value[0] <= value[1] <= _MAX_RADIUS:
            raise ValueError(
                f"two numbers above zero, up to {_MAX_RADIUS}, are needed, e.g. 3,12"
            )
        return value

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, value: str) -> str:
        unit = require_unit(value)
        if unit == PIXEL:
            raise ValueError("give a unit of length, such as µm")
        return unit

    @model_validator(mode="after")
    def _check_edge(self) -> Self:
        if self.voxel_size is not None:
            check_edge_range([self.voxel_size], self.unit)
        return self

    def scan(self) -> ScanConfig:
        """Return the settings of the scan."""
        values = self.model_dump(include=set(ScanConfig.model_fields))
        if self.continuous and self.sub_angles == 1:
            values["sub_angles"] = _SUB_ANGLES
        return ScanConfig(**values)

    def shape(self) -> tuple[int, int, int]:
        """Return the shape of the sample (Z, Y, X)."""
        return self.rows or self.size, self.size, self.size

    def voxel(self, structure: str) -> float:
        """Return the edge length of a voxel in `unit`."""
        return self.voxel_size or DEFAULTS[structure][1]

    def pores(self, structure: str) -> AnyDict:
        """Return the structure's porosity, radius, seed and, for a foam, the gap.

        Raises
        ------
        ConfigError
            If a gap is set, but the structure is not a foam.
        """
        porosity, _, parts = DEFAULTS[structure]
        gap: AnyDict = {}
        if structure == "foam":
            gap["gap"] = FOAM_GAP if self.gap is None else self.gap
        elif self.gap is not None:
            raise ConfigError(
                f"A gap (--gap) is the wall between spheres of a foam, and {structure} "
                "has none: remove --gap."
            )
        low, high = self.radius or (
            max(_MIN_RADIUS, part * self.size) for part in parts
        )
        return {
            "porosity": self.porosity or porosity,
            "radius": (low, high),
            "seed": self.seed,
            **gap,
        }


class SimulateRadiographsConfig(Config):
    """Settings of simulated radiographs."""

    kind: Literal["dental", "chest"] = Field(
        "dental",
        title="Kind",
        description="Part of the body: teeth and jaws, or a chest with lungs, heart, "
        "ribs and clavicles.",
    )
    number: int = Field(
        60, ge=1, le=100_000, title="Number", description="Number of radiographs."
    )
    shape: int = Field(
        256,
        ge=32,
        le=4096,
        title="Shape",
        description="Edge length of the radiographs in pixels; a dental radiograph is "
        "32 mm wide, and one of the chest 420 mm.",
    )
    painted: int | None = Field(
        None,
        ge=1,
        title="Painted",
        description="Also write a second label file, in which only this number of "
        "radiographs, starting with the first, is labelled; all pixels of the others "
        "have the value 255 (not painted).",
    )
    seed: int = Field(
        0,
        ge=0,
        title="Seed",
        description="Random seed: the same seed gives the same sequence of "
        "radiographs, regardless of how many are simulated.",
    )

    @model_validator(mode="after")
    def _check_painted(self) -> Self:
        if self.painted is not None and self.painted > self.number:
            raise ValueError(
                f"painted: {self.painted} radiographs cannot be painted, because "
                f"only {self.number} are simulated"
            )
        return self
