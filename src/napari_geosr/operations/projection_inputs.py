"""How projections are opened, from settings that all commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import Field, field_validator

from napari_geosr.core.config import Config
from napari_geosr.core.projections import Projections
from napari_geosr.core.units import require_unit
from napari_geosr.io.projections import read_projections
from napari_geosr.operations.inputs import COMMAS, numbers_from

#: ``--angle-range 0 180`` and ``--angle-range 0,180``.
_TWO = Parameter(negative="", consume_multiple=True)


class ProjectionsInput(Config):
    """What the file does not say about the scan, or says wrongly."""

    dataset: str | None = Field(
        None,
        title="Dataset",
        description="Path of the projections, or of the detector, in an HDF5 file.",
    )
    angles: str | None = Field(
        None,
        title="Angles",
        description="Text file with one angle a line, or a dataset of the HDF5 file.",
    )
    angle_range: Annotated[tuple[float, ...] | None, _TWO] = Field(
        None,
        title="Range of angles",
        description="First angle and end of evenly spaced angles in degrees: 0 180.",
    )
    endpoint: Annotated[bool, Parameter(negative="")] = Field(
        False,
        title="Last at the end",
        description="The last projection was taken at the end of the range, not one "
        "step before it.",
    )
    angle_unit: Literal["deg", "rad"] | None = Field(
        None, title="Unit of the angles", description="Where the file is wrong."
    )
    pixel_size: Annotated[tuple[float, ...] | None, COMMAS] = Field(
        None,
        title="Pixel size",
        description="Height,width of a detector pixel, or one number; overrides.",
    )
    unit: str | None = Field(
        None, title="Unit", description="Unit of the pixel size: µm (um), mm, …"
    )
    flats: str | None = Field(
        None, title="Flat fields", description="Images without sample: file or folder."
    )
    darks: str | None = Field(
        None, title="Dark fields", description="Images without beam: file or folder."
    )
    line_integrals: bool | None = Field(
        None,
        title="Line integrals",
        description="The values are -log(I / I0) already; by default as the file says.",
    )

    @field_validator("angle_range", "pixel_size", mode="before")
    @classmethod
    def _read_numbers(cls, value: Any) -> Any:
        return numbers_from(value, float, "0,180")

    @field_validator("angle_range")
    @classmethod
    def _check_range(cls, value: tuple[float, ...] | None) -> Any:
        if value is not None and len(value) != 2:
            raise ValueError("two numbers are needed, e.g. 0 180")
        return value

    @field_validator("pixel_size")
    @classmethod
    def _check_pixel_size(cls, value: tuple[float, ...] | None) -> Any:
        if value is not None and (len(value) not in (1, 2) or not min(value) > 0):
            raise ValueError("one or two numbers greater than zero are needed")
        return value

    @field_validator("unit")
    @classmethod
    def _check_unit(cls, value: str | None) -> str | None:
        return None if value is None else require_unit(value)

    def reading(self) -> dict[str, Any]:
        """The arguments for `napari_geosr.io.projections.read_projections`."""
        return self.model_dump()


def open_projections(
    path: str | Path, config: ProjectionsInput | None = None
) -> Projections:
    """Open projections lazily.

    Raises
    ------
    FileError, ProjectionsError
        If the file cannot be opened, or its parts do not fit together.
    """
    return read_projections(path, **(config or ProjectionsInput()).reading())
