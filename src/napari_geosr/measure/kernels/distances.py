"""Exact Euclidean distances to the nearest voxel outside a phase, and its position."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled

#: Squared distance assigned if there is no voxel outside the phase.
FAR = np.int32(2**30)
#: Number of columns that are processed together.
TILE = 16
#: Distance, in voxels, up to which rows are compared one by one, without parabolas.
WITHIN = 128


@compiled
def squared_distances(
    phase: np.ndarray, distances: np.ndarray, nearest: np.ndarray
) -> None:
    """Compute squared distances of voxels to the nearest voxel outside the phase.

    The method of Felzenszwalb & Huttenlocher, Theory of Computing 8, 415 (2012),
    doi:10.4086/toc.2012.v008a019, makes one pass along each axis; along Y and Z, it
    finds the lower envelope of parabolas. The border of the array does not count as
    outside.

    Parameters
    ----------
    phase : ndarray of shape (Z, Y, X), uint8
    distances : ndarray of shape (Z, Y, X), int32
        Filled with squared distances in voxels; `FAR` if there is no voxel outside.
    nearest : ndarray of shape (Z, Y, X), int32
        Filled with the flat index of the nearest voxel outside the phase, or -1.
    """
    n_z, n_y, n_x = phase.shape
    for z in range(n_z):
        for y in range(n_y):
            _along_row(phase[z, y], distances[z, y], nearest[z, y], (z * n_y + y) * n_x)
    if n_y > 1:
        for z in range(n_z):
            _along_columns(distances[z], nearest[z])
    if n_z > 1:
        for y in range(n_y):
            _along_columns(distances[:, y], nearest[:, y])


@compiled
def _along_row(
    phase: np.ndarray, distances: np.ndarray, nearest: np.ndarray, start: int
) -> None:
    """Compute distances to the nearest outside voxel of the same row (first pass).

    If two voxels are equally near, the first one is taken. `start` is the flat index of
    the first voxel of the row.
    """
    n = len(phase)
    x, left = 0, -1
    while x < n:
        if phase[x] == 0:
            distances[x], nearest[x] = 0, start + x
            left = x
            x += 1
            continue
        right = x
        while right < n and phase[right] != 0:
            right += 1
        while x < right:
            before = x - left if left >= 0 else 2 * n
            after = right - x if right < n else 2 * n
            if before <= after:
                distances[x], nearest[x] = before * before, start + left
            else:
                distances[x], nearest[x] = after * after, start + right
            if before == after == 2 * n:
                distances[x], nearest[x] = FAR, -1
            x += 1


@compiled
def _along_columns(distances: np.ndarray, nearest: np.ndarray) -> None:
    """Update distances along the first axis of a plane, `TILE` columns at a time.

    If two sites are equally near, the first one is taken.
    """
    n, width = distances.shape
    values = np.zeros((n, TILE), np.int32)
    places = np.zeros((n, TILE), np.int32)
    largest = np.empty(n, np.int32)
    best, place = np.empty(TILE, np.int32), np.empty(TILE, np.int32)
    line = np.empty((3, n), np.int32)
    limits = np.empty(n + 1, np.float64)
    for left in range(0, width, TILE):
        m = min(TILE, width - left)
        values[:, m:] = 0
        for i in range(n):
            high = np.int32(0)
            for k in range(m):
                value = distances[i, left + k]
                values[i, k], places[i, k] = value, nearest[i, left + k]
                high = max(high, value)
            largest[i] = high
        is_far = False
        for i in range(n):
            if largest[i] == 0:
                continue
            is_far = _compare(values, places, i, largest[i], best, place)
            if is_far:
                break
            for k in range(m):
                distances[i, left + k], nearest[i, left + k] = best[k], place[k]
        if is_far:
            for k in range(m):
                line[0], line[1] = values[:, k], places[:, k]
                _along_line(line[0], line[1], line[2], limits)
                for i in range(n):
                    distances[i, left + k] = line[0, i]
                    nearest[i, left + k] = line[1, i]


@compiled
def _compare(
    values: np.ndarray,
    places: np.ndarray,
    i: int,
    largest: np.int32,
    best: np.ndarray,
    place: np.ndarray,
) -> bool:
    """Update the distances and sites of a row from other rows with nearer sites.

    Only rows up to `WITHIN` rows away are compared. Returns whether rows farther away
    may also contain nearer sites.
    """
    n = len(values)
    for k in range(len(best)):
        best[k], place[k] = values[i, k], places[i, k]
    offset = 1
    while offset * offset <= largest:
        if offset > WITHIN:
            return True
        squared = np.int32(offset * offset)
        before, after = i - offset, i + offset
        if before >= 0:
            for k in range(len(best)):
                value = np.int32(values[before, k] + squared)
                # Rows before row i are visited in descending order: of two equally
                # near sites, the one in the row visited later is taken.
                is_near = value <= best[k]
                best[k] = value if is_near else best[k]
                place[k] = places[before, k] if is_near else place[k]
        if after < n:
            for k in range(len(best)):
                value = np.int32(values[after, k] + squared)
                is_near = value < best[k]
                best[k] = value if is_near else best[k]
                place[k] = places[after, k] if is_near else place[k]
        if before < 0 and after >= n:
            break
        offset += 1
        if offset % 4 == 0:
            largest = np.int32(0)
            for k in range(len(best)):
                largest = max(largest, best[k])
    return False


@compiled
def _along_line(
    values: np.ndarray, places: np.ndarray, sites: np.ndarray, limits: np.ndarray
) -> None:
    """Replace values with lower envelopes of their parabolas, in place, run by run.

    No site beyond a voxel outside the phase is nearer than that voxel. Each run of
    phase voxels, with the outside voxel at either end, is therefore independent. If two
    sites are equally near, the first one is taken.
    """
    n = len(values)
    i = 0
    while i < n:
        if values[i] == 0:
            i += 1
            continue
        first = i
        while i < n and values[i] != 0:
            i += 1
        low, high = max(first - 1, 0), min(i + 1, n)
        _envelope(values[low:high], places[low:high], sites, limits)


@compiled
def _envelope(
    values: np.ndarray, places: np.ndarray, sites: np.ndarray, limits: np.ndarray
) -> None:
    """Replace values with the lower envelope of their parabolas, in place."""
    n = len(values)
    count = 0
    for i in range(n):
        if values[i] >= FAR:
            continue
        crossing = -1e18
        while count > 0:
            j = sites[count - 1]
            crossing = (
                np.float64(values[i]) + i * i - np.float64(values[j]) - j * j
            ) / (2.0 * (i - j))
            if crossing > limits[count - 1]:
                break
            count -= 1
            crossing = -1e18
        sites[count] = i
        limits[count] = crossing
        count += 1
    if count == 0:
        return
    # Entries at sites are still needed after they have been overwritten: copy them.
    old_values = values[sites[:count]].copy()
    old_places = places[sites[:count]].copy()
    k = 0
    for i in range(n):
        while k + 1 < count and limits[k + 1] < i:
            k += 1
        offset = i - sites[k]
        values[i] = offset * offset + old_values[k]
        places[i] = old_places[k]
