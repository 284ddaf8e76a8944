"""Look at what a run would do to a series, on a typical point of each channel."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.operations.restore.outlook import looked_steps
from napari_geosr.operations.restore.preparation import Prepared
from napari_geosr.operations.restore.series.preparation import (
    PreparedSeries,
    channel_steps,
    told_of_channels,
)


def looked_series_steps(
    series: PreparedSeries,
    *,
    strict: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PreparedSeries]:
    """Look before a run, and tell what was found of each channel.

    Parameters
    ----------
    strict : bool
        Whether a run that would do more harm than good to a channel is refused.

    Returns
    -------
    PreparedSeries
        With the outlooks.

    Raises
    ------
    ModelError
        If `strict`, and the outlook of a channel is harmful.
    """
    plan = series.plan
    found: dict[int | None, Prepared] = {}
    said: dict[str, list[int | None]] = {}
    for channel in plan.channels:
        steps = looked_steps(
            series.at(plan.typical(channel)), strict=strict, should_stop=should_stop
        )
        looked = yield from channel_steps(plan, channel, steps, said)
        found[channel] = replace(series.channels[channel], outlook=looked.outlook)
    yield from told_of_channels(plan, said)
    return replace(series, channels=found)
