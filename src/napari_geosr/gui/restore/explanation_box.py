"""Explains a clicked part of the result by a sentence and a layer."""

from __future__ import annotations

import weakref
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.core.types import AnyMapping
from napari_geosr.gui.kit.activity import Activity, Key
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.kit.progress import OperationProgress
from napari_geosr.gui.kit.widgets import button
from napari_geosr.gui.layers import (
    METADATA,
    add_image_result,
    alignment_with,
    helper_metadata,
    provenance_of,
    volume_from_layer,
)
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.layers.position import click_callback, indices_at
from napari_geosr.operations.explain import (
    ExplainConfig,
    Explanation,
    PreparedExplanation,
    explain_place_steps,
    prepare_steps,
    with_training_patches,
)

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image, Layer

    from napari_geosr.core.volume import Volume

#: Explanation methods to run, and names of the maps, the preferred one first.
_METHODS = ("evidence", "reach")
_SHOWN = ("reach", "occlusion", "lam", "filter")
_HINT = "Click on a pore or a voxel of the result."
#: Settings of the run that its explanation must share.
_REPEATED = ("device", "nonfinite", "strength", "sharpness")


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
        self._overlay: weakref.ref[Layer] | None = None
        self._prepared: tuple[Key, PreparedExplanation] | None = None
        #: Stop function of the latest run, which the prepared network calls.
        self._should_stop: list[ShouldStop] = []
        self.pick_button = button(
            "Explain pore or voxel",
            "Click on a pore or voxel of the result to see which voxels of the scan "
            "it comes from, and whether the scan supports it.",
            "Alt+Shift+G",
        )
        self.pick_button.setCheckable(True)
        self.answer = MessageRow(shortcut="Alt+Shift+Q")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.pick_button)
        column.addWidget(self.answer)
        self.activity = Activity(self)
        self._progress = OperationProgress(
            self.answer.show_message,
            show_warning=lambda text: self.answer.show_message(text, "warning"),
        )
        self.activity.failed.connect(self._on_error)
        self.pick_button.toggled.connect(self._on_toggled)
        self._connections = Connections(self)
        self._connections.add_to(
            viewer, "mouse_drag_callbacks", click_callback(weakref.ref(self))
        )
        self.setVisible(False)

    def set_pair(self, source: Image | None, result: Layer | None) -> None:
        """Offer to explain `result`, made from `source`; None disables it.

        Only results of a single network can be explained, not those of filters.
        """
        self.pick_button.setChecked(False)
        self._prepared = None
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
        """Settings of the run that produced the result, from its provenance record."""
        layers = self._layers()
        records = () if layers is None else provenance_of(layers[1])
        if not records or records[-1].get("operation") != "restore":
            return None
        record: AnyMapping = records[-1]
        used = record.get("settings") or {}
        model = used.get("model")
        if model in (None, "auto"):
            model = (record.get("model") or {}).get("name")
        if model is None:
            return None
        repeated = {name: used[name] for name in _REPEATED if name in used}
        try:
            return ExplainConfig.create(model=model, method=_METHODS, **repeated)
        except GeoSRError:
            return None

    def _on_toggled(self, checked: bool) -> None:
        if checked:
            self.answer.show_message(_HINT)
            return
        if self.activity.busy:
            self.activity.cancel()
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
        source, result = layers
        index = indices_at(self._viewer, result, position)  # type: ignore[arg-type]
        n = len(geometry_of_layer(result).voxel_size)
        at = tuple(int(x) for x in np.floor(index[-n:] + 0.5))
        shape = result.data.shape[-n:]
        if not all(0 <= i < length for i, length in zip(at, shape, strict=True)):
            self.answer.show_message("This position is outside the result. " + _HINT)
            return
        config = self._settings()
        if config is None:
            return
        try:
            point = result.metadata.get(METADATA, {}).get("position")
            scan = volume_from_layer(source, self._viewer, point)
        except GeoSRError as error:
            self.answer.show_error(error)
            return
        key: Key = (id(source), id(source.data), id(result), config.model_dump_json())
        z, y, x = (0,) * (3 - n) + at
        self.answer.show_message("Finding the voxels that it depends on…")
        self.activity.start(
            "explain",
            lambda stop: self._steps(key, scan, config, (z, y, x), stop),
            lambda result: self._on_explained(key, result),
            on_step=self._progress.show_step,
            description=f"Explaining {result.name}",
        )

    def _steps(
        self,
        key: Key,
        scan: Volume,
        config: ExplainConfig,
        at: tuple[int, int, int],
        stop: ShouldStop,
    ) -> Generator[Step, None, tuple[PreparedExplanation, Explanation]]:
        self._should_stop[:] = [stop]
        if self._prepared is not None and self._prepared[0] == key:
            prepared = self._prepared[1]
        else:
            stop_functions = self._should_stop
            explain_config = with_training_patches(config)
            prepared = yield from prepare_steps(
                scan, explain_config, should_stop=lambda: stop_functions[0]()
            )
        explanation = yield from explain_place_steps(prepared, at)
        if explanation.target.kind == "voxel":  # over a pore, it has no width
            method = {"method": ("filter",)}
            changed = prepared.config.model_copy(update=method)
            steps = explain_place_steps(replace(prepared, config=changed), at)
            found = (yield from steps).findings
            findings = {**explanation.findings, **found}
            explanation = replace(explanation, findings=findings)
        return prepared, explanation

    def _on_error(self, error: Exception) -> None:
        if isinstance(error, Cancelled):
            return
        self.answer.show_error(error)

    def _on_explained(
        self, key: Key, result: tuple[PreparedExplanation, Explanation]
    ) -> None:
        prepared, explanation = result
        self._prepared = key, prepared
        findings = explanation.findings
        more = [findings[n].sentence for n in ("filter", "similar") if n in findings]
        sentence = " ".join([explanation.sentence, *more, *explanation.notes])
        self.answer.show_message(sentence, "ok" if not explanation.notes else "warning")
        layers = self._layers()
        names = [name for name in _SHOWN if name in explanation.overlays]
        if layers is None or not names:
            return
        overlay = explanation.overlays[names[0]]
        earlier = None if self._overlay is None else self._overlay()
        if earlier is not None and earlier in self._viewer.layers:
            self._viewer.layers.remove(earlier)
        active = self._viewer.layers.selection.active
        data = np.asarray(overlay.data)
        top = float(np.nanmax(np.abs(data))) or 1.0
        layer = add_image_result(
            self._viewer,
            overlay.replace(data=np.abs(data)),
            None,
            name=f"{layers[1].name} · why",
            colormap="inferno",
            blending="additive",
            contrast_limits=(0.0, top),
            metadata=helper_metadata("why"),
            **alignment_with(layers[0]),
        )
        self._overlay = weakref.ref(layer)
        self._viewer.layers.selection.active = active
