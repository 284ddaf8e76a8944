"""How much of the measured noise is removed: a slider from 0 to 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from napari_geosr.operations.restore import RestoreConfig

if TYPE_CHECKING:
    from napari_geosr.models.card import ModelCard

#: Positions of the slider per unit of strength.
_STEPS = 20


class StrengthSlider(QWidget):
    """The field `strength` of `RestoreConfig`, for models that go by the noise.

    Signals
    -------
    changed
        A person moved the slider.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        field = RestoreConfig.model_fields["strength"]
        self._is_offered = False
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 2 * _STEPS)
        self.slider.setValue(_STEPS)
        self.slider.setPageStep(_STEPS // 4)
        self.slider.setTickInterval(_STEPS)
        self.slider.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.slider.setAccessibleName("Strength")
        self.slider.setToolTip(field.description or "Strength")
        self.value_label = QLabel()
        self.value_label.setAccessibleName("Strength as a number")
        self.value_label.setToolTip(self.slider.toolTip())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.value_label)
        self.slider.valueChanged.connect(self._on_moved)
        self._show_value()

    def value(self) -> float:
        """Return the strength; 1 where the model cannot be told any."""
        return self.slider.value() / _STEPS if self._is_offered else 1.0

    def set_value(self, strength: float) -> None:
        """Show a strength."""
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(strength * _STEPS))
        self._show_value()

    def set_card(self, card: ModelCard | None) -> None:
        """Offer it for models that are bounded by the noise, and for filters."""
        self._is_offered = card is not None and (
            card.noise_bound is not None or not card.has_weights
        )
        self.setEnabled(self._is_offered)
        self._show_value()

    @property
    def is_offered(self) -> bool:
        """Whether the chosen model can be told a strength."""
        return self._is_offered

    def _on_moved(self, _value: int) -> None:
        self._show_value()
        self.changed.emit()

    def _show_value(self) -> None:
        self.value_label.setText(f"{self.slider.value() / _STEPS:.2f}")
