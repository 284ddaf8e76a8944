"""Prepares the restoration of a series, with statistics over all time points.

Grey values are standardised with the statistics of a channel over all time points. If
the statistics of single time points were used, bleaching or a moving bright object
would change the grey scale between time points. If the statistics of all channels were
pooled, a dim channel would be lost. For models that use the noise, the noise is
measured at one time point of each channel, usually the middle one.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from napari_geosr.core.errors import (
    ConfigError,
    GeoSRError,
    ModelError,
    UniformVolumeError,
    VolumeError,
)
from napari_geosr.core.noise import FLOOR
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.volume import Volume
from napari_geosr.inference.intensity import without_hot_voxels
from napari_geosr.measure.noise import noise_steps
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.measurements import MeasurementStore
from napari_geosr.operations.restore.preparation import (
    PreparedRestoration,
    prepare_steps,
    with_strength,
)
from napari_geosr.operations.restore.series.plan import Point, SeriesPlan
from napari_geosr.operations.restore.verdict.run_verdict import SEVERITY
from napari_geosr.operations.restore.verdict.steps import (
    is_verdict_kept,
    reported_verdict_steps,
)

if TYPE_CHECKING:
    from napari_geosr.models.distribution import TrainingLikeness
    from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict

#: Ratio of the highest to the lowest noise level of the examined time points above
#: which a warning is given.
_CHANGES = 1.5
_LEVELS = ("ok", "caution", "unlike")


@dataclass(frozen=True)
class PreparedSeries:
    """A series and a matching model, with everything that a run needs.

    Attributes
    ----------
    plan : SeriesPlan
    channels : mapping
        Preparation over all time points, by channel (None if there is no such axis);
        without the channels that are copied.
    copied : tuple of int
        Channels that are copied because all their voxels have the same grey value, or
        because the automatically chosen model would make these channels worse.
    """

    plan: SeriesPlan
    channels: Mapping[int | None, PreparedRestoration]
    copied: tuple[int | None, ...] = ()

    @property
    def first(self) -> PreparedRestoration:
        """Preparation of the first channel that is not copied."""
        return next(iter(self.channels.values()))

    @property
    def whole(self) -> PreparedRestoration:
        """Preparation with the whole series, but the statistics of its first channel.

        Use it for properties shared by all channels: model, settings, device, factors
        and types.
        """
        return replace(
            self.first,
            volume=self.plan.volume,
            likeness=self.likeness,
            verdict=self.verdict,
        )

    @property
    def likeness(self) -> TrainingLikeness:
        """Similarity of the least similar channel to the training data."""
        found = [(c, each.likeness) for c, each in self.channels.items()]
        worst = max((v for _, v in found), key=lambda v: _LEVELS.index(v.level))
        if len(found) == 1:
            return worst
        reasons = [
            f"Channel {c}: {' '.join(likeness.reasons)}"
            for c, likeness in found
            if likeness.level != "ok"
        ]
        return replace(worst, reasons=tuple(reasons))

    @property
    def verdict(self) -> RunVerdict | None:
        """Worst prediction for any channel; None before channels are examined."""
        found = [
            (channel, each.verdict)
            for channel, each in self.channels.items()
            if each.verdict is not None
        ]
        if not found:
            return None
        channel, worst = max(found, key=lambda item: SEVERITY[item[1].level])
        return replace(worst, sentence=self.plan.of_channel(channel, worst.sentence))

    def with_strength(self, strength: float) -> PreparedSeries:
        """Return the same run with another strength, without preparing it again.

        Raises
        ------
        ConfigError
            If the strength is out of range, or the model does not use the noise.
        """
        channels = {
            channel: with_strength(each, strength)
            for channel, each in self.channels.items()
        }
        return replace(self, channels=channels)

    def at(self, point: Point) -> PreparedRestoration:
        """Return the preparation for a run over one point.

        Copied channels use the preparation of another channel.
        """
        prepared = self.channels.get(point.channel, self.first)
        return replace(prepared, volume=self.plan.at(point))

    def copying(self, channels: Container[int | None]) -> PreparedSeries:
        """Return the same run, in which these channels are copied, not restored."""
        restored = {c: each for c, each in self.channels.items() if c not in channels}
        added = tuple(c for c in self.channels if c not in restored)
        return replace(self, channels=restored, copied=(*self.copied, *added))

    def doubts(self) -> Iterator[str]:
        """Yield sentences on how a run will treat unusual voxels."""
        for channel, prepared in self.channels.items():
            for sentence in prepared.doubts():
                yield self.plan.of_channel(channel, sentence)

    def named(self, name: str) -> PreparedSeries:
        """Return the same preparation for a renamed volume, without new statistics."""
        return replace(self, plan=SeriesPlan(self.plan.volume.replace(name=name)))


def prepare_series_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    kept: MeasurementStore | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PreparedSeries]:
    """Load the model, compute statistics of each channel, and check that all match.

    Parameters
    ----------
    volume : Volume
        Axes from (T, C, Z, Y, X), including T or C.
    kept : MeasurementStore, optional
        Receives the measurements, and provides those of an earlier run.

    Returns
    -------
    PreparedSeries

    Raises
    ------
    ConfigError, ModelError, VolumeError
        As for `prepare_steps`; the message names the channel.
    """
    plan = SeriesPlan(volume)
    found: dict[int | None, PreparedRestoration] = {}
    uniform: list[int | None] = []
    warnings_by_channel: dict[str, list[int | None]] = {}
    for channel in plan.channels:
        steps = prepare_steps(
            plan.at(plan.typical(channel)),
            config,
            should_stop=should_stop,
            whole=plan.planes(channel),
            kept=_of_channel(kept, channel),
        )
        try:
            found[channel] = yield from channel_steps(
                plan, channel, steps, warnings_by_channel
            )
        except UniformVolumeError:
            uniform.append(channel)
            if len(uniform) == len(plan.channels):
                raise
            continue
        text = _changing_noise(plan, channel, found[channel], should_stop)
        if text:
            warnings_by_channel.setdefault(text, []).append(channel)
    if uniform:
        sentence = "All voxels have the same grey value, so they are copied unchanged."
        warnings_by_channel[sentence] = uniform
    yield from channel_warnings(plan, warnings_by_channel)
    series = PreparedSeries(plan, found, tuple(uniform))
    _refuse_mixture(series)
    return series


def _of_channel(
    kept: MeasurementStore | None, channel: int | None
) -> MeasurementStore | None:
    return None if kept is None else kept.within(f"channel {channel}")


def _changing_noise(
    plan: SeriesPlan,
    channel: int | None,
    typical: PreparedRestoration,
    should_stop: ShouldStop,
) -> str:
    """Return a warning if the noise of the first or last time point differs strongly.

    Parameters
    ----------
    typical : PreparedRestoration
        Preparation of the measured time point; without noise if the model does not use
        it.
    """
    noise = typical.noise
    points = [point for point in plan.points if point.channel == channel]
    if noise is None or len(points) < 2:
        return ""

    levels = {plan.typical(channel): noise.level}
    for point in (points[0], points[-1]):
        if point not in levels and plan.varies(point):
            seen = without_hot_voxels(plan.at(point), typical.statistics)
            steps = noise_steps(seen, should_stop=should_stop)
            with suppress(VolumeError):  # e.g. an incomplete last time point
                levels[point] = run_to_end(steps).level
    least = FLOOR * noise.contrast
    lowest, highest = (max(end(levels.values()), least) for end in (min, max))
    if highest <= _CHANGES * lowest:
        return ""
    shown = ", ".join(
        f"{levels[point]:.3g} at time point {point.time}"
        for point in points
        if point in levels
    )
    return (
        f"The noise changes over time (standard deviation {shown}), but all time "
        "points are restored with the settings for the middle one. Restore time "
        "points with very different noise separately (--time)."
    )


def channel_steps(
    plan: SeriesPlan,
    channel: int | None,
    steps: Generator[Step, None, PreparedRestoration],
    warnings_by_channel: dict[str, list[int | None]],
) -> Generator[Step, None, PreparedRestoration]:
    """Yield the steps of a channel, name the channel in errors; return the result.

    Warnings are collected in `warnings_by_channel`, for `channel_warnings`.

    Parameters
    ----------
    plan : SeriesPlan
    channel : int or None
        None if there are no channels.
    steps : generator
        Prepares the channel.
    warnings_by_channel : dict
        Receives the channels of every warning.
    """
    try:
        with StepIterator(steps) as iterator:
            for step in iterator:
                if isinstance(step, WarningIssued):
                    warnings_by_channel.setdefault(step.message, []).append(channel)
                elif isinstance(step, StageStarted):
                    text = plan.of_channel(channel, step.message)
                    yield replace(step, message=text)
                else:
                    yield step
    except GeoSRError as error:
        text = plan.of_channel(channel, str(error))
        if text == str(error):
            raise
        raise type(error)(text) from error
    return iterator.result


def channel_warnings(
    plan: SeriesPlan, warnings_by_channel: Mapping[str, list[int | None]]
) -> Iterator[Step]:
    """Yield the collected warnings, with the channels to which they apply.

    A warning that applies to all channels is yielded without their names.
    """
    for text, channels in warnings_by_channel.items():
        if len(channels) == len(plan.channels):
            yield WarningIssued(message=text)
        else:
            yield WarningIssued(message=plan.of_channel(channels, text))


def _refuse_mixture(series: PreparedSeries) -> None:
    """Refuse channels with results that cannot be stored in one file.

    Such results differ in voxel size or type, or only some have deviations or labels.
    """
    kinds = {
        (each.factors, each.output_dtype, each.has_deviation, each.labels)
        for each in series.channels.values()
    }
    if len(kinds) > 1:
        names = ", ".join(
            f"channel {c}: {each.model.card.name}"
            for c, each in series.channels.items()
        )
        raise ConfigError(
            f"The channels of {series.plan.volume.title} can be combined into one "
            "result only if their models are of the same kind, which they are not "
            f"({names}). Name one model for all, or restore the channels one by one "
            "(--channel)."
        )


def are_series_verdicts_kept(
    series: PreparedSeries, kept: MeasurementStore | None
) -> bool:
    """Return whether predictions from earlier runs are stored for all channels."""
    return all(
        is_verdict_kept(prepared, _of_channel(kept, channel))
        for channel, prepared in series.channels.items()
    )


def reported_series_verdict_steps(
    series: PreparedSeries,
    *,
    strict: bool = False,
    spare: bool = False,
    kept: MeasurementStore | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PreparedSeries]:
    """Examine the scan before a run, and report the findings for each channel.

    Parameters
    ----------
    strict : bool
        Whether to refuse a run that would do more harm than good to a channel.
    spare : bool
        Whether to copy such channels instead, unless the run would harm all channels.
    kept : MeasurementStore, optional
        Receives the predictions, and provides those of an earlier run.

    Returns
    -------
    PreparedSeries
        The series, with the predictions.

    Raises
    ------
    ModelError
        If `strict` is True and the verdict on a channel that is not copied is harmful.
    """
    plan = series.plan
    found: dict[int | None, PreparedRestoration] = {}
    warnings_by_channel: dict[str, list[int | None]] = {}
    is_spared = spare and len(series.channels) > 1
    for channel in series.channels:
        steps = reported_verdict_steps(
            series.at(plan.typical(channel)),
            strict=strict and not is_spared,
            kept=_of_channel(kept, channel),
            should_stop=should_stop,
        )
        looked = yield from channel_steps(plan, channel, steps, warnings_by_channel)
        found[channel] = replace(series.channels[channel], verdict=looked.verdict)
    yield from channel_warnings(plan, warnings_by_channel)
    series = replace(series, channels=found)
    if is_spared:
        series = yield from _spared_steps(series)
        if strict and series.verdict is not None and series.verdict.is_harmful:
            raise ModelError(
                f"{plan.volume.title} was not restored, and nothing was written. "
                f"{series.verdict.sentence}"
            )
    return series


def _spared_steps(series: PreparedSeries) -> Generator[Step, None, PreparedSeries]:
    """Copy channels that the model would make worse, and report it.

    This applies to a model that was chosen automatically on the basis of another
    channel. If the model would make all channels worse, or if it is a super-resolution
    model, the series is returned unchanged.
    """
    harmful = [
        channel
        for channel, each in series.channels.items()
        if each.verdict is not None and each.verdict.is_harmful
    ]
    is_finer = max(series.first.factors) > 1
    if not harmful or is_finer or len(harmful) == len(series.channels):
        return series
    for channel in harmful:
        yield WarningIssued(
            message=series.plan.of_channel(
                channel,
                "The channel is copied unchanged, because the chosen model would make "
                "it worse.",
            )
        )
    return series.copying(harmful)
