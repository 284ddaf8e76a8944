"""The graph of a network of thin tubes: nodes and branches.

The phase is thinned to lines of voxels [1]_. Voxels with more than two neighbours are
junctions; adjacent junctions are merged. The chains between junctions, and those with a
free end, are branches. Lengths are measured along the chains after smoothing over five
voxels, because a staircase of voxels is longer than the line it represents. Free
branches not longer than the distance from their junction to the surface plus one voxel
are artefacts of a rough surface and are removed.

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
from napari_geosr.measure.comparison.centrelines import centrelines
from napari_geosr.measure.graph.tracing import SkeletonTrace

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Maximum number of rounds in which spurs are removed and the remaining lines traced.
_ROUNDS = 3
#: Number of voxels on either side that are averaged to smooth a chain.
_SMOOTHED = 2
#: Minimum cosine of the angle between a tube and the normal of a plane for the tube to
#: count as crossing the plane.
_MIN_COSINE = math.sqrt(0.5)


@dataclass(frozen=True, eq=False)
class NetworkGraph:
    """Nodes and branches of a network, in physical units.

    Attributes
    ----------
    nodes : ndarray of shape (n, 3)
        Positions (z, y, x) of junctions, free ends and isolated voxels.
    ends : ndarray of shape (m, 2), int
        The two nodes of each branch.
    paths : list of ndarray of shape (k, 3)
        Points of each branch from node to node.
    box : ndarray of shape (2, 3)
        Lowest and highest corner of the volume.
    unit : str
        Unit of all lengths.
    joining : dict of int
        Number of components of the phase that join opposite faces along Z, Y and X.
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
        return np.array([float(segment_lengths(path).sum()) for path in self.paths])

    @property
    def length(self) -> float:
        """Total length of all branches."""
        return float(self.lengths.sum())

    @cached_property
    def degrees(self) -> Indices:
        """Number of branch ends at each node; a loop counts twice."""
        return np.bincount(self.ends.ravel(), minlength=len(self.nodes))

    @property
    def junctions(self) -> int:
        """Number of nodes where three or more branches meet."""
        return int((self.degrees >= 3).sum())

    @property
    def free_ends(self) -> int:
        """Number of nodes where a single branch ends."""
        return int((self.degrees == 1).sum())

    @property
    def mean_degree(self) -> float | None:
        """Mean number of branches at a junction; None if there are no junctions."""
        degrees = self.degrees[self.degrees >= 3]
        return float(degrees.mean()) if len(degrees) else None

    @property
    def mean_length(self) -> float | None:
        """Mean length of a branch; None if there are no branches."""
        return float(self.lengths.mean()) if self.paths else None

    @cached_property
    def components(self) -> int:
        """Number of connected components of the graph."""
        return _n_components(len(self.nodes), self.ends)

    @property
    def loops(self) -> int:
        """Number of independent loops: branches − nodes + components."""
        return len(self.paths) - len(self.nodes) + self.components

    def crossing(self, axis: int) -> float:
        """Count the tubes that cross a plane at less than 45° from its normal.

        The normal is parallel to `axis`. The result is the median over the planes
        between voxels, because thinning shortens the tubes near the faces.
        """
        size = self.voxel_size[axis]
        planes = round((self.box[1, axis] - self.box[0, axis]) / size)
        counts = np.zeros(max(1, planes), np.intp)
        for path in self.paths:
            steps = np.diff(path, axis=0)
            steep = np.abs(steps[:, axis]) > _MIN_COSINE * np.linalg.norm(steps, axis=1)
            at = np.floor((path[:, axis] - self.box[0, axis]) / size - 0.5).astype(int)
            for i in np.flatnonzero(steep & (at[1:] != at[:-1])):
                low, high = sorted((at[i], at[i + 1]))
                counts[max(0, low + 1) : max(0, high + 1)] += 1
        # Planes lie only between voxels: there is none after the last voxel.
        return float(np.median(counts[: max(1, planes - 1)]))

    def tubules_per_mm2(self, axis: int) -> float | None:
        """Return `crossing` per mm² of the face; None if the voxel size is unknown."""
        if self.unit not in MILLIMETRES:
            return None
        edges = np.delete(self.box[1] - self.box[0], axis)
        return self.crossing(axis) / float(np.prod(edges * MILLIMETRES[self.unit]))

    def in_unit(self, unit: str) -> NetworkGraph:
        """Convert all lengths to another unit."""
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
        """Return the results in JSON-serialisable form; lengths in `unit`.

        For an image, the faces along Z and the tubes per area are omitted.
        """
        found: AnyDict = {
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
        }
        if "Z" in self.joining:
            found["tubules_per_mm2"] = {
                letter: self.tubules_per_mm2(axis) for axis, letter in enumerate("ZYX")
            }
        return found


