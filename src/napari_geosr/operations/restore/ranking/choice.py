"""Chooses the model of a run by ranking: for one scan, or for a series."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.text.vocabulary import SharpnessChoice
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.inference.members import is_generative
from napari_geosr.measure.noise import noise_steps
from napari_geosr.measure.number_text import signed_text
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.measurements import MeasurementStore
from napari_geosr.operations.restore.ranking.config import NONE, RankConfig
from napari_geosr.operations.restore.ranking.rank import find_ranking, rank_steps
from napari_geosr.operations.restore.ranking.result import Ranking
from napari_geosr.operations.restore.series.plan import Point, SeriesPlan

_MEASURING = "Measuring the noise"


def with_choice(config: RestoreConfig, ranking: Ranking) -> RestoreConfig:
    """Return the settings of the run with the chosen model.

    The strength of the ranking is used unless the settings have another one than 1.
    """
    chosen: AnyDict = {"model": ranking.choice, "upscale_factor": 1}
    if config.strength == 1:
        chosen["strength"] = ranking.chosen.run_strength
    if ranking.upscale_factor > 1:
        chosen["sharpness"] = _sharpness_of_auto(config)
    return config.model_copy(update=chosen)


def _sharpness_of_auto(config: RestoreConfig) -> SharpnessChoice:
    """Return the sharpness for the tests and the run: ``"auto"`` becomes ``"scan"``.

    Results as sharp as the scan agree with it within the noise bound. The result of an
    automatically chosen model is used without inspection, so it must not be sharper
    than the scan.
    """
    return "scan" if config.sharpness == "auto" else config.sharpness


def choose_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    noise: Noise | None = None,
    kept: MeasurementStore | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Ranking]:
    """Rank the models for a scan and report the choice.

    The last `WarningIssued` gives the choice and the reason.

    Parameters
    ----------
    volume : Volume
    config : RestoreConfig
    noise : Noise, optional
        Noise of the volume, if known.
    kept : MeasurementStore, optional
        Receives the ranking, and provides that of an earlier run.
    should_stop : callable

    Returns
    -------
    Ranking

    Raises
    ------
    ConfigError
        If the settings name further models, or samples of a diffusion model, which is
        not possible when the model is chosen automatically.
    """
    ranking = yield from _rank_steps(volume, config, noise, False, kept, should_stop)
    yield WarningIssued(message=f"auto: {ranking.reason}")
    return ranking


def _rank_steps(
    volume: Volume,
    config: RestoreConfig,
    noise: Noise | None,
    only_bounded: bool,
    kept: MeasurementStore | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, Ranking]:
    if config.ensemble_with:
        raise ConfigError(
            "The models of an ensemble must be named: replace --model auto with one "
            "of them, or omit --ensemble-with."
        )
    if is_generative(config.uncertainty):
        raise ConfigError(
            "The model that samples are drawn from must be named: replace --model "
            "auto with a model trained by napari-geosr train ddpm."
        )
    if config.upscale_factor > 1 and config.strength != 1:
        raise ConfigError(
            "The strength cannot be set while a super-resolution model is chosen "
            "automatically, because interpolation has no strength: leave --strength at "
            "1, or name a model (--model)."
        )
    settings = RankConfig(
        device=config.device,
        threads=config.threads,
        upscale_factor=config.upscale_factor,
        sharpness=_sharpness_of_auto(config),
    )
    of: dict[str, object] = {"only_bounded": True} if only_bounded else {}
    if config.strength != 1:  # the user's own strength is used
        of["lower_strengths"] = False
    if config.upscale_factor > 1:
        of = settings.upscaling_settings()
    kept = kept or MeasurementStore()
    ranking = find_ranking(kept, volume, **of)
    if ranking is None:
        ranking = yield from rank_steps(
            volume,
            settings,
            should_stop,
            noise=noise,
            only_bounded=only_bounded,
            lower_strengths=config.strength == 1,
        )
        kept.keep("ranking", ranking, **of)
    return ranking


def choose_for_series_steps(
    plan: SeriesPlan,
    config: RestoreConfig,
    kept: MeasurementStore | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[Ranking, dict[int | None, Ranking]]]:
    """Rank the models for one time point of each channel, and report the choice.

    All channels are restored with one model: among the best models of the channels, the
    one with the largest mean gain. Channels without a measurable object are not
    considered. A model with a noise bound leaves channels with less noise almost
    unchanged. A filter would blur them and is therefore not chosen for several
    channels. Super-resolution models are ranked only for the channel with the most
    noise.

    Returns
    -------
    ranking : Ranking
        The ranking that chose the model.
    rankings : dict
        Rankings by channel, for the channels on which the choice is based.
    """
    typical = [plan.typical(channel) for channel in plan.channels]
    points = [point for point in typical if plan.varies(point)] or typical[:1]
    if len(points) == 1:
        ranking = yield from choose_steps(
            plan.at(points[0]), config, kept=kept, should_stop=should_stop
        )
        yield WarningIssued(message=_basis([points[0].words], ""))
        return ranking, {points[0].channel: ranking}
    noises = yield from _noises_steps(plan, points, should_stop)
    judged, why = _judged(noises)
    if config.upscale_factor > 1 and len(judged) > 1:
        judged, why = judged[:1], "the channel with the most noise"
    rankings = []
    for point in judged:
        part = kept if kept is None else kept.within(f"channel {point.channel}")
        yield StageStarted(
            message=plan.of_channel(point.channel, "Comparing the models")
        )
        ranking = yield from _rank_steps(
            plan.at(point), config, noises[point], True, part, should_stop
        )
        rankings.append(ranking)
        reason = plan.of_channel(point.channel, f"auto: {ranking.reason}")
        yield WarningIssued(message=reason)
    ranking, gains = _best_on_average(rankings)
    basis = _basis([point.words for point in judged], why)
    yield WarningIssued(message=f"{basis}{gains}")
    by_channel = {p.channel: each for p, each in zip(judged, rankings, strict=True)}
    return ranking, by_channel


def _basis(places: Sequence[str], why: str) -> str:
    """State on which points of a series the choice is based, and why."""
    return (
        "The model for the whole series was chosen on the basis of "
        f"{' and '.join(places)}{f', {why}' if why else ''}."
    )


def _noises_steps(
    plan: SeriesPlan, points: Sequence[Point], should_stop: ShouldStop
) -> Generator[Step, None, dict[Point, Noise | None]]:
    """Measure the noise of each point; None where this is impossible."""
    noises: dict[Point, Noise | None] = {}
    for point in points:
        yield StageStarted(message=plan.of_channel(point.channel, _MEASURING))
        steps = noise_steps(plan.at(point), should_stop=should_stop)
        try:
            noises[point] = yield from steps
        except VolumeError:  # there are too few voxels for a measurement
            noises[point] = None
    return noises


def _judged(noises: dict[Point, Noise | None]) -> tuple[list[Point], str]:
    """Select the points for which models are ranked, noisiest first; give the reason.

    In a channel that contains little but noise, a model that removes everything would
    appear to be the best.
    """
    levels = {
        point: 0.0 if noise is None else noise.relative
        for point, noise in noises.items()
    }
    noisy = [point for point, level in levels.items() if level > 0]
    if not noisy:
        first = next(iter(noises))
        return [first], "because no noise could be measured in any channel"
    noisy.sort(key=lambda point: -levels[point])
    clear = [point for point in noisy if levels[point] <= 1]
    if clear and len(clear) < len(noisy):
        return clear, "because the noise of other channels exceeds their contrast"
    return clear or noisy[:1], "the only one with measurable noise" * (len(noisy) == 1)


def _best_on_average(rankings: Sequence[Ranking]) -> tuple[Ranking, str]:
    """Return the ranking that chose the model with the largest mean gain.

    The second value is a sentence with the mean gains. Only models that were chosen in
    one of the rankings were tested for their effect on pores. If such a model is left
    out of another ranking, its gain there counts as 0, because that channel would be
    left unchanged as a result of the verdict before the run.
    """
    gains = {
        ranking.choice: sum(_gain(ranking.choice, each) for each in rankings)
        / len(rankings)
        for ranking in rankings
    }
    best = max(gains, key=lambda name: gains[name])
    ranking, remark = _with_lowest_strength(best, rankings)
    if len(gains) == 1 or best == NONE:
        return ranking, remark
    means = ", ".join(
        f"{name} {signed_text(gain, 1)} dB"
        for name, gain in gains.items()
        if name != NONE
    )
    where = ", each channel at its own strength" if remark else ""
    return ranking, f" Expected gains, on average{where}: {means}.{remark}"


def _with_lowest_strength(
    name: str, rankings: Sequence[Ranking]
) -> tuple[Ranking, str]:
    """Return a ranking that chose a model, and a remark on the common strength.

    The strength is the lowest of all channels, because at a higher one the model would
    remove structures of the channel for which this strength was found.
    """
    ranking = next(each for each in rankings if each.choice == name)
    rows = [row for each in rankings for row in each.rows if row.name == name]
    lowest = min(row.run_strength for row in rows)
    if lowest == 1:
        return ranking, ""
    own = tuple(
        replace(row, run_strength=lowest) if row.name == name else row
        for row in ranking.rows
    )
    return replace(ranking, rows=own), f" The strength is {lowest:g} in all channels."


def _gain(name: str, ranking: Ranking) -> float:
    """Return the gain of a model in a ranking; 0 if the model was left out."""
    return next((row.gain for row in ranking.rows if row.name == name), 0.0)
