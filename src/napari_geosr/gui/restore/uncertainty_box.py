"""Choice of the uncertainty: none, flips and rotations, several models, or samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QKeySequence
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QShortcut,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.types import AnyDict
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.restore.config import NONE, are_compatible, kinds

if TYPE_CHECKING:
    from napari_geosr.operations.models.catalogue import ModelCard
    from napari_geosr.operations.restore import RestoreConfig

#: Largest number of members, as in the settings; a kind of uncertainty may allow fewer.
_MAX_MEMBERS = 64
#: Maximum height of the list of models, in rows.
_MAX_ROWS = 3


class UncertaintyBox(QWidget):
    """Chooses whether and how a run estimates its uncertainty.

    Signals
    -------
    changed
        The user changed a setting.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._kinds = {kind.name: kind for kind in kinds()}
        self._known: dict[str, ModelCard] = {}
        self._has_listed = False
        self._checked_names: set[str] = set()
        self._card: ModelCard | None = None
        self.combo = QComboBox()
        self.combo.addItem("none", NONE)
        for kind in self._kinds.values():
            self.combo.addItem(kind.title, kind.name)
            last = self.combo.count() - 1
            self.combo.setItemData(last, kind.help, Qt.ItemDataRole.ToolTipRole)
        self.combo.setAccessibleName("Uncertainty")
        self.combo.setToolTip(
            "Restore several times and add a layer with the standard deviation of "
            "each voxel (Alt+Shift+U). It shows how much the results vary, not how "
            "correct they are."
        )
        self.combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.combo.setMinimumContentsLength(6)
        self.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.members = QSpinBox()
        self.members.setRange(1, _MAX_MEMBERS)
        self.members.setSpecialValueText("automatic")
        self.members.setSuffix(" members")
        self.members.setKeyboardTracking(False)
        self.members.setAccessibleName("Members")
        self.members.setToolTip(
            "Number of mirrored and rotated copies, or of samples of a diffusion "
            "model, each of which takes as long as one run. Automatic: 8, or fewer if "
            "the model or the voxel size does not allow 8."
        )
        entry = self.members.lineEdit()
        entry.setAccessibleName(self.members.accessibleName())
        entry.setToolTip(self.members.toolTip())
        self.others = QListWidget()
        self.others.setAccessibleName("Ensemble with")
        self.others.setToolTip(
            "Additional models. The result is the mean over all models; the standard "
            "deviation shows where they differ."
        )
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.combo, 1)
        row.addWidget(self.members, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row)
        layout.addWidget(self.others)
        shortcut = QShortcut(QKeySequence("Alt+Shift+U"), self)
        shortcut.activated.connect(self.combo.setFocus)
        self.combo.currentIndexChanged.connect(self._on_kind)
        self.members.valueChanged.connect(lambda _: self.changed.emit())
        self.others.itemChanged.connect(self._on_checked)
        self._show_kind()

    def values(self) -> AnyDict:
        """Return the fields of `RestoreConfig` that are set here."""
        kind, needs_others = self.combo.currentData(), self._needs_others()
        n = self.members.value() if kind != NONE and not needs_others else 1
        return {
            "uncertainty": kind,
            "uncertainty_members": n if n > 1 else None,
            "ensemble_with": tuple(self._chosen()) if needs_others else (),
        }

    def set_values(self, config: RestoreConfig) -> None:
        """Show the values of `config`."""
        self._checked_names = set(config.ensemble_with)
        for name in config.ensemble_with:
            if name not in self._known:
                self._known[name] = catalogue.find(name).card
        with QSignalBlocker(self.members):
            self.members.setValue(config.uncertainty_members or 1)
        index = self.combo.findData(config.uncertainty)
        with QSignalBlocker(self.combo):
            self.combo.setCurrentIndex(max(0, index))
        self._fill()
        self._show_kind()

    def set_card(self, card: ModelCard | None) -> None:
        """Set the chosen model; other models for the same task are offered."""
        if card is not None and card.labels > 1:
            with QSignalBlocker(self.combo):
                self.combo.setCurrentIndex(0)
        self.setEnabled(card is None or card.labels == 1)
        self._choose_possible_kind(card)
        self._card = card
        self._fill()
        self._show_kind()

    def _choose_possible_kind(self, card: ModelCard | None) -> None:
        """Disable the methods that the chosen model does not support."""
        if card is None:
            return
        only_samples = card.task == "generate"

        def is_possible(kind: str) -> bool:
            return card.draws_samples if self._draws(kind) else not only_samples

        item_of = getattr(self.combo.model(), "item")  # noqa: B009  # a Qt item model
        for i in range(self.combo.count()):
            item_of(i).setEnabled(is_possible(self.combo.itemData(i)))
        if not is_possible(self.combo.currentData()):
            wanted = [kind for kind in self._kinds if self._draws(kind)]
            chosen = wanted[0] if only_samples and wanted else NONE
            with QSignalBlocker(self.combo):
                self.combo.setCurrentIndex(self.combo.findData(chosen))

    def _draws(self, kind: str) -> bool:
        return kind in self._kinds and self._kinds[kind].generative

    def _fill(self) -> None:
        """List the models compatible with the chosen one; keep the checked ones."""
        self._list_models()
        with QSignalBlocker(self.others):
            self.others.clear()
            for name, card in sorted(self._known.items()):
                if self._card is None or not are_compatible(self._card, card):
                    continue
                item = QListWidgetItem(card.name)
                item.setData(Qt.ItemDataRole.UserRole, name)
                item.setToolTip(card.title)
                item.setFlags(
                    Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable
                )
                ticked = name in self._checked_names
                state = Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked
                item.setCheckState(state)
                self.others.addItem(item)
            if not self.others.count():
                item = QListWidgetItem("no other model with the same task and factor")
                item.setFlags(Qt.ItemFlag.NoItemFlags)
                self.others.addItem(item)
        rows = min(_MAX_ROWS, self.others.count())
        height = rows * max(16, self.others.sizeHintForRow(0))
        self.others.setFixedHeight(height + 2 * self.others.frameWidth() + 2)

    def _list_models(self) -> None:
        """Read the cards of all models once, when first needed."""
        if self._has_listed or not self._needs_others():
            return
        self._has_listed = True
        for entry in catalogue.list_models():
            name = entry.name if entry.bundled else str(entry.path)
            self._known.setdefault(name, entry.card)

    def _needs_others(self) -> bool:
        kind = self._kinds.get(self.combo.currentData())
        return kind is not None and kind.needs_others

    def _chosen(self) -> list[str]:
        items = (self.others.item(i) for i in range(self.others.count()))
        return [
            item.data(Qt.ItemDataRole.UserRole)
            for item in items
            if item.checkState() == Qt.CheckState.Checked
            and item.data(Qt.ItemDataRole.UserRole) is not None
        ]

    def _show_kind(self) -> None:
        kind = self._kinds.get(self.combo.currentData())
        self.members.setVisible(kind is not None and not kind.needs_others)
        self.others.setVisible(kind is not None and kind.needs_others)

    def _on_kind(self, _index: int) -> None:
        self._fill()
        self._show_kind()
        self.changed.emit()

    def _on_checked(self, _item: object) -> None:
        self._checked_names = set(self._chosen())
        self.changed.emit()
