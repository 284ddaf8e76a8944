"""Train until the expected error on held-out blocks stops falling, or time is up."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, TrainingProgress
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.models import zoo
from napari_geosr.models.card import FigureRow
from napari_geosr.operations.train.adapt.watch import Gain, RiskWatch, gain_over

if TYPE_CHECKING:
    from napari_geosr.inference.risk.stein import CellMeans
    from napari_geosr.learning.config import TrainingConfig
    from napari_geosr.learning.trainer import Trainer

#: Number of error estimates per run, and of those without improvement before stopping.
_LOOKS, _PATIENCE = 8, 3
#: Number of timed steps before the total is adjusted to the time limit.
_TIMED = 10
#: Minimum improvement in dB that counts as a gain.
_LEAST_GAIN = 0.05


@dataclass(frozen=True)
class Adaptation:
    """Result of adapting a model.

    Attributes
    ----------
    finished : bool
        False if the user stopped it early.
    gain : Gain or None
        Improvement of the adapted model over the original; None if unfinished.
    figures : tuple of FigureRow
        Expected PSNR of the scan, and of the model before and after.
    steps : int
        Training step of the kept weights.
    how : str
        ``"noise2noise"``, ``"recorrupted"`` or ``"noise2void"``.
    reason : str
        Reason for the method, in a sentence; empty if the user chose it.
    """

    finished: bool
    gain: Gain | None = None
    figures: tuple[FigureRow, ...] = ()
    steps: int = 0
    how: str = ""
    reason: str = ""

    @property
    def is_better(self) -> bool:
        """Whether the adapted model is better."""
        gain = self.gain
        return gain is not None and gain.is_sure and gain.decibels >= _LEAST_GAIN

    def kept_instead(self, config: TrainingConfig) -> Path | None:
        """The original model, if it is as good as the adapted one; else None."""
        if self.is_better or getattr(config, "always_write", False):
            return None
        assert config.from_model is not None
        return zoo.find(config.from_model).path

    def why_kept(self, config: TrainingConfig) -> str:
        """A sentence for the user on why the original model was kept."""
        assert self.gain is not None
        low, high = self.gain.interval
        return (
            f"No gain is expected from adapting {config.from_model} to this scan "
            f"({self.gain.decibels:+.2f} dB, {low:+.2f} to {high:+.2f}): use it as it "
            "is. No model was written; --always-write writes it all the same."
        )

    def facts(self) -> AnyDict:
        """Facts for the record of a model."""
        assert self.gain is not None
        return {
            "learned_by": self.how,
            "reason": self.reason,
            "steps_kept": self.steps,
            "expected_gain_db": round(self.gain.decibels, 3),
            "interval_db": [round(end, 3) for end in self.gain.interval],
        }


def _check_noise(trainer: Trainer) -> None:
    """Refuse a scan with unknown or too weak noise."""
    scene = trainer.patches.scenes[0]
    noise = scene.noises["source"]
    if noise.level > 0:
        return
    if noise.is_measured:
        found = "has hardly any noise"
    else:
        found = "has noise that could not be measured"
    raise VolumeError(
        f"The scan {found}, so there is nothing to adapt {trainer.config.from_model} "
        "to: use the model as it is, or leave the scan as it is. No model was written."
    )


def adapting_steps(
    trainer: Trainer, start: AnyMapping, should_stop: ShouldStop
) -> Generator[Step, None, Adaptation]:
    """Run a training, and restore its averaged network to the lowest error.

    Parameters
    ----------
    start : mapping of str to Tensor
        Weights of the original model.

    Yields
    ------
    Step
        Those of the training.

    Returns
    -------
    Adaptation

    Raises
    ------
    VolumeError
        If the scan has no noise to learn from.
    """
    method: Any = trainer.method
    _check_noise(trainer)
    yield StageStarted(message=method.reason or f"Learning by {method.how}")
    keeper = _BestWeights(trainer, should_stop)
    try:
        keeper.look_at_start(start)
        yield from keeper.train_steps()
    except Cancelled:
        yield Step(trainer.step, trainer.steps)  # to its last step
        return Adaptation(finished=False)
    if not keeper.is_over:
        return Adaptation(finished=False)
    return keeper.adaptation()


class _BestWeights:
    """Evaluates the averaged network regularly, and keeps the best weights."""

    def __init__(self, trainer: Trainer, should_stop: ShouldStop) -> None:
        self.trainer, self.should_stop = trainer, should_stop
        device = str(trainer.accelerator.device)
        self.watch = RiskWatch(trainer.patches, device, should_stop)
        self.before: CellMeans | None = None
        self.best: CellMeans | None = None
        self.best_step = 0
        self.weights: AnyDict = {}
        self.misses = 0
        self.is_over = False

    def look_at_start(self, start: AnyMapping) -> None:
        """Estimate the error of the original model, and of a resumed one."""
        average = self.trainer.average
        now = {k: v.clone() for k, v in average.state_dict().items()}
        average.load_state_dict(start)
        self.look()
        self.best_step = 0
        average.load_state_dict(now)
        if self.trainer.step:
            self.look()

    def look(self) -> None:
        """Estimate the error, and keep the weights if it is the lowest so far."""
        average = self.trainer.average
        found = self.watch.look(average)
        self.before = self.before or found
        best = self.best
        if best is not None and found.mean(found.risks()) >= best.mean(best.risks()):
            self.misses += 1
            return
        self.best, self.best_step, self.misses = found, self.trainer.step, 0
        self.weights = {k: v.clone() for k, v in average.state_dict().items()}

    def train_steps(self) -> Generator[Step, None, None]:
        """Train until the last step, the time limit, or the end of improvement."""
        trainer = self.trainer
        limit = 60.0 * float(getattr(trainer.config, "minutes", math.inf))
        began, first, is_paced = time.monotonic(), trainer.step, False
        next_look = first + self._between()
        for step in trainer.run(lambda: self.is_over or self.should_stop()):
            yield step
            if not isinstance(step, TrainingProgress) or self.is_over:
                continue
            spent = time.monotonic() - began
            if not is_paced and trainer.step - first >= _TIMED:
                # The learning rate must reach its minimum at the end of the time.
                is_paced = True
                possible = int(limit * (trainer.step - first) / spent)
                trainer.steps = max(trainer.step, min(trainer.steps, first + possible))
                next_look = first + self._between()
            if trainer.step >= next_look or trainer.step >= trainer.steps:
                self.look()
                next_look = trainer.step + self._between()
            self.is_over = self.misses >= _PATIENCE or spent > limit
        if trainer.step >= trainer.steps:
            self.is_over = True

    def _between(self) -> int:
        return max(1, (self.trainer.steps - self.trainer.first_step) // _LOOKS)

    def adaptation(self) -> Adaptation:
        """Restore the best weights, and evaluate them."""
        trainer, method = self.trainer, self.trainer.method
        assert self.before is not None
        assert self.best is not None
        trainer.average.load_state_dict(self.weights)
        return Adaptation(
            finished=True,
            gain=gain_over(self.before, self.best),
            figures=self._figures(self.before, self.best),
            steps=self.best_step,
            how=str(getattr(method, "how", "")),
            reason=str(getattr(method, "reason", "")),
        )

    def _figures(self, before: CellMeans, after: CellMeans) -> tuple[FigureRow, ...]:
        noise = self.trainer.patches.scenes[0].noises["source"]
        errors = {
            "input": before.mean(before.left_alone()),
            "model before": before.mean(before.risks()),
            "model": after.mean(after.risks()),
        }
        least = 1e-3 * before.mean(before.noise)
        where = "held-out blocks, estimated without the noise-free scan"
        return tuple(
            FigureRow(
                test_set=where,
                method=name,
                psnr=round(10 * math.log10(noise.contrast**2 / max(error, least)), 3),
            )
            for name, error in errors.items()
        )
