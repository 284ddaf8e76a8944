"""Resample large volumes block by block, to larger voxels or to another grid."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.sampling import area_downsample
from napari_geosr.registration.transform import Transform, corners

FloatArray = npt.NDArray[np.float32]
Box = tuple[slice, ...]

#: Number of voxels read at once.
_BLOCK_VOXELS = 1 << 24
#: Order of the spline between voxels; cubic splines keep edges sharp.
_ORDER = 3
#: Distance, in voxels, over which the spline's prefilter decays to less than 10⁻⁶.
_SPLINE_REACH = 12
_BLUR_REACH = 4
#: If the ratio of target to source voxel size exceeds this value, the source is blurred
#: before it is sampled, about as much as by averaging over a target voxel.
_MEANS_FROM = 1.05
#: Bytes per voxel of the source while a block is computed: as float32, and twice as
#: float64 for the spline.
_READ_BYTES = 24
#: Bytes per voxel of the result while a block is computed.
_MADE_BYTES = 8


@dataclass(frozen=True, eq=False)
class Grid:
    """Positions of voxels.

    Attributes
    ----------
    shape : tuple of int
        Along (Z, Y, X) or (Y, X).
    voxel_size, origin : ndarray of float
        Edge lengths of a voxel, and position of the centre of the first voxel.
    """

    shape: tuple[int, ...]
    voxel_size: npt.NDArray[np.float64]
    origin: npt.NDArray[np.float64]

    @classmethod
    def of(cls, volume: Volume) -> Grid:
        """Return the grid of a volume with spatial axes only."""
        size, origin = np.array(volume.voxel_size), np.array(volume.origin)
        return cls(volume.shape, size, origin)

    def to_record(self) -> AnyDict:
        """Return the grid's properties as values for the report."""
        return {
            "shape": list(self.shape),
            "voxel_size": self.voxel_size.tolist(),
            "origin": self.origin.tolist(),
        }

    @property
    def centre(self) -> npt.NDArray[np.float64]:
        """Centre of the field of view."""
        return self.origin + (np.array(self.shape) - 1) / 2 * self.voxel_size

    @property
    def extent(self) -> npt.NDArray[np.float64]:
        """Edge lengths of the field of view, including the whole outermost voxels."""
        return np.array(self.shape) * self.voxel_size

    @property
    def volume(self) -> float:
        """Volume of the field of view."""
        return float(np.prod(self.extent))

    def cut(self, box: Box) -> Grid:
        """Return the grid of a part of the volume."""
        start = np.array([s.start for s in box])
        shape = tuple(s.stop - s.start for s in box)
        return Grid(shape, self.voxel_size, self.origin + start * self.voxel_size)

    def refined(self, factors: Sequence[int]) -> Grid:
        """Return the same field of view with voxels `factors` times smaller."""
        factor = np.array(factors)
        shape = tuple(n * f for n, f in zip(self.shape, factors, strict=True))
        first = self.origin - (factor - 1) / (2 * factor) * self.voxel_size
        return Grid(shape, self.voxel_size / factor, first)

    def coarsened(self, factors: Sequence[int]) -> Grid:
        """Return the grid of means over `factors` voxels; drop incomplete blocks."""
        factor = np.array(factors)
        shape = tuple(n // f for n, f in zip(self.shape, factors, strict=True))
        first = self.origin + (factor - 1) / 2 * self.voxel_size
        return Grid(shape, self.voxel_size * factor, first)

    def kept(self, factors: Sequence[int]) -> Grid:
        """Return the grid of one voxel from each block (`sampling.kept_samples`)."""
        factor = np.array(factors)
        shape = tuple(n // f for n, f in zip(self.shape, factors, strict=True))
        first = self.origin + factor // 2 * self.voxel_size
        return Grid(shape, self.voxel_size * factor, first)

    def index_map(self, other: Grid, transform: Transform) -> Transform:
        """Return the transform from indices in this grid to those in `other`."""
        here = Transform(np.diag(self.voxel_size), self.origin)
        there = Transform(np.diag(other.voxel_size), other.origin)
        return there.inverse().after(transform.after(here))


@dataclass(frozen=True, eq=False)
class SampledVolume:
    """Grey values on a grid, in memory."""

    data: FloatArray
    grid: Grid

    def on(self, grid: Grid, transform: Transform, *, order: int = 1) -> FloatArray:
        """Interpolate the values at the voxels of `grid`.

        Outside the field of view (see `inside`), the nearest voxel is used.

        Parameters
        ----------
        grid : Grid
        transform : Transform
            Maps positions in `grid` to positions in this volume.
        order : int
            Order of the spline between voxels.
        """
        from scipy import ndimage

        way = grid.index_map(self.grid, transform)
        values: FloatArray = ndimage.affine_transform(
            self.data,
            way.matrix,
            offset=way.shift,
            output_shape=grid.shape,
            order=order,
            mode="nearest",
        )
        return values


def inside(grid: Grid, other: Grid, transform: Transform) -> npt.NDArray[np.bool_]:
    """Return the mask of the voxels of `grid` within the field of view of `other`.

    Parameters
    ----------
    grid, other : Grid
    transform : Transform
        Maps points of `grid` to points of `other`.
    """
    way = grid.index_map(other, transform)
    axes = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
    found = np.ones(grid.shape, bool)
    for row, shift, n in zip(way.matrix, way.shift, other.shape, strict=True):
        place = sum((r * a for r, a in zip(row, axes, strict=True)), start=shift)
        found &= (place >= -0.5) & (place <= n - 0.5)
    return found


def copy_steps(
    volume: Volume,
    factors: Sequence[int],
    box: Box | None = None,
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SampledVolume]:
    """Read a volume once, slab by slab, and average blocks of voxels.

    Parameters
    ----------
    volume : Volume
        Volume with only spatial axes.
    factors : sequence of int
        Voxels per block along every axis.
    box : tuple of slice, optional
        The part to read.

    Yields
    ------
    Step
        `BlockDone`.

    Returns
    -------
    SampledVolume

    Raises
    ------
    VolumeError
        If a voxel is NaN or infinite, or all have the same value.
    Cancelled
        If `should_stop` returns True.
    """
    box = box or tuple(slice(0, n) for n in volume.shape)
    grid = Grid.of(volume).cut(box).coarsened(factors)
    kept = tuple(
        slice(s.start, s.start + n * f)
        for s, n, f in zip(box, grid.shape, factors, strict=True)
    )
    data = np.empty(grid.shape, np.float32)
    first, rest = factors[0], kept[1:]
    plane = math.prod(s.stop - s.start for s in rest) * first
    depth = max(1, _BLOCK_VOXELS // max(1, plane))
    for start in range(0, grid.shape[0], depth):
        if should_stop():
            raise Cancelled("Stopped while reading.")
        stop = min(start + depth, grid.shape[0])
        slab = slice(kept[0].start + start * first, kept[0].start + stop * first)
        block = finite(volume, (slab, *rest))
        data[start:stop] = area_downsample(block, factors)
        yield BlockDone(stop, grid.shape[0])
    if data.size == 0 or not data.min() < data.max():
        raise VolumeError(
            f"{volume.title} has only one grey value, so it cannot be aligned. Check "
            "that it is the right file."
        )
    return SampledVolume(data, grid)


def finite(volume: Volume, key: object) -> FloatArray:
    """Read a part of a volume as float32.

    Raises
    ------
    VolumeError
        If a voxel is NaN or infinite.
    """
    block = np.asarray(volume.data[key]).astype(np.float32, copy=False)
    if not np.isfinite(block).all():
        wrong = int((~np.isfinite(block)).sum())
        raise VolumeError(
            f"{volume.title} contains NaN or infinite voxels ({wrong} of {block.size} "
            "sampled): crop it to the measured part, or replace them."
        )
    return block


@dataclass(frozen=True, eq=False)
class Resampling:
    """Grey values of `source` resampled to `grid`.

    If the voxels of `grid` are larger, a blur is applied before interpolation; its
    variance is the difference between the variances of the two voxels' box profiles.

    Attributes
    ----------
    source : Volume
        Volume with only spatial axes.
    grid : Grid
        The new voxels.
    to_source : Transform
        Maps positions on `grid` to those in `source`.
    """

    source: Volume
    grid: Grid
    to_source: Transform

    @property
    def blur(self) -> npt.NDArray[np.float64]:
        """Standard deviation of the blur, in voxels of the source along its axes."""
        size = np.array(self.source.voxel_size)
        ratio = self.grid.voxel_size * self.to_source.scale / size
        variance = np.where(ratio > _MEANS_FROM, (ratio**2 - 1) / 12, 0)
        found: npt.NDArray[np.float64] = np.sqrt(np.maximum(variance, 0))
        return found

    def block(self, box: Box) -> FloatArray:
        """Return the values in a part of the grid.

        Raises
        ------
        VolumeError
            If voxels are NaN or infinite.
        """
        grid = self.grid.cut(box)
        key = self._read_box(grid)
        blur = self.blur
        block = finite(self.source, key)
        if blur.any():
            block = gaussian_blur(block, blur.tolist())
        sampled = SampledVolume(block, Grid.of(self.source).cut(key))
        return sampled.on(grid, self.to_source, order=_ORDER)

    def read_voxels(self, box: Box) -> int:
        """Return the number of source voxels that a block needs."""
        key = self._read_box(self.grid.cut(box))
        return math.prod(s.stop - s.start for s in key)

    def _read_box(self, grid: Grid) -> Box:
        way = grid.index_map(Grid.of(self.source), self.to_source)
        last = [n - 1.0 for n in grid.shape]
        ends = way.apply(corners([0.0] * len(last), last))
        margin = _SPLINE_REACH + np.ceil(_BLUR_REACH * self.blur)
        shape = np.array(self.source.shape)
        # Positions outside the source have the values of the nearest voxels.
        first = np.clip(np.floor(ends.min(axis=0) - margin), 0, shape - 1).astype(int)
        stop = np.ceil(ends.max(axis=0) + margin) + 1
        stop = np.clip(stop, first + 1, shape).astype(int)
        return tuple(slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))

    def blocks(self, step: tuple[int, ...], nbytes: int) -> Iterator[Box]:
        """Yield blocks that cover the grid, each computed in about `nbytes` of memory.

        Parameters
        ----------
        step : tuple of int
            Block lengths are multiples of these.
        """
        edges = [n // s for n, s in zip(self.grid.shape, step, strict=True)]
        size = list(edges)
        while max(size) > 1 and self._bytes(size, step) > nbytes:
            # Split slices before rows, because reading whole rows is faster.
            axis = next(i for i, n in enumerate(size) if n > 1)
            size[axis] = -(-size[axis] // 2)
        starts: list[Any] = [range(0, n, s) for n, s in zip(edges, size, strict=True)]
        grid = np.meshgrid(*starts, indexing="ij")
        for start in np.stack([axis.ravel() for axis in grid], axis=1):
            yield tuple(
                slice(int(a) * f, min(int(a) + s, n) * f)
                for a, s, n, f in zip(start, size, edges, step, strict=True)
            )

    def _bytes(self, size: list[int], step: tuple[int, ...]) -> int:
        middle = tuple(slice(0, s * f) for s, f in zip(size, step, strict=True))
        made = math.prod(s.stop for s in middle)
        return _READ_BYTES * self.read_voxels(middle) + _MADE_BYTES * made
