"""Checks before a training whether its scans suit the method and settings."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.steps import Step
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.activity import Activity
from napari_geosr.operations.inputs import open_to_learn
from napari_geosr.operations.train import TrainingConfig
from napari_geosr.operations.train.checks import smaller_patches
from napari_geosr.operations.train.noise import doubts_about_noise

#: Milliseconds without a change before the scans are checked.
_PAUSE = 400
#: Settings that determine along which axes a method assumes independent noise, and
#: the patch size.
SETTINGS = ("mask_axis", "dimensions", "patch")


@dataclass(frozen=True)
class DataQuestion:
    """The current choice: a method, relevant settings and the training scans.

    Attributes
    ----------
    identity : hashable
        Identifies the scans.
    """

    method: str
    training: TrainingConfig
    parts: tuple[Path | Volume, ...] = field(repr=False)
    identity: Any

    @property
    def key(self) -> tuple[Any, ...]:
        """Key that the answer depends on."""
        settings = (str(getattr(self.training, name, "")) for name in SETTINGS)
        return self.method, tuple(settings), self.identity


class DataCheck(QObject):
    """Checks the chosen scans in a worker and keeps the findings.

    Parameters
    ----------
    ask : callable
        Returns the current choice; None if it is empty or invalid.

    Signals
    -------
    changed
        `text` has changed.
    """

    changed = Signal()

    def __init__(self, ask: Callable[[], DataQuestion | None], parent: QObject) -> None:
        super().__init__(parent)
        self._ask = ask
        self._answers: dict[Any, str] = {}
        self._activity = Activity(self)
        self._activity.idle.connect(self._look)
        self._about: Any = None
        self.text = ""
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE)
        self._timer.timeout.connect(self._look)

    def look_soon(self) -> None:
        """Check the choice once nothing has changed for a while."""
        self._timer.start()

    def _look(self) -> None:
        question = self._ask()
        about = None if question is None else (question.method, question.identity)
        known = question is not None and question.key in self._answers
        if known or about != self._about:  # otherwise keep it until more is known
            self._say(self._answers[question.key] if question and known else "")
        self._about = about
        if question is None or question.key in self._answers or self._activity.busy:
            return
        self._activity.start(
            "check",
            lambda _stop: _look_steps(question),
            lambda said: self._answers.update({question.key: said}),
            on_error=lambda _error: self._answers.update({question.key: ""}),
        )

    def _say(self, text: str) -> None:
        if text != self.text:
            self.text = text
            self.changed.emit()


def _look_steps(question: DataQuestion) -> Generator[Step, None, str]:
    yield from ()
    try:
        flat = question.training.dimensions == "2D"
        volumes = [
            open_to_learn(part, flat=flat) if isinstance(part, Path) else part
            for part in question.parts
        ]
        method, training = question.method, question.training
        said = doubts_about_noise(method, training, volumes)
        return " ".join([*said, *smaller_patches(training, volumes)])
    except GeoSRError:
        return ""  # Start reports what is wrong with them
