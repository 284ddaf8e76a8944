"""Checks of a reconstruction: whether patterns fit the frames, and the resolution.

All checks except that of the wave vectors use the brightest part of one plane.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    StepIterator,
    never_stop,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.inference.compute import exact_settings
from napari_geosr.measure.comparison.decorrelation import finest_detail
from napari_geosr.measure.comparison.fourier import fourier_correlation
from napari_geosr.operations.sim.config import SimConfig
from napari_geosr.operations.sim.estimate import PatternEstimate, brightest_part
from napari_geosr.operations.sim.planes import plane_steps, trial_edge, widefield
from napari_geosr.physics.illumination import IlluminationOperator
from napari_geosr.sim.joint_rl import JointRichardsonLucy, thinned
from napari_geosr.sim.patterns import AngleFit
from napari_geosr.sim.refine import fitted_phases

FloatArray = npt.NDArray[np.float32]

#: Edge length, in camera pixels, of the part of the frames that is checked.
CHECKED_EDGE = 192
#: Number of iterations for fitting an object to the frames.
_ITERATIONS = 15
#: Difference of a phase from that measured in the frames, in radians, above which a
#: warning is issued.
MAX_PHASE_ERROR = math.radians(5)
#: Difference of a wave vector from that measured in the frames, in cycles per field of
#: view, above which a warning is issued.
MAX_CYCLES = 0.2
#: Residual of a frame, relative to that with the best-fitting pattern, above which a
#: warning about the order of the frames is issued.
_WORSE = 1.05
#: Residual of a frame, relative to the mean of all frames, above which a warning is
#: issued. The ratio is less than 1.1 for correct patterns, also if the sample bleaches.
_UNEVEN_RESIDUAL = 1.2
#: Number of parts into which frames without angles are divided to compare patterns.
_GROUPS = 3
#: Threshold of the Fourier ring correlation that defines the resolution.
CRITERION = "1/7"


@dataclass(frozen=True, eq=False)
class SimTrust:
    """Checks of one reconstructed plane.

    Attributes
    ----------
    frame_residuals : ndarray of shape (angles, phases)
        RMS of frame minus expected frame in units of the noise; about 1 if the object
        and the patterns explain the frame.
    held_out : float
        The same RMS for frames (one of each angle) that were not used in the fit.
    residual : ndarray of shape (Y, X)
        Held-out frames minus expected ones in units of the noise, RMS over the angles,
        on the checked part.
    place : (slice, slice)
        The checked part, in camera pixels.
    phase_errors : ndarray of shape (angles, phases)
        Phase in the frame minus phase of the pattern, in degrees; empty for patterns
        given as images.
    wave_vector_errors : ndarray of shape (angles,)
        Distance from the wave vector in the frames, in cycles per field of view.
    frc_resolution : float or None
        Period at which the Fourier ring correlation of two photon-thinned halves falls
        below 1/7, in `unit`; None if it could not be measured.
    widefield_frc_resolution : float or None
        The same for the mean of the frames.
    decorrelation_resolution : float or None
        Period of the finest detail by decorrelation analysis, in `unit`.
    unit : str
    warnings : tuple of str
        Reasons to doubt the result, one sentence each.
    """

    frame_residuals: FloatArray
    held_out: float
    residual: FloatArray = field(repr=False)
    place: tuple[slice, slice]
    phase_errors: FloatArray
    wave_vector_errors: FloatArray
    frc_resolution: float | None
    widefield_frc_resolution: float | None
    decorrelation_resolution: float | None
    unit: str
    warnings: tuple[str, ...] = ()

    def to_json_dict(self) -> AnyDict:
        """Return all values in JSON-serialisable form."""
        return {
            "frame_residuals": self.frame_residuals.tolist(),
            "held_out": self.held_out,
            "checked_part": [[p.start, p.stop] for p in self.place],
            "phase_errors_degrees": self.phase_errors.tolist(),
            "wave_vector_errors_cycles": self.wave_vector_errors.tolist(),
            "frc_resolution": self.frc_resolution,
            "widefield_frc_resolution": self.widefield_frc_resolution,
            "decorrelation_resolution": self.decorrelation_resolution,
            "frc_criterion": CRITERION,
            "unit": self.unit,
            "warnings": list(self.warnings),
        }


def residual_volume(frames: SimFrames, checks: SimTrust) -> Volume:
    """Return the residual of held-out frames as a volume, at its position.

    Returns
    -------
    Volume
        Axes ``"YX"``, in units of the noise, with camera pixels.
    """
    volume = frames.volume
    sizes, starts = volume.voxel_size[-2:], volume.origin[-2:]
    origin = tuple(
        start + part.start * edge
        for start, part, edge in zip(starts, checks.place, sizes, strict=True)
    )
    return Volume(checks.residual, "YX", sizes, volume.unit, origin, name="residual")


def trust_steps(
    block: FloatArray,
    estimate: PatternEstimate,
    config: SimConfig,
    *,
    iterations: int = 0,
    device: str = "cpu",
    has_resolution: bool = True,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SimTrust]:
    """Check the reconstruction of one plane.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        Raw frames with the offset subtracted.
    estimate : PatternEstimate
    config : SimConfig
    iterations : int
        Iterations of the reconstruction, if it is iterative.
    device : str
    has_resolution : bool
        Whether to measure the resolution.
    should_stop : callable

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    yield StageStarted(message="Checking the result")
    place = brightest_part(block.mean(axis=(0, 1)), CHECKED_EDGE)
    part, patterns = block[(..., *place)], estimate.patterns.cropped(place)
    explained = _Explained(part, patterns, estimate, config, device)
    yield from explained.fit_steps(should_stop)
    yield BlockDone(1, 4)
    held_out, residual = yield from _held_out_steps(
        part, patterns, estimate, config, device, should_stop
    )
    yield BlockDone(2, 4)
    cycles = _wave_vector_errors(block, estimate)
    yield BlockDone(3, 4)
    sizes: tuple[float | None, float | None, float | None] = (None, None, None)
    if has_resolution:
        sizes = yield from _resolution_steps(
            part, patterns, estimate, config, iterations, device, should_stop
        )
    images = yield from _image_warnings(
        part, patterns, estimate, config, device, should_stop
    )
    yield BlockDone(4, 4)
    warnings = [
        *_phase_warnings(explained.phase_errors),
        *_cycle_warnings(cycles),
        *images,
    ] or _residual_warnings(explained.residuals, part.mean(axis=(2, 3)))
    return SimTrust(
        explained.residuals,
        held_out,
        residual,
        place,
        np.degrees(explained.phase_errors).astype(np.float32),
        np.asarray(cycles, np.float32),
        *sizes,
        estimate.patterns.unit,
        tuple(warnings),
    )


