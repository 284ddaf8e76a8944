"""Plain arrays in place of volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.volume import ArrayLike, Volume

#: What a verb takes: a volume, or an array (numpy, dask, zarr, …) of real numbers.
VolumeLike: TypeAlias = Volume | ArrayLike


def as_volume(
    given: VolumeLike,
    axes: str | None = None,
    *,
    name: str = "array",
    like: Volume | None = None,
) -> Volume:
    """Return a volume as it is, and an array as one.

    Parameters
    ----------
    given : Volume or array
        An array has voxels of 1 pixel.
    axes : str, optional
        Of an array; see :meth:`Volume.from_array`.
    name : str
        What an array is called.
    like : Volume, optional
        An array of the same shape lies where this volume does.

    Raises
    ------
    VolumeError
        If the array cannot be an image or a volume.
    ConfigError
        If `axes` are given for a volume, which has its own.
    """
    if isinstance(given, Volume):
        if axes is not None:
            raise ConfigError(
                f"axes={axes!r} is for plain arrays; {given.title} is a volume with "
                f"axes {given.axes!r}. Leave it out."
            )
        return given
    if axes is None and like is not None and _shape(given) == like.shape:
        axes = like.axes
    volume = Volume.from_array(given, axes=axes, name=name)
    if like is None or (volume.axes, volume.shape) != (like.axes, like.shape):
        return volume
    return volume.replace(
        voxel_size=like.voxel_size, unit=like.unit, origin=like.origin
    )


def as_volumes(
    given: Sequence[VolumeLike], axes: str | None = None, *, name: str = "array"
) -> list[Volume]:
    """Return several volumes; arrays are called by `name` and a number."""
    return [
        as_volume(each, None if isinstance(each, Volume) else axes, name=f"{name} {i}")
        for i, each in enumerate(given, start=1)
    ]


def _shape(given: ArrayLike) -> tuple[int, ...] | None:
    return tuple(given.shape) if isinstance(given, ArrayLike) else None
