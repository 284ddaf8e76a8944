"""Prepares a restoration: settings, model, and statistics of the volume."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.orientation import same_orientation
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyDict, AnyDType
from napari_geosr.core.volume import Volume
from napari_geosr.inference import backends, members
from napari_geosr.inference.device import pick_device
from napari_geosr.inference.intensity import (
    IntensityStatistics,
    scan_steps,
    without_hot_voxels,
)
from napari_geosr.learning import diffusion
from napari_geosr.measure.noise import noise_steps
from napari_geosr.models.distribution import (
    TrainingLikeness,
    check_grey_scale,
    compare_with_training,
    draw_sample,
)
from napari_geosr.networks import needs_noise, set_network_noise
from napari_geosr.operations.inputs.scan import input_warnings
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.measurements import MeasurementStore, weights_of
from napari_geosr.operations.restore.memory import (
    check_reading,
    memory_of_run_in_errors,
    reads_within_budget,
    run_budget,
    sample_voxels,
)
from napari_geosr.operations.restore.ranking.models import find_models, wants_several
from napari_geosr.operations.restore.ranking.tune import (
    TunedFilter,
    tune_steps,
)
from napari_geosr.operations.restore.scale import (
    check_same_scale,
    check_strength,
    no_strength,
    scale_doubts,
    scaled,
    with_padding,
)
from napari_geosr.operations.restore.unusual_voxels import doubts, refuse_nonfinite
from napari_geosr.operations.restore.upscaling.doubtful_noise import undoubted_noise
from napari_geosr.operations.restore.upscaling.sharpness import sharpness_steps

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model
    from napari_geosr.models.card import ModelCard
    from napari_geosr.operations.restore.ranking import Ranking
    from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict

#: Standard deviation of the error made by rounding to whole numbers.
_ROUNDING = 12**-0.5


@dataclass(frozen=True)
class PreparedRestoration:
    """A volume and a matching model, with everything that a run needs.

    Attributes
    ----------
    volume : Volume
        One spatial volume, (Z, Y, X) or (Y, X).
    statistics : IntensityStatistics
        Statistics of the whole volume, because normalisation never uses single tiles.
    network : nn.Module
        The model's network or, for an uncertainty method, a network that combines all
        members and has two outputs.
    likeness : TrainingLikeness
        Similarity of the volume to the training data.
    others : tuple of Model
        Further models of an ensemble.
    noise : Noise or None
        Noise of the volume, in its grey values; None if it was not measured.
    ranking : Ranking or None
        The ranking that selected the model, if it was selected automatically.
    verdict : RunVerdict or None
        Predicted effect of the run on the volume; None if not predicted.
    """

    volume: Volume
    config: RestoreConfig
    model: Model
    network: Any
    statistics: IntensityStatistics
    device: str
    likeness: TrainingLikeness
    others: tuple[Model, ...] = ()
    noise: Noise | None = None
    ranking: Ranking | None = None
    verdict: RunVerdict | None = None

    @property
    def seen_volume(self) -> Volume:
        """The volume as the network receives it: without hot voxels."""
        return without_hot_voxels(self.volume, self.statistics)

    @property
    def models(self) -> tuple[Model, ...]:
        """All models of the run."""
        return (self.model, *self.others)

    @property
    def has_deviation(self) -> bool:
        """Whether a run also computes standard deviations."""
        return bool(self.network.spec.n_outputs > 1)

    @property
    def budget(self) -> int:
        """Memory budget of a run that starts now, in bytes."""
        return run_budget(self.config, self.device)

    @property
    def factors(self) -> tuple[int, ...]:
        """Upscale factor per axis (1 along Z for networks that work on planes)."""
        factors = tuple(self.network.spec.upscale_factor)
        return (1,) * (len(self.volume.axes) - len(factors)) + factors

    @property
    def labels(self) -> bool:
        """Whether the result consists of labels instead of grey values."""
        return self.model.card.labels > 1

    @property
    def output_dtype(self) -> AnyDType:
        """Type of the result: one byte for labels, otherwise from the settings."""
        if self.labels:
            return np.dtype(np.uint8)
        keeps = self.config.output_dtype == "input" and self.volume.dtype.kind in "iu"
        return self.volume.dtype if keeps else np.dtype(np.float32)

    @property
    def metadata(self) -> AnyDict:
        """Metadata of the restored volume."""
        kept = same_orientation(self.volume.metadata)
        return {"kind": "labels", **kept} if self.labels else kept

    def doubts(self) -> Iterator[str]:
        """Yield sentences on how a run will treat unusual voxels."""
        return doubts(
            self.volume,
            self.statistics,
            nonfinite=self.config.nonfinite,
            labels=self.labels,
        )

    @property
    def result_name(self) -> str:
        """Name of the restored volume."""
        factor = max(self.factors)
        suffix = f" ×{factor}" if factor > 1 else ""
        return f"{self.volume.name} · {self.model.card.name}{suffix}"


@reads_within_budget
def prepare_steps(
    volume: Volume,
    config: RestoreConfig,
    *,
    should_stop: ShouldStop = never_stop,
    alone: bool = True,
    noise: Noise | None = None,
    whole: Volume | None = None,
    ranking: Ranking | None = None,
    kept: MeasurementStore | None = None,
) -> Generator[Step, None, PreparedRestoration]:
    """Load the model, compute statistics of the volume, and check that they match.

    Parameters
    ----------
    alone : bool
        Whether the result is computed from this volume only; if so, a warning is
        issued for models that expect several inputs.
    noise : Noise, optional
        Noise of the volume, in its grey values, if known; by default it is measured for
        models that use it.
    whole : Volume, optional
        Volume to which `volume` belongs, as planes (Z, Y, X); by default `volume`
        itself. The statistics of this volume are used to judge and standardise the grey
        values.
    ranking : Ranking, optional
        The ranking that selected the model; noise and a filter's strength are taken
        from it.
    kept : MeasurementStore, optional
        Receives the measurements, and provides those of an earlier run.

    Raises
    ------
    ModelError
        If the model is unknown, damaged or made for another kind of volume.
    VolumeError
        If the volume has non-spatial axes, no finite values, or a single grey value.
    """
    volume = volume.select()
    whole = volume if whole is None else whole
    # Only the models' cards are read.
    model, others = find_models(volume, config, ranking)
    yield StageStarted(message=f"Loading model {config.model}")
    noise = ranking.noise if noise is None and ranking is not None else noise
    for doubt in input_warnings(volume, [each.card for each in (model, *others)]):
        yield WarningIssued(message=doubt)
    device = pick_device(config.device)
    backends.check_available(config.backend, device)
    check_reading(volume, model, config, device)
    kept = kept or MeasurementStore()
    statistics = yield from _statistics_steps(volume, whole, config, kept, should_stop)
    seen = without_hot_voxels(volume, statistics)
    whole = without_hot_voxels(whole, statistics)
    if others:  # the models must agree on the grey scale
        cards = (model.card, *(other.card for other in others))
        check_same_scale(cards)
        statistics = with_padding(statistics, cards, whole)
    else:
        statistics = scaled(statistics, model.card, whole)
    if model.card.labels > 1 or model.card.task == "generate":
        mean, std = statistics.mean, statistics.std
        for doubt in check_grey_scale(model.card, volume.title, mean, std):
            yield WarningIssued(message=doubt)
    if not model.card.has_weights and model.card.task == "denoise":
        tune = partial(tune_steps, noise=noise, device=device, should_stop=should_stop)
        tuned = yield from _tuned_steps(model, seen, statistics, config, kept, tune)
        model, noise = tuned
    for doubt in scale_doubts(model.card, whole):
        yield WarningIssued(message=doubt)
    if alone and model.card.inputs > 1:
        yield WarningIssued(message=wants_several(model))
    network = make_network(volume, config, (model, *others), statistics)
    if needs_noise(network):
        if noise is None:
            noise = yield from _noise_steps(seen, kept, should_stop)
        if model.card.upscale_factor > 1:
            noise = undoubted_noise(noise)
        _set_network_noise(network, noise, config, model.card, statistics, volume)
        budget = run_budget(config, device)
        with memory_of_run_in_errors(network, volume, statistics, budget, device):
            yield from sharpness_steps(
                network,
                seen,
                statistics,
                noise,
                config.sharpness,
                budget=budget,
                device=device,
                threads=config.threads,
                kept=kept,
                of=weights_of((model, *others)),
                should_stop=should_stop,
            )
    # Networks with a noise bound return a noise-free scan unchanged.
    changes = not (needs_noise(network) and noise is not None and noise.level == 0)
    likeness = yield from _likeness_steps(volume, whole, model, others, changes)
    if members.is_generative(config.uncertainty):
        at_once = sample_voxels(network, volume, config, device)
        network.sampler = make_sampler(network, config, statistics, model, at_once)
    elif config.strength != 1:
        check_strength((model, *others))
    found = volume, config, model, network, statistics, device, likeness, others
    return PreparedRestoration(*found, noise, ranking)


def _tuned_steps(
    model: Model,
    seen: Volume,
    statistics: IntensityStatistics,
    config: RestoreConfig,
    kept: MeasurementStore,
    tune: Callable[..., Generator[Step, None, tuple[Model, Noise]]],
) -> Generator[Step, None, tuple[Model, Noise]]:
    """Fit a classical filter to the scan, unless an earlier run has done so."""
    of = weights_of([model])
    known = kept.read("filter", TunedFilter, **of)
    if known is not None:
        return model.with_settings(**known.settings), known.noise
    fitted, noise = yield from tune(
        model, seen, statistics, factor=config.strength, threads=config.threads
    )
    kept.keep("filter", TunedFilter(dict(fitted.card.network_kwargs), noise), **of)
    return fitted, noise


def _noise_steps(
    seen: Volume, kept: MeasurementStore, should_stop: ShouldStop
) -> Generator[Step, None, Noise]:
    noise = kept.read("noise", Noise)
    if noise is None:
        yield StageStarted(message="Measuring the noise")
        noise = yield from noise_steps(seen, should_stop=should_stop)
        kept.keep("noise", noise)
    return noise


def _statistics_steps(
    volume: Volume,
    whole: Volume,
    config: RestoreConfig,
    kept: MeasurementStore,
    should_stop: ShouldStop,
) -> Generator[Step, None, IntensityStatistics]:
    """Compute statistics of the whole volume; refuse unknown voxels if required."""
    statistics = kept.read("statistics", IntensityStatistics)
    if statistics is None:
        yield StageStarted(message="Reading the grey values")
        try:
            statistics = yield from scan_steps(whole.data, should_stop=should_stop)
        except VolumeError as error:
            raise type(error)(f"{volume.title}: {error}") from error
        kept.keep("statistics", statistics)
    if statistics.n_nan or statistics.n_inf:
        refuse_nonfinite(volume, statistics, config.nonfinite)
    return statistics


def _likeness_steps(
    volume: Volume,
    whole: Volume,
    model: Model,
    others: tuple[Model, ...],
    changes: bool,
) -> Generator[Step, None, TrainingLikeness]:
    """Determine how similar the volume is to the training data; report problems.

    Models that generate images have learned from images without noise, so a noisy scan
    differs from these in any case. Only its grey scale is compared, by the run.
    """
    if model.card.task == "generate":
        return TrainingLikeness("ok")
    cards = [model.card, *(other.card for other in others)]
    found = [compare_with_training(card, draw_sample(whole), volume) for card in cards]
    for card, one in zip(cards, found, strict=True):
        if changes and one.level != "ok":
            lead = "" if card is model.card else f"{card.name}: "
            yield WarningIssued(message=f"{lead}{' '.join(one.reasons)}")
    return found[0]


def _set_network_noise(
    network: Any,
    noise: Noise,
    config: RestoreConfig,
    card: ModelCard,
    statistics: IntensityStatistics,
    volume: Volume,
) -> None:
    """Set a network's noise to that of the scan, multiplied by the strength setting."""
    # The strength of a classical filter is a separate setting.
    scaled_noise = noise.scaled(config.strength if card.has_weights else 1.0)
    rounded = volume.dtype.kind in "iu" and not noise.level and config.strength > 0
    if rounded and config.uncertainty != members.NONE:
        # Whole numbers are known only to within their rounding error, so members of an
        # ensemble may differ by that much.
        scaled_noise = replace(
            scaled_noise, level=_ROUNDING, levels=(_ROUNDING,) * len(scaled_noise.greys)
        )
    scale = statistics.input_mean, statistics.input_std
    set_network_noise(network, scaled_noise.standardised(*scale))


