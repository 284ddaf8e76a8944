"""Checks of the patterns of a reconstruction: whether they fit the frames.

The checks do not depend on the method: a new object is fitted to the frames.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.core.steps import BlockDone, ShouldStop, Step
from napari_geosr.inference.compute import exact_settings
from napari_geosr.operations.sim.config import SimConfig
from napari_geosr.operations.sim.estimate import PatternEstimate
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.joint_rl import JointRichardsonLucy
from napari_geosr.sim.patterns import (
    MIN_NEAR,
    MIN_PROMINENCE,
    AngleFit,
    harmonic_modulation,
)
from napari_geosr.sim.peaks import CorrelationPeaks, near_reach
from napari_geosr.sim.refine import fitted_patterns, support_factor

FloatArray = npt.NDArray[np.float32]

#: Number of iterations for fitting an object to the frames.
_ITERATIONS = 15
#: Maximum difference of a phase from that measured in the frames, in radians; above it,
#: a warning is issued.
MAX_PHASE_ERROR = math.radians(5)
#: Maximum difference of a wave vector from that measured in the frames, in cycles per
#: field of view; above it, a warning is issued.
MAX_CYCLES = 0.2
#: Maximum residual of a frame, relative to that with the best-fitting pattern; above
#: it, a warning about the order of the frames is issued.
_WORSE = 1.05
#: Maximum residual of a frame, relative to the mean of all frames; above it, a warning
#: is issued. The ratio is less than 1.1 for correct patterns, even if the sample
#: bleaches.
_UNEVEN_RESIDUAL = 1.2
#: Distance, relative to that of the edge of the surroundings that are searched, above
#: which a pattern may be farther away than the one found.
_EDGE = 0.9
#: Number of parts into which frames without angles are divided to compare patterns.
_GROUPS = 3
#: Maximum difference of the modulation from that measured in the frames, relative and
#: absolute (the larger limit applies); above it, a warning is issued. At a
#: signal-to-noise ratio of 5, the measured value differs by less than 0.06.
_MODULATION_ERROR = (0.2, 0.1)
#: Advice on wrong patterns that were given.
_GIVEN = (
    "Omit --patterns to have the patterns found in these frames, or correct the "
    "patterns file."
)
#: Advice on wrong patterns that were found in the frames.
_FOUND = (
    "Check the optics (--na, --wavelength, --pixel), and that the circle of this angle "
    "lies on a peak in the spectrum of the SIM dock, where it can be dragged, or of "
    "'napari-geosr sim check'."
)


class PatternFit:
    """Fit of an object to all frames, and the misfit of each frame.

    Parameters
    ----------
    part : ndarray of shape (angles, phases, Y, X)
    patterns : PatternSet
        Patterns of the part.
    estimate : PatternEstimate
    config : SimConfig
    device : str

    Attributes
    ----------
    residuals : ndarray of shape (angles, phases)
        RMS of the misfit, in units of the noise.
    phase_errors : ndarray of shape (angles, phases)
        Phase in the frame minus phase of the pattern, in radians; empty for images.
    """

    def __init__(
        self,
        part: FloatArray,
        patterns: PatternSet,
        estimate: PatternEstimate,
        config: SimConfig,
        device: str,
    ) -> None:
        self.part, self.patterns, self.threads = part, patterns, config.threads
        #: Advice to be given if the patterns are wrong.
        self.advice = _FOUND if estimate.fits else _GIVEN
        variance = estimate.noise.weights(part.mean(axis=(0, 1)))
        self.sigma, self.weight = np.sqrt(variance), np.reciprocal(variance)
        operator = IlluminationOperator.create(
            patterns, estimate.otf, _upscale(config, patterns, estimate.otf), device
        )
        self.fit = _fit(operator, part, estimate, config)

    def fit_steps(self, should_stop: ShouldStop) -> Generator[Step, None, None]:
        """Fit the object; then compute residuals and phase errors."""
        yield from _iterate(self.fit, self.threads, should_stop)
        with exact_settings(self.threads):
            self.terms = self.fit.operator.terms(self.fit.image).cpu().numpy()
        mixing = self.fit.operator.mixing.cpu().numpy()
        expected = np.tensordot(mixing, self.terms, axes=1).reshape(self.part.shape)
        self.misfit = (self.part - expected) / self.sigma
        squares = np.square(self.misfit).mean(axis=(2, 3), dtype=np.float64)
        self.residuals = np.sqrt(squares).astype(np.float32)
        self.phase_errors = self._phase_errors()

    def _phase_errors(self) -> FloatArray:
        if self.patterns.images is not None:
            return np.zeros((0, 0), np.float32)
        new = fitted_patterns(self.patterns, self.part, self.terms, self.weight)
        return np.array(
            [
                np.angle(np.exp(1j * np.subtract(one.phases, other.phases)))
                for one, other in zip(new.fringes, self.patterns.fringes, strict=True)
            ],
            np.float32,
        )


def image_warnings(
    part: FloatArray,
    patterns: PatternSet,
    estimate: PatternEstimate,
    config: SimConfig,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, list[str]]:
    """Warn about frames that are explained better by the pattern of another frame.

    Each frame is compared with an object that is fitted without the frames of its
    angle, because an object can adapt to a wrong pattern.
    """
    if patterns.images is None:
        return []
    variance = estimate.noise.weights(part.mean(axis=(0, 1)))
    frames = part.reshape(-1, *part.shape[-2:])
    operator = IlluminationOperator.create(
        patterns, estimate.otf, config.upscale_factor, device
    )
    mixing = operator.mixing.cpu().numpy()
    n_groups = part.shape[0] if part.shape[0] > 1 else min(_GROUPS, len(frames))
    found = []
    for held in np.array_split(np.arange(len(frames)), n_groups):
        kept = [i for i in range(len(frames)) if i not in held]
        if not kept:  # a single frame cannot be compared with others
            return []
        fit = _fit(operator.with_mixing(mixing[kept]), frames[kept], estimate, config)
        yield from _iterate(fit, config.threads, should_stop)
        with exact_settings(config.threads):
            expected = operator.forward(fit.image).cpu().numpy()
        for i in held:
            scales = [float((e * frames[i]).sum() / (e * e).sum()) for e in expected]
            misfit = [
                float((np.square(frames[i] - s * e) / variance).mean())
                for s, e in zip(scales, expected, strict=True)
            ]
            best = int(np.argmin(misfit))
            if misfit[i] > _WORSE * misfit[best]:
                found.append(
                    f"Frame {i + 1} fits pattern {best + 1} better than its own: check "
                    "the order of frames and patterns."
                )
    return found


def _upscale(config: SimConfig, patterns: PatternSet, otf: Otf) -> int:
    """Return the upscale factor of the object that is fitted to the frames."""
    if patterns.images is not None:
        return config.upscale_factor
    return support_factor(patterns, otf)


def _fit(
    operator: IlluminationOperator,
    part: FloatArray,
    estimate: PatternEstimate,
    config: SimConfig,
) -> JointRichardsonLucy:
    import torch

    values = np.ascontiguousarray(part.reshape(-1, *part.shape[-2:]))
    with exact_settings(config.threads):
        frames = torch.from_numpy(values).to(operator.basis.device)
        return JointRichardsonLucy(operator, frames, shift=estimate.noise.shift)


def _iterate(
    fit: JointRichardsonLucy, threads: int | None, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    for _ in range(_ITERATIONS):
        if should_stop():
            raise Cancelled("Stopped before the result was checked.")
        with exact_settings(threads):
            fit.step()
        yield BlockDone()


@dataclass(frozen=True)
class MeasuredFringe:
    """The pattern of one angle, as measured in the frames of the whole field of view.

    Attributes
    ----------
    error : float
        Distance of the wave vector from that used, in cycles per field of view; NaN if
        no pattern is clear in the frames, or none near the one used.
    modulation : float
        Modulation of the fundamental; NaN if no pattern is clear in the frames, or if
        there are too few phases to separate the bands.
    confidence : float
        Height of the clearest correlation peak relative to the median.
    near : float
        The same for the clearest peak near the wave vector used; NaN if the strongest
        correlation is at that wave vector.
    is_far : bool
        The pattern is at the edge of the surroundings that were searched, or a clearer
        one is elsewhere, so `error` is a lower limit.
    """

    error: float
    modulation: float
    confidence: float
    near: float = math.nan
    is_far: bool = False

    @property
    def is_clear(self) -> bool:
        """Whether the frames show a clear pattern anywhere."""
        return self.confidence >= MIN_NEAR

    @property
    def is_elsewhere(self) -> bool:
        """Whether the only clear patterns are far from the one used."""
        return self.is_clear and self.near < MIN_NEAR


def measured_fringes(
    block: FloatArray, estimate: PatternEstimate
) -> list[MeasuredFringe]:
    """Measure the fringes in the frames of the whole field of view."""
    found = []
    for frames, fringe in zip(block, estimate.patterns.fringes, strict=False):
        fit = AngleFit(frames, estimate.otf, estimate.noise.variance, fringe.intensity)
        ring = fit.ring_with(fringe.wave_vector)
        peaks = fit.peaks(ring)
        confidence = peaks.highest()[1]
        if confidence < MIN_NEAR:
            found.append(MeasuredFringe(math.nan, math.nan, confidence))
            continue
        error, near, is_at_edge = _distance(fit, peaks, fringe, ring[1])
        is_far = is_at_edge or near < MIN_PROMINENCE * confidence
        is_separable = len(frames) > 2 * fringe.harmonics
        modulation = harmonic_modulation(fit, fringe)[0] if is_separable else math.nan
        found.append(MeasuredFringe(error, modulation, confidence, near, is_far))
    return found


def _distance(
    fit: AngleFit, peaks: CorrelationPeaks, fringe: FringePattern, highest: float
) -> tuple[float, float, bool]:
    """Return `error`, `near` and whether the pattern is at the edge of the search.

    The strongest correlation next to a correct wave vector is always that of the
    pattern, but next to a wrong one, it may be a peak of the noise.
    """
    k, shape = fringe.wave_vector, np.asarray(fit.shape)
    error = float(np.hypot(*np.subtract(fit.refine(k), k) * shape))
    if error <= MAX_CYCLES:
        return error, math.nan, False
    reach = near_reach(fit.shape)
    best = fit.refine(peaks.nearest(k, reach))
    near = peaks.confidence_of(best, fringe.harmonics, highest)
    if near < MIN_NEAR:
        return math.nan, near, False
    moved = np.subtract(best, k)
    is_at_edge = float(np.hypot(*moved / np.asarray(reach))) > _EDGE
    return float(np.hypot(*moved * shape)), near, is_at_edge


def unclear_reason(fringes: Sequence[MeasuredFringe]) -> str:
    """Return why the patterns of some angles cannot be checked; empty if all can.

    The correlation peak of a pattern needs many structures: images of only a few points
    fit neighbouring wave vectors and phases about as well.

    Parameters
    ----------
    fringes : sequence of MeasuredFringe
        Return value of `measured_fringes`.
    """
    unclear = [i for i, fringe in enumerate(fringes, start=1) if not fringe.is_clear]
    if not unclear:
        return ""
    lowest = min(fringe.confidence for fringe in fringes)
    return (
        f"Angle{'s' * (len(unclear) > 1)} {', '.join(map(str, unclear))}: the frames "
        f"show no clear pattern (confidence {_shown(lowest)}, at least {MIN_NEAR:g} is "
        "needed), so wave vector, phases and modulation were not checked."
    )


def elsewhere_reasons(fringes: Sequence[MeasuredFringe]) -> list[str]:
    """Return a sentence for each angle without a clear pattern near the one used.

    Parameters
    ----------
    fringes : sequence of MeasuredFringe
        Return value of `measured_fringes`.
    """
    return [
        f"Angle {angle}: there is no clear pattern near the one used (confidence "
        f"{_shown(fringe.near)}, at least {MIN_NEAR:g} is needed), but there is one "
        f"elsewhere in the spectrum (confidence {fringe.confidence:.1f})."
        for angle, fringe in enumerate(fringes, start=1)
        if fringe.is_elsewhere
    ]


def _shown(confidence: float) -> str:
    """Return a confidence, rounded down so that it does not appear to reach a limit."""
    return f"{math.floor(10 * confidence) / 10:.1f}"


def pattern_warnings(
    fit: PatternFit, fringes: Sequence[MeasuredFringe], images: list[str]
) -> list[str]:
    """Return reasons to doubt the patterns, one sentence each.

    Parameters
    ----------
    fit : PatternFit
    fringes : sequence of MeasuredFringe
        Return value of `measured_fringes`.
    images : list of str
        Return value of `image_warnings`.
    """
    reason = unclear_reason(fringes)
    found = (
        [
            *_phase_warnings(fit.phase_errors, fit.advice),
            *_cycle_warnings(fringes, fit.advice),
            *images,
        ]
        or _modulation_warnings(fit.patterns, fringes, fit.advice)
        or _residual_warnings(fit.residuals, fit.part.mean(axis=(2, 3)))
    )
    return [reason, *found] if reason else found


def _modulation_warnings(
    patterns: PatternSet, measured: Sequence[MeasuredFringe], advice: str
) -> list[str]:
    found = []
    relative, absolute = _MODULATION_ERROR
    for angle, (fringe, other) in enumerate(
        zip(patterns.fringes, measured, strict=False), start=1
    ):
        used, value = fringe.modulation[0], other.modulation
        if abs(value - used) > max(relative * abs(used), absolute):
            found.append(
                f"Angle {angle}: the modulation of the pattern is {used:.2f}, but "
                f"{value:.2f} in the frames. {advice}"
            )
    return found


def _phase_warnings(errors: FloatArray, advice: str) -> list[str]:
    found = []
    for angle, row in enumerate(errors, start=1):
        worst = int(np.argmax(np.nan_to_num(np.abs(row))))
        if abs(row[worst]) > MAX_PHASE_ERROR:
            found.append(
                f"Angle {angle}, phase {worst + 1}: the frame's phase differs from "
                f"that of the pattern by {math.degrees(row[worst]):.0f}°. The patterns "
                "or the order of the frames (--order) are probably wrong. "
                f"{advice}"
            )
    return found


def _residual_warnings(residuals: FloatArray, means: FloatArray) -> list[str]:
    """Warn about a frame that is explained less well than the others.

    The expected residual increases with the square root of a frame's mean intensity.
    """
    relative = np.sqrt(np.maximum(means / means.mean(), 1e-6))
    ratios = residuals / relative
    ratios = ratios / ratios.mean()
    angle, phase = np.unravel_index(int(np.argmax(ratios)), ratios.shape)
    if ratios[angle, phase] <= _UNEVEN_RESIDUAL:
        return []
    return [
        f"Angle {angle + 1}, phase {phase + 1}: the residual is "
        f"{residuals[angle, phase]:.1f} times the noise, more than in other frames "
        f"(mean {residuals.mean():.1f}). The pattern or the relative intensity of this "
        "frame is probably wrong, or the sample moved between the frames."
    ]


def _cycle_warnings(fringes: Sequence[MeasuredFringe], advice: str) -> list[str]:
    found = [f"{reason} {advice}" for reason in elsewhere_reasons(fringes)]
    for angle, fringe in enumerate(fringes, start=1):
        if fringe.error > MAX_CYCLES:
            least = "at least " if fringe.is_far else ""
            found.append(
                f"Angle {angle}: the pattern in the frames differs by {least}"
                f"{fringe.error:.2f} cycles per field of view from the one used. "
                f"{advice}"
            )
    return found
