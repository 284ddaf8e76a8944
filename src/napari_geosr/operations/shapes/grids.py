"""Checks that two volumes are on the same grid."""

from __future__ import annotations

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.file_warnings import ORIGIN_UNKNOWN
from napari_geosr.core.units import convert_length, same_position, same_sizes
from napari_geosr.core.volume import Volume

#: Advice for two shapes with different numbers of voxels.
_FOR_SHAPES = (
    "Refine the coarser shape (napari-geosr shapes refine), or resample or cut one of "
    "them."
)
#: Advice for a scan and its mask or labels.
FOR_MASKS = (
    "Make the mask or the labels from this scan, or resample them to the grid of the "
    "scan."
)


def check_same_grid(
    volume: Volume, reference: Volume, *, advice: str = _FOR_SHAPES
) -> str:
    """Raise `VolumeError` if two volumes do not show the same region.

    Parameters
    ----------
    volume, reference : Volume
    advice : str
        What to do if the numbers of voxels differ, for the message.

    Returns
    -------
    str
        A note that the position of one volume is unknown, so that only the sizes could
        be checked; empty if the positions agree or a volume has no voxel size.
    """
    if volume.shape != reference.shape:
        sizes = [" × ".join(map(str, v.shape)) for v in (volume, reference)]
        raise VolumeError(
            f"{volume.title} has {sizes[0]} voxels and {reference.title} {sizes[1]}. "
            f"They must be on the same grid. {advice}"
        )
    if not (volume.has_physical_size and reference.has_physical_size):
        return ""
    scale = convert_length(1.0, reference.unit, volume.unit)
    size, origin = (
        [scale * length for length in lengths]
        for lengths in (reference.voxel_size, reference.origin)
    )
    if not same_sizes(volume.voxel_size, size):
        raise VolumeError(
            f"{volume.title} has voxels of {_lengths(volume.voxel_size)} "
            f"{volume.unit} and {reference.title} voxels of {_lengths(size)} "
            f"{volume.unit}, so they do not show the same region. Cut or resample one "
            "of them. If they do show the same region, give their voxel size "
            "(--voxel-size and --unit)."
        )
    if same_position(volume.origin, origin, size):
        return ""
    for each in (volume, reference):
        if each.metadata.get(ORIGIN_UNKNOWN):
            return (
                f"{each.title} does not state its position, so {volume.title} and "
                f"{reference.title} were compared voxel by voxel."
            )
    raise VolumeError(
        f"{volume.title} begins at {_lengths(volume.origin)} {volume.unit} and "
        f"{reference.title} at {_lengths(origin)} {volume.unit}, so they do not show "
        "the same region. Cut both to the same region. If they do show the same "
        "region, save one of them without a position, such as a TIFF from ImageJ."
    )


def _lengths(values: tuple[float, ...] | list[float]) -> str:
    return " × ".join(f"{value:.6g}" for value in values)
