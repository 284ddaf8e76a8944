"""Pore network by a watershed: pores, throats, coordination number."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step, run_to_end
from napari_geosr.core.units import MILLIMETRES, convert_length
from napari_geosr.measure.local_thickness.spheres import kernels
from napari_geosr.measure.phases import Mask, Phases, basins
from napari_geosr.measure.phases.findings import (
    Findings,
    LittleMemoryError,
    Quantity,
    coarse_remark,
    memory_remark,
)
from napari_geosr.measure.sums import SweepTotals

TITLE = "Pore network"
ABOUT = "Pores and throats by a watershed; coordination number, diameters."
CONVENTION = (
    "The pore space is divided at its constrictions by a watershed of the distance to "
    "the surface, smoothed by a Gaussian with a standard deviation of 0.4 voxels. The "
    "watershed starts from local maxima that are at least as far from each other as "
    "from the surface, and separated by a constriction: on every path between them, "
    "the largest sphere becomes smaller by at least 5 % and 0.4 voxels in radius. "
    "Maxima on saddles and plateaus, as in tubes, are left out (after Gostick 2017), "
    "but every connected part of the pore space has at least one pore. "
    "Two pores share a throat if some of their voxels share a face. The diameter of a "
    "pore is that of the largest sphere at its centre, up to the surface between "
    "voxels (estimated from the surrounding 7³ voxels); the diameter of a throat is "
    "that of the circle of the same area, 2 √(area ÷ π). The coordination "
    "number is the number of throats of a pore, averaged over pores that do not "
    "touch the border of the volume or of the sample."
)
SOURCES = (
    "Gostick JT. Versatile and efficient pore network extraction method using "
    "marker-based watershed segmentation. Phys Rev E 96:023307 (2017), description "
    "of the SNOW algorithm. doi:10.1103/PhysRevE.96.023307",
)
QUANTITIES = (
    Quantity("Net.Po.N", "pores of the network"),
    Quantity("Net.Th.N", "throats of the network"),
    Quantity(
        "Coordination", "mean number of throats per pore, excluding pores at the border"
    ),
    Quantity("Net.Po.Dm", "mean inscribed diameter of a pore", 1),
    Quantity("Net.Th.Dm", "mean diameter of a throat", 1),
)
#: Table of pores and throats, written to a file that OpenPNM can read.
TABLES = ("network",)
#: Bytes per voxel for distances, markers, labels and the queue of the watershed.
_BYTES_PER_VOXEL = 68
#: Bytes per voxel while the maxima are compared, without the queue.
_BYTES_WITH_BASINS = 36
#: Bytes per maximum: its position, radius and neighbours.
_BYTES_PER_MAXIMUM = 160
#: Bytes per voxel of a maximum.
_BYTES_PER_TOP = 50
#: Standard deviation of the Gaussian that smooths the distance map, in voxels.
_SMOOTH = 0.4
#: Smoothed depths that differ by no more than this, in voxels, count as equal: the
#: position of the surface between voxels is not estimated more accurately.
_EQUAL = 0.05
#: Minimum decrease in the radius of the largest sphere between two pores, in voxels:
#: along a tube of constant width, the radius varies by less.
_FALL = 0.4
#: Minimum decrease as a fraction of the radius of the narrower pore.
_RELATIVE_FALL = 0.05


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Divide the pore space into pores, and find the throats between them."""
    needed, available = (
        _BYTES_PER_VOXEL * math.prod(phases.shape),
        phases.available_bytes,
    )
    what, has_budget = "The pore network was", phases.budget is not None
    if needed > available:
        return Findings({}, [memory_remark(what, needed, has_budget=has_budget)])
    pores = phases.pores[:, :, :]
    around = pores if phases.sample is None else phases.space("pores")[:, :, :]
    space, around = (pores[0], around[0]) if phases.flat else (pores, around)
    if not space.any() or around.all():
        return Findings({}, ["There is no pore network: only one phase is present."])
    try:
        labels, diameters, centres = yield from divide_steps(
            space, around, phases.connectivity, phases.check, available
        )
    except LittleMemoryError as error:
        return Findings({}, [memory_remark(what, error.needed, has_budget=has_budget)])
    throats, areas = basins.throats(labels)
    at_faces = _at_faces(labels, len(diameters))
    at_sample = _at_sample(phases, labels, len(diameters))
    inner = ~np.any([*at_faces.values(), at_sample], axis=0)
    degree = np.bincount(throats.ravel(), minlength=len(diameters) + 1)[1:]
    wide = 2 * np.sqrt(areas / math.pi) if labels.ndim == 3 else areas
    values: dict[str, float | None] = {
        "Net.Po.N": len(diameters),
        "Net.Th.N": len(throats),
        "Coordination": float(degree[inner].mean()) if inner.any() else None,
        "Net.Po.Dm": float(diameters.mean()),
        "Net.Th.Dm": float(wide.mean()) if len(wide) else None,
    }
    remarks = []
    if not len(throats):
        remarks.append("Net.Th.Dm cannot be determined: there are no throats.")
    if not inner.any():
        remarks.append(
            "The coordination number cannot be determined: all pores touch the border."
        )
    remarks += coarse_remark("Net.Th.Dm", values["Net.Th.Dm"])
    table = _openpnm(phases, labels, diameters, centres, throats, areas)
    if phases.sample is not None:
        table["pore.sample_border"] = at_sample
    return Findings(values, remarks, tables={"network": table})


