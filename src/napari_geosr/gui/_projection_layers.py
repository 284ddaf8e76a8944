"""Projections as layers: their views, and from a layer back to the scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.projections import Projections
from napari_geosr.core.volume import Volume
from napari_geosr.gui._layers import METADATA, geometry

if TYPE_CHECKING:
    from napari.layers import Layer

LayerData = tuple[Any, dict[str, Any], str]
PROJECTIONS, SINOGRAM = "projections", "sinogram"

#: Pixels of a projection that its contrast is taken from, at most, along an axis.
_LOOKED_AT = 256


@dataclass(frozen=True, eq=False)
class OpenedScan:
    """A scan, and how its file was read.

    Attributes
    ----------
    scan : Projections
    reading : mapping
        What a person said about the file: fields of `ProjectionsInput`.
    """

    scan: Projections
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path | None:
        """The file or folder, to be read again by another process."""
        return self.scan.source

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenedScan:
        # napari copies all that a layer has when it is duplicated; this never changes.
        return self


class Sinograms:
    """Projections (angle, row, column) seen as (row, angle, column), read when asked.

    Parameters
    ----------
    projections : array-like
        Numpy, or still in its file.
    """

    ndim = 3

    def __init__(self, projections: Any) -> None:
        self.projections = projections
        n_angles, n_rows, n_columns = (int(n) for n in projections.shape)
        self.shape = (n_rows, n_angles, n_columns)
        self.dtype: np.dtype[Any] = np.dtype(projections.dtype)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        parts = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (4 - len(parts))
        parts += [slice(None)] * (3 - len(parts))
        # Single rows and angles as slices, so that two axes remain to be swapped.
        row, angle, column = (
            part if isinstance(part, slice) else slice(int(part) % n, int(part) % n + 1)
            for part, n in zip(parts, self.shape, strict=True)
        )
        read = np.asarray(self.projections[angle, row, column]).swapaxes(0, 1)
        first = tuple(slice(None) if isinstance(p, slice) else 0 for p in parts)
        found: np.ndarray[Any, Any] = read[first]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self[:, :, :], dtype=dtype)

    def __deepcopy__(self, memo: dict[int, Any]) -> Sinograms:
        return self


def projection_layers(opened: OpenedScan) -> list[LayerData]:
    """Give the layers of a scan: its sinograms, hidden, under its projections.

    One projection, or row, is as thick as a row is high, so that a row of the sinogram
    lies where its slice will; angles have no length, but napari shows no units at all
    where one axis of one layer has none.
    """
    scan = opened.scan
    height, width = (edge / _magnification(scan) for edge in scan.pixel_size)
    limits = _contrast(scan)
    views = (
        (SINOGRAM, Sinograms(scan.data), (height, width, width), ("row", "angle")),
        (PROJECTIONS, _frames(scan.data), (height, height, width), ("angle", "row")),
    )
    layers = []
    for view, data, size, labels in views:
        place = geometry(Volume(data, "ZYX", size, scan.unit))
        record = {
            # Not for docks that want a volume.
            "helper": view,
            "scan": opened,
            "view": view,
            "provenance": list(scan.provenance),
            "source": scan.source,
        }
        attributes = {
            **place,
            "name": f"{scan.name} · {view}",
            "axis_labels": (*labels, "column"),
            "metadata": {METADATA: record},
            "contrast_limits": limits,
            "visible": view == PROJECTIONS,
        }
        layers.append((data, attributes, "image"))
    return layers


def _magnification(scan: Projections) -> float:
    if scan.geometry == "parallel":
        return 1.0
    from napari_geosr.operations.reconstruct_scan import magnification

    return magnification(scan)


def opened_scan(layer: Layer | None) -> OpenedScan | None:
    """The scan that a layer shows; None for any other layer."""
    record = {} if layer is None else layer.metadata.get(METADATA, {})
    found = record.get("scan")
    return found if isinstance(found, OpenedScan) else None


def view_of(layer: Layer) -> str:
    """``"projections"`` or ``"sinogram"``; empty for any other layer."""
    return str(layer.metadata.get(METADATA, {}).get("view", ""))


def shows_projections(layer: Layer) -> bool:
    """Whether a layer is the view of a scan that stands for it in lists."""
    return view_of(layer) == PROJECTIONS and opened_scan(layer) is not None


def _frames(data: Any) -> Any:
    """What napari slices best: numpy (also memory-mapped), dask, or as it is."""
    return data.to_dask() if hasattr(data, "to_dask") else data


def _contrast(scan: Projections) -> tuple[float, float]:
    """Of one projection in the middle: napari would read more to know."""
    middle = scan.n_angles // 2
    plane = np.asarray(scan.data[middle : middle + 1])[0]
    steps = (max(1, -(-n // _LOOKED_AT)) for n in plane.shape)
    some = plane[tuple(slice(None, None, step) for step in steps)]
    finite = some[np.isfinite(some)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)
