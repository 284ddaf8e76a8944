"""Trains until the expected error on held-out blocks stops falling.

Training also ends when the time limit is reached.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import Cancelled, GeoSRError, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, TrainingProgress
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.measure.number_text import signed_text
from napari_geosr.models import zoo
from napari_geosr.models.card import FigureRow
from napari_geosr.operations.restore.ranking import rank_steps
from napari_geosr.operations.train.adapt.risk import Gain, RiskEstimator, gain_over

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.inference.risk.stein import CellMeans
    from napari_geosr.learning.config import TrainingConfig
    from napari_geosr.learning.training.trainer import Trainer

#: Maximum number of error estimates per run.
_MAX_ESTIMATES = 8
#: Number of consecutive error estimates without improvement before stopping.
_PATIENCE = 3
#: Number of timed steps after which the total number is adjusted to the time limit.
_TIMED = 10
#: Minimum improvement in dB that counts as a gain.
_MIN_GAIN = 0.05
#: Minimum lead of another model, in dB, that is reported.
_MIN_LEAD = 0.3


@dataclass(frozen=True)
class Adaptation:
    """Result of adapting a model.

    Attributes
    ----------
    finished : bool
        Whether the adaptation was completed; False if the user stopped it early.
    gain : Gain or None
        Improvement of the adapted model over the original; None if unfinished. The
        value is the smaller of two estimates: on held-out blocks, and on blocks of the
        whole scan, as in a ranking of models.
    figures : tuple of FigureRow
        Expected PSNR of the scan, and of the model before and after adaptation.
    steps : int
        Training step of the kept weights.
    how : str
        ``"noise2noise"``, ``"recorrupted"`` or ``"noise2void"``.
    reason : str
        Reason for choosing the method, in a sentence; empty if the user chose it.
    hindrance : str
        Reasons why nothing was trained, in sentences; empty if the model was trained.
    """

    finished: bool
    gain: Gain | None = None
    figures: tuple[FigureRow, ...] = ()
    steps: int = 0
    how: str = ""
    reason: str = ""
    hindrance: str = ""

    @property
    def is_better(self) -> bool:
        """Whether the adapted model is better."""
        gain = self.gain
        return gain is not None and gain.is_significant and gain.decibels >= _MIN_GAIN

    def fallback_model(self, config: TrainingConfig) -> Path | None:
        """Return the original model's path if the adapted one is no better, else None.

        With ``always_write``, the adapted model is used in any case.
        """
        if self.is_better or getattr(config, "always_write", False):
            return None
        assert config.from_model is not None
        return zoo.find(config.from_model).path

    def fallback_message(self, config: TrainingConfig) -> str:
        """Return a sentence that explains why the original model was kept."""
        if self.hindrance:
            return f"{self.hindrance} No new model was written."
        assert self.gain is not None
        values = (self.gain.decibels, *self.gain.interval)
        gain, low, high = (signed_text(value, 2) for value in values)
        return (
            f"No gain is expected from adapting {config.from_model} to this scan "
            f"({gain} dB, {low} to {high}): use the model unchanged. No new model was "
            "written; use --always-write to write one anyway."
        )

    def facts(self) -> AnyDict:
        """Return the entry that describes the adaptation in the model's provenance."""
        assert self.gain is not None
        return {
            "learned_by": self.how,
            "reason": self.reason,
            "steps_kept": self.steps,
            "expected_gain_db": round(self.gain.decibels, 3),
            "interval_db": [round(end, 3) for end in self.gain.interval],
        }


