"""A choice of algorithm with the settings of the one chosen."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.gui.kit.form import ConfigForm
from napari_geosr.gui.kit.widgets import add_row, combo, form_layout
from napari_geosr.operations.reconstruct.config import (
    SHARED_SETTINGS,
    ReconstructConfig,
    algorithms_for,
    settings_of,
)


class AlgorithmBox(QWidget):
    """Lists the algorithms that can use a beam; keeps what was set for each.

    Signals
    -------
    changed
        Another algorithm was chosen, or a setting of it.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.combo = combo(
            "Algorithm",
            "FBP is quick; SIRT, CGLS and TV iterate, and do better with few "
            "projections.",
        )
        self.form: ConfigForm | None = None
        self._values: dict[str, AnyDict] = {}
        self._shown = ""
        row = form_layout()
        add_row(row, "&Algorithm", self.combo)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addLayout(row)
        self.set_beam("parallel")
        self.combo.currentIndexChanged.connect(self._on_chosen)

    def algorithm(self) -> str:
        """Return the name of the algorithm chosen."""
        return str(self.combo.currentData())

    def set_beam(self, beam: str) -> None:
        """List what can reconstruct a parallel, fan or cone beam."""
        before = self.combo.currentData()
        titles = algorithms_for(beam)
        names = list(titles)
        self.combo.blockSignals(True)
        self.combo.clear()
        for name in names:
            self.combo.addItem(titles[name], name)
        self.combo.setCurrentIndex(names.index(before) if before in names else 0)
        self.combo.blockSignals(False)
        self._show()

    def set_config(self, config: ReconstructConfig) -> None:
        """Show the algorithm of `config`, if it is listed, and its settings."""
        self._values[config.algorithm] = config.algorithm_config().model_dump()
        index = self.combo.findData(config.algorithm)
        if index == self.combo.currentIndex():
            self._shown = ""  # with the values of before
            self._show()
        elif index >= 0:
            self.combo.setCurrentIndex(index)

    def values(self) -> AnyDict:
        """Return fields of `ReconstructConfig`: what was changed from the default."""
        name = self.algorithm()
        kind = settings_of(name)
        assert self.form is not None
        given = self.form.values()
        defaults: AnyMapping = kind().model_dump()
        changed = {k: v for k, v in given.items() if v != defaults[k]}
        found: AnyDict = {"algorithm": name}
        found |= {k: v for k, v in changed.items() if k in SHARED_SETTINGS}
        options = {k: v for k, v in changed.items() if k not in SHARED_SETTINGS}
        return found | {"options": options}

    def _on_chosen(self, _index: int) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        name = self.algorithm()
        if name == self._shown:
            return
        if self.form is not None:
            if self._shown:
                self._values[self._shown] = self.form.values()
            self._column.removeWidget(self.form)
            self.form.hide()
            self.form.deleteLater()
        self.form = ConfigForm(settings_of(name))
        self.form.set_values(self._values.get(name, {}))
        self.form.changed.connect(self.changed)
        self._column.addWidget(self.form)
        self._shown = name
