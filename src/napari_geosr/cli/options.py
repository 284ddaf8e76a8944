"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

#: A config spread into flags: ``--model``, ``--voxel-size``, …
AS_FLAGS = Parameter(name="*")

InputPath = Annotated[
    Path,
    Parameter(
        help="TIFF, folder or glob of slices, OME-Zarr, HDF5/NeXus, NIfTI or raw."
    ),
]
Json = Annotated[
    bool, Parameter(negative="", help="Print one JSON object and nothing else.")
]
Overwrite = Annotated[
    bool, Parameter(negative="", help="Replace outputs that exist already.")
]
