"""Complete a closed shell with a statistical shape model, on the grid of the input.

The shell is measured along rays, and the missing part is filled slab by slab, so that
about 10 bytes per voxel of the volume are needed in addition to the input.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, cast

import numpy as np

from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import Cancelled, DeviceMemoryError, VolumeError
from napari_geosr.core.interruption import check_stop, interruptible
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.networks.sparse._shells import (
    MIN_PRESENT,
    Ellipsoid,
    fit_ellipsoid,
    shell_maps,
)
from napari_geosr.networks.sparse._walls import share_in_wall, shell_voxels
from napari_geosr.operations.shapes.config import CompleteShapeConfig
from napari_geosr.operations.shapes.parts import (
    CompletedPart,
    cut_warning,
    large_pieces,
    unlike_shell_steps,
    warn_if_unlike,
)
from napari_geosr.operations.shapes.refine import memory_budget

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model
    from napari_geosr.networks.sparse.shell_atlas import PredictedShell, ShellAtlas

#: Memory per voxel of the input, in bytes.
_BYTES_PER_VOXEL = 10
#: Memory per voxel of a slab while it is filled, in bytes.
_SLAB_BYTES = 64
#: Number of voxels per slab.
_AT_ONCE = 2**21
#: Minimum mean thickness of the wall, in voxels, at which layers of one or two voxels
#: on the given shape are removed from the completed part.
_MIN_OPENED = 4.0
#: Minimum thickness of the wall along an axis, in voxels, at which layers that are thin
#: along this axis are removed.
_MIN_ALONG = 3.2
#: Number of planes on each side of a slab that affect the removal of layers.
_REACH = 2
#: Margin around the predicted wall, in voxels.
_MARGIN = 3
#: Maximum distance from the centres of the outermost voxels, in voxels, to which the
#: wall may extend beyond the volume without a warning.
_MAX_BEYOND = 1.5


def complete_shell_steps(
    inside: AnyArray,
    model: Model,
    config: CompleteShapeConfig,
    should_stop: ShouldStop,
    frame: AnyArray | None = None,
) -> Generator[Step, None, CompletedPart]:
    """Predict the missing part of a closed shell.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    model : Model
    config : CompleteShapeConfig
    should_stop : callable
    frame : ndarray of shape (3, 3), optional
        Directions of the model's axes on the grid; see `ShapePose`.

    Raises
    ------
    DeviceMemoryError
        If there is not enough memory; raised before anything is computed.
    VolumeError
        If the shape is not a closed shell.
    """
    budget = memory_budget(config.memory, "cpu")
    needed = bytes_for_completion(inside.size)
    if needed > budget:
        raise DeviceMemoryError(
            f"Completing the shape ({int(np.count_nonzero(inside)):,} voxels in a "
            f"volume of {inside.size:,}) needs {format_enough(needed)}, but "
            f"{format_available(budget)} may be used. Allow more (--memory)."
        )
    atlas = cast("ShellAtlas", model.network().float())
    yield StageStarted(message="Fitting the shell")
    with interruptible(should_stop):
        ellipsoid = fit_ellipsoid(inside, frame)
        given = shell_maps(inside, ellipsoid, atlas.grid)
    share = atlas.present_share(given)
    if share < MIN_PRESENT:
        raise VolumeError(
            "The shape is not a closed shell around a cavity: only "
            f"{100 * share:.0f} % of the rays from its centre meet a wall where one "
            "is expected. Choose a model for such shapes (--model)."
        )
    shell = atlas.predicted(given, config.smallest_piece)
    with interruptible(should_stop):
        check_stop()
        reproduced = share_in_wall(inside, shell.maps, ellipsoid, atlas.grid)
    yield from warn_if_unlike(reproduced)
    yield from unlike_shell_steps(shell.reproduced, share)
    implant: AnyArray = np.zeros(inside.shape, bool)
    if not shell.missing.any():
        return CompletedPart(implant, 0, reproduced)
    box, beyond = _box_of(shell, atlas, ellipsoid, inside.shape)
    if warning := cut_warning(beyond):
        yield WarningIssued(message=warning)
    plane = max(1, (box[1].stop - box[1].start) * (box[2].stop - box[2].start))
    depth = max(1, _AT_ONCE // plane)
    starts = range(box[0].start, box[0].stop, depth)
    yield StageStarted(message="Filling the missing part", total=len(starts))
    for i, start in enumerate(starts):
        if should_stop():
            raise Cancelled("Stopped; no file was written.")
        slab = (slice(start, min(start + depth, box[0].stop)), *box[1:])
        found = shell_voxels(shell.maps, shell.missing, ellipsoid, atlas.grid, slab)
        implant[slab] = found & ~inside[slab]
        yield BlockDone(i + 1, len(starts))
    thickness = np.median(shell.maps.thickness[shell.missing]) * ellipsoid.extents
    with interruptible(should_stop):
        part = _without_crust(implant[box], thickness)
        kept, n_pieces = large_pieces(part, config.smallest_piece)
    implant[box] = kept
    return CompletedPart(implant, n_pieces, reproduced)


def bytes_for_completion(n_voxels: int) -> int:
    """Return the bytes needed to complete a volume, in addition to the input."""
    return _BYTES_PER_VOXEL * n_voxels + _SLAB_BYTES * _AT_ONCE


def _box_of(
    shell: PredictedShell,
    atlas: ShellAtlas,
    ellipsoid: Ellipsoid,
    shape: tuple[int, ...],
) -> tuple[tuple[slice, ...], list[int]]:
    """Return the bounding box of the wall in the missing directions.

    Also return the number of voxels by which the missing part of the wall extends
    beyond the volume along each axis.
    """
    near = atlas.grid.grown(shell.missing)
    rays = ellipsoid.offsets(atlas.grid.units[near])
    outer, thickness = shell.maps.outer[near], shell.maps.thickness[near]
    ends = [ellipsoid.centre + rays * r[:, None] for r in (outer, outer - thickness)]
    places = np.concatenate(ends)
    low = np.floor(places.min(0)).astype(int) - _MARGIN
    high = np.ceil(places.max(0)).astype(int) + _MARGIN + 1
    box = tuple(
        slice(min(n, max(0, int(a))), max(0, min(n, int(b))))
        for a, b, n in zip(low, high, shape, strict=True)
    )
    missing = places[np.tile(shell.missing[near], 2)]
    last = np.array(shape) - 1
    over = np.maximum(-missing.min(0), missing.max(0) - last)
    # Small values are ignored: voxels extend half a voxel beyond their centres, and the
    # predicted maps of the wall are smooth and therefore not exact.
    return box, [int(np.ceil(n)) if n > _MAX_BEYOND else 0 for n in over]


def _without_crust(part: AnyArray, thickness: AnyArray) -> AnyArray:
    """Return the part without thin layers on the given shape.

    Parameters
    ----------
    part : ndarray of bool, shape (Z, Y, X)
    thickness : ndarray of shape (3,)
        Thickness of the wall along each axis, in voxels. With thick slices, the wall
        itself may consist of one or two voxels along an axis.

    Raises
    ------
    Cancelled
        If the run is stopped inside the context `interruptible`.
    """
    from scipy.ndimage import binary_opening

    if thickness.mean() < _MIN_OPENED:
        return part
    cross = np.zeros((3, 3, 3), bool)
    cross[1, 1, 1] = True
    for axis in np.flatnonzero(thickness >= _MIN_ALONG):
        np.moveaxis(cross, axis, 0)[:, 1, 1] = True
    opened: AnyArray = np.empty(part.shape, bool)
    depth = max(1, _AT_ONCE // max(1, part.shape[1] * part.shape[2]))
    for start in range(0, len(part), depth):
        check_stop()
        first, last = max(0, start - _REACH), start + depth
        slab = binary_opening(part[first : last + _REACH], cross)
        opened[start:last] = slab[start - first : last - first]
    return opened if opened.any() else part
