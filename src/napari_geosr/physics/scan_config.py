"""Settings of a simulated tomographic scan."""

from __future__ import annotations

from pydantic import Field

from napari_geosr.core.config import Config


class ScanConfig(Config):
    """A parallel-beam scan: projections, beam and detector imperfections."""

    projections: int = Field(
        default=180,
        ge=1,
        le=100_000,
        title="Projections",
        description="Number of projections.",
    )

    angle_range: float = Field(
        default=180.0,
        gt=0,
        le=720,
        title="Angular range (degrees)",
        description="Range over which the projections are evenly spaced, in degrees, "
        "excluding the end point.",
    )

    first_angle: float = Field(
        default=0.0,
        ge=-1e6,
        le=1e6,
        title="First angle (degrees)",
        description="Angle at the middle of the first exposure, in degrees.",
    )

    sub_angles: int = Field(
        default=1,
        ge=1,
        le=100,
        title="Angles per exposure",
        description="Number of angles averaged per exposure. 1: the sample is "
        "stationary; larger numbers: it rotates during the exposure, which blurs the "
        "projections (use 5 or more).",
    )

    photons: float = Field(
        default=1e4,
        gt=0,
        le=1e9,
        title="Photons",
        description="Number of photons per pixel and projection without the sample.",
    )

    noise: bool = Field(
        default=True,
        title="Noise",
        description="Add photon-counting (shot) noise.",
    )

    absorption: float = Field(
        default=1.5,
        gt=0,
        le=20,
        title="Largest line integral",
        description="Scale the attenuation so that the thickest part transmits a "
        "fraction exp(-x) of the beam, where x is this value.",
    )

    columns: int | None = Field(
        default=None,
        ge=8,
        le=100_000,
        title="Detector columns",
        description="Number of detector columns; by default enough to cover the whole "
        "slice and some air around it.",
    )

    centre_offset: float = Field(
        default=0.0,
        ge=-1e5,
        le=1e5,
        title="Rotation axis offset (columns)",
        description="Distance of the rotation axis from the centre of the detector, "
        "in pixels.",
    )

    blur: float = Field(
        default=0.0,
        ge=0,
        le=20,
        title="Detector blur (pixels)",
        description="Standard deviation of the detector's Gaussian point-spread "
        "function, in pixels.",
    )

    gain: float = Field(
        default=0.02,
        ge=0,
        le=0.3,
        title="Gain variation",
        description="Standard deviation of the gain from pixel to pixel, as seen in "
        "flat fields.",
    )

    rings: float = Field(
        default=0.0,
        ge=0,
        le=0.3,
        title="Rings",
        description="Standard deviation of the gain error that flat fields do not "
        "correct; it causes rings.",
    )

    dead_columns: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        title="Dead columns",
        description="Fraction of the columns that fail after the flat fields are "
        "taken.",
    )

    zingers: float = Field(
        default=0.0,
        ge=0,
        le=0.1,
        title="Zingers",
        description="Fraction of the pixels in a projection that are hit by a zinger "
        "(a bright flash).",
    )

    dark: float = Field(
        default=100.0,
        ge=0,
        le=1e6,
        title="Dark level",
        description="Detector counts without the beam (dark level).",
    )

    read_noise: float = Field(
        default=2.0,
        ge=0,
        le=1e4,
        title="Read noise (counts)",
        description="Standard deviation of the camera's read noise, in counts.",
    )

    flats: int = Field(
        default=10,
        ge=1,
        le=1000,
        title="Flat fields",
        description="Number of flat fields (images without the sample).",
    )

    darks: int = Field(
        default=10,
        ge=1,
        le=1000,
        title="Dark fields",
        description="Number of dark fields (images without the beam).",
    )

    seed: int = Field(
        default=0,
        ge=0,
        title="Seed",
        description="Random seed: the same seed gives the same scan.",
    )
