"""Examines blocks of a scan before a run: noise, expected gain and removed part."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr import networks
from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, ModelError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    VerdictReached,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.inference.risk.stein import estimate, variance_range
from napari_geosr.measure.comparison.removed import describe
from napari_geosr.measure.noise import noise_steps
from napari_geosr.measure.resolution.redegrade import blurred_means
from napari_geosr.operations.inputs.scan import check_no_mixing
from napari_geosr.operations.restore.measurements import MeasurementStore, weights_of
from napari_geosr.operations.restore.preview import preview_steps
from napari_geosr.operations.restore.upscaling.result import BASELINE
from napari_geosr.operations.restore.upscaling.trial import TrialResources
from napari_geosr.operations.restore.upscaling.upscaling_verdict import (
    upscaling_verdict_steps,
)
from napari_geosr.operations.restore.verdict import rules
from napari_geosr.operations.restore.verdict.figures import figures_of
from napari_geosr.operations.restore.verdict.finer_pores import (
    draw_finer_sample,
    lost_finer_pores,
)
from napari_geosr.operations.restore.verdict.known_block_test import (
    KnownBlockTest,
    count_limits,
    lost_pores,
)
from napari_geosr.operations.restore.verdict.known_blocks import (
    draw_known_sample,
    run_known_blocks,
)
from napari_geosr.operations.restore.verdict.run_verdict import (
    COUNTING,
    SEVERITY,
    CountLimit,
    Level,
    RunVerdict,
)
from napari_geosr.operations.restore.verdict.sample_blocks import (
    restored,
    run_on_sample,
)

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.inference.risk.stein import CellMeans
    from napari_geosr.operations.restore.preparation import PreparedRestoration
    from napari_geosr.operations.restore.ranking import Ranking, RankingEntry
    from napari_geosr.operations.restore.upscaling.result import UpscalingVerdict

#: Number of blocks to examine.
_BLOCKS = 5
#: Suffix added to the name of the removed part.
REMOVED = "removed: scan \N{MINUS SIGN} result"


def verdict_steps(
    prepared: PreparedRestoration,
    region: tuple[slice, ...] | None = None,
    *,
    noise: Noise | None = None,
    ranking: Ranking | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, RunVerdict]:
    """Predict the effect of a run on the scan from a few blocks.

    The noise is measured (unless known from `prepared` or the caller), the model is run
    on blocks of up to 260 000 voxels in total, and the removed part is compared with
    the noise.

    Parameters
    ----------
    prepared : PreparedRestoration
        The result of `napari_geosr.operations.restore.prepare_steps`.
    region : tuple of slice, optional
        Region for which to return the removed part, in voxels of the input.
    noise : Noise, optional
        Noise of the scan, if known.
    ranking : Ranking, optional
        Ranking of models for the scan, if known; the expected gain is taken from it, so
        that different gains are not reported for the same model and scan.

    Returns
    -------
    RunVerdict

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    GeoSRError
        If reading or computing fails.
    """
    yield StageStarted(message="Checking what the model does")
    removed = None
    if region is not None and not prepared.labels:
        removed = yield from removed_steps(prepared, region, should_stop=should_stop)
    if prepared.labels:
        verdict = _verdict_from_likeness(prepared, None, "")
    else:
        verdict = yield from _verdict_of(prepared, noise, ranking, should_stop)
    return replace(verdict, removed=removed)


def is_verdict_kept(
    prepared: PreparedRestoration, kept: MeasurementStore | None
) -> bool:
    """Return whether an earlier run's prediction for the same models is stored."""
    if kept is None:
        return False
    return kept.read("verdict", RunVerdict, **weights_of(prepared.models)) is not None


