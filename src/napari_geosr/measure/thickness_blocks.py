"""Size of the blocks in which volumes are measured, which must fit into the memory."""

from __future__ import annotations

import math

from napari_geosr.measure.phases.findings import LittleMemoryError

#: Minimum edge length of a block in voxels; smaller blocks would mostly be margin.
SMALLEST_EDGE = 16
#: Bytes per voxel of a block of the local thickness, including its margin.
BYTES_PER_VOXEL = 14


class LargeMarginError(Exception):
    """A block with the margin that its spheres require does not fit into the memory.

    Parameters
    ----------
    margin : int
        Width of the margin, in voxels.
    """

    def __init__(self, margin: int) -> None:
        super().__init__(f"A margin of {margin} voxels is too large.")
        self.margin = margin


def block_edge(
    shape: tuple[int, int, int],
    block_voxels: int,
    margin: int,
    room: int | None,
    bytes_per_voxel: int = BYTES_PER_VOXEL,
) -> int:
    """Return an edge length of blocks that fit into the memory with their margin.

    Parameters
    ----------
    block_voxels : int
        Preferred number of voxels of a block.
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
    >>> block_edge((400, 400, 400), 200**3, 24, None)
    200
    >>> block_edge((400, 400, 400), 200**3, 24, 100 * 10**6)
    128
    """
    edge: int = max(8, round(block_voxels ** (1 / 3)))
    while room is not None:
        widths = (min(n, edge + 4 + 2 * margin) for n in shape)
        needed = bytes_per_voxel * math.prod(widths)
        if needed <= room:
            break
        if edge <= SMALLEST_EDGE:
            raise LittleMemoryError(needed)
        edge = max(SMALLEST_EDGE, 4 * edge // 5)
    return edge
