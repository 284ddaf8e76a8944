"""Label volumes slab by slab, with the same result as labelling them as a whole.

Pass 1 labels each slab (`cc3d`), accumulates its table of pores and joins labels of
adjacent slabs in a union-find; pass 2 is one look-up per voxel. The state between slabs
consists of one plane of labels, the rows of pores that may continue, and one row for
each completed pore that is large enough.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.slabs.part import (
    SlabPart,
    SlabRules,
    label_slab,
    summed_contacts,
)
from napari_geosr.measure.small_pores import SmallPores

#: Number of voxels in a slab: few enough that cc3d, which holds the GIL, returns in
#: about 20 ms.
SLAB_VOXELS = 1 << 22
#: Number of labels in use above which completed pores are released for the first time.
_MIN_COMPACTION_LABELS = 1 << 15


def check_real(dtype: npt.DTypeLike | None, name: str) -> None:
    """Raise `VolumeError` unless `dtype` holds real numbers of up to 64 bits."""
    if np.dtype(dtype).kind == "f" and np.dtype(dtype).itemsize > 8:
        raise VolumeError(
            f"{name!r} contains extended floating-point values ({np.dtype(dtype)}), "
            "which cannot be measured. Convert it to float64 or float32 first."
        )
    if np.dtype(dtype).kind not in "biuf":
        raise VolumeError(
            f"{name!r} contains values of type {np.dtype(dtype)}; porosity needs "
            "real grey values. Convert them first, for example to their magnitude."
        )


def blocks_along_z(shape: tuple[int, ...], thickness: int) -> list[slice]:
    """Return slices of at most `thickness` planes along the first axis."""
    return [
        slice(z, min(z + thickness, shape[0])) for z in range(0, shape[0], thickness)
    ]


def inside_mask(values: np.ndarray) -> np.ndarray:
    """Select the voxels inside a sample mask: those that are neither 0 nor NaN."""
    inside: np.ndarray = values != 0
    if values.dtype.kind == "f":
        inside &= ~np.isnan(values)
    return inside


def slab_thickness(source: Any, target: Any = None) -> int:
    """Return the number of planes per slab, in whole chunks of the arrays.

    A slab has about `SLAB_VOXELS` voxels, or the planes of one chunk if these have
    more; only huge chunks are divided.
    """
    plane = max(1, math.prod(source.shape[1:]))
    planes = int(max(1, min(SLAB_VOXELS // plane, source.shape[0])))
    for array in (source, target):
        chunk = chunk_thickness(array)
        # Use whole chunks, so that each is read only once, unless they are huge.
        if chunk * plane <= 16 * SLAB_VOXELS:
            planes = max(chunk, planes // chunk * chunk)
    return planes


def chunk_thickness(array: Any) -> int:
    """Return the number of planes per chunk of a chunked array; 1 for other arrays."""
    chunks = getattr(array, "chunks", None)
    if not chunks or array.shape[0] <= 1:
        return 1
    return max(chunks[0]) if isinstance(chunks[0], tuple) else int(chunks[0])


def _no_rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a table without rows: indices, sums and boundary."""
    return np.zeros(0, np.int64), column.new_table(-1), column.new_boundary(-1)


def _no_contacts() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)


def _joined(parts: Sequence[tuple[np.ndarray, ...]]) -> Any:
    """Concatenate tuples of arrays into one tuple."""
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


@dataclass(frozen=True)
class RawTable:
    """Sums for each pore, in the order of the pores' first voxels.

    Attributes
    ----------
    rows : ndarray of shape (n, N_COLUMNS), int64
        Columns as numbered in `napari_geosr.measure.kernels.columns`.
    boundary : ndarray of shape (n, 2), float64
        Surface (image: perimeter) in physical units, and eight times the Euler number.
    lookup : ndarray of shape (n_provisional + 1,), uint32
        Row number + 1 of each provisional label; 0 for the background and for pores too
        small for a row.
    small : SmallPores
        Totals of the pores that are too small for a row.
    """

    rows: np.ndarray
    boundary: np.ndarray
    lookup: np.ndarray
    small: SmallPores = field(default_factory=SmallPores)

    @property
    def surface(self) -> np.ndarray:
        """Surface (image: perimeter) of each pore, in physical units."""
        values: np.ndarray = self.boundary[:, column.SURFACE]
        return values

    @property
    def euler_number(self) -> np.ndarray:
        """Euler number of each pore (int64)."""
        values: np.ndarray = self.boundary[:, column.EULER8].astype(np.int64) // 8
        return values


