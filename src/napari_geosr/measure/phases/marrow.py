"""The marrow cavity in a slice of a long bone, which trabeculae may divide."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
#: Holes that meet: two rows of their numbers, and the widths of the bone in between.
Gaps = tuple[Integers, Floats]

#: Minimum area of a part of a divided marrow cavity, as a fraction of the largest part.
_LEAST_PART = 0.02
#: Minimum area of a part of a divided marrow cavity, as a fraction of the area by which
#: it enlarges the convex outline around the cavity. For a round canal next to a larger
#: round cavity, this is about 0.3; for the parts of a cavity that thin trabeculae
#: divide, it is close to 1.
_LEAST_FILL = 0.5
#: If the area of all parts is at most this multiple of the area of the largest one, the
#: largest one is clearly the marrow, and the others may be canals next to it.
_MOST_CLEAR = 2.0


def marrow_parts(
    holes: npt.NDArray[np.int32],
    sizes: Integers,
    total: Mask,
    pixel: tuple[float, float],
) -> tuple[Integers, float]:
    """Return the holes that form the marrow cavity, and the widest gap between them.

    Two holes belong together if the bone between them is thinner than either hole, and
    thinner than the bone between either hole and the periosteal contour. If the largest
    hole is as large as the other ones together, each of them must also fill much of the
    area by which it enlarges the convex outline around the cavity; otherwise, the hole
    may be a canal.

    Parameters
    ----------
    holes : ndarray of int
        Number of the hole at each pixel, 0 for bone.
    sizes : ndarray of int
        Number of pixels of each hole.
    total : ndarray of bool
        Area inside the periosteal contour.
    pixel : tuple of 2 float
        Edges of a pixel.
    """
    first = int(sizes.argmax()) + 1
    large = np.flatnonzero(sizes >= _LEAST_PART * sizes.max()) + 1
    if len(large) == 1:
        return np.array([first]), 0.0
    gaps = _gaps(holes, large, total, pixel)
    corners = {}
    parts, widest = _connected(first, gaps)
    while sizes[parts - 1].sum() <= _MOST_CLEAR * sizes.max() and len(parts) > 1:
        for part in parts:
            if part not in corners:
                corners[part] = _corners(holes == part, pixel)
        areas: Floats = sizes[parts - 1] * np.float64(math.prod(pixel))
        fills = _fills([corners[part] for part in parts], areas)
        fills[parts == first] = np.inf
        if fills.min() >= _LEAST_FILL:
            break
        excluded = parts[fills.argmin()]
        kept = (gaps[0] != excluded).all(axis=0)
        gaps = gaps[0][:, kept], gaps[1][kept]
        parts, widest = _connected(first, gaps)
    return parts, widest


def _gaps(
    holes: npt.NDArray[np.int32],
    large: Integers,
    total: Mask,
    pixel: tuple[float, float],
) -> Gaps:
    """Return pairs of large holes that are separated by sufficiently thin bone."""
    from scipy import ndimage

    distances = partial(ndimage.distance_transform_edt, sampling=pixel)
    seeds = np.where(np.isin(holes, large), holes, 0)
    distance, nearest = distances(seeds == 0, return_indices=True)
    nearest_hole = seeds[tuple(nearest)]
    inside = seeds > 0
    depth = distances(np.pad(total, 1))[1:-1, 1:-1][inside]
    width = 2 * distances(inside)[inside]
    n = int(holes.max()) + 1
    depths, widths = np.full(n, np.inf), np.zeros(n)
    np.minimum.at(depths, seeds[inside], depth)
    np.maximum.at(widths, seeds[inside], width)
    widest = np.minimum(depths, widths)
    found = []
    for axis in (0, 1):
        hole, away = (np.moveaxis(array, axis, 0) for array in (nearest_hole, distance))
        met = hole[:-1] != hole[1:]
        pair = np.sort([hole[:-1][met], hole[1:][met]], axis=0)
        found.append([*pair, (away[:-1] + away[1:])[met]])
    i, j, gaps = np.concatenate(found, axis=1)
    i, j = i.astype(int), j.astype(int)
    near = np.flatnonzero(gaps < np.minimum(widest[i], widest[j]))
    near = near[np.argsort(gaps[near], kind="stable")]
    pairs, chosen = np.unique([i[near], j[near]], axis=1, return_index=True)
    return pairs, gaps[near][chosen]


def _connected(first: int, gaps: Gaps) -> tuple[Integers, float]:
    """Return the holes connected with hole `first`, and the widest gap between them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    pairs, widths = gaps
    n = max(first, int(pairs.max(initial=0))) + 1
    edges = coo_array((widths, pairs), shape=(n, n))
    tree = minimum_spanning_tree(edges.tocsr()).tocoo()
    _, component = connected_components(tree, directed=False)
    parts = np.flatnonzero(component == component[first])
    return parts, float(tree.data[np.isin(tree.row, parts)].max(initial=0.0))


def _corners(part: Mask, pixel: tuple[float, float]) -> Floats:
    """Return the corners of the first and last pixel of each row of a hole."""
    y = np.flatnonzero(part.any(axis=1))
    first = part[y].argmax(axis=1)
    last = part.shape[1] - part[y, ::-1].argmax(axis=1)
    places = [(y + dy, x) for dy in (0, 1) for x in (first, last)]
    corners: Floats = np.concatenate([np.stack(p, axis=1) for p in places]) * pixel
    return _hull(corners)[0]


def _hull(points: Floats) -> tuple[Floats, float]:
    """Return the corners of the convex outline around points, and its area."""
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points)
    return points[hull.vertices], float(hull.volume)  # in 2D, the "volume" is the area


def _fills(corners: list[Floats], areas: Floats) -> Floats:
    """Return the area of each part ÷ that by which it enlarges the outline."""
    ends = np.cumsum([0, *map(len, corners)])
    points = np.concatenate(corners)
    on_hull, whole = _hull(points)
    found = np.full(len(corners), np.inf)
    for k, own in enumerate(corners):
        if not (own[:, None] == on_hull).all(axis=2).any():
            continue  # without this part, the outline is the same
        rest = np.delete(points, np.s_[ends[k] : ends[k + 1]], axis=0)
        enlarged = whole - _hull(rest)[1]
        if enlarged > 0:
            found[k] = areas[k] / enlarged
    return found


def joined(parts: Mask, gap: float, total: Mask, pixel: tuple[float, float]) -> Mask:
    """Join the parts of a marrow cavity by a closing that includes the trabeculae.

    Parameters
    ----------
    parts : ndarray of bool
    gap : float
        Maximum thickness of the trabeculae.
    total : ndarray of bool
        Area inside the periosteal contour.
    pixel : tuple of 2 float
        Edges of a pixel.
    """
    from scipy import ndimage

    distances = partial(ndimage.distance_transform_edt, sampling=pixel)
    radius = gap / 2 + max(pixel)
    margin = math.ceil(radius / min(pixel)) + 1
    cavity = np.pad(parts, margin)
    grown = distances(~cavity) <= radius
    closed = distances(grown) > radius
    filled = ndimage.binary_fill_holes(closed | cavity)
    found: Mask = filled[margin:-margin, margin:-margin] & total
    return found
