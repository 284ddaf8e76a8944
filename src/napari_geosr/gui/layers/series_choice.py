"""The choice between all points of a series and the one on screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QSizePolicy, QWidget

from napari_geosr.core.errors import VolumeError
from napari_geosr.gui.layers.place import geometry_of_layer

if TYPE_CHECKING:
    from napari.layers import Layer

_ALL = {
    "T": "All time points",
    "C": "All channels",
    "TC": "All time points and channels",
}
_ONE = "The one on screen"


class SeriesChoice(QComboBox):
    """Whether all time points and channels of a layer are restored; hidden if single.

    Attributes
    ----------
    label : QLabel
        Its title, shown and hidden with it.

    Signals
    -------
    changed
        A person changed it.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.addItem(_ALL["TC"], True)
        self.addItem(_ONE, False)
        self.setAccessibleName("Time points and channels")
        self.setToolTip(
            "Restore the whole series in one run, or only the time point and channel "
            "on screen. The preview shows what is on screen. Grey values "
            "are standardised by each channel over all time points of the series, or "
            "by the one on screen."
        )
        self.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.label = QLabel("Ex&tent")
        self.label.setBuddy(self)
        self.label.setToolTip(self.toolTip())
        self.label.setAccessibleName("Label of the time points and channels")
        self.activated.connect(lambda _index: self.changed.emit())
        self.set_layer(None)

    def set_layer(self, layer: Layer | None) -> None:
        """Show the choice where the layer has axes of time or channels."""
        found = "" if layer is None else point_axes(layer)
        self._axes = found
        self.setVisible(bool(found))
        self.label.setVisible(bool(found))
        self.setItemText(0, _ALL.get(found, _ALL["TC"]))

    def is_series(self) -> bool:
        """Whether the layer has axes of time or channels."""
        return bool(self._axes)

    def wants_all(self) -> bool:
        """Whether all points are restored, where there are several."""
        return bool(self.currentData())


def point_axes(layer: Layer) -> str:
    """Which of T and C a layer has; "" if its axes cannot be understood."""
    try:
        axes = geometry_of_layer(layer).axes
    except VolumeError:
        return ""
    return "".join(letter for letter in "TC" if letter in axes)
