"""Settings of a simulated tomographic scan."""

from __future__ import annotations

from pydantic import Field

from napari_geosr.core.config import Config


class ScanConfig(Config):
    """A parallel-beam scan: its views, its beam, and what the detector does wrong."""

    projections: int = Field(
        default=180,
        ge=1,
        le=100_000,
        title="Projections",
        description="Number of views.",
    )

    angle_range: float = Field(
        default=180.0,
        gt=0,
        le=720,
        title="Angular range (degrees)",
        description="Views are evenly spaced over it; its end is not one of them.",
    )

    first_angle: float = Field(
        default=0.0,
        title="First angle (degrees)",
        description="Angle in the middle of the first exposure.",
    )

    sub_angles: int = Field(
        default=1,
        ge=1,
        le=100,
        title="Angles per exposure",
        description="1: the sample stands still (step by step); 5 or more: it turns "
        "all the time (continuous), and views are blurred by that.",
    )

    photons: float = Field(
        default=1e4,
        gt=0,
        le=1e9,
        title="Photons",
        description="Counts of a pixel without sample, in one view.",
    )

    noise: bool = Field(
        default=True,
        title="Noise",
        description="Count photons; otherwise every value is its mean.",
    )

    absorption: float = Field(
        default=1.5,
        gt=0,
        le=20,
        title="Largest line integral",
        description="The attenuation is scaled so that the thickest part lets "
        "exp(-this) of the beam through.",
    )

    columns: int | None = Field(
        default=None,
        ge=8,
        le=100_000,
        title="Detector columns",
        description="By default those that see the whole slice, and some air.",
    )

    centre_offset: float = Field(
        default=0.0,
        title="Offset of the rotation axis (columns)",
        description="How far from the middle of the detector the axis is seen.",
    )

    blur: float = Field(
        default=0.0,
        ge=0,
        le=20,
        title="Blur of the detector (pixels)",
        description="Standard deviation of its Gaussian point spread.",
    )

    gain: float = Field(
        default=0.02,
        ge=0,
        le=0.3,
        title="Spread of the gains",
        description="Standard deviation between pixels, as flat fields show it.",
    )

    rings: float = Field(
        default=0.0,
        ge=0,
        le=0.3,
        title="Rings",
        description="Standard deviation of what flat fields get wrong of a gain.",
    )

    dead_columns: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        title="Dead columns",
        description="Part of the columns that die after the flat fields.",
    )

    zingers: float = Field(
        default=0.0,
        ge=0,
        le=0.1,
        title="Zingers",
        description="Part of the pixels of a view that a flash hits.",
    )

    dark: float = Field(
        default=100.0,
        ge=0,
        le=1e6,
        title="Dark level",
        description="Counts without beam.",
    )

    read_noise: float = Field(
        default=2.0,
        ge=0,
        le=1e4,
        title="Read-out noise (counts)",
        description="Standard deviation of what the camera adds.",
    )

    flats: int = Field(
        default=10,
        ge=1,
        le=1000,
        title="Flat fields",
        description="Number of frames without sample.",
    )

    darks: int = Field(
        default=10,
        ge=1,
        le=1000,
        title="Dark fields",
        description="Number of frames without beam.",
    )

    seed: int = Field(
        default=0,
        ge=0,
        title="Seed",
        description="Of the random numbers: the same seed, the same scan.",
    )
