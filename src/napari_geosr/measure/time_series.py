"""Distinguishes frames of a time series from slices of a volume, using a few planes.

The structures of a volume change from slice to slice about as fast as within a slice.
In a time series, fine detail keeps its position: its correlation hardly decreases from
frame to frame, whereas within a frame it vanishes after a few pixels.
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

#: Maximum number of pixels of a plane; decoding a dozen larger ones would take seconds.
_MAX_PLANE_PIXELS = 2048 * 2048
#: Edge length, in pixels, of the central part of a plane that is compared.
_EDGE = 256
#: Minimum edge of a plane, in pixels.
_MIN_EDGE = 12
#: Minimum number of planes for comparing them.
_MIN_PLANES = 4
#: Edge of the moving average, in pixels; detail is the difference from it.
_DETAIL = 15
#: Minimum correlation of detail between planes; below this value, noise and fixed
#: patterns dominate.
_MIN_CORRELATION = 0.3
#: Minimum ratio at which detail counts as staying in place: decrease of its correlation
#: within a plane, divided by the decrease between planes. The ratio is 1 to 5 in real
#: volumes (trabeculae along Z), and above 100 in time series and repeated images.
_MIN_DECAY_RATIO = 20.0
#: Range to which correlations within a plane are clipped.
_CORRELATION_RANGE = (0.05, 0.99)
#: Minimum number of planes at which a stack is certainly a time series if its detail
#: stays in place over an eighth of its planes.
_MANY_PLANES = 100
#: Minimum ratio of the number of planes to the longest edge (pixels) in that case.
_MANY_PLANES_RATIO = 2.0
#: Minimum number of planes at which a stack's depth alone suggests a time series.
_DEEP_PLANES = 200
#: Minimum ratio of the number of planes to the longest edge (pixels) in that case.
_DEEP_RATIO = 4.0
#: Ratio of the number of planes to the longest edge (pixels) at and above which a deep
#: stack of similar planes is certainly a time series.
_TOO_DEEP_RATIO = 16.0
#: Minimum correlation of adjacent planes that count as similar.
_MIN_SIMILARITY = 0.5
#: Maximum difference, in a volume, between the correlation of planes and that of pixels
#: within a plane at the same distance.
_MAX_DIFFERENCE = 0.12
#: Standard deviation of the Gaussian filter that suppresses noise, in pixels.
_SMOOTHING = 1.5
#: Distances at which correlations between and within planes are compared, in voxels.
_DISTANCES = (1, 3)


def time_series_question(
    volume: Volume, *, mixing: bool = False
) -> TimeSeriesQuestion | None:
    """Return a question if the slices of a stack look like frames of a time series.

    Parameters
    ----------
    volume : Volume
        If its file (or, for an array, the user) does not name the axis that is taken
        as Z, about a dozen planes are compared; otherwise there is no question.
    mixing : bool
        Whether neighbouring slices are to be combined. If so, the question is asked
        even in doubtful cases: if planes change faster from one to the next than from
        pixel to pixel, they may be frames, unless the file gives a distance between
        slices.

    Returns
    -------
    TimeSeriesQuestion or None
        None if nothing suggests a time series, or the file names the axis.
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
        reasons.append(f"the file specifies an interval of {interval:g} s between them")
    similarity = _PlaneSimilarity.of(data, axes) if n >= _MIN_PLANES else None
    if similarity is not None and similarity.keeps_detail:
        certain = certain or (n >= _MANY_PLANES and n >= _MANY_PLANES_RATIO * longest)
        reasons.append(
            f"fine detail stays in place: correlation {similarity.far:.2f} over "
            f"{similarity.lag} planes"
        )
    is_even = similarity is not None and similarity.even
    # A drifting series may look like a volume, but hardly any volume is that deep.
    is_too_deep = n >= _TOO_DEEP_RATIO * longest
    is_volume = is_even and not is_too_deep
    if n >= _DEEP_PLANES and n >= _DEEP_RATIO * longest and not is_volume:
        is_similar = similarity is not None and similarity.neighbours >= _MIN_SIMILARITY
        certain = certain or (is_similar and is_too_deep and not is_even)
        reasons.append(f"there are {n} planes of only {height} × {width} pixels")
    changes_fast = similarity is not None and similarity.faster
    if mixing and not reasons and changes_fast and not volume.has_physical_size:
        reasons.append("they change faster along the stack than within a plane")
    if not reasons:
        return None
    return TimeSeriesQuestion(
        n,
        unnamed.stored.replace("Z", "T"),
        tuple(reasons),
        certain,
        in_file=unnamed.in_file,
    )


