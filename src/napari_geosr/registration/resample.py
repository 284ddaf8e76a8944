"""A large volume on another grid, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.volume import Volume
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.registration.sampled import Box, Grid, SampledVolume, finite
from napari_geosr.registration.transform import Transform, corners

FloatArray = npt.NDArray[np.float32]

#: Spline between voxels; cubic ones keep edges sharp.
_ORDER = 3
#: Voxels after which the spline's own filter has faded to one part in 10⁶.
_SPLINE_REACH = 12
_BLUR_REACH = 4
#: Coarser target voxels than this, in those of the source, are means of several.
_MEANS_FROM = 1.05
#: Bytes per voxel while a block is made: of what is read (as float32, and as float64
#: twice for the spline), and of what comes out.
_READ_BYTES, _MADE_BYTES = 24, 8


@dataclass(frozen=True, eq=False)
class Resampling:
    """Grey values of `source` at the voxels of `grid`.

    Where its voxels are coarser, they are means: a blur of the same variance goes
    before the interpolation.

    Attributes
    ----------
    source : Volume
        Of spatial axes only.
    grid : Grid
        The new voxels.
    to_source : Transform
        From positions on `grid` to those in `source`.
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
        """The values in a part of the grid.

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
        """How many voxels of the source a block needs."""
        key = self._read_box(self.grid.cut(box))
        return math.prod(s.stop - s.start for s in key)

    def _read_box(self, grid: Grid) -> Box:
        way = grid.index_map(Grid.of(self.source), self.to_source)
        last = [n - 1.0 for n in grid.shape]
        ends = way.apply(corners([0.0] * len(last), last))
        margin = _SPLINE_REACH + np.ceil(_BLUR_REACH * self.blur)
        shape = np.array(self.source.shape)
        # A part that lies outside has its nearest voxels all the same.
        first = np.clip(np.floor(ends.min(axis=0) - margin), 0, shape - 1).astype(int)
        stop = np.ceil(ends.max(axis=0) + margin) + 1
        stop = np.clip(stop, first + 1, shape).astype(int)
        return tuple(slice(int(a), int(b)) for a, b in zip(first, stop, strict=True))

    def blocks(self, step: tuple[int, ...], nbytes: int) -> Iterator[Box]:
        """Parts that cover the grid, each made in about `nbytes` of memory.

        Parameters
        ----------
        step : tuple of int
            Lengths that blocks are multiples of.
        """
        edges = [n // s for n, s in zip(self.grid.shape, step, strict=True)]
        size = list(edges)
        while max(size) > 1 and self._bytes(size, step) > nbytes:
            # Rows stay whole as long as there are several slices: files like it so.
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