def _kernels() -> tuple[ModuleType, ModuleType]:
    """Import the compiled modules on first use, because numba loads slowly."""
    from napari_geosr.measure.kernels import cells, joining

    return cells, joining


class SlabLabeller:
    """Labels the slabs of a volume in order and returns the table of all pores.

    Parameters
    ----------
    shape : tuple of 3 int
        Shape of the whole volume, (Z, Y, X).
    voxel_size : tuple of 3 float
    connectivity : {6, 26}
    flat : bool
        Whether the volume is a single image; perimeters then replace surfaces.
    min_voxels : int
        Minimum number of voxels for a row; smaller pores are only summed.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        voxel_size: tuple[float, float, float],
        connectivity: Literal[6, 26],
        *,
        flat: bool = False,
        min_voxels: int = 0,
    ) -> None:
        self.shape = shape
        self.min_voxels = min_voxels
        self.rules = SlabRules.of(shape, voxel_size, connectivity, flat=flat)
        #: Factors that convert the integers of the boundary table to values, by column.
        self._units = np.array([self.rules.unit, 1.0])
        self._z = 0
        #: Number of labels used so far, and number of open pores (labels 1 … n_open).
        self._n = self._n_open = 0
        self._parent = np.zeros(1 << 10, np.int64)
        #: Provisional label of each open pore, indexed by its current label.
        self._provisional = np.zeros(1, np.int64)
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [_no_rows()]
        self._contacts: list[tuple[np.ndarray, np.ndarray]] = [_no_contacts()]
        self._last_labels: np.ndarray | None = None
        self._last_sample: np.ndarray | None = None
        self._compaction_limit = _MIN_COMPACTION_LABELS
        #: Completed pores: their rows in both tables, the number of these pores, and
        #: the row number (from 1; 0: no row) of each provisional label.
        self._complete: list[tuple[np.ndarray, np.ndarray]] = [
            (column.new_table(-1), np.zeros((0, column.N_BOUNDARY_COLUMNS)))
        ]
        self._n_complete = 0
        self._row_of = np.zeros(1, np.uint32)
        self._small = SmallPores()

    def add(
        self, pores: np.ndarray, sample: np.ndarray | None
    ) -> tuple[np.ndarray, int]:
        """Label the next slab.

        Parameters
        ----------
        pores : ndarray of shape (z, Y, X), bool
        sample : ndarray of shape (z, Y, X), bool, or None
            Sample mask; None if all voxels belong to the sample.

        Returns
        -------
        labels : ndarray of shape (z, Y, X), uint32
            Labels of this slab, 1..n.
        offset : int
            Number to add to the labels to get provisional labels of the whole volume.
        """
        labels, part = label_slab(pores, sample, self._z, self.rules)
        return labels, self.join(part)

    def join(self, part: SlabPart) -> int:
        """Join the next slab, labelled by `label_slab`, to the previous slabs.

        Returns
        -------
        int
            Number to add to the slab's labels to get provisional labels of the volume.
        """
        offset, first = self._n, self._n_open
        self._n += part.n
        self._grow(part.n)
        ids = np.arange(first, self._n_open + 1)
        self._keep(ids, part.table, part.boundary, part.pairs, part.weights)
        self._join_planes(part, first)
        self._z += part.n_planes
        if self._n_open > self._compaction_limit:
            self._release_complete()
            self._compaction_limit = max(_MIN_COMPACTION_LABELS, 2 * self._n_open)
        return offset

    def _grow(self, n: int) -> None:
        """Make room for `n` more labels, each of them a root of the union-find."""
        start, end = self._n_open, self._n_open + n
        if end >= len(self._parent):
            longer = np.zeros(max(2 * len(self._parent), end + 1), np.int64)
            longer[: len(self._parent)] = self._parent
            self._parent = longer
        self._parent[start + 1 : end + 1] = np.arange(start + 1, end + 1)
        new = np.arange(self._n - n + 1, self._n + 1)
        self._provisional = np.concatenate([self._provisional, new])
        self._n_open = end

    def _keep(
        self,
        ids: np.ndarray,
        table: np.ndarray,
        boundary: np.ndarray,
        pairs: np.ndarray,
        weights: np.ndarray,
    ) -> None:
        self._parts.append((ids[1:], table[1:], boundary[1:]))
        if len(weights):
            self._contacts.append((ids[pairs], weights))

    def _join_planes(self, part: SlabPart, n_before: int) -> None:
        """Join the first plane to the last plane of the previous slab.

        The cells between the two planes are added to the sums of their pores.
        """
        cells, joining = _kernels()
        if self._last_labels is not None:
            rules, below = self.rules, self._last_labels
            first = part.first + np.int32(n_before) * (part.first > 0)
            joining.join_planes(below, first, rules.connectivity, self._parent)
            pair, ids = joining.compact_planes(below, first, self._parent)
            pair_sample = np.ones((1, 1, 1), np.bool_)
            planes = (self._last_sample, part.first_sample)
            if any(plane is not None for plane in planes):
                everywhere = np.ones(first.shape, np.bool_)
                pair_sample = np.stack([everywhere if p is None else p for p in planes])
            table = column.new_table(len(ids) - 1)
            boundary = column.new_boundary(len(ids) - 1)
            contacts = cells.sweep_cells(
                pair,
                pair_sample,
                len(pair_sample) == 2,
                (False, False),
                rules.connectivity == 26,
                rules.flat,
                rules.tables,
                table,
                boundary,
                rules.connectivity == 6,
            )
            self._keep(ids, table, boundary, *summed_contacts(*contacts))
        self._last_labels = part.last + np.int32(n_before) * (part.last > 0)
        self._last_sample = part.last_sample

    def _release_complete(self) -> None:
        """Merge and release the rows of pores that do not reach the last plane."""
        _, joining = _kernels()
        roots = joining.roots_of(self._parent[: self._n_open + 1])
        is_open = np.zeros(len(roots), bool)
        if self._last_labels is not None and self._z < self.shape[0]:
            is_open[roots[np.unique(self._last_labels)]] = True
        kept = is_open[roots]
        kept[0] = True
        is_root = (roots == np.arange(len(roots))) & ~kept
        row_of = (np.cumsum(is_root) * is_root)[roots]
        n = int(is_root.sum())
        rows, boundary = column.new_table(n), column.new_boundary(n)
        for ids, table, part in self._parts:
            joining.merge_rows(
                table, part, row_of[ids], column.MERGE_RULES, rows, boundary
            )
        for pairs, weights in self._contacts:
            # Where two parts touch, each was given a surface; if both belong to one
            # pore, these surfaces must be removed.
            one, other = row_of[pairs].T
            same = (one == other) & (one > 0)
            np.subtract.at(boundary[:, column.SURFACE], one[same], 2 * weights[same])
        self._add_complete(rows[1:], boundary[1:] * self._units, row_of)
        self._forget(kept, roots)

    def _add_complete(
        self, rows: np.ndarray, boundary: np.ndarray, row_of: np.ndarray
    ) -> None:
        """Keep the rows of large pores and record their labels."""
        large = rows[:, column.COUNT] >= self.min_voxels
        self._small.add(rows[~large], boundary[~large])
        self._complete.append((rows[large], boundary[large]))
        number = np.zeros(len(rows) + 1, np.uint32)
        number[1:][large] = self._n_complete + np.arange(1, large.sum() + 1)
        self._n_complete += int(large.sum())
        more = np.zeros(self._n + 1 - len(self._row_of), np.uint32)
        self._row_of = np.concatenate([self._row_of, more])
        done = row_of > 0
        self._row_of[self._provisional[done]] = number[row_of[done]]

    def _forget(self, kept: np.ndarray, roots: np.ndarray) -> None:
        """Renumber the labels in `kept` in order, and drop all others."""
        _, joining = _kernels()
        new = np.cumsum(kept) - 1
        self._n_open = int(new[-1])
        parent = new[roots[kept]]
        self._parent = np.zeros(max(1 << 10, len(parent)), np.int64)
        self._parent[: len(parent)] = parent
        self._provisional = self._provisional[kept]
        # One row per open pore, however many slabs it spans.
        is_root = kept & (roots == np.arange(len(roots)))
        row_of = ((np.cumsum(is_root) - 1) * kept[roots])[roots]
        n = int(is_root.sum()) - 1  # label 0 is the background
        rows, boundary = column.new_table(n), column.new_boundary(n)
        for ids, table, part in self._parts:
            joining.merge_rows(
                table, part, row_of[ids], column.MERGE_RULES, rows, boundary
            )
        ids = new[np.flatnonzero(is_root)]
        self._parts = [(ids[1:], rows[1:], boundary[1:])]
        contacts = [_no_contacts()]
        for pairs, weights in self._contacts:
            both = kept[pairs].all(axis=1)
            if both.any():
                contacts.append((new[pairs[both]], weights[both]))
        self._contacts = contacts
        if self._last_labels is not None:
            # Avoid a copy with eight bytes per voxel of the plane.
            small = (new * kept).astype(np.int32)
            self._last_labels = small[self._last_labels]

    def state(self) -> dict[str, np.ndarray]:
        """Return the state after the slabs labelled so far, for storing in a file."""
        self._complete = [_joined(self._complete)]
        # The state grows with a plane's area and with the numbers of pores and labels.
        values: dict[str, np.ndarray] = {
            "numbers": np.array(
                [
                    self._z,
                    self._n,
                    self._n_open,
                    self._n_complete,
                    self._compaction_limit,
                ]
            ),
            "parent": self._parent[: self._n_open + 1],
            "provisional": self._provisional,
            "row_of": self._row_of,
        }
        lists: dict[str, Sequence[tuple[np.ndarray, ...]]] = {
            "part": self._parts,
            "contact": self._contacts,
            "complete": self._complete,
        }
        for name, parts in lists.items():
            for i, array in enumerate(_joined(parts)):
                values[f"{name}_{i}"] = array
        if self._last_labels is not None:
            values["last_labels"] = self._last_labels
        if self._last_sample is not None:
            values["last_sample"] = self._last_sample
        return values | self._small.state()

    def restore(self, state: Mapping[str, np.ndarray]) -> bool:
        """Load a `state`; return False if it does not belong to this volume."""
        try:
            return self._restore(state)
        except (KeyError, ValueError, IndexError, TypeError):  # incomplete state
            return False

    def _restore(self, state: Mapping[str, np.ndarray]) -> bool:
        small = SmallPores.of_state(state)
        z, n, n_open, n_complete, limit = (int(v) for v in state["numbers"])
        last = state["last_labels"]
        parent, provisional = state["parent"], state["provisional"]
        complete = state["complete_0"], state["complete_1"]
        contacts = state["contact_0"], state["contact_1"]
        ids = state["part_0"]
        # Check the indices, because compiled code uses them without bounds checks.
        bounds = (
            (parent, n_open),
            (last, n_open),
            (ids, n_open),
            (contacts[0], n_open),
            (provisional, n),
        )
        within = all(
            a.dtype.kind == "i" and a.min(initial=0) >= 0 and a.max(initial=0) <= b
            for a, b in bounds
        )
        if not (
            within
            and 0 < z <= self.shape[0]
            and last.shape == self.shape[1:]
            and len(parent) == len(provisional) == n_open + 1
            and (parent <= np.arange(n_open + 1)).all()
            and state["part_1"].shape == (len(ids), column.N_COLUMNS)
            and state["part_2"].shape == (len(ids), column.N_BOUNDARY_COLUMNS)
            and len(complete[0]) == len(complete[1]) == n_complete
        ):
            return False
        self._z, self._n, self._n_open, self._n_complete = z, n, n_open, n_complete
        self._compaction_limit = limit
        self._parent = np.array(parent)
        self._provisional, self._row_of = provisional, state["row_of"]
        self._parts = [(ids, state["part_1"], state["part_2"])]
        self._contacts = [contacts]
        self._complete = [complete]
        self._last_labels, self._last_sample = last, state.get("last_sample")
        self._small = small
        return True

    def finish(self) -> RawTable:
        """Merge the remaining rows; call this after the last slab."""
        if self._z != self.shape[0]:
            raise VolumeError(
                f"Only {self._z} of {self.shape[0]} planes were labelled; "
                "give all slabs."
            )
        self._release_complete()
        rows = np.concatenate([rows for rows, _ in self._complete])
        boundary = np.concatenate([part for _, part in self._complete])
        self._complete.clear()
        order = np.argsort(rows[:, column.FIRST], kind="stable")
        rank = np.zeros(len(rows) + 1, np.uint32)
        rank[order + 1] = np.arange(1, len(rows) + 1, dtype=np.uint32)
        if (order == np.arange(len(order))).all():
            return RawTable(rows, boundary, self._row_of, self._small)
        lookup = rank[self._row_of]
        return RawTable(rows[order], boundary[order], lookup, self._small)
