"""The closed surface of a shape as triangles, in physical coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray

#: Width of the smoothing that removes steps, in voxels.
SMOOTHING = 0.7
#: Largest relative difference between the volume of a mesh and that of its voxels.
VOLUME_TOLERANCE = 0.005
_MAX_TRIES = 8


@dataclass(frozen=True)
class SurfaceMesh:
    """A surface that consists of triangles.

    Attributes
    ----------
    vertices : ndarray of float32, shape (N, 3)
        Positions along Z, Y, X.
    faces : ndarray of int32, shape (M, 3)
        Vertices of each triangle. Seen from outside, with the axes in the order X, Y,
        Z, they are counter-clockwise.
    unit : str
    """

    vertices: AnyArray
    faces: AnyArray
    unit: str

    @property
    def volume(self) -> float:
        """Enclosed volume; meaningful for closed surfaces."""
        return mesh_volume(self.vertices, self.faces)


@dataclass(frozen=True)
class SurfaceCheck:
    """Whether a surface is closed.

    Attributes
    ----------
    n_open : int
        Number of edges that belong to one triangle only.
    n_shared : int
        Number of edges that belong to more than two triangles.
    n_reversed : int
        Number of edges between two triangles with opposite orientations.
    """

    n_open: int
    n_shared: int
    n_reversed: int

    @property
    def is_watertight(self) -> bool:
        """Whether each edge belongs to two triangles with the same orientation."""
        return not (self.n_open or self.n_shared or self.n_reversed)

    @property
    def sentence(self) -> str:
        """The result as a sentence for the user."""
        if self.is_watertight:
            return "The surface is closed (watertight)."
        found = [
            f"{n} edges {what}"
            for n, what in (
                (self.n_open, "at holes"),
                (self.n_shared, "where it touches itself"),
                (self.n_reversed, "between triangles with opposite orientations"),
            )
            if n
        ]
        return (
            f"The surface is not watertight: {', '.join(found)}. Repair it before "
            "printing."
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
    that the enclosed volume equals that of the voxels. Where the shape meets the faces
    of the box, it is closed.

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

    Examples
    --------
    >>> import numpy as np
    >>> mesh = extract_surface(np.ones((4, 4, 4), bool), (2, 2, 2), "mm", smoothing=0)
    >>> check_surface(mesh.faces).is_watertight
    True
    """
    from scipy.ndimage import gaussian_filter

    if not inside.any():
        raise VolumeError("The shape is empty: it has no surface. Check the label.")
    where = [
        np.flatnonzero(inside.any(tuple(a for a in range(3) if a != axis)))
        for axis in range(3)
    ]
    box = tuple(slice(int(w[0]), int(w[-1]) + 1) for w in where)
    margin = 1 + round(4 * smoothing)
    field = np.pad(inside[box], margin).astype(np.float32)
    if smoothing:
        field = gaussian_filter(field, smoothing)
    wanted = float(np.count_nonzero(inside))
    vertices, faces = _at_right_level(field, wanted)
    first = np.array([part.start for part in box]) - margin
    place = (vertices + first) * np.asarray(voxel_size) + np.asarray(origin)
    return SurfaceMesh(place.astype(np.float32), faces, unit)


def _at_right_level(field: AnyArray, wanted: float) -> tuple[AnyArray, AnyArray]:
    """Find the level at which a surface encloses `wanted` voxels, by bisection."""
    low, high, level = 0.02, 0.98, 0.5
    best: tuple[float, AnyArray, AnyArray] | None = None
    for _ in range(_MAX_TRIES):
        if level >= field.max():
            high, level = level, (low + level) / 2
            continue
        vertices, faces = _marched(field, level)
        volume = mesh_volume(vertices, faces)
        error = abs(volume / wanted - 1)
        if best is None or error < best[0]:
            best = error, vertices, faces
        if error <= VOLUME_TOLERANCE:
            break
        low, high = (low, level) if volume < wanted else (level, high)
        level = (low + high) / 2
    if best is None:
        raise VolumeError("The shape is too small for a surface. Smooth it less.")
    return best[1], best[2]


def _marched(field: AnyArray, level: float) -> tuple[AnyArray, AnyArray]:
    from skimage.measure import marching_cubes

    vertices, faces, _, _ = marching_cubes(field, level, allow_degenerate=False)
    if mesh_volume(vertices, faces) < 0:
        faces = faces[:, ::-1]
    return vertices, np.ascontiguousarray(faces, np.int32)


def mesh_volume(vertices: AnyArray, faces: AnyArray) -> float:
    """Return the signed volume of triangles (Z, Y, X), positive if facing outwards."""
    corners = vertices[:, ::-1].astype(np.float64)[faces]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def check_surface(faces: AnyArray) -> SurfaceCheck:
    """Check whether triangles form a closed surface."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges.astype(np.int64)
    width = int(edges.max(initial=0)) + 1
    undirected = np.sort(edges, 1) @ np.array([width, 1])
    directed = edges @ np.array([width, 1])
    _, counts = np.unique(undirected, return_counts=True)
    _, times = np.unique(directed, return_counts=True)
    n_shared = int((counts > 2).sum())
    return SurfaceCheck(
        n_open=int((counts == 1).sum()),
        n_shared=n_shared,
        n_reversed=max(0, int((times > 1).sum()) - n_shared),
    )
