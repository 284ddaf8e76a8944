"""Traces lines of voxels from node to node."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]
Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

#: Maximum number of voxels in a loop that is merged into its junction.
_MAX_MERGED_LOOP = 2


class SkeletonTrace:
    """Nodes and chains of voxels of a thinned phase.

    Attributes
    ----------
    voxels : ndarray of shape (n, 3)
        Indices of the voxels of all lines.
    places : ndarray of shape (k, 3)
        Positions of the nodes, in voxels.
    chains : list of ndarray
        For each branch, the indices of the `voxels` between its nodes, in order.
    ends : list of (int, int)
        For each branch, the numbers of its two nodes.
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
        for voxel in np.flatnonzero(degree < 2).tolist():
            self._new_node(voxel)
        self._walk(degree)
        self.places = np.array(self._places).reshape(-1, 3)

    def line(self, branch: int) -> Array:
        """Return the points of a branch from node to node, in voxels."""
        first, last = (self.places[node] for node in self.ends[branch])
        middle = self.voxels[self.chains[branch]]
        return np.concatenate([first[None], middle, last[None]]).astype(np.float64)

    def _new_node(self, voxel: int) -> int:
        self._node[voxel] = len(self._places)
        self._places.append(self.voxels[voxel].astype(np.float64))
        return int(self._node[voxel])

    def _join_junctions(self, pairs: Indices) -> None:
        """Merge adjacent junctions into one node at their centre."""
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
        """Follow chains from every node, then the closed rings without a node."""
        visited = np.zeros(len(self.voxels), bool)
        for start in np.flatnonzero(self._node >= 0).tolist():
            for step in self._near[start]:
                if self._node[step] >= 0:
                    # A free end next to a node is a branch without a chain. Other
                    # adjacent node voxels belong to one junction.
                    if start < step and 1 in (degree[start], degree[step]):
                        self._add_branch([], start, step)
                elif not visited[step]:
                    self._follow_chain(start, step, visited)
        for start in np.flatnonzero((self._node < 0) & ~visited).tolist():
            if not visited[start]:
                self._new_node(start)
                visited[start] = True
                self._follow_chain(start, self._near[start][0], visited)

    def _follow_chain(self, start: int, step: int, visited: Mask) -> None:
        chain, before, here = [], start, step
        while self._node[here] < 0:
            chain.append(here)
            visited[here] = True
            onwards = [n for n in self._near[here] if n != before]
            before, here = here, onwards[0]
        self._add_branch(chain, start, here)

    def _add_branch(self, chain: list[int], start: int, end: int) -> None:
        ends = int(self._node[start]), int(self._node[end])
        is_in_junction = ends[0] == ends[1] and self._is_junction[start]
        if is_in_junction and len(chain) <= _MAX_MERGED_LOOP:
            return
        self.chains.append(np.array(chain, np.intp))
        self.ends.append(ends)


def _neighbours(lines: Mask) -> Indices:
    """Return pairs of adjacent line voxels, numbered in the order of ``argwhere``."""
    padded = np.pad(lines, 1)
    flat = np.flatnonzero(padded)
    steps = np.array([1, padded.shape[2], padded.shape[1] * padded.shape[2]])
    pairs = []
    for offset in itertools.product((-1, 0, 1), repeat=3):
        jump = int(np.dot(offset, steps[::-1]))
        if jump <= 0:
            continue
        at = np.searchsorted(flat, flat + jump)
        is_set = at < len(flat)
        is_set[is_set] = flat[at[is_set]] == flat[is_set] + jump
        pairs.append(np.stack([np.flatnonzero(is_set), at[is_set]], axis=1))
    return np.concatenate(pairs) if pairs else np.zeros((0, 2), np.intp)


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
