"""Derives a verdict and its sentences from measured values.

Harm is defined as in ``benchmarks/bench_verdict.py``, where the ground truth is known:
an error above that of the scan, or a number of pores off by more than a factor of two.
``docs/trust.md`` reports how often harm occurs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_geosr.core.noise import Noise
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.core.vocabulary import MODALITIES
from napari_geosr.measure.number_text import rough_percent, signed_text
from napari_geosr.operations.restore.verdict.run_verdict import Level

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.measure.removed import RemovalStatistics
    from napari_geosr.models.card import ModelCard
    from napari_geosr.operations.restore.upscaling.upscaling_verdict import (
        UpscalingVerdict,
    )
    from napari_geosr.operations.restore.verdict.known_blocks import KnownBlockTest

#: Expected gain below which the result counts as harmful, in dB.
MIN_GAIN = -0.1
#: Maximum change of a scan without noise, as a fraction of the contrast.
MAX_CHANGE = 0.01
#: Maximum ratio of the level of the removed part to that of the noise at which the
#: removed part counts as noise.
MAX_LEVEL = 1.15
#: Maximum excess correlation at which the removed part counts as noise.
MAX_EXCESS_CORRELATION = 0.25
#: Maximum ratio of the two pore counts, in either direction; above it, the result
#: counts as harmful.
MAX_PORE_RATIO = 2.0
#: Minimum difference between the two pore counts for which their ratio is evaluated.
MIN_PORES = 5
#: Level, as a fraction of the contrast, above which measured noise may be fine
#: structure: in a scan 32 voxels wide, texture was mistaken for noise.
_DOUBTFUL_LEVEL = 0.33
#: Correlation above which measured noise may be fine structure.
_DOUBTFUL_CORRELATION = 0.35
#: Maximum factor by which noise may be outside the range in training without a caution.
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
    """All facts about how a model performs on a scan."""

    card: ModelCard
    noise: Noise
    removed: RemovalStatistics
    gain: tuple[float, float, float] | None = None
    known_blocks: KnownBlockTest | None = None
    finer: UpscalingVerdict | None = None
    bound: float | None = None
    unjudged: str = ""

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.card.name


@dataclass(frozen=True)
class Finding:
    """A sentence and its severity."""

    level: Level
    sentence: str


def harms(facts: RunAssessment) -> Iterator[Finding]:
    """Reasons why the result is worse than the scan, most severe first."""
    noise, removed, name = facts.noise, facts.removed, facts.name
    if facts.card.upscale_factor > 1:
        # The expected gain may be wrong by some dB, so only a certain loss counts as
        # harm.
        if facts.finer is not None and facts.finer.interval[1] < 0:
            yield Finding("harmful", facts.finer.sentence)
        return
    if noise.level == 0:
        if removed.change > MAX_CHANGE:
            yield Finding(
                "harmful",
                f"{_no_noise(noise)}, but {name} would change the scan by "
                f"{rough_percent(removed.change)} of the contrast: structure would be "
                "lost. Leave the scan as it is.",
            )
        return
    gain = facts.gain
    if gain is not None and gain[0] < MIN_GAIN:
        yield Finding(
            "harmful",
            f"{name} is expected to make this scan worse by {-gain[0]:.1f} dB "
            f"({_interval(gain)}; noise {rough_percent(noise.relative)} of the "
            "contrast). Choose another model, or leave the scan as it is.",
        )
    if facts.known_blocks is not None:
        wrong = wrong_pores(name, facts.known_blocks)
        if wrong:
            yield Finding("harmful", wrong)


def wrong_pores(name: str, found: KnownBlockTest) -> str:
    """A sentence if a model invents or loses far too many pores; otherwise empty."""
    true, made = found.true_pores, found.pores
    if max(true, made) - min(true, made) < MIN_PORES:
        return ""
    if made <= MAX_PORE_RATIO * true and true <= MAX_PORE_RATIO * made:
        return ""
    more = "more" if made > true else "fewer"
    return (
        f"{name} would show far {more} pores than the sample has: in a test with noise "
        f"like that of this scan, it produced {made} instead of {true}. Do not count "
        "pores in its result."
    )


def cautions(facts: RunAssessment) -> Iterator[Finding]:
    """What the user should check in the result."""
    noise, removed, name = facts.noise, facts.removed, facts.name
    if facts.finer is not None and facts.finer.gain < 0 <= facts.finer.interval[1]:
        yield Finding("caution", facts.finer.sentence)
    if facts.unjudged:
        yield Finding(
            "caution",
            "The result could not be compared with cubic interpolation before the run "
            f"({facts.unjudged}).",
        )
    if not noise.is_measured:
        yield Finding(
            "caution",
            f"{_no_noise(noise)}, so "
            + (
                f"{name} returns the scan as it is."
                if facts.bound is not None or removed.change == 0
                else f"the part that {name} removes cannot be assessed: inspect it."
            ),
        )
    if noise.level > 0:
        for sentence in noise.doubts:
            yield Finding("caution", sentence)
    found = noise.correlation.values()
    if (
        facts.finer is not None
        and noise.relative > _DOUBTFUL_LEVEL
        and min(found, default=0) > _DOUBTFUL_CORRELATION
    ):
        yield Finding(
            "caution",
            f"The noise was measured as {rough_percent(noise.relative)} of the "
            "contrast and is correlated along every axis: fine structure may have been "
            "mistaken for noise. Compare the result with cubic interpolation.",
        )
    if noise.level > 0:
        if removed.level > MAX_LEVEL:
            yield Finding(
                "caution",
                f"More than noise would be removed: {removed.level:.2f} times the "
                "noise level.",
            )
        if removed.coarser > MAX_EXCESS_CORRELATION:
            yield Finding(
                "caution",
                "The removed part would be coarser than the noise: it may include "
                "structure.",
            )
        if removed.has_places:
            yield Finding(
                "caution",
                "Parts of the difference that would be removed exceed the noise by up "
                f"to {removed.strongest:.0f} standard deviations: inspect them.",
            )
        yield from _range(facts)
        yield from _lost_pores(facts)
    gain = facts.gain
    if gain is not None and gain[0] >= MIN_GAIN > gain[1]:
        yield Finding(
            "caution",
            f"{name} may not improve this scan: expected gain {_gain(gain)}.",
        )


def _lost_pores(facts: RunAssessment) -> Iterator[Finding]:
    found = facts.known_blocks
    if found is None or found.limit is None or found.limit < found.large:
        return
    objects = found.objects
    yield Finding(
        "caution",
        f"Small {objects} are not reliable in the result: in a test with noise like "
        f"that of this scan, {facts.name} showed "
        f"{100 * found.found[found.limit]:.0f} % of "
        f"{objects} of {found.limit} voxels. Do not count {objects} of that size or "
        "smaller.",
    )


def _range(facts: RunAssessment) -> Iterator[Finding]:
    trained = facts.card.training.noise
    if trained is None:
        return
    low, high = trained
    level = facts.noise.relative
    if level > _OUTSIDE * high:
        yield Finding(
            "caution",
            f"The noise is {rough_percent(level)} of the contrast, but {facts.name} "
            f"was trained only up to {rough_percent(high)}.",
        )
    elif level < low / _OUTSIDE and facts.bound is None:
        yield Finding(
            "caution",
            f"The noise is {rough_percent(level)} of the contrast, but {facts.name} "
            f"was trained only on noise of at least {rough_percent(low)}: it may "
            "smooth too much.",
        )


def imaging(card: ModelCard, volume: Volume) -> Iterator[Finding]:
    """Whether the voxel size is typical of the model's imaging modality."""
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
        )


