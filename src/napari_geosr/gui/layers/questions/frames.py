"""The row that asks whether a layer's planes are slices or frames."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.questions import UNNAMED_AXIS, TimeSeriesQuestion
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.gui.kit.lifetime import Connections
from napari_geosr.gui.kit.worker import BackgroundTask
from napari_geosr.gui.layers import finest, volume_from_layer
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.gui.layers.questions.record import convert_to_frames, record_slices
from napari_geosr.operations.inputs.scan import frames_question

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_geosr.core.volume import Volume


class FramesRow(QWidget):
    """Asks what the first axis of a layer is; hidden unless it looks like time.

    A few planes are compared in a worker. The layer remembers the answer.

    Parameters
    ----------
    keys : (str, str), optional
        Shortcuts of its buttons, if a dock has several rows.

    Signals
    -------
    answered : object
        The layer, after the user has stated in any dock what its planes are.
    asked
        The question is now shown.
    """

    answered = Signal(object)
    asked = Signal()

    def __init__(
        self,
        parent: QWidget | None = None,
        *,
        keys: tuple[str, str] = ("Alt+Shift+T", "Alt+Shift+S"),
    ) -> None:
        super().__init__(parent)
        self._connections = Connections(self)
        self._layer: weakref.ref[Layer] | None = None
        self._check: BackgroundTask | None = None
        self.question = QLabel()
        self.question.setWordWrap(True)
        self.question.setAccessibleName("Are the planes slices or frames?")
        self.frames_button = QPushButton("Time series")
        self.frames_button.setToolTip(
            "The planes are frames: each is a separate image, recorded at a different "
            f"time ({keys[0]})."
        )
        self.slices_button = QPushButton("Slices")
        self.slices_button.setToolTip(
            f"The planes are slices (Z) of one volume ({keys[1]})."
        )
        for button, key in zip(
            (self.frames_button, self.slices_button), keys, strict=True
        ):
            button.setShortcut(key)
        for button in (self.frames_button, self.slices_button):
            button.setAccessibleName(button.text())
        self.frames_button.clicked.connect(lambda: self._answer(convert_to_frames))
        self.slices_button.clicked.connect(lambda: self._answer(record_slices))
        buttons = QHBoxLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(self.frames_button, 1)
        buttons.addWidget(self.slices_button, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.question)
        layout.addLayout(buttons)
        self.setVisible(False)

    @property
    def is_checking(self) -> bool:
        """Whether the planes of the layer are being compared."""
        return self._check is not None

    def set_layer(self, layer: Layer | None) -> None:
        """Check whether the slices of `layer` may be frames; ask, or hide the row."""
        self._connections.end()  # events of the previous layer
        self._layer = None
        self._stop_check()
        self.setVisible(False)
        if layer is None:
            return
        self._layer = weakref.ref(layer)
        for event in (layer.events.axis_labels, layer.events.metadata):
            self._connections.connect(event, self._on_answered)
        try:
            volume = volume_from_layer(layer, position={})
        except GeoSRError:
            return  # already a time series, or not usable in a dock
        if UNNAMED_AXIS not in volume.metadata:
            return
        self._check = BackgroundTask(
            lambda _should_stop: _frames_question_steps(volume),
            owner=self,
            on_result=self._on_verdict,
            # Unreadable planes are reported by the dock that uses them.
            on_error=lambda _error: None,
            on_finished=self._stop_check,
        )

    def _stop_check(self) -> None:
        if self._check is not None:
            self._check.detach()
            self._check = None

    def _on_verdict(self, question: TimeSeriesQuestion | None) -> None:
        if question is None:
            return
        verb = "look like" if question.certain else "may be"
        text = f"The {question.n_planes} planes {verb} frames of a time series."
        self._ask(text, f"{text} Reason: {question.reason}.")

    def ask_anyway(self, layer: Layer) -> None:
        """Ask on request, even if the planes look like slices."""
        self.set_layer(layer)
        self._stop_check()
        self._layer = weakref.ref(layer)
        n = finest(layer).shape[geometry_of_layer(layer).axes.index("Z")]
        text = f"The file does not specify what its {n} planes are."
        self._ask(text, text)

    def _ask(self, text: str, tool_tip: str) -> None:
        self.question.setText(f"{text} They are:")
        self.question.setToolTip(tool_tip)
        self.setVisible(True)
        self.asked.emit()

    def _answer(self, call: Callable[[Layer], None]) -> None:
        layer = None if self._layer is None else self._layer()
        if layer is None:
            return
        call(layer)
        self._on_answered()

    def _on_answered(self, _event: object = None) -> None:
        """Hide the question once it has been answered.

        The answer may come from this dock, another dock or a script.
        """
        layer = None if self._layer is None else self._layer()
        if layer is None or self.isHidden():
            return
        if UNNAMED_AXIS not in _metadata(layer):
            self.setVisible(False)
            self.answered.emit(layer)


def _metadata(layer: Layer) -> dict[str, object]:
    try:
        return dict(volume_from_layer(layer, position={}).metadata)
    except GeoSRError:
        return {}


def _frames_question_steps(
    volume: Volume,
) -> Generator[Step, None, TimeSeriesQuestion | None]:
    yield StageStarted(message="Comparing planes")
    return frames_question(volume)
