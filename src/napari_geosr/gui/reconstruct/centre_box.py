"""The rotation axis of a scan: found, entered, or moved with a slider."""

from __future__ import annotations

from qtpy.QtCore import QLocale, Qt, Signal
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QSlider,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.gui.kit.fields import AUTOMATIC, DecimalBox
from napari_geosr.gui.kit.widgets import text_label

#: Range of the slider to either side, in columns.
_SLIDER_RANGE = 20
#: Number of slider steps per column.
_STEPS_PER_COLUMN = 10
_TIP = (
    "Detector column of the rotation axis; 0 is the centre of the first column. "
    "Automatic: read from the file, or determined from the projections."
)


class CentreBox(QWidget):
    """Spin box, fine slider around its value, and a button that finds the axis.

    Signals
    -------
    changed
        The user chose another column, or the automatic search.
    findRequested
        The button was pressed.
    """

    changed = Signal()
    findRequested = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._anchor = 0.0
        self._is_setting = False
        self._known: tuple[float, str] | None = None
        self.spin = DecimalBox()
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
        self.slider.setRange(
            -_SLIDER_RANGE * _STEPS_PER_COLUMN, _SLIDER_RANGE * _STEPS_PER_COLUMN
        )
        self.slider.setPageStep(_STEPS_PER_COLUMN)
        self.slider.setAccessibleName("Rotation centre, fine")
        self.slider.setToolTip(
            f"Move the axis by up to {_SLIDER_RANGE} columns; the preview is updated."
        )
        self.known = text_label(
            "Rotation axis source", "How the rotation axis was determined."
        )
        self.slider.setMinimumWidth(40)
        row = QHBoxLayout()  # a slider next to the spin box would be too wide
        row.addWidget(self.slider, 1)
        row.addWidget(self.find_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self.spin)
        column.addLayout(row)
        column.addWidget(self.known)
        self.set_columns(1, None)
        self.spin.valueChanged.connect(self._on_spin)
        self.slider.valueChanged.connect(self._on_slider)
        self.find_button.clicked.connect(self.findRequested)

    def set_columns(self, n_columns: int, stored: float | None) -> None:
        """Adapt to a scan's number of columns and the axis `stored` in its file."""
        self._is_setting = True
        # The range is wider than the detector because the axis may lie outside it.
        self.spin.setRange(-float(n_columns), 2.0 * n_columns)
        self.spin.setValue(self.spin.minimum())
        self._is_setting = False
        self._known = None
        if stored is None:
            self._anchor_at((n_columns - 1) / 2)
            self._show_known()
        else:
            self.set_known(stored, "from the file")

    def value(self) -> float | None:
        """Return the chosen column; None to find it automatically."""
        automatic = self.spin.value() == self.spin.minimum()
        return None if automatic else round(float(self.spin.value()), 2)

    def set_value(self, column: float | None) -> None:
        """Choose a column; None to find it automatically."""
        self.spin.setValue(self.spin.minimum() if column is None else column)

    def set_known(self, column: float, source: str) -> None:
        """Show the known axis and its source, without choosing it."""
        self._known = column, source
        self._show_known()
        if self.value() is None:
            self._anchor_at(column)

    def _show_known(self) -> None:
        """Show the entered column and the known one."""
        given, known = self.value(), self._known
        if known is not None and given in (None, round(known[0], 2)):
            self.known.setText(f"Column {known[0]:.2f}, {known[1]}.")
        elif given is None:
            self.known.setText("Not known yet. It will be determined when needed.")
        elif known is None:
            self.known.setText(f"Column {given:.2f}, set manually.")
        else:
            before = f"column {known[0]:.2f}, {known[1]}"
            self.known.setText(f"Column {given:.2f}, set manually ({before}).")

    def _anchor_at(self, column: float) -> None:
        self._anchor = column
        self._show_on_slider(column)

    def _show_on_slider(self, column: float) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round((column - self._anchor) * _STEPS_PER_COLUMN))
        self.slider.blockSignals(False)

    def _on_spin(self, _value: float) -> None:
        column = self.value()
        if column is not None and abs(column - self._anchor) > _SLIDER_RANGE:
            self._anchor = column
        if column is not None:
            self._show_on_slider(column)
        self._show_known()
        if not self._is_setting:
            self.changed.emit()

    def _on_slider(self, position: int) -> None:
        self.spin.setValue(self._anchor + position / _STEPS_PER_COLUMN)
