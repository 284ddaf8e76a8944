"""Predicts the effect of a run after its first tile, to avoid delaying the tile."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, TypeVar

from napari_geosr.core.errors import Cancelled, GeoSRError
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    TileDone,
    WarningIssued,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.operations.restore.verdict.steps import reported_verdict_steps

if TYPE_CHECKING:
    from napari_geosr.operations.restore.measurements import MeasurementStore
    from napari_geosr.operations.restore.preparation import PreparedRestoration
    from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict

T = TypeVar("T")


class LateVerdict:
    """A prediction that becomes known only after its run has started.

    Parameters
    ----------
    prepared : PreparedRestoration
    kept : MeasurementStore or None
        Receives the prediction.
    should_stop : callable

    Attributes
    ----------
    verdict : RunVerdict or None
        The prediction; None until it is known.
    """

    def __init__(
        self,
        prepared: PreparedRestoration,
        kept: MeasurementStore | None,
        should_stop: ShouldStop,
    ) -> None:
        self._prepared, self._kept, self._should_stop = prepared, kept, should_stop
        self.verdict: RunVerdict | None = None

    def after_first_tile(
        self, steps: Generator[Step, None, T], stage: str
    ) -> Generator[Step, None, T]:
        """Yield the steps of a run; predict its effect after the first tile.

        Parameters
        ----------
        steps : generator
        stage : str
            Message for the tile stage, which is repeated after the prediction.
        """
        is_due = True
        with StepIterator(steps) as iterator:
            for step in iterator:
                yield step
                if is_due and isinstance(step, TileDone):
                    is_due = False
                    yield from self._predict()
                    yield StageStarted(step.done, step.total, message=stage)
        return iterator.result

    def _predict(self) -> Generator[Step, None, None]:
        try:
            prepared = yield from reported_verdict_steps(
                self._prepared, kept=self._kept, should_stop=self._should_stop
            )
        except Cancelled:  # the run itself stops as well, and keeps its finished tiles
            return
        except GeoSRError as error:
            yield WarningIssued(
                message=f"The effect of the model could not be predicted. {error}"
            )
            return
        self.verdict = prepared.verdict

    def to_record(self) -> AnyDict:
        """Return the entry for the run's record; empty without a prediction."""
        return {} if self.verdict is None else {"verdict": self.verdict.to_json_dict()}
