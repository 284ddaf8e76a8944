"""Convert plain arrays to volumes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.questions import UNNAMED_AXIS, UnnamedAxis
from napari_geosr.core.volume import ArrayLike, Volume

#: Input of the public functions: a volume or an array (numpy, dask, zarr, …).
VolumeLike: TypeAlias = Volume | ArrayLike


def as_volume(
    data: VolumeLike,
    axes: str | None = None,
    *,
    name: str = "array",
    like: Volume | None = None,
) -> Volume:
    """Return a volume unchanged, or convert an array.

    Parameters
    ----------
    data : Volume or array
        The voxel size of an array is set to 1 pixel, unless `like` applies.
    axes : str, optional
        Axes of an array; see `Volume.from_array`.
    name : str
        Name given to an array.
    like : Volume, optional
        An array of the same shape gets the voxel size and position of this volume.

    Raises
    ------
    VolumeError
        If the array cannot be interpreted as an image or a volume, or does not match
        `axes`.
    ConfigError
        If `axes` is given for a volume.
    """
    if isinstance(data, Volume):
        if axes is not None:
            raise ConfigError(
                f"axes={axes!r} applies only to plain arrays, but {data.title} is a "
                f"volume with axes {data.axes!r}. Omit axes."
            )
        return data
    if axes is None and like is not None and _shape(data) == like.shape:
        axes = like.axes
    volume = Volume.from_array(data, axes=axes, name=name)
    if like is None or (volume.axes, volume.shape) != (like.axes, like.shape):
        return volume
    return volume.replace(
        voxel_size=like.voxel_size, unit=like.unit, origin=like.origin
    )


def as_scan(
    data: VolumeLike, axes: str | None = None, *, name: str = "array"
) -> Volume:
    """Convert an array as `as_volume` does; note if its slices may be time points.

    Models combine neighbouring slices, which would mix the time points of a series.
    Unless the axes are named, the slices of an array with three axes are therefore
    compared when it is restored, as for a file that does not name its axes.

    Raises
    ------
    VolumeError, ConfigError
        As for `as_volume`.

    Examples
    --------
    >>> import numpy as np
    >>> as_scan(np.zeros((4, 8, 8))).metadata
    {'unnamed_axis': UnnamedAxis(stored='ZYX', interval=None, in_file=False)}
    >>> as_scan(np.zeros((4, 8, 8)), "ZYX").metadata
    {}
    """
    volume = as_volume(data, axes, name=name)
    named = axes is not None or hasattr(data, "dims")  # xarray names its axes
    if isinstance(data, Volume) or named or volume.axes != "ZYX":
        return volume
    unnamed = UnnamedAxis(volume.axes, in_file=False)
    return volume.replace(metadata={**volume.metadata, UNNAMED_AXIS: unnamed})


def as_volumes(
    data: Sequence[VolumeLike], axes: str | None = None, *, name: str = "array"
) -> list[Volume]:
    """Convert several scans as `as_scan` does; number the names of arrays.

    Parameters
    ----------
    data : sequence of Volume or array
        Volumes are returned unchanged.
    axes : str or None
        Letters of the arrays' axes, as in `as_volume`.
    name : str
        Arrays are called ``NAME 1``, ``NAME 2``, …
    """
    return [
        as_scan(each, None if isinstance(each, Volume) else axes, name=f"{name} {i}")
        for i, each in enumerate(data, start=1)
    ]


def as_companion(
    data: VolumeLike, axes: str | None, *, name: str, like: Volume
) -> Volume:
    """Convert an array that belongs to a volume, such as its mask.

    Parameters
    ----------
    axes : str, optional
        Axes of the array from which `like` was made; also used for `data` if it has the
        same number of axes.
    """
    if isinstance(data, Volume):
        return data
    shape = _shape(data)
    same = axes is not None and (shape is None or len(shape) == len(axes))
    return as_volume(data, axes if same else None, name=name, like=like)


def as_pair(
    first: VolumeLike,
    second: VolumeLike,
    axes: str | None,
    names: tuple[str, str],
) -> tuple[Volume, Volume]:
    """Convert two inputs that show one object; an array gets the other's position.

    Parameters
    ----------
    first, second : Volume or array
    axes : str or None
        Letters of an array's axes, as in `as_volume`.
    names : (str, str)
        Names given to arrays.

    Raises
    ------
    ConfigError
        If `axes` is given but neither input is an array.
    """
    if isinstance(first, Volume):
        if isinstance(second, Volume):
            return as_volume(first, axes), second
        return first, as_volume(second, axes, name=names[1], like=first)
    if isinstance(second, Volume):
        return as_volume(first, axes, name=names[0], like=second), second
    volume = as_volume(first, axes, name=names[0])
    return volume, as_companion(second, axes, name=names[1], like=volume)


def _shape(data: ArrayLike) -> tuple[int, ...] | None:
    return tuple(data.shape) if isinstance(data, ArrayLike) else None
