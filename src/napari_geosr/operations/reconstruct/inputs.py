"""Opens projections, with the settings that all commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from pydantic import AfterValidator, BeforeValidator, Field

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import require_unit
from napari_geosr.io.projections import read_projections
from napari_geosr.operations.inputs import COMMAS, parse_numbers

#: Maximum distance of source or detector from the axis, in the unit of the pixel size.
_MAX_DISTANCE = 1e12
#: Options with two values, separated by a space or a comma: ``--angle-range 0 180`` or
#: ``--angle-range 0,180``.
_TWO_VALUES = Parameter(negative="", consume_multiple=True)


def _numbers(value: object) -> Any:
    return parse_numbers(value, float, "0,180")


def _rows(value: object) -> Any:
    return parse_numbers(value, int, "100,120")


def _two(value: tuple[Any, ...] | None) -> Any:
    if value is not None and len(value) != 2:
        raise ValueError("two numbers are needed, a start and an end, such as 10,20")
    if value is not None and value[0] == value[1]:
        raise ValueError(f"start and end are both {value[0]:g}; give a range")
    return value


def _sizes(value: tuple[float, ...] | None) -> Any:
    if value is not None and (len(value) not in (1, 2) or not min(value) > 0):
        raise ValueError("one or two numbers greater than zero are needed")
    return value


def _unit(value: str | None) -> str | None:
    return None if value is None else require_unit(value)


def _column(value: Any) -> Any:
    if value is None or value == "auto":
        return "auto"
    try:
        column = float(value)
    except (TypeError, ValueError):
        column = float("nan")
    if not abs(column) < 1e6:
        raise ValueError("write auto or the number of a column")
    return column


# Settings of a scan that several operations share, with common checks and help.
InnerPath = Annotated[
    str | None,
    Field(
        title="Dataset",
        description="Path of the projections, or of the detector, inside an HDF5 file.",
    ),
]
AnglesOf = Annotated[
    str | None,
    Field(
        title="Angles",
        description="Text file with one angle per line, or a dataset in the HDF5 file.",
    ),
]
AngleRange = Annotated[
    tuple[float, ...] | None,
    _TWO_VALUES,
    BeforeValidator(_numbers),
    AfterValidator(_two),
    Field(
        title="Angular range",
        description="Start and end of a range of evenly spaced angles, in "
        "degrees, such as 0 180.",
    ),
]
Endpoint = Annotated[
    bool,
    Parameter(negative=""),
    Field(
        title="End angle included",
        description="The last projection is at the end of the range, not one step "
        "before it.",
    ),
]
AngleUnit = Annotated[
    Literal["deg", "rad"] | None,
    Field(
        title="Angle unit",
        description="Unit of the angles. Overrides the unit in the file.",
    ),
]
PixelSize = Annotated[
    tuple[float, ...] | None,
    COMMAS,
    BeforeValidator(_numbers),
    AfterValidator(_sizes),
    Field(
        title="Pixel size",
        description="Pixel size of the detector as height,width, or one number. "
        "Overrides the pixel size in the file.",
    ),
]
PixelUnit = Annotated[
    str | None,
    AfterValidator(_unit),
    Field(
        title="Unit", description="Unit of the pixel size: µm (or um), mm and so on."
    ),
]
Flats = Annotated[
    str | None,
    Field(
        title="Flat fields",
        description="Flat fields (images without the sample): file or folder.",
    ),
]
Darks = Annotated[
    str | None,
    Field(
        title="Dark fields",
        description="Dark fields (images without the beam): file or folder.",
    ),
]
AreLineIntegrals = Annotated[
    bool | None,
    Field(
        title="Line integrals",
        description="The values are already line integrals, -log(I / I0). By default, "
        "this is read from the file.",
    ),
]
Beam = Annotated[
    Literal["parallel", "fan", "cone"] | None,
    Field(
        title="Beam",
        description="Shape of the beam: parallel, fan (one source point per row) or "
        "cone (one source point for all rows). By default, the geometry given in the "
        "file, or parallel if the file gives none.",
    ),
]
SourceDistance = Annotated[
    float | None,
    Field(
        gt=0,
        le=_MAX_DISTANCE,
        title="Source–axis distance",
        description="Distance from the source to the rotation axis, for fan and cone "
        "beams, in the unit of the pixel size.",
    ),
]
DetectorDistance = Annotated[
    float | None,
    Field(
        ge=0,
        le=_MAX_DISTANCE,
        title="Axis–detector distance",
        description="Distance from the rotation axis to the detector, for fan and cone "
        "beams, in the unit of the pixel size; 0 if the pixel size is given at the "
        "rotation axis.",
    ),
]
AxisColumn = Annotated[
    Literal["auto"] | float,
    Parameter(name=["--center", "--centre"]),
    BeforeValidator(_column),
    Field(
        title="Rotation centre",
        description="Detector column of the rotation axis; 0 is the centre of the "
        "first column. auto: read from the file, or determined from the projections.",
    ),
]
RowRange = Annotated[
    tuple[int, ...] | None,
    _TWO_VALUES,
    BeforeValidator(_rows),
    AfterValidator(_two),
    Field(
        title="Rows",
        description="First detector row and the row after the last one, such as "
        "100,120; by default all rows.",
    ),
]


class ProjectionsInput(Config):
    """Corrections and additions to the metadata of the file."""

    dataset: InnerPath = None
    angles: AnglesOf = None
    angle_range: AngleRange = None
    endpoint: Endpoint = False
    angle_unit: AngleUnit = None
    pixel_size: PixelSize = None
    unit: PixelUnit = None
    flats: Flats = None
    darks: Darks = None
    line_integrals: AreLineIntegrals = None
    geometry: Beam = None
    source_distance: SourceDistance = None
    detector_distance: DetectorDistance = None

    def reading(self) -> AnyDict:
        """Return the arguments for `napari_geosr.io.projections.read_projections`."""
        return self.model_dump(exclude=set(_BEAM))

    def described(self, scan: Projections) -> Projections:
        """Apply the settings for the beam to the projections.

        Raises
        ------
        ConfigError, ProjectionsError
            If distances that the beam requires are missing, or if distances are given
            for a parallel beam.
        """
        given = {k: v for k, v in self.model_dump(include=set(_BEAM)).items() if v}
        if self.detector_distance is not None:
            given["detector_distance"] = self.detector_distance
        if not given:
            return scan
        values = {name: given.get(name, getattr(scan, name)) for name in _BEAM}
        distances = [values[name] for name in _BEAM[1:]]
        if values["geometry"] == "parallel":
            if len(given) > 1 or "geometry" not in given:
                raise ConfigError(
                    "A parallel beam has no source distance: omit the distances, or "
                    "give the shape of the beam (--geometry fan or cone)."
                )
            values |= dict.fromkeys(_BEAM[1:])
        elif None in distances:
            raise ConfigError(
                f"A {values['geometry']} beam needs the distances from source to axis "
                "(--source-distance) and from axis to detector (--detector-distance), "
                f"in the unit of the pixel size ({scan.unit})."
            )
        return scan.replace(**values)


#: Fields of `ProjectionsInput` that are not needed for reading files.
_BEAM = ("geometry", "source_distance", "detector_distance")


def open_projections(
    path: str | Path, config: ProjectionsInput | None = None
) -> Projections:
    """Open projections lazily.

    Raises
    ------
    FileError, ProjectionsError, ConfigError
        If the file cannot be opened, or its contents are inconsistent.
    """
    config = config or ProjectionsInput()
    return config.described(read_projections(path, **config.reading()))
