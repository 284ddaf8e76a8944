"""Settings of what happens between a detector's counts and a reconstruction."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_geosr.core.config import Config

StripeRemoval = Annotated[
    Literal["none", "sorting", "filtering", "large", "dead", "all"],
    Field(
        title="Remove stripes (rings)",
        description="Sorting and filtering: narrow ones; large: wide ones; dead: "
        "columns that do not answer and wide ones; all: every kind.",
    ),
]
NotFinite = Annotated[
    Literal["refuse", "fill"],
    Field(
        title="NaN in projections",
        description="Refuse: stop with a message; fill: interpolate between columns.",
    ),
]
Zingers = Annotated[
    float,
    Field(
        ge=0,
        title="Remove zingers above",
        description="Flashes so many times brighter than the noise are replaced by "
        "the median around them; 8 is usual, 0 leaves them.",
    ),
]
IncidentCounts = Annotated[
    float | None,
    Field(
        gt=0,
        title="Counts without sample",
        description="Where there are no flat fields. When not given, taken from the "
        "brightest part of the projections.",
    ),
]


class PreparationConfig(Config):
    """How counts become line integrals, and what is repaired on the way."""

    frames: Literal["mean", "median"] = Field(
        default="mean",
        title="Flat and dark fields are",
        description="Mean: least noise; median: flashes in single frames vanish.",
    )

    incident: IncidentCounts = None

    minimum_transmission: float = Field(
        default=1e-4,
        gt=0,
        lt=1,
        title="Smallest transmission",
        description="Where less light comes through, or none, this is put in its "
        "place, and counted: there is no logarithm of zero.",
    )

    saturation: float | None = Field(
        default=None,
        gt=0,
        title="Counts of a full pixel",
        description="Values from here on are counted as saturated. When not given, "
        "the largest number that the file's integers can hold.",
    )

    nonfinite: NotFinite = "refuse"

    zingers: Zingers = 0.0

    stripes: StripeRemoval = "none"

    stripe_size: int = Field(
        default=21,
        ge=3,
        le=1001,
        title="Width of narrow stripes (columns)",
        description="Window of the median that they vanish in: wider than a stripe, "
        "at most 1/24 of the detector.",
    )

    large_stripe_size: int = Field(
        default=61,
        ge=3,
        le=2001,
        title="Width of wide stripes (columns)",
        description="Window of the median that they vanish in: wider than a stripe, "
        "at most 1/8 of the detector.",
    )

    stripe_contrast: float = Field(
        default=3.0,
        ge=1,
        le=100,
        title="Contrast of wide stripes",
        description="How far a column must stand out of the others; lower finds more.",
    )
