"""Global intensity statistics of a volume, streamed in blocks; needs only numpy."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_geosr.core.errors import Cancelled, UniformVolumeError, VolumeError
from napari_geosr.core.grey_values.grey_range import (
    float32_contrast_fault,
    float32_range_fault,
)
from napari_geosr.core.grey_values.hot_voxels import (
    CROWD_SHARE,
    HOT_SHARE,
    FarVoxels,
    GreySample,
    HotVoxelFilter,
    HotVoxels,
    bounds,
    missing_values_text,
)
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import ArrayLike, Volume

#: Maximum number of voxels of a volume that is read completely; larger volumes are
#: sampled in evenly spaced planes.
SAMPLE_ABOVE = 64 * 2**20
_BLOCK_VOXELS = 2**20
#: Number of planes from which rows are read if a single plane exceeds the sample size.
_N_ROW_PLANES = 16
#: Maximum number of blocks that are checked for too many hot voxels.
_N_CROWD_BLOCKS = 16
#: float64 represents every integer up to this one exactly.
_MAX_EXACT_INTEGER = 2**53


@dataclass(frozen=True)
class IntensityStatistics:
    """Statistics of the finite voxels of a whole volume, without hot voxels.

    Attributes
    ----------
    mean, std, minimum, maximum : float
        Statistics of the finite voxels that are not hot, accumulated in float64.
    n_voxels : int
        Voxels read, finite or not.
    n_nan, n_inf : int
        Number of NaN and of infinite voxels among the voxels read.
    sampled : bool
        Whether planes were skipped because the volume is large.
    input : tuple of float or None
        Mean and std used to standardise the network's input; None for those of the
        volume.
    output : tuple of float or None
        Mean and std to which the network's output is scaled; None for those of the
        volume.
    hot : HotVoxels or None
        Criterion for hot and dead voxels, and their number; None if there are no such
        voxels and all planes of the volume were read.
    crowd_share : float
        Fraction of the voxels that look like hot or dead voxels, if these are too many
        to be treated as such; otherwise 0.
    far : FarVoxels or None
        Voxels that are not hot, but so extreme that the standardised values of all
        others hardly differ; None if there are none.
    padding : float or None
        Grey value of constant padding around the sample, which is kept; None if there
        is none.
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    n_voxels: int
    n_nan: int = 0
    n_inf: int = 0
    sampled: bool = False
    input: tuple[float, float] | None = None
    output: tuple[float, float] | None = None
    hot: HotVoxels | None = None
    crowd_share: float = 0.0
    far: FarVoxels | None = None
    padding: float | None = None

    @property
    def input_mean(self) -> float:
        return self.mean if self.input is None else self.input[0]

    @property
    def input_std(self) -> float:
        return self.std if self.input is None else self.input[1]

    @property
    def output_mean(self) -> float:
        return self.mean if self.output is None else self.output[0]

    @property
    def output_std(self) -> float:
        return self.std if self.output is None else self.output[1]


def scan_steps(
    source: ArrayLike,
    should_stop: ShouldStop = never_stop,
    *,
    sample_above: int = SAMPLE_ABOVE,
) -> Generator[Step, None, IntensityStatistics]:
    """Find the mean, standard deviation and range of a 2D or 3D array of real numbers.

    An array of up to `sample_above` voxels is read completely. A larger array is
    sampled: about `sample_above` voxels are read in whole planes (or rows, in 2D or if
    a single plane exceeds this number), evenly spaced from the first to the last, so
    the result is the same in every run.

    Hot and dead voxels (`napari_geosr.core.grey_values.hot_voxels`) are excluded. If
    some values lie far from all others, the same voxels are read a second time to
    identify them.

    Yields
    ------
    BlockDone
        For each block read.

    Returns
    -------
    IntensityStatistics

    Raises
    ------
    VolumeError
        If the array holds no finite voxel, only one grey value, no real numbers, or
        numbers with a contrast that float32 cannot represent, or if some values mark
        missing voxels.
    Cancelled
        If `should_stop` returns True.
    """
    dtype = np.dtype(source.dtype)
    if dtype.kind not in "buif":
        raise VolumeError(
            f"Voxels of type {dtype} cannot be restored: convert them to real numbers."
        )
    n_total = math.prod(source.shape)
    if n_total == 0:
        raise VolumeError(f"The volume is empty (shape {tuple(source.shape)}).")
    blocks = list(_blocks(tuple(source.shape), sample_above))
    sampled = n_total > sample_above
    sums, sample = (
        _IntensitySums(),
        GreySample(_sample_shape(tuple(source.shape), blocks)),
    )
    for done, block in enumerate(blocks, start=1):
        if should_stop():
            raise Cancelled("Stopped while reading the grey values.")
        voxels = np.asarray(source[block])
        sums.add(voxels)
        sample.add(voxels)
        yield BlockDone(done, len(blocks))
    if sums.n and (text := float32_range_fault(sums.minimum, sums.maximum)):
        raise VolumeError(text)
    statistics = sums.result(sampled=sampled)
    hot = sample.hot_voxels()
    if hot is not None:
        statistics = yield from _without_hot_steps(
            source, statistics, hot, blocks, should_stop
        )
    statistics = _with_far_voxels(statistics, sample)
    values = statistics.mean, statistics.std, statistics.minimum, statistics.maximum
    if text := float32_contrast_fault(*values, dtype):
        raise VolumeError(text)
    if statistics.hot is None or not statistics.hot.n:
        share = yield from _crowd_steps(source, sample, blocks, should_stop)
        statistics = replace(statistics, crowd_share=share)
    return statistics