class _Explained:
    """Fit of an object to all frames, and the misfit of each frame."""

    def __init__(
        self,
        part: FloatArray,
        patterns: PatternSet,
        estimate: PatternEstimate,
        config: SimConfig,
        device: str,
    ) -> None:
        self.part, self.patterns, self.threads = part, patterns, config.threads
        variance = estimate.noise.weights(part.mean(axis=(0, 1)))
        self.sigma, self.weight = np.sqrt(variance), np.reciprocal(variance)
        operator = IlluminationOperator.create(
            patterns, estimate.otf, _upscale(config, patterns), device
        )
        self.fit = _fit(operator, part, config)

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
        new = fitted_phases(self.patterns, self.part, self.terms, self.weight)
        return np.array(
            [
                np.angle(np.exp(1j * np.subtract(one.phases, other.phases)))
                for one, other in zip(new.fringes, self.patterns.fringes, strict=True)
            ],
            np.float32,
        )


def _image_warnings(
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
        fit = _fit(operator.with_mixing(mixing[kept]), frames[kept], config)
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


def _upscale(config: SimConfig, patterns: PatternSet) -> int:
    """Return the upscale factor of the object that is fitted to the frames."""
    return config.upscale_factor if patterns.images is not None else 2


def _fit(
    operator: IlluminationOperator, part: FloatArray, config: SimConfig
) -> JointRichardsonLucy:
    import torch

    values = np.maximum(part.reshape(-1, *part.shape[-2:]), 0)
    frames = torch.from_numpy(np.ascontiguousarray(values))
    with exact_settings(config.threads):
        return JointRichardsonLucy(operator, frames.to(operator.basis.device))


def _iterate(
    fit: JointRichardsonLucy, threads: int | None, should_stop: ShouldStop
) -> Generator[Step, None, None]:
    for _ in range(_ITERATIONS):
        if should_stop():
            raise Cancelled("Stopped before the result was checked.")
        with exact_settings(threads):
            fit.step()
        yield BlockDone()


def _held_out_steps(
    part: FloatArray,
    patterns: PatternSet,
    estimate: PatternEstimate,
    config: SimConfig,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[float, FloatArray]]:
    """Return the RMS and map of the misfit of held-out frames, one of each angle."""
    angles, phases = part.shape[:2]
    held = [a * phases + a % phases for a in range(angles)]
    kept = [i for i in range(angles * phases) if i not in held]
    operator = IlluminationOperator.create(
        patterns, estimate.otf, _upscale(config, patterns), device
    )
    mixing = operator.mixing.cpu().numpy()
    frames = part.reshape(-1, *part.shape[-2:])
    fit = _fit(operator.with_mixing(mixing[kept]), frames[kept], config)
    yield from _iterate(fit, config.threads, should_stop)
    with exact_settings(config.threads):
        expected = operator.with_mixing(mixing[held]).forward(fit.image).cpu().numpy()
    sigma = np.sqrt(estimate.noise.weights(part.mean(axis=(0, 1))))
    squares = np.square((frames[held] - expected) / sigma)
    residual = np.sqrt(squares.mean(axis=0)).astype(np.float32)
    return float(np.sqrt(squares.mean(dtype=np.float64))), residual


def _wave_vector_errors(block: FloatArray, estimate: PatternEstimate) -> list[float]:
    """Return the errors of the wave vectors in cycles per field of view."""
    errors = []
    shape = np.asarray(block.shape[-2:])
    for frames, fringe in zip(block, estimate.patterns.fringes, strict=False):
        fit = AngleFit(frames, estimate.otf, estimate.noise.variance)
        best = fit.refine(fringe.wave_vector)
        moved = np.subtract(best, fringe.wave_vector) * shape
        errors.append(float(np.hypot(*moved)))
    return errors


def _resolution_steps(
    part: FloatArray,
    patterns: PatternSet,
    estimate: PatternEstimate,
    config: SimConfig,
    iterations: int,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[float | None, float | None, float | None]]:
    """Measure the FRC resolution (of result and widefield) and the finest detail."""
    place = brightest_part(part.mean(axis=(0, 1)), trial_edge(part))
    part, patterns = part[(..., *place)], patterns.cropped(place)
    variance = estimate.noise.weights(part.mean(axis=(0, 1)))
    edge = patterns.pixel_size / config.upscale_factor
    # Fitting two more networks would take minutes, so measure their starting point.
    method = "joint-rl" if config.method == "pinn" else config.method
    changes = {"iterations": iterations or None, "method": method}
    settings = config.model_copy(update=changes)
    images = []
    for half in (part, *thinned(part, variance)):
        steps = plane_steps(
            half,
            patterns,
            estimate.otf,
            settings,
            device=device,
            iterations=iterations or None,
            should_stop=should_stop,
        )
        with StepIterator(steps) as iterator:
            for _ in iterator:
                yield BlockDone()
        images.append(iterator.result[0])
    plain = [widefield(h, config.upscale_factor) for h in thinned(part, variance)]
    return (
        _ring_resolution(images[1], images[2], edge),
        _ring_resolution(plain[0], plain[1], edge),
        finest_detail(images[0], (edge, edge)),
    )


def _ring_resolution(one: FloatArray, other: FloatArray, edge: float) -> float | None:
    curve = fourier_correlation(one, other, (edge, edge))
    return curve.resolution(CRITERION)


def _phase_warnings(errors: FloatArray) -> list[str]:
    found = []
    for angle, row in enumerate(errors, start=1):
        worst = int(np.argmax(np.abs(row)))
        if abs(row[worst]) > MAX_PHASE_ERROR:
            found.append(
                f"Angle {angle}, phase {worst + 1}: the frame's phase differs from "
                f"that of the pattern by {math.degrees(row[worst]):.0f}°. The patterns "
                "or the order of the frames are probably wrong."
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
        "frame is probably wrong."
    ]


def _cycle_warnings(cycles: Sequence[float]) -> list[str]:
    return [
        f"Angle {angle}: the pattern in the frames differs by {value:.2f} cycles per "
        "field of view from the one used. Find the patterns again."
        for angle, value in enumerate(cycles, start=1)
        if value > MAX_CYCLES
    ]
