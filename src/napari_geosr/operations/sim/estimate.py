"""Find the illumination patterns of raw frames, or use given patterns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.core.steps import (
    NoteIssued,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.inference.compute import exact_settings
from napari_geosr.operations.sim.agreement import (
    PHASES_OF_TWO_HARMONICS,
    cut_off_remark,
    disagreement_remarks,
    modulation_remark,
    offset_remark,
    optics_advice,
    outlier_remark,
)
from napari_geosr.operations.sim.angle_fits import fit_steps
from napari_geosr.operations.sim.config import FramesConfig
from napari_geosr.operations.sim.frame_checks import check_plane, usable_plane
from napari_geosr.operations.sim.inputs import (
    known_patterns,
    psf_remark,
    transfer_function,
    wavelength_remark,
)
from napari_geosr.operations.sim.known_patterns import check_patterns, read_patterns
from napari_geosr.operations.sim.order_checks import order_remark
from napari_geosr.operations.sim.starts import search_starts
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.noise import FrameNoise, frame_noise
from napari_geosr.sim.outliers import without_outliers
from napari_geosr.sim.patterns import MIN_PROMINENCE, FringeFit
from napari_geosr.sim.refine import refine_phases_steps

FloatArray = npt.NDArray[np.float32]
T = TypeVar("T")

#: Distance between two wave vectors, relative to the cut-off, below which they count as
#: equal.
_SAME_DIRECTION = 0.1
#: Edge length, in camera pixels, of the region in which phases are refined.
REFINED_EDGE = 192
#: Maximum change of a phase between time points, in radians; above it, patterns are
#: considered to drift.
MAX_DRIFT = math.radians(10)


class PatternError(ConfigError):
    """The pattern of an angle was not found, or cannot be relied on."""


@dataclass(frozen=True, eq=False)
class PatternEstimate:
    """Patterns of one plane, and how reliable they are.

    Attributes
    ----------
    patterns : PatternSet
    fits : tuple of FringeFit
        Fit of each angle; empty if the patterns were given.
    otf : Otf
    noise : FrameNoise
    block : ndarray of shape (angles, phases, Y, X), float32
        The frames in which the patterns were found, with the offset subtracted.
    where : str
        Name of the plane in messages, such as ``" (time point 2)"``.
    advice : str
        Sentences on possible reasons why a pattern was not found.
    """

    patterns: PatternSet
    fits: tuple[FringeFit, ...]
    otf: Otf
    noise: FrameNoise
    block: FloatArray = field(repr=False)
    where: str = ""
    advice: str = ""

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each angle with an unreliable pattern."""
        return tuple(
            f"Angle {i}{self.where}: {fit.problem}"
            for i, fit in enumerate(self.fits, start=1)
            if fit.problem
        )

    @property
    def is_light_known(self) -> bool:
        """Whether the intensities of the patterns were measured in these frames."""
        return bool(self.fits) and not self.problems

    @property
    def intensities(self) -> FloatArray:
        """Light of each frame relative to the mean of all frames.

        If the light is unknown, the mean of each frame is used instead, although it
        also depends on the position of the stripes relative to the sample.

        Returns
        -------
        ndarray of shape (angles, phases)
        """
        if self.is_light_known:
            rows = [fringe.intensity for fringe in self.patterns.fringes]
            return np.asarray(rows, np.float32)
        means = self.block.mean(axis=(2, 3), dtype=np.float64)
        return np.asarray(means / (means.mean() or 1), np.float32)

    @property
    def is_prominent(self) -> bool:
        """Whether the patterns found near given ones are about as clear as any others.

        If not, clearer patterns exist elsewhere in the spectrum.
        """
        return all(fit.prominence >= MIN_PROMINENCE for fit in self.fits)

    def require(self) -> None:
        """Raise an error if the pattern of any angle was not found.

        Raises
        ------
        PatternError
            If a pattern was not found; the message states each problem.
        """
        if self.problems:
            sentences = " ".join((*self.problems, self.advice)).rstrip()
            raise PatternError(
                f"{sentences} Check the frames with 'napari-geosr sim check', or give "
                "the patterns (--patterns).",
                fields=("patterns",),
            )


