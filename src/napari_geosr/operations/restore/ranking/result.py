"""Result of a ranking: candidates with their expected errors, and the choice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from napari_geosr.core.noise import Noise
from napari_geosr.core.types import AnyDict
from napari_geosr.measure.noise.topics import PARTIAL, is_about
from napari_geosr.measure.number_text import signed_text
from napari_geosr.operations.restore.ranking.config import NONE
from napari_geosr.operations.restore.upscaling.result import UpscalingVerdict

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model


#: If noise is correlated, a filter that compares patches is preferred to a network only
#: if its lead is at least this large, in dB.
_MIN_LEAD = 0.35
#: Correlation of the noise of neighbouring voxels above which this lead is needed.
_CORRELATED = 0.25
#: Expected gain, in dB, below which the gain is considered small.
SMALL_GAIN = 2.5
#: If the lower limit of a small gain is below this value, in dB, the candidate with the
#: highest lower limit is chosen: strong denoisers lose most of such a gain if the noise
#: is slightly weaker than measured.
_UNCERTAIN_GAIN = 0.5
#: Loss of expected gain, in dB, that is accepted for a lower strength.
GENTLER_LOSS = 0.1
#: Gain, in dB, below which a result is useless and the exact gain does not matter.
_FAR_WORSE = -30.0


@dataclass(frozen=True)
class RankingEntry:
    """One candidate.

    Attributes
    ----------
    name : str
        Name of the model; ``"none"``: the unchanged scan.
    title : str
        Short description.
    error : float
        Expected root-mean-square error, in grey values of the scan.
    gain : float
        Expected gain, in dB, over the unchanged scan (denoisers) or over cubic
        interpolation (super-resolution models).
    interval : (float, float)
        Confidence interval of the gain (about 90 %).
    strength : float or None
        Strength at which a classical filter has the smallest expected error.
    run_strength : float
        `RestoreConfig.strength` of the run; below 1 for a network that would remove
        structures of the scan at strength 1, or with almost the same gain.
    is_gentler : bool
        Whether `run_strength` is below 1 only because the gain is almost the same.
    model : Model or None
        The model (for a filter, with its strength set); None for the unchanged scan.
    upscaling_verdict : UpscalingVerdict or None
        Result of testing a super-resolution model on the scan.
    weights : str
        Checksum of the model's weights.
    compares_patches : bool
        Whether this is a filter that averages similar patches.
    """

    name: str
    title: str
    error: float
    gain: float
    interval: tuple[float, float]
    strength: float | None = None
    model: Model | None = field(default=None, repr=False, compare=False)
    upscaling_verdict: UpscalingVerdict | None = None
    weights: str = ""
    compares_patches: bool = False
    run_strength: float = 1.0
    is_gentler: bool = False

    @property
    def label(self) -> str:
        """The name, with the strength of the run if it is not 1."""
        if self.run_strength == 1:
            return self.name
        return f"{self.name} (strength {self.run_strength:g})"

    @property
    def is_clearly_better(self) -> bool:
        """Whether the gain is positive even at the lower limit of its interval."""
        return self.interval[0] > 0

    @property
    def gain_text(self) -> str:
        """The gain and its interval as text."""
        low, high = self.interval
        if low < _FAR_WORSE <= self.gain:
            top = f", at most {_number(high)}" * (_number(high) != _number(self.gain))
            return f"{_number(self.gain)} dB (possibly far worse{top})"
        text, least, most = map(_number, (self.gain, low, high))
        if text == most:
            # The upper limit equals the gain, as in the verdict before a run.
            return f"{text} dB{f' (at least {least})' if least != text else ''}"
        if text == least:
            return f"{text} dB (at most {most})"
        return f"{text} dB ({least} to {most})"

    @property
    def short_gain(self) -> str:
        """The gain alone, for a menu."""
        return (
            "far worse" if self.gain < _FAR_WORSE else f"{signed_text(self.gain, 1)} dB"
        )

    def to_json_dict(self) -> AnyDict:
        """Return values for records and ``--json``; non-finite ones are None."""
        return {
            "name": self.name,
            "title": self.title,
            "expected_error": _finite(self.error),
            "expected_gain_db": _finite(self.gain),
            "interval_db": [_finite(end) for end in self.interval],
            "strength": self.strength,
            "run_strength": self.run_strength,
        }


@dataclass(frozen=True)
class Ranking:
    """Candidates, the best first, and the recommended one.

    Attributes
    ----------
    rows : tuple of RankingEntry
        Candidates in ascending order of expected error (denoisers) or descending order
        of expected gain (super-resolution models).
    choice : str
        Name of the recommended row.
    reason : str
        Reason for the recommendation, in sentences for the user.
    noise : Noise
        Noise of the scan, as measured for the ranking.
    skipped : mapping of str to str
        Models that were not compared, with the reason.
    seconds : float
        Duration in seconds.
    upscale_factor : int
        Upscale factor of the compared models; 1 for denoisers.
    alternative : str
        The last sentence of `reason` if it names another model, which keeps smaller
        pores than the recommended one; otherwise empty.
    """

    rows: tuple[RankingEntry, ...]
    choice: str
    reason: str
    noise: Noise
    skipped: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    upscale_factor: int = 1
    alternative: str = ""

    @property
    def chosen(self) -> RankingEntry:
        """The recommended row."""
        return self.row(self.choice)

    @property
    def keeps_scan(self) -> bool:
        """Whether the scan is best left unchanged."""
        return self.choice == NONE

    @property
    def gain_over(self) -> Literal["scan", "cubic"]:
        """Baseline of the gains: the unchanged scan, or cubic interpolation."""
        return "scan" if self.upscale_factor == 1 else "cubic"

    def row(self, name: str) -> RankingEntry:
        """Return the row of a candidate."""
        return next(row for row in self.rows if row.name == name)

    def to_json_dict(self) -> AnyDict:
        """Return values for records and ``--json``."""
        return {
            "choice": self.choice,
            "why": self.reason,
            "upscale_factor": self.upscale_factor,
            "gain_over": self.gain_over,
            "candidates": [row.to_json_dict() for row in self.rows],
            "noise": self.noise.to_json_dict(),
            "skipped": dict(self.skipped),
        }


def decide(rows: list[RankingEntry], noise: Noise) -> tuple[str, str]:
    """Choose among rows sorted by error; return the name and the reason.

    A candidate is chosen only if the whole interval of its gain is positive. If the
    noise is correlated, a filter that compares patches must also have a clear lead. If
    the best gain is small and uncertain, the candidate with the highest lower limit of
    the interval is chosen. If the noise is weak or unknown, the scan is left unchanged.
    """
    candidates = [row for row in rows if row.name != NONE]
    best = candidates[0] if candidates else None
    if not noise.is_measured:
        return NONE, (
            "Leave the scan as it is: its noise could not be measured, so models "
            "cannot be compared. Choose a model by visual comparison, or use a second "
            "scan of the same sample."
        )
    if noise.is_negligible:
        parts = [one for one in noise.doubts if is_about(one, *PARTIAL)]
        return NONE, " ".join(
            (
                "Leave the scan as it is: its noise is below 1 % of the contrast, so "
                "there is hardly anything to remove.",
                *parts,
            )
        )
    if best is None:
        return NONE, "Leave the scan as it is: no available model is suitable for it."
    clear = [row for row in candidates if row.is_clearly_better]
    doubts = "".join(f" {sentence}" for sentence in noise.doubts)
    if not clear:
        return NONE, (
            "Leave the scan as it is: no candidate clearly reduces its error. The "
            f"best candidate, {best.name}, is expected to gain "
            f"{best.gain_text}.{doubts}"
        )
    is_correlated = max(noise.correlation.values(), default=0.0) > _CORRELATED
    chosen = _most_reliable(clear, is_correlated)
    reason = (
        f"{chosen.name} is expected to gain {chosen.gain_text} over the unchanged scan"
    )
    return (
        chosen.name,
        f"{reason}{_comparison(chosen, candidates, is_correlated)}."
        f"{_strength_reason(chosen)}{doubts}",
    )


def _strength_reason(row: RankingEntry) -> str:
    """Return the sentence that explains a strength below 1."""
    if row.run_strength == 1:
        return ""
    if row.is_gentler:
        return (
            f" The strength is {row.run_strength:g}: the expected gain is almost the "
            "same as at strength 1, and less of the scan is changed."
        )
    return (
        f" The strength is {row.run_strength:g} because, at strength 1, {row.name} "
        "would change the number of pores or let small structures fade."
    )


def _most_reliable(clear: list[RankingEntry], is_correlated: bool) -> RankingEntry:
    """Return the best of the candidates that are clearly better than the scan."""
    best = min(clear, key=lambda row: _penalised_error(row, is_correlated))
    if best.gain < SMALL_GAIN and best.interval[0] < _UNCERTAIN_GAIN:
        return max(clear, key=lambda row: row.interval[0])
    return best


def _comparison(
    chosen: RankingEntry, candidates: list[RankingEntry], is_correlated: bool
) -> str:
    """Return the part of the reason that compares the choice with other candidates."""
    first = candidates[0]
    others = [row for row in candidates if row.name != chosen.name]
    if first is not chosen and first.is_clearly_better:
        errors = [_penalised_error(row, is_correlated) for row in (first, chosen)]
        if errors[0] < errors[1]:
            return (
                f"; {first.name} may gain more ({_number(first.gain)} dB), but its "
                "gain is less certain"
            )
        if not first.compares_patches:
            return f"; at strength 1, it is better than {first.name}"
        return (
            f"; {first.name}, which may retain correlated noise, is not clearly "
            f"better ({_number(first.gain)} dB)"
        )
    if first is not chosen:
        return (
            f"; {first.name} may gain more ({_number(first.gain)} dB), but may also "
            "do harm"
        )
    if others:
        return f"; the next best is {others[0].name} ({_number(others[0].gain)} dB)"
    return ""


def _penalised_error(row: RankingEntry, is_correlated: bool) -> float:
    """Return the error, changed for two kinds of candidates.

    It is increased for a filter that compares patches: if noise is correlated, patches
    are also similar because of their noise, which such a filter then keeps. On real
    scans with correlated noise, tuned filters of this kind with a lead below
    `_MIN_LEAD` were worse than the network ranked next. It is reduced for a network at
    a gentler strength, which was chosen at strength 1 and remains so.
    """
    handicap = 0.0
    if row.compares_patches and is_correlated:
        handicap += _MIN_LEAD
    if row.is_gentler:
        handicap -= GENTLER_LOSS
    return row.error * float(10 ** (handicap / 20))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float) -> str:
    return "below −30" if value < _FAR_WORSE else signed_text(value, 1).lstrip("+")
