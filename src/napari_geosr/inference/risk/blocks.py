"""Sample blocks of a volume, for estimates that must not read all of it. numpy only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import ArrayLike

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Box = tuple[slice, ...]

#: Blocks drawn, their size, and what is read around them for the filters to see.
N_BLOCKS = 4
_CORE = {2: (224, 224), 3: (8, 80, 80)}
_MARGIN = {2: (16, 16), 3: (3, 12, 12)}
#: Places that are looked at until there are enough.
_PLACES = 40
#: Share of voxels that have to hold something, for a block to be taken.
_LEAST_VALID = 0.3
#: Cells along Y and X that a block is divided into, for the spread of an estimate.
_CELLS = 3


@dataclass(frozen=True, eq=False)
class Block:
    """A piece of a volume with some voxels around it.

    Attributes
    ----------
    box : tuple of slice
        Where `window` lies in the volume.
    window : ndarray, float64
        Grey values; those that are not finite are replaced by the mean of the others.
    core : tuple of slice
        The part of the window that counts.
    valid : ndarray of bool, of the core's shape
        Voxels of the core that are finite and no padding.
    """

    box: Box
    window: FloatArray
    core: Box
    valid: BoolArray

    def cells(self) -> Iterator[Box]:
        """Parts of the core with about equal numbers of voxels."""
        shape = self.valid.shape
        for i in range(_CELLS):
            for j in range(_CELLS):
                y = slice(i * shape[-2] // _CELLS, (i + 1) * shape[-2] // _CELLS)
                x = slice(j * shape[-1] // _CELLS, (j + 1) * shape[-1] // _CELLS)
                yield (..., y, x)  # type: ignore[misc]


def draw_blocks(source: ArrayLike, n: int = N_BLOCKS) -> list[Block]:
    """Draw up to `n` blocks spread over a volume, the same ones every time.

    Places that hold hardly anything but padding (a constant grey value) or voxels that
    are not finite are passed over, unless there are no others.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X) or (Y, X)
        Only the blocks are read.

    Raises
    ------
    VolumeError
        If no place holds enough.
    """
    ndim = source.ndim
    core = [min(a, b) for a, b in zip(_CORE[ndim], source.shape, strict=True)]
    n = max(1, min(n, round(math.prod(source.shape) / math.prod(core))))
    found: list[Block] = []
    sparse: list[Block] = []
    taken: set[tuple[int, ...]] = set()
    for start in _places(source.shape, core):
        if len(found) == n:
            break
        if start in taken:
            continue
        taken.add(start)
        block = _read(source, start, core)
        if block.valid.mean() >= _LEAST_VALID:
            found.append(block)
        elif block.valid.any():
            sparse.append(block)
    if not found:  # a dark background, say, with few objects in it
        sparse.sort(key=lambda block: -int(block.valid.sum()))
        found = sparse[:n]
    if not found:
        raise VolumeError(
            "No part of the volume holds enough voxels that differ from each other: "
            "nothing can be estimated from it."
        )
    return found


def block_like(source: ArrayLike, block: Block) -> FloatArray:
    """The grey values of another volume where `block` lies, float64."""
    return np.asarray(source[block.box], np.float64)


def _places(shape: Sequence[int], core: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """First voxels of blocks: low-discrepancy, so spread out whatever their number."""
    n = len(shape)
    # Roots of the generalised golden ratio (Roberts 2018): x^(n+1) = x + 1.
    ratio = {2: 1.324717957244746, 3: 1.2207440846057596}[n]
    steps = [ratio ** -(axis + 1) for axis in range(n)]
    for i in range(_PLACES):
        yield tuple(
            int((0.5 + i * step) % 1 * (length - size + 1))
            for step, length, size in zip(steps, shape, core, strict=True)
        )


def _read(source: ArrayLike, start: Sequence[int], core: Sequence[int]) -> Block:
    from scipy import ndimage

    box, inner = [], []
    for first, size, margin, length in zip(
        start, core, _MARGIN[source.ndim], source.shape, strict=True
    ):
        low, high = max(0, first - margin), min(length, first + size + margin)
        box.append(slice(low, high))
        inner.append(slice(first - low, first - low + size))
    window: Any = np.asarray(source[tuple(box)], np.float64)
    finite = np.isfinite(window)
    if not finite.all():
        window = np.where(finite, window, window[finite].mean() if finite.any() else 0)
    flat = (3, 3) if source.ndim == 2 else (1, 3, 3)
    spread = ndimage.maximum_filter(window, flat) - ndimage.minimum_filter(window, flat)
    padding = spread == 0
    where = tuple(inner)
    return Block(tuple(box), window, where, (finite & ~padding)[where])
