"""Verdict of the Restore dock on a run: an icon, a sentence and a layer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QMessageBox, QPushButton, QVBoxLayout, QWidget

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict
from napari_geosr.gui.kit.activity import Key
from napari_geosr.gui.kit.notify import MessageRow
from napari_geosr.gui.layers.contents import contents_key
from napari_geosr.gui.restore.preparation import RunPreparation, point_at, preview_edge
from napari_geosr.gui.restore.verdict.activity import VerdictActivity
from napari_geosr.gui.restore.verdict.adapt_button import AdaptButton
from napari_geosr.gui.restore.verdict.removed_button import RemovedButton
from napari_geosr.operations.restore.ranking import RankConfig
from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.restore import (
        Point,
        PreparedRestoration,
        RestoreConfig,
    )
    from napari_geosr.operations.restore.ranking import Ranking

    #: Identifies a run that the user has approved: voxel data, model, strength, point
    #: of the series, and expected harm.
    _Approval = tuple[Key, str, float, Point | None, tuple[str, ...]]


_KINDS = {"ok": "ok", "caution": "warning", "harmful": "harm"}
_CHECKING = "Checking the effect of this model on the scan…"
_FIND, _FINDING = "Find the best model for this scan", "Comparing models…"
_FIND_FINER = "Find the best model for upscaling by {}"

_FIND_KEY = "Alt+Shift+B"


class VerdictPanel(QWidget):
    """Shows the verdict on a model and what the model removes; finds the best model.

    Signals
    -------
    ranked : Ranking
        The models were ranked for the scan.
    failed : object
        An error to be shown.
    sendable
        The run that the user wanted to send has been checked; see `confirm_sending`.
    """

    ranked = Signal(object)
    failed = Signal(object)
    sendable = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.message = MessageRow(shortcut="Alt+Shift+V")
        self.find_button = QPushButton(_FIND)
        self.find_button.setAccessibleName(_FIND)
        self.find_button.setShortcut(_FIND_KEY)
        self.find_button.setToolTip(
            "Compare all models, classical filters and the unchanged scan by their "
            "expected error on this scan. If a super-resolution model is chosen, "
            "compare the models with its upscale factor and cubic interpolation "
            f"({_FIND_KEY})."
        )
        self.removed_button = RemovedButton(viewer)
        #: Button that the dock shows among its rarely used actions.
        self.adapt_button = AdaptButton()
        self.activity = VerdictActivity(self)
        self._run_verdict: RunVerdict | None = None
        self._upscale_factor = 1
        #: Upscale factor of the prepared interpolation; 1 if another model is prepared.
        self._model_name = ""
        self._interpolated_by = 1
        self._approved: set[_Approval] = set()
        self._strength = 1.0
        self._source: weakref.ref[Image] | None = None
        self._point: Point | None = None
        self._contents: Key | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.find_button, self.message, self.removed_button):
            layout.addWidget(widget)
        self.removed_button.failed.connect(self.failed.emit)
        self.activity.verdictReady.connect(self._on_verdict)
        self.activity.ranked.connect(self._on_ranked)
        self.activity.failed.connect(self.failed.emit)
        self.activity.unavailable.connect(
            lambda text: self.message.show_message(text, "warning")
        )
        self.activity.busyChanged.connect(self._on_busy)
        self.activity.verdictEnded.connect(self._on_verdict_ended)
        self._has_scan = self._waits_to_send = False

    @property
    def run_verdict(self) -> RunVerdict | None:
        """Expected effect of the chosen model; None while unknown."""
        return self._run_verdict

    @property
    def expects_harm(self) -> bool:
        """Whether the result is expected to be worse than the scan."""
        return self._run_verdict is not None and self._run_verdict.is_harmful

    @property
    def ranking(self) -> Ranking | None:
        """The denoisers, ordered by expected error on the scan; None while unknown."""
        return self.activity.rankings.get(1)

    @property
    def rankings(self) -> list[Ranking]:
        """All rankings for the scan: of denoisers, and of super-resolution models."""
        return list(self.activity.rankings.values())

    def set_scan(
        self,
        volume: Volume | None,
        source: Image | None,
        settings: Callable[[], RestoreConfig] | None,
        position: Mapping[str, int] | None = None,
    ) -> None:
        """Set another scan and rank the models for it.

        Parameters
        ----------
        volume : Volume or None
        source : Image or None
            Layer of the scan.
        settings : callable or None
            As for `request_ranking`; with None, the models are not ranked.
        position : mapping of str to int, optional
            Time point and channel of `volume`, if the layer is a series.
        """
        self._run_verdict = None
        self._point = None if position is None else point_at(position)
        self._source = None if source is None else weakref.ref(source)
        self._contents = None if source is None else contents_key(source)
        self._has_scan = volume is not None
        self.find_button.setEnabled(self._has_scan)
        config = None if settings is None else _rank_config(settings)
        self.activity.set_volume(volume, config)

    def set_upscale_factor(self, factor: int) -> None:
        """Set the upscale factor of the models that the button compares."""
        self._upscale_factor = factor
        self._on_busy(self.activity.busy)

    def request_ranking(self, settings: Callable[[], RestoreConfig]) -> None:
        """Rank the models with the current upscale factor.

        Parameters
        ----------
        settings : callable
            Returns the settings of the dock; invalid ones are not used.
        """
        self.activity.request_ranking(
            _rank_config(settings, upscale_factor=self._upscale_factor)
        )

    def set_not_ready(self) -> None:
        """Clear the verdict after a change of the layer, model or settings."""
        self._run_verdict = None
        self._waits_to_send = False
        self.message.clear()
        self.activity.set_prepared(None)
        self.removed_button.set_noise(None)
        self.removed_button.set_ready(None, None)

    def set_ready(
        self,
        source: Image,
        ready: RunPreparation,
        position: Callable[[], Mapping[str, int]],
    ) -> None:
        """Examine a prepared run, and offer to show what it removes.

        If several channels are to be restored, all of them are examined, and so are
        time points with very different noise.

        Parameters
        ----------
        position : callable
            Returns the time point and channel on screen.
        """
        self._run_verdict = None

        def on_screen() -> PreparedRestoration:
            return ready.judged_at(position())

        prepared, shown = on_screen(), position()
        if (contents := contents_key(source)) != self._contents:
            # The layer's voxels were replaced: noise and expected gains are unknown.
            self._contents = contents
            self.activity.set_volume(prepared.seen_volume, None)
        self._strength = prepared.config.strength
        card = prepared.model.card
        self._model_name = card.name
        self._interpolated_by = 1 if card.has_weights else card.upscale_factor
        if prepared.likeness.level == "ok":
            self.message.show_message(_CHECKING)
        else:
            self.message.show_message(" ".join(prepared.likeness.reasons), "warning")
        self.removed_button.set_ready(source, on_screen, preview_edge(ready))
        self.activity.set_prepared(
            prepared,
            lambda: ready.other_points(shown),
            is_ranked=not ready.has_other_noise(shown),
        )

    def show_unchanged(self) -> None:
        """Show why the scan is best left unchanged, or that nothing will be run."""
        self.activity.set_prepared(None)
        self.removed_button.set_ready(None, None)
        ranking = self.ranking
        if not self._has_scan:
            self.message.clear()
        elif ranking is not None and ranking.keeps_scan:
            self.message.show_message(self._of_point(ranking.reason), "ok")
        else:
            self.message.show_message(
                "The scan is left as it is. Choose a model to restore it."
            )

    def confirm_run(self, model: str, name: str) -> bool:
        """Whether a run may start; asks the user if it is expected to do harm.

        The question is asked once per model, strength, voxel data and expected harm.
        It is asked again for another layer, time point or channel, for further channels
        in the run, and after a change of the layer's data.

        Parameters
        ----------
        model : str
            Name or path of the model.
        name : str
            Name of the model in the question.
        """
        verdict = self._run_verdict
        source = None if self._source is None else self._source()
        if verdict is None or not verdict.is_harmful or source is None:
            return True
        harm = (verdict.sentence, *verdict.reasons)
        key = contents_key(source), model, self._strength, self._point, harm
        if key in self._approved:
            return True
        if not confirm_harmful_run(name, verdict, self):
            return False
        self._approved.add(key)
        return True

    def confirm_sending(self, model: str, name: str, *, ready: bool) -> bool:
        """Whether a run may be sent to another process or computer; may ask the user.

        While the run is being prepared or checked, it is not sent, because the user
        could not be asked later. `sendable` is emitted at the end of the check, unless
        the run has changed or the dock is hidden.
        """
        self._waits_to_send = False
        if ready and self.activity.has_verdict:
            return self.confirm_run(model, name)
        self._waits_to_send = True
        self.activity.find_verdict()
        self.message.show_message(
            "The model is still being checked on this scan. The dialog opens when "
            "the check is complete."
        )
        return False

    def _on_verdict_ended(self) -> None:
        if self._waits_to_send and self.isVisible():
            self.sendable.emit()
        self._waits_to_send = False

    def withdraw_verdict(self) -> None:
        """Withdraw the verdict *ok*: the result is not consistent with the scan."""
        if self._run_verdict is not None and self._run_verdict.level == "ok":
            self.message.show_message(f"Before the run: {self._run_verdict.sentence}")

    def _on_verdict(self, verdict: RunVerdict, place: str = "") -> None:
        if place:  # the question before the run then also names the place
            verdict = replace(verdict, sentence=f"{place}: {verdict.sentence}")
        self._run_verdict = verdict
        self.removed_button.set_noise(verdict.noise)
        kind = _KINDS[verdict.level]
        if kind == "ok" and not verdict.earns_tick:
            kind = "info"  # no tick if detail is lost, or the noise is unknown
        sentence = self._sentence(verdict)
        if kind == "ok" and sentence != verdict.sentence:
            kind = "info"  # no model is clearly better than interpolation
        self.message.show_message(sentence if place else self._of_point(sentence), kind)
        reasons = "\n\n".join((*verdict.reasons, *verdict.notes))
        self.message.label.setToolTip(reasons or "You can select and copy this text.")

    def _of_point(self, sentence: str) -> str:
        """Return the sentence; for a series, preceded by its time point and channel."""
        words = "" if self._point is None else self._point.words
        return f"{words[0].upper()}{words[1:]}: {sentence}" if words else sentence

    def _sentence(self, verdict: RunVerdict) -> str:
        """Return the expected effect, and the reason for or against the model.

        For interpolation, the reason states why no model was proposed; for the proposed
        denoiser, it names another model that keeps smaller pores.
        """
        ranking = self.activity.rankings.get(self._interpolated_by)
        if ranking is not None and ranking.upscale_factor == 1:
            other = ranking.alternative if self._model_name == ranking.choice else ""
            return f"{verdict.sentence} {other}".rstrip()
        if ranking is None or verdict.level != "ok":
            return verdict.sentence
        is_proposed = ranking.chosen.upscaling_verdict is None
        if not is_proposed:
            return verdict.sentence
        return " ".join((ranking.reason, *(one.sentence for one in verdict.limits)))

    def _on_ranked(self, ranking: Ranking) -> None:
        if self._run_verdict is not None and not self.activity.has_verdict:
            # The run is examined again with the gain that the list of models now shows.
            self.message.show_message(_CHECKING)
        self.ranked.emit(ranking)

    def _on_busy(self, what: str) -> None:
        ranks = what == "rank"
        factor = self._upscale_factor
        text = _FIND if factor == 1 else _FIND_FINER.format(factor)
        self.find_button.setText(_FINDING if ranks else text)
        self.find_button.setShortcut(_FIND_KEY)  # setText clears the shortcut
        self.find_button.setEnabled(self._has_scan and not ranks)


def confirm_harmful_run(
    model: str, verdict: RunVerdict, parent: QWidget | None
) -> bool:
    """Ask whether to restore although the result is expected to be worse."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Warning)
    box.setWindowTitle(f"Restore with {model}?")
    box.setAccessibleName(box.windowTitle())
    box.setText("\n\n".join((verdict.sentence, *verdict.reasons)))
    box.setInformativeText("The scan itself is not changed.")
    anyway = box.addButton("&Run anyway", QMessageBox.ButtonRole.AcceptRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    box.exec()
    return box.clickedButton() is anyway


def _rank_config(
    settings: Callable[[], RestoreConfig], upscale_factor: int = 1
) -> RankConfig:
    """Return settings for a ranking, with the dock's device, threads and sharpness."""
    values: AnyDict = {"upscale_factor": upscale_factor}
    with suppress(ConfigError):  # the error is shown next to its field
        config = settings()
        values |= {"device": config.device, "threads": config.threads}
        values["sharpness"] = config.sharpness
    return RankConfig(**values)
