"""Compiled sweeps over voxels. All release the GIL; none depends on label count.

Import this module inside functions only: numba takes a second to load.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from napari_geosr.measure.kernel_columns import (
    COUNT,
    EULER8,
    FIRST,
    MAX_X,
    MAX_Y,
    MAX_Z,
    MIN_X,
    MIN_Y,
    MIN_Z,
    N_BOUNDARY_COLUMNS,
    SUM_X,
    SUM_XX,
    SUM_Y,
    SUM_YX,
    SUM_YY,
    SUM_Z,
    SUM_ZX,
    SUM_ZY,
    SUM_ZZ,
    SURFACE,
    TOUCHES,
)

F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    return cast("F", numba.njit(cache=True, nogil=True)(function))


@_compiled
def finite_range(values: np.ndarray) -> tuple[float, float, int]:
    """Smallest and largest finite value, and the number of others."""
    low = np.inf
    high = -np.inf
    n_nonfinite = 0
    for i in range(values.size):
        value = values[i]
        if not np.isfinite(value):
            n_nonfinite += 1
            continue
        if value < low:
            low = value
        if value > high:
            high = value
    return low, high, n_nonfinite


@_compiled
def count_values(
    values: np.ndarray, counts: np.ndarray, per_width: float, first: int
) -> None:
    """Add finite `values` to `counts`; `per_width` is a power of two."""
    for i in range(values.size):
        value = float(values[i])
        if np.isfinite(value):
            counts[int(np.floor(value * per_width)) - first] += 1


@_compiled
def sweep_runs(labels: np.ndarray, z0: int, table: np.ndarray) -> None:
    """Add counts, moments, boxes and first voxels, one run along X at a time.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
    z0 : int
        Plane of the whole volume that ``labels[0]`` is.
    table : ndarray of shape (n + 1, N_COLUMNS), int64
        Changed in place.
    """
    n_z, n_y, n_x = labels.shape
    for k in range(n_z):
        z = z0 + k
        for y in range(n_y):
            line = labels[k, y]
            x = 0
            while x < n_x:
                label = line[x]
                if label == 0:
                    x += 1
                    continue
                start = x
                x += 1
                while x < n_x and line[x] == label:
                    x += 1
                row = table[label]
                n = x - start
                last = x - 1
                sum_x = n * (start + last) // 2
                # Sum of squares 0..m is m (m + 1) (2 m + 1) / 6.
                sum_xx = last * x * (2 * last + 1) // 6
                sum_xx -= (start - 1) * start * (2 * start - 1) // 6
                if row[COUNT] == 0:
                    row[FIRST] = (np.int64(z) * n_y + y) * n_x + start
                    row[MIN_Z], row[MIN_Y], row[MIN_X] = z, y, start
                row[COUNT] += n
                row[SUM_Z] += n * z
                row[SUM_Y] += n * y
                row[SUM_X] += sum_x
                row[SUM_ZZ] += n * z * z
                row[SUM_YY] += n * y * y
                row[SUM_XX] += sum_xx
                row[SUM_ZY] += n * z * y
                row[SUM_ZX] += z * sum_x
                row[SUM_YX] += y * sum_x
                row[MAX_Z] = z
                row[MIN_Y] = min(row[MIN_Y], y)
                row[MAX_Y] = max(row[MAX_Y], y)
                row[MIN_X] = min(row[MIN_X], start)
                row[MAX_X] = max(row[MAX_X], last)


@_compiled
def _add_cell(
    values: np.ndarray,
    inside: np.ndarray,
    pair_bits: np.ndarray,
    weights: np.ndarray,
    of_code: np.ndarray,
    flat: bool,
    table: np.ndarray,
    boundary: np.ndarray,
) -> None:
    """Any cell: several labels, or corners outside the sample (slow, but rare)."""
    for i in range(8):
        label = values[i]
        if label == 0:
            continue
        code = 0
        is_first = True
        for j in range(8):
            if values[j] == label:
                code |= 1 << j
                if j < i:
                    is_first = False
        if not is_first:
            continue
        boundary[label, EULER8] += of_code[code, EULER8]
        for p in range(13):
            a, b = pair_bits[p, 0], pair_bits[p, 1]
            in_a, in_b = (code >> a) & 1, (code >> b) & 1
            if in_a == in_b:
                continue
            if inside[a] and inside[b]:
                boundary[label, SURFACE] += weights[p]
            elif p < 3 and not (flat and p == 0):
                table[label, TOUCHES] = 1


@_compiled
def _add_contacts(
    values: np.ndarray,
    inside: np.ndarray,
    pair_bits: np.ndarray,
    weights: np.ndarray,
    contacts: np.ndarray,
    contact_weights: np.ndarray,
    n: int,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Note the pairs of a cell that join two labels, which may turn out to be one."""
    for p in range(13):
        a, b = values[pair_bits[p, 0]], values[pair_bits[p, 1]]
        if a == 0 or b == 0 or a == b:
            continue
        if n == contact_weights.size:
            longer = np.empty((2 * n, 2), np.int64)
            longer[:n] = contacts
            contacts = longer
            heavier = np.empty(2 * n, np.float64)
            heavier[:n] = contact_weights
            contact_weights = heavier
        contacts[n, 0] = a
        contacts[n, 1] = b
        contact_weights[n] = weights[p]
        n += 1
    return contacts, contact_weights, n


