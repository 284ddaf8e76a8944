"""Where to search for the patterns of a time point and channel."""

from __future__ import annotations

from dataclasses import replace

from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet


def search_starts(
    frames: SimFrames,
    channel: int,
    *,
    before: PatternSet | None = None,
    corrected: PatternSet | None = None,
) -> tuple[PatternSet | None, ...]:
    """Return approximate patterns to be tried in turn as starting points of the search.

    Patterns corrected by the user belong to the first channel; in its other slices and
    time points, only their neighbourhood is searched. The periods of the other channels
    differ, so their patterns are first searched for in the whole ring, and near the
    corrected ones only if they are not found there.

    Parameters
    ----------
    frames : SimFrames
    channel : int
    before : PatternSet, optional
        Patterns found at an earlier time point of this channel.
    corrected : PatternSet, optional
        Patterns of the first time point and channel, corrected by the user.

    Returns
    -------
    tuple of (PatternSet or None)
        None stands for a search in the whole ring around the cut-off.
    """
    if before is not None and corrected is not None and channel == 0:
        return (before,)  # searching the whole ring could undo the correction
    if before is not None:
        return before, None
    if corrected is None:
        return (None,)
    if channel == 0:
        return (corrected,)
    return None, corrected, _scaled(corrected, frames, channel)


def _scaled(patterns: PatternSet, frames: SimFrames, channel: int) -> PatternSet:
    """Scale periods in proportion to the wavelengths of two channels, if known."""
    first, other = (frames.optics.wavelength(c) for c in (0, channel))
    ratio = first / other if first and other else 1.0
    fringes = tuple(
        replace(f, wave_vector=(ratio * f.wave_vector[0], ratio * f.wave_vector[1]))
        for f in patterns.fringes
    )
    return replace(patterns, fringes=fringes)
