"""Restore microscopy and CT volumes and measure their pores.

The public functions are loaded on first use, so that importing the package (which
napari does for every installed plugin at start) costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_geosr.core.version import __version__

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.io import read, write
    from napari_geosr.measure.report import PorosityReport
    from napari_geosr.operations.measure import measure_porosity
    from napari_geosr.operations.restore import restore, restore_with_uncertainty
    from napari_geosr.operations.restore.consistency import check_consistency
    from napari_geosr.operations.train import train

_LOCATIONS = {
    "PorosityReport": "napari_geosr.measure.report",
    "Volume": "napari_geosr.core.volume",
    "check_consistency": "napari_geosr.operations.restore.consistency",
    "measure_porosity": "napari_geosr.operations.measure",
    "read": "napari_geosr.io",
    "restore": "napari_geosr.operations.restore",
    "restore_with_uncertainty": "napari_geosr.operations.restore",
    "train": "napari_geosr.operations.train",
    "write": "napari_geosr.io",
}

__all__ = [
    "PorosityReport",
    "Volume",
    "__version__",
    "check_consistency",
    "measure_porosity",
    "read",
    "restore",
    "restore_with_uncertainty",
    "train",
    "write",
]


def __getattr__(name: str) -> Any:
    if name in _LOCATIONS:
        return getattr(import_module(_LOCATIONS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
