"""Arrays of any library, as used in volumes and projections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import GeoSRError, VolumeError
from napari_geosr.core.types import AnyArray

#: NumPy kinds of real numbers: booleans, integers, floating point.
_REAL_KINDS = "biuf"
#: Default axes of a plain array, by number of axes; readers use the same defaults.
USUAL_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}
#: Possible lengths of a colour axis.
_COLOURS = (3, 4)


@runtime_checkable
class ArrayLike(Protocol):
    """Common interface of numpy, dask and zarr arrays, sufficient for all engines."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    @property
    def ndim(self) -> int: ...

    def __getitem__(self, key: Any, /) -> AnyArray: ...


def as_array_like(
    given: Any, title: str, error_class: type[GeoSRError] = VolumeError
) -> Any:
    """Return arrays unchanged and nested lists as numpy arrays; nothing is read.

    Parameters
    ----------
    title : str
        Name of the array in messages.
    error_class : type
        Type of the error that is raised.

    Raises
    ------
    GeoSRError
        If `given` is not an array of known shape, or has masked voxels.
    """
    if given is None:
        raise error_class(f"{title} is None. Give an array, or a volume from read().")
    if isinstance(given, bytes | bytearray):
        raise error_class(f"{title} is bytes, not an array: use numpy.frombuffer().")
    if isinstance(given, str | Path):
        raise error_class(
            f"{str(given)!r} is a path, not an array: open it first, with read()."
        )
    is_dask = type(given).__module__.startswith("dask.")
    if is_dask and isinstance(getattr(given, "_meta", None), np.ma.MaskedArray):
        raise error_class(
            f"{title} may have masked voxels. Fill them first: dask.array.ma.filled(…)."
        )
    if isinstance(given, np.ma.MaskedArray):
        if np.ma.is_masked(given):
            raise error_class(
                f"{title} has masked voxels. Fill them first: array.filled(…)."
            )
        return given.data
    data = given
    try:
        if not isinstance(given, ArrayLike):
            data = np.asarray(given)
        np.dtype(data.dtype)
    except (TypeError, ValueError, RuntimeError):
        try:  # NumPy may convert a tensor even if it does not know its dtype
            data = np.asarray(given)
        except (TypeError, ValueError, RuntimeError) as error:
            raise error_class(
                f"{title} is not an array of numbers, but a {type(given).__name__}."
                f"{_conversion(given)}"
            ) from error
    if any(isinstance(n, float) and math.isnan(n) for n in data.shape):
        raise error_class(
            f"The shape of {title} is unknown: {data.shape}. Call "
            "compute_chunk_sizes() of the Dask array first."
        )
    return data


def _conversion(given: object) -> str:
    """Return advice on converting a torch tensor; empty for other objects."""
    if not type(given).__module__.startswith("torch"):
        return ""
    return " Convert it first: tensor.detach().float().cpu().numpy()."


def has_real_numbers(data: ArrayLike) -> bool:
    """Whether the values are booleans, integers or floating-point numbers."""
    return np.dtype(data.dtype).kind in _REAL_KINDS


def image_array(array: object, name: str) -> Any:
    """Return an array in a form that a volume can hold.

    Raises
    ------
    VolumeError
        If the array does not have two to five axes of real numbers, or is empty.
    """
    data = as_array_like(array, repr(name))
    if not has_real_numbers(data):
        raise VolumeError(
            f"{name!r} contains values of type {np.dtype(data.dtype)}; images and "
            "volumes must be real-valued."
        )
    if len(data.shape) not in USUAL_AXES or 0 in data.shape:
        raise VolumeError(
            f"{name!r} has shape {tuple(data.shape)}; an image has two axes and a "
            "volume three to five, none of them empty."
        )
    if isinstance(data, np.ndarray) and not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("="))  # required by torch
    return data


def letters_of(axes: str | Sequence[str]) -> str:
    """Return the letters of axes given as a string or as a sequence, in upper case."""
    parts = axes if isinstance(axes, list | tuple) else [axes]
    return "".join(map(str, parts)).upper()


