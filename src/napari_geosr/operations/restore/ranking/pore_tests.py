"""Tests the effect of ranked candidates on pores and small structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from napari_geosr.core.errors import Cancelled, GeoSRError, VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore.ranking.result import RankingEntry, decide
from napari_geosr.operations.restore.ranking.tune import TrialSetup
from napari_geosr.operations.restore.scale import scaled
from napari_geosr.operations.restore.verdict.known_blocks import (
    draw_known_sample,
    run_known_blocks,
)
from napari_geosr.operations.restore.verdict.pore_findings import (
    doubtful_pores,
    faded_structures,
    lost_small_pores,
    wrong_pores,
)

if TYPE_CHECKING:
    from napari_geosr.inference.risk.evaluation import EvaluationSample
    from napari_geosr.operations.restore.verdict.known_block_test import KnownBlockTest

#: Describes a fault of a candidate's result; ``""`` if there is none.
Test: TypeAlias = Callable[[RankingEntry], str]
#: Returns the candidate with a strength at which its result is faultless, if any.
Faultless: TypeAlias = Callable[[RankingEntry], "RankingEntry | None"]

#: Maximum loss of gain, in dB, that is accepted to keep structures of the scan.
MAX_LOSS = 1.0
#: Message if the user stops the comparison.
CANCELLED = "Stopped while comparing the models; nothing was written."
#: Strengths tried for a network that removes structures of the scan at strength 1, or
#: is expected to gain little, in descending order.
LOWER_STRENGTHS = (0.9, 0.8)


def without_harmful(
    rows: list[RankingEntry],
    noise: Noise,
    wrong_pores_of: Test,
    faultless: Faultless,
    skipped: dict[str, str],
) -> list[RankingEntry]:
    """Remove candidates that would be chosen but invent or lose pores.

    A candidate that is faultless at a lower strength remains, with this strength.

    Parameters
    ----------
    rows : list of RankingEntry
        Rows in ascending order of expected error; one is that of the unchanged scan.
    noise : Noise
        Noise of the scan.
    wrong_pores_of : callable
        Describes wrong pores in a candidate's result; ``""`` if there are none.
    faultless : callable
        Returns a candidate with a lower strength at which it is faultless, if any.
    skipped : dict of str to str
        Receives the candidates that are left out, with the reason.
    """
    remaining = list(rows)
    while True:
        choice, _ = decide(remaining, noise)
        row = next(row for row in remaining if row.name == choice)
        if row.model is None:
            return remaining
        try:
            wrong = wrong_pores_of(row)
        except Cancelled:
            raise Cancelled(CANCELLED) from None
        except GeoSRError as error:  # the other models remain candidates
            wrong = f"its effect on pores could not be tested: {error}"
        if not wrong:
            return remaining
        if not _replaced(remaining, row, faultless):
            skipped[row.name] = wrong


def without_fading(
    rows: list[RankingEntry],
    noise: Noise,
    fading_of: Test,
    faultless: Faultless,
    skipped: dict[str, str],
) -> list[RankingEntry]:
    """Remove candidates that make structures fade if another candidate preserves them.

    The other candidate, which may be the same model with a lower strength, must be
    clearly better than the scan, with an expected gain less than 1 dB below the best.
    If there is no such candidate, none is removed, and the verdict before the run warns
    about the structures that fade.

    Parameters
    ----------
    rows : list of RankingEntry
        Rows in ascending order of expected error; one is that of the unchanged scan.
    noise : Noise
        Noise of the scan.
    fading_of : callable
        Names structures that fade in a candidate's result; ``""`` if none do.
    faultless : callable
        Returns a candidate with a lower strength at which it is faultless, if any.
    skipped : dict of str to str
        Receives the candidates that are left out, with the reason.
    """
    choice, _ = decide(rows, noise)
    best = next(row for row in rows if row.name == choice)
    left_out: dict[str, str] = {}
    remaining = list(rows)
    while best.model is not None:
        name, _ = decide(remaining, noise)
        row = next(row for row in remaining if row.name == name)
        if row.model is None or row.gain <= best.gain - MAX_LOSS:
            return rows
        try:
            fading = fading_of(row)
        except Cancelled:
            raise Cancelled(CANCELLED) from None
        except GeoSRError:  # the run will report the error
            return rows
        if not fading:
            skipped |= left_out
            return remaining
        if not _replaced(remaining, row, faultless):
            left_out[name] = fading
    return rows


def _replaced(
    rows: list[RankingEntry], row: RankingEntry, faultless: Faultless
) -> bool:
    """Replace a row by that of a lower strength; remove it if there is none."""
    rows.remove(row)
    other = faultless(row)
    if other is not None:
        rows.append(other)
        rows.sort(key=lambda each: each.error)
    return other is not None


def lost_sizes(
    rows: Sequence[RankingEntry],
    choice: str,
    test_of: Callable[[RankingEntry], KnownBlockTest | None],
    max_loss: float,
) -> tuple[str, str]:
    """Describe pores that the chosen model loses, and a model that keeps more of them.

    Other models are tested only if the chosen one loses pores of all tested sizes that
    the scan shows. The choice does not depend on these tests.

    Parameters
    ----------
    rows : sequence of RankingEntry
        Rows in ascending order of expected error.
    choice : str
        Name of the chosen row.
    test_of : callable
        Returns the test of a candidate on known blocks; None if untested.
    max_loss : float
        Maximum loss of gain, in dB, that is accepted for the other model.

    Returns
    -------
    lost, alternative : str
        Two sentences; empty if there is nothing to report.

    Raises
    ------
    Cancelled
        If `test_of` raises it.
    """
    best = next(row for row in rows if row.name == choice)
    lost = _losing_all(_tested(best, test_of))
    if lost is None:
        return "", ""
    text = (
        f"{choice} may lose {lost.objects} of all tested sizes (up to {lost.limit} "
        "voxels)."
    )
    for row in rows:
        loss = best.gain - row.gain
        if row.model is None or row is best or not 0 <= loss < max_loss:
            continue
        if not row.is_clearly_better:
            continue
        size = _smaller_limit(_tested(row, test_of), lost)
        if size is not None:
            kept = f"of more than {size} voxels" if size else "of all tested sizes"
            return text, (
                f"{row.label} is expected to gain {loss:.1f} dB less, but keeps "
                f"{lost.objects} {kept}."
            )
    return text, ""


def _tested(
    row: RankingEntry, test_of: Callable[[RankingEntry], KnownBlockTest | None]
) -> KnownBlockTest | None:
    if row.model is None:
        return None
    try:
        return test_of(row)
    except Cancelled:
        raise
    except GeoSRError:  # a run with this model would report the error
        return None


def _losing_all(test: KnownBlockTest | None) -> KnownBlockTest | None:
    """Return the test of the objects that are lost at all sizes, if the scan has any.

    Only sizes that the scan shows count: pores hidden by noise are lost by every model.
    """
    for one in () if test is None else test.both:
        is_removed = one.reason in ("removed", "removed and not separated")
        if one.found and one.loses_all_sizes and is_removed:
            return one
    return None


def _smaller_limit(test: KnownBlockTest | None, lost: KnownBlockTest) -> int | None:
    """Return the size up to which another model loses objects, if below that of `lost`.

    The size is 0 if the other model loses none of these objects.
    """
    for one in () if test is None else test.both:
        if one.objects == lost.objects and one.found and not one.is_inseparable:
            size = one.limit or 0
            return size if size < (lost.limit or 0) else None
    return None


@dataclass(eq=False)
class PoreTests:
    """Tests the effect of candidates on pores; draws blocks only when needed.

    If no blocks can be drawn from the scan, no candidate is tested, and the verdict
    before the run states this.

    Attributes
    ----------
    volume : Volume
    setup : TrialSetup
    at_strength : callable or None
        Computes the row of a candidate for another strength; None if no other strength
        may be used.
    found : dict
        Tests by name, weights and strength of the candidate.
    """

    volume: Volume
    setup: TrialSetup
    at_strength: Callable[[RankingEntry, float], RankingEntry] | None
    found: dict[tuple[str, str, float], KnownBlockTest] = field(default_factory=dict)

    @cached_property
    def sample(self) -> EvaluationSample | None:
        """Blocks of the scan; None if none are suitable."""
        try:
            return draw_known_sample(self.volume, self.setup.noise)
        except VolumeError:
            return None

    def wrong_pores(self, row: RankingEntry) -> str:
        """Describe a wrong number of pores in a candidate's result; "" if correct."""
        test = self.test(row)
        return "" if test is None else wrong_pores(row.name, test)

    def fading(self, row: RankingEntry) -> str:
        """Describe which structures of the scan fade in a result; "" if none do."""
        test = self.test(row)
        if test is None:
            return ""
        lost = (*lost_small_pores(row.name, test), *faded_structures(row.name, test))
        return " ".join(lost)

    def faultless(self, row: RankingEntry) -> RankingEntry | None:
        """Return the row of a network for the highest lower strength without faults.

        Returns None for models whose changes are not limited by the noise, and if the
        result has faults at all tested strengths.
        """
        if self.at_strength is None or not self.has_lower_strengths(row):
            return None
        for strength in LOWER_STRENGTHS:
            trial = replace(row, run_strength=strength)
            try:
                if self._has_faults(trial):
                    continue
                return self.at_strength(row, strength)
            except Cancelled:
                raise Cancelled(CANCELLED) from None
            except GeoSRError:  # the other models remain candidates
                return None
        return None

    def has_lower_strengths(self, row: RankingEntry) -> bool:
        """Return whether a candidate has strength 1 and may be given a lower one."""
        bounded = row.model is not None and row.model.card.noise_bound is not None
        return self.at_strength is not None and bounded and row.run_strength == 1

    def _has_faults(self, row: RankingEntry) -> bool:
        """Return whether a result would lose, invent or perhaps change pores."""
        test = self.test(row)
        is_doubtful = test is not None and bool(doubtful_pores(row.name, test))
        return is_doubtful or bool(self.wrong_pores(row) or self.fading(row))

    def test(self, row: RankingEntry) -> KnownBlockTest | None:
        """Return the test of a candidate on known blocks; None if it is not tested."""
        if row.model is None or self.sample is None:
            return None
        key = row.name, row.weights, row.run_strength
        if key not in self.found:
            setup = replace(self.setup, strength=row.run_strength)
            statistics = scaled(setup.statistics, row.model.card, self.volume)
            restorer = setup.restorer(row.model, statistics)
            self.found[key] = run_known_blocks(
                restorer, self.sample, setup.noise, repeats=False
            )
        return self.found[key]
