"""A menu of models, with the matching ones first, and the card of the chosen one."""

from __future__ import annotations

import html
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.widgets import SentenceLabel
from napari_geosr.gui.layers.combo import ElidingCombo
from napari_geosr.operations.models import catalogue
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.restore.ranking import NONE
from napari_geosr.operations.restore.upscaling.result import BASELINE

if TYPE_CHECKING:
    from napari_geosr.operations.models.catalogue import ModelCard
    from napari_geosr.operations.restore.ranking import Ranking, RankingEntry


#: Entry that leaves the scan unchanged.
KEEP_SCAN = "Leave the scan as it is"
#: Text between the name of a model and its expected gain.
_GAP = "  "
_Order = tuple[bool, bool, float, bool, bool, str]


class _ModelMenu(ElidingCombo):
    """Shows the name of a model and, if there is room, its expected gain.

    If there is room only for the name, the gain is omitted, because the verdict below
    states it. Longer names are shortened.
    """

    def _shortened(self, text: str, room: int) -> str:
        width = self.fontMetrics().horizontalAdvance
        name, gap, gain = text.rpartition(_GAP)
        if name and width(name) <= room < width(text):
            return name
        gain = gap + gain if name else ""
        return super()._shortened(name or text, room - width(gain)) + gain


class ModelBox(QWidget):
    """A combo box of models; `card_label` shows the card of the chosen one.

    Signals
    -------
    modelChanged
        Another model was chosen.
    strengthProposed : float
        Strength that the ranking proposes for the chosen model.
    failed : object
        The error if a model could not be opened.
    """

    modelChanged = Signal()
    strengthProposed = Signal(float)
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._volume: Volume | None = None
        self._rankings: dict[int, Ranking] = {}
        self._is_user_choice = False
        self._cards: dict[str, ModelCard] = {}
        self.combo = _ModelMenu()
        self.combo.elide_mode = (
            Qt.TextElideMode.ElideRight
        )  # the remarks at the end may be cut off
        self.combo.setAccessibleName("Model")
        self.combo.setToolTip(
            "Model used for the restoration. Models that suit the layer are listed "
            "first."
        )
        self.combo.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.combo.setMinimumContentsLength(8)
        self.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.open_button = QToolButton()
        self.open_button.setText("…")
        self.open_button.setShortcut("Alt+Shift+O")
        self.open_button.setAccessibleName("Open model")
        self.open_button.setToolTip(
            "Open a model from its card.yaml or zip file (Alt+Shift+O)."
        )
        self.summary = text_label("About the model", SentenceLabel())
        self.card_label = text_label("Model card")
        self.card_label.setTextFormat(Qt.TextFormat.RichText)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.combo, 1)
        row.addWidget(self.open_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row)
        self.open_button.clicked.connect(self._on_open)
        entries, self._damaged = catalogue.scan_folders()
        for entry in entries:
            if entry.card.task == "generate" and entry.card.adjacent_slices > 1:
                continue  # cannot draw the samples needed for a restoration
            self._cards[entry.name if entry.bundled else str(entry.path)] = entry.card
        self._fill()
        self.combo.currentIndexChanged.connect(self._on_chosen)
        self.combo.activated.connect(self._on_activated)
        self._show_card()

    def model(self) -> str:
        """Return the name of the chosen model, or its path for a user's own model."""
        return self.combo.currentData() or ""

    def card(self) -> ModelCard | None:
        """Return the card of the chosen model; None if none is chosen."""
        return self._cards.get(self.model())

    def compared_factor(self) -> int:
        """Return the upscale factor of models comparable with the chosen one.

        The factor is 1 if the model cannot be compared with interpolation, as for
        denoisers and for models that refine voxels only within slices, or if there is
        no interpolation.
        """
        card = self.card()
        if card is None or card.upscale_factor == 1 or card.labels > 1:
            return 1
        is_stack = self._volume is not None and "Z" in self._volume.axes
        if card.axes == "YX" and is_stack:
            return 1
        known = {
            card.upscale_factor for card in self._cards.values() if not card.has_weights
        }
        return card.upscale_factor if card.upscale_factor in known else 1

    @property
    def is_user_choice(self) -> bool:
        """Whether the user chose the model; if so, no proposal replaces it."""
        return self._is_user_choice

    def set_user_choice(self, by_hand: bool) -> None:
        """Set whether the user made the current choice."""
        self._is_user_choice = by_hand

    def set_ranking(self, ranking: Ranking, *, propose: bool = True) -> None:
        """Show the expected gain of each model on the scan, best model first.

        Gains of super-resolution models are relative to cubic interpolation.

        Parameters
        ----------
        propose : bool
            Whether to choose the proposed model; a user's choice is kept.
        """
        self._rankings[ranking.upscale_factor] = ranking
        chosen = None
        if propose and not self._is_user_choice:
            chosen = self._key_of(ranking.chosen)
            # The user requested this ranking; a ranking of denoisers may still be
            # running.
            self._is_user_choice = ranking.upscale_factor > 1
        self._fill(keep=chosen)
        if ranking.upscale_factor == 1:
            self._propose_strength()

    def set_model(self, name: str) -> None:
        """Choose a model by name or path, opening it if it is not listed yet.

        Raises
        ------
        ModelError
            If there is no such model.
        """
        if name not in self._cards:
            self._cards[name] = catalogue.find(name).card
            self._fill(keep=name)
        index = self.combo.findData(name)
        if self.combo.model().item(index).isEnabled():
            self._is_user_choice = True
            self.combo.setCurrentIndex(index)

    def set_volume(self, volume: Volume | None) -> None:
        """List the models that fit `volume` first."""
        self._volume, self._rankings = volume, {}
        self._fill()
        self._propose_strength()

    def _fill(self, keep: str | None = None) -> None:
        before = self.model()
        keep = keep or before
        rows = sorted(
            (self._rank(name, card), name, card) for name, card in self._cards.items()
        )
        self.combo.blockSignals(True)
        self.combo.clear()
        for (unfit, *_), name, card in rows:
            remark = self._remark(card)
            text = f"{card.name} – {remark}" if remark else card.name
            text += self._gain_text(name)
            self.combo.addItem(text, name)
            index = self.combo.count() - 1
            item = self.combo.model().item(index)
            item.setEnabled(not unfit)
            item.setToolTip(f"{card.title}. {remark}".strip())
        self._add_unchanged_scan()
        for path, reason in self._damaged.items():
            self.combo.addItem(f"{Path(path).name} – damaged", "")
            item = self.combo.model().item(self.combo.count() - 1)
            item.setEnabled(False)
            item.setToolTip(html.escape(reason))
        index = self.combo.findData(keep)
        if index < 0 or not self.combo.model().item(index).isEnabled():
            index = 0
        self.combo.setCurrentIndex(index if self.combo.count() else -1)
        self.combo.blockSignals(False)
        if self.model() != before:
            self._on_chosen()

    def _add_unchanged_scan(self) -> None:
        """Add the entry that leaves the scan unchanged, at its place in the ranking."""
        ranking = self._rankings.get(1)
        if ranking is None:
            return
        worse = [self._key_of(row) for row in ranking.rows if row.gain < 0]
        places = [self.combo.findData(name) for name in worse]
        before = min((i for i in places if i >= 0), default=len(ranking.rows) - 1)
        self.combo.insertItem(before, KEEP_SCAN, NONE)
        item = self.combo.model().item(before)
        item.setToolTip(
            "The scan is left as it is, because no model is expected to improve it."
        )

    def _gain_text(self, name: str) -> str:
        row = self._ranked_row(name)
        if row is None or self._is_baseline(name):
            return ""
        strength = "" if row.run_strength == 1 else f" at {row.run_strength:g}"
        return f"{_GAP}{row.short_gain}{strength}"

    def _is_baseline(self, name: str) -> bool:
        """Whether a model is the interpolation to which all gains are relative."""
        card = self._cards.get(name)
        return card is not None and card.network == BASELINE

    def _ranked_row(self, name: str) -> RankingEntry | None:
        rows = (row for ranking in self._rankings.values() for row in ranking.rows)
        return next((row for row in rows if self._key_of(row) == name), None)

    def _key_of(self, row: RankingEntry) -> str:
        """Return the key of a ranked model: its name, or its path as in `model`."""
        path = "" if row.model is None else str(row.model.path)
        return path if path in self._cards else row.name

    def _rank(self, name: str, card: ModelCard) -> _Order:
        unfit = self._volume is not None and not catalogue.fit(card, self._volume).fits
        other_size = bool(_voxel_size_remark(card, self._volume))
        not_first = card.name != RestoreConfig.model_fields["model"].default
        row = self._ranked_row(name)
        expected = math.inf if row is None else -row.gain
        return (
            unfit,
            card.task != "denoise",
            expected,
            other_size,
            not_first,
            card.name,
        )

    def _remark(self, card: ModelCard) -> str:
        if self._volume is not None:
            fit = catalogue.fit(card, self._volume)
            if not fit.fits:
                return fit.reason
        return _voxel_size_remark(card, self._volume)

    def _on_activated(self, _index: int) -> None:
        self._is_user_choice = True

    def _on_chosen(self, _index: int = 0) -> None:
        self._show_card()
        self.modelChanged.emit()
        self._propose_strength()

    def _propose_strength(self) -> None:
        """Propose the strength of the ranking; for a user's choice, the default."""
        row = None if self._is_user_choice else self._ranked_row(self.model())
        self.strengthProposed.emit(1.0 if row is None else row.run_strength)

    def _show_card(self) -> None:
        card = self.card()
        self.summary.setText("" if card is None else card.title)
        # The entry that leaves the scan unchanged has no card, and needs no comment.
        self.summary.setVisible(self.model() != NONE)
        self.card_label.setText("" if card is None else card_html(card))

    def _on_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open model", os.fspath(Path.home()), "Model (card.yaml *.zip)"
        )
        if path:
            self.open_model(path)

    def open_model(self, path: str) -> None:
        """List and choose the model bundle at `path`: a card, folder or zip file."""
        chosen = Path(path)
        if chosen.name == "card.yaml":
            chosen = chosen.parent
        try:
            self.set_model(str(chosen))
        except GeoSRError as error:
            self.failed.emit(error)