def segment_lengths(path: Array) -> Array:
    """Return the lengths of the segments of a path."""
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
        True in the tubes; 26-connected (8-connected in an image).
    voxel_size, origin : sequence of float
        One value for each axis of `mask`; the origin is the centre of the first voxel.
    unit : str
        Unit of `voxel_size` and `origin`.
    smallest : int
        Minimum number of voxels of a component; smaller ones are removed.
    """
    sizes, starts = _padded_to_zyx(voxel_size, 1.0), _padded_to_zyx(origin, 0.0)
    volume = mask if mask.ndim == 3 else mask[None]
    volume, joining = _components(volume, smallest)
    lines = _thinned(volume)
    traced = SkeletonTrace(lines)
    thickness = _surface_distance(volume, sizes)
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


def _padded_to_zyx(values: Sequence[float], first: float) -> Array:
    return np.array([first] * (3 - len(values)) + [float(v) for v in values])


def _components(mask: Mask, smallest: int) -> tuple[Mask, dict[str, int]]:
    """Remove specks, and count the components that join opposite faces."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    if smallest > 1:
        large = np.bincount(labels.ravel()) >= smallest
        large[0] = False
        mask = large[labels]
        labels[~mask] = 0
    joining = {}
    for axis, letter in enumerate("ZYX"):
        if mask.shape[axis] == 1:
            continue  # an image has no faces along Z
        first, last = (np.unique(np.take(labels, i, axis)) for i in (0, -1))
        both = np.intersect1d(first, last, assume_unique=True)
        joining[letter] = int(np.count_nonzero(both))
    return mask, joining


def _thinned(mask: Mask) -> Mask:
    return centrelines(mask[0])[None] if len(mask) == 1 else centrelines(mask)


def _surface_distance(mask: Mask, sizes: Array) -> Array:
    """Compute the distance of voxels from the surface, ignoring the volume's faces."""
    from scipy import ndimage

    if len(mask) == 1:
        distance = ndimage.distance_transform_edt(mask[0], sampling=sizes[1:])[None]
    else:
        distance = ndimage.distance_transform_edt(mask, sampling=sizes)
    return np.asarray(distance)


def _smooth(path: Array) -> Array:
    """Smooth a path by a moving average; the window narrows towards the fixed ends."""
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
    """Find free chains not longer than the tube's radius + 1 voxel, and their ends."""
    both = np.array(traced.ends, np.intp).ravel()
    degrees = np.bincount(both, minlength=len(traced.places))
    spurs = []
    for i, ends in enumerate(traced.ends):
        kinds = sorted(int(degrees[node]) for node in ends)
        if kinds[0] != 1 or kinds[1] < 3:
            continue
        free, joint = sorted(ends, key=lambda node: degrees[node])
        at = tuple(np.rint(traced.places[joint]).astype(int))
        if segment_lengths(traced.line(i) * sizes).sum() > thickness[at] + sizes.max():
            continue
        end = np.flatnonzero((traced.voxels == traced.places[free]).all(axis=1))
        spurs.append(np.concatenate([traced.chains[i], end]))
    return spurs