def _openpnm(
    phases: Phases,
    labels: npt.NDArray[np.int32],
    diameters: npt.NDArray[np.float64],
    centres: npt.NDArray[np.float64],
    throats: npt.NDArray[np.int64],
    areas: npt.NDArray[np.float64],
) -> dict[str, npt.NDArray[np.generic]]:
    """Return pores and throats under OpenPNM's names, in metres (or voxels)."""
    edge = phases.edge
    if phases.unit in MILLIMETRES:
        edge = convert_length(edge, phases.unit, "m")
    ndim = labels.ndim
    at = np.zeros((len(diameters), 3))
    at[:, 3 - ndim :] = centres
    at = at * edge + np.array(phases.origin) * (edge / phases.edge)
    span = np.linalg.norm(np.diff(at[throats - 1], axis=1)[:, 0], axis=1)
    wide = 2 * np.sqrt(areas / math.pi) if ndim == 3 else areas
    sizes = np.bincount(labels.ravel(), minlength=len(diameters) + 1)[1:]
    columns: dict[str, npt.NDArray[np.generic]] = {
        f"pore.coords[{i}]": at[:, 2 - i] for i in range(3)
    }
    columns["pore.inscribed_diameter"] = diameters * edge
    columns["pore.volume"] = sizes * edge**3
    columns["pore.region_label"] = np.arange(1, len(diameters) + 1)
    columns.update(_at_faces(labels, len(diameters)))
    columns |= {f"throat.conns[{i}]": throats[:, i] - 1 for i in range(2)}
    columns["throat.equivalent_diameter"] = wide * edge
    columns["throat.cross_sectional_area"] = areas * edge**2
    columns["throat.spacing"] = span
    return columns


def _at_faces(labels: npt.NDArray[np.int32], n: int) -> dict[str, Mask]:
    """Return which of `n` pores touch each face of the volume."""
    found = {}
    for axis in range(labels.ndim):
        for end, word in ((0, "min"), (-1, "max")):
            touches = np.zeros(n + 1, bool)
            touches[np.take(labels, end, axis)] = True
            found[f"pore.{'zyx'[3 - labels.ndim + axis]}{word}"] = touches[1:]
    return found