def all_is_well(facts: RunAssessment) -> str:
    """The message if nothing is wrong."""
    noise = facts.noise
    if facts.finer is not None:
        return facts.finer.sentence
    if noise.level == 0 and facts.card.upscale_factor == 1:
        if facts.bound is not None:
            return (
                f"{_no_noise(noise)}: the result will be identical to the scan. Leave "
                "it as it is."
            )
        return (
            f"{_no_noise(noise)}, and {facts.name} would change the scan by only "
            f"{rough_percent(facts.removed.change)} of the contrast. Leave it as it is."
        )
    found = facts.known_blocks
    if found is not None and found.limit is not None:
        return (
            f"{headline(facts)}: noise would be removed together with small "
            f"{found.objects}. Do not count {found.objects} of up to {found.limit} "
            "voxels."
        )
    return f"{headline(facts)}: only noise would be removed."


def headline(facts: RunAssessment) -> str:
    """Noise and expected gain, as part of a sentence."""
    if facts.noise.level == 0:
        return f"Noise below {rough_percent(facts.noise.bound)} of the contrast"
    text = f"Noise {rough_percent(facts.noise.relative)} of the contrast"
    if facts.gain is not None:
        text += f", expected gain {_gain(facts.gain)}"
    return text


def _no_noise(noise: Noise) -> str:
    """The statement that no noise was found, as part of a sentence."""
    if noise.is_measured:
        bound = rough_percent(noise.bound)
        return f"There is hardly any noise (below {bound} of the contrast)"
    return (
        "The noise could not be measured (it may be up to "
        f"{rough_percent(noise.bound)} of the contrast)"
    )


def _gain(gain: tuple[float, float, float]) -> str:
    return f"{signed_text(gain[0], 1)} dB ({_interval(gain)})"


def _interval(gain: tuple[float, float, float]) -> str:
    # The interval has no width if the noise limits the gain at both ends.
    if not math.isfinite(gain[1]) or f"{gain[1]:.1f}" == f"{gain[2]:.1f}":
        return f"at most {signed_text(gain[2], 1)}"
    return f"between {signed_text(gain[1], 1)} and {signed_text(gain[2], 1)}"