def with_strength(
    prepared: PreparedRestoration, strength: float
) -> PreparedRestoration:
    """Return the same run with another strength, without preparing it again.

    Parameters
    ----------
    prepared : PreparedRestoration
        Prepared run of a noise-bounded model; not modified.
    strength : float
        0 to 2, as in `RestoreConfig`.

    Raises
    ------
    ConfigError
        If the strength is out of range, or the model does not use the noise.
    """
    from copy import deepcopy

    values = {**prepared.config.model_dump(), "strength": strength}
    config = RestoreConfig.create(**values)
    if prepared.noise is None or not needs_noise(prepared.network):
        raise no_strength(prepared.model)
    network = deepcopy(prepared.network)  # the original network may be in use
    statistics = prepared.statistics
    card, volume = prepared.model.card, prepared.volume
    _set_network_noise(network, prepared.noise, config, card, statistics, volume)
    return replace(prepared, config=config, network=network, verdict=None)


def with_noise(prepared: PreparedRestoration, factor: float) -> PreparedRestoration:
    """Return the same run, for a scan with `factor` times the noise.

    Parameters
    ----------
    prepared : PreparedRestoration
        Prepared run; not modified. The run is returned unchanged if the model does not
        use the noise.
    """
    from copy import deepcopy

    if prepared.noise is None or not needs_noise(prepared.network):
        return prepared
    network = deepcopy(prepared.network)  # the original network may be in use
    noise = prepared.noise.scaled(factor)
    card, config = prepared.model.card, prepared.config
    _set_network_noise(
        network, noise, config, card, prepared.statistics, prepared.volume
    )
    return replace(prepared, network=network, noise=noise)


