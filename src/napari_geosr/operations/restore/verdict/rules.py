"""Derives a verdict and its sentences from measured values.

Harm is defined as in ``benchmarks/bench_verdict.py``, where the ground truth is known:
an error above that of the scan, or a pore count that is wrong by more than a factor of
two. ``docs/evidence/verdicts.md`` reports how often harm is recognised.

The verdict predicts whether the result is worse than the scan. Findings that also apply
to the scan (such as noise that hides small pores) are reported without changing the
verdict. The same applies to indirect signs of harm (such as a scan unlike the training
data) if the expected gain, which is direct evidence, is certain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_geosr.core.noise import Noise
from napari_geosr.core.text.vocabulary import MODALITIES
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.measure.noise.remarks import MEDIAN_FILTERED, limit_text
from napari_geosr.measure.noise.topics import PARTIAL, is_about
from napari_geosr.measure.number_text import rough_percent, signed_text
from napari_geosr.operations.restore.upscaling.doubtful_noise import structure_doubt
from napari_geosr.operations.restore.verdict.known_block_test import (
    KnownBlockTest,
    lost_pores,
)
from napari_geosr.operations.restore.verdict.pore_findings import (
    doubtful_pores,
    extra_pores,
    faded_structures,
    lost_small_pores,
    partly_faded,
    wrong_pores,
)
from napari_geosr.operations.restore.verdict.run_verdict import Cause, Level

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.measure.comparison.removed import RemovalStatistics
    from napari_geosr.models.card import ModelCard
    from napari_geosr.operations.restore.upscaling.result import UpscalingVerdict

#: Expected gain, in dB, below which a run is considered harmful.
MIN_GAIN = -0.1
#: Minimum expected gain, in dB, for which a wide interval alone does not make the gain
#: doubtful.
CLEAR_GAIN = 0.5
#: Maximum change of a scan without noise, as a fraction of the contrast.
MAX_CHANGE = 0.01
#: Change, as a fraction of the contrast, that float32 rounding causes.
_ROUNDING = 1e-6
#: Maximum ratio of the level of the removed part to that of the noise at which the
#: removed part counts as noise.
MAX_LEVEL = 1.15
#: Maximum excess correlation at which the removed part counts as noise.
MAX_EXCESS_CORRELATION = 0.25
#: Gain in a simulated scan, in dB, below which the expected gain is doubtful.
MIN_TEST_GAIN = -0.5
#: Gain in a simulated scan, in dB, below which any expected gain, however large, is
#: doubtful.
_CLEAR_LOSS = -1.5
#: Maximum factor by which noise may be outside the training range without a caution.
_OUTSIDE = 1.25
#: Typical voxel sizes, in mm, by imaging modality.
_EDGES = {
    "ct": (2e-5, 2.0),
    "fluorescence": (2e-6, 1e-2),
    "light": (2e-5, 1e-1),
    "electron": (1e-7, 1e-2),
}


@dataclass(frozen=True)
class RunAssessment:
    """All measurements of the performance of a model on a scan.

    `averaged` is the test of a result with finer voxels, averaged over each voxel of
    the scan.
    """

    card: ModelCard
    noise: Noise
    removed: RemovalStatistics
    gain: tuple[float, float, float] | None = None
    known_blocks: KnownBlockTest | None = None
    averaged: KnownBlockTest | None = None
    finer: UpscalingVerdict | None = None
    bound: float | None = None
    unjudged: str = ""

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name

    @property
    def interpolates(self) -> bool:
        """Whether the model is an interpolation, which is not meant to remove noise."""
        return self.card.upscale_factor > 1 and not self.card.has_weights

    @property
    def returns_scan(self) -> bool:
        """Whether the result is the scan itself, because no noise is known."""
        is_same = self.bound is not None or self.removed.change < _ROUNDING
        return self.noise.level == 0 and is_same and self.card.upscale_factor == 1

    @property
    def changes_nothing(self) -> bool:
        """Whether the result is the scan with its noise, as with a strength of 0."""
        return self.removed.change < _ROUNDING and self.card.upscale_factor == 1

    @property
    def is_gain_certain(self) -> bool:
        """Whether the gain is clear, not contradicted and not in doubt."""
        return (
            self.gain is not None
            and (self.gain[1] > 0 or self.gain[0] >= CLEAR_GAIN)
            and not self.is_gain_contradicted
            and not self.noise.doubts
        )

    @property
    def is_gain_contradicted(self) -> bool:
        """Whether the model makes a simulated scan of this kind clearly worse.

        A loss that is smaller than the smallest gain expected for the scan itself does
        not contradict the gain: the simulated scan resembles the scan, but is not
        identical.
        """
        test = self.known_blocks
        if test is None:
            return False
        sure = 0.0 if self.gain is None else max(0.0, self.gain[1])
        limit = max(_CLEAR_LOSS, min(MIN_TEST_GAIN, -sure))
        return test.gain < limit


@dataclass(frozen=True)
class Finding:
    """A sentence, its severity and its cause."""

    level: Level
    sentence: str
    cause: Cause = "none"


def harms(facts: RunAssessment) -> Iterator[Finding]:
    """Yield the reasons why the result is worse than the scan, most severe first."""
    noise, removed, name = facts.noise, facts.removed, facts.name
    if facts.card.upscale_factor > 1:
        # The expected gain may be wrong by a few dB, so a loss counts as harm only if
        # the whole interval is negative.
        if facts.finer is not None and facts.finer.interval[1] < 0:
            yield Finding("harmful", facts.finer.sentence, "gain")
        return
    if noise.level == 0:
        # Where the noise is not known, a change up to the upper limit of the noise may
        # be noise.
        would = "would" if noise.is_measured else "could"
        if removed.change > (MAX_CHANGE if noise.is_measured else noise.bound):
            yield Finding(
                "harmful",
                f"{_no_noise(noise)}, but {name} would change the scan by "
                f"{rough_percent(removed.change)} of the contrast: structure {would} "
                "be lost. Leave the scan as it is.",
                "change",
            )
        return
    gain = facts.gain
    if gain is not None and _is_loss(gain):
        yield Finding(
            "harmful",
            f"{name} is expected to make this scan worse by {-gain[0]:.1f} dB "
            f"({_loss_interval(gain)}; noise {rough_percent(noise.relative)} of the "
            "contrast). Choose another model, or leave the scan as it is.",
            "gain",
        )
    if facts.known_blocks is not None and not facts.changes_nothing:
        wrong = wrong_pores(name, facts.known_blocks)
        if wrong:
            yield Finding("harmful", wrong, "pores")


def cautions(facts: RunAssessment) -> Iterator[Finding]:
    """Yield findings that the user should check in the result."""
    finer = facts.finer
    noise, removed, name = facts.noise, facts.removed, facts.name
    is_open = finer is not None and finer.is_uncertain and finer.interval[1] >= 0
    if finer is not None and is_open and (finer.is_doubtful or not facts.interpolates):
        yield Finding("caution", finer.sentence, "doubtful gain")
    if facts.unjudged:
        yield Finding(
            "caution",
            "The result could not be compared with cubic interpolation before the "
            f"run: {facts.unjudged}.",
            "doubtful gain",
        )
    if facts.interpolates:
        return
    if finer is not None and finer.porosity_sentence:
        yield Finding("caution", finer.porosity_sentence, "porosity")
    if not noise.is_measured and not facts.returns_scan:
        yield Finding(
            "caution",
            f"{_no_noise(noise)}, so the part that {name} removes cannot be assessed: "
            "inspect it.",
            "noise",
        )
    for sentence in noise.doubts:
        if noise.level > 0 or is_about(sentence, *PARTIAL):
            returned = ""
            if noise.level == 0 and facts.bound is not None:
                returned = f" {name} returns the scan as it is."
            yield Finding("caution", f"{sentence}{returned}", "noise")
    if finer is not None and (doubt := structure_doubt(noise)):
        advice = "Compare the result with cubic interpolation."
        yield Finding("caution", f"{doubt} {advice}", "noise")
    if noise.level > 0:
        if removed.has_places:
            yield Finding(
                "caution",
                "In some regions, the part that would be removed exceeds the noise by "
                f"up to {removed.strongest:.0f} standard deviations: inspect these "
                "regions in the result.",
                "structure",
            )
        yield from _above_range(facts)
        yield from _pores(facts)
        if not facts.is_gain_certain:
            for sentence in _indirect(facts):
                yield Finding("caution", sentence, "training data")
    yield from _doubtful_gain(facts)


def notes(facts: RunAssessment) -> Iterator[str]:
    """Yield additional information for the user.

    These sentences do not mean that the result is worse than the scan.
    """
    if facts.interpolates:
        return
    if not facts.noise.is_measured:
        yield from facts.noise.notes[:1]
    if MEDIAN_FILTERED in facts.noise.notes:
        yield MEDIAN_FILTERED
    if facts.noise.level > 0 and facts.is_gain_certain:
        yield from _indirect(facts)


def _indirect(facts: RunAssessment) -> Iterator[str]:
    """Yield the indirect signs of a loss of structure; the gain is the direct sign."""
    removed = facts.removed
    if removed.change < _ROUNDING:  # nothing is removed, as with a strength of 0
        return
    if removed.level > MAX_LEVEL:
        yield (
            f"More than noise would be removed: {removed.level:.2f} times the noise "
            "level."
        )
    if removed.coarser > MAX_EXCESS_CORRELATION:
        yield (
            "The removed part would be coarser than the noise: it may include "
            "structure."
        )
    trained = facts.card.training.noise
    level = facts.noise.relative
    if trained is not None and level < trained[0] / _OUTSIDE and facts.bound is None:
        yield (
            f"The noise is {rough_percent(level)} of the contrast, but {facts.name} "
            f"was trained only on noise of at least {rough_percent(trained[0])}: it "
            "may smooth too much."
        )


def _is_loss(gain: tuple[float, float, float]) -> bool:
    """Return whether a loss is expected and no clear gain is possible.

    The interval of the gain includes a clear gain if the noise may be much stronger
    than stated, for example because it depends on the position.
    """
    return gain[0] < MIN_GAIN and gain[2] < CLEAR_GAIN


def _pores(facts: RunAssessment) -> Iterator[Finding]:
    test, name = facts.known_blocks or facts.averaged, facts.name
    if test is None or facts.changes_nothing:
        return
    if sentence := "" if wrong_pores(name, test) else doubtful_pores(name, test):
        yield Finding("caution", sentence, "pores")
    elif extra := extra_pores(name, test):
        yield Finding("caution", extra, "small pores")
    for sentence in lost_small_pores(name, test):
        yield Finding("caution", sentence, "lost pores")
    for sentence in faded_structures(name, test):
        yield Finding("caution", sentence, "thin structures")


def _above_range(facts: RunAssessment) -> Iterator[Finding]:
    trained = facts.card.training.noise
    level = facts.noise.relative
    if trained is not None and level > _OUTSIDE * trained[1]:
        yield Finding(
            "caution",
            f"The noise is {rough_percent(level)} of the contrast, but {facts.name} "
            f"was trained only on noise of up to {rough_percent(trained[1])}.",
            "training data",
        )


def _doubtful_gain(facts: RunAssessment) -> Iterator[Finding]:
    gain, test = facts.gain, facts.known_blocks
    if gain is None or _is_loss(gain) or facts.changes_nothing:
        return
    if gain[1] < MIN_GAIN and gain[0] < CLEAR_GAIN:
        yield Finding(
            "caution",
            f"{facts.name} may not improve this scan: expected gain {_gain(gain)}.",
            "doubtful gain",
        )
    elif facts.is_gain_contradicted and test is not None:
        yield Finding(
            "caution",
            f"{facts.name} may not improve this scan: it made a simulated scan of this "
            f"kind worse by {-test.gain:.1f} dB. Compare the result with the scan.",
            "doubtful gain",
        )


def imaging(card: ModelCard, volume: Volume) -> Iterator[Finding]:
    """Yield a finding if the voxel size is atypical of the model's imaging modality."""
    if not card.modalities or not volume.has_physical_size:
        return
    edge = min(volume.voxel_size) * MILLIMETRES[volume.unit]
    known = [_EDGES[name] for name in card.modalities if name in _EDGES]
    if known and not any(low <= edge <= high for low, high in known):
        kinds = " or ".join(MODALITIES[name] for name in card.modalities)
        yield Finding(
            "caution",
            f"{card.name} is for {kinds}, for which voxels of "
            f"{min(volume.voxel_size):.3g} {volume.unit} are unusual. Check the voxel "
            "size, or choose a model for your kind of images.",
            "voxel size",
        )


