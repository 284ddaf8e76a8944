"""Predicts the effect of a run over a series after its first or last tile."""

from __future__ import annotations

from collections.abc import Generator

from napari_geosr.core.steps import ShouldStop, Step
from napari_geosr.operations.restore.measurements import MeasurementStore
from napari_geosr.operations.restore.series.preparation import (
    PreparedSeries,
    are_series_verdicts_kept,
    reported_series_verdict_steps,
)
from napari_geosr.operations.restore.verdict.late import LateVerdict
from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict


class LateSeriesVerdict(LateVerdict):
    """A prediction for each channel that becomes known only after the run has started.

    Parameters
    ----------
    series : PreparedSeries
    kept : MeasurementStore or None
        Receives the predictions.
    should_stop : callable
    """

    def __init__(
        self,
        series: PreparedSeries,
        kept: MeasurementStore | None,
        should_stop: ShouldStop,
    ) -> None:
        super().__init__(series.first, kept, should_stop)
        self._series = series

    def _verdict_steps(self) -> Generator[Step, None, RunVerdict | None]:
        found = yield from reported_series_verdict_steps(
            self._series, kept=self._kept, should_stop=self._should_stop
        )
        return found.verdict


def series_verdict_steps(
    series: PreparedSeries,
    *,
    strict: bool,
    spare: bool,
    may_look_late: bool,
    kept: MeasurementStore | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[PreparedSeries, LateVerdict | None]]:
    """Predict the effect of a run now, or return a prediction for later.

    The prediction is made now if the run depends on it, or if it is already known.

    Parameters
    ----------
    strict, spare, kept, should_stop
        As in `reported_series_verdict_steps`.
    may_look_late : bool
        Whether the prediction may be made after the first or last tile.
    """
    decides = strict or (spare and len(series.channels) > 1)
    if may_look_late and not decides and not are_series_verdicts_kept(series, kept):
        return series, LateSeriesVerdict(series, kept, should_stop)
    series = yield from reported_series_verdict_steps(
        series, strict=strict, spare=spare, kept=kept, should_stop=should_stop
    )
    return series, None
