"""Compares candidate models for a scan by their expected error."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    GeoSRError,
    ModelError,
    VolumeError,
)
from napari_geosr.core.noise import Noise, known_noise
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.inference.device import pick_device
from napari_geosr.inference.intensity import scan_steps, without_hot_voxels
from napari_geosr.inference.risk.evaluation import draw_sample
from napari_geosr.inference.risk.stein import (
    Risk,
    common_scale,
    estimate,
    expected_scale,
    variance_range,
)
from napari_geosr.measure.noise import noise_steps
from napari_geosr.models import zoo
from napari_geosr.models.bundle import Model
from napari_geosr.networks.classical import FILTERS
from napari_geosr.operations.restore.measurements import MeasurementStore
from napari_geosr.operations.restore.ranking.config import NONE, RankConfig
from napari_geosr.operations.restore.ranking.gentler import with_gentler_strength
from napari_geosr.operations.restore.ranking.pore_tests import (
    CANCELLED,
    MAX_LOSS,
    PoreTests,
    lost_sizes,
    without_fading,
    without_harmful,
)
from napari_geosr.operations.restore.ranking.result import Ranking, RankingEntry, decide
from napari_geosr.operations.restore.ranking.tune import (
    TrialSetup,
    for_axes,
    is_tunable,
    tuned,
)
from napari_geosr.operations.restore.ranking.upscaling import rank_upscaling_steps
from napari_geosr.operations.restore.scale import scaled

if TYPE_CHECKING:
    from napari_geosr.inference.risk.stein import CellMeans

#: Title of the candidate that leaves the scan unchanged.
KEEP_SCAN_TITLE = "Leave the scan as it is"


def rank_steps(
    volume: Volume,
    config: RankConfig | None = None,
    should_stop: ShouldStop = never_stop,
    *,
    noise: Noise | None = None,
    second: Volume | None = None,
    also: Sequence[Model] = (),
    only_bounded: bool = False,
    lower_strengths: bool = True,
) -> Generator[Step, None, Ranking]:
    """Rank models, classical filters and the unchanged scan.

    Each candidate is run on a few blocks of the scan, with and without a little added
    noise; Stein's unbiased risk estimate gives the expected error. With a second scan
    of the object, the error is the difference from that scan, minus the noise of that
    scan. If there is hardly any noise, nothing is compared, and the recommendation is
    to leave the scan unchanged.

    With an upscale factor, super-resolution models are compared with cubic
    interpolation instead; see `rank_upscaling_steps`.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX (any other axes have length one). Large volumes are read only in
        part.
    noise : Noise, optional
        Noise of the volume, in its grey values; measured by default.
    second : Volume, optional
        Another scan of the same object on the same grid, with independent noise of the
        same level.
    also : sequence of Model
        Further denoisers to compare, such as one that has just been trained.
    only_bounded : bool
        Whether to compare only denoisers with changes that are limited by the noise.
    lower_strengths : bool
        Whether a network that would remove structures of the scan at strength 1 may be
        ranked at a lower strength.

    Yields
    ------
    Step
        A `BlockDone` for each candidate.

    Returns
    -------
    Ranking

    Raises
    ------
    VolumeError
        If the volume has no suitable voxels, or `second` has a different shape.
    ConfigError
        If no model has the upscale factor, or a second scan is given for
        super-resolution models.
    ModelError
        If a model named in the settings does not fit.
    Cancelled
        If `should_stop` returns True.
    """
    began = time.monotonic()
    config = RankConfig() if config is None else config
    volume = volume.select()
    second = _second_scan(volume, second, config)
    if config.upscale_factor > 1:
        found = rank_upscaling_steps(volume, config, should_stop, noise=noise)
        return (yield from found)
    models, skipped = _candidates(volume, config, only_bounded)
    models += [model for model in also if model.path not in {m.path for m in models}]
    yield StageStarted(message="Reading the grey values")
    statistics = yield from scan_steps(volume.data, should_stop=should_stop)
    volume = without_hot_voxels(volume, statistics)
    if second is not None:
        second_statistics = yield from scan_steps(second.data, should_stop=should_stop)
        second = without_hot_voxels(second, second_statistics)
    if noise is None:
        yield StageStarted(message="Measuring the noise")
        noise = yield from noise_steps(volume, second=second, should_stop=should_stop)
    if noise.is_negligible:
        rows = [RankingEntry(NONE, KEEP_SCAN_TITLE, noise.level, 0.0, (0.0, 0.0))]
        return _ranking(rows, noise, skipped, began)
    sample = draw_sample(
        volume.data, noise, second=None if second is None else second.data
    )
    device = pick_device(config.device)
    setup = TrialSetup(sample, statistics, noise, device, config.threads, should_stop)
    yield StageStarted(0, len(models), message="Comparing models")
    tried = []
    for i, model in enumerate(models):
        if should_stop():
            raise Cancelled(CANCELLED)
        try:
            tried.append(_try_candidate(model, volume, setup))
        except Cancelled:
            raise Cancelled(CANCELLED) from None
        except GeoSRError as error:
            if config.models:
                raise
            skipped[model.card.name] = str(error)
        yield BlockDone(i + 1, len(models))
    scale = common_scale((each.cells for each in tried), expected_scale(noise))
    risks = [estimate(each.cells, variance_range(noise), scale) for each in tried]
    rows = [_ranked(*each) for each in zip(tried, risks, strict=True)]
    rows.append(_unchanged_entry(risks, noise))
    rows.sort(key=lambda row: row.error)
    yield StageStarted(message="Testing the best model")

    again = partial(_at_strength, volume=volume, setup=setup, scale=scale)
    tests = PoreTests(volume, setup, again if lower_strengths else None)
    rows = without_harmful(rows, noise, tests.wrong_pores, tests.faultless, skipped)
    rows = without_fading(rows, noise, tests.fading, tests.faultless, skipped)
    rows = with_gentler_strength(rows, noise, tests)
    ranking = _ranking(rows, noise, skipped, began)
    try:
        lost, other = lost_sizes(rows, ranking.choice, tests.test, MAX_LOSS)
    except Cancelled:
        raise Cancelled(CANCELLED) from None
    return replace(
        ranking,
        reason=" ".join(filter(None, (ranking.reason, lost, other))),
        alternative=other,
        seconds=time.monotonic() - began,
    )


def _at_strength(
    row: RankingEntry,
    strength: float,
    *,
    volume: Volume,
    setup: TrialSetup,
    scale: float,
) -> RankingEntry:
    """Return the row of a network for another strength of the run."""
    assert row.model is not None
    weaker = replace(setup, strength=strength)
    statistics = scaled(setup.statistics, row.model.card, volume)
    cells = weaker.cells(row.model, statistics)
    risk = estimate(cells, variance_range(setup.noise), scale)
    entry = _ranked(_CandidateResponse(row.model, cells), risk)
    return replace(entry, run_strength=strength)


def _second_scan(
    volume: Volume, second: Volume | None, config: RankConfig
) -> Volume | None:
    """Return the second scan with which errors are measured, if there is one."""
    if config.upscale_factor > 1:
        if second is not None:
            raise ConfigError(
                "A second scan cannot be used to compare super-resolution models: omit "
                "it (--second), or compare denoisers (--upscale-factor 1)."
            )
        return None
    if second is None:
        return _known_second(volume)
    second = second.select()
    if second.shape != volume.shape:
        raise VolumeError(
            f"{second.title} has {_size(second)} voxels and {volume.title} "
            f"{_size(volume)}: a second scan must have the same voxel grid."
        )
    return second


def _known_second(volume: Volume) -> Volume | None:
    """Return the second scan from which the noise of the volume is known, if any."""
    known = known_noise(volume.metadata)
    if known is None or known.kind != "second" or known.volume is None:
        return None
    second: Volume = known.volume
    # For a series, only the noise level of the second scan is known, not a matching
    # volume.
    return second.select() if second.shape == volume.shape else None


def find_ranking(
    kept: MeasurementStore, volume: Volume, **depends_on: object
) -> Ranking | None:
    """Return the ranking of an earlier run, with its models.

    Returns None if there is no ranking, or a model is missing or has other weights.
    """
    ranking = kept.read("ranking", Ranking, **depends_on)
    if ranking is None:
        return None
    rows = []
    for row in ranking.rows:
        if row.name == NONE:
            rows.append(row)
            continue
        try:
            model = for_axes(zoo.find(row.name), volume)
        except ModelError:
            return None
        if model.card.weights_sha256 != row.weights:
            return None
        if row.strength is not None:
            model = model.with_settings(strength=row.strength)
        rows.append(replace(row, model=model))
    return replace(ranking, rows=tuple(rows))


def _ranking(
    rows: list[RankingEntry], noise: Noise, skipped: dict[str, str], began: float
) -> Ranking:
    choice, reason = decide(rows, noise)
    return Ranking(
        tuple(rows), choice, reason, noise, skipped, time.monotonic() - began
    )


def _candidates(
    volume: Volume, config: RankConfig, only_bounded: bool
) -> tuple[list[Model], dict[str, str]]:
    """Return the models to compare, and the unsuitable ones with the reason."""
    if config.models:
        named = [zoo.find(name) for name in config.models]
        for model in named:
            reason = _reason_unsuitable(model, volume, None)
            if reason:
                raise ModelError(f"{model.card.name!r} cannot be compared: {reason}.")
        return named, {}
    entries, faults = zoo.scan_folders()
    found, skipped = [], {path.stem: reason for path, reason in faults.items()}
    for entry in entries:
        if entry.card.task != "denoise":
            continue
        model = Model(entry.card, entry.path)
        reason = _reason_unsuitable(model, volume, config.modality)
        if only_bounded and model.card.noise_bound is None:
            reason = reason or "its changes are not limited by the noise"
        if reason:
            skipped[entry.name] = reason
        else:
            found.append(model)
    return found, skipped


def _reason_unsuitable(model: Model, volume: Volume, modality: str | None) -> str:
    """Return the reason why a model cannot be compared; "" if it can."""
    card = model.card
    if card.upscale_factor > 1 or card.labels > 1:
        return "its result is not a denoised scan"
    if card.axes == "ZYX" and volume.axes == "YX":
        return "it needs a volume, but this is a single image"
    if modality and card.modalities and modality not in card.modalities:
        return f"it is made for {', '.join(card.modalities)}"
    if card.inputs > 1:
        return "it needs several scans of one object together"
    return ""


@dataclass(frozen=True, eq=False)
class _CandidateResponse:
    """A candidate (a filter with its strength) and its response to the blocks."""

    model: Model
    cells: CellMeans
    strength: float | None = None


def _try_candidate(
    model: Model, volume: Volume, setup: TrialSetup
) -> _CandidateResponse:
    card = model.card
    model = for_axes(model, volume)
    strength = None
    if is_tunable(model):
        model, cells = tuned(model, setup)
        strength = float(model.card.network_kwargs["strength"])
    else:
        cells = setup.cells(model, scaled(setup.statistics, card, volume))
    return _CandidateResponse(model, cells, strength)


def _ranked(tried: _CandidateResponse, found: Risk) -> RankingEntry:
    card = tried.model.card
    return RankingEntry(
        card.name,
        card.title,
        found.error,
        found.gain,
        found.interval,
        tried.strength,
        tried.model,
        weights=card.weights_sha256,
        compares_patches=not card.has_weights
        and getattr(FILTERS.load(card.network), "COMPARES_PATCHES", False),
    )


def _unchanged_entry(risks: list[Risk], noise: Noise) -> RankingEntry:
    # All gains are relative to this error; without candidates, use the noise level.
    error = math.sqrt(max(risks[0].untouched, 0.0)) if risks else noise.level
    return RankingEntry(NONE, KEEP_SCAN_TITLE, error, 0.0, (0.0, 0.0))


def _size(volume: Volume) -> str:
    return " × ".join(map(str, volume.shape))
