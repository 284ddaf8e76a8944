"""Before and after: a curtain, blinking, and the difference as a layer."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.experimental import link_layers, unlink_layers
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.arrays import sliceable
from napari_geosr.core.errors import Cancelled, GeoSRError, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import (
    METADATA,
    finest,
    helper_metadata,
    same_place,
    volume_from_layer,
)

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image
    from napari.utils.events import Event

_LINKED = ("contrast_limits", "gamma", "colormap")
_BLINK_MS = 600
_SLIDER_STEPS = 1000


class CompareBox(QWidget):
    """Compares a layer with its restored version, in the canvas.

    The curtain is a third layer over both that shows the source up to the slider's
    position: a view of the source's own array, so nothing is computed or copied and it
    follows every slider of the viewer. It is cut between voxels of the source.

    Signals
    -------
    failed : object
        The error when the difference could not be made.
    """

    failed = Signal(object)

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._pair: tuple[weakref.ref[Image], weakref.ref[Image]] | None = None
        self._curtain: Image | None = None
        self._linked = False
        self._run: BackgroundTask | None = None
        self.curtain_button = _toggle(
            "C&urtain", "Show the source left of the slider and the result right of it."
        )
        self.blink_button = _toggle(
            "&Blink", "Show source and result in turn, about twice a second."
        )
        self.difference_button = QPushButton("&Difference")
        self.difference_button.setToolTip("Add a layer with result minus source.")
        self.difference_button.setAccessibleName("Difference")
        self.link_box = QCheckBox("Lin&k contrast")
        self.link_box.setChecked(True)
        self.link_box.setToolTip(
            "Change contrast limits, gamma and colours of source and result together."
        )
        self.link_box.setAccessibleName("Link contrast")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _SLIDER_STEPS)
        self.slider.setValue(_SLIDER_STEPS // 2)
        self.slider.setAccessibleName("Position of the curtain")
        self.slider.setToolTip(
            "Left of this position the image is shown before, "
            "right of it after restoration."
        )
        self.slider.setVisible(False)
        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        for button in (self.curtain_button, self.blink_button, self.difference_button):
            button.setMinimumWidth(60)
            buttons.addWidget(button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(buttons)
        layout.addWidget(self.slider)
        layout.addWidget(self.link_box)
        self._blinker = QTimer(self)
        self._blinker.setInterval(_BLINK_MS)
        self._blinker.timeout.connect(self._on_blink)
        self.curtain_button.toggled.connect(self._on_curtain)
        self.blink_button.toggled.connect(self._on_blink_toggled)
        self.difference_button.clicked.connect(self._on_difference)
        self.link_box.toggled.connect(self._update_link)
        self.slider.valueChanged.connect(self._draw)
        # Of another layer that goes: the list must not change while it changes.
        self._ending = QTimer(self)
        self._ending.setSingleShot(True)
        self._ending.timeout.connect(self._end)
        connections = Connections(self)
        connections.connect(viewer.layers.events.removed, self._on_removed)
        connections.connect(viewer.dims.events.order, self._draw)
        self.setEnabled(False)

    def set_pair(self, source: Image, result: Image) -> None:
        """Compare these two layers from now on."""
        self.clear()
        self._pair = weakref.ref(source), weakref.ref(result)
        self.setEnabled(True)
        self._update_link()

    def clear(self) -> None:
        """Stop comparing and take the curtain away."""
        self.curtain_button.setChecked(False)
        self.blink_button.setChecked(False)
        self._unlink()
        self._pair = None
        self.setEnabled(False)

    def pair(self) -> tuple[Image, Image] | None:
        """Return source and result while both are in the viewer."""
        if self._pair is None:
            return None
        source, result = self._pair[0](), self._pair[1]()
        layers = self._viewer.layers
        if source is None or result is None:
            return None
        return (source, result) if source in layers and result in layers else None

    # Curtain

    def _on_curtain(self, wanted: bool) -> None:
        self.slider.setVisible(wanted)
        if wanted:
            self._draw()
            return
        curtain, self._curtain = self._curtain, None
        if curtain is not None and curtain in self._viewer.layers:
            self._viewer.layers.remove(curtain)

    def _draw(self, _event: object = None) -> None:
        pair = self.pair()
        if pair is None or not self.curtain_button.isChecked():
            return
        source, result = pair
        result.visible = True
        part = self._left_part(source)
        if self._curtain is None:
            self._curtain = self._add_curtain(source, part)
        self._curtain.data = part

    def _left_part(self, source: Image) -> Any:
        """Cut the source's array at the slider's place in what is visible."""
        data = sliceable(finest(source))
        axis = self._viewer.dims.displayed[-1] - (self._viewer.dims.ndim - data.ndim)
        low, high = source.corner_pixels[:, axis]
        if self._viewer.dims.ndisplay == 3 or high <= low:
            low, high = 0, data.shape[axis] - 1
        share = self.slider.value() / _SLIDER_STEPS
        edge = int(np.clip(round(low + share * (high + 1 - low)), 1, data.shape[axis]))
        key = [slice(None)] * data.ndim
        key[axis] = slice(0, edge)
        return data[tuple(key)]

    def _add_curtain(self, source: Image, part: object) -> Image:
        active = self._viewer.layers.selection.active
        curtain: Image = self._viewer.add_image(
            part,
            name=f"{source.name} · curtain",
            **same_place(source),
            colormap=source.colormap,
            contrast_limits=tuple(source.contrast_limits),
            gamma=source.gamma,
            metadata=helper_metadata("curtain"),
        )
        link_layers([source, curtain], _LINKED)
        self._viewer.layers.selection.active = active
        return curtain

    # Blink

    def _on_blink_toggled(self, wanted: bool) -> None:
        if wanted:
            self._blinker.start()
            return
        self._blinker.stop()
        pair = self.pair()
        if pair is not None:
            pair[1].visible = True

    def _on_blink(self) -> None:
        pair = self.pair()
        if pair is None:
            self.blink_button.setChecked(False)
            return
        pair[1].visible = not pair[1].visible

    # Difference

    def _on_difference(self) -> None:
        pair = self.pair()
        if pair is None:
            return
        source, result = pair
        # What was restored, which the sliders may have left since.
        record = result.metadata.get(METADATA, {})
        try:
            before = volume_from_layer(
                source,
                self._viewer,
                record.get("position"),
                whole=record.get("series", False),
            ).data
        except GeoSRError as error:
            self.failed.emit(error)
            return
        after = sliceable(finest(result))
        options = {
            "name": f"{result.name} − {source.name}",
            "colormap": "twilight_shifted",
            "metadata": helper_metadata("difference"),
            **same_place(result),
        }
        self.difference_button.setEnabled(False)
        self._run = BackgroundTask(
            lambda should_stop: difference_steps(before, after, should_stop),
            owner=self,
            on_result=lambda found: self._add_difference(found, options),
            on_error=self.failed.emit,
            on_finished=lambda: self.difference_button.setEnabled(True),
        )

    def _add_difference(self, found: tuple[Any, float], options: AnyDict) -> None:
        data, limit = found
        self._viewer.add_image(data, contrast_limits=(-limit, limit), **options)

    # Contrast, and layers that go

    def _update_link(self, _checked: bool = True) -> None:
        self._unlink()
        pair = self.pair()
        if pair is not None and self.link_box.isChecked():
            link_layers(list(pair), _LINKED)
            self._linked = True

    def _unlink(self) -> None:
        if self._linked and self._pair is not None:
            layers = [layer for ref in self._pair if (layer := ref()) is not None]
            if layers:
                unlink_layers(layers, _LINKED)
        self._linked = False

    def _on_removed(self, event: Event) -> None:
        if event.value is self._curtain:
            self._curtain = None
            self.curtain_button.setChecked(False)
        elif self._pair is not None and self.pair() is None:
            self._ending.start(0)

    def _end(self) -> None:
        if self.pair() is None:
            self.clear()


def _toggle(text: str, tool_tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setToolTip(tool_tip)
    button.setAccessibleName(text.replace("&", ""))
    return button


def difference_steps(
    before: Any, after: Any, should_stop: ShouldStop
) -> Generator[Step, None, tuple[Any, float]]:
    """Result minus source, lazily, and a contrast limit for it.

    Parameters
    ----------
    before, after : array of shape (…, Z, Y, X)
        `after` may have a whole number of times more voxels along its axes; each voxel
        of `before` then stands for a block.

    Returns
    -------
    difference : dask array of float32
    limit : float
    """
    yield StageStarted(message="Difference")
    import dask.array as da

    pairs = list(zip(after.shape, before.shape, strict=False))
    factors = [m // n for m, n in pairs]
    if before.ndim != after.ndim or any(m % n for m, n in pairs):
        raise VolumeError(
            f"Arrays of shape {tuple(before.shape)} and {tuple(after.shape)} cannot be "
            "subtracted. Compare a layer with its own restored version."
        )
    chunks = (1,) * (after.ndim - 2) + tuple(after.shape[-2:])
    result = _as_dask(da, after, chunks)
    coarse = tuple(max(1, c // f) for c, f in zip(chunks, factors, strict=True))
    source = _as_dask(da, before, coarse)
    for axis, factor in enumerate(factors):
        if factor > 1:
            source = da.repeat(source, factor, axis=axis)
    difference = result.astype(np.float32) - source.rechunk(chunks).astype(np.float32)
    if should_stop():
        raise Cancelled("Cancelled.")
    middle = difference[tuple(n // 2 for n in after.shape[:-2])].compute()
    limit = float(np.nanpercentile(np.abs(middle), 99.5)) or 1.0
    return difference, limit


def _as_dask(da: Any, data: Any, chunks: tuple[int, ...]) -> Any:
    if type(data).__module__.startswith("dask."):
        return data.rechunk(chunks)
    return da.from_array(data, chunks=chunks, name=False)