def estimate_steps(
    frames: SimFrames,
    config: FramesConfig,
    *,
    time: int = 0,
    channel: int = 0,
    plane: int | None = None,
    near: PatternSet | None = None,
    is_first: bool | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PatternEstimate]:
    """Find the patterns in one plane.

    Parameters
    ----------
    frames : SimFrames
    config : FramesConfig
    time, channel : int
    plane : int, optional
        Slice to use; by default, the usable slice that is nearest to the middle.
    near : PatternSet, optional
        Approximate patterns, from another time point or corrected by hand; the search
        is limited to their neighbourhood.
    is_first : bool, optional
        Whether no patterns of this channel are known yet; warnings are issued only
        then. By default, true at the first time point.

    Yields
    ------
    Step
        `BlockDone`, counted in angles; `WarningIssued` for assumptions about the optics
        and doubts about the order of the frames.

    Returns
    -------
    PatternEstimate

    Raises
    ------
    GeoSRError
        If the frames cannot be used, or given patterns do not fit them. Patterns that
        are not found are reported by `PatternEstimate.problems`.
    """
    otf = transfer_function(frames, config, channel)
    at = usable_plane(frames, time, channel) if plane is None else plane
    block = frames.frames(at, time, channel)
    check_plane(block, frames, at, time, channel)
    cleaned, outliers = without_outliers(block, otf)
    noise = frame_noise(cleaned, otf)
    is_new = near is None and (time == 0 if is_first is None else is_first)
    of_optics = (psf_remark, wavelength_remark, order_remark)
    remarks = of_optics if is_new and channel == 0 else ()
    for remark in remarks:
        if message := remark(frames, config):
            yield WarningIssued(message=message)
    known = known_patterns(frames, config)
    if known is not None:
        given = read_patterns(known, frames, channel)
        check_patterns(given, otf)
        return PatternEstimate(given, (), otf, noise, block)
    fits = yield from fit_steps(
        cleaned,
        otf,
        noise.variance,
        harmonics=config.harmonics,
        near=near,
        is_first=is_new,
        where=frames.where(channel=channel),
        should_stop=should_stop,
    )
    pixels = outlier_remark(outliers, frames, channel, time)
    if is_new:
        for message in (
            pixels,
            cut_off_remark(cleaned, otf, frames, channel, time),
            " ".join(disagreement_remarks(fits, frames, channel, time)),
        ):
            if message:
                yield WarningIssued(message=message)
    patterns = PatternSet(
        _with_common_intensity([fit.pattern for fit in fits], cleaned),
        frames.plane_shape,
        frames.pixel_size,
        frames.volume.unit,
        confidence=tuple(fit.confidence for fit in fits),
    )
    found = PatternEstimate(
        _with_common_harmonics(patterns),
        _with_distinct_directions(fits, otf),
        otf,
        noise,
        block,
        frames.where(time=time, channel=channel),
        _advice(fits, frames, config, otf, pixels, is_near=near is not None),
    )
    if found.problems:
        return found
    if is_new:
        where = frames.where(channel=channel)
        if message := modulation_remark(found.patterns, where):
            yield WarningIssued(message=message)
        if message := offset_remark(cleaned, noise, frames, config, channel):
            yield NoteIssued(message=message)
    yield StageStarted(message="Refining phases and intensities")
    refined = yield from _refine_steps(found, cleaned, config.threads, should_stop)
    return replace(found, patterns=refined)


def _advice(
    fits: Sequence[FringeFit],
    frames: SimFrames,
    config: FramesConfig,
    otf: Otf,
    pixels: str,
    *,
    is_near: bool,
) -> str:
    """Name possible reasons why a pattern was not found."""
    found = [] if config.angles and config.phases else [_assumption(frames)]
    if any(fit.is_missing for fit in fits):
        found.append(optics_advice(frames, otf, is_near=is_near))
        if frames.phases < PHASES_OF_TWO_HARMONICS:
            found.append("Three-beam illumination needs at least 5 phases.")
    return " ".join([*found, pixels]).rstrip()


def _assumption(frames: SimFrames) -> str:
    return (
        f"The images were taken as {frames.angles} angles × {frames.phases} phases "
        f"in the order {frames.order}: if this is wrong, give --angles, --phases and "
        "--order."
    )


def _with_common_intensity(
    fringes: Sequence[FringePattern], block: FloatArray
) -> tuple[FringePattern, ...]:
    """Return the fringes with the means of the frames as approximate intensities."""
    means = block.mean(axis=(2, 3), dtype=np.float64)
    overall = float(means.mean())
    if not overall > 0:
        return tuple(fringes)
    relative = means / overall
    return tuple(
        replace(fringe, intensity=tuple(float(v) for v in row))
        for fringe, row in zip(fringes, relative, strict=True)
    )


def search_steps(
    frames: SimFrames,
    config: FramesConfig,
    *,
    time: int,
    channel: int,
    plane: int | None = None,
    before: PatternSet | None = None,
    corrected: PatternSet | None = None,
    is_first: bool | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, PatternEstimate]:
    """Find patterns near known ones, or else anywhere.

    Parameters
    ----------
    frames : SimFrames
    config : FramesConfig
    time, channel : int
    plane : int, optional
        Slice to use; by default, the usable slice that is nearest to the middle.
    before : PatternSet, optional
        Patterns of an earlier time point of this channel.
    corrected : PatternSet, optional
        Patterns of the first time point and channel, corrected by the user.
    is_first : bool, optional
        See `estimate_steps`.

    Returns
    -------
    PatternEstimate
        The patterns; `PatternEstimate.problems` is not empty if they were not found
        anywhere.
    """
    second: PatternEstimate | None = None
    known = before or corrected
    # Use as many harmonics as in the known patterns.
    if config.harmonics is None and known is not None:
        config = config.model_copy(update={"harmonics": known.harmonics})
    starts = search_starts(frames, channel, before=before, corrected=corrected)
    for near in starts:
        found = yield from estimate_steps(
            frames,
            config,
            time=time,
            channel=channel,
            plane=plane,
            near=near,
            is_first=is_first,
            should_stop=should_stop,
        )
        # Patterns that the user has corrected may be less clear than others.
        if not found.problems and (corrected is not None or found.is_prominent):
            return found
        if not found.problems and second is None:
            second = found
    return found if second is None else second


