"""Projections as layers: create their views and find a layer's scan."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL
from napari_geosr.core.volume import Volume
from napari_geosr.gui.layers import METADATA, geometry
from napari_geosr.gui.layers.planes import Frames, Sinograms
from napari_geosr.gui.layers.position import index_on_screen, position_of
from napari_geosr.gui.layers.scan_views import ScanView
from napari_geosr.operations.reconstruct.scan import magnification

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

LayerData = tuple[Any, AnyDict, str]
PROJECTIONS, SINOGRAM = "projections", "sinogram"

#: With fewer detector rows than this, the sinograms are visible and the projections are
#: hidden, because projections this thin would show nothing recognisable.
_FEW_ROWS = 16
#: Maximum number of pixels per axis used for the contrast of a projection.
_MAX_SAMPLES = 256


@dataclass(frozen=True, eq=False)
class OpenedScan:
    """A scan and the settings with which its file was read.

    Attributes
    ----------
    scan : Projections
    reading : mapping
        The user's settings for the file: fields of `ProjectionsInput`.
    """

    scan: Projections
    reading: AnyMapping = field(default_factory=dict)

    @property
    def path(self) -> Path | None:
        """File or folder of the scan, from which another process can read it."""
        return self.scan.source

    def path_for_job(self) -> Path:
        """Return the file or folder that a job in another process reads.

        Raises
        ------
        ConfigError
            If the scan has no file.
        """
        if self.path is None:
            raise ConfigError(
                f"{self.scan.title} is not stored in a file, so another process cannot "
                "read it. Save the projections first."
            )
        return self.path

    def __deepcopy__(self, memo: dict[int, Any]) -> OpenedScan:
        # napari deep-copies a duplicated layer's metadata; this object is immutable.
        return self


def projection_layers(opened: OpenedScan) -> list[LayerData]:
    """Return the layers of a scan: its projections and its sinograms.

    Both layers have four axes: angle, z, height and width; see
    `napari_geosr.gui.layers.scan_views`. The first layer is visible, and napari fits
    the view to it: the sinograms if there are few rows, otherwise the projections.
    Lengths are those in the sample, not on the detector, so that z is the same as in
    the reconstruction. Angles have no length, so positions along their axis are
    indices. A sinogram is as high as a slice.
    """
    scan = opened.scan
    height, width = (edge / _magnification(scan) for edge in scan.pixel_size)
    frames, sinograms = ScanView(Frames(scan.data)), ScanView(Sinograms(scan.data))
    limits = _contrast(frames[scan.n_angles // 2, 0])
    n_angles, n_rows = scan.n_angles, scan.n_rows
    middle_angle, middle_row = (n_angles - 1) / 2, (n_rows - 1) / 2 * height
    unit = geometry(Volume(scan.data, "ZYX", unit=scan.unit))["units"]
    shown = SINOGRAM if n_rows < _FEW_ROWS else PROJECTIONS
    layers: list[LayerData] = []
    for view, data, scale, translate, labels in (
        (
            SINOGRAM,
            sinograms,
            (n_angles, height, width * scan.n_columns / n_angles, width),
            (middle_angle, 0, 0, 0),
            ("angle", "z", "view", "column"),
        ),
        (
            PROJECTIONS,
            frames,
            (1, n_rows * height, height, width),
            (0, middle_row, 0, 0),
            ("angle", "z", "row", "column"),
        ),
    ):
        record = {
            # Hide the layer from docks that expect a volume.
            "helper": view,
            "scan": opened,
            "view": view,
            "provenance": list(scan.provenance),
            "source": scan.source,
        }
        attributes = {
            "name": f"{scan.name} · {view}",
            "scale": scale,
            "translate": translate,
            "units": (PIXEL, *unit),
            "axis_labels": labels,
            "metadata": {METADATA: record},
            "contrast_limits": limits,
            "visible": view == shown,
        }
        layers.append((data, attributes, "image"))
    return sorted(layers, key=lambda layer: not layer[1]["visible"])


def row_on_screen(viewer: ViewerModel, layer: Layer) -> int:
    """Return the detector row at the viewer's position in the projections `layer`."""
    n_rows = int(layer.data.shape[2])
    # Along Z, the layer has a single voxel, as thick as all rows together.
    along = index_on_screen(viewer, layer, 1)
    row = round(along * n_rows + (n_rows - 1) / 2)
    return min(max(row, 0), n_rows - 1)


def show_row(viewer: ViewerModel, layer: Layer, row: int) -> None:
    """Move the viewer to a detector row of the projections `layer`."""
    n_rows = int(layer.data.shape[2])
    along = (row - (n_rows - 1) / 2) / n_rows
    place = position_of(viewer, layer, (0, along, 0, 0))[1]
    viewer.dims.set_point(viewer.dims.ndim - 3, place)


def _magnification(scan: Projections) -> float:
    if scan.geometry == "parallel":
        return 1.0
    return magnification(scan)


def opened_scan(layer: Layer | None) -> OpenedScan | None:
    """Return the scan that a layer shows; None for any other layer."""
    record = {} if layer is None else layer.metadata.get(METADATA, {})
    scan = record.get("scan")
    return scan if isinstance(scan, OpenedScan) else None


def view_of(layer: Layer) -> str:
    """Return ``"projections"`` or ``"sinogram"``; empty for any other layer."""
    return str(layer.metadata.get(METADATA, {}).get("view", ""))


def shows_projections(layer: Layer) -> bool:
    """Whether a layer is the view that represents a scan in lists."""
    return view_of(layer) == PROJECTIONS and opened_scan(layer) is not None


def _contrast(plane: Any) -> tuple[float, float]:
    """Return contrast limits from a sample of the pixels of one projection."""
    steps = (max(1, -(-n // _MAX_SAMPLES)) for n in plane.shape)
    some = plane[tuple(slice(None, None, step) for step in steps)]
    finite = some[np.isfinite(some)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(finite, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)
