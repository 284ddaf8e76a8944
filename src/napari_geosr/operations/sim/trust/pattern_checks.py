"""Checks of the patterns of a reconstruction: whether they fit the frames.

The checks do not depend on the method: a new object is fitted to the frames.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import BlockDone, ShouldStop, Step
from napari_geosr.inference.compute import exact_settings
from napari_geosr.operations.sim.config import SimConfig
from napari_geosr.operations.sim.estimate import PatternEstimate
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.joint_rl import JointRichardsonLucy
from napari_geosr.sim.patterns import MIN_NEAR, AngleFit, harmonic_modulation
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


def measured_fringes(
    block: FloatArray, estimate: PatternEstimate
) -> tuple[list[float], list[float], list[float]]:
    """Measure the fringes in the frames of the whole field of view.

    Returns
    -------
    errors : list of float
        Distance of each wave vector from that used, in cycles per field of view; NaN if
        no pattern is clear in the frames of this angle.
    modulation : list of float
        Modulation of the fundamental; NaN if no pattern is clear, or if there are too
        few phases to separate the bands.
    confidence : list of float
        Height of the clearest correlation peak relative to the median.
    """
    errors, modulation, confidence = [], [], []
    shape = np.asarray(block.shape[-2:])
    for frames, fringe in zip(block, estimate.patterns.fringes, strict=False):
        fit = AngleFit(frames, estimate.otf, estimate.noise.variance, fringe.intensity)
        confidence.append(fit.clarity(fringe.wave_vector))
        if confidence[-1] < MIN_NEAR:
            errors.append(math.nan)
            modulation.append(math.nan)
            continue
        best = fit.refine(fringe.wave_vector)
        moved = np.subtract(best, fringe.wave_vector) * shape
        errors.append(float(np.hypot(*moved)))
        is_separable = len(frames) > 2 * fringe.harmonics
        found = harmonic_modulation(fit, fringe)[0] if is_separable else math.nan
        modulation.append(found)
    return errors, modulation, confidence


def unclear_reason(confidence: Sequence[float]) -> str:
    """Return why the patterns of some angles cannot be checked; empty if all can.

    The correlation peak of a pattern needs many structures: images of only a few points
    fit neighbouring wave vectors and phases about as well.

    Parameters
    ----------
    confidence : sequence of float
        Return value of `measured_fringes`.
    """
    unclear = [i for i, c in enumerate(confidence, start=1) if c < MIN_NEAR]
    if not unclear:
        return ""
    # Rounded down, so that the value does not appear to reach the limit.
    lowest = math.floor(10 * min(confidence)) / 10
    return (
        f"Angle{'s' * (len(unclear) > 1)} {', '.join(map(str, unclear))}: the frames "
        f"show no clear pattern (confidence {lowest:.1f}, at least {MIN_NEAR:g} is "
        "needed), so wave vector, phases and modulation were not checked."
    )


def pattern_warnings(
    fit: PatternFit,
    cycles: Sequence[float],
    modulation: Sequence[float],
    confidence: Sequence[float],
    images: list[str],
) -> list[str]:
    """Return reasons to doubt the patterns, one sentence each.

    Parameters
    ----------
    fit : PatternFit
    cycles, modulation, confidence : sequence of float
        Return values of `measured_fringes`.
    images : list of str
        Return value of `image_warnings`.
    """
    reason = unclear_reason(confidence)
    found = (
        [
            *_phase_warnings(fit.phase_errors, fit.advice),
            *_cycle_warnings(cycles, fit.advice),
            *images,
        ]
        or _modulation_warnings(fit.patterns, modulation, fit.advice)
        or _residual_warnings(fit.residuals, fit.part.mean(axis=(2, 3)))
    )
    return [reason, *found] if reason else found


def _modulation_warnings(
    patterns: PatternSet, measured: Sequence[float], advice: str
) -> list[str]:
    found = []
    relative, absolute = _MODULATION_ERROR
    for angle, (fringe, value) in enumerate(
        zip(patterns.fringes, measured, strict=False), start=1
    ):
        used = fringe.modulation[0]
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


def _cycle_warnings(cycles: Sequence[float], advice: str) -> list[str]:
    return [
        f"Angle {angle}: the pattern in the frames differs by {value:.2f} cycles per "
        f"field of view from the one used. {advice}"
        for angle, value in enumerate(cycles, start=1)
        if value > MAX_CYCLES
    ]