def reported_verdict_steps(
    prepared: PreparedRestoration,
    *,
    strict: bool = False,
    kept: MeasurementStore | None = None,
    should_stop: ShouldStop = never_stop,
    predict: Callable[[], Generator[Step, None, RunVerdict]] | None = None,
) -> Generator[Step, None, PreparedRestoration]:
    """Examine the scan before a run, and report the findings.

    Parameters
    ----------
    strict : bool
        Whether to refuse a run that would do more harm than good, or would mix planes
        that may be time points.
    kept : MeasurementStore, optional
        Receives the prediction, and provides that of an earlier run.
    predict : callable, optional
        Returns the steps that make the prediction; by default `verdict_steps`.

    Yields
    ------
    Step
        A `WarningIssued` with the findings, or a `VerdictReached` with the sentence if
        there are none.

    Returns
    -------
    PreparedRestoration
        The restoration, with its `verdict`.

    Raises
    ------
    ModelError
        If `strict` is True and the verdict is harmful.
    VolumeError
        If `strict` is True and a model would mix planes that may be time points.
    """
    if strict:
        check_no_mixing(prepared.volume, [model.card for model in prepared.models])
    kept, of = kept or MeasurementStore(), weights_of(prepared.models)
    verdict = kept.read("verdict", RunVerdict, **of)
    if verdict is None:
        if predict is None:
            predict = partial(verdict_steps, prepared, should_stop=should_stop)
        verdict = yield from predict()
        kept.keep("verdict", verdict, **of)
    if strict and verdict.is_harmful:
        raise ModelError(
            f"{prepared.volume.title} was not restored, and nothing was written. "
            f"{verdict.sentence}"
        )
    new_words = _without_reported(verdict.words, prepared.likeness.reasons)
    if verdict.level == "ok":
        yield VerdictReached(message=new_words, has_limits=not verdict.earns_tick)
    elif new_words:
        yield WarningIssued(message=f"{verdict.level.capitalize()}: {new_words}")
    return replace(prepared, verdict=verdict)


def _without_reported(words: str, reported: tuple[str, ...]) -> str:
    """Return the sentences without those that the preparation has already reported."""
    return " ".join(words.replace(" ".join(reported), "").split())


def removed_steps(
    prepared: PreparedRestoration,
    region: tuple[slice, ...],
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Volume]:
    """Restore a region and return the removed part, at its position.

    A finer result is first averaged over each voxel of the scan.

    Returns
    -------
    Volume
        The scan minus the result, in grey values.
    """
    volume = prepared.volume
    shown = yield from preview_steps(prepared, region, should_stop=should_stop)
    scan = np.asarray(volume.data[region], np.float32)
    result = np.asarray(shown.data, np.float32)
    if max(prepared.factors) > 1:
        flat = result.ndim == 2
        factors = (1, *prepared.factors)[-3:]
        result = blurred_means(result[None] if flat else result, factors, (0, 0, 0))
        result = result[0] if flat else result
    corner = tuple(
        o + part.indices(n)[0] * v
        for part, n, o, v in zip(
            region, volume.shape, volume.origin, volume.voxel_size, strict=True
        )
    )
    return volume.replace(
        data=scan - result,
        origin=corner,
        name=f"{prepared.result_name} ({REMOVED})",
        source=None,
        metadata={},
        provenance=(*volume.provenance, _difference_record(prepared)),
    )


def _difference_record(prepared: PreparedRestoration) -> AnyDict:
    """Return a record, without slow checksums, that marks a volume as a difference."""
    settings = {"of": prepared.volume.name, "minus": prepared.result_name}
    return provenance.record("difference", inputs={}, settings=settings)


