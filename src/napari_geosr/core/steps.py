"""Typed steps that running operations yield to the CLI, docks and jobs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from napari_geosr.core.types import AnyArray, AnyMapping

ShouldStop = Callable[[], bool]

T = TypeVar("T")


def never_stop() -> bool:
    """Return False: the default `should_stop`, which never cancels."""
    return False


@dataclass(frozen=True)
class Step:
    """Base of every step; on its own, it reports only progress.

    Attributes
    ----------
    done, total : int
        Units of work done and in total; both 0 if the work cannot be counted.
    """

    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class StageStarted(Step):
    """A new stage begins; `message` names it in a few plain words."""

    message: str = ""


@dataclass(frozen=True)
class JudgingStarted(StageStarted):
    """The last stage of training: the model is evaluated on the held-out block."""


@dataclass(frozen=True)
class VerdictReached(StageStarted):
    """The scan was checked without findings; the verdict, `message`, stays visible.

    Attributes
    ----------
    has_limits : bool
        Whether the message states what cannot be measured in the result.
    """

    has_limits: bool = False


@dataclass(frozen=True)
class JudgingProgress(Step):
    """Progress of the evaluation; `done` and `total` are voxels of the results."""


@dataclass(frozen=True)
class WarningIssued(Step):
    """A warning to the user; the run continues."""

    message: str = ""


@dataclass(frozen=True)
class NoteIssued(WarningIssued):
    """A note on how a run proceeds; the user does not need to do anything."""


def texts_of(said: Iterable[WarningIssued], *, notes: bool) -> list[str]:
    """Return the texts of the notes, or of all other warnings, each once."""
    kept = (each for each in said if isinstance(each, NoteIssued) == notes)
    return list(dict.fromkeys(each.message for each in kept))


def heard_steps(
    steps: Generator[Step, None, T], said: list[WarningIssued]
) -> Generator[Step, None, T]:
    """Pass the steps of a run on, and append its warnings and notes to `said`."""
    try:
        while True:
            step = next(steps)
            if isinstance(step, WarningIssued):
                said.append(step)
            yield step
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


@dataclass(frozen=True)
class TargetReady(Step):
    """The output was created; `volume` is a `Volume` with an array that the tiles fill.

    Attributes
    ----------
    deviation : Volume or None
        Standard deviations, filled by the same tiles; None if not requested.
    finished : sequence of tuple of slice
        Boxes that an earlier run has finished.
    """

    volume: Any = None
    deviation: Any = None
    finished: Sequence[tuple[slice, ...]] = field(default=(), repr=False)


@dataclass(frozen=True)
class TileDone(Step):
    """A tile of the output is finished.

    Attributes
    ----------
    slices : tuple of slice
        Position of the tile in the output array.
    array : ndarray or None
        The finished voxels (a view; copy it to keep it).
    facts : mapping
        Values that a resumed run must reuse, as stored in the provenance record.
    """

    slices: tuple[slice, ...] = ()
    array: AnyArray | None = field(default=None, repr=False)
    facts: AnyMapping = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class PartDone(Step):
    """A unit of work without anything to display, such as a measurement, is done."""


@dataclass(frozen=True)
class BlockDone(Step):
    """A block of the input was processed (measuring, statistics, copying)."""


@dataclass(frozen=True)
class SamplesKept(BlockDone):
    """Finished samples are stored in files; resumed runs do not draw them again.

    Attributes
    ----------
    number : int
        Number of finished samples.
    """

    number: int = 0


@dataclass(frozen=True)
class PartSaved(BlockDone):
    """A part of the current unit of work was saved; resumed runs do not repeat it."""


class StepIterator(Generic[T]):
    """Iterate over `steps`, close them at the end, and keep their return value.

    For callers that inspect each step; otherwise use ``result = yield from steps``::

        with StepIterator(steps) as iterator:
            for step in iterator:
                ...
        return iterator.result

    Attributes
    ----------
    result : T
        Return value of the generator; set once it has finished.
    """

    result: T

    def __init__(self, steps: Generator[Step, None, T]) -> None:
        self._steps = steps

    def __enter__(self) -> StepIterator[T]:
        return self

    def __exit__(self, *exc: object) -> None:
        self._steps.close()

    def __iter__(self) -> Generator[Step, None, None]:
        self.result = yield from self._steps


def run_to_end(
    steps: Generator[Step, None, T], on_step: Callable[[Step], None] | None = None
) -> T:
    """Consume `steps` and return their return value."""
    with StepIterator(steps) as iterator:
        for step in iterator:
            if on_step is not None:
                on_step(step)
    return iterator.result


def recount(
    steps: Generator[Step, None, T],
    *passed_on: type[Step],
    saved: tuple[type[Step], ...] = (),
) -> Generator[Step, None, T]:
    """Convert the steps of an inner run for an outer run with other units of progress.

    Progress of the inner run becomes `BlockDone`. Steps of the types in `passed_on` are
    passed on; the progress of a `StageStarted` is reset, because it does not apply to
    the outer run. All other steps are dropped. The result is that of the inner run.

    Parameters
    ----------
    saved : tuple of type
        Types of the steps that mark saved progress, which become `PartSaved`.
    """
    reached = 0
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, StageStarted):
                reached = step.done
            if isinstance(step, StageStarted) and isinstance(step, passed_on):
                yield replace(step, done=0, total=0)
            elif isinstance(step, passed_on):
                yield step
            elif isinstance(step, saved) and step.done > reached:
                reached = step.done
                yield PartSaved(step.done, step.total)
            elif step.total:
                yield BlockDone(step.done, step.total)
    return iterator.result


@dataclass(frozen=True)
class TrainingProgress(Step):
    """Progress of training: `done` of `total` optimiser steps.

    Attributes
    ----------
    losses : mapping of str to float
        Means since the last report; includes ``"validation"`` if it was just measured.
    learning_rate : float
    images_per_second : float
        Patches processed per second.
    seconds_left : float
    memory : int
        Memory use of the process in bytes (GPU memory when training on a GPU).
    watts : float or None
        Current power consumption, measured or estimated; None if unknown.
    """

    losses: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    images_per_second: float = 0.0
    seconds_left: float = 0.0
    memory: int = 0
    watts: float | None = None


@dataclass(frozen=True)
class PreviewReady(Step):
    """A slice restored by the current network, with its position in space."""

    volume: Any = None


@dataclass(frozen=True)
class CheckpointSaved(Step):
    """A checkpoint was saved, from which the job can be resumed; `path` is its file."""

    path: Any = None


@dataclass(frozen=True)
class CentreFound(Step):
    """The rotation axis was found; `centre` holds its position and uncertainty."""

    centre: Any = None


@dataclass(frozen=True)
class IterationDone(Step):
    """An iterative algorithm finished an iteration.

    Attributes
    ----------
    residual : float or None
        Relative residual: fraction of the measurement not yet explained; None if it is
        unknown.
    iteration, iterations : int
        Current iteration and number of iterations for the slices being computed; both
        0 if the algorithm does not iterate.
    """

    residual: float | None = None
    iteration: int = 0
    iterations: int = 0

    @property
    def text(self) -> str:
        """Text such as ``iteration 24 of 200``; empty if there are no iterations."""
        if not self.iterations:
            return ""
        return f"iteration {self.iteration} of {self.iterations}"
