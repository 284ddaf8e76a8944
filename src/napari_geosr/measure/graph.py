"""The graph of a network of thin tubes: nodes, branches, and what they join.

The phase is thinned to lines of voxels [1]_. Voxels with more than two neighbours are
junctions, which merge where they touch; the chains between them, and those that end
freely, are branches. Lengths are along the chains, smoothed over five voxels, because a
staircase of voxels is longer than the line it stands for. A free branch no longer than
the tube it leaves is thick comes from its rough surface and is left out.

References
----------
.. [1] Lee, Kashyap, Chu. Building skeleton models via 3-D medial surface/axis thinning
   algorithms. CVGIP: Graphical Models 56, 462-478 (1994). doi:10.1006/cgip.1994.1042
.. [2] Kollmannsberger et al. The small world of osteocytes: connectomics of the
   lacuno-canalicular network in bone. New J. Phys. 19, 073019 (2017).
   doi:10.1088/1367-2630/aa764b
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import MILLIMETRES

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Part of a branch that has to lie near the other graph for it to be found there.
COVERED = 0.8
#: How often spurs are taken away, and the rest thinned and traced again.
_ROUNDS = 3
#: Voxels on either side that a chain is smoothed over.
_SMOOTHED = 2
#: A chain that comes back to its junction after so few voxels is a part of it.
_SHORTEST_LOOP = 2
#: A tube counts as crossing a plane at less than 45° from the plane's normal.
_STEEP = math.sqrt(0.5)


@dataclass(frozen=True, eq=False)
class NetworkGraph:
    """Nodes and branches of a network, in physical lengths.

    Attributes
    ----------
    nodes : ndarray of shape (n, 3)
        Positions (z, y, x) of junctions, free ends and lone voxels.
    ends : ndarray of shape (m, 2), int
        The two nodes of each branch.
    paths : list of ndarray of shape (k, 3)
        Points of each branch from node to node.
    box : ndarray of shape (2, 3)
        First and last corner of the volume.
    unit : str
    joining : dict of int
        Components of the phase that join the two faces across Z, Y and X.
    voxel_size : tuple of float
    """

    nodes: Array
    ends: Indices
    paths: list[Array]
    box: Array
    unit: str
    joining: dict[str, int]
    voxel_size: tuple[float, ...]

    @cached_property
    def lengths(self) -> Array:
        """Length of each branch."""
        return np.array([float(steps_of(path).sum()) for path in self.paths])

    @property
    def length(self) -> float:
        """Of all branches."""
        return float(self.lengths.sum())

    @cached_property
    def degrees(self) -> Indices:
        """Branches that meet at each node; one that comes back counts twice."""
        return np.bincount(self.ends.ravel(), minlength=len(self.nodes))

    @property
    def junctions(self) -> int:
        """Nodes where three or more branches meet."""
        return int((self.degrees >= 3).sum())

    @property
    def free_ends(self) -> int:
        """Nodes where one branch ends."""
        return int((self.degrees == 1).sum())

    @property
    def mean_degree(self) -> float | None:
        """Branches that meet at a junction; None without junctions."""
        found = self.degrees[self.degrees >= 3]
        return float(found.mean()) if len(found) else None

    @property
    def mean_length(self) -> float | None:
        """Of a branch; None without branches."""
        return float(self.lengths.mean()) if self.paths else None

    @cached_property
    def components(self) -> int:
        """Parts of the graph that hang together."""
        return _n_components(len(self.nodes), self.ends)

    @property
    def loops(self) -> int:
        """Independent closed ways: branches - nodes + components."""
        return len(self.paths) - len(self.nodes) + self.components

    def crossing(self, axis: int) -> float:
        """Tubes that cross a plane normal to `axis`, at less than 45° from its normal.

        The median over the planes between voxels, so that ends near the faces, where
        thinning takes a piece of a tube away, do not count.
        """
        size = self.voxel_size[axis]
        planes = round((self.box[1, axis] - self.box[0, axis]) / size)
        counts = np.zeros(max(1, planes), np.intp)
        for path in self.paths:
            steps = np.diff(path, axis=0)
            steep = np.abs(steps[:, axis]) > _STEEP * np.linalg.norm(steps, axis=1)
            at = np.floor((path[:, axis] - self.box[0, axis]) / size - 0.5).astype(int)
            for i in np.flatnonzero(steep & (at[1:] != at[:-1])):
                low, high = sorted((at[i], at[i + 1]))
                counts[max(0, low + 1) : max(0, high + 1)] += 1
        # There is a plane between two voxels, and none after the last.
        return float(np.median(counts[: max(1, planes - 1)]))

    def tubules_per_mm2(self, axis: int) -> float | None:
        """:meth:`crossing` per mm² of the face; None where the unit is no length."""
        if self.unit not in MILLIMETRES:
            return None
        edges = np.delete(self.box[1] - self.box[0], axis)
        return self.crossing(axis) / float(np.prod(edges * MILLIMETRES[self.unit]))

    def to_json_dict(self) -> AnyDict:
        """The figures, JSON-serialisable; lengths in `unit`."""
        return {
            "nodes": len(self.nodes),
            "junctions": self.junctions,
            "free_ends": self.free_ends,
            "branches": len(self.paths),
            "components": self.components,
            "loops": self.loops,
            "mean_degree": self.mean_degree,
            "length": self.length,
            "mean_branch_length": self.mean_length,
            "unit": self.unit,
            "joining_components": dict(self.joining),
            "tubules_per_mm2": {
                letter: self.tubules_per_mm2(axis) for axis, letter in enumerate("ZYX")
            },
        }


@dataclass(frozen=True)
class GraphAgreement:
    """How well the branches of one graph are those of another.

    Attributes
    ----------
    distance : float
        Points nearer than this to the other graph's lines count as found there.
    length_precision, length_recall : float
        Part of the length found that is near true lines, and of the true length that is
        near found lines.
    branch_precision, branch_recall : float
        Part of the branches, each of which counts if 80 % of it are near the other's.
    """

    distance: float
    length_precision: float
    length_recall: float
    branch_precision: float
    branch_recall: float

    def to_json_dict(self) -> AnyDict:
        """The figures, JSON-serialisable."""
        return dict(vars(self))


def steps_of(path: Array) -> Array:
    """Lengths of the pieces of a path."""
    return np.asarray(np.linalg.norm(np.diff(path, axis=0), axis=1))


def network_graph(
    mask: Mask,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    unit: str = "pixel",
) -> NetworkGraph:
    """Trace the graph of a phase.

    Parameters
    ----------
    mask : ndarray of bool, (Z, Y, X) or (Y, X)
        True in the tubes; 26-connected (an image: 8).
    voxel_size, origin : sequence of float
        Along the axes of `mask`; the origin is the centre of the first voxel.
    unit : str
        Of both.
    """
    sizes, starts = _three(voxel_size, 1.0), _three(origin, 0.0)
    volume = mask if mask.ndim == 3 else mask[None]
    lines = _thinned(volume)
    traced = _Tracing(lines)
    thickness = _radius(volume, sizes)
    for _ in range(_ROUNDS):
        spurs = _spurs(traced, thickness, sizes)
        if not spurs:
            break
        lines[tuple(traced.voxels[np.concatenate(spurs)].T)] = False
        lines = _thinned(lines)
        traced = _Tracing(lines)
    nodes = traced.places * sizes + starts
    paths = [
        _smooth(traced.line(i) * sizes + starts) for i in range(len(traced.chains))
    ]
    box = np.stack(
        [starts - sizes / 2, starts + (np.array(volume.shape) - 0.5) * sizes]
    )
    return NetworkGraph(
        nodes=nodes,
        ends=np.array(traced.ends, np.intp).reshape(-1, 2),
        paths=paths,
        box=box,
        unit=unit,
        joining=joining_components(volume),
        voxel_size=tuple(sizes.tolist()),
    )


def _three(values: Sequence[float], first: float) -> Array:
    return np.array([first] * (3 - len(values)) + [float(v) for v in values])


def joining_components(mask: Mask) -> dict[str, int]:
    """Components that touch both faces across Z, Y and X."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    found = {}
    for axis, letter in enumerate("ZYX"):
        first, last = (np.unique(np.take(labels, i, axis)) for i in (0, -1))
        both = np.intersect1d(first, last, assume_unique=True)
        found[letter] = int(np.count_nonzero(both))
    return found


