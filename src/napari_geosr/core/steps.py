"""What engines yield: small typed steps, read alike by the CLI, docks and jobs."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from napari_geosr.core.types import AnyArray, AnyMapping

ShouldStop = Callable[[], bool]

T = TypeVar("T")


def never_stop() -> bool:
    """The `should_stop` of someone who never cancels."""
    return False


@dataclass(frozen=True)
class Step:
    """Base of every step; by itself it says how far the work is, and no more.

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
    """The last stage of a training: the model is judged on the held-out block."""


@dataclass(frozen=True)
class JudgingProgress(Step):
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
    deviation : Volume or None
        Standard deviations that the same tiles fill, where they are wanted.
    """

    volume: Any = None
    deviation: Any = None


@dataclass(frozen=True)
class TileDone(Step):
    """A tile of the output is finished.

    Attributes
    ----------
    slices : tuple of slice
        Where the tile lies in the output array.
    array : ndarray or None
        The finished voxels (a view; copy it to keep it).
    facts : mapping
        What a resumed run has to do in the same way, as it stands in its record.
    """

    slices: tuple[slice, ...] = ()
    array: AnyArray | None = field(default=None, repr=False)
    facts: AnyMapping = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class PartDone(Step):
    """A part of work is done of which nothing can be shown, such as a measurement."""


@dataclass(frozen=True)
class BlockDone(Step):
    """A block of the input was swept (measuring, statistics, copying)."""


class StepIterator(Generic[T]):
    """Iterate over `steps`, close them at the end, and keep what they return.

    For who has to look at each step; else ``result = yield from steps`` does::

        with StepIterator(steps) as iterator:
            for step in iterator:
                ...
        return iterator.result

    Attributes
    ----------
    result : T
        What the generator returned; only there once it has.
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
    """Consume `steps` and return what they return."""
    with StepIterator(steps) as iterator:
        for step in iterator:
            if on_step is not None:
                on_step(step)
    return iterator.result


def recount(
    steps: Generator[Step, None, T], *passed_on: type[Step]
) -> Generator[Step, None, T]:
    """Steps of an inner run, for an outer one that counts in other units.

    Progress of the inner run becomes `BlockDone`. Steps of the kinds in `passed_on`
    stay what they are, but for the numbers of a stage, which are not those of the outer
    run. All other steps are dropped. The result is that of the inner run.
    """
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, StageStarted) and isinstance(step, passed_on):
                yield replace(step, done=0, total=0)
            elif isinstance(step, passed_on):
                yield step
            elif step.total:
                yield BlockDone(step.done, step.total)
    return iterator.result


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
    iteration, iterations : int
        Of the slices that are made now: which one, and how many in all. Both 0 where
        an algorithm makes none.
    """

    residual: float | None = None
    iteration: int = 0
    iterations: int = 0

    @property
    def text(self) -> str:
        """Such as ``iteration 24 of 200``; empty where there are none."""
        if not self.iterations:
            return ""
        return f"iteration {self.iteration} of {self.iterations}"