def _with_far_voxels(
    statistics: IntensityStatistics, sample: GreySample
) -> IntensityStatistics:
    """Record in the statistics any voxels that are extreme but not hot.

    Raises
    ------
    VolumeError
        If the values of such voxels mark missing voxels.
    """
    found = statistics.minimum, statistics.maximum
    usual = sample.values_if_others_are_missing(*found)
    if usual is not None and (text := missing_values_text("It", found, usual)):
        raise VolumeError(text)
    return replace(statistics, far=sample.far_voxels(*found))


def _without_hot_steps(
    source: ArrayLike,
    statistics: IntensityStatistics,
    hot: HotVoxels,
    blocks: Sequence[tuple[slice, ...]],
    should_stop: ShouldStop,
) -> Generator[Step, None, IntensityStatistics]:
    """Exclude hot voxels from the statistics, reading the blocks again if needed."""
    sampled = statistics.sampled
    if hot.limits[0] <= statistics.minimum and statistics.maximum <= hot.limits[1]:
        # Planes that were not read may contain hot voxels.
        return replace(statistics, hot=hot) if sampled else statistics
    without, n_hot = _IntensitySums(), 0
    read_filtered = HotVoxelFilter(source, hot).read
    for done, block in enumerate(blocks, start=1):
        if should_stop():
            raise Cancelled("Stopped while searching for hot voxels.")
        voxels, positions = read_filtered(_whole_box(block, source.shape))
        n_hot += len(positions)
        without.add(_without_positions(voxels, positions))
        yield BlockDone(done, len(blocks))
    if not n_hot:  # the outliers are something else, such as bright particles
        return replace(statistics, hot=hot) if sampled else statistics
    cleaned = without.result(sampled=sampled)
    n_voxels = cleaned.n_voxels + n_hot
    return replace(cleaned, n_voxels=n_voxels, hot=replace(hot, n=n_hot))


