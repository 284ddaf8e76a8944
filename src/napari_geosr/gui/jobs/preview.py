"""The layer that shows the network's current result on the preview slice."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_geosr import io
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.layers import (
    METADATA,
    add_result,
    replace_data,
    volume_from_layer,
)
from napari_geosr.gui.layers.camera import remove_in_place

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer
    from qtpy.QtCore import QEvent

_HELPER = "training preview"


class JobPreview(QObject):
    """Shows the latest preview of one job as a layer at its position.

    The file is read in a worker. A layer that the user removes is not added again
    until `set_job` is called.

    Signals
    -------
    failed : object
        The error if a preview could not be read.
    """

    failed = Signal(object)

    def __init__(
        self, viewer: ViewerModel, parent: QObject, title: str = _HELPER
    ) -> None:
        super().__init__(parent)
        self._viewer, self._title = viewer, title
        self._path: Path | None = None
        self._name = ""
        self._sources: tuple[Path, ...] = ()
        self._activity = Activity(self)
        self._shown_step = -1
        self._dismissed = False
        self._source: weakref.ref[Image] | None = None
        Connections(self).connect(viewer.layers.events.removed, self._on_removed)

    def set_job(self, path: Path | None, name: str, sources: tuple[Path, ...]) -> None:
        """Show the previews of another job; `path` is the preview file."""
        if path == self._path and not self._dismissed:
            return
        if path != self._path:
            self.remove()
        self._path, self._name, self._sources = path, name, sources
        self._shown_step = -1
        self._dismissed = False

    def set_source(self, layer: Image | None) -> None:
        """Set the layer used for training; if None, find it by the job's files."""
        self._source = None if layer is None else weakref.ref(layer)

    def layer(self) -> Layer | None:
        """Return the preview layer if it exists, even if another dock added it."""
        for layer in self._viewer.layers:
            if layer.metadata.get(METADATA, {}).get("job") == str(self._path):
                return layer
        return None

    def update_to(self, step: int) -> None:
        """Show the preview of `step`, unless it is shown already."""
        if (
            self._path is None
            or self._dismissed
            or self._activity.busy
            or step in (-1, self._shown_step)
        ):
            return
        path = self._path
        self._activity.start(
            "read",
            lambda _stop: _read(path),
            lambda volume: self._show(path, step, volume),
            on_error=lambda error: self._on_error(step, error),
        )

    def remove(self) -> None:
        """Remove the layer."""
        layer = self.layer()
        self._dismissed = True
        if layer is not None:
            remove_in_place(self._viewer, layer)

    def _on_error(self, step: int, error: Exception) -> None:
        self._shown_step = step  # do not retry; the next preview may be readable
        self.failed.emit(error)

    def _show(self, path: Path, step: int, volume: Volume) -> None:
        if path != self._path or self._dismissed:
            return
        self._shown_step = step
        layer = self.layer()
        if layer is not None and layer.data.shape == volume.shape:
            replace_data(self._viewer, layer, volume, like=None)
            return
        if layer is not None:
            remove_in_place(self._viewer, layer)
            self._dismissed = False
        active = self._viewer.layers.selection.active
        add_result(
            self._viewer,
            volume,
            self._source_layer(),
            name=f"{self._name} · {self._title}",
            metadata={METADATA: {"helper": _HELPER, "job": str(path)}},
        )
        if active is not None:
            self._viewer.layers.selection.active = active

    def _source_layer(self) -> Image | None:
        """Return the layer used for training, if it is open."""
        from napari.layers import Image

        known = None if self._source is None else self._source()
        if known is not None and known in self._viewer.layers:
            return known
        for layer in self._viewer.layers:
            if isinstance(layer, Image) and _file_of(layer) in self._sources:
                return layer
        return None

    def _on_removed(self, event: QEvent) -> None:
        layer: Layer = event.value
        if layer.metadata.get(METADATA, {}).get("job") == str(self._path):
            self._dismissed = True


def _file_of(layer: Layer) -> Path | None:
    try:
        path = volume_from_layer(layer).source
    except VolumeError:
        return None
    return None if path is None else path.resolve()


def _read(path: Path) -> Generator[Step, None, Volume]:
    yield from ()
    volume = io.read(path)
    return volume.replace(data=np.asarray(volume.data))
