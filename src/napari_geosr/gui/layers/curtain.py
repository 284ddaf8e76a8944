"""Toggles for comparing before and after: curtain, blinking and difference."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.compat import isalive
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
from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.kit.lifetime import Connections, when_destroyed
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import (
    METADATA,
    finest,
    helper_metadata,
    same_place,
    volume_from_layer,
)
from napari_geosr.gui.layers.camera import remove_in_place
from napari_geosr.gui.layers.curtain_line import CurtainLine, canvas_of
from napari_geosr.gui.layers.difference import difference_steps
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.layers.linked_contrast import link_contrast, unlink_contrast
from napari_geosr.gui.layers.position import edge_at, edges_in_canvas, pixel_of

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer
    from napari.utils.events import Event

_BLINK_MS = 600
_SLIDER_STEPS = 1000
#: Milliseconds between curtain updates while the camera moves.
_DRAW_MS = 30
_DIFFERENCE = "Show the difference (result minus source) as a layer."
_NO_DIFFERENCE = "Available for the result of a run, not for a preview."


_References = tuple[weakref.ref[Any], weakref.ref[Any]]


class CompareBox(QWidget):
    """Compares a layer with its restored version, in the canvas.

    The curtain is a third layer on top that shows the source up to the slider's
    position: it is a view of the source's array, so nothing is computed or copied, and
    it follows every slider of the viewer. The cut lies between voxels of the source. In
    a window, a line marks the cut and can be dragged.

    Parameters
    ----------
    labels : (str, str)
        Labels to the left and right of the line.

    Signals
    -------
    failed : object
        The error if the difference could not be computed.
    busyChanged
        Computing the difference has begun or ended; see `is_computing`.
    """

    failed = Signal(object)
    busyChanged = Signal()

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        parent: QWidget | None = None,
        *,
        labels: tuple[str, str] = ("before", "after"),
    ) -> None:
        super().__init__(parent)
        self._viewer, self._labels = viewer, labels
        self._pair: _References | None = None
        #: The pair to return to when the compared preview is removed.
        self._pair_before_preview: _References | None = None
        self._curtain: Image | None = None
        self._line: CurtainLine | None = None
        # Kept for removal: as children of the canvas, the lines outlive the dock.
        self._lines: list[CurtainLine] = []
        when_destroyed(self, partial(_remove_lines, self._lines))
        self._edge = (-1, 0)
        self._difference: weakref.ref[Layer] | None = None
        self._linked = False
        self._run: BackgroundTask | None = None
        self._make_controls()
        self._blinker = QTimer(self)
        self._blinker.setInterval(_BLINK_MS)
        # Defer removals; the layer list must not change while a layer is being removed.
        self._removal_timer = QTimer(self)
        self._removal_timer.setSingleShot(True)
        self._draw_timer = QTimer(self)
        self._draw_timer.setSingleShot(True)
        self._draw_timer.setInterval(_DRAW_MS)
        self._connect()
        self.setEnabled(False)

    def _make_controls(self) -> None:
        self.curtain_button = _toggle(
            "C&urtain",
            "Show the source to the left and the result to the right of a line that "
            "you can drag.",
        )
        self.blink_button = _toggle(
            "&Blink", "Alternate between source and result about twice a second."
        )
        self.difference_button = _toggle("&Difference", _DIFFERENCE)
        self.link_box = QCheckBox("Lin&k contrast")
        self.link_box.setChecked(True)
        self.link_box.setToolTip(
            "Show both with the contrast limits, gamma and colours of the source, and "
            "change them together."
        )
        self.link_box.setAccessibleName("Link contrast")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _SLIDER_STEPS)
        self.slider.setValue(_SLIDER_STEPS // 2)
        self.slider.setAccessibleName("Position of the curtain")
        self.slider.setToolTip(
            "The image before restoration is shown to the left of this position, the "
            "restored image to the right."
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

    def _connect(self) -> None:
        self._blinker.timeout.connect(self._on_blink)
        self.curtain_button.toggled.connect(self._on_curtain)
        self.blink_button.toggled.connect(self._on_blink_toggled)
        self.difference_button.toggled.connect(self._on_difference)
        self.link_box.toggled.connect(self._update_link)
        self.slider.valueChanged.connect(self._draw)
        self._removal_timer.timeout.connect(self._update_after_removal)
        self._draw_timer.timeout.connect(self._draw)
        viewer, connections = self._viewer, Connections(self)
        connections.connect(viewer.layers.events.removed, self._on_removed)
        connections.connect(viewer.layers.events.inserted, self._schedule_draw)
        connections.connect(viewer.dims.events.order, self._draw)
        camera = viewer.scene.camera.events
        grid = viewer.canvas.grid.events
        for event in (viewer.dims.events.ndisplay, camera.center, camera.zoom, grid):
            connections.connect(event, self._schedule_draw)

    def set_pair(self, source: Image, result: Image) -> None:
        """Set the two layers to compare."""
        self.clear()
        self._set_pair(source, result)

    def change_pair(
        self, source: Image, result: Image, labels: tuple[str, str]
    ) -> None:
        """Compare two other layers in the same way, under other labels."""
        if self.pair() == (source, result) and self._labels == labels:
            return
        self._labels = labels
        self._replace_pair(source, result)

    def set_preview(self, source: Image, preview: Layer) -> None:
        """Compare a layer with its preview until the preview is removed.

        Curtain and blinking do not change; afterwards, the previous pair is compared
        again.
        """
        pair = self.pair()
        if pair == (source, preview) or not hasattr(preview, "contrast_limits"):
            return
        if pair is not None and self._pair_before_preview is None:
            self._pair_before_preview = self._pair
        self._replace_pair(source, preview)
        self.difference_button.setEnabled(False)
        self.difference_button.setToolTip(_NO_DIFFERENCE)

    def clear(self) -> None:
        """Stop comparing, and remove the layers that were added."""
        for button in self.toggles():
            button.setChecked(False)
        self._unlink()
        self._pair = self._pair_before_preview = None
        self.setEnabled(False)

    def _set_pair(self, source: Image, result: Any) -> None:
        self._pair = weakref.ref(source), weakref.ref(result)
        self.setEnabled(True)
        self.difference_button.setEnabled(True)
        self.difference_button.setToolTip(_DIFFERENCE)
        self._update_link()

    def _replace_pair(self, source: Image, result: Any) -> None:
        """Compare another pair in the same way, without the old difference."""
        shown = [button.isChecked() for button in self.toggles()[:2]]
        before_preview = self._pair_before_preview
        self.clear()
        self._pair_before_preview = before_preview
        self._set_pair(source, result)
        for button, was_shown in zip(self.toggles(), shown, strict=False):
            button.setChecked(was_shown)

    def toggles(self) -> tuple[QPushButton, ...]:
        """Return the buttons that switch a comparison on and off."""
        return self.curtain_button, self.blink_button, self.difference_button

    @property
    def is_computing(self) -> bool:
        """Whether the difference is being computed."""
        return self._run is not None

    def pair(self) -> tuple[Image, Image] | None:
        """Return the source and the result while both are in the viewer."""
        return self._existing(self._pair)

    def _existing(self, pair: _References | None) -> tuple[Image, Image] | None:
        if pair is None:
            return None
        source, result = pair[0](), pair[1]()
        layers = self._viewer.layers
        if source is None or result is None:
            return None
        return (source, result) if source in layers and result in layers else None

    # Curtain

    def _on_curtain(self, checked: bool) -> None:
        self.slider.setVisible(checked)
        pair = self.pair()
        if checked and pair is not None:
            self.difference_button.setChecked(False)  # it covers the curtain
            self.blink_button.setChecked(False)  # it shows the scan as "after"
            pair[1].visible = True
            self._draw()
            return
        self._edge = (-1, 0)
        _remove_lines(self._lines)
        self._line = None
        curtain, self._curtain = self._curtain, None
        if curtain is not None and curtain in self._viewer.layers:
            remove_in_place(self._viewer, curtain)

    def _schedule_draw(self, _event: object = None) -> None:
        """Update the cut after the camera moved, but not at every step."""
        if self.curtain_button.isChecked() and not self._draw_timer.isActive():
            self._draw_timer.start()

    def _draw(self, _event: object = None) -> None:
        pair = self.pair()
        if pair is None or not self.curtain_button.isChecked():
            return
        source, result = pair
        data = sliceable(finest(source))
        axis = self._axis(source)
        low, high = edges_in_canvas(self._viewer, source, axis)
        share = self.slider.value() / _SLIDER_STEPS
        edge = int(np.clip(round(low + share * (high - low)), 1, data.shape[axis]))
        if self._curtain is None or self._edge != (edge, axis):
            key = [slice(None)] * data.ndim
            key[axis] = slice(0, edge)
            part = data[tuple(key)]
            if self._curtain is None:
                self._curtain = self._add_curtain(source, part)
            self._curtain.data = part
            self._edge = edge, axis
        layers = self._viewer.layers
        above = layers.index(result) + 1
        if layers.index(self._curtain) < above:  # the result was added later
            layers.move(layers.index(self._curtain), above)
        self._draw_line(source, axis, edge)

    def _axis(self, source: Image) -> int:
        """Return the layer's axis that runs from left to right."""
        axis = self._viewer.dims.displayed[-1] - self._viewer.dims.ndim
        return int(axis) if -axis <= source.ndim else -1

    # The line at the cut

    def _draw_line(self, source: Image, axis: int, edge: int) -> None:
        canvas = canvas_of(self)
        if canvas is None or not self._can_show_line(source):
            if self._line is not None:
                self._line.hide()
            return
        if self._line is None:
            self._line = CurtainLine(canvas, *self._labels)
            self._lines.append(self._line)
            self._line.dragged.connect(self._on_dragged)
            self._line.resized.connect(self._schedule_draw)
        self._line.move_to(pixel_of(self._viewer, source, axis, edge))

    def _can_show_line(self, source: Image) -> bool:
        """Whether the cut is vertical and appears once in the canvas."""
        viewer = self._viewer
        is_usual = viewer.scene.camera.orientation2d[-1] == "right"
        is_single = viewer.dims.ndisplay == 2 and not viewer.canvas.grid.enabled
        return is_usual and is_single and geometry_of_layer(source).is_upright

    def _on_dragged(self, x: float) -> None:
        pair = self.pair()
        if pair is None:
            return
        axis = self._axis(pair[0])
        low, high = edges_in_canvas(self._viewer, pair[0], axis)
        edge = edge_at(self._viewer, pair[0], axis, x)
        share = (edge - low) / (high - low)
        self.slider.setValue(round(_SLIDER_STEPS * min(max(share, 0.0), 1.0)))

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
        link_contrast(source, curtain)
        self._viewer.layers.selection.active = active
        return curtain

    # Blink

    def _on_blink_toggled(self, checked: bool) -> None:
        if checked:
            self.difference_button.setChecked(False)
            self.curtain_button.setChecked(False)
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

    def _on_difference(self, checked: bool) -> None:
        if not checked:
            layer = None if self._difference is None else self._difference()
            self._difference = None
            if layer is not None and layer in self._viewer.layers:
                remove_in_place(self._viewer, layer)
            return
        pair = self.pair()
        if pair is None:
            return
        self.curtain_button.setChecked(False)
        self.blink_button.setChecked(False)
        source, result = pair
        # Use the part that was restored; the sliders may have moved since.
        record = result.metadata.get(METADATA, {})
        try:
            before = volume_from_layer(
                source,
                self._viewer,
                record.get("position"),
                whole=record.get("series", False),
            ).data
        except GeoSRError as error:
            self._on_no_difference(error)
            return
        after = sliceable(finest(result))
        options = {
            # Add a suffix, because long names are elided in the middle.
            "name": f"{result.name} · difference",
            "colormap": "twilight_shifted",
            "metadata": helper_metadata("difference"),
            **same_place(result),
        }
        self.difference_button.setEnabled(False)
        self._run = BackgroundTask(
            lambda should_stop: difference_steps(before, after, should_stop),
            owner=self,
            on_result=lambda found: self._add_difference(found, options),
            on_error=self._on_no_difference,
            on_finished=self._on_difference_ended,
        )
        self.busyChanged.emit()

    def _add_difference(self, found: tuple[Any, float], options: AnyDict) -> None:
        if not self.difference_button.isChecked():
            return  # switched off, or another pair is compared now
        data, limit = found
        active = self._viewer.layers.selection.active
        layer = self._viewer.add_image(data, contrast_limits=(-limit, limit), **options)
        self._difference = weakref.ref(layer)
        self._viewer.layers.selection.active = active

    def _on_no_difference(self, error: Exception) -> None:
        self.difference_button.setChecked(False)
        self.failed.emit(error)

    def _on_difference_ended(self) -> None:
        self._run = None
        self.difference_button.setEnabled(self._pair_before_preview is None)
        self.busyChanged.emit()

    # Contrast and removed layers

    def _update_link(self, _checked: bool = True) -> None:
        self._unlink()
        pair = self.pair()
        if pair is not None and self.link_box.isChecked():
            link_contrast(*pair)
            self._linked = True

    def _unlink(self) -> None:
        if self._linked and self._pair is not None:
            unlink_contrast([la for ref in self._pair if (la := ref()) is not None])
        self._linked = False

    def _on_removed(self, event: Event) -> None:
        if event.value is self._curtain:
            self._curtain = None
            self.curtain_button.setChecked(False)
        elif self._difference is not None and event.value is self._difference():
            self._difference = None
            self.difference_button.setChecked(False)
        elif self._pair is not None and self.pair() is None:
            self._removal_timer.start(0)

    def _update_after_removal(self) -> None:
        if self.pair() is not None:
            return
        before = self._existing(self._pair_before_preview)
        self._pair_before_preview = None
        if before is None:
            self.clear()
        else:
            self._replace_pair(*before)


def _remove_lines(lines: list[CurtainLine]) -> None:
    while lines:
        line = lines.pop()
        if isalive(line):  # not deleted together with the window
            line.hide()
            line.deleteLater()


def _toggle(text: str, tool_tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setToolTip(tool_tip)
    button.setAccessibleName(text.replace("&", ""))
    return button
