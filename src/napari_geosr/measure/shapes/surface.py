"""The closed surface of a shape as triangles, in physical coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.interruption import check_stop
from napari_geosr.core.text.counts import counted
from napari_geosr.core.types import AnyArray
from napari_geosr.measure.shapes.marching import marched
from napari_geosr.measure.shapes.match import (
    SurfaceMatch,
    VoxelTopology,
    edge_keys,
    match_surface,
    voxel_topology,
)

#: Standard deviation of the smoothing that removes steps, in voxels.
SMOOTHING = 0.7
#: Largest relative difference between the volume of a mesh and that of its voxels.
VOLUME_TOLERANCE = 0.005
_MAX_TRIES = 12
#: Number of triangles that are processed together to compute a volume.
_TRIANGLES = 2**18
#: Largest distance between neighbouring float32 numbers, as a fraction of a voxel, at
#: which a surface in float32 is not distorted noticeably.
_MAX_ROUNDING = 0.05
#: Largest such distance for surfaces in memory, so that different vertices remain
#: different.
_MAX_KEPT_ROUNDING = 1e-4
#: Lowest and highest level of a surface in a smoothed mask with values from 0 to 1.
_LEVELS = (0.02, 0.98)
#: Parts of a surface that are not smoothed ("": none), in the order of the attempts.
_KINDS = ("", "thin", "all")
#: Level that is tried first.
_FIRST_LEVEL = 0.499


@dataclass(frozen=True)
class SurfaceMesh:
    """A surface that consists of triangles.

    Attributes
    ----------
    vertices : ndarray of float32, shape (N, 3)
        Positions along Z, Y, X; in float64 if they are so far from the origin that
        float32 would round them by more than 1/10 000 of a voxel.
    faces : ndarray of int32, shape (M, 3)
        Vertices of each triangle. Their order is counter-clockwise as seen from
        outside, with the axes in the order X, Y, Z.
    unit : str
    match : SurfaceMatch
        How the surface compares with the voxels.
    """

    vertices: AnyArray
    faces: AnyArray
    unit: str
    match: SurfaceMatch

    @property
    def volume(self) -> float:
        """Enclosed volume, in `unit` cubed; meaningful only for closed surfaces."""
        return mesh_volume(self.vertices, self.faces)


@dataclass(frozen=True)
class SurfaceCheck:
    """Whether a surface is closed.

    Attributes
    ----------
    n_open : int
        Number of edges that belong to an odd number of triangles: edges of holes.
    n_shared : int
        Number of edges that belong to more than two triangles.
    n_reversed : int
        Number of edges between an even number of triangles, more of which run along the
        edge in one direction than in the other.
    """

    n_open: int
    n_shared: int
    n_reversed: int

    @property
    def is_watertight(self) -> bool:
        """Whether each edge belongs to two triangles with the same orientation."""
        return self.separates and not self.n_shared

    @property
    def separates(self) -> bool:
        """Whether the surface separates an inside from an outside.

        Unlike a watertight surface, it may touch itself.
        """
        return not (self.n_open or self.n_reversed)

    @property
    def sentence(self) -> str:
        """The result as a sentence for the user."""
        if self.is_watertight:
            return "The surface is closed (watertight)."
        return (
            f"The surface is not watertight: {self.faults}. Repair it before printing."
        )

    @property
    def faults(self) -> str:
        """The number of edges of each kind that a watertight surface does not have."""
        return ", ".join(
            f"{counted(n, 'edge')} {what}"
            for n, what in (
                (self.n_open, "at holes"),
                (self.n_shared, "where it touches itself"),
                (self.n_reversed, "between triangles with opposite orientations"),
            )
            if n
        )


def extract_surface(
    inside: AnyArray,
    voxel_size: Sequence[float],
    unit: str,
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    smoothing: float = SMOOTHING,
) -> SurfaceMesh:
    """Extract the surface of a shape by marching cubes.

    The shape is smoothed to remove steps; the level of the surface is then chosen so
    that the enclosed volume equals that of the voxels. If smoothing removes or breaks
    parts of the shape, thin parts are left unsmoothed or, if this is not enough, the
    whole shape is. Where the shape meets the faces of the box, the surface is closed.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    voxel_size, origin : sequence of float
        As in a `Volume`.
    unit : str
    smoothing : float
        Standard deviation of the Gaussian in voxels; 0 keeps the steps.

    Raises
    ------
    VolumeError
        If the shape is empty.
    Cancelled
        If stopped in the context `interruptible`.

    Examples
    --------
    >>> import numpy as np
    >>> mesh = extract_surface(np.ones((4, 4, 4), bool), (2, 2, 2), "mm", smoothing=0)
    >>> check_surface(mesh.faces).is_watertight
    True
    """
    if not inside.any():
        raise VolumeError("The shape is empty: it has no surface. Check the label.")
    voxels = voxel_topology(inside)
    box = tuple(
        slice(int(low + 0.5), int(high + 0.5))
        for low, high in zip(voxels.low, voxels.high, strict=True)
    )
    margin = 1 + round(4 * smoothing)
    mask = np.pad(inside[box], margin)
    first = np.array([part.start for part in box]) - margin
    vertices, faces, match = _best_surface(mask, smoothing, voxels, first)
    place = (vertices + first) * np.asarray(voxel_size) + np.asarray(origin)
    if not is_rounded(place, voxel_size, _MAX_KEPT_ROUNDING):
        place = place.astype(np.float32)
    return SurfaceMesh(place, faces, unit, match)


def is_rounded(
    vertices: AnyArray, voxel_size: Sequence[float], limit: float = _MAX_ROUNDING
) -> bool:
    """Whether the spacing of positions in float32 exceeds a fraction of a voxel.

    By default, this fraction is 1/20.

    Examples
    --------
    >>> import numpy as np
    >>> is_rounded(np.array([[0, 0, 1e3]]), (0.005, 0.005, 0.005))
    False
    >>> is_rounded(np.array([[0, 0, 1e4]]), (0.005, 0.005, 0.005))
    True
    """
    spacing = np.spacing(np.abs(vertices).max(0).astype(np.float32))
    return bool((spacing > limit * np.asarray(voxel_size)).any())


def _best_surface(
    mask: AnyArray, smoothing: float, voxels: VoxelTopology, first: AnyArray
) -> tuple[AnyArray, AnyArray, SurfaceMatch]:
    """Smooth as much of a mask as possible without losing parts.

    Without smoothing, marching cubes keeps every voxel, because the centre of each
    voxel lies inside the surface.
    """
    from scipy.ndimage import gaussian_filter

    wanted = float(np.count_nonzero(mask))
    best: tuple[AnyArray, AnyArray, SurfaceMatch] | None = None
    field, level = mask.astype(np.float32), 0.5
    for sharp in _KINDS if smoothing else ("",):
        check_stop()
        if sharp == "all":
            field = mask.astype(np.float32)
        elif sharp == "thin":
            changed = _changed_thin_voxels(mask, field, level)
            field[changed] = mask[changed]
        elif smoothing:
            field = gaussian_filter(field, smoothing)
        found = _at_right_level(field, wanted)
        if found is None:
            continue
        vertices, faces, level = found
        check_stop()
        match = replace(
            match_surface(vertices, faces, voxels, (1, 1, 1), (-first).tolist()),
            n_lost=_count_lost(mask, field > level),
            sharp=sharp,
        )
        if best is None or match.losses < best[2].losses:
            best = vertices, faces, match
        if match.keeps_parts:
            break
    assert best is not None  # a mask has a surface
    return best


def _changed_thin_voxels(mask: AnyArray, field: AnyArray, level: float) -> AnyArray:
    """Return the voxels of thin parts and gaps that are on the wrong side of a surface.

    A part is thin where no cube of 2 × 2 × 2 voxels fits into it.
    """
    from scipy.ndimage import binary_opening

    block = np.ones((2, 2, 2), bool)
    thin = mask & ~binary_opening(mask, block)
    outside = ~mask
    thin |= (
        outside
        & ~binary_opening(np.pad(outside, 1, constant_values=True), block)[
            (slice(1, -1),) * 3
        ]
    )
    changed: AnyArray = thin & (mask != (field > level))
    return changed


def _count_lost(mask: AnyArray, shown: AnyArray) -> int:
    """Return the number of voxels in parts of a mask that are missing from a surface.

    A voxel is missing if neither it nor a neighbour in the mask is inside the surface.
    """
    from scipy.ndimage import binary_dilation

    kept = mask & shown
    if np.array_equal(kept, mask):
        return 0
    near = binary_dilation(kept, np.ones((3, 3, 3), bool))
    return int(np.count_nonzero(mask & ~near))


def _at_right_level(
    field: AnyArray, wanted: float
) -> tuple[AnyArray, AnyArray, float] | None:
    """Find the level at which a surface encloses `wanted` voxels, by bisection.

    None if the field does not exceed the lowest level.
    """
    low, high = _LEVELS[0], min(_LEVELS[1], float(field.max()))
    if low >= high:
        return None
    # Not exactly 0.5: in masks, diagonal neighbours would then touch.
    level = min(_FIRST_LEVEL, (low + high) / 2)
    best: tuple[AnyArray, AnyArray, float] | None = None
    smallest = np.inf
    for _ in range(_MAX_TRIES):
        check_stop()
        vertices, faces = _marched(field, level)
        volume = mesh_volume(vertices, faces)
        error = abs(volume / wanted - 1)
        if error < smallest:
            smallest, best = error, (vertices, faces, level)
        if error <= VOLUME_TOLERANCE:
            break
        low, high = (low, level) if volume < wanted else (level, high)
        level = (low + high) / 2
    return best


def _marched(field: AnyArray, level: float) -> tuple[AnyArray, AnyArray]:
    vertices, faces = marched(field, level)
    if mesh_volume(vertices, faces) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    return vertices, faces


def mesh_volume(vertices: AnyArray, faces: AnyArray) -> float:
    """Return the volume enclosed by triangles; negative if they face inwards."""
    # Relative to a vertex, because products of large positions would be rounded.
    origin = vertices[:1, ::-1].astype(np.float64)
    total = 0.0
    for start in range(0, len(faces), _TRIANGLES):
        some = faces[start : start + _TRIANGLES]
        corners = vertices[:, ::-1][some].astype(np.float64) - origin
        cross = np.cross(corners[:, 1], corners[:, 2])
        total += float(np.einsum("ij,ij->i", corners[:, 0], cross).sum())
    return total / 6


def check_surface(faces: AnyArray) -> SurfaceCheck:
    """Check whether triangles form a closed surface.

    Triangles of which two vertices are the same have no area and are ignored.

    Examples
    --------
    >>> import numpy as np
    >>> check_surface(np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [3, 2, 1]]))
    SurfaceCheck(n_open=0, n_shared=0, n_reversed=0)
    """
    faces = _without_collapsed(faces)
    width = int(faces.max(initial=0)) + 1
    edges, counts = np.unique(edge_keys(faces, width), return_counts=True)
    directed, times = np.unique(
        edge_keys(faces, width, directed=True), return_counts=True
    )
    # The key of an edge is that of its direction from the lower to the higher vertex.
    ascending = directed // width < directed % width
    rising: AnyArray = np.zeros(len(edges), np.int64)
    rising[np.searchsorted(edges, directed[ascending])] = times[ascending]
    is_even = counts % 2 == 0
    return SurfaceCheck(
        n_open=int((~is_even).sum()),
        n_shared=int((counts > 2).sum()),
        n_reversed=int((is_even & (2 * rising != counts)).sum()),
    )


def merged_surface(vertices: AnyArray, faces: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Merge equal vertices, and leave out the triangles that this collapses.

    If all vertices differ, the surface is returned as it is.

    Examples
    --------
    >>> import numpy as np
    >>> places = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 0]])
    >>> places, faces = merged_surface(places, np.array([[0, 1, 2], [1, 2, 3]]))
    >>> len(places), faces.tolist()
    (3, [[0, 2, 1]])
    """
    order = np.lexsort(vertices.T)
    ordered = vertices[order]
    is_new: AnyArray = np.ones(len(vertices), bool)
    is_new[1:] = (ordered[1:] != ordered[:-1]).any(1)
    if is_new.all():
        return vertices, faces
    number: AnyArray = np.empty(len(vertices), faces.dtype)
    number[order] = np.cumsum(is_new) - 1
    return ordered[is_new], _without_collapsed(number[faces])


def _without_collapsed(faces: AnyArray) -> AnyArray:
    """Leave out the triangles of which two vertices are the same."""
    first, second, third = faces.T
    kept = (first != second) & (second != third) & (third != first)
    found: AnyArray = faces[kept]
    return found