def usual_axes(data: Any, name: str, given: object = None) -> str:
    """Return the default axes for the number of axes of an array.

    Parameters
    ----------
    data : array-like
    name : str
        Name of the array in messages.
    given : object
        Object from which the array was made. If it is an xarray object, the names of
        its dimensions are used, provided that they are letters of axes.

    Raises
    ------
    VolumeError
        If the last axis may be a colour axis.
    """
    named = getattr(given, "dims", None)
    if isinstance(named, tuple) and len(named) == len(data.shape):
        letters = letters_of(named)
        if len(letters) == len(named) and set(letters) <= {*"TCZYX"}:
            return letters
    shape = tuple(data.shape)
    last = len(shape) > 2 and shape[-1] in _COLOURS and min(shape[-3:-1]) > _COLOURS[-1]
    if last and np.dtype(data.dtype).kind == "u":
        colours = "TZYX"[-len(shape) + 1 :] + "C"
        raise VolumeError(
            f"{name!r} has shape {shape} and may be a colour image. Give its axes: "
            f"axes={colours!r} for colours, or "
            f"axes={USUAL_AXES[len(shape)]!r}."
        )
    return USUAL_AXES[len(shape)]


def to_numpy(
    data: ArrayLike, title: str, dtype: npt.DTypeLike | None, copy: bool | None
) -> AnyArray:
    """Return `data` as a numpy array, for ``__array__`` of its owner; reads lazy data.

    Parameters
    ----------
    data : ArrayLike
    title : str
        Name of the owner in messages.
    dtype : dtype or None
        Data type of the result; None keeps that of `data`.
    copy : bool or None
        As in numpy: False never copies, None copies only if necessary.

    Raises
    ------
    ValueError
        If `copy` is False and the voxels are not in memory.
    """
    if isinstance(data, np.ndarray):
        return np.array(data, dtype, copy=copy, subok=False)
    if copy is False:
        raise ValueError(
            f"The voxels of {title} are not in memory, so they cannot be converted to "
            "an array without a copy."
        )
    return np.array(
        np.asarray(data[(slice(None),) * len(data.shape)]), dtype, copy=None
    )


def sliceable(data: Any) -> Any:
    """Return the array in a form that can be indexed without reading or copying."""
    if isinstance(data, np.ndarray) or type(data).__module__.startswith("dask."):
        return data
    if hasattr(data, "to_dask"):
        return data.to_dask()
    import dask.array as da

    meta = np.empty((0,) * len(data.shape), data.dtype)
    return da.from_array(data, name=False, meta=meta, inline_array=True)


def at_indices(data: Any, indices: Mapping[int, int]) -> Any:
    """Take one index along some axes and drop these axes; nothing is read.

    Parameters
    ----------
    indices : mapping of int to int
        Index along each dropped axis.
    """
    if hasattr(data, "at_indices"):
        return data.at_indices(indices)
    data = sliceable(data)
    return data[tuple(indices.get(i, slice(None)) for i in range(data.ndim))]


def per_axis(
    value: float | Sequence[float], axes: str, title: str, *, name: str = "voxel_size"
) -> tuple[float, ...]:
    """Return one finite number for each axis; a single number applies to all axes.

    Parameters
    ----------
    axes : str
        Letters of the axes to which the numbers belong.
    title : str
        Name of the volume in messages.
    name : str
        Name of the numbers in messages.

    Raises
    ------
    VolumeError
        If there are too many or too few numbers, or some are not finite.
    """
    n = len(axes)
    try:
        numbers = tuple(float(each) for each in np.atleast_1d(value).tolist())
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) == 1:
        numbers *= n
    if len(numbers) != n or not all(map(math.isfinite, numbers)):
        raise VolumeError(
            f"{title} needs {n} finite numbers for the {name.replace('_', ' ')} "
            f"({', '.join(axes)}), or one for all axes, not {value!r}."
        )
    return numbers
