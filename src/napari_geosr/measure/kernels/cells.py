"""Surfaces, Euler numbers and border contacts, one 2×2×2 cell at a time."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.columns import (
    EULER8,
    SURFACE,
    TOUCHES,
)
from napari_geosr.measure.kernels.compiled import compiled


@compiled
def _add_cell(
    values: np.ndarray,
    inside: int,
    pair_bits: np.ndarray,
    weights: np.ndarray,
    of_code: np.ndarray,
    flat: bool,
    table: np.ndarray,
    boundary: np.ndarray,
) -> None:
    """Add a cell with several labels or with corners outside the sample (slow, rare).

    `values` are the labels of the 8 corners; `inside` has a bit for each corner.
    """
    remaining = 255
    for i in range(8):
        label = values[i]
        if label == 0 or not remaining >> i & 1:
            continue
        code = 0
        for j in range(i, 8):
            code |= int(values[j] == label) << j
        remaining &= ~code
        boundary[label, EULER8] += of_code[code, EULER8]
        surface = np.int64(0)
        for p in range(13):
            pair = 1 << pair_bits[p, 0] | 1 << pair_bits[p, 1]
            hit = code & pair
            if hit == 0 or hit == pair:
                continue
            if inside & pair == pair:
                surface += weights[p]
            elif p < 3 and not (flat and p == 0):
                table[label, TOUCHES] = 1
        boundary[label, SURFACE] += surface


@compiled
def _add_contacts(
    values: np.ndarray,
    pair_bits: np.ndarray,
    weights: np.ndarray,
    contacts: np.ndarray,
    contact_weights: np.ndarray,
    n: int,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Record the voxel pairs in a cell that join two labels.

    The two labels may belong to the same pore.
    """
    for p in range(13):
        a, b = values[pair_bits[p, 0]], values[pair_bits[p, 1]]
        if a == 0 or b == 0 or a == b:
            continue
        if n == contact_weights.size:
            # Copy element by element: slices would take seconds to compile.
            longer = np.empty((2 * n, 2), np.int64)
            heavier = np.empty(2 * n, np.int64)
            for i in range(n):
                longer[i, 0], longer[i, 1] = contacts[i, 0], contacts[i, 1]
                heavier[i] = contact_weights[i]
            contacts, contact_weights = longer, heavier
        contacts[n, 0] = a
        contacts[n, 1] = b
        contact_weights[n] = weights[p]
        n += 1
    return contacts, contact_weights, n


@compiled
def _sweep_simple_row(
    low: np.ndarray, high: np.ndarray, of_code: np.ndarray, boundary: np.ndarray
) -> None:
    """Add cells as `_sweep_row` does, in rows without special cells.

    The only branch is taken where one pore follows another, so that the processor
    predicts it well; cells without a boundary add zeros.
    """
    current = np.int64(0)
    surface, euler = np.int64(0), np.int64(0)
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
            current, surface, euler = label, np.int64(0), np.int64(0)
        code = old | new << 4
        surface += of_code[code, SURFACE]
        euler += of_code[code, EULER8]
        old, old_any = new, new_any
    boundary[current, SURFACE] += surface
    boundary[current, EULER8] += euler


@compiled
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

    `low` and `high` have shape (2, X). Cells with several labels, or partly outside the
    sample, are not added: their X indices are stored in `special`, and the number of
    such cells is returned.
    """
    n_special = 0
    # Sums of the current label; written to the table when another label follows.
    current = np.int64(0)
    surface, euler = np.int64(0), np.int64(0)
    a, b, c, d = low[0, 0], low[1, 0], high[0, 0], high[1, 0]
    old = (a != 0) | (b != 0) << 1 | (c != 0) << 2 | (d != 0) << 3
    old_any = a | b | c | d
    # Several labels: the bitwise OR of the labels differs from at least one of them.
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
                    current, surface, euler = label, np.int64(0), np.int64(0)
                surface += of_code[code, SURFACE]
                euler += of_code[code, EULER8]
        old, old_any, old_several = new, new_any, new_several
    boundary[current, SURFACE] += surface
    boundary[current, EULER8] += euler
    return n_special


@compiled
def _gather(
    labels: np.ndarray,
    sample: np.ndarray,
    has_sample: bool,
    place: tuple[int, int, int],
    values: np.ndarray,
) -> int:
    """Put the labels at the corners of a cell into `values`.

    Returns a bit for each corner inside the sample; -1 if there is no label.
    """
    n_z, n_y, n_x = labels.shape
    inside = 0
    some = np.int64(0)
    for i in range(8):
        z, y, x = place[0] + (i >> 1 & 1), place[1] + (i & 1), place[2] + (i >> 2)
        values[i] = 0
        if 0 <= z < n_z and 0 <= y < n_y and 0 <= x < n_x:
            values[i] = labels[z, y, x]
            some |= values[i]
            if not has_sample or sample[z, y, x]:
                inside |= 1 << i
    return inside if some else -1


@compiled
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
        The sample mask; used only if `has_sample`.
    ends : tuple of 2 bool
        Whether the volume ends below the first and above the last plane; if so, the
        cells across these faces are included.
    one_label : bool
        Whether all labelled corners of a cell have the same label (26 neighbours).
    flat : bool
        Whether this is a 2D image; its border consists of its edges.
    tables : tuple
        Pair bits (13, 2), pair weights (13,), and surface and eight times the Euler
        number per code (256, 2), all int64.
    table, boundary : ndarray of shape (n + 1, …)
        Changed in place.
    track : bool
        Whether to return contacts between labels (needed with 6 neighbours, while
        labels may still belong to one pore).

    Returns
    -------
    contacts : ndarray of shape (n, 2), int64
    weights : ndarray of shape (n,), int64
    """
    pair_bits, weights, of_code = tables
    n_z, n_y, n_x = labels.shape
    contacts = np.empty((64, 2), np.int64)
    contact_weights = np.empty(64, np.int64)
    n_contacts = 0
    values = np.zeros(8, np.int64)
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
                # Every cell of this row has corners outside the volume.
                n_special = n_x + 1
                for x in range(n_special):
                    special[x] = x - 1
            for i in range(n_special):
                place = (k, y, special[i])
                inside = _gather(labels, sample, has_sample, place, values)
                if inside >= 0:
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
                            pair_bits,
                            weights,
                            contacts,
                            contact_weights,
                            n_contacts,
                        )
    return contacts[:n_contacts], contact_weights[:n_contacts]