def _at_sample(phases: Phases, labels: npt.NDArray[np.int32], n: int) -> Mask:
    """Return which of `n` pores share a face with voxels outside the sample mask."""
    touches = np.zeros(n + 1, bool)
    if phases.sample is not None:
        sample = phases.sample[:, :, :]
        sample = sample[0] if phases.flat else sample
        for axis in range(labels.ndim):
            own, inside = np.moveaxis(labels, axis, 0), np.moveaxis(sample, axis, 0)
            touches[own[1:][~inside[:-1]]] = True
            touches[own[:-1][~inside[1:]]] = True
    return touches[1:]


Network = tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def divide(space: Mask, wide: Mask | None = None, connectivity: int = 26) -> Network:
    """Divide a pore space as `divide_steps` does, without reporting progress."""
    return run_to_end(divide_steps(space, wide, connectivity))


def divide_steps(
    space: Mask,
    wide: Mask | None = None,
    connectivity: int = 26,
    check: Callable[[], None] = lambda: None,
    available: int | None = None,
) -> Generator[Step, None, Network]:
    """Divide a pore space; return labels, inscribed diameters and centres, in voxels.

    Parameters
    ----------
    space : ndarray of bool, ([Z,] Y, X)
    wide : ndarray of bool, same shape, optional
        Mask in which the distance map is computed: the pore space with its
        continuation outside the sample; by default, `space`.
    connectivity : {6, 26}
        Neighbours that belong to the same part of the pore space.
    check : callable
        Raises `Cancelled` if the measurement is to stop; called between the stages,
        each of which takes up to half a minute for 400³ voxels.
    available : int, optional
        Available memory in bytes; by default, memory is not limited.

    Raises
    ------
    LittleMemoryError
        If the maxima of the distance map need more memory than is available.
    """
    # Where depths are equal, the division depends on the order of the axes.
    wide = space if wide is None else wide
    order = basins.AxisOrder.standard([space, wide])
    labels, diameters, centres = yield from _divided(
        order.turned(space), order.turned(wide), connectivity, check, available
    )
    places = order.restored_places(centres, space.shape)
    return order.restored(labels), diameters, places


