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

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyDict
from napari_geosr.core.units import MILLIMETRES, PIXEL
from napari_geosr.measure.graph.tracing import SkeletonTrace

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: How often spurs are removed and the remaining lines thinned and traced again.
_ROUNDS = 3
#: Number of voxels on either side for smoothing a chain.
_SMOOTHED = 2
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
        """Total length of all branches."""
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
        """Mean length of a branch; None without branches."""
        return float(self.lengths.mean()) if self.paths else None

    @cached_property
    def components(self) -> int:
        """Number of connected parts of the graph."""
        return _n_components(len(self.nodes), self.ends)

    @property
    def loops(self) -> int:
        """Number of independent loops: branches - nodes + components."""
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
        """`crossing` per mm² of the face; None where the unit is no length."""
        if self.unit not in MILLIMETRES:
            return None
        edges = np.delete(self.box[1] - self.box[0], axis)
        return self.crossing(axis) / float(np.prod(edges * MILLIMETRES[self.unit]))

    def in_unit(self, unit: str) -> NetworkGraph:
        """The same graph with lengths in another unit of length."""
        if unit == self.unit:
            return self
        factor = MILLIMETRES[self.unit] / MILLIMETRES[unit]
        return replace(
            self,
            nodes=self.nodes * factor,
            paths=[path * factor for path in self.paths],
            box=self.box * factor,
            unit=unit,
            voxel_size=tuple(factor * size for size in self.voxel_size),
        )

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


def steps_of(path: Array) -> Array:
    """Lengths of the pieces of a path."""
    return np.asarray(np.linalg.norm(np.diff(path, axis=0), axis=1))


def network_graph(
    mask: Mask,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    unit: str = PIXEL,
    smallest: int = 1,
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
    smallest : int
        Components of fewer voxels are left out.
    """
    sizes, starts = _three(voxel_size, 1.0), _three(origin, 0.0)
    volume = mask if mask.ndim == 3 else mask[None]
    volume, joining = _components(volume, smallest)
    lines = _thinned(volume)
    traced = SkeletonTrace(lines)
    thickness = _radius(volume, sizes)
    for _ in range(_ROUNDS):
        spurs = _spurs(traced, thickness, sizes)
        if not spurs:
            break
        lines[tuple(traced.voxels[np.concatenate(spurs)].T)] = False
        lines = _thinned(lines)
        traced = SkeletonTrace(lines)
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
        joining=joining,
        voxel_size=tuple(sizes.tolist()),
    )


def _three(values: Sequence[float], first: float) -> Array:
    return np.array([first] * (3 - len(values)) + [float(v) for v in values])


def _components(mask: Mask, smallest: int) -> tuple[Mask, dict[str, int]]:
    """The phase without specks, and the components that join the faces of an axis."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if smallest > 1:
        large = np.bincount(labels.ravel()) >= smallest
        large[0] = False
        mask = large[labels]
        labels[~mask] = 0
    found = {}
    for axis, letter in enumerate("ZYX"):
        first, last = (np.unique(np.take(labels, i, axis)) for i in (0, -1))
        both = np.intersect1d(first, last, assume_unique=True)
        found[letter] = int(np.count_nonzero(both))
    return mask, found


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


def _smooth(path: Array) -> Array:
    """Means over neighbouring points, fewer towards the ends, which stay."""
    n = len(path)
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(path, axis=0)])
    at = np.arange(n)
    reach = np.minimum(np.minimum(at, n - 1 - at), _SMOOTHED)
    counts = (2 * reach + 1)[:, None]
    return np.asarray((sums[at + reach + 1] - sums[at - reach]) / counts)


def _n_components(n: int, ends: Indices) -> int:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if n == 0:
        return 0
    weights = np.ones(len(ends), bool)
    matrix = coo_matrix((weights, (ends[:, 0], ends[:, 1])), shape=(n, n))
    return int(connected_components(matrix, directed=False)[0])


def _spurs(traced: SkeletonTrace, thickness: Array, sizes: Array) -> list[Indices]:
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
