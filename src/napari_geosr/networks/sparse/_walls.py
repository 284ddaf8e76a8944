"""Find the voxels in the wall of a shell that is described by maps over directions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_geosr.core.interruption import check_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.networks.sparse._directions import DirectionGrid
from napari_geosr.networks.sparse._shells import Ellipsoid, ShellMaps

#: Maximum number of voxels that `share_in_wall` tests.
_MAX_TESTED = 2**17
#: Smallest radius, so that the centre itself has a direction.
_TINY = 1e-9


def shell_voxels(
    maps: ShellMaps,
    chosen: AnyArray,
    ellipsoid: Ellipsoid,
    grid: DirectionGrid,
    box: Sequence[slice],
) -> AnyArray:
    """Return the voxels of a box that lie in a shell's wall, in the chosen directions.

    Parameters
    ----------
    maps : ShellMaps
        Maps of the shell, known in the chosen directions and next to them.
    chosen : ndarray of bool, shape (N,)
    ellipsoid : Ellipsoid
    grid : DirectionGrid
    box : sequence of slice

    Returns
    -------
    ndarray of bool
    """
    near = grid.grown(chosen)
    low = (maps.outer - maps.thickness)[near].min() * 0.98
    high = maps.outer[near].max() * 1.02
    offsets = [
        np.arange(part.start, part.stop) - middle
        for part, middle in zip(box, ellipsoid.centre, strict=True)
    ]
    z, y, x = ellipsoid.places(np.meshgrid(*offsets, indexing="ij", sparse=True))
    radius = np.sqrt(z**2 + y**2 + x**2)
    del z, y, x
    candidate = (radius >= low) & (radius <= high)
    found: AnyArray = np.zeros(radius.shape, bool)
    places = np.argwhere(candidate)
    if not len(places):
        return found
    sides = [offsets[a][places[:, a]] for a in range(3)]
    index, weights, inside = _in_wall(maps, sides, ellipsoid, grid)
    share = (weights * chosen[index]).sum(1)
    found[candidate] = inside & (share >= 0.5)
    return found


def share_in_wall(
    inside: AnyArray, maps: ShellMaps, ellipsoid: Ellipsoid, grid: DirectionGrid
) -> float:
    """Return the fraction of a shape's voxels with their centres in a shell's wall.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
        Voxels of the shape; at least one. If there are many, equally spaced ones are
        used.
    maps : ShellMaps
        Maps of the shell, known in all directions.
    ellipsoid : Ellipsoid
    grid : DirectionGrid

    Raises
    ------
    Cancelled
        If stopped in the context `interruptible`.
    """
    step = -(-int(np.count_nonzero(inside)) // _MAX_TESTED)
    places, seen = [], 0
    for z, plane in enumerate(inside):
        check_stop()
        occupied = np.flatnonzero(plane)
        y, x = np.unravel_index(occupied[-seen % step :: step], plane.shape)
        places.append(np.stack([np.full_like(y, z), y, x], 1))
        seen += len(occupied)
    offsets = np.concatenate(places) - ellipsoid.centre
    *_, found = _in_wall(maps, list(offsets.T), ellipsoid, grid)
    return float(found.mean())


def _in_wall(
    maps: ShellMaps, offsets: list[AnyArray], ellipsoid: Ellipsoid, grid: DirectionGrid
) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Return whether positions lie between the inner and outer surface of a shell.

    Also return the indices and weights of the directions near each position, which is
    given by its offsets (Z, Y, X) from the centre.
    """
    places = np.stack(ellipsoid.places(offsets), 1)
    radii = np.maximum(np.linalg.norm(places, axis=1), _TINY)
    index, weights = grid.weights(places / radii[:, None])
    outer = (weights * maps.outer[index]).sum(1)
    inner = (weights * (maps.outer - maps.thickness)[index]).sum(1)
    return index, weights, (radii <= outer) & (radii >= inner)
