"""Grey values before a measurement: histogram, threshold, and a preview mask."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyArray, AnyDType
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.histogram import histogram_steps as engine_steps
from napari_geosr.measure.segment import phase_mask, threshold_of
from napari_geosr.operations.measure.mask import align_mask

if TYPE_CHECKING:
    from napari_geosr.measure.histogram import GreyHistogram

#: Maximum size in bytes at which the preview counts every voxel: on disk, and in
#: memory.
_MAX_READ_BYTES = 2**29
_MAX_COUNTED = 2**32
#: Number of voxels per block: takes a few milliseconds between calls of `should_stop`.
_BLOCK_VOXELS = 1 << 22
#: Number of planes whose rims are examined.
_RIM_PLANES = 9
#: Edge length of the corner regions examined in a plane, as a fraction of the plane's
#: edge length.
_CORNER_SHARE = 0.02
#: Minimum fraction of the corners that background fills if it surrounds a sample.
_MIN_CORNER_SHARE = 0.97
#: Minimum fraction of the rims that background fills if it surrounds a sample.
_MIN_RIM_SHARE = 0.3
#: The same for a single image: a larger fraction, because its four corners may be pores
#: by chance.
_MIN_RIM_SHARE_2D = 0.6
#: Longer edge in pixels of the reduced planes in which background is looked for.
_REDUCED = 64
#: Minimum of their shorter edge, in pixels.
_MIN_REDUCED = 10
#: Minimum distance from the rim of a plane to the nearest solid, as a fraction of the
#: plane's shorter edge, at which the pore phase on the rim is background: a bone with
#: solid corners has 0.27; Berea sandstone, cement and foams have less than 0.2.
_MIN_DEPTH = 0.2


@dataclass(frozen=True)
class PlaneRim:
    """Grey values of one plane that tell background from pores.

    Attributes
    ----------
    corners : ndarray of shape (4, n)
        Grey values of the four corners.
    rim : ndarray of shape (n,)
        Grey values of the four edges.
    reduced : ndarray of shape (Y, X), float32
        Means of square blocks of the plane.
    """

    corners: AnyArray
    rim: AnyArray
    reduced: AnyArray


@dataclass(frozen=True)
class GreyLevels:
    """The grey values of a volume, for display and for thresholds.

    Attributes
    ----------
    histogram : napari_geosr.measure.histogram.GreyHistogram
    sampled : bool
        Whether only evenly spaced planes were read. Thresholds are then close to, but
        not identical with, those of a measurement, which reads every voxel.
    rims : sequence of PlaneRim
        Some planes from the first to the last; empty if a mask defines the sample.
    """

    histogram: GreyHistogram
    dtype: AnyDType
    name: str
    sampled: bool
    rims: tuple[PlaneRim, ...] = ()

    def is_surrounded(self, threshold: float, phase: Literal["dark", "bright"]) -> bool:
        """Whether background, such as air, reaches the faces beside the sample.

        Parameters
        ----------
        threshold : float
            Threshold between pores and solid.
        phase : {"dark", "bright"}
            Phase of the pores.

        Returns
        -------
        bool
            True if the phase fills the corners of all examined planes and a large part
            of their rims, or if on the same part of the rims of most planes it is far
            deeper than pores are. The porosity of the whole volume would include that
            region.
        """
        if not self.rims:
            return False
        corners = [
            phase_mask(r.corners, threshold, phase).mean(axis=1) for r in self.rims
        ]
        rims = [phase_mask(r.rim, threshold, phase).mean() for r in self.rims]
        least = _MIN_RIM_SHARE_2D if len(self.rims) == 1 else _MIN_RIM_SHARE
        in_corners = np.mean(corners, axis=0).min()
        if in_corners >= _MIN_CORNER_SHARE and np.mean(rims) >= least:
            return True
        return self.background_depth(threshold, phase) >= _MIN_DEPTH

    def background_depth(
        self, threshold: float, phase: Literal["dark", "bright"]
    ) -> float:
        """Distance from the rim to the nearest solid where the pore phase is deepest.

        Pores vary from plane to plane, but background lies in the same place, so the
        median of the planes is taken for each part of the rim. The connected pore space
        of a rock also touches all faces, but it is narrow everywhere.

        Parameters
        ----------
        threshold : float
            Threshold between pores and solid.
        phase : {"dark", "bright"}
            Phase of the pores.

        Returns
        -------
        float
            As a fraction of the plane's shorter edge; 0 with too few planes for a
            median, or too few pixels in them.
        """
        from scipy import ndimage

        edge = min((min(plane.reduced.shape) for plane in self.rims), default=0)
        if len(self.rims) < _RIM_PLANES or edge < _MIN_REDUCED:
            return 0.0
        depths = []
        for plane in self.rims:
            pores = phase_mask(plane.reduced, threshold, phase)
            depth = ndimage.distance_transform_edt(pores)
            # Without any solid, there is no distance to it.
            depths.append(_rim(depth if not pores.all() else np.full_like(depth, edge)))
        return float(np.median(depths, axis=0).max() / edge)

    def threshold(self, config: PorosityConfig) -> float:
        """Compute the threshold that `config` selects.

        Raises
        ------
        VolumeError
            If there are too few grey values for the method.
        """
        return threshold_of(self.histogram, config, self.dtype, name=self.name)

    def bars(self, n_bins: int = 160) -> tuple[AnyArray, AnyArray]:
        """Counts and bin edges for a plot.

        The outermost 0.02 % of the values at either end are omitted, so that a few hot
        voxels do not compress the rest.
        """
        counts, edges = self.histogram.counts, self.histogram.edges
        share = np.cumsum(counts) / counts.sum()
        first = int(np.searchsorted(share, 2e-4))
        last = int(np.searchsorted(share, 1 - 2e-4)) + 1
        counts, edges = counts[first:last], edges[first : last + 1]
        # Merge whole bins: splitting integers unevenly would produce a comb pattern.
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
    """Count grey values; only in evenly spaced planes if reading all takes long.

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
        If there is no finite value, only one value, or the mask does not fit.
    """
    from skimage import filters  # noqa: F401  # thresholds must not wait for it later

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
    rims = _plane_rims(source) if sample is None else ()
    return GreyLevels(histogram, volume.dtype, volume.name, sampled, rims)


def _plane_rims(source: ArrayLike) -> tuple[PlaneRim, ...]:
    """Corners, rims and reductions of evenly spaced planes: see `GreyLevels`."""
    depth, height, width = source.shape
    n = max(2, round(_CORNER_SHARE * min(height, width)))
    if min(height, width) < 4 * n:
        return ()
    found = []
    for z in np.unique(np.linspace(0, depth - 1, _RIM_PLANES).astype(int)):
        plane = np.asarray(source[int(z) : int(z) + 1])[0]
        ends = (slice(None, n), slice(-n, None))
        corners = np.stack([plane[y, x].ravel() for y in ends for x in ends])
        found.append(PlaneRim(corners, _rim(plane), _reduced(plane)))
    return tuple(found)


def _rim(plane: AnyArray) -> AnyArray:
    """The four edges of a plane."""
    return np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])


def _reduced(plane: AnyArray) -> AnyArray:
    """Means of square blocks of a plane; invalid where a value of the block is."""
    n = max(1, math.ceil(math.sqrt(plane.size) / _REDUCED))
    height, width = (length // n for length in plane.shape)
    blocks = plane[: height * n, : width * n].reshape(height, n, width, n)
    means: AnyArray = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means


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
        # For an empty mask any planes will do: the engine reports that it is empty.
        all_planes = all_planes[held] if any(held) else all_planes
    chosen = np.linspace(0, len(all_planes) - 1, min(n, len(all_planes))).astype(int)
    planes: AnyArray = all_planes[np.unique(chosen)]
    return planes


class _PlaneSample:
    """Some planes of a large volume, read lazily."""

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
        In grey values.
    """
    yield StageStarted(message="Finding the threshold")
    levels = yield from histogram_steps(volume, mask, should_stop=should_stop)
    return levels.threshold(config)


def preview_mask(plane: AnyArray, threshold: float, config: PorosityConfig) -> AnyArray:
    """Pore voxels of one plane at a threshold, before removing small pores.

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
        If the volume is complex, empty or has more axes.
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
