"""The grey-value histogram of a volume of any size and dtype, usually in one sweep."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.grey_values.hot_voxels import (
    OUTLIER_SHARE,
    missing_values_text,
    plausible_limits,
)
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.measure.blocks import blocks_along_z, check_real, inside_mask

#: Maximum number of bins; pairs of bins are merged when values leave the range.
MAX_BINS = 1 << 17
#: Minimum number of bins, without outliers, for finding a threshold.
_MIN_BINS = 1 << 10
#: float64 represents every integer up to this one exactly.
_MAX_EXACT_INTEGER = 2**53
#: Largest integer with a separate bin, because kernels count with signed 64-bit
#: integers. Larger integers share this bin: they are outliers, or the volume is
#: rejected.
_MAX_BIN_NUMBER = 2**62
#: Maximum number of rounds in which outliers are excluded.
_MAX_ROUNDS = 4
#: Maximum fraction of the voxels, at either end, that may lie far from all others and
#: be neither pore nor solid, such as hot voxels or a metal grain.
_MAX_FAR_SHARE = 0.02
#: Fraction of the voxels of a group, at either end, that may lie outside its range.
_STRAY_SHARE = 0.02
#: Smallest width of bins, relative to the largest value, at which a bin number plus ½
#: is exact in float64.
_MIN_RELATIVE_WIDTH = 2.0**-51
#: Smallest range of floating-point values for which a threshold is computed; in smaller
#: ranges, products of differences underflow.
_MIN_RANGE = 1e-100
#: Largest floating-point value for which a threshold is computed; products of larger
#: values overflow.
_MAX_VALUE = 1e100
#: Largest value, relative to the range of values, up to which averages of the values
#: themselves are exact enough. Above this limit, values are measured relative to the
#: first bin.
_MAX_OFFSET = 2.0**20


@dataclass
class GreyHistogram:
    """Counts of grey values in bins of equal width, which is doubled when necessary.

    Integers that span at most 2¹⁷ values are counted exactly (one bin each).

    Attributes
    ----------
    counts : ndarray of shape (n,), int64
        Number of values in each bin; the first and the last bin are not empty.
    first : int
        Number of the first bin; bin ``i`` holds ``[i, i + 1) * width``.
    width : float
        Width of a bin; a power of two.
    is_integer : bool
        Whether the values are integers.
    minimum, maximum : float
        Smallest and largest finite value.
    n_nonfinite : int
        Number of NaN and infinite values, which are in no bin.
    n_outliers : int
        Number of excluded values: few, and far from all others.
    nearby : GreyHistogram or None
        Histogram without values that are counted but far from most others: a small
        fraction of all values (up to 2 % at either end), or one of the two groups into
        which Otsu's rule divides them. None if there are no such values.
    """

    is_integer: bool
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    first: int = 0
    width: float = 1.0
    minimum: float = math.inf
    maximum: float = -math.inf
    n_nonfinite: int = 0
    n_outliers: int = 0
    nearby: GreyHistogram | None = None

    @property
    def n(self) -> int:
        """Number of voxels counted."""
        return int(self.counts.sum())

    @property
    def is_exact(self) -> bool:
        """Whether every bin holds a single integer grey value."""
        return self.is_integer and self.width == 1.0

    @property
    def centres(self) -> np.ndarray:
        """Grey value of each bin (float64): its centre, or the exact value."""
        shift = 0.0 if self.is_exact else 0.5
        bins = np.arange(self.first, self.first + len(self.counts), dtype=np.float64)
        with np.errstate(over="ignore"):  # near the largest float64
            return (bins + shift) * self.width

    @property
    def edges(self) -> np.ndarray:
        """Edges of the bins (float64), one more than there are bins."""
        bins = np.arange(
            self.first, self.first + len(self.counts) + 1, dtype=np.float64
        )
        with np.errstate(over="ignore"):  # near the largest float64
            return (bins - (0.5 if self.is_exact else 0.0)) * self.width

    @property
    def offset(self) -> float:
        """Lower end of the first bin if values are far larger than their range, else 0.

        Grey values such as 1e12 + 0.3 leave too few digits for averages and variances.
        """
        largest = max(abs(self.minimum), abs(self.maximum))
        if largest <= _MAX_OFFSET * (self.maximum - self.minimum):
            return 0.0
        return self.first * self.width

    def shifted(self, offset: float) -> GreyHistogram:
        """Return the histogram after subtracting `offset`, a multiple of the width."""
        return replace(
            self,
            first=self.first - round(offset / self.width),
            minimum=self.minimum - offset,
            maximum=self.maximum - offset,
            nearby=None,
        )

    def add(self, block: np.ndarray) -> None:
        """Count the values of `block` (any real dtype and shape)."""
        from napari_geosr.measure.kernels import grey

        flat = _countable(block)
        if flat.size == 0:
            return
        low, high, n_nonfinite = grey.finite_range(flat)
        self.n_nonfinite += int(n_nonfinite)
        if n_nonfinite == flat.size:
            return
        self._make_room(float(low), float(high))
        grey.count_values(flat, self.counts, 1.0 / self.width, self.first)
        self.minimum = min(self.minimum, float(low))
        is_capped = block.dtype.kind == "u" and high == _MAX_BIN_NUMBER
        largest = float(block.max()) if is_capped else float(high)
        self.maximum = max(self.maximum, largest)

    def choose_bins(self, blocks: Iterable[np.ndarray]) -> bool:
        """Choose the bins as if all `blocks` were added at once.

        Parameters
        ----------
        blocks : iterable of ndarray
            The first values that will be added.

        Returns
        -------
        bool
            Whether any of these values is finite.
        """
        from napari_geosr.measure.kernels import grey

        lowest, highest = math.inf, -math.inf
        for block in blocks:
            flat = _countable(block)
            if flat.size:
                low, high, n_nonfinite = grey.finite_range(flat)
                if n_nonfinite < flat.size:
                    lowest = min(lowest, float(low))
                    highest = max(highest, float(high))
        if lowest > highest:
            return False
        self._make_room(lowest, highest)
        self.minimum, self.maximum = lowest, highest
        return True

    def plausible_range(
        self, share: float = OUTLIER_SHARE
    ) -> tuple[float, float] | None:
        """Return the range without outliers; None if there are no outliers.

        Outliers are at most the fraction `share` of the voxels at either end. Their
        distance from the remaining voxels exceeds the range of those voxels. Their
        exclusion prevents a single hot pixel from shifting the threshold.

        Parameters
        ----------
        share : float
            Maximum fraction of outliers at either end; by default, 1 in 10 000 voxels.
        """
        total = np.cumsum(self.counts)
        n_ignored = share * total[-1]
        first = int(np.searchsorted(total, n_ignored, "right"))
        last = int(np.searchsorted(total, total[-1] - n_ignored))
        low, high = plausible_limits(self.edges[first], self.edges[last + 1])
        if low <= self.minimum and self.maximum <= high:
            return None
        return float(low), float(high)

    def range_of_larger_group(self) -> tuple[float, float] | None:
        """Return the range of the larger of two groups of values that are far apart.

        The groups are those of Otsu's rule; the range is extended by its own width at
        either end. The groups count as far apart if the distance of nearly all voxels
        of the smaller group from the larger one exceeds the width of the larger one.
        Otherwise, None is returned.
        """
        from skimage.filters import threshold_otsu

        if np.count_nonzero(self.counts) < 2:
            return None
        centres = self.centres
        low = centres <= threshold_otsu(hist=(self.counts, centres))
        n_low = int(self.counts[low].sum())
        larger = low if n_low > self.n - n_low else ~low
        ends = _inner_range(self.counts * larger)
        smaller = _inner_range(self.counts * ~larger)
        start, stop = float(self.edges[ends[0]]), float(self.edges[ends[1] + 1])
        width = stop - start
        if start - centres[smaller[1]] <= width and centres[smaller[0]] - stop <= width:
            return None
        return start - width, stop + width

    def is_fine(self, low: float, high: float) -> bool:
        """Whether enough bins lie between two values to find a threshold there."""
        return self.is_exact or (high - low) / self.width >= _MIN_BINS

    def between(self, low: float, high: float) -> GreyHistogram:
        """Return the histogram of the values in a range; others count as outliers."""
        inside = (self.centres >= low) & (self.centres <= high) & (self.counts > 0)
        bins = np.flatnonzero(inside)
        first, last = int(bins[0]), int(bins[-1])
        half = 0.0 if self.is_exact else self.width / 2
        counts = self.counts[first : last + 1]
        return GreyHistogram(
            self.is_integer,
            counts,
            self.first + first,
            self.width,
            max(self.minimum, float(self.centres[first]) - half),
            min(self.maximum, float(self.centres[last]) + half),
            self.n_nonfinite,
            self.n - int(counts.sum()),
        )

    def _make_room(self, low: float, high: float) -> None:
        new = not len(self.counts)
        low, high = min(low, self.minimum), max(high, self.maximum)
        if new and not self.is_integer:
            # Bins are narrow enough for any threshold, and exact in float64.
            largest = max(abs(low), abs(high)) * _MIN_RELATIVE_WIDTH * 2.0**16
            span = min(max(high - low, largest, 2.0**-900), 2.0**1023)
            self.width = 2.0 ** (math.ceil(math.log2(span)) - 16)
        while math.floor(high / self.width) - math.floor(low / self.width) >= MAX_BINS:
            self._coarsen()
        first = math.floor(low / self.width)
        last = math.floor(high / self.width)
        counts = np.zeros(last - first + 1, np.int64)
        if not new:
            start = self.first - first
            counts[start : start + len(self.counts)] = self.counts
        self.counts, self.first = counts, first

    def _coarsen(self) -> None:
        if len(self.counts):
            bins = np.arange(self.first, self.first + len(self.counts)) // 2
            self.first = int(bins[0])
            self.counts = np.bincount(bins - bins[0], weights=self.counts).astype(
                np.int64
            )
        self.width *= 2

    def rebinned(self, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
        """Return counts and edges in `n_bins` equal bins from minimum to maximum."""
        if self.is_exact and len(self.counts) <= n_bins:
            return self.counts, self.edges
        edges = np.linspace(self.minimum, self.maximum, n_bins + 1)
        values = np.clip(self.centres, self.minimum, self.maximum)
        counts, _ = np.histogram(values, bins=edges, weights=self.counts)
        return counts.astype(np.int64), edges


def _countable(block: np.ndarray) -> np.ndarray:
    """Return values of a block as a flat array, in a dtype that the kernels support."""
    flat = np.ascontiguousarray(block).reshape(-1)
    if flat.dtype == np.bool_:
        return flat.view(np.uint8)
    if flat.dtype == np.float16 or not flat.dtype.isnative:
        return flat.astype(
            np.float32 if flat.dtype.itemsize == 2 else flat.dtype.newbyteorder("=")
        )
    if flat.dtype == np.uint64:
        flat = np.minimum(flat, np.uint64(_MAX_BIN_NUMBER))
    return flat


def histogram_steps(
    source: Any,
    *,
    thickness: int,
    name: str = "volume",
    should_stop: ShouldStop = never_stop,
    may_be_constant: bool = False,
    mask: Any = None,
    piece: int | None = None,
) -> Generator[Step, None, GreyHistogram]:
    """Read `source` and compute its `GreyHistogram`.

    The source is read again only if outliers would squeeze all other values into a few
    bins.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X)
        NumPy, dask, zarr or memory-mapped array; read in blocks of planes.
    thickness : int
        Number of planes per block.
    name : str
        Name of the volume in messages.
    may_be_constant : bool
        True if the threshold is given: the volume may then be all pore or all solid,
        and outliers do not matter.
    mask : ArrayLike of the same shape, optional
        Sample mask; only voxels where it is not zero are counted.
    piece : int, optional
        Number of planes in memory at a time, if fewer than a block; no effect on the
        histogram.

    Raises
    ------
    VolumeError
        If there is no finite value, or only one distinct value, or if some values mark
        missing voxels.
    """
    check_real(source.dtype, name)
    sweep = partial(_sweep, source, mask, (thickness, piece), should_stop)
    histogram = yield from sweep(None)
    _check_values(histogram, name, mask is not None, may_be_constant)
    if not may_be_constant:
        histogram = yield from _without_outliers(histogram, sweep)
        _refuse_inexact(histogram, name)
        _refuse_range(histogram, name)
        nearby = yield from _without_outliers(histogram, sweep, _MAX_FAR_SHARE)
        if nearby is histogram:
            nearby = yield from _larger_group(histogram, sweep)
        if nearby is not histogram:
            usual = nearby.minimum, nearby.maximum
            found = histogram.minimum, histogram.maximum
            if text := missing_values_text(repr(name), found, usual):
                raise VolumeError(text)
            histogram.nearby = nearby
    return histogram


def _inner_range(counts: np.ndarray) -> tuple[int, int]:
    """Return the first and last bin of the range that contains nearly all voxels."""
    total = np.cumsum(counts)
    n_ignored = _STRAY_SHARE * total[-1]
    first = int(np.searchsorted(total, n_ignored, "right"))
    return first, int(np.searchsorted(total, total[-1] - n_ignored))


def _sweep(
    source: Any,
    mask: Any,
    planes: tuple[int, int | None],
    should_stop: ShouldStop,
    limits: tuple[float, float] | None,
) -> Generator[Step, None, GreyHistogram]:
    """Count the values of `source` inside `mask` and between `limits`."""
    histogram = GreyHistogram(is_integer=np.dtype(source.dtype).kind in "biu")
    thickness, piece = planes[0], planes[1] or planes[0]
    slabs = blocks_along_z(tuple(source.shape), piece)

    def values(slab: slice) -> np.ndarray:
        """Return the values of a slab that are to be counted."""
        if should_stop():
            raise Cancelled("Measuring was cancelled while reading the grey values.")
        block = np.asarray(source[slab])
        if mask is not None:
            block = block[inside_mask(np.asarray(mask[slab]))]
        if limits is not None:
            block = block[(block >= limits[0]) & (block <= limits[1])]
        return block

    if piece < thickness and not histogram.is_integer:
        # The bin width follows from the range of the first block that contains values.
        for block in blocks_along_z(tuple(source.shape), thickness):
            ends = [*range(block.start, block.stop, piece), block.stop]
            parts = itertools.pairwise(ends)
            if histogram.choose_bins(values(slice(z, end)) for z, end in parts):
                break
    for i, slab in enumerate(slabs):
        histogram.add(values(slab))
        yield BlockDone(i + 1, len(slabs))
    return histogram


def _check_values(
    histogram: GreyHistogram, name: str, masked: bool, may_be_constant: bool
) -> None:
    if not histogram.n:
        if masked and not histogram.n_nonfinite:
            raise VolumeError(
                f"The sample mask of {name!r} is empty, so there is nothing to "
                "measure. Mark the sample with non-zero values, or use no mask.",
                fields=["mask"],
            )
        where = " inside the sample mask" if masked else ""
        raise VolumeError(
            f"{name!r} contains no finite value{where} (only NaN or infinity), so "
            "there is nothing to measure. Choose another volume."
        )
    if histogram.minimum == histogram.maximum and not may_be_constant:
        where = " inside the sample mask" if masked else ""
        _refuse_inexact(histogram, name)  # rounding may make different integers equal
        raise VolumeError(
            f"{name!r} contains only one grey value{where} ({histogram.minimum:g}), "
            "so pores cannot be distinguished from solid. Choose another volume or "
            "region."
        )


def _refuse_inexact(histogram: GreyHistogram, name: str) -> None:
    """Reject integers beyond 2⁵³, which float64 cannot distinguish."""
    largest = max(abs(histogram.minimum), abs(histogram.maximum))
    if histogram.is_integer and largest >= _MAX_EXACT_INTEGER:
        raise VolumeError(
            f"{name!r} contains integers of up to {largest:.3g}; beyond 2⁵³ "
            f"({_MAX_EXACT_INTEGER:.3g}) they are not exact. First subtract a constant "
            "from the grey values, or divide them by a constant."
        )


def _refuse_range(histogram: GreyHistogram, name: str) -> None:
    """Reject floating-point values that are too large or too small to compute with."""
    largest = max(abs(histogram.minimum), abs(histogram.maximum))
    if largest > _MAX_VALUE:
        raise VolumeError(
            f"{name!r} contains grey values of up to {largest:.3g}, which are too "
            "large to compute with. Divide all of them by a constant first, or replace "
            "those that mark missing voxels with NaN."
        )
    span = histogram.maximum - histogram.minimum
    if span < _MIN_RANGE:
        raise VolumeError(
            f"The grey values of {name!r} differ by only {span:.3g}, which is too "
            "little to compute with. Multiply all of them by a constant first."
        )


def _without_outliers(
    whole: GreyHistogram,
    sweep: Callable[[tuple[float, float] | None], Generator[Step, None, GreyHistogram]],
    share: float = OUTLIER_SHARE,
) -> Generator[Step, None, GreyHistogram]:
    """Return the histogram without outliers, if there are any."""
    histogram = whole
    for _ in range(_MAX_ROUNDS):
        limits = histogram.plausible_range(share)
        if limits is None:
            return histogram
        if histogram.is_fine(*limits):
            inner = histogram.between(*limits)
        else:
            inner = yield from sweep(limits)
        if not inner.n or inner.minimum == inner.maximum:
            break  # the outliers form a phase, as in a segmentation with few pores
        inner.n_nonfinite = whole.n_nonfinite
        inner.n_outliers = whole.n - inner.n
        histogram = inner
    return histogram


def _larger_group(
    whole: GreyHistogram,
    sweep: Callable[[tuple[float, float] | None], Generator[Step, None, GreyHistogram]],
) -> Generator[Step, None, GreyHistogram]:
    """Exclude the smaller of two groups of values that are far from each other."""
    limits = whole.range_of_larger_group()
    if limits is None:
        return whole
    if whole.is_fine(*limits):
        inner = whole.between(*limits)
    else:
        inner = yield from sweep(limits)
    return inner if inner.n and inner.minimum < inner.maximum else whole
