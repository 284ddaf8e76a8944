"""Find the transform between two volumes, reporting progress in steps."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.physics.sampling import area_downsample
from napari_geosr.registration import itk
from napari_geosr.registration.itk import Refinement, TransformKind
from napari_geosr.registration.sampled import Box, Grid, SampledVolume, copy_steps
from napari_geosr.registration.search import Candidate, search_steps
from napari_geosr.registration.transform import Transform, corners, identity

StartKind = Literal["search", "centres", "positions"]

#: Maximum number of voxels in the arrays that a search correlates, including margins.
_SEARCH_VOXELS = 1 << 22
#: Minimum number of averaged voxels along each axis of the small volume for a reliable
#: search.
_MIN_SEARCHED = 8
#: Maximum number of voxels to which the small volume is resampled for refinement.
_MAX_HIGH_VOXELS = 1 << 24
#: Maximum number of voxels to which the large volume is resampled for refinement.
_MAX_LOW_VOXELS = 1 << 25
#: Minimum margin for errors of the initial position, in voxels of the large volume.
_MARGIN_VOXELS = 8
#: Minimum margin for errors of the initial position, as a fraction of the small
#: volume's extent.
_MARGIN_SHARE = 0.1
#: Minimum correlation of candidates that are refined, as a fraction of the best one.
_MIN_CANDIDATE_SHARE = 0.85


@dataclass(frozen=True, eq=False)
class Alignment:
    """Position of a high-resolution volume in a larger low-resolution one.

    Attributes
    ----------
    start, transform : Transform
        Maps the high-resolution volume to the low-resolution one, before and after the
        refinement.
    how : str
        How the initial position was found: ``"search"``, ``"centres"``,
        ``"positions"`` or ``"offset"``.
    correlation : float or None
        Normalised correlation at the position found by a search.
    low, high : SampledVolume
        The averaged voxels that were compared; `low` is a part of the whole volume.
    """

    start: Transform
    transform: Transform
    how: str
    correlation: float | None
    low: SampledVolume
    high: SampledVolume


def align_steps(
    low: Volume,
    high: Volume,
    *,
    start: StartKind = "search",
    offset: Sequence[float] | None = None,
    search_angle: float = 10.0,
    kind: TransformKind = "rigid",
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Alignment]:
    """Find the position of `high` in `low`.

    Parameters
    ----------
    low, high : Volume
        Volumes with the same spatial axes and unit.
    start : str
        Initial position. ``"search"``: best match anywhere; ``"centres"``: centres
        coincide; ``"positions"``: according to their origins.
    offset : sequence of float, optional
        Vector from the corner of `low` (at the start of all axes) to the same corner of
        `high`; replaces `start`.
    search_angle : float
        Largest angle that a search tries, in degrees, around Z (for images: in the
        plane).
    kind : str
        Type of transform that the refinement optimises.

    Yields
    ------
    Step
        `StageStarted` and `BlockDone`.

    Returns
    -------
    Alignment

    Raises
    ------
    ConfigError
        If SimpleITK is not installed.
    VolumeError
        If the two volumes do not overlap, one of them has no contrast, or `high` is too
        small for a search.
    Cancelled
        If `should_stop` returns True.
    """
    itk.require()
    here, there = Grid.of(low), Grid.of(high)
    yield StageStarted(message="Reading the high-resolution scan")
    factors = _refined_factors(here, there)
    small = yield from copy_steps(high, factors, should_stop=should_stop)
    correlation = None
    if offset is not None:
        how = "offset"
        first = here.origin - here.voxel_size / 2 + np.asarray(offset, np.float64)
        starts = [Transform.around(np.eye(first.size), _corner(there), first)]
    elif start == "search":
        how = start
        found = yield from _search(low, small, search_angle, should_stop)
        correlation = found[0].correlation
        starts = [candidate.transform for candidate in found]
    else:
        how, n = start, len(here.shape)
        lifted = Transform.around(np.eye(n), there.centre, here.centre)
        starts = [lifted if start == "centres" else identity(n)]
    yield StageStarted(message="Aligning by mutual information")
    best: tuple[Transform, SampledVolume, Refinement] | None = None
    for begin in starts if len(starts) > 1 else []:
        part = yield from _part(low, there, begin, should_stop)
        tried = yield from itk.refine_steps(
            part, small, begin, kind, quick=True, should_stop=should_stop
        )
        if best is None or tried.metric > best[2].metric:
            best = begin, part, tried
    if best is None:
        part = yield from _part(low, there, starts[0], should_stop)
        best = starts[0], part, Refinement(starts[0], -math.inf)
    begin, part, tried = best
    refined = yield from itk.refine_steps(
        part, small, tried.transform, kind, should_stop=should_stop
    )
    return Alignment(begin, refined.transform, how, correlation, part, small)


def _corner(grid: Grid) -> npt.NDArray[np.float64]:
    corner: npt.NDArray[np.float64] = grid.origin - grid.voxel_size / 2
    return corner


def _refined_factors(low: Grid, high: Grid) -> tuple[int, ...]:
    """Return, for each axis, the number of voxels of `high` to average."""
    ratio = np.maximum(1, np.round(low.voxel_size / high.voxel_size)).astype(int)
    ratio = np.minimum(ratio, high.shape)
    voxels = math.prod(n / r for n, r in zip(high.shape, ratio, strict=True))
    more = max(1, math.ceil((voxels / _MAX_HIGH_VOXELS) ** (1 / len(ratio)) - 1e-9))
    return tuple(int(r * more) for r in ratio)


def _part(
    low: Volume, high: Grid, start: Transform, should_stop: ShouldStop
) -> Generator[Step, None, SampledVolume]:
    """Read `low` around `high`, with a margin; average voxels if that part is large."""
    box = _around(Grid.of(low), high, start)
    voxels = math.prod(s.stop - s.start for s in box)
    more = max(1, math.ceil((voxels / _MAX_LOW_VOXELS) ** (1 / len(box)) - 1e-9))
    part = yield from copy_steps(low, (more,) * len(box), box, should_stop=should_stop)
    return part


def _around(low: Grid, high: Grid, start: Transform) -> Box:
    half = high.extent / 2
    ends = start.apply(
        corners((high.centre - half).tolist(), (high.centre + half).tolist())
    )
    places = (ends - low.origin) / low.voxel_size
    first, last = places.min(axis=0), places.max(axis=0)
    margin = np.maximum(_MARGIN_VOXELS, _MARGIN_SHARE * (last - first))
    shape = np.array(low.shape)
    begin = np.clip(np.floor(first - margin), 0, shape).astype(int)
    stop = np.clip(np.ceil(last + margin) + 1, 0, shape).astype(int)
    misses = (last < -0.5) | (first > shape - 0.5)
    if misses.any() or (stop - begin < 2).any():
        raise VolumeError(
            "The two scans do not overlap at the initial position. Check voxel sizes "
            "and units, search the whole scan (--start search), or give the position "
            "of the high-resolution scan (--offset)."
        )
    return tuple(slice(int(a), int(b)) for a, b in zip(begin, stop, strict=True))


def _search(
    low: Volume, small: SampledVolume, degrees: float, should_stop: ShouldStop
) -> Generator[Step, None, list[Candidate]]:
    factors = _search_factors(Grid.of(low), small.grid)
    yield StageStarted(message="Reading the low-resolution scan")
    large = yield from copy_steps(low, factors, should_stop=should_stop)
    ratio = np.floor(large.grid.voxel_size / small.grid.voxel_size + 0.01)
    again = tuple(int(max(1, r)) for r in np.minimum(ratio, small.grid.shape))
    coarse = SampledVolume(_means(small.data, again), small.grid.coarsened(again))
    yield StageStarted(
        message="Searching for the high-resolution scan in the low-resolution one"
    )
    found = yield from search_steps(
        large, coarse, degrees=degrees, should_stop=should_stop
    )
    if not found:
        raise VolumeError(
            "The high-resolution scan was not found in the low-resolution one, "
            "because one of them has no contrast. Check the files, or give its "
            "position (--offset)."
        )
    best = abs(found[0].correlation)
    return [c for c in found if abs(c.correlation) >= _MIN_CANDIDATE_SHARE * best]


def _means(
    data: npt.NDArray[np.float32], factors: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    pairs = zip(data.shape, factors, strict=True)
    return area_downsample(data[tuple(slice(0, n // f * f) for n, f in pairs)], factors)


def _search_factors(low: Grid, high: Grid) -> tuple[int, ...]:
    """Return, for each axis, the number of voxels of `low` to average in a search.

    The averaged voxels are roughly cubic and few enough to fit into memory, but `high`
    must span enough of them to be recognisable.
    """
    search_voxel = float(low.voxel_size.min())
    while True:
        factors = np.maximum(1, np.round(search_voxel / low.voxel_size)).astype(int)
        voxel = low.voxel_size * factors
        reach = np.array(high.extent)
        reach[-2:] = np.linalg.norm(high.extent[-2:])
        if float(np.prod((low.extent + reach) / voxel)) <= _SEARCH_VOXELS:
            break
        search_voxel *= 1.15
    few = high.extent / voxel < _MIN_SEARCHED
    if (few & (factors > 1)).any():
        raise VolumeError(
            "The high-resolution scan is too small compared with the low-resolution "
            "one for a search of the whole scan. Give its position (--offset), or "
            "crop the low-resolution scan around it."
        )
    return tuple(int(f) for f in np.minimum(factors, low.shape))