@_compiled
def _sweep_simple_row(
    low: np.ndarray, high: np.ndarray, of_code: np.ndarray, boundary: np.ndarray
) -> None:
    """Like `_sweep_row` where no cell is special.

    There is nothing to guess for the processor but where one pore follows another:
    cells without boundary add zeros.
    """
    current = np.int64(0)
    surface, euler = 0.0, 0.0
    a, b, c, d = low[0, 0], low[1, 0], high[0, 0], high[1, 0]
    old = (a != 0) | (b != 0) << 1 | (c != 0) << 2 | (d != 0) << 3
    old_any = a | b | c | d
    for x in range(1, low.shape[1]):
        a, b, c, d = low[0, x], low[1, x], high[0, x], high[1, x]
        new = (a != 0) | (b != 0) << 1 | (c != 0) << 2 | (d != 0) << 3
        new_any = a | b | c | d
        label = np.int64(old_any | new_any)
        if label != current and label != 0:
            boundary[current, SURFACE] += surface
            boundary[current, EULER8] += euler
            current, surface, euler = label, 0.0, 0.0
        code = old | new << 4
        surface += of_code[code, SURFACE]
        euler += of_code[code, EULER8]
        old, old_any = new, new_any
    boundary[current, SURFACE] += surface
    boundary[current, EULER8] += euler


@_compiled
def _sweep_row(
    low: np.ndarray,
    high: np.ndarray,
    sample_low: np.ndarray,
    sample_high: np.ndarray,
    has_sample: bool,
    one_label: bool,
    of_code: np.ndarray,
    boundary: np.ndarray,
    special: np.ndarray,
) -> int:
    """Add the cells between two rows of two planes, one column of voxels at a time.

    `low` and `high` are (2, X). Cells with several labels, or partly outside the
    sample, are left out: their x goes into `special`, their number is returned.
    """
    n_special = 0
    # Sums of the label met last; written to the table when another one comes.
    current = np.int64(0)
    surface, euler = 0.0, 0.0
    a, b, c, d = low[0, 0], low[1, 0], high[0, 0], high[1, 0]
    old = (a != 0) | (b != 0) << 1 | (c != 0) << 2 | (d != 0) << 3
    old_any = a | b | c | d
    # Several labels: their bits taken together are not those of each of them.
    old_several = (a != old_any) & (a != 0) | (b != old_any) & (b != 0)
    old_several |= (c != old_any) & (c != 0) | (d != old_any) & (d != 0)
    for x in range(low.shape[1] - 1):
        a, b, c, d = low[0, x + 1], low[1, x + 1], high[0, x + 1], high[1, x + 1]
        new_any = a | b | c | d
        if new_any == 0 and old_any == 0:
            continue
        new = (a != 0) | (b != 0) << 1 | (c != 0) << 2 | (d != 0) << 3
        is_special = False
        new_several = False
        if not one_label:
            new_several = (a != new_any) & (a != 0) | (b != new_any) & (b != 0)
            new_several |= (c != new_any) & (c != 0) | (d != new_any) & (d != 0)
            apart = old_any != 0 and new_any != 0 and old_any != new_any
            is_special = old_several or new_several or apart
        if has_sample and not is_special:
            for i in range(2):
                for j in range(2):
                    if not (sample_low[i, x + j] and sample_high[i, x + j]):
                        is_special = True
        if is_special:
            special[n_special] = x
            n_special += 1
        else:
            code = old | new << 4
            if code != 255:
                label = np.int64(old_any | new_any)
                if label != current:
                    boundary[current, SURFACE] += surface
                    boundary[current, EULER8] += euler
                    current, surface, euler = label, 0.0, 0.0
                surface += of_code[code, SURFACE]
                euler += of_code[code, EULER8]
        old, old_any, old_several = new, new_any, new_several
    boundary[current, SURFACE] += surface
    boundary[current, EULER8] += euler
    return n_special


