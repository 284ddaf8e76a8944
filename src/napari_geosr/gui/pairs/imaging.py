"""How a coarse scan is made: the kind of imaging, and its settings."""

from __future__ import annotations

from typing import Any, get_origin

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.labelled import add_row, combo, form_layout
from napari_geosr.operations.pairs.config import imaging_class, imaging_titles


class ImagingBox(QWidget):
    """Lists the kinds of imaging; keeps what was set for each.

    Signals
    -------
    changed
        Another kind was chosen, or a setting of it.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.combo = combo("Imaging", "What the low-resolution scan is taken with.")
        for name, title in imaging_titles().items():
            self.combo.addItem(title, name)
        self.form: ConfigForm | None = None
        self._values: dict[str, dict[str, Any]] = {}
        self._shown = ""
        row = form_layout()
        add_row(row, "&Imaging", self.combo)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addLayout(row)
        self._show()
        self.combo.currentIndexChanged.connect(self._on_chosen)

    def kind(self) -> str:
        """Return the kind chosen."""
        return str(self.combo.currentData())

    def options(self) -> dict[str, Any]:
        """Return what was changed from the default: the rest may be measured."""
        assert self.form is not None
        defaults = imaging_class(self.kind())().model_dump()
        given = self.form.values()
        return {k: v for k, v in given.items() if v != defaults[k]}

    def set_kind(self, kind: str, options: dict[str, Any]) -> None:
        """Show a kind, if it is listed, with settings."""
        index = self.combo.findData(kind)
        if index < 0:
            return
        self.combo.setCurrentIndex(index)
        assert self.form is not None
        self.form.set_values(options)

    def _on_chosen(self, _index: int) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        name = self.kind()
        if self.form is not None:
            self._values[self._shown] = self.form.values()
            self._column.removeWidget(self.form)
            self.form.hide()
            self.form.deleteLater()
        kind = imaging_class(name)
        lists = [
            field
            for field, known in kind.model_fields.items()
            if get_origin(known.annotation) is tuple
        ]
        self.form = ConfigForm(kind, skip=lists)
        self.form.set_values(self._values.get(name, {}))
        self.form.changed.connect(self.changed)
        self._column.addWidget(self.form)
        self._shown = name
