"""Checks whether a surface shows all parts of a shape: pieces, Euler number, extent."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.interruption import check_stop
from napari_geosr.core.types import AnyArray, AnyDict

#: Number of planes processed together to count voxels, faces, edges and corners.
_PLANES = 16
#: Number of triangles that are processed together to compute volumes.
_TRIANGLES = 2**18
#: Maximum distance, in voxels, by which a surface may end before the end of the shape,
#: because smoothing rounds corners.
_SHORTER = 1.0


@dataclass(frozen=True)
class VoxelTopology:
    """Pieces, Euler numbers and extent of the voxels of a shape.

    Attributes
    ----------
    pieces, euler : tuple of int
        Number of pieces and Euler number if voxels that touch at an edge or corner are
        connected, and if they are not.
    low, high : tuple of float
        Outer faces of the first and last voxels along Z, Y, X, in voxels.
    """

    pieces: tuple[int, int]
    euler: tuple[int, int]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class SurfaceMatch:
    """How a surface compares with its voxels.

    Attributes
    ----------
    voxels : VoxelTopology
    pieces : int
        Number of closed parts of the surface that enclose a volume.
    euler : float
        Euler number of the enclosed volume; an integer for closed surfaces.
    shorter : float
        Largest distance by which the extent of the surface along an axis falls short of
        that of the voxels, in voxels.
    n_lost : int
        Number of voxels in parts that the surface does not show.
    sharp : str
        Parts that were not smoothed although smoothing was requested: ``""``,
        ``"thin"`` or ``"all"``.
    """

    voxels: VoxelTopology
    pieces: int
    euler: float
    shorter: float
    n_lost: int = 0
    sharp: str = ""

    @property
    def keeps_pieces(self) -> bool:
        """Whether the surface has as many pieces as the voxels."""
        least, most = self.voxels.pieces
        return least <= self.pieces <= most

    @property
    def keeps_parts(self) -> bool:
        """Whether the surface shows all parts of the shape."""
        return self.keeps_pieces and not self.n_lost and self.shorter <= _SHORTER

    @property
    def losses(self) -> tuple[int, int, float]:
        """Numbers of missing voxels and wrong pieces, and missing extent, in voxels."""
        least, most = self.voxels.pieces
        wrong = max(0, least - self.pieces, self.pieces - most)
        return self.n_lost, wrong, max(0.0, self.shorter - _SHORTER)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Sentences for the user on parts that were not smoothed or that are lost."""
        return (*self.statements, *self.warnings)

    @property
    def statements(self) -> tuple[str, ...]:
        """Sentences on parts that were not smoothed."""
        if self.sharp == "thin":
            return (
                "Parts thinner than two voxels are not smoothed, because smoothing "
                "would remove or break them.",
            )
        if self.sharp == "all":
            return (
                "The shape is not smoothed, because smoothing would remove or break "
                "thin parts.",
            )
        return ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on parts of the shape that are lost or separated."""
        found = []
        least, most = self.voxels.pieces
        if self.n_lost:
            found.append(
                f"Thin parts ({self.n_lost:,} voxels) are missing from the surface."
            )
        if self.shorter > _SHORTER:
            found.append(
                f"The surface ends {self.shorter:.1f} voxels before the end of the "
                "shape."
            )
        if not self.keeps_pieces:
            fewer = self.pieces < least
            found.append(
                f"The surface consists of {self.pieces:,} closed parts, the shape of "
                f"{least if fewer else most:,} pieces: "
                + (
                    "pieces are missing or merged."
                    if fewer
                    else "thin parts are broken."
                )
            )
        elif self.pieces != least:
            found.append(
                f"The surface consists of {self.pieces:,} separate parts: it does not "
                "join all voxels that touch only at edges or corners."
            )
        elif not min(self.voxels.euler) <= self.euler <= max(self.voxels.euler):
            found.append(
                f"The Euler number of the surface is {self.euler:g}, that of the shape "
                f"{self.voxels.euler[0]:,}: tunnels or cavities differ."
            )
        return tuple(found)

    def to_dict(self) -> AnyDict:
        """Return the values, for JSON."""
        return {
            "keeps_parts": self.keeps_parts,
            "pieces": self.pieces,
            "voxel_pieces": self.voxels.pieces[0],
            "euler_number": self.euler,
            "voxel_euler_number": self.voxels.euler[0],
            "missing_voxels": self.n_lost,
            "shorter_by_voxels": round(self.shorter, 3),
            "not_smoothed": self.sharp or "none",
        }


def voxel_topology(inside: AnyArray) -> VoxelTopology:
    """Measure the pieces, Euler numbers and extent of a shape.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
        Voxels of the shape; at least one.

    Examples
    --------
    >>> import numpy as np
    >>> two = np.zeros((4, 4, 4), bool)
    >>> two[1, 1, 1] = two[2, 2, 2] = True  # they touch at a corner
    >>> found = voxel_topology(two)
    >>> found.pieces, found.euler, found.low, found.high
    ((1, 2), (1, 2), (0.5, 0.5, 0.5), (2.5, 2.5, 2.5))
    """
    from scipy.ndimage import label

    low, high = [], []
    for axis in range(3):
        where = np.flatnonzero(inside.any(tuple(a for a in range(3) if a != axis)))
        low.append(float(where[0]) - 0.5)
        high.append(float(where[-1]) + 0.5)
    whole, separate = (int(label(inside, s)[1]) for s in (np.ones((3, 3, 3)), None))
    return VoxelTopology(
        (whole, separate), euler_numbers(inside), tuple(low), tuple(high)
    )


def euler_numbers(inside: AnyArray) -> tuple[int, int]:
    """Return the Euler number with 26 neighbours per voxel, and that with 6.

    With 26 neighbours, voxels are closed cubes, and the corners, edges and faces that
    belong to at least one of them are counted. With 6 neighbours, those completely
    surrounded by voxels are counted. Both numbers are counted in slabs: scikit-image,
    which gives the same numbers, converts the whole mask to integers of 8 bytes.

    Examples
    --------
    >>> import numpy as np
    >>> ring = np.ones((1, 3, 3), bool)
    >>> ring[0, 1, 1] = False
    >>> euler_numbers(ring)
    (0, 0)
    """
    closed = opened = 0
    for start in range(-1, inside.shape[0], _PLANES):
        check_stop()
        stop = min(start + _PLANES, inside.shape[0])
        part = np.pad(inside[max(0, start) : stop + 1], ((0, 0), (1, 1), (1, 1)))
        missing = (int(start < 0), int(stop == inside.shape[0]))
        part = np.pad(part, (missing, (0, 0), (0, 0)))
        for axes in itertools.product((False, True), repeat=3):
            any_of = all_of = part
            for axis, is_joined in enumerate(axes):
                ends = [[slice(None)] * 3 for _ in range(2)]
                ends[0][axis], ends[1][axis] = slice(0, -1), slice(1, None)
                one, other = (tuple(end) for end in ends)
                if is_joined:
                    any_of = any_of[one] | any_of[other]
                    all_of = all_of[one] & all_of[other]
                else:  # leave out the last: padding, or a plane of the next block
                    any_of, all_of = any_of[one], all_of[one]
            sign = -1 if sum(axes) % 2 else 1
            closed -= sign * int(np.count_nonzero(any_of))
            opened += sign * int(np.count_nonzero(all_of))
    return closed, opened


def match_surface(
    vertices: AnyArray,
    faces: AnyArray,
    voxels: VoxelTopology,
    voxel_size: Sequence[float],
    origin: Sequence[float],
) -> SurfaceMatch:
    """Compare a surface with the voxels that it was extracted from.

    Parameters
    ----------
    vertices, faces : ndarray
        As in a `SurfaceMesh`.
    voxels : VoxelTopology
    voxel_size, origin : sequence of float
        As in the `Volume` of the voxels.
    """
    pieces, euler = _mesh_topology(vertices, faces)
    used = vertices[_used(len(vertices), faces)]
    place = (used - np.asarray(origin)) / np.asarray(voxel_size)
    short = [place.min(0) - np.array(voxels.low), np.array(voxels.high) - place.max(0)]
    return SurfaceMatch(voxels, pieces, euler, max(0.0, float(np.max(short))))


def _mesh_topology(vertices: AnyArray, faces: AnyArray) -> tuple[int, float]:
    """Count the parts that enclose a volume, and find the volume's Euler number."""
    from napari_geosr.measure.kernels.meshes import number_parts

    n = len(vertices)
    parts: AnyArray = np.empty(n, np.int32)
    n_parts = number_parts(np.ascontiguousarray(faces, np.int32), parts)
    volumes: AnyArray = np.zeros(n_parts)
    for start in range(0, len(faces), _TRIANGLES):
        some = faces[start : start + _TRIANGLES]
        corners = vertices[:, ::-1][some].astype(np.float64)
        cross = np.cross(corners[:, 1], corners[:, 2])
        each = np.einsum("ij,ij->i", corners[:, 0], cross)
        volumes += np.bincount(parts[some[:, 0]], each, n_parts)
    check_stop()
    keys = edge_keys(faces, n)
    keys.sort()
    n_edges = 1 + int(np.count_nonzero(keys[1:] != keys[:-1]))
    n_vertices = int(np.count_nonzero(_used(n, faces)))
    return int((volumes > 0).sum()), (n_vertices - n_edges + len(faces)) / 2


def _used(n: int, faces: AnyArray) -> AnyArray:
    """Tell which of `n` vertices belong to a triangle.

    Unlike `numpy.unique`, this function does not block other threads.
    """
    found: AnyArray = np.zeros(n, bool)
    found[faces.ravel()] = True
    return found


def edge_keys(faces: AnyArray, n: int, *, directed: bool = False) -> AnyArray:
    """Return a number for each edge of each triangle; `n` exceeds all vertex indices.

    The number is the same for both directions of an edge, unless `directed` is True.

    Examples
    --------
    >>> import numpy as np
    >>> edge_keys(np.array([[0, 1, 2], [2, 1, 3]]), 10).tolist()
    [1, 12, 12, 13, 2, 23]
    """
    keys: AnyArray = np.empty((3, len(faces)), np.int64)
    for key, (i, j) in zip(keys, ((0, 1), (1, 2), (2, 0)), strict=True):
        one, other = faces[:, i], faces[:, j]
        first, second = one, other
        if not directed:
            first, second = np.minimum(one, other), np.maximum(one, other)
        np.multiply(first, n, out=key, dtype=np.int64)
        key += second
    return keys.ravel()