def _hindrance(trainer: Trainer) -> str:
    """Return why a model cannot be adapted to the noise; empty if it can.

    Raises
    ------
    VolumeError
        If the model cannot be adapted, and either there are several scans or a new
        model must be written (``always_write``).
    """
    scenes, name = trainer.patches.scenes, trainer.config.from_model
    for scene in scenes:
        noise = scene.noises["source"]
        if noise.level > 0:
            continue
        if noise.is_measured:
            problem = "has hardly any noise"
        else:
            problem = "has noise that could not be measured"
        if len(scenes) > 1:
            raise VolumeError(
                f"{scene.volumes['source'].title} {problem}, so there is nothing to "
                f"adapt {name} to. Omit this scan."
            )
        if getattr(trainer.config, "always_write", False):
            raise VolumeError(
                f"The scan {problem}, so there is nothing to adapt {name} to, and no "
                "new model can be written. Omit --always-write, and use the model "
                "unchanged."
            )
        return (
            f"The scan {problem}, so there is nothing to adapt {name} to: use the "
            "model unchanged."
        )
    return ""


def adapt_steps(
    trainer: Trainer, start: AnyMapping, should_stop: ShouldStop
) -> Generator[Step, None, Adaptation]:
    """Train, and set the averaged network to the weights with the lowest error.

    Parameters
    ----------
    start : mapping of str to Tensor
        Weights of the original model.

    Yields
    ------
    Step
        The steps of training.

    Returns
    -------
    Adaptation

    Raises
    ------
    VolumeError
        If one of several scans has too little noise to learn from.
    """
    method: Any = trainer.method
    if hindrance := _hindrance(trainer):
        return Adaptation(finished=True, hindrance=hindrance)
    yield StageStarted(message=method.reason or f"Learning by {method.how}")
    tracker = _BestWeightsTracker(trainer, should_stop)
    try:
        tracker.estimate_start(start)
        yield from tracker.train_steps()
    except Cancelled:
        yield Step(trainer.step, trainer.steps)  # update the progress bar
        return Adaptation(finished=False)
    if not tracker.is_over:
        return Adaptation(finished=False)
    try:
        return tracker.adaptation(start)
    except Cancelled:
        return Adaptation(finished=False)


def better_model_steps(
    name: str | Path, source: Volume, second: Volume | None, should_stop: ShouldStop
) -> Generator[Step, None, str]:
    """Find a model that is expected to restore the scan better than the given model.

    Parameters
    ----------
    name : str or Path
        The adapted model, or the original one if it was kept.
    source, second : Volume
        The scan, and a second scan of the same object.

    Yields
    ------
    Step

    Returns
    -------
    str
        A sentence that names the model, or states why the models were not compared;
        empty if no other model is better by `_MIN_LEAD`, or the comparison was stopped.
    """
    own = zoo.find(name)
    try:
        ranking = yield from rank_steps(
            source, should_stop=should_stop, second=second, also=(own,)
        )
    except Cancelled:
        return ""
    except GeoSRError as error:  # the adapted model is valid nevertheless
        return f"{name} was not compared with the other models: {error}"
    ours = next(
        (row for row in ranking.rows if row.weights == own.card.weights_sha256), None
    )
    best = ranking.chosen
    if ours is None or best.model is None or best.gain < ours.gain + _MIN_LEAD:
        return ""
    return (
        f"On this scan, {best.label} is expected to gain more: {best.gain_text} over "
        f"the unchanged scan; {ours.label}: {ours.gain_text}."
    )


