"""Checks of a reconstruction: whether it explains the frames, and its resolution.

All checks except those of wave vectors and modulation use the brightest part of one
plane.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.sim_frames import SimFrames
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
from napari_geosr.measure.comparison.decorrelation import finest_detail
from napari_geosr.measure.comparison.fourier import fourier_correlation
from napari_geosr.operations.sim.config import SimConfig
from napari_geosr.operations.sim.estimate import PatternEstimate, brightest_part
from napari_geosr.operations.sim.planes import plane_steps, trial_edge, widefield
from napari_geosr.operations.sim.trust.causes import offset_warnings
from napari_geosr.operations.sim.trust.pattern_checks import (
    PatternFit,
    elsewhere_reasons,
    image_warnings,
    measured_fringes,
    pattern_warnings,
    unclear_reason,
)
from napari_geosr.operations.sim.trust.residuals import (
    CHECKED_EDGE,
    held_out_steps,
    residual_warnings,
    result_residual,
)
from napari_geosr.operations.sim.trust.support import highest_frequency
from napari_geosr.sim.joint_rl import thinned
from napari_geosr.sim.outliers import without_outliers

FloatArray = npt.NDArray[np.float32]

#: Threshold of the Fourier ring correlation that defines the resolution.
CRITERION = "1/7"
#: Values that describe the resolution.
_RESOLUTIONS = (
    "frc_resolution",
    "widefield_frc_resolution",
    "decorrelation_resolution",
)
#: Values that need a clear pattern in the frames.
_PATTERN_ERRORS = ("phase_errors_degrees", "wave_vector_errors_cycles", "modulation")
#: Reason why the resolution of a network's result is not given.
_NO_NETWORKS = "Two more networks would have to be fitted, which takes minutes."
#: Reason why the resolution is not given at other time points and in other channels.
_NOT_FIRST = "It is measured only at the first time point, in the first channel."
#: Reason why the resolution is not given although it was measured.
_NO_CROSSING = "The correlation does not fall below the criterion."


@dataclass(frozen=True, eq=False)
class SimTrust:
    """Checks of one reconstructed plane.

    Attributes
    ----------
    frame_residuals : ndarray of shape (angles, phases)
        RMS difference between each frame and that expected from the result, in units of
        the noise; about 1 if the result explains the frame. See
        `napari_geosr.operations.sim.trust.residuals`.
    pattern_residuals : ndarray of shape (angles, phases)
        RMS difference between each frame and that expected from an object fitted by 15
        iterations of joint Richardson–Lucy, in units of the noise. The values depend on
        the patterns, but not on the method.
    held_out : float or None
        RMS residual, in units of the noise, of frames that were left out when the
        reconstruction was repeated with the same settings.
    residual : ndarray of shape (Y, X)
        RMS difference, over all frames, between the frames and those expected from the
        result, in units of the noise, at every pixel of the checked part.
    place : (slice, slice)
        The checked part, in camera pixels.
    phase_errors : ndarray of shape (angles, phases)
        Phase in the frame minus phase of the pattern, in degrees; empty for patterns
        given as images, NaN if no pattern is clear in the frames of the angle.
    wave_vector_errors : ndarray of shape (angles,)
        Distance from the wave vector in the frames, in cycles per field of view; NaN if
        no pattern is clear in them, or none near the wave vector used.
    modulation : ndarray of shape (angles,)
        Modulation of the fundamental in the frames; NaN if it could not be measured.
    frc_resolution : float or None
        Period at which the Fourier ring correlation of two photon-thinned halves falls
        below 1/7, in `unit`. For Wiener-SIM and widefield, no frequencies above the
        limit of the frames are used.
    widefield_frc_resolution : float or None
        The corresponding period for the mean of the frames.
    decorrelation_resolution : float or None
        Period of the finest detail of the result by decorrelation analysis, in `unit`.
    unit : str
    reasons : dict of str to str
        Reason for each value that is None.
    warnings : tuple of str
        Reasons to doubt the result, one sentence each.
    """

    frame_residuals: FloatArray
    pattern_residuals: FloatArray
    held_out: float | None
    residual: FloatArray = field(repr=False)
    place: tuple[slice, slice]
    phase_errors: FloatArray
    wave_vector_errors: FloatArray
    modulation: FloatArray
    frc_resolution: float | None
    widefield_frc_resolution: float | None
    decorrelation_resolution: float | None
    unit: str
    reasons: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def rms(self) -> float:
        """Residual of all frames together, in units of the noise."""
        return _rms(self.frame_residuals)

    def to_json_dict(self) -> AnyDict:
        """Return all values in JSON-serialisable form."""
        return {
            "residual": self.rms,
            "frame_residuals": self.frame_residuals.tolist(),
            "pattern_residuals": self.pattern_residuals.tolist(),
            "held_out": self.held_out,
            "checked_part": [[p.start, p.stop] for p in self.place],
            "phase_errors_degrees": [_known(row) for row in self.phase_errors],
            "wave_vector_errors_cycles": _known(self.wave_vector_errors),
            "modulation": _known(self.modulation),
            "frc_resolution": self.frc_resolution,
            "widefield_frc_resolution": self.widefield_frc_resolution,
            "decorrelation_resolution": self.decorrelation_resolution,
            "frc_criterion": CRITERION,
            "unit": self.unit,
            "no_value": dict(self.reasons),
            "warnings": list(self.warnings),
        }


def residual_volume(frames: SimFrames, checks: SimTrust) -> Volume:
    """Return the map of the residual as a volume, at its position.

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
    image: FloatArray,
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
    image : ndarray of shape (upscale_factor · Y, upscale_factor · X)
        The reconstruction.
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
    # Hot pixels do not cast doubt on the patterns, which were found without them.
    block, outliers = without_outliers(block, estimate.otf)
    place = brightest_part(block.mean(axis=(0, 1)), CHECKED_EDGE)
    part, patterns = block[(..., *place)], estimate.patterns.cropped(place)
    fit = PatternFit(part, patterns, estimate, config, device)
    yield from fit.fit_steps(should_stop)
    yield BlockDone(1, 4)
    residual = result_residual(
        image, block, estimate, config, device, outliers=outliers
    )
    held_out, reason = yield from held_out_steps(
        block, estimate, config, iterations, device, should_stop
    )
    yield BlockDone(2, 4)
    fringes = measured_fringes(block, estimate)
    clear = np.array([fringe.is_clear for fringe in fringes], bool)
    fit.phase_errors[~clear] = np.nan
    yield BlockDone(3, 4)
    sizes = dict[str, float | None].fromkeys(_RESOLUTIONS)
    reasons = dict.fromkeys(_RESOLUTIONS, _NOT_FIRST)
    if has_resolution:
        sizes, reasons = yield from _resolution_steps(
            image, block, estimate, config, iterations, device, should_stop
        )
    if reason:
        reasons["held_out"] = reason
    if elsewhere := elsewhere_reasons(fringes):
        reasons["wave_vector_errors_cycles"] = " ".join(elsewhere)
    if reason := unclear_reason(fringes):
        reasons |= dict.fromkeys(_PATTERN_ERRORS, reason)
    images = yield from image_warnings(
        part, patterns, estimate, config, device, should_stop
    )
    yield BlockDone(4, 4)
    warnings = [
        *pattern_warnings(fit, fringes, images),
        *offset_warnings(block, estimate),
        *residual_warnings(
            residual,
            _rms(fit.residuals),
            estimate.patterns.harmonics,
            block,
            config,
        ),
    ]
    return SimTrust(
        residual.frames,
        fit.residuals,
        held_out,
        residual.map,
        residual.place,
        np.degrees(fit.phase_errors).astype(np.float32),
        np.asarray([fringe.error for fringe in fringes], np.float32),
        np.asarray([fringe.modulation for fringe in fringes], np.float32),
        **sizes,
        unit=estimate.patterns.unit,
        reasons=reasons,
        warnings=tuple(warnings),
    )