def text_label(name: str, label: QLabel | None = None) -> QLabel:
    """Return a multi-line label with selectable text; use `label` if it is given."""
    label = QLabel() if label is None else label
    label.setWordWrap(True)
    label.setAccessibleName(name)
    label.setToolTip(name)
    label.setTextInteractionFlags(
        Qt.TextInteractionFlag.TextSelectableByMouse
        | Qt.TextInteractionFlag.TextSelectableByKeyboard
    )
    return label


def _voxel_size_remark(card: ModelCard, volume: Volume | None) -> str:
    """Describe the training data's voxel size if the volume's differs greatly."""
    training = card.training
    if volume is None or volume.unit == PIXEL:
        return ""
    if training.voxel_size is None or training.unit is None:
        return ""
    low, high = min(training.voxel_size), max(training.voxel_size)
    size = convert_length(max(volume.voxel_size), volume.unit, training.unit)
    tolerance = catalogue.VOXEL_SIZE_TOLERANCE
    if low / tolerance <= size <= high * tolerance:
        return ""
    trained = f"{low:g}" if low == high else f"{low:g}–{high:g}"
    return f"trained at a voxel size of {trained} {training.unit}"


_COLUMNS = {
    "psnr": "PSNR",
    "porosity_error": "Porosity error",
    "dice": "Dice",
    "branch_recall": "Branch recall",
    "branch_precision": "Branch precision",
    "grey_level_distance": "Grey levels",
    "spectrum_distance": "Spectrum",
}


