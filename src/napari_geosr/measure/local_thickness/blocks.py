"""Size of the blocks in which volumes are measured, which must fit into memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from napari_geosr.measure.phases import Box
from napari_geosr.measure.phases.findings import LittleMemoryError

#: Minimum edge length of a block in voxels; smaller blocks would mostly be margin.
SMALLEST_EDGE = 16
#: Memory for the local thickness, in bytes per voxel of a block and its margin.
BYTES_PER_VOXEL = 14


class LargeMarginError(Exception):
    """A block with the margin that its spheres require does not fit into memory.

    Parameters
    ----------
    margin : int
        Width of the margin, in voxels.
    """

    def __init__(self, margin: int) -> None:
        super().__init__(f"A margin of {margin} voxels is too large.")
        self.margin = margin


def preferred_edge(shape: tuple[int, int, int], block_voxels: int) -> int:
    """Return the edge length of blocks with about `block_voxels` voxels.

    Thin volumes and images are cut into wide blocks, as margins are only added along
    the axes that are cut.

    Examples
    --------
    >>> preferred_edge((400, 400, 400), 200**3)
    200
    >>> preferred_edge((1, 4000, 4000), 200**3)
    2828
    """
    voxels, edge = float(block_voxels), 1.0
    for i, n in enumerate(sorted(shape)):
        edge = voxels ** (1 / (len(shape) - i))
        if n >= edge:
            break
        voxels /= max(n, 1)
    return max(8, round(edge))


def block_edge(
    shape: tuple[int, int, int],
    preferred: int,
    margin: int,
    room: int | None,
    bytes_per_voxel: int = BYTES_PER_VOXEL,
) -> int:
    """Return an edge length at which blocks with their margin fit into memory.

    Parameters
    ----------
    preferred : int
        Edge length if there is enough memory.
    room : int or None
        Available memory in bytes; None if it is not limited.
    bytes_per_voxel : int
        Memory for each voxel of a block, including its margin.

    Raises
    ------
    LittleMemoryError
        If even the smallest blocks do not fit.

    Examples
    --------
    >>> block_edge((400, 400, 400), 200, 24, None)
    200
    >>> block_edge((400, 400, 400), 200, 24, 100 * 10**6)
    128
    """
    edge = preferred
    while room is not None:
        widths = (min(n, edge + 4 + 2 * margin) for n in shape)
        needed = bytes_per_voxel * math.prod(widths)
        if needed <= room:
            break
        if edge <= SMALLEST_EDGE:
            raise LittleMemoryError(needed)
        edge = max(SMALLEST_EDGE, 4 * edge // 5)
    return edge


def cut_blocks(shape: tuple[int, int, int], edge: int) -> Iterator[Box]:
    """Yield boxes with edges of at most about `edge` voxels that cover a volume.

    No cell of 4³ voxels is cut.
    """
    ranges = []
    for n in shape:
        parts = max(1, math.ceil(n / edge))
        ends = sorted({*(4 * round(i * n / parts / 4) for i in range(parts)), n})
        ranges.append([slice(a, b) for a, b in itertools.pairwise(ends)])
    z, y, x = ranges
    yield from itertools.product(z, y, x)