def all_is_well(facts: RunAssessment) -> str:
    """Return the message for a run without findings."""
    noise = facts.noise
    if facts.interpolates:
        what = "removes hardly any" if facts.finer is None else "amplifies"
        known = noise.level > 0 or limit_text(noise)
        return (
            f"{f'{headline(facts)}. ' if known else ''}{facts.name} interpolates: it "
            f"adds no detail, and {what} noise."
        )
    if facts.finer is not None:
        return facts.finer.sentence
    if facts.returns_scan and not noise.is_measured:
        return f"{_no_noise(noise)}, so {facts.name} returns the scan as it is."
    if noise.level == 0 and facts.card.upscale_factor == 1:
        if facts.removed.change < _ROUNDING:
            effect = ": the result will be identical to the scan"
        else:
            effect = (
                f", and {facts.name} would change the scan by only "
                f"{rough_percent(facts.removed.change)} of the contrast"
            )
        return f"{_no_noise(noise)}{effect}. Leave the scan as it is."
    if facts.changes_nothing:
        return f"{facts.name} returns the scan as it is, with its noise."
    lost = remarks(facts)
    if lost:
        return f"{headline(facts)}. {lost}"
    return f"{headline(facts)}: only noise would be removed."


def remarks(facts: RunAssessment) -> str:
    """Return remarks about lost pores and objects; they do not affect the level."""
    test = facts.known_blocks
    return " ".join(text for text in (lost_pores(test), partly_faded(test)) if text)