@dataclass(frozen=True)
class _PlaneSimilarity:
    """Similarity of planes.

    Attributes
    ----------
    neighbours : float
        Correlation of adjacent planes, including coarse structure.
    even : bool
        Whether the correlation over a few planes is close to that over a few pixels.
    faster : bool
        Whether the correlation over a few planes is lower, even after smoothing within
        the planes.
    far, lag : float, int
        `lag` is the largest number of planes over which fine detail keeps its position,
        i.e. its correlation decreases far more slowly than within a plane; `far` is its
        correlation over that distance. `lag` is 0 and `far` is NaN if detail does not
        keep its position.
    """

    neighbours: float
    even: bool
    faster: bool
    far: float = math.nan
    lag: int = 0

    @property
    def keeps_detail(self) -> bool:
        """Whether fine detail keeps its position."""
        return self.lag > 0

    @classmethod
    def of(cls, data: ArrayLike, axes: str) -> _PlaneSimilarity | None:
        """Compare planes; None if they cannot be read or are uniform."""
        shape = data.shape[-2:]
        if min(shape) < _MIN_EDGE or math.prod(shape) > _MAX_PLANE_PIXELS:
            return None
        n = data.shape[axes.index("Z")]
        lags = sorted({1, 3, n // 8, n // 4, n // 2} - {0})
        lags = [lag for lag in lags if lag < n]
        starts = (0, n - 1 - max(lags))
        indices = {start + lag for start in starts for lag in (0, *lags)}
        try:
            planes = {i: _plane(data, axes, i) for i in sorted(indices)}
        except GeoSRError:
            return None  # a damaged plane is reported when the volume is used
        details = {i: _detail(plane) for i, plane in planes.items()}
        fine = _between(details, starts, lags)
        coarse = _between(planes, starts, [k for k in _DISTANCES if k < n])
        if math.isnan(coarse[1]) or math.isnan(fine[1]):
            return None
        raw = _excesses(planes, starts, list(coarse))
        # Suppress noise that is correlated within planes: it looks like fast changes.
        smooth = {i: _smooth(planes[i]) for i in planes}
        filtered = _excesses(smooth, starts, list(coarse))
        even = all(abs(excess) <= _MAX_DIFFERENCE for excess in raw)
        faster = max(min(raw), min(filtered)) < -_MAX_DIFFERENCE
        decay = _within(list(details.values()), 2)
        low, high = _CORRELATION_RANGE
        in_plane = -math.log(min(max(decay, low), high)) / 2
        for lag in reversed(lags):
            far = fine[lag]
            # In a deep stack, any smooth structure stays in place over a few planes.
            if lag < max(3, n // 8) or not far >= _MIN_CORRELATION:
                continue
            between = math.log(max(fine[1] / far, 1.0)) / (lag - 1)
            if between * _MIN_DECAY_RATIO <= in_plane:
                return cls(coarse[1], even, faster, far, lag)
        return cls(coarse[1], even, faster)


def _excesses(
    planes: Mapping[int, FloatArray], starts: Sequence[int], lags: Sequence[int]
) -> list[float]:
    """Compare the correlation between planes with that within planes, by distance."""
    between = _between(planes, starts, lags)
    return [c - _within(list(planes.values()), k) for k, c in between.items()]


def _plane(data: ArrayLike, axes: str, index: int) -> FloatArray:
    """Return the central part of a plane at the first time point and channel.

    Infinite values are replaced by NaN.
    """
    key: list[Any] = [index if letter == "Z" else 0 for letter in axes[:-2]]
    for length in data.shape[-2:]:
        edge = min(int(length), _EDGE)
        first = (int(length) - edge) // 2
        key.append(slice(first, first + edge))
    plane = np.array(data[tuple(key)], dtype=np.float64)
    plane[np.isinf(plane)] = math.nan  # differences of infinite values cause warnings
    return plane.reshape(plane.shape[-2:])


def _smooth(plane: FloatArray) -> FloatArray:
    from scipy.ndimage import gaussian_filter

    smooth: FloatArray = gaussian_filter(plane, _SMOOTHING)
    return smooth


def _detail(plane: FloatArray) -> FloatArray:
    from scipy.ndimage import uniform_filter

    smooth: FloatArray = uniform_filter(plane, _DETAIL)
    return plane - smooth


def _between(
    planes: Mapping[int, FloatArray], starts: Sequence[int], lags: Sequence[int]
) -> dict[int, float]:
    """Return the mean correlation of planes as a function of their distance."""
    return {
        lag: _mean([_correlation(planes[s], planes[s + lag]) for s in starts])
        for lag in lags
    }


def _within(planes: Sequence[FloatArray], step: int) -> float:
    """Return the mean correlation of planes with copies shifted by `step` pixels."""
    down = [_correlation(plane[step:], plane[:-step]) for plane in planes]
    across = [_correlation(plane[:, step:], plane[:, :-step]) for plane in planes]
    return _mean([*down, *across])


def _correlation(one: FloatArray, other: FloatArray) -> float:
    """Return the correlation coefficient; NaN if a plane is constant or not finite."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return math.nan
    with np.errstate(over="ignore", invalid="ignore"):  # values beyond 1e154 yield NaN
        one, other = one - one.mean(), other - other.mean()
        power = float(np.sqrt((one * one).sum() * (other * other).sum()))
        product = float((one * other).sum())
    return product / power if 0 < power < math.inf else math.nan


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
