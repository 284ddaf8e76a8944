"""Patterns that the user has moved or typed."""

from __future__ import annotations

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.sim_frames.fringes import FringePattern, PatternSet
from napari_geosr.gui.sim.pattern_table import length_text
from napari_geosr.operations.sim import PatternEstimate

#: Range of frequencies that a corrected pattern may have, relative to the cut-off. The
#: search suppresses lower ones; the objective does not transmit higher ones.
_RANGE = (0.1, 1.2)
#: Highest frequency along an axis that the camera resolves, in cycles per pixel.
_NYQUIST = 0.5


def check_corrected(estimate: PatternEstimate, corrected: PatternSet) -> None:
    """Refuse corrected patterns that cannot be found in the frames.

    Parameters
    ----------
    estimate : PatternEstimate
        The patterns before the correction.
    corrected : PatternSet

    Raises
    ------
    ConfigError
        If the period of a changed pattern is too short or too long.
    """
    before = estimate.patterns.fringes
    for i, (old, new) in enumerate(zip(before, corrected.fringes, strict=True), 1):
        if new.wave_vector != old.wave_vector:
            problem = _problem(new, corrected, estimate.otf.cut_off)
            if problem:
                raise ConfigError(f"Angle {i}: {problem}")


def _problem(fringe: FringePattern, patterns: PatternSet, cut_off: float) -> str:
    """Return why a pattern cannot be found; empty if it can."""
    low, high = (factor * cut_off for factor in _RANGE)
    size, unit = patterns.pixel_size, patterns.unit
    if fringe.frequency < low:
        return (
            f"a pattern with a period above {length_text(size / low, unit)} cannot be "
            "distinguished from the sample. Move the circle away from the centre of "
            "the spectrum, or enter a shorter period."
        )
    period = length_text(size / fringe.frequency, unit)
    remedy = "Move the circle towards the centre of the spectrum, or enter a longer one"
    if max(abs(k) for k in fringe.wave_vector) >= _NYQUIST:
        return (
            f"a period of {period} is below two pixels, which the camera cannot "
            f"resolve. {remedy}."
        )
    if fringe.frequency > high:
        return (
            f"the objective does not transmit a period of {period}; its limit is "
            f"{length_text(size / cut_off, unit)}. {remedy}."
        )
    return ""