def card_html(card: ModelCard) -> str:
    """Format a card as rich text: intended use, limits, metrics and licence."""
    training = card.training
    parts = [
        f"<p>{html.escape(card.description)}</p>",
        f"<p><b>Use it for:</b> {html.escape(card.intended_use)}</p>",
        f"<p><b>Not for:</b> {html.escape(card.not_for)}</p>",
    ]
    shown = [
        key
        for key in _COLUMNS
        if any(getattr(row, key) is not None for row in card.figures)
    ]
    for test in dict.fromkeys(row.test_set for row in card.figures):
        rows = [row for row in card.figures if row.test_set == test]
        head = "".join(f"<th align='right'>{_COLUMNS[key]}</th>" for key in shown)
        body = "".join(
            f"<tr><td>{html.escape(row.method)}</td>"
            + "".join(
                f"<td align='right'>{_figure(key, getattr(row, key))}</td>"
                for key in shown
            )
            + "</tr>"
            for row in rows
        )
        parts.append(
            f"<p><b>Results</b> on {html.escape(test)}:</p><table "
            f"cellspacing='4'><tr><th></th>{head}</tr>{body}</table>"
        )
    parts += [f"<p>{html.escape(remark)}</p>" for remark in card.remarks]
    parts.append(f"<p><b>Trained on:</b> {html.escape(training.description)}</p>")
    parts.append(f"<p><b>Licence:</b> {html.escape(card.licence)}</p>")
    return "".join(parts)


def _figure(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    if key.endswith("_error"):
        return catalogue.error_text(value)
    return f"{value:.1f} dB" if key == "psnr" else f"{value:.2f}"
