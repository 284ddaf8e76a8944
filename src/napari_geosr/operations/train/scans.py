"""Settings of training scans that are made from projections.

This module does not import torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import BeforeValidator, Field, field_validator

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.operations.inputs import parse_numbers
from napari_geosr.operations.reconstruct.config import FullTurn, ReconstructConfig
from napari_geosr.operations.reconstruct.inputs import (
    AngleRange,
    AnglesOf,
    AngleUnit,
    AreLineIntegrals,
    AxisColumn,
    Beam,
    Darks,
    DetectorDistance,
    Endpoint,
    Flats,
    InnerPath,
    PixelSize,
    PixelUnit,
    ProjectionsInput,
    RowRange,
    SourceDistance,
)
from napari_geosr.tomography.filters import FilterName, Padding
from napari_geosr.tomography.preparation_config import PreparationConfig, StripeRemoval

#: How each method that accepts projections uses them: as parts of one scan, or as pairs
#: of a source scan and a target scan.
METHODS_FROM_PROJECTIONS = {
    "noise2inverse": "parts",
    "supervised": "pairs",
    "tomogan": "pairs",
}


def _counts(value: Any) -> object:
    if value is None or value == "auto":
        return "auto"
    try:
        counts = float(value)
    except (TypeError, ValueError):
        counts = float("nan")
    if not 0 < counts < 1e9:
        raise ValueError("write auto or a number greater than zero")
    return counts


CountsPerPhoton = Annotated[
    Literal["auto"] | float,
    BeforeValidator(_counts),
    Field(
        title="Counts per photon",
        description="Detector counts per photon, for shorter exposures. auto: "
        "determined from the variation between flat fields if there are three or more, "
        "otherwise 1.",
    ),
]


def _parts(value: Any) -> object:
    if value is None or value == "auto":
        return "auto"
    if not str(value).strip().isdecimal() or not 2 <= int(value) <= 64:
        raise ValueError("write auto or a number of parts, 2 to 64")
    return int(value)


Parts = Annotated[
    Literal["auto"] | int,
    BeforeValidator(_parts),
    Field(
        title="Parts",
        description="Number of parts into which the projections are divided; each "
        "is reconstructed separately. auto: 2; 3 for 150 projections or more; "
        "4 for 200 or more.",
    ),
]

#: Annotation of options that accept several values, such as ``--every 5 10``.
_MULTIPLE = Parameter(negative="", consume_multiple=True)
#: Fields that describe how projections are read.
_READING_FIELDS = (
    *("angles", "angle_range", "endpoint", "angle_unit"),
    *("pixel_size", "line_integrals", "flats", "darks"),
    *("geometry", "source_distance", "detector_distance"),
)
#: Fields shared with the reconstruction config that apply to every algorithm.
RECONSTRUCTION_FIELDS = ("rows", "full_turn", *PreparationConfig.model_fields)


class ProjectionsConfig(PreparationConfig):
    """Settings for reading and reconstructing projections."""

    projections: Path | None = Field(
        None,
        title="Projections",
        description="Projections to learn from: HDF5 (Data Exchange or NXtomo), TIFF "
        "stack or folder.",
    )
    filter: FilterName = Field(
        "ramp",
        title="Filter",
        description="Filter of the reconstructions: ramp is the sharpest, hann the "
        "smoothest.",
    )
    padding: Padding = Field(
        "zero",
        title="Padding",
        description="Assumed values outside the detector. zero: no sample; edge: the "
        "values at its edge, for samples wider than the detector.",
    )
    centre: AxisColumn = "auto"
    rows: RowRange = None
    full_turn: FullTurn = "auto"
    stripes: StripeRemoval = Field(
        "none",
        description="How stripes (rings) are removed. Remaining rings are the same in "
        "all parts of a scan, so the network would learn them.",
    )
    angles: AnglesOf = None
    angle_range: AngleRange = None
    endpoint: Endpoint = False
    angle_unit: AngleUnit = None
    pixel_size: PixelSize = None
    pixel_unit: PixelUnit = None
    scan_dataset: Annotated[
        InnerPath, Parameter(name=["--projections-dataset", "--scan-dataset"])
    ] = None
    flats: Flats = None
    darks: Darks = None
    line_integrals: AreLineIntegrals = None
    geometry: Beam = None
    source_distance: SourceDistance = None
    detector_distance: DetectorDistance = None

    def reading(self) -> ProjectionsInput:
        """Return the settings for opening the projections.

        Raises
        ------
        ConfigError
            If a value is invalid.
        """
        values = self.model_dump(include=set(_READING_FIELDS))
        return ProjectionsInput.create(
            **values, dataset=self.scan_dataset, unit=self.pixel_unit
        )

    def reconstruction(self, **more: Any) -> ReconstructConfig:
        """Return the settings of a filtered back-projection."""
        values = self.model_dump(include={"filter", "centre", *RECONSTRUCTION_FIELDS})
        values["options"] = {"padding": self.padding}
        return ReconstructConfig.create(**{**values, **more})

    def with_absolute_paths(self) -> Any:
        """Return the settings with absolute paths."""
        paths: AnyDict = {
            name: value.expanduser().resolve()
            for name in type(self).model_fields
            if isinstance(value := getattr(self, name), Path)
        }
        for name in ("angles", "flats", "darks"):
            value = getattr(self, name)
            if value is not None and Path(value).expanduser().exists():
                paths[name] = str(Path(value).expanduser().resolve())
        return self.model_copy(update=paths)


class ScansConfig(ProjectionsConfig):
    """Settings of training scans that are made from one full scan."""

    splits: Parts = "auto"
    every: Annotated[tuple[int, ...], _MULTIPLE] = Field(
        (),
        title="Every",
        description="Make pairs of reconstructions: one from every n-th projection, "
        "the other from all projections.",
    )
    counts: Annotated[tuple[int, ...], _MULTIPLE] = Field(
        (),
        title="Projections kept",
        description="Make pairs of reconstructions: one from this many projections, "
        "the other from all projections.",
    )
    acquisition: Literal["step", "continuous"] = Field(
        "step",
        title="Acquisition",
        description="How the scans with fewer projections are acquired. step: "
        "step-and-shoot; continuous: the sample rotates during the exposure.",
    )
    exposure: Annotated[tuple[float, ...], _MULTIPLE] = Field(
        (),
        title="Exposure",
        description="Make pairs of reconstructions: one from this fraction of the "
        "exposure, such as 0.1, the other from the remaining exposure. The "
        "projections must contain counts.",
    )
    target_light: Literal["left-out", "all"] = Field(
        "left-out",
        title="Exposure of the target",
        description="Photons of the target, for pairs with fewer projections. "
        "left-out: the input gets four fifths of the photons of its projections and "
        "the target gets all others, so that their noise is independent; all: the "
        "target has all photons, as in the publications. Has no effect if the "
        "projections are not photon counts.",
    )
    counts_per_photon: CountsPerPhoton = "auto"
    photon_seed: int = Field(
        0,
        ge=0,
        title="Photon seed",
        description=(
            "Seed for the random choice of the photons that the input receives."
        ),
    )
    short: Path | None = Field(
        None,
        title="Short scan",
        description="Make pairs with these projections as the input: the same object, "
        "acquired with a short exposure.",
    )
    restore: Path | None = Field(
        None,
        title="Restore to",
        description="Also restore the scan with the new model and write the result to "
        "this file.",
    )
    overwrite: Annotated[bool, Parameter(name="--overwrite-restored", negative="")] = (
        Field(
            False,
            title="Overwrite",
            description="Replace the restored file if it exists.",
        )
    )

    @field_validator("every", "counts", mode="before")
    @classmethod
    def _read_counts(cls, value: object) -> object:
        return parse_numbers(value, int, "50,100")

    @field_validator("exposure", mode="before")
    @classmethod
    def _read_exposure(cls, value: object) -> object:
        return parse_numbers(value, float, "0.3,0.1")

    @field_validator("every", "counts")
    @classmethod
    def _check_counts(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(n < 2 for n in value):
            raise ValueError("every number must be 2 or more")
        return value

    def check_for(self, method: str) -> None:
        """Refuse settings that are missing, or that the method does not use.

        Raises
        ------
        ConfigError
            If a setting is invalid.
        """
        if self.projections is None:
            raise ConfigError("Give the projections to learn from (--projections).")
        pairs = [
            name
            for name in ("every", "counts", "exposure", "short")
            if getattr(self, name)
        ]
        if METHODS_FROM_PROJECTIONS[method] == "parts" and pairs:
            raise ConfigError(
                f"{method} learns from parts of one scan (--splits): omit "
                f"{', '.join(f'--{name}' for name in pairs)}."
            )
        if METHODS_FROM_PROJECTIONS[method] == "pairs" and not pairs:
            raise ConfigError(
                f"{method} learns from pairs: choose the data to pair with the whole "
                "scan, such as every fifth projection (--every 5), 100 projections "
                "(--counts 100), a tenth of the exposure (--exposure 0.1) or a second "
                "scan (--short PATH)."
            )
