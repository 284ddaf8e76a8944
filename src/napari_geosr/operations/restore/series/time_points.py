"""Examines time points where noise differs strongly from that of the typical point."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import FLOOR, Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    never_stop,
    run_to_end,
)
from napari_geosr.inference.intensity import without_hot_voxels
from napari_geosr.measure.noise import noise_steps
from napari_geosr.operations.restore.series.plan import Point, SeriesPlan
from napari_geosr.operations.restore.verdict.run_verdict import SEVERITY, RunVerdict
from napari_geosr.operations.restore.verdict.steps import verdict_steps

if TYPE_CHECKING:
    from napari_geosr.operations.restore.preparation import PreparedRestoration

#: Maximum ratio of the highest to the lowest noise level of the examined time points;
#: above it, a warning is given, and the verdict includes the extreme time points.
_CHANGES = 1.5


def changing_noise(
    plan: SeriesPlan,
    channel: int | None,
    typical: PreparedRestoration,
    should_stop: ShouldStop,
) -> dict[Point, Noise]:
    """Return the noise of a channel's examined time points if it differs strongly.

    The first, the last and the typical time point are examined.

    Parameters
    ----------
    typical : PreparedRestoration
        Preparation of the typical time point; without noise if the model does not use
        it.

    Returns
    -------
    dict
        Noise by point, in storage order; empty if the levels are similar, or the model
        does not use the noise.
    """
    noise = typical.noise
    points = [point for point in plan.points if point.channel == channel]
    if noise is None or len(points) < 2:
        return {}
    found = {plan.typical(channel): noise}
    for point in (points[0], points[-1]):
        if point not in found and plan.varies(point):
            seen = without_hot_voxels(plan.at(point), typical.statistics)
            steps = noise_steps(seen, should_stop=should_stop)
            # For example, the last time point may be incomplete.
            with suppress(VolumeError):
                found[point] = run_to_end(steps)
    least = FLOOR * noise.contrast
    levels = [max(each.level, least) for each in found.values()]
    if max(levels) <= _CHANGES * min(levels):
        return {}
    return {point: found[point] for point in points if point in found}


def changing_noise_warning(noises: Mapping[Point, Noise], typical: Point) -> str:
    """Return the warning about noise that changes over time.

    Parameters
    ----------
    noises : mapping of Point to Noise
        Result of `changing_noise`, not empty.
    typical : Point
        The time point that determines the settings.
    """
    shown = ", ".join(
        f"{noise.level:.3g} at time point {point.time}"
        for point, noise in noises.items()
    )
    return (
        f"The noise changes over time (standard deviation {shown}), but all time "
        f"points are restored with the settings for time point {typical.time}. Restore "
        "time points with very different noise separately (--time)."
    )


def extreme_points(noises: Mapping[Point, Noise]) -> tuple[Point, ...]:
    """Return the examined points with the least and the most noise."""
    if not noises:
        return ()
    ordered = sorted(noises, key=lambda point: noises[point].level)
    return ordered[0], ordered[-1]


def time_point_words(point: Point) -> str:
    """Return the name of a time point at the beginning of a sentence."""
    return f"Time point {point.time}"


def worst_time_point_steps(
    typical: PreparedRestoration,
    extremes: Mapping[Point, PreparedRestoration],
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RunVerdict]:
    """Examine a run at its typical time point and at those with extreme noise.

    Parameters
    ----------
    typical : PreparedRestoration
        Preparation for the typical time point.
    extremes : mapping of Point to PreparedRestoration
        The same settings, for the time points with the least and the most noise; empty
        if the noise hardly changes.

    Returns
    -------
    RunVerdict
        The most severe verdict, with its time point; of equally severe verdicts, that
        of the typical time point. Sentences on harm at other time points are added.
    """
    first = yield from verdict_steps(typical, should_stop=should_stop)
    found = [first]
    for point, prepared in extremes.items():
        name = time_point_words(point)
        steps = verdict_steps(prepared, should_stop=should_stop)
        with StepIterator(steps) as iterator:
            for step in iterator:
                if isinstance(step, StageStarted):
                    yield replace(step, message=f"{name}: {step.message}")
                else:
                    yield step
        verdict = iterator.result
        found.append(replace(verdict, sentence=f"{name}: {verdict.sentence}"))
    worst = max(found, key=lambda each: SEVERITY[each.level])
    also = [each.sentence for each in found if each.is_harmful and each is not worst]
    return replace(worst, reasons=(*worst.reasons, *also))