def _verdict_of(
    prepared: PreparedRestoration,
    noise: Noise | None,
    ranking: Ranking | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, RunVerdict]:
    volume = prepared.seen_volume
    measured_noise = prepared.noise or noise
    try:
        if measured_noise is None:
            measured_noise = yield from noise_steps(volume, should_stop=should_stop)
        if should_stop():
            raise Cancelled("Checking the scan was cancelled.")
        blocks = run_on_sample(prepared, measured_noise, _BLOCKS, should_stop)
        finer = max(prepared.factors) > 1
        known_sample = None
        if measured_noise.level > 0 and not finer:
            known_sample = draw_known_sample(volume, measured_noise)
    except VolumeError as error:
        return _verdict_from_likeness(prepared, measured_noise, f"{error}")
    known_blocks = None
    if known_sample is not None:
        known_blocks = run_known_blocks(
            lambda window, core: restored(prepared, window, core, should_stop),
            known_sample,
            measured_noise,
        )
    better, unjudged, averaged = None, "", None
    limits, lost = count_limits(known_blocks), ""
    if finer:
        if measured_noise.level > 0:
            averaged = _averaged_test(prepared, measured_noise, should_stop)
            limits, lost = _finer_limits(prepared, averaged)
        better, unjudged = _gain_over_cubic(
            prepared, measured_noise, prepared.ranking or ranking, should_stop
        )
    gain = _ranked_gain(prepared, prepared.ranking or ranking)
    if gain is None and blocks.cells is not None:
        gain = _gain(blocks.cells, measured_noise)
    facts = rules.RunAssessment(
        card=prepared.model.card,
        noise=measured_noise,
        removed=describe(blocks.pieces, measured_noise),
        gain=gain,
        known_blocks=known_blocks,
        averaged=averaged,
        finer=better,
        bound=bound_of(prepared),
        unjudged=unjudged,
    )
    findings, notes = _findings(prepared, facts)
    level = max((each.level for each in findings), key=SEVERITY.__getitem__)
    first, *others = (each.sentence for each in findings)
    if level == "caution" and facts.gain is not None:
        first = f"{rules.headline(facts)}. {first}"
    if lost and level == "ok":
        first = f"{first} {lost}"
    elif lost:
        notes = (lost, *notes)
    if better is not None:
        gain = (better.gain, *better.interval)
    return RunVerdict(
        level=level,
        sentence=first,
        reasons=tuple(others),
        causes=tuple(dict.fromkeys(each.cause for each in findings)),
        notes=notes,
        noise=measured_noise,
        gain=gain,
        gain_over="cubic" if finer else "scan",
        figures=figures_of(facts, limits),
        limits=limits,
        counting=tuple(f.sentence for f in findings[1:] if f.cause in COUNTING),
    )


def bound_of(prepared: PreparedRestoration) -> float | None:
    """Return the largest noise bound of all models; None if any has no bound."""
    bounds = [model.card.noise_bound for model in prepared.models]
    known = [bound for bound in bounds if bound is not None]
    return max(known) if len(known) == len(bounds) else None


def _findings(
    prepared: PreparedRestoration, facts: rules.RunAssessment
) -> tuple[list[rules.Finding], tuple[str, ...]]:
    """Return all findings, most severe first, and notes that are not findings."""
    found = [*rules.harms(facts), *rules.cautions(facts)]
    found += rules.imaging(facts.card, prepared.volume)
    notes = list(rules.notes(facts))
    is_kept = facts.returns_scan or facts.changes_nothing
    if prepared.likeness.level != "ok" and not is_kept:
        likeness = " ".join(prepared.likeness.reasons)
        if facts.is_gain_certain:
            notes.append(likeness)
        else:
            found.append(rules.Finding("caution", likeness, "training data"))
    if found and facts.finer is not None:
        sentence = facts.finer.sentence
        notes[:0] = [sentence] if all(f.sentence != sentence for f in found) else []
    if not found:
        found = [rules.Finding("ok", rules.all_is_well(facts))]
    elif all(each.cause != "lost pores" for each in found):
        lost = rules.remarks(facts)
        notes[:0] = [lost] if lost else []
    return found, tuple(notes)


