"""The rotation axis of a scan: found, typed, or moved with a slider."""

from __future__ import annotations

from qtpy.QtCore import QLocale, Qt, Signal
from qtpy.QtWidgets import (
    QDoubleSpinBox,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.kit.form import AUTOMATIC
from napari_geosr.gui.kit.widgets import text_label

#: Range of the slider in columns to either side, and its steps per column.
_REACH, _STEPS = 20, 10
_TIP = (
    "Detector column of the rotation axis; 0 is the middle of the first column. "
    "Automatic: taken from the file, or found from the projections."
)


class CentreBox(QWidget):
    """A spin box, a fine slider around its value, and a button that finds the axis.

    Signals
    -------
    changed
        The user chose another column, or automatic search.
    findAsked
        The button was pressed.
    """

    changed = Signal()
    findAsked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._anchor = 0.0
        self._is_setting = False
        self._found: tuple[float, str] | None = None
        self.spin = QDoubleSpinBox()
        self.spin.setLocale(QLocale(QLocale.Language.C))
        self.spin.setDecimals(2)
        self.spin.setSingleStep(0.5)
        self.spin.setSpecialValueText(AUTOMATIC)
        self.spin.setKeyboardTracking(False)
        self.spin.setAccessibleName("Rotation centre")
        self.spin.setToolTip(_TIP)
        for inner in self.spin.findChildren(QLineEdit):
            inner.setAccessibleName("Rotation centre")
            inner.setToolTip(_TIP)
        self.spin.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.find_button = QPushButton("Fi&nd")
        self.find_button.setAccessibleName("Find the rotation centre")
        self.find_button.setToolTip("Find the rotation axis from the projections.")
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(-_REACH * _STEPS, _REACH * _STEPS)
        self.slider.setPageStep(_STEPS)
        self.slider.setAccessibleName("Rotation centre, fine")
        self.slider.setToolTip(
            f"Move the axis by up to {_REACH} columns; the preview follows."
        )
        self.known = text_label(
            "Source of the rotation axis", "Where the rotation axis comes from."
        )
        row = QHBoxLayout()
        row.addWidget(self.spin, 1)
        row.addWidget(self.find_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addLayout(row)
        column.addWidget(self.slider)
        column.addWidget(self.known)
        self.set_columns(1, None)
        self.spin.valueChanged.connect(self._on_spin)
        self.slider.valueChanged.connect(self._on_slider)
        self.find_button.clicked.connect(self.findAsked)

    def set_columns(self, n_columns: int, stored: float | None) -> None:
        """Show another scan, whose file may say where the axis is."""
        self._is_setting = True
        # Wider than the detector: the axis may lie beside it.
        self.spin.setRange(-float(n_columns), 2.0 * n_columns)
        self.spin.setValue(self.spin.minimum())
        self._is_setting = False
        self._found = None
        if stored is None:
            self._anchor_at((n_columns - 1) / 2)
            self._say()
        else:
            self.set_known(stored, "as the file says")

    def value(self) -> float | None:
        """Return the column chosen; None to have it found."""
        automatic = self.spin.value() == self.spin.minimum()
        return None if automatic else round(float(self.spin.value()), 2)

    def set_value(self, column: float | None) -> None:
        """Choose a column, or to have it found."""
        self.spin.setValue(self.spin.minimum() if column is None else column)

    def set_known(self, column: float, how: str) -> None:
        """Show where the axis is, without choosing it."""
        self._found = column, how
        self._say()
        if self.value() is None:
            self._anchor_at(column)

    def _say(self) -> None:
        """What is known: the column given, and what else was found."""
        given, found = self.value(), self._found
        if found is not None and given in (None, round(found[0], 2)):
            self.known.setText(f"Column {found[0]:.2f}, {found[1]}.")
        elif given is None:
            self.known.setText("Not known yet. It is found when needed.")
        elif found is None:
            self.known.setText(f"Column {given:.2f}, as given here.")
        else:
            before = f"column {found[0]:.2f}, {found[1]}"
            self.known.setText(f"Column {given:.2f}, as given here ({before}).")

    def _anchor_at(self, column: float) -> None:
        self._anchor = column
        self._show_on_slider(column)

    def _show_on_slider(self, column: float) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round((column - self._anchor) * _STEPS))
        self.slider.blockSignals(False)

    def _on_spin(self, _value: float) -> None:
        column = self.value()
        if column is not None and abs(column - self._anchor) > _REACH:
            self._anchor = column
        if column is not None:
            self._show_on_slider(column)
        self._say()
        if not self._is_setting:
            self.changed.emit()

    def _on_slider(self, position: int) -> None:
        self.spin.setValue(self._anchor + position / _STEPS)
