"""Find the patterns of every plane: of time points, channels and slices."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace

from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import ShouldStop, Step, StepIterator, WarningIssued
from napari_geosr.operations.sim.config import FramesConfig
from napari_geosr.operations.sim.estimate import (
    MAX_DRIFT,
    PatternEstimate,
    drift,
    search_steps,
)
from napari_geosr.operations.sim.frame_checks import usable_plane

#: Maximum number of time points at which patterns are searched for before a run is
#: refused.
_MOST_TRIALS = 8
#: Minimum number of phases with which the bands of two-beam patterns are separated.
_LEAST_PHASES = 3


class PatternSearch:
    """Patterns of all planes, each found when it is first needed.

    The patterns of a time point and channel are those of its middle slice. Patterns of
    later time points are searched for near the previous ones, and those of the other
    slices near those of the middle slice.

    Parameters
    ----------
    frames : SimFrames
    config : FramesConfig
    should_stop : callable
    given : PatternEstimate, optional
        Patterns to use for all planes, such as those found in a single plane and shown
        to the user.
    near : PatternSet, optional
        Patterns of the first time point and channel, corrected by the user.

    Attributes
    ----------
    estimates : dict of (int, int) to PatternEstimate
        Patterns of the middle slice, by time point and channel.
    planes : dict of (int, int) to int
        Slice in which these patterns were found: the usable one nearest to the middle.
    reused : dict of (int, int, int) to str
        Reason why no patterns were found in a plane, by time point, channel and slice.
        In these planes, the patterns of the middle slice are used.
    """

    def __init__(
        self,
        frames: SimFrames,
        config: FramesConfig,
        should_stop: ShouldStop,
        given: PatternEstimate | None = None,
        near: PatternSet | None = None,
    ) -> None:
        self.frames, self.config, self.should_stop = frames, config, should_stop
        self.given, self.near = given, near
        self.estimates: dict[tuple[int, int], PatternEstimate] = {}
        self.planes: dict[tuple[int, int], int] = {}
        self.reused: dict[tuple[int, int, int], str] = {}
        self._slices: dict[tuple[int, int, int], PatternEstimate] = {}
        self._has_drifted = self._has_slice_drift = False
        #: Warnings issued during the search.
        self._said: set[str] = set()

    def adopt(self, estimate: PatternEstimate, plane: int) -> None:
        """Use patterns found before in a slice of the first time point and channel."""
        self.estimates[0, 0], self.planes[0, 0] = estimate, plane

    def first_steps(self, channel: int) -> Generator[Step, None, PatternEstimate]:
        """Find the patterns of a channel at the first time point that has any.

        Raises
        ------
        GeoSRError
            If no patterns are found at any of the first time points.
        """
        first: ConfigError | VolumeError | None = None
        for time in range(min(self.frames.n_times, _MOST_TRIALS)):
            try:
                found = yield from self.time_steps(time, channel)
            except (ConfigError, VolumeError) as error:
                first = first or error
            else:
                return found
        assert first is not None
        raise first

    def time_steps(
        self, time: int, channel: int
    ) -> Generator[Step, None, PatternEstimate]:
        """Find the patterns of a time point, or use those of an earlier one.

        If no earlier patterns are known, those of a later time point are used.

        Raises
        ------
        GeoSRError
            If no slice is usable, or there are no patterns at all.
        """
        key = (time, channel)
        if key in self.estimates:
            return self.estimates[key]
        if self.given is not None:
            self.estimates[key] = self.given
            return self.given
        before = self._nearest(time, channel)
        plane = usable_plane(self.frames, time, channel)
        found = yield from self._search_steps(time, channel, plane, before)
        if before is None:
            found.require()
        elif found.problems:
            yield WarningIssued(message=_reused_remark(found, before))
            found = replace(found, patterns=before.patterns, fits=before.fits)
            found = replace(found, where=before.where)
        elif before.fits:
            yield from self._drift_steps(before, found, time)
        # Only the frames of the first time point are needed later.
        kept = found if time == 0 else _without_frames(found)
        self.estimates[key], self.planes[key] = kept, plane
        return kept

    def plane_steps(
        self, time: int, channel: int, plane: int
    ) -> Generator[Step, None, PatternEstimate]:
        """Find the patterns of a slice, or use those of the middle one (`reused`).

        Raises
        ------
        GeoSRError
            If the frames of the slice are unusable, or there are no patterns at all.
        """
        middle = yield from self.time_steps(time, channel)
        key = (time, channel, plane)
        at = self.planes.get((time, channel))
        # In these cases, the slice has the patterns of the middle one.
        if at is None or plane == at or not middle.fits:
            return middle
        if key in self._slices:
            return self._slices[key]
        found = yield from self._search_steps(time, channel, plane, middle)
        found = replace(found, where=self.frames.where(plane, time, channel))
        if found.problems:
            self.reused[key] = " ".join(found.problems)
            found = middle
        elif (
            message := slice_drift(middle, at, found, plane)
        ) and not self._has_slice_drift:
            self._has_slice_drift = True
            yield WarningIssued(
                message=f"{message} The patterns are therefore determined for every "
                "slice."
            )
        self._slices[key] = _without_frames(found)
        return found

    def reused_warning(self, of: tuple[int, int, int] | None = None) -> str:
        """Return a warning about planes without patterns of their own.

        Parameters
        ----------
        of : (int, int, int), optional
            Time point, channel and slice, to limit the warning to this plane.

        Returns
        -------
        str
            Empty if there are no such planes.
        """
        places = [p for p in self.reused if of is None or p == of]
        if not places:
            return ""
        first, n = places[0], len(places)
        if self.frames.n_times == self.frames.n_channels == 1:
            numbers = ", ".join(str(p + 1) for _, _, p in sorted(places))
            slices = f"slice{'s' * (n > 1)} {numbers}"
        else:
            time, channel, plane = first
            where = self.frames.where(plane, time, channel).strip(" ()")
            slices = where if n == 1 else f"{n} planes, the first of which is {where}"
        at, where = self.planes[first[:2]], self.estimates[first[:2]].where
        source = f"the middle slice ({at + 1})"
        if where != self.frames.where(None, *first[:2]):
            # The patterns are from another time point.
            source = where.strip(" ()")
        return (
            f"{self.reused[first]} The patterns of {source} are used instead in "
            f"{slices}; do not trust the result there without checking it."
        )

    def misfit_steps(
        self, time: int, channel: int, usable: Sequence[int]
    ) -> Generator[Step, None, list[str]]:
        """Compare given patterns with those in the first and last slice.

        Parameters
        ----------
        time, channel : int
        usable : sequence of int
            Slices that can be reconstructed.

        Returns
        -------
        list of str
            Warnings; none if the patterns were found in every slice.
        """
        used = self.estimates[time, channel]
        is_common = self.given is not None or not used.fits
        can_search = used.patterns.fringes and self.frames.phases >= _LEAST_PHASES
        if not (is_common and can_search and self.frames.n_planes > 1 and usable):
            return []
        found = []
        for plane in sorted({usable[0], usable[-1]}):
            try:
                measured = yield from self._measured_steps(time, channel, plane, used)
            except (ConfigError, VolumeError):
                continue  # this check is optional, so keep the result
            moved = (
                0.0 if measured.problems else drift(used.patterns, measured.patterns)
            )
            if moved > MAX_DRIFT:
                found.append(
                    f"Slice {plane + 1}: one phase differs by "
                    f"{math.degrees(moved):.0f}° from that of the given patterns. "
                    "Without given patterns (--patterns), they are found in every "
                    "slice."
                )
        return found

    def _measured_steps(
        self, time: int, channel: int, plane: int, used: PatternEstimate
    ) -> Generator[Step, None, PatternEstimate]:
        """Find the patterns of a plane near given ones.

        Given patterns may have more harmonics than can be separated with the number of
        phases; the highest ones are then ignored.
        """
        separable = (self.frames.phases - 1) // 2
        harmonics = max(1, min(used.patterns.harmonics, separable))
        steps = search_steps(
            replace(self.frames, patterns=None),
            self.config.model_copy(update={"patterns": None, "harmonics": harmonics}),
            time=time,
            channel=channel,
            plane=plane,
            before=used.patterns,
            is_first=False,
            should_stop=self.should_stop,
        )
        found = yield from steps
        return found

    def _nearest(self, time: int, channel: int) -> PatternEstimate | None:
        """Return the patterns of the last earlier time point, or of the next one."""
        known = sorted(t for t, c in self.estimates if c == channel)
        earlier = [t for t in known if t < time] or known[:1]
        return self.estimates[earlier[-1], channel] if earlier else None

    def _search_steps(
        self, time: int, channel: int, plane: int, before: PatternEstimate | None
    ) -> Generator[Step, None, PatternEstimate]:
        """Find patterns near known ones, or else anywhere."""
        earlier = None if before is None or not before.fits else before.patterns
        steps = search_steps(
            self.frames,
            self.config,
            time=time,
            channel=channel,
            plane=plane,
            before=earlier,
            corrected=self.near,
            is_first=before is None,
            should_stop=self.should_stop,
        )
        with StepIterator(steps) as iterator:
            for step in iterator:
                # If the first search of a channel finds no patterns, the next one
                # repeats its warnings.
                if isinstance(step, WarningIssued):
                    if step.message in self._said:
                        continue
                    self._said.add(step.message)
                yield step
        return iterator.result

    def _drift_steps(
        self, before: PatternEstimate, found: PatternEstimate, time: int
    ) -> Generator[Step, None, None]:
        """Warn once if patterns drift from one time point to the next."""
        moved = drift(before.patterns, found.patterns)
        if moved > MAX_DRIFT and not self._has_drifted:
            self._has_drifted = True
            yield WarningIssued(
                message=f"The patterns drift: at time point {time + 1}, one phase "
                f"differs by {math.degrees(moved):.0f}° from that at the previous one. "
                "The patterns are therefore determined for every time point."
            )


def slice_drift(
    middle: PatternEstimate, at: int, found: PatternEstimate, plane: int
) -> str:
    """Return a sentence on the drift between two slices; empty if there is none.

    Parameters
    ----------
    middle : PatternEstimate
        Patterns of slice `at`.
    at : int
    found : PatternEstimate
        Patterns of slice `plane`.
    plane : int
    """
    moved = drift(middle.patterns, found.patterns)
    if moved <= MAX_DRIFT:
        return ""
    return (
        f"The patterns drift over the slices: in slice {plane + 1}, one phase differs "
        f"by {math.degrees(moved):.0f}° from that in slice {at + 1}."
    )


def _reused_remark(found: PatternEstimate, used: PatternEstimate) -> str:
    """Return a warning that the patterns of another time point are used.

    Parameters
    ----------
    found : PatternEstimate
        With problems.
    used : PatternEstimate
    """
    return (
        f"{' '.join(found.problems)} The patterns of {used.where.strip(' ()')} are "
        "used instead; do not trust this time point without checking it."
    )


def _without_frames(found: PatternEstimate) -> PatternEstimate:
    return replace(found, block=found.block[..., :0, :0].copy())
