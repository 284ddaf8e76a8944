"""Labels one slab of a volume, independently of all other slabs.

Labelling the slabs is nearly all of the work of labelling a volume, so slabs can be
distributed among several processes. `napari_geosr.measure.blocks.SlabLabeller` joins
the parts in order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from napari_geosr.measure.crofton import (
    PAIR_BITS,
    code_table,
    integer_weights,
    pair_weights,
)
from napari_geosr.measure.kernels import columns as column

#: Pair bits; pair weights; surface area and eight times the Euler number of each code.
Tables: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SlabRules:
    """Parameters for labelling a slab, in addition to its voxels.

    Attributes
    ----------
    shape : tuple of 3 int
        Shape of the whole volume, (Z, Y, X).
    connectivity : {6, 26}
    flat : bool
        Whether the volume is a single image; perimeters then replace surfaces.
    tables : tuple of ndarray
    unit : float
        Physical surface that corresponds to 1 in the sums of surfaces, which are
        integers.
    """

    shape: tuple[int, int, int]
    connectivity: Literal[6, 26]
    flat: bool
    tables: Tables
    unit: float

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        voxel_size: tuple[float, float, float],
        connectivity: Literal[6, 26],
        *,
        flat: bool,
    ) -> SlabRules:
        """Return the rules for a volume."""
        exact = pair_weights(voxel_size, flat=flat)
        weights, unit = integer_weights(exact, math.prod(shape))
        tables = (PAIR_BITS, weights, code_table(weights, connectivity))
        return cls(shape, connectivity, flat, tables, unit)


@dataclass(frozen=True, eq=False)
class SlabPart:
    """The pores of one slab, with labels 1 … n.

    Attributes
    ----------
    n : int
        Number of labels.
    n_planes : int
    table, boundary : ndarray of shape (n + 1, …)
        Sums for each label; columns as in `napari_geosr.measure.kernels.columns`.
    pairs, weights : ndarray
        Pairs of labels in contact, without duplicates, and the weight of their
        contacts.
    first, last : ndarray of shape (Y, X), int32
        Labels of the first and the last plane.
    first_sample, last_sample : ndarray of shape (Y, X), bool, or None
        Sample mask of these planes; None if all voxels belong to the sample.
    """

    n: int
    n_planes: int
    table: np.ndarray
    boundary: np.ndarray
    pairs: np.ndarray
    weights: np.ndarray
    first: np.ndarray
    last: np.ndarray
    first_sample: np.ndarray | None
    last_sample: np.ndarray | None


def provisional_labels(
    pores: np.ndarray, connectivity: Literal[6, 26]
) -> tuple[np.ndarray, int]:
    """Return the labels (uint32) of one slab and their number, deterministically."""
    import cc3d

    labels, n = cc3d.connected_components(
        np.ascontiguousarray(pores).view(np.uint8),
        connectivity=connectivity,
        return_N=True,
        out_dtype=np.uint32,
    )
    return labels, n


def label_slab(
    pores: np.ndarray, sample: np.ndarray | None, z: int, rules: SlabRules
) -> tuple[np.ndarray, SlabPart]:
    """Label a slab and compute the sums of its pores.

    Parameters
    ----------
    pores : ndarray of shape (z, Y, X), bool
    sample : ndarray of shape (z, Y, X), bool, or None
        Sample mask; None if all voxels belong to the sample.
    z : int
        Index of the slab's first plane in the volume.
    rules : SlabRules

    Returns
    -------
    labels : ndarray of shape (z, Y, X), uint32
        Labels 1..n.
    part : SlabPart
    """
    from napari_geosr.measure.kernels import cells, runs

    labels, n = provisional_labels(pores, rules.connectivity)
    table = column.new_table(n)
    boundary = column.new_boundary(n)
    runs.sweep_runs(labels, z, table)
    top = z + len(labels) == rules.shape[0]
    whole = top and z == 0
    contacts, weights = cells.sweep_cells(
        labels,
        np.ones((1, 1, 1), np.bool_) if sample is None else sample,
        sample is not None,
        (z == 0, top),
        rules.connectivity == 26,
        rules.flat,
        rules.tables,
        table,
        boundary,
        rules.connectivity == 6 and not whole,
    )
    # int32 halves the memory of the planes of labels.
    return labels, SlabPart(
        n,
        len(labels),
        table,
        boundary,
        *summed_contacts(contacts, weights),
        labels[0].astype(np.int32),
        labels[-1].astype(np.int32),
        None if sample is None else sample[0].copy(),
        None if sample is None else sample[-1].copy(),
    )


def summed_contacts(
    contacts: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return each pair of labels once, with the sum of its weights."""
    if not len(weights):
        return np.zeros((0, 2), np.int64), np.zeros(0, np.int64)
    pairs, inverse = np.unique(contacts, axis=0, return_inverse=True)
    total = np.zeros(len(pairs), np.int64)
    np.add.at(total, inverse.reshape(-1), weights)
    return pairs, total