def headline(facts: RunAssessment) -> str:
    """Describe the noise and the expected gain, as part of a sentence."""
    if facts.noise.level == 0:
        limit = limit_text(facts.noise)
        return f"Noise {limit}" if limit else _no_noise(facts.noise)
    text = f"Noise {rough_percent(facts.noise.relative)} of the contrast"
    if facts.gain is not None:
        text += f", expected gain {_gain(facts.gain)}"
    return text


def _no_noise(noise: Noise) -> str:
    """State that no noise was found, as part of a sentence."""
    if noise.is_measured:
        return f"There is hardly any noise ({limit_text(noise)})"
    return "The noise could not be measured"


def _gain(gain: tuple[float, float, float]) -> str:
    interval = _interval(gain)
    return f"{signed_text(gain[0], 1)} dB{f' ({interval})' if interval else ''}"


def _interval(gain: tuple[float, float, float]) -> str:
    """Format the interval of a gain; empty if it has no width."""
    text, low, high = (signed_text(value, 1) for value in gain)
    if not math.isfinite(gain[1]):
        return f"possibly far worse{f', at most {high}' if high != text else ''}"
    if low == high:
        return "" if low == text else f"at most {high}"
    if text == high:
        return f"at least {low}"
    return f"at most {high}" if text == low else f"between {low} and {high}"


def _loss_interval(gain: tuple[float, float, float]) -> str:
    """Format the interval of an expected loss.

    Examples
    --------
    >>> _loss_interval((-1.0, -2.0, -0.3))
    'between 0.3 and 2.0 dB'
    >>> _loss_interval((-1.0, -2.0, 0.4))
    'between 2.0 dB worse and 0.4 dB better'
    """
    least, most = (f"{-end:.1f}".replace("-", "−") for end in (gain[2], gain[1]))
    if not math.isfinite(gain[1]) or least == most:
        return f"at least {least} dB"
    if gain[2] > 0:
        return f"between {most} dB worse and {gain[2]:.1f} dB better"
    return f"between {least} and {most} dB"