def _crowd_steps(
    source: ArrayLike,
    sample: GreySample,
    blocks: Sequence[tuple[slice, ...]],
    should_stop: ShouldStop,
) -> Generator[Step, None, float]:
    """Find the fraction of isolated extreme voxels that are too numerous for defects.

    Evenly spaced blocks of a large volume are read again. The grey values of small
    pores and grains may also lie far from all others, but so do those of most of their
    neighbours.
    """
    crowd = sample.hot_voxels(CROWD_SHARE)
    if crowd is None or not sample.exceeds(crowd.limits):
        return 0.0
    low, high = bounds(np.dtype(source.dtype), crowd.limits)
    read_filtered = HotVoxelFilter(source, crowd).read
    n_voxels = n_isolated = n_others = 0
    chosen = blocks[:: -(-len(blocks) // _N_CROWD_BLOCKS)]
    for done, block in enumerate(chosen, start=1):
        if should_stop():
            raise Cancelled("Stopped while searching for hot voxels.")
        voxels, positions = read_filtered(_whole_box(block, source.shape))
        far = (voxels < low) | (voxels > high)
        n_voxels += voxels.size
        n_isolated += len(positions)
        n_others += int(np.count_nonzero(far & np.isfinite(voxels)))
        yield BlockDone(done, len(chosen))
    share = n_isolated / n_voxels
    return share if n_isolated > n_others and share > HOT_SHARE else 0.0


def _whole_box(block: tuple[slice, ...], shape: Sequence[int]) -> tuple[slice, ...]:
    """Add full slices for the remaining axes, so that there is one slice per axis."""
    return (*block, *(slice(0, n) for n in shape[len(block) :]))


def _without_positions(voxels: AnyArray, positions: AnyArray) -> AnyArray:
    """Return voxels outside the given positions; the whole block if none are given."""
    if not len(positions):
        return voxels
    is_kept = np.ones(voxels.shape, bool)
    is_kept[tuple(positions.T)] = False
    return voxels[is_kept]


def without_hot_voxels(volume: Volume, statistics: IntensityStatistics) -> Volume:
    """Return the volume with hot voxels replaced by the median of their neighbours.

    Parameters
    ----------
    volume : Volume
        Volume with spatial axes; returned unchanged if there are no hot voxels.
    statistics : IntensityStatistics
        Statistics of the whole volume.
    """
    if statistics.hot is None:
        return volume
    return volume.replace(data=HotVoxelFilter(volume.data, statistics.hot))


def _blocks(shape: tuple[int, ...], sample_above: int) -> Iterator[tuple[slice, ...]]:
    """Yield blocks of whole planes (or rows): all, or an evenly spaced sample."""
    n, per_plane = shape[0], math.prod(shape[1:])
    if len(shape) == 3 and per_plane > sample_above:
        yield from _rows_of_huge_planes(shape, sample_above)
        return
    if n * per_plane > sample_above:
        n_kept = max(1, min(n, sample_above // per_plane))
        for i in np.unique(np.linspace(0, n - 1, n_kept).round().astype(int)):
            yield (slice(int(i), int(i) + 1),)
        return
    n_together = max(1, _BLOCK_VOXELS // per_plane)
    for start in range(0, n, n_together):
        yield (slice(start, min(n, start + n_together)),)


def _rows_of_huge_planes(
    shape: tuple[int, ...], sample_above: int
) -> Iterator[tuple[slice, ...]]:
    """Yield evenly spaced rows of evenly spaced planes, if single planes are huge."""
    n_planes = min(shape[0], _N_ROW_PLANES)
    n_rows = max(1, min(shape[1], sample_above // (shape[2] * n_planes)))
    for z in np.linspace(0, shape[0] - 1, n_planes).round().astype(int):
        for y in np.unique(np.linspace(0, shape[1] - 1, n_rows).round().astype(int)):
            yield slice(int(z), int(z) + 1), slice(int(y), int(y) + 1)


def _sample_shape(
    shape: tuple[int, ...], blocks: Sequence[tuple[slice, ...]]
) -> list[int]:
    """Return the shape of all blocks joined along the first axis."""
    n = sum(math.prod(part.stop - part.start for part in block) for block in blocks)
    return [n, *shape[len(blocks[0]) :]]


def _as_float64(values: AnyArray) -> tuple[float, AnyArray]:
    """Return an offset, and float64 values minus this offset (exact if possible)."""
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        low, high = int(values.min()), int(values.max())
        if max(-low, high) > _MAX_EXACT_INTEGER:
            # Unsigned differences cannot overflow.
            unsigned = values.astype(np.uint64, copy=False)
            numbers = unsigned - unsigned[values.argmin()]
            return float(low), numbers.astype(np.float64)
    return 0.0, values.astype(np.float64)


class _IntensitySums:
    """Running count, mean and sum of squared deviations (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.n = self.n_nan = self.n_inf = 0
        self.mean = self.squares = 0.0
        #: Exact, even for integers that float64 cannot represent.
        self.minimum: float = math.inf
        self.maximum: float = -math.inf

    def add(self, block: AnyArray) -> None:
        """Add the voxels of a block."""
        values = block.reshape(-1)
        if block.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                n_nan = int(np.isnan(values).sum())
                self.n_nan += n_nan
                self.n_inf += int((~finite).sum()) - n_nan
                values = values[finite]
        if values.size == 0:
            return
        self.minimum = min(self.minimum, values.min().item())
        self.maximum = max(self.maximum, values.max().item())
        base, numbers = _as_float64(values)
        with np.errstate(over="ignore", invalid="ignore"):  # rejected afterwards
            n, mean = numbers.size, float(numbers.mean())
            numbers -= mean
            squares = float(np.dot(numbers, numbers))
        mean += base
        total, shift = self.n + n, mean - self.mean
        self.squares += squares + shift * shift * self.n * n / total
        self.mean += shift * n / total
        self.n = total

    def result(self, *, sampled: bool) -> IntensityStatistics:
        """Return statistics of all blocks; raise `VolumeError` if no values differ."""
        n_bad = self.n_nan + self.n_inf
        if self.n == 0:
            raise VolumeError(
                f"All {n_bad} voxels are NaN or infinite: there is nothing to restore."
            )
        if self.minimum == self.maximum:
            raise UniformVolumeError(
                f"Every voxel has the same grey value ({self.minimum:g}): there is "
                "nothing to restore."
            )
        return IntensityStatistics(
            mean=self.mean,
            std=math.sqrt(self.squares / self.n),
            minimum=float(self.minimum),
            maximum=float(self.maximum),
            n_voxels=self.n + n_bad,
            n_nan=self.n_nan,
            n_inf=self.n_inf,
            sampled=sampled,
        )
