"""Prepares the restoration of a series, with statistics over all time points.

Grey values are standardised with the statistics of a channel over all time points. If
the statistics of single time points were used, bleaching or a moving bright object
would change the grey scale between time points. If the statistics of all channels were
pooled, a dim channel would be lost. For models that use the noise, the noise is
measured at one time point of each channel, usually the middle one. If the noise of the
first or last time point differs strongly, the verdict includes these time points.
"""

from __future__ import annotations

from collections.abc import Container, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from napari_geosr.core.errors import (
    ConfigError,
    GeoSRError,
    ModelError,
    UniformVolumeError,
)
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.measurements import MeasurementStore
from napari_geosr.operations.restore.preparation import (
    PreparedRestoration,
    prepare_steps,
    with_strength,
)
from napari_geosr.operations.restore.series.plan import Point, SeriesPlan
from napari_geosr.operations.restore.series.time_points import (
    changing_noise,
    changing_noise_warning,
    extreme_points,
    worst_time_point_steps,
)
from napari_geosr.operations.restore.verdict.run_verdict import SEVERITY
from napari_geosr.operations.restore.verdict.steps import (
    is_verdict_kept,
    reported_verdict_steps,
)

if TYPE_CHECKING:
    from napari_geosr.models.distribution import TrainingLikeness
    from napari_geosr.operations.restore.ranking import Ranking
    from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict

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
    noises : mapping
        Noise of the examined time points, by channel, for channels with noise that
        changes strongly over time.
    """

    plan: SeriesPlan
    channels: Mapping[int | None, PreparedRestoration]
    copied: tuple[int | None, ...] = ()
    noises: Mapping[int | None, Mapping[Point, Noise]] = field(default_factory=dict)

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

    def judged_at(self, point: Point) -> PreparedRestoration:
        """Return the preparation for examining one point.

        The network is that of the run. If the noise changes over time, the noise is
        that of the point (None if it was not measured there), and a gain from a
        ranking does not apply.
        """
        prepared = self.at(point)
        if not self.has_other_noise(point):
            return prepared
        noise = self.noises[point.channel].get(point)
        return replace(prepared, noise=noise, ranking=None)

    def has_other_noise(self, point: Point) -> bool:
        """Return whether a point's noise may differ from that of the typical point."""
        is_changing = bool(self.noises.get(point.channel))
        return is_changing and point != self.plan.typical(point.channel)

    def extremes(self, channel: int | None) -> Mapping[Point, PreparedRestoration]:
        """Return preparations for the time points with the least and the most noise.

        The typical time point is left out. The mapping is empty if the noise hardly
        changes.
        """
        typical = self.plan.typical(channel)
        return {
            point: self.judged_at(point)
            for point in extreme_points(self.noises.get(channel, {}))
            if point != typical
        }

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
    rankings: Mapping[int | None, Ranking] | None = None,
    kept: MeasurementStore | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PreparedSeries]:
    """Load the model, compute statistics of each channel, and check that all match.

    Parameters
    ----------
    volume : Volume
        Axes from (T, C, Z, Y, X), including T or C.
    rankings : mapping of Ranking, optional
        Rankings by channel, if the model was selected automatically; the expected gain
        of a channel is taken from its ranking.
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
    noises: dict[int | None, Mapping[Point, Noise]] = {}
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
            prepared = yield from channel_steps(
                plan, channel, steps, warnings_by_channel
            )
        except UniformVolumeError:
            uniform.append(channel)
            if len(uniform) == len(plan.channels):
                raise
            continue
        ranking = None if rankings is None else rankings.get(channel)
        found[channel] = replace(prepared, ranking=ranking)
        changes = changing_noise(plan, channel, prepared, should_stop)
        if changes:
            noises[channel] = changes
            text = changing_noise_warning(changes, plan.typical(channel))
            warnings_by_channel.setdefault(text, []).append(channel)
    if uniform:
        sentence = "All voxels have the same grey value, so they are copied unchanged."
        warnings_by_channel[sentence] = uniform
    yield from channel_warnings(plan, warnings_by_channel)
    series = PreparedSeries(plan, found, tuple(uniform), noises)
    _refuse_mixture(series)
    return series


def _of_channel(
    kept: MeasurementStore | None, channel: int | None
) -> MeasurementStore | None:
    return None if kept is None else kept.within(f"channel {channel}")


def channel_steps(
    plan: SeriesPlan,
    channel: int | None,
    steps: Generator[Step, None, PreparedRestoration],
    warnings_by_channel: dict[str, list[int | None]],
) -> Generator[Step, None, PreparedRestoration]:
    """Yield the steps of a channel, and return their result; errors name the channel.

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
        typical = series.at(plan.typical(channel))
        steps = reported_verdict_steps(
            typical,
            strict=strict and not is_spared,
            kept=_of_channel(kept, channel),
            should_stop=should_stop,
            predict=partial(
                worst_time_point_steps,
                typical,
                series.extremes(channel),
                should_stop=should_stop,
            ),
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
        which = "some of its time points" if channel in series.noises else "it"
        yield WarningIssued(
            message=series.plan.of_channel(
                channel,
                "The channel is copied unchanged, because the chosen model would make "
                f"{which} worse.",
            )
        )
    return series.copying(harmful)
