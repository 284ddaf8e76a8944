"""Several slices of each compared image next to each other, in temporary layers."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core import layer_data
from napari_geosr.core.arrays import sliceable
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import BlockDone, ShouldStop, StageStarted, Step
from napari_geosr.core.units import convert_length
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.layers import helper_metadata
from napari_geosr.gui.layers.camera import fit_camera, preserve_point
from napari_geosr.gui.layers.linked_contrast import link_contrast

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

    from napari_geosr.core.types import AnyArray, AnyDict
    from napari_geosr.core.volume import Volume

#: Gap between two slices, as a fraction of their width.
_GAP = 0.04


@dataclass(frozen=True, eq=False)
class SliceRow:
    """Slices of a volume, from left to right in one image.

    Attributes
    ----------
    key : str
        Key of the volume in the report.
    image : ndarray of float32
        The slices side by side, with NaN between them.
    geometry : dict
        Position of the image, as attributes of a layer.
    """

    key: str
    image: AnyArray
    geometry: AnyDict


def slice_positions(volume: Volume, n: int) -> tuple[float, ...]:
    """Return the positions along Z of `n` slices, evenly spaced in a volume."""
    size, length = volume.voxel_size[0], volume.shape[0]
    start = volume.origin[0] - size / 2
    return tuple(start + (i + 0.5) / n * length * size for i in range(n))


def slice_rows_steps(
    volumes: Mapping[str, Volume], base: str, n: int, should_stop: ShouldStop
) -> Generator[Step, None, list[SliceRow]]:
    """Read the slices of each volume that are nearest to `n` positions in the base.

    Parameters
    ----------
    volumes : mapping of str to Volume
        The compared regions; axes (Z, Y, X).
    """
    yield StageStarted(message="Reading the slices")
    positions, unit = slice_positions(volumes[base], n), volumes[base].unit
    pitch = _pitch(volumes.values(), unit)
    rows = []
    for i, (key, volume) in enumerate(volumes.items()):
        if should_stop():
            raise Cancelled("Cancelled.")
        factor = convert_length(1.0, unit, volume.unit)
        places = [factor * position for position in positions]
        rows.append(_row(key, volume, places, factor * pitch))
        yield BlockDone(i + 1, len(volumes))
    return rows


def _pitch(volumes: Iterable[Volume], unit: str) -> float:
    """Return the distance in `unit` between the left edges of neighbouring slices."""
    sizes = [
        (v.shape[2], convert_length(v.voxel_size[2], v.unit, unit)) for v in volumes
    ]
    width = max(n * size for n, size in sizes)
    return width + max(_GAP * width, *(size for _, size in sizes))


def _row(
    key: str, volume: Volume, positions: Sequence[float], pitch: float
) -> SliceRow:
    (first, y, x), (dz, dy, dx) = volume.origin, volume.voxel_size
    n_z, n_y, n_x = volume.shape
    starts = [round(k * pitch / dx) for k in range(len(positions))]
    data = sliceable(volume.data)
    image = np.full((n_y, starts[-1] + n_x), np.nan, np.float32)
    for start, position in zip(starts, positions, strict=True):
        z = min(max(round((position - first) / dz), 0), n_z - 1)
        image[:, start : start + n_x] = np.asarray(data[z : z + 1])[0]
    place = layer_data.geometry("YX", (dy, dx), volume.unit, (y, x))
    return SliceRow(key, image, place)


@dataclass(frozen=True, eq=False)
class _Request:
    volumes: Mapping[str, Volume]
    sources: Mapping[str, weakref.ref[Image]]
    base: str
    n: int
    number: int


class SliceMontage(QObject):
    """Adds temporary layers with several slices of each compared image.

    The contrast limits, gamma and colormap are linked to those of the source layers.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    parent : QObject

    Signals
    -------
    ready
        All layers were added.
    failed : object
        The error that prevented adding them.
    """

    ready = Signal()
    failed = Signal(object)

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layers: list[weakref.ref[Layer]] = []
        self._waiting: list[tuple[SliceRow, weakref.ref[Image]]] = []
        self._request: _Request | None = None
        #: Number of the latest request; results of earlier requests are discarded.
        self._number = 0
        #: Earlier view: number of displayed axes, their order, camera centre, zoom.
        self._view_before: (
            tuple[int, tuple[int, ...], tuple[float, ...], float] | None
        ) = None
        self.activity = Activity(self)
        self.activity.failed.connect(self.failed)
        self.activity.idle.connect(self._start)
        self._adding = QTimer(self)
        self._adding.setSingleShot(True)
        self._adding.timeout.connect(self._add_next)

    def layers(self) -> list[Layer]:
        """Return the added layers that are still in the viewer, topmost first."""
        found = [layer for each in self._layers if (layer := each()) is not None]
        return [layer for layer in reversed(found) if layer in self._viewer.layers]

    def has(self, layer: object) -> bool:
        """Whether `layer` was added by this object."""
        return any(each() is layer for each in self._layers)

    def show(
        self,
        volumes: Mapping[str, Volume],
        layers: Mapping[str, Image],
        base: str,
        n: int,
    ) -> None:
        """Read `n` slices of each volume in a worker, then add one layer for each.

        Parameters
        ----------
        volumes : mapping of str to Volume
            The compared regions.
        layers : mapping of str to Image
            Layers of the volumes; volumes without a layer are left out.
        base : str
            Key of the volume that determines the positions.
        """
        self.end()
        sources = {key: weakref.ref(layer) for key, layer in layers.items()}
        self._request = _Request(dict(volumes), sources, base, n, self._number)
        self._start()

    def _start(self) -> None:
        """Process the latest request once an earlier run has stopped."""
        request = self._request
        if request is None or self.activity.busy:
            return
        self._request = None
        self.activity.start(
            "slices",
            partial(slice_rows_steps, request.volumes, request.base, request.n),
            partial(self._on_read, request),
            description="Reading slices",
        )

    def end(self) -> None:
        """Remove the layers and return to the previous view."""
        self._number += 1
        self._request = None
        self._adding.stop()
        self._waiting.clear()
        self.activity.cancel()
        added, self._layers = self.layers(), []
        with preserve_point(self._viewer):
            for layer in added:
                self._viewer.layers.remove(layer)
        self._reset_view()

    def _on_read(self, request: _Request, rows: Sequence[SliceRow]) -> None:
        if request.number != self._number:
            return
        sources = request.sources
        # The layer added last comes first in the grid and must be the base.
        self._waiting = [
            (row, sources[row.key]) for row in reversed(rows) if row.key in sources
        ]
        self._prepare_view()
        self._adding.start(0)

    def _add_next(self) -> None:
        """Add one layer per event-loop cycle, because adding a layer takes a while."""
        if self._waiting:
            self._add(*self._waiting.pop(0))
            self._adding.start(0)
            return
        self.ready.emit()

    def fit(self) -> None:
        """Show all slices in each grid cell."""
        for layer in self.layers()[:1]:
            fit_camera(self._viewer, layer)

    def _add(self, row: SliceRow, reference: weakref.ref[Image]) -> None:
        source = reference()
        if source is None or source not in self._viewer.layers:
            return
        active = self._viewer.layers.selection.active
        layer = self._viewer.add_image(
            row.image,
            name=f"{source.name} · slices",
            contrast_limits=tuple(source.contrast_limits),
            metadata=helper_metadata("slices"),
            **row.geometry,
        )
        link_contrast(source, layer)
        self._layers.append(weakref.ref(layer))
        self._viewer.layers.selection.active = active

    # Slices along Z are drawn in 2D, in the order of the axes.

    def _prepare_view(self) -> None:
        dims, camera = self._viewer.dims, self._viewer.scene.camera
        self._view_before = dims.ndisplay, dims.order, camera.center, camera.zoom
        dims.ndisplay = 2
        dims.order = tuple(range(dims.ndim))

    def _reset_view(self) -> None:
        if self._view_before is None:
            return
        ndisplay, order, centre, zoom = self._view_before
        self._view_before = None
        dims, camera = self._viewer.dims, self._viewer.scene.camera
        dims.ndisplay = ndisplay
        if dims.ndim == len(order):
            dims.order = order
        camera.center, camera.zoom = centre, zoom
