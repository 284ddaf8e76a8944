"""Settings of a scan plan."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from cyclopts import Parameter
from pydantic import Field, field_validator, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.core.units import MILLIMETRES, PIXEL, parse_unit
from napari_geosr.measure.config import (
    Connectivity,
    Hysteresis,
    LocalWindow,
    MaskClosing,
    PorosityConfig,
    ThresholdRule,
    finite_threshold,
)

_LENGTH = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(\D*?)\s*")


class PlanConfig(Config):
    """Spots and precision of a scan plan, and how pores are found."""

    spot: float | str = Field(
        default="10%",
        title="Spot",
        union_mode="left_to_right",
        description="Edge length of a spot (the field of view of a high-resolution "
        "scan): a length such as 200um or 50voxels, a number in the unit of the voxel "
        "size, or a percentage of the scan's shortest edge, but at least 8 voxels.",
    )
    precision: float | str = Field(
        default=0.05,
        title="Precision",
        union_mode="left_to_right",
        description="Largest acceptable relative error of the porosity, such as 5% or "
        "0.05.",
    )
    confidence: float | str = Field(
        default=0.95,
        title="Confidence",
        union_mode="left_to_right",
        description="Probability that the error is within the requested precision, "
        "such as 95% or 0.95.",
    )
    scan: Literal["whole", "spot"] = Field(
        default="whole",
        title="The scan shows",
        description="What the scan shows. whole: the whole sample at low resolution; "
        "spot: one spot of a larger sample.",
    )
    threshold: ThresholdRule | float = Field(
        default="otsu",
        title="Threshold",
        union_mode="left_to_right",
        description="Method that finds the threshold between pore and solid, or a "
        "grey value.",
    )
    local_window: LocalWindow = None
    hysteresis: Hysteresis = None
    phase: Literal["dark", "bright"] = Field(
        default="dark",
        title="Pores are",
        description="dark: pores are at or below the threshold; bright: pores are "
        "above it.",
    )
    sample_mask: Annotated[
        Literal["none", "auto", "cortex", "marrow"],
        Parameter(name=["--sample", "--sample-mask"]),
    ] = Field(
        default="none",
        title="Sample mask",
        description="Which voxels belong to the sample. none: all; auto: the largest "
        "solid object, including its pores; cortex, marrow: the compact bone, or the "
        "marrow space with its trabeculae, of a bone along Z.",
    )
    mask_closing: MaskClosing = 5
    connectivity: Connectivity = 26
    seed: int = Field(
        default=0,
        ge=0,
        title="Seed",
        description="Random seed: the same seed gives the same positions.",
    )
    hours_per_spot: float | None = Field(
        default=None,
        gt=0,
        title="Hours per spot",
        description="Scan time per spot in hours; adds scan times to the plan.",
    )
    kilowatts: float | None = Field(
        default=None,
        gt=0,
        title="Power (kW)",
        description="Power of the scanner in kW; with the hours per spot, adds "
        "energy and CO2eq to the plan.",
    )
    kilograms_per_kilowatt_hour: float = Field(
        default=0.06,
        ge=0,
        title="CO2eq per kilowatt-hour (kg)",
        description="CO2-equivalent emissions per kWh of electricity, in kg.",
    )
    memory: MemoryBudget = None

    _check_threshold = field_validator("threshold", mode="after")(finite_threshold)

    @field_validator("precision", mode="after")
    @classmethod
    def _read_precision(cls, value: float | str) -> float:
        """Convert ``5%`` to 0.05."""
        number = _fraction(value)
        if number is None:
            raise ValueError(
                f"{value!r} is not a valid precision; give 5% or 0.05, for example"
            )
        if not 1e-4 <= number <= 1:
            hint = f"; for {number:g} %, give {number:g}%" if 1 < number <= 100 else ""
            raise ValueError(f"the precision must be between 0.01 % and 100 %{hint}")
        return number

    @field_validator("confidence", mode="after")
    @classmethod
    def _read_confidence(cls, value: float | str) -> float:
        """Convert ``95%`` to 0.95."""
        number = _fraction(value)
        if number is None:
            raise ValueError(
                f"{value!r} is not a valid confidence level; give 95% or 0.95, for "
                "example"
            )
        if not 0.5 <= number <= 0.999:
            is_percentage = 50 <= number <= 99.9
            hint = f"; for {number:g} %, give {number:g}%" if is_percentage else ""
            raise ValueError(f"the confidence must be between 50 % and 99.9 %{hint}")
        return number

    @model_validator(mode="after")
    def _check_costs(self) -> Self:
        """Reject a power without a duration: together they give the energy."""
        if self.kilowatts is not None and self.hours_per_spot is None:
            raise ValueError(
                "the energy depends on the scan time; give the hours per spot "
                "(--hours-per-spot) as well as the power"
            )
        return self

    @field_validator("spot", mode="after")
    @classmethod
    def _check_spot(cls, value: float | str) -> float | str:
        """Reject text that is not a length."""
        if isinstance(value, str):
            number, unit = _parts(value)
            if unit not in ("", "%") and parse_unit(unit) is None:
                known = ", ".join(MILLIMETRES)
                raise ValueError(
                    f"{unit!r} is not a length unit; use {known}, or % of the scan"
                )
            value = number if unit == "" else value
        else:
            number = value
        if number == float("inf"):
            raise ValueError("the edge of a spot is too large a number")
        if not number > 0:
            raise ValueError("the edge of a spot must be greater than 0")
        return value

    @property
    def is_relative(self) -> bool:
        """Whether the edge of a spot is a percentage of the scan's shortest edge."""
        return isinstance(self.spot, str) and self.spot.strip().endswith("%")

    def spot_edge(self, shortest: float, voxel: float, unit: str) -> float:
        """Convert the edge length of a spot to the unit of a scan.

        Parameters
        ----------
        shortest : float
            Shortest edge of the scan.
        voxel : float
            Shortest edge of a voxel.
        unit : str

        Raises
        ------
        ValueError
            If the spot has a unit, but the scan has none.
        """
        if not isinstance(self.spot, str):
            return float(self.spot)
        number, given = _parts(self.spot)
        if given == "%":
            return number / 100 * shortest
        length = parse_unit(given)
        assert length is not None
        if length == PIXEL:
            return number * voxel
        if unit not in MILLIMETRES:
            raise ValueError(
                f"the scan has no unit of length, but the spot is in {given}"
            )
        return number * MILLIMETRES[length] / MILLIMETRES[unit]

    def porosity_config(self) -> PorosityConfig:
        """Return the settings used to find the pores."""
        return PorosityConfig(
            threshold=self.threshold,
            phase=self.phase,
            local_window=self.local_window,
            hysteresis=self.hysteresis,
            sample_mask=self.sample_mask,
            mask_closing=self.mask_closing,
            connectivity=self.connectivity,
            memory=self.memory,
        )


def _fraction(value: float | str) -> float | None:
    """Return a fraction given as a number or in per cent; None if it is neither."""
    text = str(value).strip()
    share = text.removesuffix("%")
    try:
        return float(share) / (1 if share == text else 100)
    except ValueError:
        return None


def _parts(text: str) -> tuple[float, str]:
    """Split a length into its number and its unit."""
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a length; give 200um, for example")
    return float(found[1]), found[2]
