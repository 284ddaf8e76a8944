"""Menu of the extent of a run, and slider for the strength."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSizePolicy, QSlider, QWidget

from napari_geosr.core.errors import VolumeError
from napari_geosr.gui.layers.geometry import geometry_of_layer
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.restore import RestoreConfig

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_geosr.operations.models.catalogue import ModelCard

_ALL = {
    "T": "All time points",
    "C": "All channels",
    "TC": "All time points and channels",
}
_ONE = "Only the current one"
#: Number of slider positions per unit of strength.
_STEPS = 20


class SeriesChoice(QComboBox):
    """Choice of one or all time points and channels; hidden if the layer has neither.

    Attributes
    ----------
    label : QLabel
        Title of the menu, shown and hidden with it.

    Signals
    -------
    changed
        The user changed the choice.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.addItem(_ALL["TC"], True)
        self.addItem(_ONE, False)
        self.setAccessibleName("Time points and channels")
        self.setToolTip(
            "Restore the whole series in one run, or only the current time point and "
            "channel. The preview shows the current time point and channel. Grey "
            "values are standardised per channel, over all time points or only over "
            "the current one."
        )
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.label = QLabel("Ex&tent")
        self.label.setBuddy(self)
        self.label.setToolTip(self.toolTip())
        self.label.setAccessibleName("Extent")
        self.activated.connect(lambda _index: self.changed.emit())
        self.set_layer(None)

    def set_layer(self, layer: Layer | None) -> None:
        """Show the choice if the layer has time or channel axes."""
        axes = "" if layer is None else point_axes(layer)
        self._axes = axes
        self.setVisible(bool(axes))
        self.label.setVisible(bool(axes))
        self.setItemText(0, _ALL.get(axes, _ALL["TC"]))

    def is_series(self) -> bool:
        """Whether the layer has time or channel axes."""
        return bool(self._axes)

    def wants_all(self) -> bool:
        """Whether all time points and channels of a series are to be restored."""
        return self.is_series() and bool(self.currentData())


def point_axes(layer: Layer) -> str:
    """Return the layer's axes among T and C; empty if its axes are not known."""
    try:
        axes = geometry_of_layer(layer).axes
    except VolumeError:
        return ""
    return "".join(letter for letter in "TC" if letter in axes)


#: Tool tip of a strength that was found for the scan.
_PROPOSED = (
    "Strength proposed for this scan: at strength 1, the model would change the number "
    "of pores or let small structures fade."
)


class StrengthSlider(QWidget):
    """Edits `strength` of `RestoreConfig`, for filters and noise-bounded models.

    Signals
    -------
    changed
        The user moved the slider, or another strength was proposed.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        field = RestoreConfig.model_fields["strength"]
        self._is_offered = False
        self._proposed, self._is_user_choice = 1.0, False
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, 2 * _STEPS)
        self.slider.setValue(_STEPS)
        self.slider.setPageStep(_STEPS // 4)
        self.slider.setTickInterval(_STEPS)
        self.slider.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.slider.setAccessibleName("Strength")
        self.slider.setToolTip(field.description or "Strength")
        self.value_label = QLabel()
        self.value_label.setAccessibleName("Strength value")
        self.value_label.setToolTip(self.slider.toolTip())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.slider, 1)
        row.addWidget(self.value_label)
        self.slider.valueChanged.connect(self._on_moved)
        self._show_value()

    def value(self) -> float:
        """Return the strength; 1 if the model has no such setting."""
        return self.slider.value() / _STEPS if self._is_offered else 1.0

    def set_value(self, strength: float) -> None:
        """Show a strength that the user has not chosen, such as the default."""
        self._proposed, self._is_user_choice = strength, False
        with QSignalBlocker(self.slider):
            self.slider.setValue(round(strength * _STEPS))
        self._show_value()

    def propose(self, strength: float) -> None:
        """Show the strength found for a scan, unless the user has chosen one."""
        self._proposed = strength
        if not self._is_user_choice and self.slider.value() != round(strength * _STEPS):
            self.set_value(strength)
            self.changed.emit()

    def set_user_choice(self, by_hand: bool) -> None:
        """Set whether the user chose the strength; if so, no proposal replaces it."""
        self._is_user_choice = by_hand
        if by_hand:
            self._show_value()

    def set_card(self, card: ModelCard | None) -> None:
        """Enable the slider for noise-bounded models and filters."""
        self._is_offered = card is not None and catalogue.has_strength(card)
        self.setEnabled(self._is_offered)
        self._show_value()

    @property
    def is_offered(self) -> bool:
        """Whether the chosen model has a strength setting."""
        return self._is_offered

    def _on_moved(self, _value: int) -> None:
        self._is_user_choice = True
        self._show_value()
        self.changed.emit()

    def _show_value(self) -> None:
        is_proposed = self._proposed != 1 and not self._is_user_choice
        text = f"{self.slider.value() / _STEPS:.2f}"
        self.value_label.setText(f"{text} (proposed)" if is_proposed else text)
        self.value_label.setToolTip(_PROPOSED if is_proposed else self.slider.toolTip())
