"""Compare the positions of two volumes that are combined voxel by voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_geosr.core.file_warnings import ORIGIN_UNKNOWN
from napari_geosr.core.orientation import orientation_of
from napari_geosr.core.units import convert_length, same_position, same_sizes
from napari_geosr.core.volume import Volume


@dataclass(frozen=True)
class Starts:
    """Centres of the first voxels of two volumes, in the same unit.

    Attributes
    ----------
    first, second : tuple of float
        Centres along Z, Y, X.
    edges : tuple of float
        Edge lengths of a voxel of the second volume, in the same unit.
    unit : str
        ``"voxels"`` if the voxel size of at least one volume has no unit of length.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    edges: tuple[float, ...]
    unit: str

    @property
    def agree(self) -> bool:
        """Whether both are at the same position, apart from rounding."""
        return same_position(self.first, self.second, self.edges)


def states_position(volume: Volume) -> bool:
    """Whether the origin of a volume is a stated position and not only a default."""
    if volume.metadata.get(ORIGIN_UNKNOWN):
        return False
    is_stated = volume.has_physical_size or any(volume.origin)
    return is_stated or bool(orientation_of(volume.metadata))


def starts_of(
    volume: Volume, reference: Volume, begin: Sequence[float] | None = None
) -> Starts:
    """Return where two volumes begin, in the unit of `volume` or in voxels.

    Without a common unit, equal voxel sizes are taken to be in the same unit;
    otherwise, each position is divided by the volume's own voxel size.

    Parameters
    ----------
    volume, reference : Volume
        Volumes with the same spatial axes.
    begin : sequence of float, optional
        Position to use for `volume`; by default, its origin.

    Examples
    --------
    >>> import numpy as np
    >>> one = Volume(np.zeros((4, 4)), "YX", (0.5, 0.5), "mm", (5.0, 6.0))
    >>> other = Volume(np.zeros((4, 4)), "YX", (500.0, 500.0), origin=(5000.0, 7000.0))
    >>> starts_of(one, other)
    Starts(first=(10.0, 12.0), second=(10.0, 14.0), edges=(1.0, 1.0), unit='voxels')
    """
    first = tuple(volume.origin if begin is None else begin)
    if volume.has_physical_size and reference.has_physical_size:
        scale = convert_length(1.0, reference.unit, volume.unit)
        second, edges = (
            tuple(scale * length for length in lengths)
            for lengths in (reference.origin, reference.voxel_size)
        )
        return Starts(first, second, edges, volume.unit)
    sizes = volume.voxel_size, reference.voxel_size
    if same_sizes(*sizes):
        sizes = reference.voxel_size, reference.voxel_size
    first, second = (
        tuple(place / edge for place, edge in zip(places, size, strict=True))
        for places, size in zip((first, reference.origin), sizes, strict=True)
    )
    return Starts(first, second, (1.0,) * len(first), "voxels")


def other_position(
    volume: Volume, reference: Volume, begin: Sequence[float] | None = None
) -> str:
    """Return a sentence stating that two volumes begin at different positions.

    The text is empty if both begin at the same position, or if one of them states no
    position. The parameters are those of `starts_of`.
    """
    if not (states_position(volume) and states_position(reference)):
        return ""
    starts = starts_of(volume, reference, begin)
    if starts.agree:
        return ""
    one, other = (
        " × ".join(f"{value:.6g}" for value in places)
        for places in (starts.first, starts.second)
    )
    return (
        f"{volume.title} begins at {one} {starts.unit} and {reference.title} at "
        f"{other} {starts.unit}, so they do not show the same region."
    )
