"""Layers in which pores were measured: the results follow them, or become outdated."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import MILLIMETRES, convert_length, same_sizes
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers import (
    alignment_with,
    chosen_position,
    geometry,
    volume_from_layer,
)
from napari_geosr.gui.layers.camera import preserve_point
from napari_geosr.gui.porosity.pore_layers import position_text

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from napari_geosr.gui.porosity.measuring import PoreMeasurement

#: Events of a layer that change its position or voxel size.
_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units")
#: Delay in milliseconds until a moved slider or layer is taken into account.
_DELAY = 50
_OTHER_IMAGE = (
    "These results belong to a different image from the one chosen under Settings. "
    "Press Measure to measure the chosen image."
)


class MeasuredLayers(QObject):
    """Follows the layers that were measured.

    If a layer is moved or its voxel size is changed, the layers of the results follow.

    Signals
    -------
    changed
        The note about the results may have changed.
    """

    changed = Signal()

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        results_of: Callable[[str], Iterator[Layer]],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._results_of = viewer, results_of
        self._measured: PoreMeasurement | None = None
        self._sources: dict[str, weakref.ref[Layer]] = {}
        self._places: dict[str, AnyDict] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY)
        self._timer.timeout.connect(self._follow)
        self._followed = Connections(self)
        self._sliders = Connections(self)
        self._sliders.connect(viewer.dims.events.point, self._on_event)

    def set_measured(
        self, measured: PoreMeasurement, sources: Mapping[str, weakref.ref[Layer]]
    ) -> None:
        """Follow the layers of a new measurement.

        Parameters
        ----------
        measured : PoreMeasurement
        sources : mapping of weakref
            Layers measured, by key of the report.
        """
        self._measured, self._sources = measured, dict(sources)
        self._places = {
            key: geometry(measured.volumes[key]) | alignment_with(layer)
            for key, layer in self._existing()
        }
        self._followed.end()
        for _, layer in self._existing():
            for name in _PLACE:
                self._followed.connect(getattr(layer.events, name), self._on_event)
        self._timer.start()  # a layer may have been moved during the measurement

    def _existing(self) -> Iterator[tuple[str, Layer]]:
        for key, reference in self._sources.items():
            layer = reference()
            if layer is not None and layer in self._viewer.layers:
                yield key, layer

    def _on_event(self, _event: object = None) -> None:
        if self._measured is not None:
            self._timer.start()

    def _follow(self) -> None:
        """Put the layers of the results where the measured layers are."""
        for key, layer in self._existing():
            try:
                volume = volume_from_layer(layer, self._viewer)
            except GeoSRError:
                continue
            place = geometry(volume) | alignment_with(layer)
            if _is_same(place, self._places[key]):
                continue
            self._places[key] = place
            with preserve_point(self._viewer):
                for shown in self._results_of(key):
                    if shown.ndim == volume.ndim:
                        for name, value in place.items():
                            setattr(shown, name, value)
        self.changed.emit()

    def note(self, chosen: Layer | None) -> str:
        """Return why the results are not those of the chosen image as it is shown.

        Parameters
        ----------
        chosen : Layer or None
            The image that is chosen for the next measurement.
        """
        if self._measured is None or chosen is None:
            return ""
        keys = [key for key, layer in self._existing() if layer is chosen]
        if not keys:
            return _OTHER_IMAGE
        for key, layer in self._existing():
            measured = self._measured.volumes[key]
            try:
                volume = volume_from_layer(layer, self._viewer)
            except GeoSRError:
                continue
            if not _has_same_voxels(volume, measured):
                return (
                    f"The voxel size of {layer.name!r} was changed after the "
                    "measurement. Press Measure to measure again."
                )
        origin = self._measured.origins.get(keys[0], {})
        position = chosen_position(chosen, self._viewer)
        if any(origin.get(name, at) != at for name, at in position.items()):
            return (
                f"These results belong to {position_text(origin)}, but "
                f"{position_text(position)} is shown. Press Measure to measure "
                f"{position_text(position)}."
            )
        return ""


def _has_same_voxels(first: Volume, second: Volume) -> bool:
    if first.unit == second.unit:
        return same_sizes(first.voxel_size, second.voxel_size)
    if first.unit not in MILLIMETRES or second.unit not in MILLIMETRES:
        return False
    factor = convert_length(1.0, first.unit, second.unit)
    return same_sizes([factor * edge for edge in first.voxel_size], second.voxel_size)


def _is_same(first: AnyDict, second: AnyDict) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)
