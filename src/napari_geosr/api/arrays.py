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
        Of an array; see `Volume.from_array`.
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
    """Return several volumes; arrays are called by `name` and a number.

    Parameters
    ----------
    given : sequence of Volume or array
        Volumes stay as they are.
    axes : str or None
        Letters of the arrays' axes, as in `as_volume`.
    name : str
        Arrays are called ``NAME 1``, ``NAME 2``, …
    """
    return [
        as_volume(each, None if isinstance(each, Volume) else axes, name=f"{name} {i}")
        for i, each in enumerate(given, start=1)
    ]


def as_companion(
    given: VolumeLike, axes: str | None, *, name: str, like: Volume
) -> Volume:
    """Return what belongs to a volume, such as its mask, as a volume.

    Parameters
    ----------
    axes : str, optional
        Those of the array that `like` was made of; an array of as many axes has the
        same.
    """
    if isinstance(given, Volume):
        return given
    shape = _shape(given)
    same = axes is not None and (shape is None or len(shape) == len(axes))
    return as_volume(given, axes if same else None, name=name, like=like)


def as_pair(
    first: VolumeLike,
    second: VolumeLike,
    axes: str | None,
    names: tuple[str, str],
) -> tuple[Volume, Volume]:
    """Return two volumes of one object; an array lies where the other one does.

    Parameters
    ----------
    first, second : Volume or array
    axes : str or None
        Letters of an array's axes, as in `as_volume`.
    names : (str, str)
        What arrays are called.

    Raises
    ------
    ConfigError
        If `axes` are given and neither is an array.
    """
    if isinstance(first, Volume):
        if isinstance(second, Volume):
            return as_volume(first, axes), second
        return first, as_volume(second, axes, name=names[1], like=first)
    if isinstance(second, Volume):
        return as_volume(first, axes, name=names[0], like=second), second
    made = as_volume(first, axes, name=names[0])
    return made, as_companion(second, axes, name=names[1], like=made)


def _shape(given: ArrayLike) -> tuple[int, ...] | None:
    return tuple(given.shape) if isinstance(given, ArrayLike) else None
