"""Grey values for the preview of a measurement: histogram, threshold, pore mask."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyArray, AnyDType
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import histogram_steps as engine_steps
from napari_geosr.measure.segment import phase_mask, threshold_of
from napari_geosr.operations.measure.mask import align_mask
from napari_geosr.operations.measure.surroundings import Surroundings

if TYPE_CHECKING:
    from napari_geosr.measure.histogram import GreyHistogram

#: Sizes in bytes up to which the preview counts every voxel: of a volume on disk, and
#: of a volume in memory.
_MAX_READ_BYTES = 2**29
_MAX_COUNTED = 2**32
#: Number of voxels per block; `should_stop` is called between blocks, every few
#: milliseconds.
_BLOCK_VOXELS = 1 << 22


@dataclass(frozen=True)
class GreyLevels:
    """The grey values of a volume, for display and for thresholds.

    Attributes
    ----------
    histogram : napari_geosr.measure.histogram.GreyHistogram
    sampled : bool
        Whether only evenly spaced planes were read. Thresholds are then close to, but
        not identical to, those of a measurement, which reads every voxel.
    surroundings : Surroundings
        Surroundings of the sample; unknown if a mask defines the sample.
    known : (str or float, str, float) or None
        Rule, phase and value of a threshold that was not found from this histogram.
    """

    histogram: GreyHistogram
    dtype: AnyDType
    name: str
    sampled: bool
    surroundings: Surroundings = field(default_factory=Surroundings)
    known: tuple[str | float, str, float] | None = None

    def threshold(self, config: PorosityConfig) -> float:
        """Compute the threshold that `config` selects.

        Raises
        ------
        VolumeError
            If there are too few grey values for the method.
        """
        if self.known is not None:
            *settings, value = self.known
            if settings == [config.threshold, config.phase]:
                return value
        return threshold_of(self.histogram, config, self.dtype, name=self.name)

    def bars(self, n_bins: int = 160) -> tuple[AnyArray, AnyArray]:
        """Return the counts and bin edges for a plot.

        The outermost 0.02 % of the values at either end are omitted, so that a few hot
        voxels do not compress the histogram.
        """
        counts, edges = self.histogram.counts, self.histogram.edges
        share = np.cumsum(counts) / counts.sum()
        first = int(np.searchsorted(share, 2e-4))
        last = int(np.searchsorted(share, 1 - 2e-4)) + 1
        counts, edges = counts[first:last], edges[first : last + 1]
        # Merge whole bins: bins with different numbers of integers would produce a comb
        # pattern.
        join = -(-len(counts) // n_bins)
        starts = np.arange(0, len(counts), join)
        width = edges[1] - edges[0]
        joined = np.append(edges[starts], edges[0] + width * join * len(starts))
        return np.add.reduceat(counts, starts), joined


def histogram_steps(
    volume: Volume,
    mask: Volume | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, GreyLevels]:
    """Count the grey values of a volume, or of evenly spaced planes if it is large.

    Parameters
    ----------
    volume : Volume
        Axes (Z, Y, X) or (Y, X); other axes must have length one. Any real dtype.
    mask : Volume, optional
        Sample mask, as for `measure_steps`: only non-zero voxels are counted.

    Returns
    -------
    GreyLevels

    Raises
    ------
    VolumeError
        If the volume has no finite value or only one value, or if the mask does not
        fit.
    """
    from skimage import filters  # noqa: F401  # slow; needed for thresholds later

    volume = one_volume(volume)
    source: Any = volume.data
    sample: Any = None if mask is None else align_mask(mask, volume)
    sampled = False
    limit = _MAX_READ_BYTES if volume.is_lazy else _MAX_COUNTED
    per_plane = math.prod(volume.shape[-2:])
    if volume.axes == "YX":
        source = np.asarray(source)[None]
        sample = None if sample is None else np.asarray(sample[:])[None]
    elif volume.nbytes > limit:
        planes = _some_planes(volume, sample, limit, should_stop)
        sampled = len(planes) < volume.shape[0]
        source = _PlaneSample(source, planes)
        sample = None if sample is None else _PlaneSample(sample, planes)
    steps = engine_steps(
        source,
        thickness=max(1, _BLOCK_VOXELS // per_plane),
        name=volume.name,
        should_stop=should_stop,
        mask=sample,
    )
    histogram = yield from steps
    found = Surroundings() if sample is not None else Surroundings.of(source)
    return GreyLevels(histogram, volume.dtype, volume.name, sampled, found)


def _some_planes(
    volume: Volume, sample: Any, limit: int, should_stop: ShouldStop
) -> AnyArray:
    """Choose evenly spaced planes among those that contain the sample."""
    n = max(16, limit * volume.shape[0] // volume.nbytes)
    all_planes = np.arange(volume.shape[0])
    if sample is not None:
        held = []
        for z in all_planes:
            if should_stop():
                raise Cancelled("Reading the grey values was cancelled.")
            held.append(bool(np.any(sample[int(z)])))
        # With an empty mask, any planes will do: the engine reports that the mask
        # is empty.
        all_planes = all_planes[held] if any(held) else all_planes
    chosen = np.linspace(0, len(all_planes) - 1, min(n, len(all_planes))).astype(int)
    planes: AnyArray = all_planes[np.unique(chosen)]
    return planes


class _PlaneSample:
    """Selected planes of a large volume, read lazily."""

    def __init__(self, data: ArrayLike, planes: AnyArray) -> None:
        self._data = data
        self._planes = planes
        self.shape = (len(planes), *data.shape[1:])
        self.dtype = data.dtype

    def __getitem__(self, slab: slice) -> AnyArray:
        return np.stack([np.asarray(self._data[int(z)]) for z in self._planes[slab]])


def threshold_steps(
    volume: Volume,
    config: PorosityConfig,
    mask: Volume | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, float]:
    """Find the threshold of a volume.

    Parameters
    ----------
    volume : Volume
    config : PorosityConfig
    mask : Volume, optional
        Sample mask.
    should_stop : callable

    Returns
    -------
    float
        The threshold, as a grey value.
    """
    yield StageStarted(message="Finding the threshold")
    levels = yield from histogram_steps(volume, mask, should_stop=should_stop)
    return levels.threshold(config)


def preview_mask(plane: AnyArray, threshold: float, config: PorosityConfig) -> AnyArray:
    """Return the pore voxels of a plane at a threshold, including small pores.

    Parameters
    ----------
    plane : ndarray of shape (Y, X)
    threshold : float
    config : PorosityConfig
        Defines whether pores are dark or bright.
    """
    mask: AnyArray = phase_mask(plane, threshold, config.phase)
    return mask


def one_volume(volume: Volume) -> Volume:
    """Drop axes of length one, and refuse volumes without measurable grey values.

    Raises
    ------
    VolumeError
        If the volume is complex or empty, or has other axes.
    """
    volume = volume.select()
    if volume.dtype.kind not in "buif":
        raise VolumeError(
            f"{volume.name!r} contains {volume.dtype} values; pores can be measured "
            "only in real-valued data. Take the magnitude or the phase first."
        )
    if 0 in volume.shape:
        raise VolumeError(f"{volume.name!r} is empty: its shape is {volume.shape}.")
    return volume
