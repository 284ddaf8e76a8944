"""The mid-axes of a phase: sheets and lines of voxels in its middle, block by block."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure import thickness
from napari_geosr.measure.phases import Box, Mask, MaskSource, Share
from napari_geosr.measure.slabs.thickness import block_sphere_steps
from napari_geosr.measure.thickness import (
    FIRST_MARGIN,
    SphereList,
    cut_blocks,
    kernels,
    paint_mask,
    with_margin,
)

#: Distance from a sphere, in voxels, up to which it covers a voxel of the medial axis:
#: spheres do not reach into the corners of the steps of a surface.
_BEYOND = 1.0


def mid_axis_steps(
    phase: MaskSource,
    write: Callable[[Box, Mask], None],
    *,
    known: MaskSource | None = None,
    block_voxels: int | None = None,
    share: Share | None = None,
    check: Callable[[], None] = lambda: None,
) -> Generator[Step, None, None]:
    """Find the mid-axes of a phase, block by block.

    These are the voxels of the medial axis that are not covered by much larger spheres
    of the phase (`kernels.axes`).

    Parameters
    ----------
    write : callable
        Receives a block of whole planes and the mid-axes in it; blocks without the
        phase are skipped.
    known : MaskSource, optional
        Part of the phase in which the mid-axes are found; by default, all of it.
    share : callable, optional
        Distributes blocks among several processes.
    """
    n_z, n_y, n_x = phase.shape
    n_voxels = block_voxels or thickness.BLOCK_VOXELS
    thick = max(1, n_voxels // max(1, n_y * n_x))
    margin = FIRST_MARGIN
    cores = [slice(z, min(z + thick, n_z)) for z in range(0, n_z, thick)]
    blocks = list(cut_blocks((n_z, n_y, n_x), n_voxels))
    n_steps = len(blocks) + len(cores)
    yield StageStarted(0, n_steps, message="Finding the mid-axes")
    found, unbounded = yield from block_sphere_steps(
        phase,
        blocks,
        to_centres=True,
        within=known,
        share=share,
        check=check,
        n_steps=n_steps,
    )
    if unbounded:
        return
    for i, z in enumerate(cores):
        check()
        core = (z, slice(0, n_y), slice(0, n_x))
        result = _marked(phase, known, core, margin, found, check)
        if result is not None:
            marked, margin = result
            write(core, marked)
        yield BlockDone(len(blocks) + i + 1, n_steps)


def _marked(
    phase: MaskSource,
    known: MaskSource | None,
    core: Box,
    margin: int,
    found: list[SphereList],
    check: Callable[[], None],
) -> tuple[Mask, int] | None:
    """Return the mid-axes in whole planes, and the margin that was needed.

    Returns None if there is no voxel of the phase.
    """
    planes = core[0]
    # Read one more plane on each side, because a voxel may be marked by its neighbour.
    wide = slice(max(0, planes.start - 1), min(phase.shape[0], planes.stop + 1))
    block = with_margin(phase, (wide, *core[1:]), margin, check)
    if block is None:
        return None
    inner = block.phase
    if known is not None:
        first = int(block.start[0])
        around = slice(first, first + len(inner))
        inner = np.ascontiguousarray(known[around, core[1], core[2]]).view(np.uint8)
    marked = np.empty(inner.shape, np.uint8)
    kernels().axes.mark_axes(inner, block.squares, block.nearest, marked)
    del inner
    block.to_surface(locate=False)
    start = planes.start - int(block.start[0])
    own = slice(start, start + planes.stop - planes.start)
    mask, at = marked[own], np.array([planes.start, 0, 0])
    diameters, _ = paint_mask(mask.view(np.bool_), at, found, _BEYOND)
    kernels().axes.drop_covered(mask, block.squares[own], diameters)
    return mask.view(np.bool_), block.margin
