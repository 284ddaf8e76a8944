"""Crop training scans to the region that they share, if their positions differ.

Training uses paired scans voxel by voxel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_geosr.core.arrays import sliceable
from napari_geosr.core.errors import VolumeError
from napari_geosr.learning.sampling.pairs import MAX_SHIFT, position_shift
from napari_geosr.operations.inputs.same_grid import check_directions
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.method import Method

Factors = tuple[int, ...]
Shift = tuple[int, ...]
Boxes = list[tuple[slice, ...]]


@dataclass(frozen=True)
class SharedRegions:
    """Training volumes, cropped to the regions that they share.

    Attributes
    ----------
    volumes : mapping of str to sequence of Volume
        Volumes by role; those that share all their voxels are unchanged.
    notes : tuple of str
        A sentence for each group of volumes that was cropped.
    first_slice : int
        Index in the first source of the first slice that is used.
    """

    volumes: Mapping[str, Sequence[Volume]]
    notes: tuple[str, ...] = ()
    first_slice: int = 0

    def used_slice(self, index: int | None) -> int | None:
        """Convert the index of a slice of the first source; use the nearest slice."""
        if index is None:
            return None
        first = self.volumes["source"][0]
        return min(max(0, index - self.first_slice), first.length("Z") - 1)


def share_regions(
    method: Method, volumes: Mapping[str, Sequence[Volume]], *, shown: bool = False
) -> SharedRegions:
    """Crop volumes that are used voxel by voxel to the region that all of them show.

    Volumes are cropped if they have the same voxel size and their positions differ by a
    whole number of voxels. No voxels are read.

    Parameters
    ----------
    method : Method
        Determines which volumes are used voxel by voxel.
    volumes : mapping of str to sequence of Volume
        Volumes by role, in order.
    shown : bool
        Whether all volumes are layers of one viewer, where the position of each is
        known. Otherwise, volumes whose files state no position are not compared.

    Raises
    ------
    VolumeError
        If volumes do not overlap, are shifted by a fraction of a voxel, or their axes
        have other directions.
    """
    cropped = {role: list(group) for role, group in volumes.items()}
    notes: list[str] = []
    first_slice = 0
    for places in _groups(method, volumes):
        group = [volumes[role][i] for role, i in places]
        if is_simulated(group[0].name):
            continue
        factors = [_factors(method, role, group[0]) for role, _ in places]
        boxes = _common_boxes(group, factors, shown)
        if boxes is None:
            continue
        for (role, i), box in zip(places, boxes, strict=True):
            cropped[role][i] = _crop(volumes[role][i], box)
        if places[0] == ("source", 0) and group[0].axes == "ZYX":
            first_slice = boxes[0][0].start
        notes.append(_note(group, cropped["source"][places[0][1]]))
    return SharedRegions(cropped, tuple(notes), first_slice)


def _groups(
    method: Method, volumes: Mapping[str, Sequence[Volume]]
) -> list[list[tuple[str, int]]]:
    """Return role and index of the volumes that are used together; sources first."""
    n = len(volumes["source"])
    if method.one_object:
        return [[("source", i) for i in range(n)]]
    if not method.paired:
        return []
    roles = ["source", *(role for role in volumes if role != "source")]
    return [[(role, i) for role in roles] for i in range(n)]


def _factors(method: Method, role: str, source: Volume) -> Factors:
    """Return the voxels of a volume per voxel of the source along each axis."""
    n_kept = max(0, source.ndim - method.config.ndim)
    factor = method.upscale_factor if role == "target" else 1
    return (1,) * n_kept + (factor,) * (source.ndim - n_kept)


def _common_boxes(
    group: Sequence[Volume], factors: Sequence[Factors], shown: bool
) -> Boxes | None:
    """Return the part of each volume that all of them show; None if all agree."""
    first = group[0]
    shifts = [(0,) * first.ndim]
    for volume, each in zip(group[1:], factors[1:], strict=True):
        shifts.append(_shift(first, volume, each, shown))
    if not any(map(any, shifts)):
        return None
    low = tuple(map(max, zip(*shifts, strict=True)))
    ends = [
        tuple(s + n // f for s, n, f in zip(shift, volume.shape, each, strict=True))
        for shift, volume, each in zip(shifts, group, factors, strict=True)
    ]
    high = tuple(map(min, zip(*ends, strict=True)))
    if any(a >= b for a, b in zip(low, high, strict=True)):
        other, shift = next(
            (v, s) for v, s in zip(group, shifts, strict=True) if any(s)
        )
        raise VolumeError(
            f"{other.title} and {first.title} do not overlap: {other.title} is shifted "
            f"by {_voxels(shift, first)}. Choose scans of the same region. If they "
            "show the same region, correct their positions."
        )
    return [
        tuple(
            slice((a - s) * f, (b - s) * f)
            for a, b, s, f in zip(low, high, shift, each, strict=True)
        )
        for shift, each in zip(shifts, factors, strict=True)
    ]


def _shift(first: Volume, other: Volume, factors: Factors, shown: bool) -> Shift:
    """Return the shift of a volume in voxels of the first; zeros if it is unknown.

    Some programs store the position of the outer edge of the first voxel instead of its
    centre. For volumes with different voxel sizes, the shift then differs by a fraction
    of a voxel, so both interpretations of the positions are tried.

    Raises
    ------
    VolumeError
        If the shift is not a whole number of voxels.
    """
    unknown = (0,) * first.ndim
    if first.axes != other.axes:
        return unknown
    between = position_shift(first, other, factors, shown=shown)
    if between is None:
        return unknown
    check_directions(other, first)
    by_edges = [s - 0.5 * (1 - 1 / f) for s, f in zip(between, factors, strict=True)]
    for shift in (between, by_edges):
        whole = tuple(map(round, shift))
        if all(abs(s - n) <= MAX_SHIFT for s, n in zip(shift, whole, strict=True)):
            return whole
    raise VolumeError(
        f"{other.title} is shifted by {_voxels(between, first)} from {first.title}, "
        "which is not a whole number of voxels, but training uses them voxel by voxel. "
        "Align them first (napari-geosr pairs --low PATH --high PATH)."
    )


def _crop(volume: Volume, box: tuple[slice, ...]) -> Volume:
    begin = [part.start for part in box]
    origin = tuple(
        place + n * edge
        for place, n, edge in zip(volume.origin, begin, volume.voxel_size, strict=True)
    )
    return volume.replace(data=sliceable(volume.data)[box], origin=origin)


def _note(group: Sequence[Volume], cropped: Volume) -> str:
    names = ", ".join(volume.title for volume in group[:-1])
    used, whole = (
        " × ".join(map(str, shape)) for shape in (cropped.shape, group[0].shape)
    )
    return (
        f"{names} and {group[-1].title} show different regions. Only the region that "
        f"they share is used: {used} of the {whole} voxels of {group[0].title}."
    )


def _voxels(shift: Sequence[float], volume: Volume) -> str:
    numbers = ", ".join(f"{s:+.4g}" for s in shift)
    return f"{numbers} voxels ({', '.join(volume.axes)})"