def _gain_over_cubic(
    prepared: PreparedRestoration,
    noise: Noise,
    ranking: Ranking | None,
    should_stop: ShouldStop,
) -> tuple[UpscalingVerdict | None, str]:
    """Estimate the gain over interpolation, or state why this is impossible."""
    if prepared.model.card.network == BASELINE:
        return None, ""
    measured = next(
        (
            layer.sharpness
            for layer in prepared.network.modules()
            if isinstance(layer, networks.ConsistentUpscaling)
        ),
        None,
    )
    row = _ranked_row(prepared, ranking)
    known = None if row is None else row.upscaling_verdict
    if (
        known is not None
        and known.sharpness == prepared.config.sharpness
        and known.is_as_object == (measured is not None and measured.keep)
    ):
        return known, ""
    try:
        found = run_to_end(
            upscaling_verdict_steps(
                prepared.seen_volume,
                prepared.model,
                noise,
                sharpness=prepared.config.sharpness,
                measured=measured,
                strength=prepared.config.strength,
                machine=TrialResources(
                    prepared.device, prepared.budget, prepared.config.threads
                ),
                should_stop=should_stop,
            )
        )
    except VolumeError as error:  # the scan is too small for averaging
        return None, str(error).rstrip(".")
    return found, ""


def _averaged_test(
    prepared: PreparedRestoration, noise: Noise, should_stop: ShouldStop
) -> KnownBlockTest | None:
    """Find the objects that a result with finer voxels loses; None if untestable."""
    factors = prepared.factors[-prepared.seen_volume.data.ndim :]
    try:
        sample = draw_finer_sample(prepared.seen_volume, noise, factors)
    except VolumeError:  # the blocks have too little structure
        return None
    return lost_finer_pores(
        lambda window, core: restored(prepared, window, core, should_stop),
        sample,
        noise,
        factors,
    )


def _finer_limits(
    prepared: PreparedRestoration, test: KnownBlockTest | None
) -> tuple[tuple[CountLimit, ...], str]:
    """Return the pores that cannot be counted in a finer result, with a sentence."""
    if test is None:
        return (), ""
    shows_more = any(one.is_from_scan for one in test.both if one.limit)
    if prepared.model.card.network == BASELINE and shows_more:
        return (), ""  # interpolation removes nothing: the scan has the same pores
    fine = math.prod(prepared.factors[-prepared.seen_volume.data.ndim :])
    return count_limits(test, fine), lost_pores(test, fine)


def _verdict_from_likeness(
    prepared: PreparedRestoration, noise: Noise | None, why: str
) -> RunVerdict:
    """Derive a verdict from the similarity to the training data alone."""
    likeness = prepared.likeness
    reasons = tuple(part for part in (why, *likeness.reasons) if part)
    if not reasons:
        return RunVerdict(
            "ok", ("This scan is similar to the training data."), (), noise
        )
    level: Level = "caution" if likeness.level != "ok" or why else "ok"
    return RunVerdict(level, reasons[0], reasons[1:], noise)


def _ranked_gain(
    prepared: PreparedRestoration, ranking: Ranking | None
) -> tuple[float, float, float] | None:
    """Return a denoiser's gain from the ranking, if the settings are the same."""
    row = _ranked_row(prepared, ranking)
    if row is None or ranking is None or ranking.gain_over != "scan":
        return None
    return row.gain, *row.interval


def _ranked_row(
    prepared: PreparedRestoration, ranking: Ranking | None
) -> RankingEntry | None:
    """Return the row of the model if it was ranked with the settings of this run."""
    config, model = prepared.config, prepared.model
    if ranking is None or prepared.has_deviation:
        return None
    for row in ranking.rows:
        is_same = row.model is not None and row.model.path == model.path
        is_same = is_same and row.run_strength == config.strength
        if is_same and row.weights == model.card.weights_sha256:
            return row
    return None


def _gain(cells: CellMeans, noise: Noise) -> tuple[float, float, float]:
    found = estimate(cells, variance_range(noise))
    return found.gain, *found.interval
