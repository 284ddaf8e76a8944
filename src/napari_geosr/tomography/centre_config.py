"""Settings of the search for the rotation axis."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from napari_geosr.core.config import Config


class CentreConfig(Config):
    """How the rotation axis is looked for."""

    method: Literal["auto", "wedge", "opposite", "pair"] = Field(
        default="auto",
        title="Method",
        description="Wedge: from all views over 180 degrees; opposite: from the two "
        "halves of a full turn; pair: from the views at 0 and 180 degrees alone.",
    )

    low: float | None = Field(
        default=None,
        title="From column",
        description="Where the search begins; by default near the detector's edge.",
    )

    high: float | None = Field(
        default=None,
        title="To column",
        description="Where the search ends; by default near the detector's edge.",
    )

    n_rows: int = Field(
        default=8,
        ge=1,
        le=64,
        title="Rows",
        description="Detector rows that the search uses, side by side.",
    )

    row: int | None = Field(
        default=None,
        ge=0,
        title="First row",
        description="First of these rows; by default they lie in the middle.",
    )
