"""Settings of the conversion of detector counts to line integrals."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_geosr.core.config import Config

StripeRemoval = Annotated[
    Literal["none", "sorting", "filtering", "large", "dead", "all"],
    Field(
        title="Remove rings",
        description="Which stripes (rings) to remove. sorting, filtering: narrow "
        "ones; large: wide ones; dead: dead columns and wide ones; all: every kind.",
    ),
]
NotFinite = Annotated[
    Literal["refuse", "fill"],
    Field(
        title="NaN in projections",
        description="How NaN and infinite values are treated. refuse: stop with a "
        "message; fill: interpolate between columns.",
    ),
]
Zingers = Annotated[
    float,
    Field(
        ge=0,
        title="Remove zingers",
        description="Remove zingers (bright flashes) that exceed this multiple of the "
        "noise. 8 is usual; 0 turns the correction off.",
        json_schema_extra={"unset": "off"},
    ),
]
IncidentCounts = Annotated[
    float | None,
    Field(
        gt=0,
        title="Counts without sample",
        description="Intensity of the beam, if there are no flat fields; by default "
        "taken from the brightest part of the projections.",
    ),
]


class PreparationConfig(Config):
    """Settings of the conversion to line integrals and the correction of defects."""

    frames: Literal["mean", "median"] = Field(
        default="mean",
        title="Flat/dark field average",
        description="How flat and dark fields are combined. mean: least noise; "
        "median: ignores zingers (bright flashes) in single images.",
    )

    incident: IncidentCounts = None

    minimum_transmission: float = Field(
        default=1e-4,
        gt=0,
        lt=1,
        title="Minimum transmission",
        description="Minimum transmission. Smaller values, including zero, are set to "
        "this value and counted, because the logarithm of zero is undefined.",
    )

    saturation: float | None = Field(
        default=None,
        gt=0,
        title="Saturation level (counts)",
        description="Values at or above this one count as saturated; by default the "
        "largest value of the file's integer type.",
    )

    nonfinite: NotFinite = "refuse"

    zingers: Zingers = 0.0

    stripes: StripeRemoval = "none"

    stripe_size: int = Field(
        default=21,
        ge=3,
        le=1001,
        title="Narrow stripe width (columns)",
        description="Width of the median filter that removes narrow stripes; it must "
        "be wider than a stripe, and at most 1/24 of the detector width.",
    )

    large_stripe_size: int = Field(
        default=61,
        ge=3,
        le=2001,
        title="Wide stripe width (columns)",
        description="Width of the median filter that removes wide stripes; it must "
        "be wider than a stripe, and at most 1/8 of the detector width.",
    )

    stripe_contrast: float = Field(
        default=3.0,
        ge=1,
        le=100,
        title="Wide stripe contrast",
        description="Minimum contrast at which a column counts as a stripe; smaller "
        "values find more stripes.",
    )