def _divided(
    space: Mask,
    wide: Mask,
    connectivity: int,
    check: Callable[[], None],
    available: int | None,
) -> Generator[Step, None, Network]:
    """Divide a pore space as `divide_steps` does, in the given order of axes."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    yield StageStarted(0, 5, message="Dividing the pores at their throats")
    depths, nearest, depth = _depths(wide)
    yield BlockDone(1, 5)
    check()
    depth = depth.reshape(space.shape)
    smooth = ndimage.gaussian_filter(depth, _SMOOTH)
    tops, parts = _tops(space, smooth, connectivity)
    maxima, n = basins.Maxima.of(tops), len(parts)
    needed = _BYTES_WITH_BASINS * space.size + _BYTES_PER_MAXIMUM * n
    needed += _BYTES_PER_TOP * len(maxima.at)
    if available is not None and needed > available:
        raise LittleMemoryError(needed)
    yield BlockDone(2, 5)
    check()
    labels = watershed(-smooth, tops, mask=space)
    yield BlockDone(3, 5)
    check()
    pairs, passes = basins.passes(labels, smooth)
    del labels
    kept = _prominent(
        _inscribed(depths, nearest, maxima.highest(smooth)) / 2,
        pairs,
        _inscribed(depths, nearest, passes) / 2,
    )
    places, deepest = maxima.centres, maxima.highest(depth)
    heights = depth.ravel()[deepest].astype(np.float64)
    kept[kept] = _apart(places[kept], heights[kept])
    kept |= _highest_of_lost(parts, heights, kept)
    table = np.zeros(n + 1, np.int32)
    table[1:][kept] = np.arange(1, kept.sum() + 1)
    tops = table[tops]
    yield BlockDone(4, 5)
    check()
    labels = _flooded(smooth, tops, space, connectivity)
    middles = _middles(places[kept], maxima.sizes[kept], smooth)
    yield BlockDone(5, 5)
    check()
    return labels, _inscribed(depths, nearest, deepest[kept]), middles


def _middles(
    places: npt.NDArray[np.float64],
    sizes: npt.NDArray[np.int64],
    smooth: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """Return the centres of maxima, including adjacent voxels of about the same depth.

    If a pore is symmetric about a face between voxels, two voxels are equally deep, but
    small errors of their depths leave only one of them as the maximum.

    Parameters
    ----------
    places : ndarray of shape (n, ndim)
        Centres of the maxima, in voxels.
    sizes : ndarray of shape (n,)
        Numbers of their voxels.
    smooth : ndarray
        Smoothed depths.
    """
    found = places.copy()
    first, last = np.floor(places).astype(int), np.ceil(places).astype(int)
    # Longer maxima, as in tubes, are left unchanged.
    for i in np.flatnonzero(np.prod(last - first + 1, axis=1) == sizes):
        starts = np.maximum(first[i] - 1, 0)
        part = smooth[
            tuple(slice(a, b + 2) for a, b in zip(starts, last[i], strict=True))
        ]
        equal = np.argwhere(part >= smooth[tuple(first[i])] - _EQUAL)
        found[i] = starts + equal.mean(axis=0)
    return found


def _tops(
    space: Mask, smooth: npt.NDArray[np.float32], connectivity: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Return the numbered local maxima of the smoothed distances in a pore space.

    Outside the pore space, `smooth` is set to its minimum.

    Returns
    -------
    tops : ndarray of int32
        Number of each maximum, from 1; 0 elsewhere.
    parts : ndarray of shape (n,)
        Number of the connected part of the pore space in which each maximum lies.
    """
    from scipy import ndimage

    # Depths can be negative in pores of one voxel, which must not be lost.
    smooth[~space] = smooth.min() - 1
    is_top = smooth == ndimage.maximum_filter(smooth, size=3)
    is_top &= space
    neighbours = ndimage.generate_binary_structure(
        space.ndim, 1 if connectivity == 6 else space.ndim
    )
    components, n_parts = ndimage.label(space, neighbours)
    found = np.zeros(n_parts + 1, bool)
    found[components[is_top]] = True
    if len(without := np.flatnonzero(~found[1:]) + 1):
        # With 6 neighbours, a higher voxel may belong to another part.
        at = ndimage.maximum_position(smooth, components, without)
        is_top[tuple(np.transpose(at))] = True
    tops, n = ndimage.label(is_top, neighbours)
    parts = np.zeros(n + 1, np.int64)
    parts[tops[is_top]] = components[is_top]
    return tops, parts[1:]


def _flooded(
    smooth: npt.NDArray[np.float32],
    tops: npt.NDArray[np.int32],
    space: Mask,
    connectivity: int,
) -> npt.NDArray[np.int32]:
    """Return the basins of maxima, which grow through the faces of voxels.

    With 26 neighbours, they also grow through edges and corners, but only into voxels
    that they cannot reach through faces.
    """
    from scipy import ndimage
    from skimage.segmentation import watershed

    labels: npt.NDArray[np.int32] = watershed(-smooth, tops, mask=space)
    labels = labels.astype(np.int32, copy=False)
    rest = (labels == 0) & space
    if connectivity == 26 and rest.any():
        near = ndimage.binary_dilation(rest, np.ones((3,) * space.ndim)) & space
        seeds = np.where(near, labels, 0)
        grown = watershed(-smooth, seeds, connectivity=space.ndim, mask=near)
        labels[rest] = grown[rest]
    return labels


def _highest_of_lost(
    parts: npt.NDArray[np.int64], heights: npt.NDArray[np.float64], kept: Mask
) -> Mask:
    """Return the highest maximum in each part of the pore space where none is kept."""
    chosen = np.zeros(len(kept), bool)
    lost = np.flatnonzero(~np.isin(parts, parts[kept]))
    order = lost[np.lexsort((-heights[lost], parts[lost]))]
    _, first = np.unique(parts[order], return_index=True)
    chosen[order[first]] = True
    return chosen


