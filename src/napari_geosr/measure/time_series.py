"""Tell the frames of a time series from the slices of a volume, by a few planes.

The structures of a volume change from slice to slice about as fast as within a slice.
In a time series, fine detail stays in its place: its correlation hardly falls from
frame to frame, whereas within a frame it is gone after a few pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import GeoSRError
from napari_geosr.core.questions import (
    UNNAMED_AXIS,
    TimeSeriesQuestion,
    UnnamedAxis,
)
from napari_geosr.core.volume import ArrayLike, Volume

FloatArray = npt.NDArray[np.float64]

#: Planes of more pixels are not looked at: decoding a dozen would take seconds.
_LARGEST_PLANE = 2048 * 2048
#: Part in the middle of a plane that is compared.
_EDGE = 256
_SMALLEST_EDGE, _FEWEST_PLANES = 12, 4
#: Detail is what is left after the mean over a square of so many pixels is subtracted.
_DETAIL = 15
#: Least correlation of detail between planes: below, noise and fixed patterns decide.
_SAME_DETAIL = 0.3
#: Detail changes so many times slower between planes than within one. True stacks at
#: hand: 1 to 5 (trabeculae along Z). Time series and repeated images: above 100.
_SLOWER = 20.0
#: Correlations within a plane outside of these are taken as these.
_LEAST, _MOST = 0.05, 0.99
#: With detail that stays over an eighth of them: as many planes, and as many times the
#: longest edge, are frames.
_MANY, _LONG = 100, 2.0
#: Without: scans are hardly ever as deep. Above the first, ask; above the second, the
#: planes are frames if neighbours are alike.
_VERY_MANY, _DEEP, _TOO_DEEP, _ALIKE = 200, 4.0, 16.0, 0.5
#: Structures that change between planes as within one, to so much, are a volume's.
_EVEN, _NEAR = 0.12, (1, 3)


def time_series_question(volume: Volume) -> TimeSeriesQuestion | None:
    """Ask whether the slices of a stack are frames, if they look like it.

    Parameters
    ----------
    volume : Volume
        Where its metadata say that its file does not name the axis taken as Z, about a
        dozen planes are read; else nothing is asked.

    Returns
    -------
    TimeSeriesQuestion or None
        None for a stack that looks like a volume, and where nothing can be told.
    """
    unnamed = volume.metadata.get(UNNAMED_AXIS)
    axes, data = volume.axes, volume.data
    if not isinstance(unnamed, UnnamedAxis) or "Z" not in axes or "T" in axes:
        return None
    interval = unnamed.interval
    n = int(data.shape[axes.index("Z")])
    height, width = (int(edge) for edge in data.shape[-2:])
    longest = max(height, width)
    reasons = []
    certain = False
    if interval is not None and n > 1:
        certain = True
        reasons.append(f"the file gives {interval:g} s between them")
    likeness = _PlaneSimilarity.of(data, axes) if n >= _FEWEST_PLANES else None
    if likeness is not None and likeness.stays:
        certain = certain or (n >= _MANY and n >= _LONG * longest)
        reasons.append(
            f"fine detail stays in place (correlation {likeness.far:.2f} over "
            f"{likeness.lag} planes)"
        )
    is_even = likeness is not None and likeness.even
    if n >= _VERY_MANY and n >= _DEEP * longest and not is_even:
        alike = likeness is not None and likeness.neighbours >= _ALIKE
        certain = certain or (alike and n >= _TOO_DEEP * longest)
        reasons.append(f"there are {n} planes of only {height} × {width} pixels")
    if not reasons:
        return None
    return TimeSeriesQuestion(
        n, unnamed.stored.replace("Z", "T"), tuple(reasons), certain
    )


@dataclass(frozen=True)
class _PlaneSimilarity:
    """How alike planes are.

    Attributes
    ----------
    neighbours : float
        Correlation of neighbouring planes, coarse structure included.
    even : bool
        Whether planes change over a few planes as they do over a few pixels.
    far, lag : float, int
        Correlation of fine detail over the largest number of planes where it stays in
        its place: where it changes far slower than within a plane. NaN and 0: nowhere.
    """

    neighbours: float
    even: bool
    far: float = math.nan
    lag: int = 0

    @property
    def stays(self) -> bool:
        """Whether fine detail stays in its place."""
        return self.lag > 0

    @classmethod
    def of(cls, data: ArrayLike, axes: str) -> _PlaneSimilarity | None:
        """Compare planes; None where they cannot be read or hold nothing."""
        shape = data.shape[-2:]
        if min(shape) < _SMALLEST_EDGE or math.prod(shape) > _LARGEST_PLANE:
            return None
        n = data.shape[axes.index("Z")]
        lags = sorted({1, 3, n // 8, n // 4, n // 2} - {0})
        lags = [lag for lag in lags if lag < n]
        starts = (0, n - 1 - max(lags))
        wanted = {start + lag for start in starts for lag in (0, *lags)}
        try:
            planes = {i: _plane(data, axes, i) for i in sorted(wanted)}
        except GeoSRError:
            return None  # a damaged plane is reported when the volume is used
        details = {i: _detail(plane) for i, plane in planes.items()}
        found = _between(details, starts, lags)
        coarse = _between(planes, starts, [k for k in _NEAR if k < n])
        if math.isnan(coarse[1]) or math.isnan(found[1]):
            return None
        some = list(planes.values())
        even = all(abs(c - _within(some, k)) <= _EVEN for k, c in coarse.items())
        decay = _within(list(details.values()), 2)
        in_plane = -math.log(min(max(decay, _LEAST), _MOST)) / 2
        for lag in reversed(lags):
            far = found[lag]
            # Over a few of many planes, any smooth structure stays.
            if lag < max(3, n // 8) or not far >= _SAME_DETAIL:
                continue
            between = math.log(max(found[1] / far, 1.0)) / (lag - 1)
            if between * _SLOWER <= in_plane:
                return cls(coarse[1], even, far, lag)
        return cls(coarse[1], even)


def _plane(data: ArrayLike, axes: str, index: int) -> FloatArray:
    """The middle of a plane, of the first time and channel."""
    key: list[Any] = [index if letter == "Z" else 0 for letter in axes[:-2]]
    for length in data.shape[-2:]:
        edge = min(int(length), _EDGE)
        first = (int(length) - edge) // 2
        key.append(slice(first, first + edge))
    plane = np.asarray(data[tuple(key)], dtype=np.float64)
    return plane.reshape(plane.shape[-2:])


def _detail(plane: FloatArray) -> FloatArray:
    from scipy.ndimage import uniform_filter

    smooth: FloatArray = uniform_filter(plane, _DETAIL)
    return plane - smooth


def _between(
    planes: Mapping[int, FloatArray], starts: Sequence[int], lags: Sequence[int]
) -> dict[int, float]:
    """Mean correlation of planes that lie so far apart, by their distance."""
    return {
        lag: _mean([_correlation(planes[s], planes[s + lag]) for s in starts])
        for lag in lags
    }


def _within(planes: Sequence[FloatArray], step: int) -> float:
    """Mean correlation of planes with themselves `step` pixels further."""
    down = [_correlation(plane[step:], plane[:-step]) for plane in planes]
    across = [_correlation(plane[:, step:], plane[:, :-step]) for plane in planes]
    return _mean([*down, *across])


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Correlation coefficient; NaN where a plane is constant or not finite."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return math.nan
    one, other = one - one.mean(), other - other.mean()
    power = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / power if power > 0 else math.nan


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
