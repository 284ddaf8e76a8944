"""Save layers with voxel size, unit, origin and provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import FileError, VolumeError
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import AXES, Volume
from napari_geosr.gui.layers import METADATA
from napari_geosr.gui.layers.geometry import place_of
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.voxel_sources import MappedSource


def write_image(path: str, data: object, attributes: AnyMapping) -> list[str]:
    """Write an image layer, and return the path written.

    Parameters
    ----------
    path : str
        Ends in .tif, .tiff, .ome.tif, .ome.tiff, .zarr, .ome.zarr, .nii or .nii.gz.
    data : array-like
        Voxels of the layer; RGB samples become channels.
    attributes : mapping
        Attributes of the layer, as in a layer data tuple.

    Raises
    ------
    FileError
        If the file cannot be written, or the layer is rotated, sheared or mirrored.
    """
    return _write(path, volume_from_data(data, attributes), kind="image")


def write_labels(path: str, data: object, attributes: AnyMapping) -> list[str]:
    """Write a labels layer; 64-bit labels become 32-bit if all values fit."""
    volume = volume_from_data(data, attributes)
    if volume.dtype.kind in "iu" and volume.dtype.itemsize == 8:
        volume = _as_int32(volume)
    return _write(path, volume, kind="labels")


def _write(path: str, volume: Volume, kind: str) -> list[str]:
    # napari has already asked whether to overwrite the file.
    return [str(io.write(volume, path, overwrite=True, kind=kind))]


def volume_from_data(data: Any, attributes: AnyMapping) -> Volume:
    """Convert layer data and attributes to a `Volume` without copying voxels.

    Raises
    ------
    FileError
        If the layer is rotated, sheared or mirrored, because files store only a voxel
        size and an origin.
    """
    name = str(attributes.get("name", "layer"))
    if attributes.get("multiscale", False):
        data = data[0]
    rgb = bool(attributes.get("rgb", False))
    n = data.ndim - 1 if rgb else data.ndim
    try:
        place = place_of(attributes, n)
    except VolumeError as error:
        raise FileError(str(error)) from error
    if not place.is_upright:
        raise FileError(
            f"Layer {name!r} is rotated, sheared or mirrored, which this file format "
            "cannot store. Reset its transform before saving."
        )
    axes = place.axes
    if rgb:
        data, axes = _samples_to_channels(data, axes)
    record = (attributes.get("metadata") or {}).get(METADATA, {})
    source = record.get("source") or record.get("file")
    return Volume(
        data=data,
        axes=axes,
        voxel_size=place.voxel_size,
        unit=place.unit,
        origin=place.origin,
        name=name,
        provenance=tuple(record.get("provenance", ())),
        source=None if source is None else Path(source),
    )


def _samples_to_channels(data: Any, axes: str) -> tuple[Any, str]:
    """Move the samples of an RGB layer to axis C."""
    ordered = "".join(a for a in AXES if a in f"{axes}C")
    stored = f"{axes}C"
    if "C" in axes:
        raise FileError("An RGB layer with a channel axis cannot be written.")
    return data.transpose([stored.index(a) for a in ordered]), ordered


def _as_int32(volume: Volume) -> Volume:
    """Convert labels lazily to 32-bit integers, unless some values do not fit."""
    low = high = 0
    for i in range(volume.shape[0]):
        part = np.asarray(volume.data[i])
        low, high = min(low, int(part.min())), max(high, int(part.max()))
    bounds = np.iinfo(np.int32)
    if low < bounds.min or high > bounds.max:
        return volume
    source = MappedSource(volume.data, lambda labels: labels.astype(np.int32), np.int32)
    chunks = (1,) * (len(volume.shape) - 2) + volume.shape[-2:]
    return volume.replace(data=LazyArray(source, Path(volume.name), chunks))