def _known(values: FloatArray) -> list[float | None]:
    """Return a list of the values; None for NaN."""
    return [None if math.isnan(value) else value for value in values.tolist()]


def _rms(residuals: FloatArray) -> float:
    return float(np.sqrt(np.square(residuals).mean(dtype=np.float64)))


def _resolution_steps(
    image: FloatArray,
    block: FloatArray,
    estimate: PatternEstimate,
    config: SimConfig,
    iterations: int,
    device: str,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[dict[str, float | None], dict[str, str]]]:
    """Measure the FRC resolution (of result and widefield) and the finest detail.

    Returns
    -------
    sizes : dict of str to (float or None)
    reasons : dict of str to str
        Reason for each value that is None.
    """
    s = config.upscale_factor
    place = brightest_part(block.mean(axis=(0, 1)), CHECKED_EDGE)
    rows, columns = (slice(s * p.start, s * p.stop) for p in place)
    edge = estimate.patterns.pixel_size / s
    place = brightest_part(block.mean(axis=(0, 1)), trial_edge(block))
    part, patterns = block[(..., *place)], estimate.patterns.cropped(place)
    halves = thinned(part, estimate.noise.weights(part.mean(axis=(0, 1))))
    one, other = (widefield(half, s) for half in halves)
    sizes = dict[str, float | None].fromkeys(_RESOLUTIONS)
    cut_off = estimate.otf.cut_off / estimate.patterns.pixel_size
    sizes["widefield_frc_resolution"] = _ring_resolution(one, other, edge, cut_off)
    sizes["decorrelation_resolution"] = finest_detail(
        image[rows, columns], (edge, edge)
    )
    reasons = {"decorrelation_resolution": "No detail exceeds the noise."}
    if config.method == "pinn":
        reasons["frc_resolution"] = _NO_NETWORKS
    else:
        images = []
        for half in halves:
            steps = plane_steps(
                half,
                patterns,
                estimate.otf,
                config,
                device=device,
                iterations=iterations or None,
                should_stop=should_stop,
            )
            with StepIterator(steps) as iterator:
                for _ in iterator:
                    yield BlockDone()
            images.append(iterator.result[0])
        limit = _highest_detail(estimate, config.method)
        sizes["frc_resolution"] = _ring_resolution(images[0], images[1], edge, limit)
    return sizes, {
        name: reasons.get(name, _NO_CROSSING)
        for name, value in sizes.items()
        if value is None
    }


def _highest_detail(estimate: PatternEstimate, method: str) -> float | None:
    """Return the highest frequency of detail in a result, in cycles per unit.

    Beyond it, results of linear methods contain only the leakage of strong
    low frequencies, which is the same in both halves of the photons and therefore
    correlates. Joint Richardson–Lucy has no such limit, because of its constraint.
    """
    if method == "joint-rl":
        return None
    limit = estimate.otf.cut_off
    if method == "wiener":
        limit += highest_frequency(estimate.patterns)
    return limit / estimate.patterns.pixel_size


def _ring_resolution(
    one: FloatArray, other: FloatArray, edge: float, limit: float | None
) -> float | None:
    curve = fourier_correlation(one, other, (edge, edge))
    if limit is not None:
        curve = curve.up_to(limit)
    return curve.resolution(CRITERION)
