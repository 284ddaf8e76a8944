"""Check boxes for the morphometric statistics, and the group of pores."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_geosr.gui.kit.placeholder import show_placeholder
from napari_geosr.gui.kit.widgets import Section
from napari_geosr.operations.measure import MeasureConfig, morphometry_choices

#: Settings of a measurement that have separate widgets.
SHOWN_ELSEWHERE = (
    "threshold",
    "sample_mask",
    "mask_closing",
    "histogram_bins",
    "interval_factor",
    "statistics",
    "bands",
    "group",
)


class MorphometryBox(QWidget):
    """One check box per registered statistic, and an expression for a group.

    Signals
    -------
    changed
        A statistic was chosen, or the group was edited.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        self.boxes: dict[str, QCheckBox] = {}
        for name, (title, about) in morphometry_choices().items():
            box = QCheckBox(title)
            box.setToolTip(about)
            box.setAccessibleName(title)
            box.toggled.connect(self._on_chosen)
            layout.addWidget(box)
            self.boxes[name] = box
        self.bands = QCheckBox("Bands")
        self.bands.setToolTip(MeasureConfig.model_fields["bands"].description or "")
        self.bands.setAccessibleName("Bands")
        self.bands.toggled.connect(self.changed)
        self.bands.setEnabled(False)
        layout.addWidget(self.bands)
        label = QLabel("Group of pores")
        self.group = QLineEdit()
        show_placeholder(self.group, "diameter>20um & sphericity<0.6")
        self.group.setToolTip(
            "Pores to count as a group, selected by conditions on columns of the pore "
            "table; combine conditions with & (and), | (or) and ! (not)."
        )
        self.group.setAccessibleName("Group of pores")
        label.setBuddy(self.group)
        self.group.editingFinished.connect(self.changed)
        layout.addWidget(label)
        layout.addWidget(self.group)
        self.section = Section(
            "Morphometr&y",
            self,
            tool_tip="Standard statistics of bone, rocks and defects, and groups of "
            "pores.",
        )

    def _chosen(self) -> tuple[str, ...]:
        """Return the names of the chosen statistics."""
        return tuple(name for name, box in self.boxes.items() if box.isChecked())

    def _on_chosen(self) -> None:
        """Offer bands only if there are statistics to which they can belong."""
        self.bands.setEnabled(bool(self._chosen()))
        self.changed.emit()

    def values(self) -> dict[str, object]:
        """Return the settings `statistics`, `bands` and `group`."""
        chosen = self._chosen()
        return {
            "statistics": chosen,
            "bands": bool(chosen) and self.bands.isChecked(),
            "group": self.group.text().strip() or None,
        }

    def set_values(self, config: MeasureConfig) -> None:
        """Show the settings of a measurement."""
        for name, box in self.boxes.items():
            box.setChecked(name in config.statistics)
        self.bands.setChecked(config.bands)
        self.group.setText(config.group or "")
