"""Save layers with voxel size, unit, origin and provenance."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.errors import FileError
from napari_geosr.core.units import MILLIMETRES, PIXEL, convert_length, parse_unit
from napari_geosr.core.volume import AXES, Volume
from napari_geosr.gui._layers import METADATA

_DEFAULT_AXES = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}


def write_image(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write an image layer; returns the path written.

    Parameters
    ----------
    path : str
        Ends in .tif, .tiff, .ome.tif, .ome.tiff, .zarr or .ome.zarr.
    data : array-like
        RGB samples, if any, become channels.
    attributes : mapping
        As in a layer data tuple.

    Raises
    ------
    FileError
        If the file cannot be written, or the layer lies rotated in space.
    """
    return _write(path, volume_from_data(data, attributes), kind="image")


def write_labels(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write a labels layer; 64-bit labels become 32-bit where none is larger."""
    volume = volume_from_data(data, attributes)
    if volume.dtype.kind in "iu" and volume.dtype.itemsize == 8:
        volume = _narrowed(volume)
    return _write(path, volume, kind="labels")


def _write(path: str, volume: Volume, kind: str) -> list[str]:
    from napari_geosr import io

    # napari has asked already whether a file may be replaced.
    return [str(io.write(volume, path, overwrite=True, kind=kind))]


def volume_from_data(data: Any, attributes: Mapping[str, Any]) -> Volume:
    """Give layer data and its attributes as a `Volume`, without copying voxels.

    Raises
    ------
    FileError
        If the layer is rotated or sheared: files keep a scale and an origin only.
    """
    name = str(attributes.get("name", "layer"))
    if attributes.get("multiscale", False):
        data = data[0]
    rgb = bool(attributes.get("rgb", False))
    n = data.ndim - 1 if rgb else data.ndim
    _refuse_rotation(attributes, n, name)
    axes = _axes(attributes, n, name)
    n_spatial = sum(a in "ZYX" for a in axes)
    size, origin, unit = _space(attributes, n, n_spatial)
    if rgb:
        data, axes = _samples_to_channels(data, axes)
    record = (attributes.get("metadata") or {}).get(METADATA, {})
    source = record.get("source") or record.get("file")
    return Volume(
        data=data,
        axes=axes,
        voxel_size=size,
        unit=unit,
        origin=origin,
        name=name,
        provenance=tuple(record.get("provenance", ())),
        source=None if source is None else Path(source),
    )


def _axes(attributes: Mapping[str, Any], ndim: int, name: str) -> str:
    labels = "".join(str(a).upper()[:1] for a in attributes.get("axis_labels") or ())
    ordered = "".join(a for a in AXES if a in labels)
    if labels == ordered and len(labels) == ndim and labels.endswith("YX"):
        return labels
    if ndim not in _DEFAULT_AXES:
        raise FileError(
            f"Layer {name!r} has {ndim} axes; only images and volumes of 2 to 5 axes "
            "can be written."
        )
    return _DEFAULT_AXES[ndim]


def _space(
    attributes: Mapping[str, Any], ndim: int, n_spatial: int
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Voxel size, origin and unit of the last `n_spatial` axes."""
    scale = _numbers(attributes.get("scale"), ndim, 1.0)[-n_spatial:]
    place = _numbers(attributes.get("translate"), ndim, 0.0)[-n_spatial:]
    given = attributes.get("units")
    if given is None or isinstance(given, str) or not hasattr(given, "__len__"):
        given = (given,) * ndim
    units = [_unit(u) for u in list(given)[-n_spatial:]]
    unit = units[-1]
    if all(u in MILLIMETRES for u in units):
        scale = [convert_length(v, u, unit) for v, u in zip(scale, units, strict=True)]
        place = [convert_length(v, u, unit) for v, u in zip(place, units, strict=True)]
    elif len(set(units)) > 1:
        unit = PIXEL
    return tuple(scale), tuple(place), unit


def _numbers(values: Any, ndim: int, default: float) -> list[float]:
    if values is None:
        return [default] * ndim
    numbers = [float(v) for v in np.ravel(values)]
    return [default] * (ndim - len(numbers)) + numbers[-ndim:]


def _unit(unit: Any) -> str:
    return parse_unit(str(getattr(unit, "units", unit))) or PIXEL


def _refuse_rotation(attributes: Mapping[str, Any], ndim: int, name: str) -> None:
    def differs(key: str, neutral: Any) -> bool:
        value = attributes.get(key)
        if value is None:
            return False
        matrix = np.asarray(getattr(value, "affine_matrix", value), dtype=float)
        return matrix.shape == neutral.shape and not np.allclose(matrix, neutral)

    shear = attributes.get("shear")
    sheared = shear is not None and np.ndim(shear) == 1 and np.any(np.asarray(shear))
    turned = differs("rotate", np.eye(ndim)) or differs("shear", np.eye(ndim))
    if turned or sheared or differs("affine", np.eye(ndim + 1)):
        raise FileError(
            f"Layer {name!r} is rotated, sheared or moved by an affine transformation, "
            "which these files cannot keep. Reset its transform before saving."
        )


def _samples_to_channels(data: Any, axes: str) -> tuple[Any, str]:
    """Move the samples of an RGB layer to axis C."""
    wanted = "".join(a for a in AXES if a in f"{axes}C")
    stored = f"{axes}C"
    if "C" in axes:
        raise FileError("An RGB layer with channels of its own cannot be written.")
    return data.transpose([stored.index(a) for a in wanted]), wanted


def _narrowed(volume: Volume) -> Volume:
    """The labels as 32-bit integers, lazily; unchanged if one would not fit."""
    from napari_geosr.io.lazy import LazyArray, Mapped

    low = high = 0
    for i in range(volume.shape[0]):
        part = np.asarray(volume.data[i])
        low, high = min(low, int(part.min())), max(high, int(part.max()))
    bounds = np.iinfo(np.int32)
    if low < bounds.min or high > bounds.max:
        return volume
    source = Mapped(volume.data, lambda labels: labels.astype(np.int32), np.int32)
    chunks = (1,) * (len(volume.shape) - 2) + volume.shape[-2:]
    return volume.replace(data=LazyArray(source, Path(volume.name), chunks))
