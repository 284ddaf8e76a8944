"""Checks the voxels of shapes and scans against those that a model was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.learning.shapes.data import NEARLY_CUBIC
from napari_geosr.models.card import ModelCard

#: Maximum ratio of voxel edges accepted for models trained on cubic voxels.
MAX_ANISOTROPY = 1.5
#: Maximum ratio of the voxel edges of two scans without a warning.
_SIMILAR = 1.1
#: Number of voxel sizes that a message lists.
_MAX_LISTED = 3

#: Edges of a voxel along Z, Y, X, and their unit.
VoxelEdges = tuple[tuple[float, ...], str]


def anisotropy(volume: Volume) -> float:
    """Return the ratio of a voxel's longest to its shortest edge; 1 if nearly equal."""
    ratio = max(volume.voxel_size) / min(volume.voxel_size)
    return ratio if ratio > NEARLY_CUBIC else 1.0


def check_training_voxels(volume: Volume) -> str:
    """Return a warning if the voxels of a training shape are not cubic; else "".

    Raises
    ------
    VolumeError
        If the trained model could not be used with such voxels.
    """
    if (ratio := anisotropy(volume)) == 1:
        return ""
    what = (
        f"The voxels of {volume.title} are {ratio:.3g} times longer along one axis "
        "than along another"
    )
    if ratio > MAX_ANISOTROPY:
        raise VolumeError(
            f"{what}, but the model can only be used with nearly cubic voxels. "
            "Resample the volume to cubic voxels, or leave it out."
        )
    return f"{what}; the model treats them as cubic."


def trained_sizes(volumes: Sequence[Volume]) -> AnyDict:
    """Return the range of the voxel edges of training scans, for a model card.

    The result is empty if the voxel size of a scan is unknown.
    """
    if not volumes or not all(volume.has_physical_size for volume in volumes):
        return {}
    unit = volumes[0].unit
    edges = [
        convert_length(edge, volume.unit, unit)
        for volume in volumes
        for edge in volume.voxel_size
    ]
    return {"voxel_size": (min(edges), max(edges)), "unit": unit}


def check_equal_voxels(volumes: Sequence[Volume]) -> str:
    """Return a warning if the voxels of training scans differ; else ""."""
    first, *others = volumes
    for other in others:
        if not _are_similar(_edges(first), _edges(other)):
            return (
                f"The voxels of the training scans differ by more than "
                f"{_percent(_SIMILAR)} %: {_described(_edges(first))} in "
                f"{first.title}, {_described(_edges(other))} in {other.title}. The "
                "model does not know the voxel size. Resample the scans to the same "
                "voxel size, or train a model for each."
            )
    return ""


def check_trained_voxels(volume: Volume, card: ModelCard) -> str:
    """Return a warning if the voxels of a scan differ from the training scans; else "".

    Without a unit, only the ratios of the edges are compared.
    """
    trained = _trained_edges(card)
    own = _edges(volume)
    if not trained or any(_are_similar(own, edges) for edges in trained):
        return ""
    listed = list(dict.fromkeys(map(_described, trained)))
    more = ", …" if len(listed) > _MAX_LISTED else ""
    return (
        f"The voxels of {volume.title} ({_described(own)}) differ by more than "
        f"{_percent(_SIMILAR)} % from those of the scans that {card.name} was trained "
        f"on ({', '.join(listed[:_MAX_LISTED])}{more}), so the labels may be wrong. "
        "Resample the scan to that voxel size, or train a model with such scans."
    )


def _edges(volume: Volume) -> VoxelEdges:
    return tuple(volume.voxel_size), volume.unit


def _trained_edges(card: ModelCard) -> list[VoxelEdges]:
    """Return the voxel edges of the training scans, according to a model's record."""
    inputs = card.provenance.get("inputs")
    found: list[VoxelEdges] = []
    for name, record in inputs.items() if isinstance(inputs, dict) else ():
        match record:
            case {"voxel_size": [z, y, x], "unit": str(unit)} if name.startswith(
                "source"
            ):
                found.append(((float(z), float(y), float(x)), unit))
    return found


def _are_similar(one: VoxelEdges, other: VoxelEdges) -> bool:
    """Return whether voxels differ by at most 10 % along each axis.

    If a unit is unknown, only the ratios of the edges are compared.
    """
    (first, unit), (second, its_unit) = one, other
    if PIXEL in (unit, its_unit):
        # Scale both to the same mean edge, so that only the ratios matter.
        first, second = (
            tuple(edge / math.prod(edges) ** (1 / 3) for edge in edges)
            for edges in (first, second)
        )
    else:
        second = tuple(convert_length(edge, its_unit, unit) for edge in second)
    pairs = zip(first, second, strict=True)
    return all(max(pair) <= _SIMILAR * min(pair) for pair in pairs)


def _described(edges: VoxelEdges) -> str:
    sizes, unit = edges
    listed = " × ".join(f"{size:.3g}" for size in sizes)
    return f"{listed}, without a unit" if unit == PIXEL else f"{listed} {unit}"


def _percent(ratio: float) -> int:
    return round(100 * (ratio - 1))
