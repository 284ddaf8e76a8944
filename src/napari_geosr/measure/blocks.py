"""Labelling by slabs, joined across their faces: equal to labelling the whole.

Pass 1 labels each slab (`cc3d`), sums its table and joins labels of neighbouring
slabs in a union-find; pass 2 is one look-up per voxel. What is kept between slabs is
one plane of labels and one row of sums for each label of each slab.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.measure.crofton import PAIR_BITS, code_table, pair_weights
from napari_geosr.measure.kernels import columns as column

#: Voxels in a slab: few enough that cc3d, which keeps the GIL, returns in ≈ 20 ms.
SLAB_VOXELS = 1 << 22


def slab_thickness(source: Any, target: Any = None) -> int:
    """Planes per slab: about `SLAB_VOXELS`, whole chunks of `source` and `target`."""
    plane = max(1, math.prod(source.shape[1:]))
    planes = int(max(1, min(SLAB_VOXELS // plane, source.shape[0])))
    for array in (source, target):
        chunks = getattr(array, "chunks", None)
        if not chunks or array.shape[0] <= 1:
            continue
        chunk = max(chunks[0]) if isinstance(chunks[0], tuple) else int(chunks[0])
        # Whole chunks are read once; huge ones are worth cutting for the memory.
        if chunk * plane <= 16 * SLAB_VOXELS:
            planes = max(chunk, planes // chunk * chunk)
    return planes


@dataclass(frozen=True)
class RawTable:
    """Sums per pore, of every size, in the order of their first voxels.

    Attributes
    ----------
    rows : ndarray of shape (n, N_COLUMNS), int64
        Columns as numbered in `napari_geosr.measure.kernels.columns`.
    boundary : ndarray of shape (n, 2), float64
        Surface (flat: perimeter) and eight times the Euler number.
    lookup : ndarray of shape (n_provisional + 1,), uint32
        Row number + 1 of each provisional label; 0 for the background.
    """

    rows: np.ndarray
    boundary: np.ndarray
    lookup: np.ndarray

    @property
    def surface(self) -> np.ndarray:
        """Surface (flat: perimeter) of each pore."""
        values: np.ndarray = self.boundary[:, column.SURFACE]
        return values

    @property
    def euler_number(self) -> np.ndarray:
        """Euler number of each pore (int64)."""
        values: np.ndarray = self.boundary[:, column.EULER8].astype(np.int64) // 8
        return values


class SlabLabeller:
    """Takes the slabs of a volume in order and gives the table of the whole.

    Parameters
    ----------
    shape : tuple of 3 int
        Of the whole volume, (Z, Y, X).
    voxel_size : tuple of 3 float
    connectivity : {6, 26}
    flat : bool
        The volume is one image: perimeters instead of surfaces.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        voxel_size: tuple[float, float, float],
        connectivity: Literal[6, 26],
        *,
        flat: bool = False,
    ) -> None:
        self.shape = shape
        self.connectivity = connectivity
        self.flat = flat
        weights = pair_weights(voxel_size, flat=flat)
        self._tables = (PAIR_BITS, weights, code_table(weights, connectivity))
        self._n = 0
        self._z = 0
        self._parent = np.zeros(1 << 10, np.int64)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._contacts: list[tuple[np.ndarray, np.ndarray]] = []
        self._last_labels: np.ndarray | None = None
        self._last_sample: np.ndarray | None = None

    def add(
        self, pores: np.ndarray, sample: np.ndarray | None
    ) -> tuple[np.ndarray, int]:
        """Label the next slab.

        Parameters
        ----------
        pores : ndarray of shape (z, Y, X), bool
        sample : ndarray of shape (z, Y, X), bool, or None
            Where the sample is; None for everywhere.

        Returns
        -------
        labels : ndarray of shape (z, Y, X), uint32
            Labels of this slab, 1..n.
        offset : int
            To be added to them for provisional labels of the whole.
        """
        import cc3d

        from napari_geosr.measure.kernels import cells, runs

        labels, n = cc3d.connected_components(
            np.ascontiguousarray(pores).view(np.uint8),
            connectivity=self.connectivity,
            return_N=True,
            out_dtype=np.uint32,
        )
        offset = self._n
        self._n += n
        self._grow(offset, self._n)
        table = column.new_table(n)
        boundary = column.new_boundary(n)
        runs.sweep_runs(labels, self._z, table)
        top = self._z + len(labels) == self.shape[0]
        whole = top and self._z == 0
        contacts, weights = cells.sweep_cells(
            labels,
            np.ones((1, 1, 1), np.bool_) if sample is None else sample,
            sample is not None,
            (self._z == 0, top),
            self.connectivity == 26,
            self.flat,
            self._tables,
            table,
            boundary,
            self.connectivity == 6 and not whole,
        )
        self._keep(np.arange(offset, self._n + 1), table, boundary, contacts, weights)
        self._join(labels, offset, sample)
        self._z += len(labels)
        return labels, offset

    def _grow(self, start: int, end: int) -> None:
        if end >= len(self._parent):
            longer = np.zeros(max(2 * len(self._parent), end + 1), np.int64)
            longer[: len(self._parent)] = self._parent
            self._parent = longer
        self._parent[start + 1 : end + 1] = np.arange(start + 1, end + 1)

    def _keep(
        self,
        ids: np.ndarray,
        table: np.ndarray,
        boundary: np.ndarray,
        contacts: np.ndarray,
        weights: np.ndarray,
    ) -> None:
        self._parts.append((ids[1:], table[1:], boundary[1:]))
        if len(weights):
            pairs, inverse = np.unique(contacts, axis=0, return_inverse=True)
            total = np.bincount(inverse.reshape(-1), weights=weights)
            self._contacts.append((ids[pairs], total))

    def _join(self, labels: np.ndarray, offset: int, sample: np.ndarray | None) -> None:
        """Join the first plane to the last of the slab before; sweep between them."""
        from napari_geosr.measure.kernels import cells, joining

        first = labels[0].astype(np.int64)
        first[first > 0] += offset
        if self._last_labels is not None:
            below = self._last_labels
            joining.join_planes(below, first, self.connectivity, self._parent)
            pair, ids = joining.compact_planes(below, first, self._parent)
            pair_sample = np.ones((1, 1, 1), np.bool_)
            if sample is not None or self._last_sample is not None:
                everywhere = np.ones(first.shape, np.bool_)
                planes = (self._last_sample, None if sample is None else sample[0])
                pair_sample = np.stack([everywhere if p is None else p for p in planes])
            table = column.new_table(len(ids) - 1)
            boundary = column.new_boundary(len(ids) - 1)
            contacts, weights = cells.sweep_cells(
                pair,
                pair_sample,
                len(pair_sample) == 2,
                (False, False),
                self.connectivity == 26,
                self.flat,
                self._tables,
                table,
                boundary,
                self.connectivity == 6,
            )
            self._keep(ids, table, boundary, contacts, weights)
        last = labels[-1].astype(np.int64)
        last[last > 0] += offset
        self._last_labels = last
        self._last_sample = None if sample is None else sample[-1].copy()

    def finish(self) -> RawTable:
        """Merge what was kept; to be called after the last slab."""
        from napari_geosr.measure.kernels import joining

        if self._z != self.shape[0]:
            raise VolumeError(
                f"Only {self._z} of {self.shape[0]} planes were labelled; "
                "give all slabs."
            )
        n = self._n
        if len(self._parts) == 1:
            # One slab: its labels are final, and in the order of first voxels.
            _, rows, boundary = self._parts.pop()
            return RawTable(rows, boundary, np.arange(n + 1, dtype=np.uint32))
        roots = joining.roots_of(self._parent[: n + 1])
        is_root = roots == np.arange(n + 1)
        is_root[0] = False
        number = np.cumsum(is_root) * is_root
        row_of = number[roots]
        n = int(is_root.sum())
        rows = column.new_table(n)
        boundary = column.new_boundary(n)
        for ids, table, part in self._parts:
            target = row_of[ids]
            joining.merge_rows(table, part, target, column.MERGE_RULES, rows, boundary)
        for pairs, weights in self._contacts:
            # Two parts that face each other were each given a surface there; where
            # they are one pore, there is none.
            same = row_of[pairs[:, 0]] == row_of[pairs[:, 1]]
            np.subtract.at(
                boundary[:, column.SURFACE], row_of[pairs[same, 0]], 2 * weights[same]
            )
        self._parts.clear()
        order = np.argsort(rows[1:, column.FIRST], kind="stable")
        rank = np.zeros(n + 1, np.uint32)
        rank[order + 1] = np.arange(1, n + 1, dtype=np.uint32)
        return RawTable(rows[1:][order], boundary[1:][order], rank[row_of])
