"""What engines yield: small typed steps, read alike by the CLI, docks and jobs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

ShouldStop = Callable[[], bool]


def never_stop() -> bool:
    """The `should_stop` of someone who never cancels."""
    return False


@dataclass(frozen=True)
class Step:
    """Base of every step.

    Attributes
    ----------
    done, total : int
        Units of work so far and in all; both 0 where nothing can be counted.
    """

    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class StageStarted(Step):
    """A new stage begins; `message` says which, in a few plain words."""

    message: str = ""


@dataclass(frozen=True)
class JudgingStarted(StageStarted):
    """The last stage of a training: the model is judged on what was kept apart."""


@dataclass(frozen=True)
class Judged(Step):
    """A part of the judging is done; `done` and `total` are voxels of the results."""


@dataclass(frozen=True)
class Warned(Step):
    """Something the person should know; the run goes on."""

    message: str = ""


@dataclass(frozen=True)
class TargetReady(Step):
    """The output exists; `volume` is a `Volume` whose array the tiles fill.

    Attributes
    ----------
    spread : Volume or None
        Standard deviations that the same tiles fill, where they are wanted.
    """

    volume: Any = None
    spread: Any = None


@dataclass(frozen=True)
class TileDone(Step):
    """A tile of the output is finished.

    Attributes
    ----------
    slices : tuple of slice
        Where the tile lies in the output array.
    array : ndarray or None
        The finished voxels (a view; copy it to keep it).
    """

    slices: tuple[slice, ...] = ()
    array: np.ndarray[Any, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class BlockDone(Step):
    """A block of the input was swept (measuring, statistics, copying)."""


@dataclass(frozen=True)
class ResultReady(Step):
    """The last step of an operation; `result` is what the verb returns."""

    result: Any = None


def relay(steps: Generator[Step, None, None]) -> Generator[Step, None, Any]:
    """Pass the steps of an inner operation on and return its result.

    ``result = yield from relay(inner_steps(...))``; the inner generator is closed
    whatever happens to the outer one.
    """
    result = None
    try:
        for step in steps:
            if isinstance(step, ResultReady):
                result = step.result
            else:
                yield step
    finally:
        steps.close()
    return result


def run_to_end(
    steps: Generator[Step, None, None], on_step: Callable[[Step], None] | None = None
) -> Any:
    """Consume `steps` and return the result of its `ResultReady`."""
    result = None
    try:
        for step in steps:
            if on_step is not None:
                on_step(step)
            if isinstance(step, ResultReady):
                result = step.result
    finally:
        steps.close()
    return result


def counted(
    steps: Generator[Step, None, None], *told: type[Step]
) -> Generator[Step, None, None]:
    """Steps of an inner run, for an outer one that counts in other units.

    How far the inner run is becomes `BlockDone`. Its result is passed on, and steps of
    the kinds in `told`; a stage among them loses its numbers, which are not those of
    the outer run. Nothing else is told.
    """
    try:
        for step in steps:
            if isinstance(step, StageStarted) and isinstance(step, told):
                yield replace(step, done=0, total=0)
            elif isinstance(step, (ResultReady, *told)):
                yield step
            elif step.total:
                yield BlockDone(step.done, step.total)
    finally:
        steps.close()


@dataclass(frozen=True)
class TrainingProgress(Step):
    """A training went on; `done` of `total` steps of the optimiser are made.

    Attributes
    ----------
    losses : mapping of str to float
        Means since the last report; ``"validation"`` where it was measured now.
    learning_rate : float
    images_per_second : float
        Patches seen per second.
    seconds_left : float
    memory : int
        Bytes that the process holds (on the GPU, where it trains on one).
    watts : float or None
        Power that the machine takes, measured or estimated lately; None if not known.
    """

    losses: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    images_per_second: float = 0.0
    seconds_left: float = 0.0
    memory: int = 0
    watts: float | None = None


@dataclass(frozen=True)
class PreviewReady(Step):
    """A slice restored by the network as it is now; `volume` lies in its place."""

    volume: Any = None


@dataclass(frozen=True)
class CheckpointSaved(Step):
    """From here the work goes on if it is interrupted; `path` is the file."""

    path: Any = None


@dataclass(frozen=True)
class CentreFound(Step):
    """The rotation axis of a scan is known; `centre` says where, and how surely."""

    centre: Any = None


@dataclass(frozen=True)
class IterationDone(Step):
    """An iterative algorithm made an iteration.

    Attributes
    ----------
    residual : float or None
        Share of the measurement that is not explained yet, where it is known.
    """

    residual: float | None = None
