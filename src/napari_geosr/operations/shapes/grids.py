"""Whether two volumes are on the same grid."""

from __future__ import annotations

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.units import same_position, same_sizes
from napari_geosr.core.volume import Volume


def check_same_grid(volume: Volume, reference: Volume) -> None:
    """Raise `VolumeError` if two volumes do not show the same region."""
    if volume.shape != reference.shape:
        sizes = [" × ".join(map(str, v.shape)) for v in (volume, reference)]
        raise VolumeError(
            f"{volume.title} has {sizes[0]} voxels and {reference.title} {sizes[1]}. "
            "They must be on the same grid. Refine the coarser shape (napari-geosr "
            "shapes refine), or resample or cut one of them."
        )
    known = volume.has_physical_size and reference.has_physical_size
    if volume.unit != reference.unit and known:
        raise VolumeError(
            f"{volume.title} is in {volume.unit} and {reference.title} in "
            f"{reference.unit}. Give both the same unit (--unit)."
        )
    if not known:
        return
    same = same_sizes(volume.voxel_size, reference.voxel_size)
    if not same or not same_position(
        volume.origin, reference.origin, reference.voxel_size
    ):
        raise VolumeError(
            f"{volume.title} and {reference.title} have different voxel sizes or "
            "origins, so they do not show the same region. Cut both to the same "
            "region, or correct the voxel size (--voxel-size)."
        )
