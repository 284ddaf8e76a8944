"""Available models: find, calibrate, import, export and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from napari_geosr.operations.models.calibrating import calibrate_steps
    from napari_geosr.operations.models.exporting import ExportResult, export_steps
    from napari_geosr.operations.models.importing import ImportResult, import_steps

__all__ = [
    "ExportResult",
    "ImportResult",
    "calibrate_steps",
    "export_steps",
    "import_steps",
]

# Loaded on first use, because they import torch to run models.
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "calibrating": ["calibrate_steps"],
        "exporting": ["ExportResult", "export_steps"],
        "importing": ["ImportResult", "import_steps"],
    },
)
