"""Explain a clicked pore or voxel of the result, in a sentence and in a layer."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.gui.kit.action_bar import progress_bar
from napari_geosr.gui.kit.activity import Activity, Key
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.kit.widgets import button, combo
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    alignment_with,
    helper_metadata,
    replace_data,
    volume_from_layer,
)
from napari_geosr.gui.layers.explained import explain_settings
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.layers.position import click_callback, indices_at
from napari_geosr.operations.explain import (
    ExplainConfig,
    Explanation,
    PreparedExplanation,
    explain_place_steps,
    methods,
    prepare_steps,
    with_training_patches,
)

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

    from napari_geosr.core.volume import Volume

#: Methods of the first entry of the menu; every other entry is a single method.
_METHODS = ("evidence", "reach")
_USUAL = "Support and influence"
_ABOUT = (
    "Shows whether the pore would appear even if the scan did not show it, and the "
    "distance within which voxels affect the result."
)
#: Methods without a menu entry, always run together with the usual methods.
_ADDED = ("filter", "similar")
_HINT = "Click on a pore or a voxel of the result."


@dataclass(frozen=True, eq=False)
class _Answer:
    """An explanation, and its map with the upper contrast limit."""

    prepared: PreparedExplanation
    explanation: Explanation
    overlay: Volume | None = None
    top: float = 1.0


class ExplanationBox(QWidget):
    """Explains the pore or voxel of a result that the user clicks on.

    The network, noise level and grey-value scaling of the run are reused. The map of
    the voxels used is added as a layer over the scan.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._source: weakref.ref[Image] | None = None
        self._result: weakref.ref[Layer] | None = None
        self._overlay: weakref.ref[Image] | None = None
        self._prepared: tuple[Key, PreparedExplanation] | None = None
        #: The voxel of the result that was clicked last.
        self._at: tuple[int, int, int] | None = None
        #: Stop function of the latest run; the prepared network, which is reused by
        #: later runs, calls it.
        self._should_stop: list[ShouldStop] = []
        self.pick_button = button(
            "Explain pore or voxel",
            "Click on a pore or voxel of the result to see which voxels of the scan "
            "it comes from, and whether the scan supports it.",
            "Alt+Shift+G",
        )
        self.pick_button.setCheckable(True)
        self.method = combo("Explanation method", "How the result is explained.")
        self._fill_methods()
        self.cancel_button = button(
            "Stop explaining", "Stop the explanation.", "Alt+Shift+F"
        )
        self.progress = progress_bar("Explanation progress", "Progress.")
        self.answer = MessageRow(shortcut="Alt+Shift+Q")
        self.activity = Activity(self)
        self._progress = OperationProgress(
            self.answer.show_message,
            show_bar=self._show_progress,
            show_warning=lambda text: self._say(text, "warning"),
            shows_time_left=True,
        )
        self._lay_out()
        self.activity.busyChanged.connect(self._on_busy)
        self.cancel_button.clicked.connect(self.activity.cancel)
        self.method.currentIndexChanged.connect(self._on_method)
        self.pick_button.toggled.connect(self._on_toggled)
        self._connections = Connections(self)
        self._connections.add_to(
            viewer, "mouse_drag_callbacks", click_callback(weakref.ref(self))
        )
        self._on_busy("")
        self.setVisible(False)

    def _lay_out(self) -> None:
        label = QLabel("Show")
        label.setBuddy(self.method)
        label.setAccessibleName("Show")
        label.setToolTip(self.method.toolTip())
        choice = QHBoxLayout()
        choice.addWidget(label)
        choice.addWidget(self.method, 1)
        row = QHBoxLayout()
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel_button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.pick_button)
        column.addLayout(choice)
        column.addLayout(row)
        column.addWidget(self.answer)

    def _fill_methods(self) -> None:
        self.method.addItem(_USUAL, _METHODS)
        self.method.setItemData(0, _ABOUT, Qt.ItemDataRole.ToolTipRole)
        for each in methods():
            if each.name not in (*_METHODS, *_ADDED):
                self.method.addItem(each.title, (each.name,))
                row = self.method.count() - 1
                self.method.setItemData(row, each.help, Qt.ItemDataRole.ToolTipRole)

    def set_pair(self, source: Image | None, result: Layer | None) -> None:
        """Offer to explain `result`, made from `source`; with None, hide the widget.

        Only results of a single network can be explained, not those of filters.
        """
        self.pick_button.setChecked(False)
        self._prepared = self._at = None
        known = source is not None and result is not None
        self._source = weakref.ref(source) if known else None
        self._result = weakref.ref(result) if known else None
        self.setVisible(known and self._settings() is not None)

    def _layers(self) -> tuple[Image, Layer] | None:
        source = None if self._source is None else self._source()
        result = None if self._result is None else self._result()
        if source is None or result is None:
            return None
        layers = self._viewer.layers
        return (source, result) if source in layers and result in layers else None

    def _settings(self) -> ExplainConfig | None:
        """Return the settings for explaining the result, from its provenance record."""
        layers = self._layers()
        return None if layers is None else explain_settings(layers[1], _METHODS)

    def _on_busy(self, what: str) -> None:
        self.method.setEnabled(not what)
        self.cancel_button.setEnabled(bool(what))
        self.cancel_button.setVisible(bool(what))
        self.progress.setVisible(bool(what))
        self._show_progress(0, 0)

    def _show_progress(self, done: int, total: int) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)

    def _say(self, text: str, kind: str = "info") -> None:
        """Show a sentence in the row for answers."""
        self.answer.show_message(text, kind)

    def _on_toggled(self, checked: bool) -> None:
        if checked:
            self.answer.show_message(_HINT)
            return
        if self.activity.busy:
            self.activity.cancel()
        self._at = None
        self.answer.clear()
        overlay = None if self._overlay is None else self._overlay()
        self._overlay = None
        if overlay is not None and overlay in self._viewer.layers:
            self._viewer.layers.remove(overlay)

    # Clicks

    def pick(self, position: object) -> None:
        """Explain the result at a viewer position, if the mode is active."""
        layers = self._layers()
        if not self.pick_button.isChecked() or layers is None or self.activity.busy:
            return
        if self._viewer.dims.ndisplay == 3:
            self.answer.show_message("Switch to the 2D view to click on a voxel.")
            return
        result = layers[1]
        index = indices_at(self._viewer, result, position)  # type: ignore[arg-type]
        n = len(geometry_of_layer(result).voxel_size)
        at = tuple(int(x) for x in np.floor(index[-n:] + 0.5))
        shape = result.data.shape[-n:]
        if not all(0 <= i < length for i, length in zip(at, shape, strict=True)):
            self.answer.show_message("This position is outside the result. " + _HINT)
            return
        z, y, x = (0,) * (3 - n) + at
        self._at = z, y, x
        self._explain()

    def _on_method(self, _index: int = 0) -> None:
        """Explain the last position with the newly chosen method."""
        self.method.setToolTip(self.method.currentData(Qt.ItemDataRole.ToolTipRole))
        if self.pick_button.isChecked() and not self.activity.busy:
            self._explain()

    def _explain(self) -> None:
        layers, config, at = self._layers(), self._settings(), self._at
        if layers is None or config is None or at is None:
            return
        source, result = layers
        try:
            point = result.metadata.get(METADATA, {}).get("position")
            scan = volume_from_layer(source, self._viewer, point)
        except GeoSRError as error:
            self.answer.show_error(error)
            return
        key: Key = (id(source), id(source.data), id(result), config.model_dump_json())
        chosen = self.method.currentData()
        self._progress.restart()
        self.answer.show_message("Finding the voxels that the result depends on…")
        self.activity.start(
            "explain",
            lambda stop: self._steps(key, scan, config, tuple(chosen), at, stop),
            lambda result: self._on_explained(key, result),
            on_step=self._progress.show_step,
            on_error=self._on_error,
            description=f"Explaining {result.name}",
        )

    def _steps(
        self,
        key: Key,
        scan: Volume,
        config: ExplainConfig,
        chosen: tuple[str, ...],
        at: tuple[int, int, int],
        stop: ShouldStop,
    ) -> Generator[Step, None, _Answer]:
        self._should_stop[:] = [stop]
        if self._prepared is not None and self._prepared[0] == key:
            prepared = self._prepared[1]
        else:
            stop_functions = self._should_stop
            explain_config = with_training_patches(config)
            prepared = yield from prepare_steps(
                scan, explain_config, should_stop=lambda: stop_functions[0]()
            )
        if chosen != _METHODS:
            steps = explain_place_steps(_by(prepared, chosen), at, pore=True)
            return _answer(prepared, (yield from steps))
        explanation = yield from explain_place_steps(prepared, at)
        if explanation.target.kind == "voxel":  # this method applies only to voxels
            steps = explain_place_steps(_by(prepared, ("filter",)), at)
            found = (yield from steps).findings
            findings = {**explanation.findings, **found}
            explanation = replace(explanation, findings=findings)
        return _answer(prepared, explanation)

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            if self.pick_button.isChecked():
                self.answer.show_message("Cancelled. " + _HINT)
            return
        self.answer.show_error(error)

    def _on_explained(self, key: Key, answer: _Answer) -> None:
        explanation = answer.explanation
        self._prepared = key, answer.prepared
        findings = explanation.findings
        more = [findings[n].sentence for n in ("filter", "similar") if n in findings]
        sentence = " ".join([explanation.sentence, *more, *explanation.notes])
        self._say(sentence, "ok" if not explanation.notes else "warning")
        layers = self._layers()
        if layers is None or answer.overlay is None:
            return
        name = f"{layers[1].name} · explanation"
        earlier = None if self._overlay is None else self._overlay()
        if earlier is not None and earlier in self._viewer.layers:
            replace_data(self._viewer, earlier, answer.overlay, like=layers[0])
            earlier.contrast_limits_range = (0.0, answer.top)
            earlier.contrast_limits = (0.0, answer.top)
            earlier.name, earlier.visible = name, True
            return
        active = self._viewer.layers.selection.active
        layer = add_image_result(
            self._viewer,
            answer.overlay,
            None,
            name=name,
            colormap="inferno",
            blending="additive",
            contrast_limits=(0.0, answer.top),
            metadata=helper_metadata("why"),
            **alignment_with(layers[0]),
        )
        self._overlay = weakref.ref(layer)
        self._viewer.layers.selection.active = active


def _answer(prepared: PreparedExplanation, explanation: Explanation) -> _Answer:
    """Return the explanation and the absolute values of one of its maps."""
    overlays = dict(explanation.overlays)
    # Prefer other maps: that of *evidence* covers only the pore and its surroundings.
    name = next((n for n in overlays if n != "evidence"), None)
    if name is None:
        return _Answer(prepared, explanation)
    data = np.abs(np.asarray(overlays[name].data))
    top = float(np.nanmax(data)) or 1.0
    return _Answer(prepared, explanation, overlays[name].replace(data=data), top)


def _by(prepared: PreparedExplanation, names: tuple[str, ...]) -> PreparedExplanation:
    """Return a copy of a prepared explanation that uses other methods."""
    config = prepared.config.model_copy(update={"method": names})
    return replace(prepared, config=config)