def make_sampler(
    network: Any,
    config: RestoreConfig,
    statistics: IntensityStatistics,
    model: Model,
    at_once: int,
) -> Any:
    """Create the sampler of a diffusion model for this scan."""
    if model.card.gives_samples:
        factor = statistics.output_std / statistics.input_std
        shift = statistics.output_mean - statistics.input_mean
        return diffusion.conditional.ConditionalSampler(
            network.network,
            config.sampling_steps,
            to_scan=(factor, shift / statistics.input_std),
            at_once=at_once,
        )
    return diffusion.posterior.PosteriorSampler(
        network.network,
        network.noise.level,
        config.upscale_factor,
        config.sampling_steps,
        at_once,
    )


def make_network(
    volume: Volume,
    config: RestoreConfig,
    models: tuple[Model, ...],
    statistics: IntensityStatistics,
) -> Any:
    """Return the model's network, or all members of an uncertainty method combined."""
    if config.uncertainty == members.NONE:
        return models[0].restorer()
    for model in models:
        if model.card.labels > 1:
            raise ConfigError(
                f"The model {model.card.name!r} outputs labels, for which a mean and "
                "a standard deviation are not defined: turn off the uncertainty "
                "(--uncertainty)."
            )
    question = members.EnsembleInputs(
        models,
        volume.voxel_size,
        statistics,
        config.uncertainty_members,
        upscale_factor=config.upscale_factor,
        seed=config.seed,
        steps=config.sampling_steps,
    )
    return members.make_members(config.uncertainty, question)
