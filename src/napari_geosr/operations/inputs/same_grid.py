"""Check that two volumes share a grid, as far as their files state their positions."""

from __future__ import annotations

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.orientation import LPS, RAS, orientation_of, rotation_of
from napari_geosr.core.positions import other_position, starts_of, states_position
from napari_geosr.core.units import convert_length, same_sizes
from napari_geosr.core.volume import Volume

#: Advice for two shapes with different numbers of voxels.
_FOR_SHAPES = (
    "Refine the coarser shape (napari-geosr shapes refine), or resample or crop one "
    "of them."
)
#: Advice for a scan and its mask or labels.
FOR_MASKS = (
    "Make the mask or the labels from this scan, or resample them to the grid of the "
    "scan."
)
#: Directions of X and Y in words, by orientation.
_DIRECTIONS = {
    RAS: "X to the right and Y to the front",
    LPS: "X to the left and Y to the back",
}
#: Maximum difference between elements of rotation matrices that counts as rounding, for
#: example in headers with three decimal places.
_SAME_ROTATION = 2e-3
#: Elements of the rotation matrix of a volume that is not oblique.
_NO_ROTATION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def is_half_turned(volume: Volume, reference: Volume) -> bool:
    """Return whether `volume` is known to be `reference` rotated by 180° about Z."""
    found = {orientation_of(each.metadata) for each in (volume, reference)}
    return found == {RAS, LPS}


def check_same_grid(
    volume: Volume,
    reference: Volume,
    *,
    may_be_turned: bool = False,
    advice: str = _FOR_SHAPES,
) -> str:
    """Raise `VolumeError` if two volumes do not show the same region.

    Without a common unit of length, positions are compared in voxels (see `starts_of`).

    Parameters
    ----------
    volume, reference : Volume
    may_be_turned : bool
        Whether the caller rotates the voxels of `volume` by half a turn about Z if
        `is_half_turned` returns True; if not, such volumes are rejected.
    advice : str
        Advice in the message if the numbers of voxels differ.

    Returns
    -------
    str
        A note that `volume` is rotated, or that the position of one volume is
        unknown, so that only the sizes could be checked; otherwise empty.
    """
    if volume.shape != reference.shape:
        sizes = [" × ".join(map(str, v.shape)) for v in (volume, reference)]
        raise VolumeError(
            f"{volume.title} has {sizes[0]} voxels and {reference.title} {sizes[1]}. "
            f"They must be on the same grid. {advice}"
        )
    if volume.axes != reference.axes:
        raise VolumeError(
            f"{volume.title} has the axes {', '.join(volume.axes)} and "
            f"{reference.title} {', '.join(reference.axes)}. Both "
            "must have the same axes."
        )
    turned = check_directions(volume, reference, may_be_turned=may_be_turned)
    if volume.has_physical_size and reference.has_physical_size:
        scale = convert_length(1.0, reference.unit, volume.unit)
        size = tuple(scale * edge for edge in reference.voxel_size)
        if not same_sizes(volume.voxel_size, size):
            raise _other_size(
                volume, reference.replace(voxel_size=size, unit=volume.unit)
            )
    else:
        check_known_sizes(volume, reference)
    begin = _turned_origin(volume) if turned else volume.origin
    if apart := other_position(volume, reference, begin):
        raise VolumeError(
            f"{apart} Crop both to the same region. If they do show the same region, "
            "save one of them without a position, e.g. as TIFF with ImageJ."
        )
    if starts_of(volume, reference, begin).agree:
        return turned
    silent = reference if states_position(volume) else volume
    return (
        f"{silent.title} does not state its position, so {volume.title} and "
        f"{reference.title} were compared voxel by voxel."
    )


def knowledge_of_size(volume: Volume) -> int:
    """Return 2 if the voxel size is known, 1 if only its unit is unknown, else 0."""
    if volume.has_physical_size:
        return 2
    return int(any(edge != 1 for edge in volume.voxel_size))


def check_known_sizes(volume: Volume, reference: Volume) -> None:
    """Raise `VolumeError` if voxel sizes without a common unit contradict each other.

    If only one has a unit, only the proportions of the edges are compared. Nothing is
    compared if one voxel size is unset, or both have a unit.
    """
    if min(knowledge_of_size(each) for each in (volume, reference)) != 1:
        return
    sizes = [volume.voxel_size, reference.voxel_size]
    if volume.unit != reference.unit:
        sizes = [tuple(edge / max(size) for edge in size) for size in sizes]
    if not same_sizes(*sizes):
        raise _other_size(volume, reference)


def _other_size(volume: Volume, reference: Volume) -> VolumeError:
    """Return the error for two volumes with different voxel sizes."""
    one, other = (
        f"{_lengths(each.voxel_size)} "
        f"{each.unit if each.has_physical_size else '(unknown unit)'}"
        for each in (volume, reference)
    )
    return VolumeError(
        f"{volume.title} has voxels of {one} and {reference.title} voxels of {other}, "
        "so they do not show the same region. Crop or resample one of them. If they do "
        "show the same region, give their voxel size (--voxel-size and --unit)."
    )


def check_directions(
    volume: Volume, reference: Volume, *, may_be_turned: bool = False
) -> str:
    """Raise `VolumeError` if axes with known directions differ; see `check_same_grid`.

    Return a note if `volume` is rotated; otherwise an empty string.
    """
    known = [orientation_of(each.metadata) for each in (volume, reference)]
    if not all(known):
        return ""
    rotations = [
        rotation_of(each.metadata) or _NO_ROTATION for each in (volume, reference)
    ]
    pairs = zip(*rotations, strict=True)
    if any(abs(a - b) > _SAME_ROTATION for a, b in pairs):
        raise VolumeError(
            f"The axes of {volume.title} and {reference.title} are rotated relative to "
            "each other, so they do not show the same region. Resample one of them. If "
            "they do show the same region, save one of them without a rotation, e.g. "
            "as TIFF with ImageJ."
        )
    if not is_half_turned(volume, reference):
        return ""
    stated = (
        f"{volume.title} has {_DIRECTIONS[known[0]]}, {reference.title} has "
        f"{_DIRECTIONS[known[1]]}"
    )
    if may_be_turned:
        return f"{stated}: {volume.title} was rotated by 180° about Z."
    raise VolumeError(
        f"{stated}. Save both with the same axis directions. If they do show the same "
        "region, save one of them without axis directions, e.g. as TIFF with ImageJ."
    )


def _turned_origin(volume: Volume) -> tuple[float, ...]:
    """Return the origin after half a turn of the axes about Z."""
    spatial = [
        (axis, n)
        for axis, n in zip(volume.axes, volume.shape, strict=True)
        if axis in "ZYX"
    ]
    return tuple(
        place if axis == "Z" else -(place + (n - 1) * edge)
        for (axis, n), place, edge in zip(
            spatial, volume.origin, volume.voxel_size, strict=True
        )
    )


def _lengths(values: tuple[float, ...] | list[float]) -> str:
    return " × ".join(f"{value:.6g}" for value in values)
