"""Estimates of the memory for surfaces, results in memory and comparisons.

The memory for a surface depends more on its number of triangles than on the size of the
volume. There are about two triangles for each voxel face between the two phases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from napari_geosr.core.config import format_available, format_enough
from napari_geosr.core.errors import DeviceMemoryError
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.types import AnyArray

#: Number of voxels for which faces are counted at a time.
_AT_ONCE = 2**20
#: Bytes for each voxel while a surface is extracted (smoothed shape, pieces, and thin
#: parts), and the margin that is added at each side of the volume, in voxels.
_BYTES_PER_VOXEL = 17
_MARGIN = 4
#: Bytes for each face (two triangles) between the phases; up to 400 were measured.
_BYTES_PER_FACE = 450
#: Additional bytes, which dominate for small volumes.
_FIXED_BYTES = 32_000_000
#: Bytes that the allocator keeps for later; identical runs differ by up to this amount.
_ALLOCATOR_BYTES = 20_000_000
#: Bytes for each face of a surface that is kept: two triangles and one vertex, which is
#: in float64 far from the origin.
_KEPT_BYTES = 50
#: Bytes for each face, and for each triangle that is kept, while the number of
#: triangles is reduced. For each triangle, fast-simplification stores a record of 168
#: bytes in an array that grows by doubling, and half a vertex of 120 bytes; the
#: remaining bytes were measured.
_REDUCED_BYTES = 1100
_REDUCED_KEPT_BYTES = 120
#: Requested number of triangles per face above which nothing is reduced: the surface
#: has fewer triangles than that.
_TRIANGLES_PER_FACE = 2.2
#: Factor by which the number of faces grows with each doubling of the resolution: 4 for
#: smooth surfaces, and more for rough ones.
_GROWTH = 4.3
#: Bytes for each voxel of a result in memory: its labels and, during a completion, the
#: complete shape and the completed part.
_RESULT_BYTES = 3
#: Bytes for each voxel of the common box of two shapes that are compared.
_COMPARED_BYTES = 56
#: Bytes for each face of the two shapes, for the corners of voxels on their surfaces:
#: the area that each corner represents, and its distance from the other surface.
_COMPARED_FACE_BYTES = 25


def count_faces(inside: AnyArray) -> int:
    """Count the voxel faces between the phases, and those on the border of the box.

    Examples
    --------
    >>> import numpy as np
    >>> count_faces(np.ones((2, 3, 4), bool))
    52
    """
    total = sum(
        int(np.count_nonzero(inside[(slice(None),) * axis + (end,)]))
        for axis in range(3)
        for end in (0, -1)
    )
    depth = max(1, _AT_ONCE // max(1, inside.shape[1] * inside.shape[2]))
    for start in range(0, inside.shape[0], depth):
        part = inside[start : start + depth]
        below = inside[start + 1 : start + depth + 1]
        total += int(np.count_nonzero(part[: len(below)] != below))
        total += int(np.count_nonzero(part[:, 1:] != part[:, :-1]))
        total += int(np.count_nonzero(part[:, :, 1:] != part[:, :, :-1]))
    return total


def bytes_for_surface(shape: Sequence[int], n_faces: int) -> int:
    """Return the bytes needed for the surface of a shape, in addition to its voxels.

    Parameters
    ----------
    shape : sequence of int
        Shape of the volume.
    n_faces : int
        Number of faces between the phases; see `count_faces`.
    """
    n_voxels = math.prod(n + 2 * _MARGIN for n in shape)
    return _BYTES_PER_VOXEL * n_voxels + _BYTES_PER_FACE * n_faces + _FIXED_BYTES


def bytes_for_reduction(n_faces: int, n_kept: int) -> int:
    """Return the bytes needed to reduce a surface to `n_kept` triangles.

    `n_faces` is the number of faces between the phases; see `count_faces`.
    """
    if n_kept > _TRIANGLES_PER_FACE * n_faces:
        return 0
    return _REDUCED_BYTES * n_faces + _REDUCED_KEPT_BYTES * n_kept + _FIXED_BYTES


def bytes_for_result(
    shape: Sequence[int], n_faces: int, factor: int = 1, computing: int = 0
) -> int:
    """Return the bytes needed for a result in memory, its surface and its figures.

    Parameters
    ----------
    shape : sequence of int
        Shape of the input.
    n_faces : int
        Number of faces of the input.
    factor : int
        Factor by which the resolution is increased.
    computing : int
        Bytes for computing the result, before its surface is extracted.
    """
    fine = [factor * n for n in shape]
    n_fine = int(n_faces * _GROWTH ** math.log2(factor))
    surface = bytes_for_surface(fine, n_fine) + _KEPT_BYTES * n_faces
    needed = _RESULT_BYTES * math.prod(fine) + max(surface, computing)
    return needed + _ALLOCATOR_BYTES


def bytes_for_comparison(n_voxels: int, n_faces: int) -> int:
    """Return the bytes needed to compare two shapes in a common box of `n_voxels`.

    `n_faces` is the number of faces of both shapes; see `count_faces`.
    """
    surfaces = _COMPARED_FACE_BYTES * n_faces
    return _COMPARED_BYTES * n_voxels + surfaces + _FIXED_BYTES


def check_free(needed: int, what: str, advice: str) -> None:
    """Raise `DeviceMemoryError` if less memory is free than needed."""
    free = free_host_memory()
    if needed > free:
        raise DeviceMemoryError(
            f"{what} needs {format_enough(needed)}, but {format_available(free)} is "
            f"free. {advice}"
        )


def check_surface_memory(inside: AnyArray, n_kept: int | None = None) -> None:
    """Check that there is enough memory to extract the surface of a shape.

    Parameters
    ----------
    inside : ndarray of bool
    n_kept : int, optional
        Number of triangles to which the surface is then reduced.

    Raises
    ------
    DeviceMemoryError
        If there is not enough memory.
    """
    n_faces = count_faces(inside)
    what = f"of {inside.size:,} voxels with {n_faces:,} faces at the surface"
    check_free(
        bytes_for_surface(inside.shape, n_faces),
        f"Extracting the surface {what}",
        "Close other programs, or crop the volume to the shape.",
    )
    if n_kept is not None:
        check_free(
            bytes_for_reduction(n_faces, n_kept),
            f"Reducing the surface {what} to {n_kept:,} triangles",
            "Keep all triangles (without --faces), close other programs, or crop the "
            "volume to the shape.",
        )


def check_comparison_memory(shape: AnyArray, reference: AnyArray) -> None:
    """Check that there is enough memory to compare two shapes on the same grid.

    Raises
    ------
    DeviceMemoryError
        If there is not enough memory.
    """
    n_voxels = 1
    for axis in range(shape.ndim):
        others = tuple(a for a in range(shape.ndim) if a != axis)
        where = np.flatnonzero(shape.any(others) | reference.any(others))
        n_voxels *= int(where[-1] - where[0]) + 3
    check_free(
        bytes_for_comparison(n_voxels, count_faces(shape) + count_faces(reference)),
        f"Comparing the shapes in a common box of {n_voxels:,} voxels",
        "Close other programs, or crop the volumes to the region of interest.",
    )
