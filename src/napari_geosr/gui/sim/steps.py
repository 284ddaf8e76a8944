"""Computations of the *SIM* dock in its worker, without Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.warm_up import load_torch, prepare_shapes
from napari_geosr.operations.sim import (
    PatternEstimate,
    SimCheck,
    SimConfig,
    SimResult,
    check_steps,
    compare_answers,
    estimate_steps,
    frames_of,
    run_steps,
)
from napari_geosr.operations.sim.check import spectrum_picture
from napari_geosr.operations.sim.geometry import place_of
from napari_geosr.operations.sim.pattern_search import PatternSearch
from napari_geosr.operations.sim.run import preview

FloatArray = npt.NDArray[np.float32]

#: Settings that belong to a single scan.
_OF_ONE_SCAN = (
    "pixel",
    "angles",
    "phases",
    "order",
    "offset",
    "patterns",
    "harmonics",
)


def for_other_frames(config: SimConfig) -> SimConfig:
    """Return the settings without those that belong to a single scan.

    Earlier versions remembered some of these.
    """
    return config.model_copy(update=dict.fromkeys(_OF_ONE_SCAN))


@dataclass(frozen=True, eq=False)
class FoundPatterns:
    """Frames, their patterns, and the spectrum in which patterns appear as peaks.

    Attributes
    ----------
    frames : SimFrames
    check : SimCheck
    spectrum : ndarray of shape (Y, X), float32
        Zero frequency at ``(Y // 2, X // 2)``.
    estimate : PatternEstimate
        Patterns of the first time point and channel; those of `check` until the user
        has moved a peak.
    corrected : PatternSet or None
        The patterns of `estimate` if the user has moved a peak; otherwise None.
    search : PatternSearch
        Patterns of the other planes, found when they are first needed.
    """

    frames: SimFrames
    check: SimCheck
    spectrum: FloatArray
    estimate: PatternEstimate
    search: PatternSearch
    corrected: PatternSet | None = None

    @property
    def is_single(self) -> bool:
        """Whether the frames are those of a single plane."""
        frames = self.frames
        return frames.n_times == frames.n_channels == frames.n_planes == 1

    def moved_to(self, origin: tuple[float, ...]) -> FoundPatterns:
        """Return the same patterns, with frames at another position in the sample.

        Parameters
        ----------
        origin : tuple of float
            New position, in the unit of the frames.
        """
        volume = self.frames.volume.replace(origin=origin)
        return replace(self, frames=replace(self.frames, volume=volume))


def find_steps(
    volume: Volume, config: SimConfig, should_stop: ShouldStop
) -> Generator[Step, None, FoundPatterns]:
    """Check the frames and find their patterns.

    Raises
    ------
    GeoSRError
        If the volume cannot contain such frames, or the optics are unknown.
    """
    yield StageStarted(message="Reading the frames")
    load_torch()
    prepare_shapes()
    frames = frames_of(volume, config)
    check = yield from check_steps(frames, config, should_stop=should_stop)
    return FoundPatterns(
        frames,
        check,
        spectrum_picture(check),
        check.estimate,
        _search_from(check.estimate, check, config),
    )


def _search_from(
    estimate: PatternEstimate,
    check: SimCheck,
    config: SimConfig,
    corrected: PatternSet | None = None,
) -> PatternSearch:
    """Return a search for the patterns of all planes, starting from `estimate`."""
    search = PatternSearch(check.frames, config, never_stop, near=corrected)
    search.adopt(estimate, check.plane)
    return search


def refine_steps(
    found: FoundPatterns,
    near: PatternSet,
    config: SimConfig,
    should_stop: ShouldStop,
) -> Generator[Step, None, FoundPatterns]:
    """Find the patterns again, close to wave vectors that the user has moved."""
    estimate = yield from estimate_steps(
        found.frames,
        config,
        plane=found.check.plane,
        near=near,
        should_stop=should_stop,
    )
    corrected = estimate.patterns
    search = _search_from(estimate, found.check, config, corrected)
    return replace(found, estimate=estimate, search=search, corrected=corrected)


def preview_steps(
    found: FoundPatterns,
    config: SimConfig,
    place: tuple[slice, slice],
    at: tuple[int, int, int],
    should_stop: ShouldStop,
) -> Generator[Step, None, Volume]:
    """Reconstruct a part of one plane with Wiener-SIM, which takes about a second.

    If the patterns of another plane are shown, those of this plane are found first.

    Parameters
    ----------
    place : (slice, slice)
        Rows and columns of the camera.
    at : (int, int, int)
        Slice, time point and channel.

    Returns
    -------
    Volume
        Axes ``"YX"``, at its position in the sample.
    """
    plane, time, channel = at
    search = found.search
    search.should_stop = should_stop
    estimate = yield from search.plane_steps(time, channel, plane)
    if message := search.reused_warning((time, channel, plane)):
        yield WarningIssued(message=message)
    yield StageStarted(message="Reconstructing the preview")
    fast = config.model_copy(update={"method": "wiener"})
    return preview(
        found.frames,
        fast,
        estimate,
        place,
        plane=plane,
        time=time,
        channel=channel,
    )


def reconstruct_steps(
    volume: Volume,
    config: SimConfig,
    found: FoundPatterns | None,
    answers: dict[str, FloatArray],
    should_stop: ShouldStop,
) -> Generator[Step, None, SimResult]:
    """Reconstruct all planes, and compare the result with results of other methods.

    Parameters
    ----------
    found : FoundPatterns, optional
        Patterns on screen. If there is a single plane, these patterns are used;
        otherwise, patterns are found for each plane, starting from those that the user
        has corrected.
    answers : dict of str to ndarray of shape (Y, X)
        Results of each method for the plane in which the patterns were found; the
        result of this run is added.
    """
    load_torch()
    frames = frames_of(volume, config) if found is None else found.frames
    patterns = near = None
    if found is not None:
        found.estimate.require()
        patterns = found.estimate if found.is_single else None
        near = None if found.is_single else found.corrected
    result = yield from run_steps(
        frames, config, patterns=patterns, near=near, should_stop=should_stop
    )
    if found is not None and frames.n_times == frames.n_channels == 1:
        place = place_of(frames, config.upscale_factor, 0, 0, found.check.plane)
        image = np.asarray(result.volume.data[place], np.float32)
        if np.isfinite(image).all():  # not a plane that was left empty
            answers[config.method] = image.reshape(image.shape[-2:])
        for message in compare_answers(answers, found.estimate):
            yield WarningIssued(message=message)
    return result
