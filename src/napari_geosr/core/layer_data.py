"""Attributes of a napari layer for a volume; does not import napari."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from napari_geosr.core.orientation import same_orientation
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL

#: Key of this package's entry in ``layer.metadata``.
METADATA = "geosr"
#: Spellings of units in napari (pint) that differ from the package's own.
_PINT = {"µm": "um", "Å": "angstrom", "in": "inch"}


def pint_unit(unit: str) -> str:
    """Return a unit in napari's spelling."""
    return _PINT.get(unit, unit)


def geometry(
    axes: str, voxel_size: tuple[float, ...], unit: str, origin: tuple[float, ...]
) -> AnyDict:
    """Return `scale`, `translate`, `units` and `axis_labels` of a layer.

    Parameters
    ----------
    axes : str
        Letters of all axes of the array, spatial ones last.
    voxel_size, origin : tuple of float
        Voxel size and origin along the spatial axes, in `unit`.
    unit : str

    Returns
    -------
    dict
        Keyword arguments of a napari layer; non-spatial axes are in pixels.
    """
    n_space = len(voxel_size)
    n_other = len(axes) - n_space
    return {
        "scale": (1.0,) * n_other + voxel_size,
        "translate": (0.0,) * n_other + origin,
        "units": (PIXEL,) * n_other + (pint_unit(unit),) * n_space,
        "axis_labels": tuple(axes.lower()),
    }


def entry(
    provenance: Iterable[AnyMapping], source: Path | None, metadata: AnyMapping
) -> AnyDict:
    """Return this package's entry for the ``metadata`` of a layer.

    Parameters
    ----------
    provenance : iterable of mapping
    source : Path or None
    metadata : mapping
        Metadata of the volume, of which only the orientation is kept.
    """
    record = {"provenance": list(provenance), "source": source}
    return {METADATA: record | same_orientation(metadata)}
