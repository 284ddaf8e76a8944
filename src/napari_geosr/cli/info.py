"""``napari-geosr info``."""

from __future__ import annotations

from typing import Annotated

from napari_geosr.cli.options import AS_FLAGS, InputPath, Json
from napari_geosr.core.config import format_bytes
from napari_geosr.core.volume import Volume
from napari_geosr.operations.inputs import InputConfig


def info(
    path: InputPath,
    /,
    *,
    reading: Annotated[InputConfig | None, AS_FLAGS] = None,
    json: Json = False,
) -> int:
    """Say what the reader understands of a file: shape, axes, voxel size, origin."""
    from napari_geosr import io
    from napari_geosr.cli.console import print_json

    reading = reading or InputConfig()
    volume = io.read(path, **reading.reading())
    if reading.channel is not None or reading.time is not None:
        volume = volume.select(time=reading.time, channel=reading.channel)
    if json:
        print_json(_describe(volume))
        return 0
    for label, value in _lines(volume):
        print(f"{label:<12} {value}")
    return 0


def _describe(volume: Volume) -> dict[str, object]:
    return {
        "name": volume.name,
        "path": None if volume.source is None else str(volume.source),
        "shape": list(volume.shape),
        "axes": volume.axes,
        "dtype": str(volume.dtype),
        "bytes": volume.nbytes,
        "lazy": volume.is_lazy,
        "voxel_size": [float(f"{v:.12g}") for v in volume.voxel_size],
        "unit": volume.unit,
        "origin": list(volume.origin),
        "provenance": [dict(entry) for entry in volume.provenance],
        "metadata": {key: _plain(value) for key, value in volume.metadata.items()},
    }


def _plain(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _lines(volume: Volume) -> list[tuple[str, str]]:
    size = " × ".join(f"{v:.6g}" for v in volume.voxel_size)
    axes = ", ".join(volume.spatial_axes)
    if volume.has_physical_size:
        voxel = f"{size} {volume.unit} ({axes})"
    else:
        voxel = f"unknown (numbers in the file: {size}); give --voxel-size and --unit"
    shape = " × ".join(map(str, volume.shape))
    rows = [
        ("shape", f"{shape} ({', '.join(volume.axes)})"),
        ("data type", f"{volume.dtype}, {format_bytes(volume.nbytes)}"),
        ("voxel size", voxel),
        ("origin", ", ".join(f"{v:.6g}" for v in volume.origin) + f" {volume.unit}"),
    ]
    for key, value in volume.metadata.items():
        several = value if isinstance(value, list | tuple) else [value]
        rows += [(str(key), str(one)) for one in several]
    for entry in volume.provenance:
        model = entry.get("model", {}).get("name", "")
        rows.append(
            ("made by", f"{entry.get('operation')} {model} {entry.get('time')}")
        )
    return rows
