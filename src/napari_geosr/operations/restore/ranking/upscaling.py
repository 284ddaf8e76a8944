"""Compares super-resolution models for a scan with cubic interpolation."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Generator, Mapping
from typing import TYPE_CHECKING

from napari_geosr.core.errors import Cancelled, ConfigError, GeoSRError, ModelError
from napari_geosr.core.noise import FLOOR, Noise
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
)
from napari_geosr.inference.device import pick_device
from napari_geosr.inference.intensity import scan_steps, without_hot_voxels
from napari_geosr.measure.noise import noise_steps
from napari_geosr.measure.noise.topics import Topic, is_about
from napari_geosr.measure.number_text import signed_text
from napari_geosr.models import zoo
from napari_geosr.models.bundle import Model
from napari_geosr.models.distribution import compare_with_training, draw_sample
from napari_geosr.operations.restore.ranking.result import Ranking, RankingEntry
from napari_geosr.operations.restore.ranking.tune import for_axes, is_image
from napari_geosr.operations.restore.upscaling.doubtful_noise import (
    structure_doubt,
    undoubted_noise,
)
from napari_geosr.operations.restore.upscaling.result import (
    BASELINE,
    CLEAR_GAIN,
)
from napari_geosr.operations.restore.upscaling.trial import TrialResources
from napari_geosr.operations.restore.upscaling.upscaling_verdict import (
    upscaling_verdict_steps,
)

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.operations.restore.ranking.config import RankConfig
    from napari_geosr.operations.restore.upscaling.result import UpscalingVerdict


#: Minimum expected gain over cubic interpolation, in dB, for another interpolation to
#: be chosen. In tests with a reliably known noise level, the sign of the estimate was
#: always correct above this limit.
_MIN_INTERPOLATION_GAIN = 0.25
#: Reasons to doubt the noise estimate that still allow an interpolation other than
#: cubic.
_HARMLESS: tuple[Topic, ...] = ("rounding", "fine structure")


def rank_upscaling_steps(
    volume: Volume,
    config: RankConfig,
    should_stop: ShouldStop,
    *,
    noise: Noise | None = None,
) -> Generator[Step, None, Ranking]:
    """Rank super-resolution models with one upscale factor, and interpolation.

    Each model is tested on parts of the scan, at two scales; see
    `napari_geosr.operations.restore.upscaling.upscaling_verdict`. A model is chosen
    only if it is expected to be clearly better than cubic interpolation.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX.
    config : RankConfig
        Settings with an upscale factor above 1.
    noise : Noise, optional
        Noise of the volume, in its grey values; measured by default.

    Yields
    ------
    Step
        A `BlockDone` for each model.

    Returns
    -------
    Ranking

    Raises
    ------
    ConfigError
        If there is no interpolation with this factor.
    ModelError
        If a model named in the settings does not fit.
    VolumeError
        If the volume has no suitable voxels.
    Cancelled
        If `should_stop` returns True.
    """
    began = time.monotonic()
    models, cubic, skipped = _candidates(volume, config)
    yield StageStarted(message="Reading the grey values")
    statistics = yield from scan_steps(volume.data, should_stop=should_stop)
    volume = without_hot_voxels(volume, statistics)
    if noise is None:
        yield StageStarted(message="Measuring the noise")
        noise = yield from noise_steps(volume, should_stop=should_stop)
    machine = TrialResources(pick_device(config.device), threads=config.threads)
    rows: list[RankingEntry] = []
    yield StageStarted(0, 100 * len(models), message="Testing models on the scan")
    for i, model in enumerate(models):
        try:
            steps = upscaling_verdict_steps(
                volume,
                model,
                noise,
                sharpness=config.sharpness,
                machine=machine,
                should_stop=should_stop,
            )
            found = yield from _as_part(steps, i, len(models))
        except Cancelled as error:
            raise Cancelled("The ranking was cancelled.") from error
        except GeoSRError as error:
            if config.models:
                raise
            skipped[model.card.name] = str(error)
        else:
            rows.append(_entry(model, found))
        yield BlockDone(100 * (i + 1), 100 * len(models))
    errors = [
        row.upscaling_verdict.errors[1]
        for row in rows
        if row.upscaling_verdict and row.upscaling_verdict.errors
    ]
    baseline = sum(errors) / len(errors) if errors else math.nan
    interpolation = RankingEntry(
        cubic.card.name,
        cubic.card.title,
        baseline,
        0.0,
        (0.0, 0.0),
        model=cubic,
        weights=cubic.card.weights_sha256,
    )
    # At equal gains, interpolation comes first.
    rows = sorted([interpolation, *rows], key=lambda row: -row.gain)
    sample = draw_sample(volume)
    unlike = {
        row.name
        for row in rows
        if row.model is not None
        and row is not interpolation
        and compare_with_training(row.model.card, sample, volume).level == "unlike"
    }
    choice, reason = decide_upscaling(rows, interpolation, noise, unlike, skipped)
    seconds = time.monotonic() - began
    return Ranking(
        tuple(rows), choice, reason, noise, skipped, seconds, config.upscale_factor
    )


def decide_upscaling(
    rows: list[RankingEntry],
    interpolation: RankingEntry,
    noise: Noise,
    unlike: Collection[str] = (),
    skipped: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """Choose a model, or interpolation; return the name and the reason.

    A model is chosen only if it is expected to be clearly better, the scan is like its
    training data, and the noise of the scan is reliably known, because a model would
    remove structure that was mistaken for noise. A sharper interpolation than
    `interpolation` is chosen if it is expected to be better.

    Parameters
    ----------
    rows : list of RankingEntry
        The models and interpolations.
    interpolation : RankingEntry
        Cubic interpolation.
    unlike : collection of str
        Names of the models that were trained on data unlike the scan.
    skipped : mapping of str to str, optional
        Models that could not be tested, with the reason.
    """
    # Noise below the rounding steps raises no doubt if the steps are small. What may be
    # fine structure is not treated as noise.
    doubts = [
        one
        for one in (*noise.doubts, structure_doubt(undoubted_noise(noise)))
        if one
        and not (is_about(one, "rounding") and noise.bound < 2 * FLOOR)
        and not is_about(one, "fine structure")
    ]
    if not noise.is_measured:
        doubts.append("The noise could not be measured.")
    others = [row for row in rows if row is not interpolation]
    if _knows_fine_noise(noise):
        interpolation = _best_interpolation(interpolation, others)
    kind = "spline" if _interpolates(interpolation) else "cubic"
    cubic = f"{interpolation.name} ({kind} interpolation)"
    models = [row for row in others if not _interpolates(row)]
    if not models:
        reasons = [
            f" {name}: {reason.rstrip('.')}."
            for name, reason in (skipped or {}).items()
        ]
        return interpolation.name, (
            f"{cubic}: there is no super-resolution model to compare with it."
            f"{''.join(reasons)}"
        )
    models.sort(key=lambda row: (row.name in unlike, -row.gain))
    best, *others = models
    found, test = _expectation(best), best.upscaling_verdict
    if test is None or best.gain < max(CLEAR_GAIN, interpolation.gain):
        return interpolation.name, (
            f"{cubic}: no model is clearly better on this scan. The best one, "
            f"{best.name}, {found}."
        )
    if best.name in unlike:
        doubts.append("The scan is unlike the training data of this model.")
    if doubts:
        return interpolation.name, (
            f"{cubic}: {best.name} {found}, but that is uncertain. {' '.join(doubts)}"
        )
    next_best = ""
    if others:
        gain = signed_text(others[0].gain, 1)
        next_best = f"; the next best is {others[0].name} ({gain} dB)"
    return best.name, f"{best.name} {found}{next_best}."


def _knows_fine_noise(noise: Noise) -> bool:
    """Return whether the fine noise is known not to exceed the measured noise.

    A sharper interpolation amplifies fine noise. Smooth noise (even of unknown level),
    fine noise weaker than measured, and noise below the rounding steps carry no risk.
    """
    is_known = noise.is_measured or any(
        is_about(one, "smooth variation") for one in noise.notes
    )
    return is_known and all(is_about(one, *_HARMLESS) for one in noise.doubts)


def _interpolates(row: RankingEntry) -> bool:
    """Return whether a candidate is an interpolation other than the baseline."""
    card = None if row.model is None else row.model.card
    return card is not None and not card.has_weights and card.network != BASELINE


def _best_interpolation(
    baseline: RankingEntry, others: list[RankingEntry]
) -> RankingEntry:
    """Return the interpolation that is expected to be best."""
    better = [
        row
        for row in others
        if _interpolates(row) and row.gain >= _MIN_INTERPOLATION_GAIN
    ]
    return max(better, key=lambda row: row.gain, default=baseline)


def _expectation(row: RankingEntry) -> str:
    """Describe the expected gain or loss of a model, as part of a sentence."""
    low, high = (signed_text(end, 1) for end in row.interval)
    gain = signed_text(row.gain, 1)
    return (
        f"is expected to be {gain.lstrip('+−-')} dB "
        f"{'worse' if row.gain < 0 else 'better'} than interpolation ({low} to {high})"
    )


def _as_part(
    steps: Generator[Step, None, UpscalingVerdict], i: int, n: int
) -> Generator[Step, None, UpscalingVerdict]:
    """Yield the progress of test `i` of `n` as a fraction of all tests."""
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, BlockDone):
                yield BlockDone(100 * i + 100 * step.done // step.total, 100 * n)
    return iterator.result


def _entry(model: Model, found: UpscalingVerdict) -> RankingEntry:
    card = model.card
    error = math.nan if found.errors is None else found.errors[0]
    gain = found.gain, found.interval
    return RankingEntry(
        card.name,
        card.title,
        error,
        *gain,
        model=model,
        upscaling_verdict=found,
        weights=card.weights_sha256,
    )


def _candidates(
    volume: Volume, config: RankConfig
) -> tuple[list[Model], Model, dict[str, str]]:
    """Return the models to compare, cubic interpolation, and reasons for omissions."""
    factor = config.upscale_factor
    entries, faults = zoo.scan_folders()
    finer = [
        Model(entry.card, entry.path)
        for entry in entries
        if entry.card.upscale_factor > 1 and entry.card.labels == 1
    ]
    plain = [model for model in finer if model.card.network == BASELINE]
    cubic = next((m for m in plain if m.card.upscale_factor == factor), None)
    if cubic is None:
        known = sorted({model.card.upscale_factor for model in plain})
        raise ConfigError(
            f"There is no interpolation by a factor of {factor} to compare models "
            f"with: choose an upscale factor of {', '.join(map(str, known[:-1]))} or "
            f"{known[-1]}, or name a model."
        )
    cubic = for_axes(cubic, volume)
    if config.models:
        named = [zoo.find(name) for name in config.models]
        for model in named:
            reason = _reason_unsuitable(model, volume, config, None)
            if reason:
                raise ModelError(f"{model.card.name!r} cannot be compared: {reason}.")
        return [m for m in named if m.card.network != BASELINE], cubic, {}
    found, skipped = [], {path.stem: reason for path, reason in faults.items()}
    for model in finer:
        if model.card.network == BASELINE or model.card.upscale_factor != factor:
            continue
        reason = _reason_unsuitable(model, volume, config, config.modality)
        if reason:
            skipped[model.card.name] = reason
        else:
            found.append(for_axes(model, volume))
    return found, cubic, skipped


def _reason_unsuitable(
    model: Model, volume: Volume, config: RankConfig, modality: str | None
) -> str:
    """Return the reason why a model cannot be compared; "" if it can."""
    card = model.card
    if card.upscale_factor != config.upscale_factor or card.labels > 1:
        return f"its upscale factor is not {config.upscale_factor}"
    if card.axes == "ZYX" and is_image(volume) and card.has_weights:
        return "it needs a volume, but this is a single image"
    if card.axes == "YX" and not is_image(volume):
        return "it upscales only within slices"
    if modality and card.modalities and modality not in card.modalities:
        return f"it is made for {', '.join(card.modalities)}"
    if card.inputs > 1:
        return "it needs several scans of one object together"
    return ""