def _thinned(mask: Mask) -> Mask:
    from skimage.morphology import skeletonize

    if len(mask) == 1:
        return np.asarray(skeletonize(mask[0]) > 0)[None]
    return np.asarray(skeletonize(mask) > 0)


def _radius(mask: Mask, sizes: Array) -> Array:
    """Distance of every voxel to the surface; the volume's faces are none."""
    from scipy import ndimage

    if len(mask) == 1:
        found = ndimage.distance_transform_edt(mask[0], sampling=sizes[1:])[None]
    else:
        found = ndimage.distance_transform_edt(mask, sampling=sizes)
    return np.asarray(found)


class _Tracing:
    """Nodes and chains of voxels of a thinned phase.

    Attributes
    ----------
    voxels : ndarray of shape (n, 3)
        Of all lines.
    places : ndarray of shape (k, 3)
        Of the nodes, in voxels.
    chains : list of ndarray
        Of each branch, the numbers of its voxels between its nodes, in order.
    ends : list of (int, int)
        Its nodes.
    """

    def __init__(self, lines: Mask) -> None:
        self.voxels = np.argwhere(lines)
        self.chains: list[Indices] = []
        self.ends: list[tuple[int, int]] = []
        pairs = _neighbours(lines)
        degree = np.bincount(pairs.ravel(), minlength=len(self.voxels))
        self._is_junction = degree > 2
        self._near = _adjacency(pairs, len(self.voxels))
        self._node = np.full(len(self.voxels), -1, np.intp)
        self._places: list[Array] = []
        self._join_junctions(pairs)
        for voxel in np.flatnonzero(degree < 2):
            self._new_node(voxel)
        self._walk(degree)
        self.places = np.array(self._places).reshape(-1, 3)

    def line(self, branch: int) -> Array:
        """Points of a branch from node to node, in voxels."""
        first, last = (self.places[node] for node in self.ends[branch])
        middle = self.voxels[self.chains[branch]]
        return np.concatenate([first[None], middle, last[None]]).astype(np.float64)

    def _new_node(self, voxel: int) -> int:
        self._node[voxel] = len(self._places)
        self._places.append(self.voxels[voxel].astype(np.float64))
        return int(self._node[voxel])

    def _join_junctions(self, pairs: Indices) -> None:
        """Junctions that touch become one node, at their middle."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        members = np.flatnonzero(self._is_junction)
        if not len(members):
            return
        place = np.full(len(self.voxels), -1, np.intp)
        place[members] = np.arange(len(members))
        inner = place[pairs[self._is_junction[pairs].all(axis=1)]]
        weights = np.ones(len(inner), bool)
        n = len(members)
        matrix = coo_matrix((weights, (inner[:, 0], inner[:, 1])), shape=(n, n))
        number, labels = connected_components(matrix, directed=False)
        self._node[members] = labels
        for axis_sums in _means(self.voxels[members], labels, number):
            self._places.append(axis_sums)

    def _walk(self, degree: Indices) -> None:
        """Follow chains from every node, then what is left: rings without a node."""
        seen = np.zeros(len(self.voxels), bool)
        for start in np.flatnonzero(self._node >= 0):
            for step in self._near[start]:
                if self._node[step] >= 0:
                    # A free end without a chain; junctions that touch are one node.
                    if start < step and 1 in (degree[start], degree[step]):
                        self._add([], start, step)
                elif not seen[step]:
                    self._follow(start, step, seen)
        for start in np.flatnonzero((self._node < 0) & ~seen):
            if not seen[start]:
                self._new_node(start)
                seen[start] = True
                self._follow(start, self._near[start][0], seen)

    def _follow(self, start: int, step: int, seen: Mask) -> None:
        chain, before, here = [], start, step
        while self._node[here] < 0:
            chain.append(here)
            seen[here] = True
            onwards = [n for n in self._near[here] if n != before]
            before, here = here, onwards[0]
        self._add(chain, start, here)

    def _add(self, chain: list[int], start: int, end: int) -> None:
        ends = int(self._node[start]), int(self._node[end])
        in_a_junction = ends[0] == ends[1] and self._is_junction[start]
        if in_a_junction and len(chain) <= _SHORTEST_LOOP:
            return
        self.chains.append(np.array(chain, np.intp))
        self.ends.append(ends)


def _neighbours(lines: Mask) -> Indices:
    """Pairs of line voxels that touch, as numbers in the order of ``argwhere``."""
    padded = np.pad(lines, 1)
    flat = np.flatnonzero(padded)
    steps = np.array([1, padded.shape[2], padded.shape[1] * padded.shape[2]])
    found = []
    for offset in itertools.product((-1, 0, 1), repeat=3):
        jump = int(np.dot(offset, steps[::-1]))
        if jump <= 0:
            continue
        at = np.searchsorted(flat, flat + jump)
        there = at < len(flat)
        there[there] = flat[at[there]] == flat[there] + jump
        found.append(np.stack([np.flatnonzero(there), at[there]], axis=1))
    return np.concatenate(found) if found else np.zeros((0, 2), np.intp)


def _adjacency(pairs: Indices, n: int) -> list[list[int]]:
    near: list[list[int]] = [[] for _ in range(n)]
    for a, b in pairs.tolist():
        near[a].append(b)
        near[b].append(a)
    return near


def _means(points: Indices, labels: Indices, number: int) -> Array:
    counts = np.bincount(labels, minlength=number)
    sums = [np.bincount(labels, points[:, i], minlength=number) for i in range(3)]
    return np.stack(sums, axis=1) / counts[:, None]


def _n_components(n: int, ends: Indices) -> int:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if n == 0:
        return 0
    weights = np.ones(len(ends), bool)
    matrix = coo_matrix((weights, (ends[:, 0], ends[:, 1])), shape=(n, n))
    return int(connected_components(matrix, directed=False)[0])


def _spurs(traced: _Tracing, thickness: Array, sizes: Array) -> list[Indices]:
    """Chains, with their free ends, that are no longer than their tube is thick."""
    both = np.array(traced.ends, np.intp).ravel()
    degrees = np.bincount(both, minlength=len(traced.places))
    found = []
    for i, ends in enumerate(traced.ends):
        kinds = sorted(int(degrees[node]) for node in ends)
        if kinds[0] != 1 or kinds[1] < 3:
            continue
        free, joint = sorted(ends, key=lambda node: degrees[node])
        at = tuple(np.rint(traced.places[joint]).astype(int))
        if steps_of(traced.line(i) * sizes).sum() > thickness[at] + sizes.max():
            continue
        end = np.flatnonzero((traced.voxels == traced.places[free]).all(axis=1))
        found.append(np.concatenate([traced.chains[i], end]))
    return found


def _smooth(path: Array) -> Array:
    """Means over neighbouring points, fewer towards the ends, which stay."""
    n = len(path)
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(path, axis=0)])
    at = np.arange(n)
    reach = np.minimum(np.minimum(at, n - 1 - at), _SMOOTHED)
    counts = (2 * reach + 1)[:, None]
    return np.asarray((sums[at + reach + 1] - sums[at - reach]) / counts)


def graph_agreement(
    found: NetworkGraph, true: NetworkGraph, distance: float
) -> GraphAgreement:
    """Compare the branches of two graphs within what both volumes show.

    The voxels of the two may differ in size and place; units must be the same. Where
    one graph has no branch, its share is 1 if the other has none either, else 0.

    Parameters
    ----------
    distance : float
        In the unit of the graphs.
    """
    precision = _shares(found, true, distance)
    recall = _shares(true, found, distance)
    return GraphAgreement(distance, precision[0], recall[0], precision[1], recall[1])


def _shares(
    lines: NetworkGraph, other: NetworkGraph, distance: float
) -> tuple[float, float]:
    """Parts of the length, and of the branches, that lie near those of `other`."""
    from scipy.spatial import cKDTree

    spacing = min(distance, *other.voxel_size, *lines.voxel_size) / 2
    points = _cut([_dense(path, spacing) for path in other.paths], lines.box)
    own = _cut([_dense(path, spacing) for path in lines.paths], other.box)
    if not own:
        return float(not points), float(not points)
    if not points:
        return 0.0, 0.0
    tree = cKDTree(np.concatenate(points))
    near = [tree.query(part, distance_upper_bound=distance)[0] < np.inf for part in own]
    of_length = np.concatenate(near).mean()
    of_branches = np.mean([part.mean() >= COVERED for part in near])
    return float(of_length), float(of_branches)


def _cut(parts: list[Array], box: Array) -> list[Array]:
    """Points within a box; parts without any are left out."""
    kept = [part[((part >= box[0]) & (part <= box[1])).all(axis=1)] for part in parts]
    return [part for part in kept if len(part)]


def _dense(path: Array, spacing: float) -> Array:
    """Points along a path, evenly spaced, each standing for the same length."""
    along = np.concatenate([[0.0], np.cumsum(steps_of(path))])
    n = max(1, math.ceil(along[-1] / spacing))
    at = (np.arange(n) + 0.5) * along[-1] / n
    return np.stack([np.interp(at, along, path[:, i]) for i in range(3)], axis=1)
