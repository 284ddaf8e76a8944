"""Predicts the effect of a run after its first tile, to avoid delaying the tile.

A run that resumes an earlier one makes the prediction after its last tile: the earlier
run may have ended during the prediction, and repeated predictions would leave no time
for tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from napari_geosr.core.errors import Cancelled, FileError, GeoSRError
from napari_geosr.core.steps import (
    StageStarted,
    Step,
    StepIterator,
    TileDone,
    WarningIssued,
)
from napari_geosr.core.types import AnyDict

if TYPE_CHECKING:
    from napari_geosr.io.unfinished_files.journal import Journal
    from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict

#: Warning if the prediction was stopped, but the run is complete.
_STOPPED = (
    "The effect of the model was not predicted, because the job was stopped before "
    "the prediction was finished. The result is complete."
)


class _TilesSummary(Protocol):
    """Result of computing the tiles of a run."""

    @property
    def complete(self) -> bool:
        """Whether all tiles are finished."""


class _WithVerdict(Protocol):
    """A restoration, of one volume or of a series, with a prediction of its effect."""

    @property
    def verdict(self) -> RunVerdict | None:
        """The prediction."""


T = TypeVar("T", bound=_TilesSummary)


class LateVerdict:
    """A prediction that becomes known only after its run has started.

    Parameters
    ----------
    predict : callable
        Returns steps that make, keep and report the prediction; their return value is
        the restoration with the prediction.

    Attributes
    ----------
    verdict : RunVerdict or None
        The prediction; None until it is known.
    """

    def __init__(
        self, predict: Callable[[], Generator[Step, None, _WithVerdict]]
    ) -> None:
        self._verdict_steps = predict
        self.verdict: RunVerdict | None = None
        self._is_stopped = False

    def with_tiles(
        self,
        steps: Generator[Step, None, T],
        stage: str,
        journals: Sequence[Journal] = (),
        *,
        is_resumed: bool = False,
    ) -> Generator[Step, None, T]:
        """Yield the steps of a run; predict its effect after the first or last tile.

        Parameters
        ----------
        steps : generator
        stage : str
            Message for the tile stage, which is repeated after the prediction.
        journals : sequence of Journal
            Journals of the files; after the last tile, they are saved first, because
            the run may be killed during the prediction.
        is_resumed : bool
            Whether an earlier run has finished tiles. The prediction is then made after
            the last tile. The prediction is skipped if no tiles are left, because the
            earlier run ended during its prediction.
        """
        is_due, n_tiles = not is_resumed, 0
        with StepIterator(steps) as iterator:
            for step in iterator:
                yield step
                n_tiles += isinstance(step, TileDone)
                if is_due and isinstance(step, TileDone):
                    is_due = False
                    yield from self._predict()
                    yield StageStarted(step.done, step.total, message=stage)
        done = iterator.result
        if done.complete and is_resumed and n_tiles:
            # Without a saved journal, tiles are computed again if this run is killed.
            with suppress(FileError):
                for journal in journals:
                    journal.commit()
            yield from self._predict()
        if done.complete and (self._is_stopped or not n_tiles):
            yield WarningIssued(message=_STOPPED)
        return done

    def _predict(self) -> Generator[Step, None, None]:
        try:
            prepared = yield from self._verdict_steps()
            self.verdict = prepared.verdict
        except Cancelled:  # the run itself stops as well, and keeps its finished tiles
            self._is_stopped = True
        except GeoSRError as error:
            yield WarningIssued(
                message=f"The effect of the model could not be predicted. {error}"
            )

    def to_record(self) -> AnyDict:
        """Return the entry for the run's record; empty without a prediction."""
        return {} if self.verdict is None else {"verdict": self.verdict.to_json_dict()}
