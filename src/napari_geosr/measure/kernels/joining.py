"""Joins the labels of slabs: union-find, merging of rows, relabelling."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.columns import (
    ADD,
    COUNT,
    EITHER,
    LOWEST,
    N_BOUNDARY_COLUMNS,
)
from napari_geosr.measure.kernels.compiled import compiled


@compiled
def _find(parent: np.ndarray, label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@compiled
def join_planes(
    below: np.ndarray, above: np.ndarray, connectivity: int, parent: np.ndarray
) -> None:
    """Join the labels of two neighbouring planes in `parent`; the lowest is the root.

    `below` and `above` have shape (Y, X), int32, and hold indices of `parent`.
    """
    n_y, n_x = below.shape
    reach = 1 if connectivity == 26 else 0
    for y in range(n_y):
        for x in range(n_x):
            label = above[y, x]
            if label == 0:
                continue
            for v in range(max(y - reach, 0), min(y + reach, n_y - 1) + 1):
                for u in range(max(x - reach, 0), min(x + reach, n_x - 1) + 1):
                    other = below[v, u]
                    if other == 0:
                        continue
                    root, other_root = _find(parent, label), _find(parent, other)
                    if root < other_root:
                        parent[other_root] = root
                    else:
                        parent[root] = other_root


@compiled
def compact_planes(
    below: np.ndarray, above: np.ndarray, parent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Combine two planes of provisional labels into a small slab of labels 1..n.

    Returns
    -------
    labels : ndarray of shape (2, Y, X), uint32
    ids : ndarray of shape (n + 1,), int64
        The root in `parent` of each label; ``ids[0]`` is 0.
    """
    n_y, n_x = below.shape
    labels = np.zeros((2, n_y, n_x), np.uint32)
    numbers = {np.int64(0): np.uint32(0)}
    ids = [np.int64(0)]
    for k in range(2):
        plane = below if k == 0 else above
        for y in range(n_y):
            previous, number = np.int64(0), np.uint32(0)
            for x in range(n_x):
                label = plane[y, x]
                if label == 0:
                    continue
                if label != previous:
                    previous = label
                    root = np.int64(_find(parent, label))
                    if root not in numbers:
                        numbers[root] = np.uint32(len(ids))
                        ids.append(root)
                    number = numbers[root]
                labels[k, y, x] = number
    return labels, np.array(ids)


@compiled
def roots_of(parent: np.ndarray) -> np.ndarray:
    """Return the root of every label, shape (n + 1,), int64."""
    roots = np.empty_like(parent)
    for label in range(parent.size):
        # A root is lower than its members, so its own entry is already final.
        up = parent[label]
        roots[label] = label if up == label else roots[up]
    return roots


@compiled
def merge_rows(
    table: np.ndarray,
    boundary: np.ndarray,
    target: np.ndarray,
    rules: np.ndarray,
    merged: np.ndarray,
    merged_boundary: np.ndarray,
) -> None:
    """Merge the rows of `table` into rows ``target[i]`` of `merged`, in place.

    `rules` are `MERGE_RULES`, one for each column.
    """
    for i in range(target.size):
        t = target[i]
        if t == 0:
            continue
        # A row without voxels has no bounding box; it only records border contacts.
        has_voxels = table[i, COUNT] > 0
        is_new = merged[t, COUNT] == 0
        for column in range(rules.size):
            rule, value = rules[column], table[i, column]
            if rule == ADD:
                merged[t, column] += value
            elif rule == EITHER:
                merged[t, column] |= value
            elif has_voxels:
                old = merged[t, column]
                wins = value < old if rule == LOWEST else value > old
                if is_new or wins:
                    merged[t, column] = value
        for column in range(N_BOUNDARY_COLUMNS):
            merged_boundary[t, column] += boundary[i, column]


@compiled
def relabel(labels: np.ndarray, lookup: np.ndarray) -> None:
    """Replace labels (flat, uint32) with ``lookup[label]`` in place; 0 is unchanged."""
    for i in range(labels.size):
        if labels[i]:
            labels[i] = lookup[labels[i]]
