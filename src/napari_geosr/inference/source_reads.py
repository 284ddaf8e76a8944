"""Compute how often the blocks of a file are decoded, for caches of various sizes.

A run reads the file tile by tile, and a block may be needed for several tiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from napari_geosr.inference.tiles.tiling import Layout, Size
from napari_geosr.io.lazy import ReadUnit

#: Seconds to decode a voxel, typical of deflate; used until the time is measured.
_DECODING_SECONDS = 6e-9
#: Seconds to restore a voxel, assumed if the speed of the network is unknown.
_RESTORING_SECONDS = 2e-7


@dataclass(frozen=True)
class SourceReads:
    """One way of reading the source, tile by tile.

    Attributes
    ----------
    cache_bytes : int
        Bytes of decoded blocks that are kept for later tiles.
    held_bytes : int
        Maximum memory, in bytes, of this cache and of decoding.
    factor : float
        Voxels decoded ÷ voxels of the blocks that the run needs.
    seconds : float
        Time to decode one voxel, in seconds.
    """

    cache_bytes: int = 0
    held_bytes: int = 0
    factor: float = 1.0
    seconds: float = 0.0

    def repeated_work(self, seconds_per_voxel: float | None) -> float:
        """Return the time of repeated decoding, relative to computing every voxel once.

        Parameters
        ----------
        seconds_per_voxel : float, optional
            Time of the network per input voxel, in seconds, if known.
        """
        share = self.seconds / (seconds_per_voxel or _RESTORING_SECONDS)
        return share * (self.factor - 1.0)


#: How a source is read if each of its voxels can be read individually.
DIRECT = SourceReads()


@dataclass(frozen=True)
class BlocksAlong:
    """Blocks of the source that the windows touch along one axis.

    Attributes
    ----------
    total : int
        Number of different blocks that the windows touch.
    most : int
        Largest number of blocks that one window touches.
    decoded : int
        Number of blocks that a window touches, summed over the windows.
    """

    total: int
    most: int
    decoded: int

    @property
    def factor(self) -> float:
        """Mean number of times that a block is decoded if no blocks are kept."""
        return self.decoded / self.total


def blocks_along(
    layout: Layout, axis: int, windows: Sequence[slice], block: int
) -> BlocksAlong:
    """Count the blocks of the source that windows touch along an axis.

    Parameters
    ----------
    layout : Layout
    axis : int
        0, 1 or 2, for Z, Y or X.
    windows : sequence of slice
        Windows along the axis, in order, without the context of a 2.5D network.
    block : int
        Length of a block along the axis, in voxels.
    """
    around = layout.context if axis == 0 else 0
    n = layout.shape[axis]
    parts = []
    for window in windows:
        # Voxels beyond the border are copies of voxels inside.
        start = min(max(0, window.start - around), n - 1)
        stop = max(start + 1, min(n, window.stop + around))
        parts.append((start // block, -(-stop // block)))
    counts = [stop - start for start, stop in parts]
    return BlocksAlong(
        total=max(stop for _, stop in parts) - min(start for start, _ in parts),
        most=max(counts),
        decoded=sum(counts),
    )


def ways_to_read(
    unit: ReadUnit, z: BlocksAlong, y: BlocksAlong, x: BlocksAlong
) -> list[SourceReads]:
    """Return the useful sizes of the cache for tiles in Z-Y-X order, smallest first.

    The cache keeps nothing, or the blocks of a tile, of a row of tiles, or of a layer
    of tiles. A block that was dropped is decoded again for each later tile that needs
    it.
    """
    kept = [
        (0, z.factor * y.factor * x.factor),
        (z.most * y.most * x.most, z.factor * y.factor),
        (z.most * y.most * x.total, z.factor),
        (z.most * y.total * x.total, 1.0),
    ]
    seconds = _DECODING_SECONDS
    if unit.seconds is not None:
        seconds = unit.seconds / math.prod(unit.shape)
    ways: list[SourceReads] = []
    for n_blocks, factor in kept:
        # Skip larger caches that do not help; of equally large ones, keep the best.
        if ways and factor >= ways[-1].factor:
            continue
        cache = n_blocks * unit.nbytes
        if ways and cache == ways[-1].cache_bytes:
            ways.pop()
        ways.append(SourceReads(cache, unit.held_bytes(cache), factor, seconds))
    return ways


def unit_along(unit: ReadUnit) -> Size:
    """Return the shape of a unit along Z, Y and X; an image has one plane."""
    z, y, x = (1,) * (3 - len(unit.shape)) + tuple(unit.shape)
    return z, y, x
