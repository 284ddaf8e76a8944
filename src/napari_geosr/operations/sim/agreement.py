"""Compare the patterns of all angles, and the optics with the frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.units import PIXEL
from napari_geosr.operations.sim.config import FramesConfig
from napari_geosr.operations.sim.frame_checks import saturated_fraction
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.cut_off import check_cut_off
from napari_geosr.sim.noise import FrameNoise, dark_level, dark_share, has_padding
from napari_geosr.sim.outliers import Outlier
from napari_geosr.sim.patterns import (
    MAX_UNEVEN_PERIOD,
    MIN_PROMINENCE,
    FringeFit,
    search_ring,
)

FloatArray = npt.NDArray[np.float32]

#: Number of phases from which the two patterns of three beams can be separated.
PHASES_OF_TWO_HARMONICS = 5
#: Number of phases from which three harmonics can be separated.
_OF_THREE_HARMONICS = 7
#: Modulation above which a remark is made: estimates may slightly exceed 1.
_MAX_MODULATION = 1.1
#: Minimum modulation of an angle, relative to the median of the others; below it, a
#: warning is issued. The ratio is at least 0.9 for correct frames.
_MIN_MODULATION = 0.5
#: Fraction of the pixels without light below which the offset cannot be estimated. In
#: simulated scenes (SNR of 20 and 50), it is 0.002 to 0.005 without a dark area, and
#: 0.02 to 0.04 if 4 % of the frame is dark.
_MIN_DARK = 0.01
#: Possible error of the offset, relative to the mean of the frames, below which no
#: remark is made: the contrast of the result changes by the same fraction.
_MAX_OFFSET_ERROR = 0.15


def agreeing_fits(
    fits: Sequence[FringeFit], search: Callable[[int, float], FringeFit]
) -> list[FringeFit]:
    """Search again if the period of a pattern differs from that of the other angles.

    Parameters
    ----------
    fits : sequence of FringeFit
        Fit of each angle.
    search : callable
        Returns the fit of an angle near a frequency in cycles per pixel.

    Returns
    -------
    list of FringeFit
        The fits; if an equally clear pattern with the period of the other angles is
        found, it replaces the first one.
    """
    found = list(fits)
    for i, fit in enumerate(fits):
        others = [
            other.pattern.frequency
            for j, other in enumerate(fits)
            if j != i and not other.problem
        ]
        if len(others) < 2 or max(others) > (1 + MAX_UNEVEN_PERIOD) * min(others):
            continue
        usual = float(np.median(others))
        if _is_near(fit, usual) and not fit.is_missing:
            continue
        again = search(i, usual)
        is_clear = again.confidence >= MIN_PROMINENCE * fit.confidence
        if _is_near(again, usual) and is_clear and not again.problem:
            found[i] = again
    return found


def _is_near(fit: FringeFit, frequency: float) -> bool:
    return abs(fit.pattern.frequency / frequency - 1) <= MAX_UNEVEN_PERIOD


def disagreement_remarks(
    fits: Sequence[FringeFit], frames: SimFrames, channel: int = 0, time: int = 0
) -> list[str]:
    """Describe angles that differ from the others in their period or modulation.

    Parameters
    ----------
    fits : sequence of FringeFit
        Fit of each angle; those with a problem are ignored.
    frames : SimFrames
    channel, time : int
    """
    used = [(i, fit) for i, fit in enumerate(fits, start=1) if not fit.problem]
    found: list[str] = []
    if len(used) < 2:
        return found
    where = frames.where(time=time, channel=channel)
    frequencies = [fit.pattern.frequency for _, fit in used]
    usual = frequencies[0] if len(used) == 2 else float(np.median(frequencies))
    for i, fit in used:
        if not _is_near(fit, usual):
            own, other = (
                _length(frames, 1 / f) for f in (fit.pattern.frequency, usual)
            )
            found.append(
                f"Angle {i}{where}: the period of the pattern is {own}, but that of "
                f"the other angles is {other}. Normally, the periods are equal."
            )
        modulation = abs(fit.pattern.modulation[0])
        others = [abs(each.pattern.modulation[0]) for j, each in used if j != i]
        if modulation < _MIN_MODULATION * float(np.median(others)):
            found.append(
                f"Angle {i}{where}: the modulation is only {modulation:.2f}, but that "
                f"of the other angles is {np.median(others):.2f}."
            )
    if found:
        found.append(
            "The patterns may be wrong: check the numerical aperture, wavelength and "
            "pixel size (--na, --wavelength, --pixel), and compare the patterns with "
            "the peaks in the spectrum."
        )
    return found


def _length(frames: SimFrames, pixels: float) -> str:
    """Return a length in the sample, or in pixels if their size is unknown."""
    if frames.volume.unit == PIXEL:
        return f"{pixels:.3g} pixels"
    return f"{pixels * frames.pixel_size:.3g} {frames.volume.unit}"


def optics_advice(frames: SimFrames, otf: Otf, *, is_near: bool = False) -> str:
    """Name the periods that were searched for, and the optics to check.

    Parameters
    ----------
    frames : SimFrames
    otf : Otf
    is_near : bool
        Whether the search was limited to the neighbourhood of known patterns.
    """
    if is_near:
        return (
            "Only periods and directions near the given ones were searched: check "
            f"them, and {_names_of(otf).removeprefix('check ')}."
        )
    low, high = search_ring(otf)
    if not 0 < low < high:
        searched = "The cut-off is beyond all frequencies in the frames"
    else:
        searched = (
            f"Periods from {_length(frames, 1 / high)} to {_length(frames, 1 / low)} "
            "were searched"
        )
    return f"{searched}: {_names_of(otf)}."


def _names_of(otf: Otf) -> str:
    if otf.psf is not None:
        return "check the point-spread function (--psf, --psf-sampling)"
    return (
        "check the numerical aperture, wavelength and pixel size (--na, "
        "--wavelength, --pixel)"
    )


def cut_off_remark(
    block: FloatArray, otf: Otf, frames: SimFrames, channel: int = 0, time: int = 0
) -> str:
    """Return a sentence if the optics contradict the detail in the frames.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        Raw frames with the offset subtracted, without outliers.
    otf : Otf
    frames : SimFrames
    channel, time : int
    """
    # Clipped structures and the edges of padding have frequencies beyond the cut-off.
    if saturated_fraction(block, frames, channel).any():
        return ""
    if has_padding(block.reshape(-1, *block.shape[-2:])):
        return ""
    check = check_cut_off(block, otf)
    where = frames.where(time=time, channel=channel)
    limit = _length(frames, 1 / otf.cut_off)
    if check.is_too_low:
        return (
            f"The frames{where} contain detail finer than {limit}, which the objective "
            f"cannot transmit with these settings: {_names_of(otf)}."
        )
    if check.is_too_high:
        return (
            f"The frames{where} contain much less detail with periods near {limit} "
            f"than the objective transmits with these settings: {_names_of(otf)}; or "
            "the sample has no fine detail."
        )
    return ""


def outlier_remark(
    outliers: Sequence[Outlier], frames: SimFrames, channel: int = 0, time: int = 0
) -> str:
    """Name the hot pixels and cosmic rays in the frames; empty if there are none."""
    if not outliers:
        return ""
    highest = max(outliers, key=lambda each: abs(each.height))
    places = {(each.y, each.x) for each in outliers}
    same = [each for each in outliers if (each.y, each.x) == (highest.y, highest.x)]
    angle, phase = divmod(highest.frame, frames.phases)
    seen = (
        f"in {len(same)} frames"
        if len(same) > 1
        else f"in the frame of angle {angle + 1}, phase {phase + 1}"
    )
    more = len(places) - 1
    others = f" ({more} more like it)" if more else ""
    where = frames.where(time=time, channel=channel)
    sign = "brighter" if highest.height > 0 else "darker"
    return (
        f"The pixel at y = {highest.y}, x = {highest.x}{others} is "
        f"{abs(highest.height):.4g} grey values {sign} than its surroundings "
        f"{seen}{where}. No objective can produce such detail in a single pixel, so "
        "this is probably a hot pixel or a cosmic ray. Such pixels are ignored when "
        "patterns are searched for, but they remain in the result: replace them "
        "beforehand."
    )


def offset_remark(
    block: FloatArray,
    noise: FrameNoise,
    frames: SimFrames,
    config: FramesConfig,
    channel: int = 0,
) -> str:
    """State that the offset is uncertain; empty if it is not, or if it was given.

    Without a dark area, light is part of the estimated offset. The noise at the
    estimated offset gives an upper limit of this light, because photons cause noise.
    Part of the noise may come from the camera; the two sources cannot be distinguished
    here, so the true error may be much smaller.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
        Raw frames with the offset subtracted, without outliers.
    noise : FrameNoise
    frames : SimFrames
    config : FramesConfig
    channel : int
    """
    images = block.reshape(-1, *block.shape[-2:])
    level = dark_level(images)
    if config.offset is not None or level is None or not noise.gain > 0:
        return ""
    is_estimated = abs(level) < noise.weights(np.array(0.0)).item() ** 0.5
    if not is_estimated or dark_share(images) >= _MIN_DARK:
        return ""
    most = noise.dark / noise.gain
    share = most / (float(block.mean()) + most)
    if share < _MAX_OFFSET_ERROR:
        return ""
    return (
        f"No large area of the frames{frames.where(channel=channel)} is dark, so the "
        f"estimated camera offset can be too high: by at most {most:.2g} grey values "
        f"({100 * share:.0f} % of the mean light), and by less if the camera has read "
        "noise. The contrast of the result is then also too high. For an exact offset, "
        "record a frame without light, and give its mean (--offset)."
    )


def orders_remark(
    fits: Sequence[FringeFit], harmonics: int | None, where: str = ""
) -> str:
    """Describe the second pattern in each direction; empty if there is none.

    Parameters
    ----------
    fits : sequence of FringeFit
        Fit of each angle with one harmonic.
    harmonics : int or None
        As given by the user: with 1, the second pattern is not used; with None, it is
        used.
    where : str
        Names the channel, as in ``" (channel 2)"``, if there are several.
    """
    count = sum(fit.unused > 0 for fit in fits)
    if 2 * count <= len(fits):
        return ""
    is_coarser = sum(fit.unused == 0.5 for fit in fits) * 2 > count
    if harmonics is None:
        return (
            f"The frames{where} contain two patterns in each direction, one with twice "
            "the frequency of the other, as in three-beam and nonlinear illumination. "
            "Both are used (--harmonics 2)."
            + (
                " For nonlinear illumination, give --harmonics 3."
                if min(len(fit.pattern.phases) for fit in fits) >= _OF_THREE_HARMONICS
                else ""
            )
        )
    return (
        f"The frames{where} contain a second pattern in each direction, with "
        f"{'half' if is_coarser else 'twice'} the frequency of the one that is used, "
        "as in three-beam illumination. With --harmonics 1, it is ignored, and the "
        "phases are probably wrong. Use --harmonics 2, or omit this setting."
    )


def modulation_remark(patterns: PatternSet, where: str = "") -> str:
    """Describe a modulation that is impossible; empty if there is none.

    Parameters
    ----------
    patterns : PatternSet
    where : str
        Names the channel, as in ``" (channel 2)"``, if there are several.
    """
    if patterns.harmonics > 1:  # the modulations of several harmonics may exceed 1
        return ""
    values = [abs(fringe.modulation[0]) for fringe in patterns.fringes]
    angle = int(np.argmax(values))
    if values[angle] <= _MAX_MODULATION:
        return ""
    advice = "Check the optics (--na, --wavelength, --damping)."
    if len(patterns.fringes[angle].phases) >= PHASES_OF_TWO_HARMONICS:
        is_enough = len(patterns.fringes[angle].phases) >= _OF_THREE_HARMONICS
        more = " or 3" if is_enough else ""
        advice = (
            f"For three-beam or nonlinear illumination, use --harmonics 2{more}. "
            f"Otherwise, {advice[0].lower()}{advice[1:]}"
        )
    return (
        f"Angle {angle + 1}{where}: the modulation in the frames is "
        f"{values[angle]:.2f}, but with a single harmonic, it cannot exceed 1. "
        f"{advice}"
    )
