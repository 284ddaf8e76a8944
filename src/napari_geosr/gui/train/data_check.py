"""Check before training whether the scans suit the method and settings."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import Step
from napari_geosr.gui.jobs.start import Data, TrainingPlan
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.operations.inputs import open_for_training
from napari_geosr.operations.train import TrainingConfig
from napari_geosr.operations.train.checks import smaller_patch_warnings
from napari_geosr.operations.train.noise import noise_warnings

#: Delay in milliseconds from the last change until the scans are checked.
_PAUSE = 400
#: Settings that determine the patch size and the axes along which a method assumes
#: independent noise.
SETTINGS = ("mask_axis", "dimensions", "patch")


@dataclass(frozen=True)
class DataQuestion:
    """The current choice: a method, relevant settings and the training scans.

    Attributes
    ----------
    data : mapping of str to tuple of Path or Volume
        The scans chosen so far, by role.
    identity : hashable
        Identifies the scans.
    """

    method: str
    training: TrainingConfig
    data: Data = field(repr=False)
    identity: Any

    @property
    def key(self) -> tuple[Any, ...]:
        """Key built from everything that affects the findings."""
        settings = (str(getattr(self.training, name, "")) for name in SETTINGS)
        return self.method, tuple(settings), self.identity


class DataCheck(QObject):
    """Checks the chosen scans in a worker and keeps the findings.

    Parameters
    ----------
    get_question : callable
        Returns the current choice; None if it is empty or invalid.

    Signals
    -------
    changed
        `text` has changed.
    """

    changed = Signal()

    def __init__(
        self, get_question: Callable[[], DataQuestion | None], parent: QObject
    ) -> None:
        super().__init__(parent)
        self._get_question = get_question
        self._answers: dict[Any, str] = {}
        self._activity = Activity(self)
        self._activity.idle.connect(self._check)
        self._current_scans: Any = None
        self.text = ""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self._check)

    def check_soon(self) -> None:
        """Check the choice once nothing has changed for a while."""
        self._timer.start()

    def _check(self) -> None:
        question = self._get_question()
        about = None if question is None else (question.method, question.identity)
        known = question is not None and question.key in self._answers
        if (
            known or about != self._current_scans
        ):  # otherwise keep the text until more is known
            self._set_text(self._answers[question.key] if question and known else "")
        self._current_scans = about
        if question is None or question.key in self._answers or self._activity.busy:
            return
        self._activity.start(
            "check",
            lambda _stop: _check_steps(question),
            lambda said: self._answers.update({question.key: said}),
            on_error=lambda _error: self._answers.update({question.key: ""}),
        )

    def _set_text(self, text: str) -> None:
        if text != self.text:
            self.text = text
            self.changed.emit()


def _check_steps(question: DataQuestion) -> Generator[Step, None, str]:
    yield from ()
    try:
        flat = question.training.dimensions == "2D"
        volumes = [
            open_for_training(part, flat=flat) if isinstance(part, Path) else part
            for part in question.data["source"]
        ]
        method, training = question.method, question.training
        warnings = noise_warnings(method, training, volumes)
        warnings += smaller_patch_warnings(training, volumes)
    except GeoSRError:
        return ""  # shown when *Start* is pressed
    with suppress(GeoSRError):  # e.g. if another scan is missing
        plan = TrainingPlan(method, training.model_dump(), question.data)
        warnings += plan.on_shared_regions()[1]
    return " ".join(warnings)
