"""Settings of a porosity measurement, shared by the dock, command line and Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from cyclopts import Parameter
from pydantic import BeforeValidator, Field, field_validator, model_validator

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.machine.memory_budget import MemoryBudget
from napari_geosr.core.text.spelling import did_you_mean
from napari_geosr.measure.groups import Group
from napari_geosr.measure.morphometry import MORPHOMETRY

ThresholdRule = Literal["otsu", "multi-otsu", "li", "triangle"]


def _number(value: object) -> object:
    """Convert digits, such as a number from the command line, to an integer."""
    return int(value) if isinstance(value, str) and value.isdigit() else value


LocalWindow = Annotated[
    int | None,
    Field(
        ge=5,
        le=1001,
        title="Local window",
        description="For uneven brightness: compare grey values with their local mean "
        "in a Gaussian window this many voxels wide. The window must be several times "
        "as wide as the largest pores. By default, the threshold is the same "
        "everywhere.",
        json_schema_extra={"unit": "voxels", "unset": "off"},
    ),
]
Hysteresis = Annotated[
    float | None,
    Field(
        gt=0,
        le=2,
        title="Hysteresis",
        description="Keep only pores with at least one voxel this far beyond the "
        "threshold: 0 is the threshold, 1 is the mean grey value of the pores. By "
        "default, all pores are kept.",
        json_schema_extra={"unset": "off"},
    ),
]
Connectivity = Annotated[
    Literal[6, 26],
    BeforeValidator(_number),
    Field(
        title="Connectivity",
        description="Which adjacent voxels belong to the same pore: 26 includes "
        "those that touch at a corner, 6 only those that share a face (in 2D: "
        "8 or 4).",
    ),
]
MaskClosing = Annotated[
    int,
    Field(
        ge=0,
        le=200,
        title="Mask closing (voxels)",
        description="For an automatic sample mask: close openings up to twice "
        "this many voxels wide; for cortex and marrow, also include cortical pores and "
        "trabeculae up to this width.",
    ),
]


def finite_threshold(value: str | float) -> str | float:
    """Return a threshold; raise `ValueError` if it is NaN or infinite."""
    if isinstance(value, float) and not abs(value) < float("inf"):
        raise ValueError("the threshold must be a finite number")
    return value


class PorosityConfig(Config):
    """Segmentation, pore size limit and sample mask of a porosity measurement."""

    EARLIER_NAMES: ClassVar[Mapping[str, str]] = {"band_factor": "interval_factor"}

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

    min_voxels: int = Field(
        default=8,
        ge=1,
        le=10**9,
        title="Minimum pore size (voxels)",
        description="Minimum size of the pores that are counted and listed, in "
        "voxels. Smaller pores still count towards the porosity.",
    )

    connectivity: Connectivity = 26

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

    histogram_bins: int = Field(
        default=20,
        ge=4,
        le=200,
        title="Histogram bins",
        description="Number of logarithmic bins in the histogram of pore volumes.",
    )

    interval_factor: Annotated[
        float | None, Parameter(name=["--interval-factor", "--band-factor"])
    ] = Field(
        default=None,
        gt=0,
        le=100,
        title="Interval (deviations)",
        description="Half-width of the porosity interval, in standard deviations; by "
        "default the value calibrated for the model.",
    )

    graph: bool = Field(
        default=False,
        title="Graph",
        description="Also trace the pores as a network of tubes: nodes, branches and "
        "their lengths, tubules per mm². The whole volume is read into memory.",
    )

    statistics: Annotated[tuple[str, ...], Parameter(n_tokens=1, negative="")] = Field(
        default=(),
        title="Morphometry",
        description="Additional morphometric statistics, separated by commas: "
        + ", ".join(MORPHOMETRY.names())
        + "; or all.",
    )

    bands: Annotated[bool, Parameter(negative="")] = Field(
        default=False,
        title="Bands",
        description="Also measure the morphometric statistics with the threshold "
        "lowered and raised by 5 % of the contrast, and give the lowest and highest "
        "value. This takes three times as long.",
    )

    group: str | None = Field(
        default=None,
        title="Group",
        description="Pores to count as a group, selected by conditions on columns of "
        'the pore table, such as "diameter>20um & sphericity<0.6".',
    )

    memory: MemoryBudget = None

    @model_validator(mode="after")
    def _check_bands(self) -> Self:
        """Reject bands if no statistics are requested, or if hysteresis is used.

        With hysteresis, only the pores at the threshold itself are stored, not those at
        the shifted thresholds.
        """
        if self.bands and not self.statistics:
            raise ValueError(
                "bands are measured for morphometric statistics, but none are "
                "requested (--statistics)"
            )
        if self.bands and self.hysteresis is not None:
            raise ValueError(
                "bands cannot be measured with hysteresis; turn off one of them"
            )
        return self

    @field_validator("sample_mask", mode="before")
    @classmethod
    def _refuse_file(cls, value: object) -> object:
        """Reject a file name; a separate option takes a mask from a file."""
        if isinstance(value, str) and Path(value).suffix:
            raise ValueError(
                f"none, auto, cortex or marrow is needed; give the mask in {value} "
                "with --mask"
            )
        return value

    @field_validator("group", mode="after")
    @classmethod
    def _check_group(cls, value: str | None) -> str | None:
        """Reject text that is not an expression, before anything is measured."""
        if value is not None:
            try:
                Group(value)
            except ConfigError as error:
                raise ValueError(str(error)) from error
        return value

    @field_validator("statistics", mode="before")
    @classmethod
    def _read_statistics(cls, value: object) -> object:
        """Split comma-separated names, as given on the command line."""
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list | tuple):
            return value
        return tuple(
            name.strip()
            for word in words
            for name in (word.split(",") if isinstance(word, str) else [word])
        )

    @field_validator("statistics", mode="after")
    @classmethod
    def _check_statistics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Reject unknown names; return the names in the given order, each only once.

        The word ``all`` stands for all statistics.
        """
        known = MORPHOMETRY.names()
        if "all" in value:
            value = tuple(known)
        for name in value:
            if name not in known:
                raise ValueError(
                    f"there is no statistic {name!r}.{did_you_mean(name, known)} "
                    f"Choose from {', '.join(known)}, or all"
                )
        return tuple(dict.fromkeys(value))

    _check_threshold = field_validator("threshold", mode="after")(finite_threshold)