class _BestWeightsTracker:
    """Evaluates the averaged network regularly, and keeps the best weights."""

    def __init__(self, trainer: Trainer, should_stop: ShouldStop) -> None:
        self.trainer, self.should_stop = trainer, should_stop
        device = str(trainer.accelerator.device)
        self.estimator = RiskEstimator(trainer.patches, device, should_stop)
        self.before: CellMeans | None = None
        self.best: CellMeans | None = None
        self.best_step = 0
        self.weights: AnyDict = {}
        self.misses = 0
        self.is_over = False

    def estimate_start(self, start: AnyMapping) -> None:
        """Estimate the error of the original model.

        If training was resumed, the error of the resumed model is also estimated.
        """
        average = self.trainer.average
        now = {k: v.clone() for k, v in average.state_dict().items()}
        average.load_state_dict(start)
        self.estimate()
        self.best_step = 0
        average.load_state_dict(now)
        if self.trainer.step:
            self.estimate()

    def estimate(self) -> None:
        """Estimate the error, and keep the weights if it is the lowest so far."""
        average = self.trainer.average
        cells = self.estimator.estimate(average)
        self.before = self.before or cells
        best = self.best
        if best is not None and cells.mean(cells.risks()) >= best.mean(best.risks()):
            self.misses += 1
            return
        self.best, self.best_step, self.misses = cells, self.trainer.step, 0
        self.weights = {k: v.clone() for k, v in average.state_dict().items()}

    def train_steps(self) -> Generator[Step, None, None]:
        """Train until the last step or time limit, or until the error stops falling."""
        trainer = self.trainer
        limit = 60.0 * float(getattr(trainer.config, "minutes", math.inf))
        began, first, is_paced = time.monotonic(), trainer.step, False
        next_estimate = first + self._interval()
        for step in trainer.run(lambda: self.is_over or self.should_stop()):
            yield step
            if not isinstance(step, TrainingProgress) or self.is_over:
                continue
            spent = time.monotonic() - began
            if not is_paced and trainer.step - first >= _TIMED:
                # The learning rate must reach its minimum at the time limit.
                is_paced = True
                possible = int(limit * (trainer.step - first) / spent)
                trainer.steps = max(trainer.step, min(trainer.steps, first + possible))
                next_estimate = first + self._interval()
            if trainer.step >= next_estimate or trainer.step >= trainer.steps:
                self.estimate()
                next_estimate = trainer.step + self._interval()
            self.is_over = self.misses >= _PATIENCE or spent > limit
        if trainer.step >= trainer.steps:
            self.is_over = True

    def _interval(self) -> int:
        return max(1, (self.trainer.steps - self.trainer.first_step) // _MAX_ESTIMATES)

    def adaptation(self, start: AnyMapping) -> Adaptation:
        """Load the best weights, and evaluate them.

        Parameters
        ----------
        start : mapping of str to Tensor
            Weights of the original model.
        """
        trainer, method = self.trainer, self.trainer.method
        assert self.before is not None
        assert self.best is not None
        trainer.average.load_state_dict(self.weights)
        return Adaptation(
            finished=True,
            gain=self._gain(start),
            figures=self._figures(self.before, self.best),
            steps=self.best_step,
            how=str(getattr(method, "how", "")),
            reason=str(getattr(method, "reason", "")),
        )

    def _gain(self, start: AnyMapping) -> Gain:
        """Return the smaller of the gains on held-out blocks and on the whole scan.

        Held-out blocks show whether the model has only memorised its training data, but
        there are few of them, all from one side of the scan: a gain on them can be a
        loss on the whole scan. If one of the gains is not significant, that gain is
        returned.
        """
        assert self.before is not None
        assert self.best is not None
        held_out = gain_over(self.before, self.best)
        if not held_out.is_significant:
            return held_out
        trainer = self.trainer
        estimator = RiskEstimator(
            trainer.patches,
            str(trainer.accelerator.device),
            self.should_stop,
            held_out=False,
        )
        cells = []
        for weights in (start, self.weights):
            trainer.average.load_state_dict(weights)
            cells.append(estimator.estimate(trainer.average))
        whole = gain_over(*cells)
        if not whole.is_significant:
            return whole
        return min(held_out, whole, key=lambda gain: gain.decibels)

    def _figures(self, before: CellMeans, after: CellMeans) -> tuple[FigureRow, ...]:
        noise = self.trainer.patches.scenes[0].noises["source"]
        errors = {
            "input": before.mean(before.unchanged_risks()),
            "model before": before.mean(before.risks()),
            "model": after.mean(after.risks()),
        }
        floor = 1e-3 * before.mean(before.noise)
        where = "held-out blocks, estimated without the noise-free scan"
        return tuple(
            FigureRow(
                test_set=where,
                method=name,
                psnr=round(10 * math.log10(noise.contrast**2 / max(error, floor)), 3),
            )
            for name, error in errors.items()
        )
