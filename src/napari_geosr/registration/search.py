"""Find a small field of view in a large one by normalised correlation.

References
----------
.. [1] Padfield. Masked object registration in the Fourier domain. IEEE Trans. Image
   Process. 21, 2706-2718 (2012). doi:10.1109/TIP.2011.2181402
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.registration.sampled import Grid, SampledVolume, inside
from napari_geosr.registration.transform import Transform, corners, turn_in_plane

#: Minimum fraction of the smaller volume that must overlap the other one.
_MIN_OVERLAP = 0.5
#: Angular step, given as the displacement of the small volume's border, in voxels.
_ANGLE_STEP = 1.5
_MAX_ANGLES = 91
#: Minimum distance between two candidates at the same angle, in voxels.
_MIN_DISTANCE = 3


@dataclass(frozen=True, eq=False)
class Candidate:
    """A candidate position of the small volume.

    Attributes
    ----------
    transform : Transform
        Maps the small volume to the large one.
    correlation : float
        Normalised correlation, -1 to 1; negative if the contrast is inverted.
    """

    transform: Transform
    correlation: float


def search_steps(
    low: SampledVolume,
    high: SampledVolume,
    *,
    degrees: float = 0.0,
    most: int = 3,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, list[Candidate]]:
    """Search all positions and in-plane angles by masked correlation [1]_.

    Parameters
    ----------
    low, high : SampledVolume
        The large and the small volume, with about the same voxel size.
    degrees : float
        Largest angle to try, in degrees, around the first axis (for images: in the
        plane).
    most : int
        Maximum number of candidates.

    Yields
    ------
    Step
        `BlockDone`, counted in angles.

    Returns
    -------
    list of Candidate
        Best first; empty if one of the volumes has no contrast.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    angles = _angles(high.grid, degrees)
    finder = _Correlator(low, high.grid)
    found: list[Candidate] = []
    for done, angle in enumerate(angles, 1):
        if should_stop():
            raise Cancelled("Stopped while searching.")
        found += finder.candidates(high, angle, most)
        yield BlockDone(done, len(angles))
    found.sort(key=lambda candidate: -abs(candidate.correlation))
    return found[:most]


def _angles(small: Grid, degrees: float) -> npt.NDArray[np.float64]:
    """Return the angles to try, spaced closely enough that one is nearly correct."""
    if degrees <= 0:
        return np.zeros(1)
    radius = max(2.0, math.hypot(*small.shape[-2:]) / 2)
    step = math.degrees(_ANGLE_STEP / radius)
    half = min(_MAX_ANGLES // 2, math.ceil(min(degrees, 180.0) / step))
    if degrees >= 180:  # -180° and 180° are the same
        return np.linspace(-180, 180, 2 * half, endpoint=False)
    return np.linspace(-degrees, degrees, 2 * half + 1)


class _Correlator:
    """Correlates volumes with the large volume, computing its spectrum only once."""

    def __init__(self, low: SampledVolume, small: Grid) -> None:
        from scipy import fft

        self.grid = low.grid
        diagonal = float(np.linalg.norm(small.extent[-2:]))
        reach = np.ceil(diagonal / low.grid.voxel_size)
        if len(reach) == 3:
            reach[0] = np.ceil(small.extent[0] / low.grid.voxel_size[0])
        self.reach = (reach + 1).astype(int)
        self.full = tuple(
            fft.next_fast_len(int(n + r - 1), real=True)
            for n, r in zip(low.grid.shape, self.reach, strict=True)
        )
        # Subtract the mean: squares of large grey values would swamp small differences.
        values = low.data - low.data.mean(dtype=np.float64).astype(np.float32)
        self.spread = float(values.std())
        self.values = self._transformed(values)
        self.squares = self._transformed(values**2)
        self.ones = self._transformed(np.ones(low.grid.shape, np.float32))

    def _transformed(self, data: AnyArray) -> AnyArray:
        from scipy import fft

        found: AnyArray = fft.rfftn(data, self.full)
        return found

    def _sums(self, one: AnyArray, other: AnyArray) -> Any:
        """Return the cross-correlation: sums of products at every shift, as float64."""
        from scipy import fft

        return fft.irfftn(one * np.conj(other), self.full).astype(np.float64)

    def candidates(
        self, high: SampledVolume, degrees: float, most: int
    ) -> list[Candidate]:
        """Return the best positions at one angle."""
        turn = turn_in_plane(degrees, len(self.grid.shape))
        shown, mask, first = self._rotated(high, turn)
        if not mask.any() or shown[mask].std() == 0 or self.spread == 0:
            return []
        shown = np.where(mask, shown - shown[mask].mean(), 0).astype(np.float32)
        score = self._score(shown, mask)
        found = []
        for _ in range(most):
            place = np.unravel_index(int(np.abs(score).argmax()), score.shape)
            best = float(score[place])
            if best == 0:
                break
            shift = np.array(
                [p if p < n else p - f for p, n, f in self._wrapped(place)], float
            )
            # `first` is the position of the first correlated voxel relative to the
            # centre of the small volume; `shift` is its position in the large volume.
            middle = self.grid.origin + shift * self.grid.voxel_size - first
            way = Transform.around(turn, high.grid.centre, middle)
            found.append(Candidate(way, best))
            self._exclude(score, place)
        return found

    def _rotated(
        self, high: SampledVolume, turn: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], Any]:
        """Rotate the small volume and resample it to the large volume's voxel size."""
        half = high.grid.extent / 2
        ends = corners((-half).tolist(), half.tolist()) @ turn.T
        size = self.grid.voxel_size
        shape = np.maximum(1, np.round(np.ptp(ends, axis=0) / size)).astype(int)
        shape = np.minimum(shape, self.reach)
        first = -(shape - 1) / 2 * size
        grid = Grid(tuple(int(n) for n in shape), size, first)
        back = Transform.around(turn, high.grid.centre, np.zeros(len(size))).inverse()
        return high.on(grid, back), inside(grid, high.grid, back), first

    def _score(
        self, shown: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.float32]:
        """Return the normalised correlation at all shifts; 0 without enough overlap."""
        m = self._transformed(mask.astype(np.float32))
        v = self._transformed(shown)
        count = self._sums(self.ones, m)
        whole = min(int(np.count_nonzero(mask)), math.prod(self.grid.shape))
        enough = count > _MIN_OVERLAP * whole
        count = np.maximum(np.round(count), 1)
        low_sum = self._sums(self.values, m)
        high_sum = self._sums(self.ones, v)
        score = self._sums(self.values, v) - low_sum * high_sum / count
        of_low = self._sums(self.squares, m) - low_sum**2 / count
        of_high = self._sums(self.ones, self._transformed(shown**2))
        of_high -= high_sum**2 / count
        # Where the large volume is uniform, its variance consists of rounding errors.
        floor = 1e-4 * count * self.spread**2
        enough &= (of_low > floor) & (of_high > 0)
        power = np.sqrt(np.maximum(of_low, floor) * np.maximum(of_high, 1e-30))
        return np.where(enough, score / power, 0).astype(np.float32)

    def _wrapped(self, place: Any) -> Any:
        return zip((int(p) for p in place), self.grid.shape, self.full, strict=True)

    def _exclude(self, score: npt.NDArray[np.float32], place: Any) -> None:
        """Exclude the neighbourhood of a candidate, with wrap-around."""
        near = [
            (np.arange(p - _MIN_DISTANCE, p + _MIN_DISTANCE + 1) % n)
            for p, n in zip((int(p) for p in place), score.shape, strict=True)
        ]
        score[np.ix_(*near)] = 0
