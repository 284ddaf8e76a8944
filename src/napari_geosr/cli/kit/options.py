"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from napari_geosr.core.config import Config

AnyConfig = TypeVar("AnyConfig", bound=Config)

#: Turns each field of a config into a flag: ``--model``, ``--voxel-size``, …
AS_FLAGS = Parameter(name="*")

InputPath = Annotated[
    Path,
    Parameter(
        help="TIFF, folder or pattern of slices (slices/*.tif), OME-Zarr, HDF5/NeXus, "
        "NIfTI or raw file; or the URL of a zarr or HDF5 file (https://, s3://)."
    ),
]
SettingsPath = Annotated[
    Path | None,
    Parameter(
        name="--config",
        help="YAML file with settings. Options on the command line take precedence.",
    ),
]
Json = Annotated[
    bool,
    Parameter(negative="", help="Print only the result, as one JSON object."),
]
OutFolder = Annotated[
    Path, Parameter(alias="-o", help="Output folder. Created if missing.")
]
Overwrite = Annotated[
    bool, Parameter(negative="", help="Replace output files that already exist.")
]


def settings_from(
    kind: type[AnyConfig], flags: AnyConfig | None, path: Path | None
) -> AnyConfig:
    """Read settings from a YAML file; command-line flags take precedence.

    Parameters
    ----------
    kind : type
        The class of the settings.
    flags : Config or None
        Settings from the command line.
    path : Path or None
        YAML file.

    Raises
    ------
    ConfigError
        If the file or the combination is invalid.
    """
    given = {} if flags is None else flags.model_dump(exclude_unset=True)
    stored = {} if path is None else kind.from_yaml(path).model_dump(exclude_unset=True)
    return kind.create(**(stored | given))