def _depths(
    room: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], basins.Depths]:
    """Return distances to the surface, the nearest outside voxels, and depths.

    The surface is located between voxels, as for the local thickness. Where several
    outside voxels are equally near, the distances are those at one of them (the radii
    of spheres are calibrated for these), whereas the depths are the shortest distances,
    in voxels.
    """
    distances, surface = kernels().distances, kernels().surface
    patterns = room.astype(np.uint8).reshape((-1, *room.shape[-2:]))
    lengths = np.empty(patterns.shape, np.int32)
    nearest = np.empty_like(lengths)
    distances.squared_distances(patterns, lengths, nearest)
    surface.to_patterns(patterns)
    surface.locate(patterns, lengths)
    shortest = lengths.copy()
    surface.to_nearest_surface(shortest, nearest)
    depths = shortest.astype(np.float32)
    depths /= surface.STEPS
    surface.to_surface(lengths, nearest)
    return lengths, nearest, depths


def _prominent(
    heights: npt.NDArray[np.float64],
    pairs: npt.NDArray[np.int64],
    passes: npt.NDArray[np.float64],
) -> Mask:
    """Return which maxima are separated by a constriction from all higher ones.

    The other maxima lie on a plateau, a ridge or a saddle, as in tubes of constant
    width.

    Parameters
    ----------
    heights : ndarray of shape (n,)
        Radius of the largest sphere at every maximum, in voxels.
    pairs : ndarray of shape (m, 2)
        Pairs of maxima with adjacent basins, numbered from 1.
    passes : ndarray of shape (m,)
        Radius of the largest sphere at the pass between two basins.
    """
    kept = np.ones(len(heights), bool)
    highest = list(range(len(heights)))
    # Join basins, beginning with the widest pass. Of two maxima, keep the lower one
    # only if it is clearly wider than the pass.
    for k in np.argsort(-passes, kind="stable"):
        low, high = (_root(highest, int(i)) for i in pairs[k] - 1)
        if low == high:
            continue
        if (heights[low], -low) > (heights[high], -high):
            low, high = high, low
        fall = max(_FALL, _RELATIVE_FALL * heights[low])
        kept[low] = heights[low] - passes[k] >= fall
        highest[low] = high
    return kept


def _root(parents: list[int], i: int) -> int:
    """Return the root of an element, and shorten the path to it."""
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


def _apart(places: npt.NDArray[np.float64], heights: npt.NDArray[np.float64]) -> Mask:
    """Return which maxima are not within the sphere of a higher maximum.

    Maxima are visited in descending order of height. Each maximum that has not been
    dropped is kept, and all other maxima are dropped if their distance from it does not
    exceed its height.
    """
    from scipy.spatial import cKDTree

    tree, kept = cKDTree(places), np.ones(len(places), bool)
    for i in np.argsort(-np.asarray(heights), kind="stable"):
        if kept[i]:
            for j in tree.query_ball_point(places[i], heights[i]):
                if j != i and heights[j] <= heights[i]:
                    kept[j] = False
    return kept


def _inscribed(
    depths: npt.NDArray[np.int32],
    nearest: npt.NDArray[np.int32],
    centres: basins.Integers,
) -> npt.NDArray[np.float64]:
    """Return the diameter of the largest sphere near each centre (a flat index)."""
    found, sphere = np.empty(len(centres)), np.empty(4)
    memory = np.empty((7, 27)), np.empty(27, np.int64)
    for i, (z, y, x) in enumerate(basins.positions(centres, depths.shape)):
        kernels().walls.fit_sphere(depths, nearest, z, y, x, True, *memory, sphere)
        found[i] = 2 * sphere[3]
    return found
