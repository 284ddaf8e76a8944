"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import Parameter

from napari_geosr.core.config import Config

AnyConfig = TypeVar("AnyConfig", bound=Config)

#: A config spread into flags: ``--model``, ``--voxel-size``, …
AS_FLAGS = Parameter(name="*")

InputPath = Annotated[
    Path,
    Parameter(
        help="TIFF, folder or glob of slices, OME-Zarr, HDF5/NeXus, NIfTI or raw."
    ),
]
SettingsPath = Annotated[
    Path | None,
    Parameter(name="--config", help="YAML of settings to start from; flags overrule."),
]
Json = Annotated[
    bool, Parameter(negative="", help="Print one JSON object and nothing else.")
]
Overwrite = Annotated[
    bool, Parameter(negative="", help="Replace outputs that exist already.")
]


def settings_from(
    kind: type[AnyConfig], flags: AnyConfig | None, path: Path | None
) -> AnyConfig:
    """Settings of a YAML file, overruled by the flags that were given.

    Raises
    ------
    ConfigError
        If the file or the two together make no valid settings.
    """
    given = {} if flags is None else flags.model_dump(exclude_unset=True)
    kept = {} if path is None else kind.from_yaml(path).model_dump(exclude_unset=True)
    return kind.create(**(kept | given))
