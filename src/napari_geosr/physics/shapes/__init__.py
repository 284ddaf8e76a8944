"""Simulated shapes, defined at any resolution, with defects and low-resolution scans.

A solid is a function of position that is positive inside. Positions are in units of
half the longest edge of the box, which is centred at zero, so that one solid can be
sampled with 64 or with 512 voxels along an edge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.shapes.defects import DEFECTS, defect
from napari_geosr.physics.shapes.skull import skull
from napari_geosr.physics.shapes.solids import (
    Solid,
    ellipsoid,
    pore_network,
    trabeculae,
    tree,
    vault_direction,
)

__all__ = [
    "DEFECTS",
    "SOLIDS",
    "Solid",
    "coarsened",
    "defect",
    "ellipsoid",
    "pore_network",
    "sampled",
    "sampled_slabs",
    "skull",
    "trabeculae",
    "tree",
    "vault_direction",
]

#: Functions that draw a simulated solid with a random generator, by kind.
SOLIDS: dict[str, Callable[[np.random.Generator], Solid]] = {
    "ellipsoid": ellipsoid,
    "pores": pore_network,
    "skull": skull,
    "trabeculae": trabeculae,
    "tree": tree,
}
#: Number of voxels that are sampled at once.
_AT_ONCE = 2**21


def sampled_slabs(
    solid: Solid, shape: Sequence[int]
) -> Iterator[tuple[slice, AnyArray]]:
    """Sample a solid slab by slab.

    Parameters
    ----------
    solid : callable
    shape : sequence of int
        Number of voxels along Z, Y, X.

    Yields
    ------
    planes : slice
    inside : ndarray of bool, shape (planes, Y, X)
    """
    half = max(shape) / 2
    z, y, x = (((np.arange(n) + 0.5 - n / 2) / half).astype(np.float32) for n in shape)
    depth = max(1, _AT_ONCE // (shape[1] * shape[2]))
    for start in range(0, shape[0], depth):
        planes = slice(start, min(start + depth, shape[0]))
        values = solid(z[planes, None, None], y[:, None], x)
        inside = np.broadcast_to(values, (planes.stop - start, *shape[1:])) > 0
        yield planes, inside


def sampled(solid: Solid, shape: Sequence[int]) -> AnyArray:
    """Sample a solid at the centres of the voxels of a box.

    Returns
    -------
    ndarray of bool, shape (Z, Y, X)

    Examples
    --------
    >>> import numpy as np
    >>> inside = sampled(ellipsoid(np.random.default_rng(0)), (16, 16, 16))
    >>> inside.shape, bool(inside[8, 8, 8])
    ((16, 16, 16), True)
    """
    inside: AnyArray = np.empty(tuple(shape), bool)
    for planes, part in sampled_slabs(solid, shape):
        inside[planes] = part
    return inside


def coarsened(
    inside: AnyArray,
    factor: int,
    rng: np.random.Generator | None = None,
    *,
    noise: float = 0.0,
    threshold: float = 0.5,
) -> AnyArray:
    """Return the shape as it would be segmented in a scan with larger voxels.

    A coarse voxel belongs to the shape if at least the fraction `threshold` of its
    volume is inside the shape. Incomplete coarse voxels at the far ends are dropped.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    factor : int
        Number of fine voxels along the edge of a coarse voxel.
    rng : Generator, optional
        Required if `noise` is greater than zero.
    noise : float
        Standard deviation of the scanner noise, relative to the contrast.
    threshold : float
        Grey value of the surface, between 0 (empty) and 1 (full).

    Returns
    -------
    ndarray of bool
    """
    nz, ny, nx = (n // factor for n in inside.shape)
    kept = inside[: nz * factor, : ny * factor, : nx * factor]
    blocks = kept.reshape(nz, factor, ny, factor, nx, factor)
    share: AnyArray = blocks.mean((1, 3, 5), dtype=np.float32)
    if noise:
        assert rng is not None
        share = share + np.asarray(rng.normal(0, noise, share.shape), np.float32)
    coarse: AnyArray = share >= threshold
    return coarse