@_compiled
def _gather(
    labels: np.ndarray,
    sample: np.ndarray,
    has_sample: bool,
    place: tuple[int, int, int],
    values: np.ndarray,
    inside: np.ndarray,
) -> bool:
    """Labels at the corners of a cell, and which are inside; whether any is there."""
    n_z, n_y, n_x = labels.shape
    any_label = False
    for i in range(8):
        z, y, x = place[0] + (i >> 1 & 1), place[1] + (i & 1), place[2] + (i >> 2)
        if 0 <= z < n_z and 0 <= y < n_y and 0 <= x < n_x:
            values[i] = labels[z, y, x]
            inside[i] = not has_sample or sample[z, y, x]
            any_label = any_label or values[i] != 0
        else:
            values[i] = 0
            inside[i] = False
    return any_label


@_compiled
def sweep_cells(
    labels: np.ndarray,
    sample: np.ndarray,
    has_sample: bool,
    ends: tuple[bool, bool],
    one_label: bool,
    flat: bool,
    tables: tuple[np.ndarray, np.ndarray, np.ndarray],
    table: np.ndarray,
    boundary: np.ndarray,
    track: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Add Euler numbers, surfaces and border contacts of all cells between planes.

    Parameters
    ----------
    labels : ndarray of shape (Z, Y, X), uint32
    sample : ndarray of shape (Z, Y, X), bool
        The sample; looked at only if `has_sample`.
    ends : tuple of 2 bool
        Whether the volume ends below the first and above the last plane; if so the
        cells out there are swept, too.
    one_label : bool
        All labelled corners of a cell have the same label (26 neighbours).
    flat : bool
        A 2D image: touching the border means its edges.
    tables : tuple
        Pair bits (13, 2), pair weights (13,), and surface and eight times the Euler
        number per code (256, 2).
    table, boundary : ndarray of shape (n + 1, …)
        Changed in place.
    track : bool
        Whether to return contacts between labels (needed with 6 neighbours while
        labels may still turn out to be parts of one pore).

    Returns
    -------
    contacts : ndarray of shape (n, 2), int64
    weights : ndarray of shape (n,), float64
    """
    pair_bits, weights, of_code = tables
    n_z, n_y, n_x = labels.shape
    contacts = np.empty((64, 2), np.int64)
    contact_weights = np.empty(64, np.float64)
    n_contacts = 0
    values, inside = np.zeros(8, np.int64), np.ones(8, np.bool_)
    special = np.empty(n_x + 1, np.int64)
    for k in range(-1 if ends[0] else 0, n_z if ends[1] else n_z - 1):
        for y in range(-1, n_y):
            if 0 <= k < n_z - 1 and 0 <= y < n_y - 1:
                n_special = 0
                low, high = labels[k, y : y + 2], labels[k + 1, y : y + 2]
                if one_label and not has_sample:
                    _sweep_simple_row(low, high, of_code, boundary)
                else:
                    s = (k, y) if has_sample else (0, 0)
                    n_special = _sweep_row(
                        low,
                        high,
                        sample[s[0], s[1] : s[1] + 2],
                        sample[s[0] + has_sample, s[1] : s[1] + 2],
                        has_sample,
                        one_label,
                        of_code,
                        boundary,
                        special,
                    )
                special[n_special], special[n_special + 1] = -1, n_x - 1
                n_special += 2
            else:
                # Corners outside the volume.
                n_special = n_x + 1
                special[:] = np.arange(-1, n_x)
            for i in range(n_special):
                place = (k, y, special[i])
                if _gather(labels, sample, has_sample, place, values, inside):
                    _add_cell(
                        values,
                        inside,
                        pair_bits,
                        weights,
                        of_code,
                        flat,
                        table,
                        boundary,
                    )
                    if track:
                        contacts, contact_weights, n_contacts = _add_contacts(
                            values,
                            inside,
                            pair_bits,
                            weights,
                            contacts,
                            contact_weights,
                            n_contacts,
                        )
    return contacts[:n_contacts], contact_weights[:n_contacts]


@_compiled
def _find(parent: np.ndarray, label: int) -> int:
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@_compiled
def join_planes(
    below: np.ndarray, above: np.ndarray, connectivity: int, parent: np.ndarray
) -> None:
    """Join the labels of two neighbouring planes in `parent`; the lowest is the root.

    `below` and `above` are (Y, X), int64, holding indices of `parent`.
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


@_compiled
def compact_planes(
    below: np.ndarray, above: np.ndarray, parent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Two planes of provisional labels as one small slab of labels 1..n.

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


@_compiled
def roots_of(parent: np.ndarray) -> np.ndarray:
    """The root of every label, shape (n + 1,), int64."""
    roots = np.empty_like(parent)
    for label in range(parent.size):
        # A root is lower than its members, so its own entry is final already.
        up = parent[label]
        roots[label] = label if up == label else roots[up]
    return roots


@_compiled
def merge_rows(
    table: np.ndarray,
    boundary: np.ndarray,
    target: np.ndarray,
    merged: np.ndarray,
    merged_boundary: np.ndarray,
) -> None:
    """Add the rows of `table` to rows ``target[i]`` of `merged`, in place."""
    for i in range(target.size):
        t = target[i]
        if t == 0:
            continue
        merged[t, TOUCHES] |= table[i, TOUCHES]
        if table[i, COUNT]:
            # A row without voxels has no box: it holds nothing but zeros.
            is_new = merged[t, COUNT] == 0
            for column in range(MIN_Z):
                merged[t, column] += table[i, column]
            for column in (MIN_Z, MIN_Y, MIN_X, FIRST):
                if is_new or table[i, column] < merged[t, column]:
                    merged[t, column] = table[i, column]
            for column in (MAX_Z, MAX_Y, MAX_X):
                merged[t, column] = max(merged[t, column], table[i, column])
        for column in range(N_BOUNDARY_COLUMNS):
            merged_boundary[t, column] += boundary[i, column]


@_compiled
def axis_lengths(table: np.ndarray, voxel_size: np.ndarray) -> np.ndarray:
    """Square roots of the eigenvalues of each pore's covariance, largest first.

    A voxel counts as the solid cuboid it is, so no length is zero. The sums are exact
    integers; they are moved to the rounded centroid before anything is rounded.

    Parameters
    ----------
    table : ndarray of shape (n, N_COLUMNS), int64
    voxel_size : ndarray of shape (3,), float64
        0 along Z for a single image.

    Returns
    -------
    ndarray of shape (n, 3), float64
    """
    lengths = np.empty((len(table), 3))
    matrix = np.empty((3, 3))
    centre = np.empty(3, np.int64)
    for i in range(len(table)):
        row = table[i]
        n = row[COUNT]
        for a in range(3):
            centre[a] = (2 * row[SUM_Z + a] + n) // (2 * n)
        for a in range(3):
            for b in range(a, 3):
                # The columns ZY, ZX, YX follow the squares.
                second = row[SUM_ZZ + a] if a == b else row[SUM_ZY + a + b - 1]
                moved = second - centre[a] * row[SUM_Z + b] - centre[b] * row[SUM_Z + a]
                moved += n * centre[a] * centre[b]
                rest_a = (row[SUM_Z + a] - n * centre[a]) / n
                rest_b = (row[SUM_Z + b] - n * centre[b]) / n
                value = moved / n - rest_a * rest_b
                if a == b:
                    value += 1 / 12
                value *= voxel_size[a] * voxel_size[b]
                matrix[a, b] = value
                matrix[b, a] = value
        _eigenvalues(matrix, lengths[i])
    return np.sqrt(np.maximum(lengths, 0.0))


@_compiled
def _eigenvalues(m: np.ndarray, out: np.ndarray) -> None:
    """Eigenvalues of a symmetric 3×3 matrix, largest first.

    Smith, Communications of the ACM 4, 168 (1961), https://doi.org/10.1145/355578.366316.
    """
    mean = (m[0, 0] + m[1, 1] + m[2, 2]) / 3
    spread = 2 * (m[0, 1] ** 2 + m[0, 2] ** 2 + m[1, 2] ** 2)
    for a in range(3):
        spread += (m[a, a] - mean) ** 2
    scale = np.sqrt(spread / 6)
    if scale <= 1e-14 * mean:
        out[:] = mean
        return
    a, b, c = (
        (m[0, 0] - mean) / scale,
        (m[1, 1] - mean) / scale,
        (m[2, 2] - mean) / scale,
    )
    d, e, f = m[0, 1] / scale, m[0, 2] / scale, m[1, 2] / scale
    half = (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)) / 2
    angle = np.arccos(min(1.0, max(-1.0, half))) / 3
    out[0] = mean + 2 * scale * np.cos(angle)
    out[2] = mean + 2 * scale * np.cos(angle + 2 * np.pi / 3)
    out[1] = 3 * mean - out[0] - out[2]


@_compiled
def relabel(labels: np.ndarray, lookup: np.ndarray) -> None:
    """Replace labels (flat, uint32) by ``lookup[label]``, in place; 0 stays."""
    for i in range(labels.size):
        if labels[i]:
            labels[i] = lookup[labels[i]]