def _with_distinct_directions(
    fits: Sequence[FringeFit], otf: Otf
) -> tuple[FringeFit, ...]:
    """Return the fits; report angles that have the wave vector of an earlier one."""
    found = list(fits)
    for j, i in itertools.combinations(range(len(fits)), 2):
        one, other = (np.asarray(fits[at].pattern.wave_vector) for at in (j, i))
        nearest = min(np.hypot(*(one - other)), np.hypot(*(one + other)))
        if nearest < _SAME_DIRECTION * otf.cut_off and not found[i].problem:
            problem = (
                f"the pattern has the same direction as that of angle {j + 1}: check "
                "the order of the frames (--order) and --angles."
            )
            found[i] = replace(found[i], problem=problem)
    return tuple(found)


def _with_common_harmonics(patterns: PatternSet) -> PatternSet:
    """Set higher harmonics, relative to the first, to their median over all angles.

    Higher harmonics depend on the fluorophores rather than on the direction, and their
    values at single angles are noisy.
    """
    if patterns.harmonics < 2:
        return patterns
    fringes = patterns.fringes
    # The sign of odd harmonics changes with that of the fundamental.
    ratios = np.median([np.divide(f.modulation, f.modulation[0]) for f in fringes], 0)
    common = tuple(
        replace(f, modulation=tuple(float(r * f.modulation[0]) for r in ratios))
        for f in fringes
    )
    return replace(patterns, fringes=common)


def computed(
    steps: Generator[Step, None, T], threads: int | None
) -> Generator[Step, None, T]:
    """Run the generator `steps` without gradients, on the given number of threads."""
    with closing(steps):
        while True:
            with exact_settings(threads):
                try:
                    step = next(steps)
                except StopIteration as end:
                    result: T = end.value
                    return result
            yield step


def _refine_steps(
    found: PatternEstimate,
    block: FloatArray,
    threads: int | None,
    should_stop: ShouldStop,
) -> Generator[Step, None, PatternSet]:
    """Refine phases and intensities in the brightest part of the frames."""
    patterns = found.patterns
    place = brightest_part(block.mean(axis=(0, 1)), REFINED_EDGE)
    part = patterns.cropped(place)
    steps = refine_phases_steps(
        block[(..., *place)],
        part,
        found.otf,
        found.noise,
        should_stop=should_stop,
    )
    refined = yield from computed(steps, threads)
    fringes = tuple(
        replace(
            fringe,
            phases=tuple(
                float(p + n - o)
                for p, n, o in zip(fringe.phases, new.phases, old.phases, strict=True)
            ),
            intensity=new.intensity,
        )
        for fringe, new, old in zip(
            patterns.fringes, refined.fringes, part.fringes, strict=True
        )
    )
    return replace(patterns, fringes=fringes)


def brightest_part(mean: FloatArray, edge: int) -> tuple[slice, slice]:
    """Return the brightest square of `edge` × `edge` pixels, or the whole image."""
    from scipy import ndimage

    sizes = [min(edge, n) for n in mean.shape]
    sums = ndimage.uniform_filter(mean, sizes, mode="constant")
    half = [(s // 2, n - (s - s // 2)) for s, n in zip(sizes, mean.shape, strict=True)]
    valid = sums[half[0][0] : half[0][1] + 1, half[1][0] : half[1][1] + 1]
    y, x = np.unravel_index(int(np.argmax(valid)), valid.shape)
    return slice(int(y), int(y) + sizes[0]), slice(int(x), int(x) + sizes[1])


def drift(before: PatternSet, after: PatternSet) -> float:
    """Return the largest phase change of a pattern in the field of view, in radians.

    The effect of a change of the wave vector is largest in the corners.
    """
    corner = np.asarray(before.shape) / 2
    largest = 0.0
    for one, other in zip(before.fringes, after.fringes, strict=True):
        k, new = np.asarray(one.wave_vector), np.asarray(other.wave_vector)
        sign = 1.0 if float(k @ new) >= 0 else -1.0
        shift = 2 * math.pi * float(np.abs(sign * new - k) @ corner)
        phases = sign * np.asarray(other.phases) - np.asarray(one.phases)
        turned = np.abs(np.angle(np.exp(1j * phases)))
        largest = max(largest, float(turned.max()) + shift)
    return min(largest, math.pi)
