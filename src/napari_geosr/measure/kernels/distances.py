"""Exact Euclidean distances to the nearest voxel outside a phase, with its position."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled

#: Squared distance assigned if there is no voxel outside the phase.
FAR = np.int32(2**30)
#: Runs of up to this many voxels are compared pair by pair.
SHORT = 24


@compiled
def squared_distances(
    phase: np.ndarray, distances: np.ndarray, nearest: np.ndarray
) -> None:
    """Squared distance of each voxel to the nearest voxel centre outside the phase.

    Felzenszwalb & Huttenlocher, Theory of Computing 8, 415 (2012),
    doi:10.4086/toc.2012.v008a019: one pass along each axis; along Y and Z, the lower
    envelope of parabolas. No voxels are assumed outside the array.

    Parameters
    ----------
    phase : ndarray of shape (Z, Y, X), uint8
    distances : ndarray of shape (Z, Y, X), int32
        Filled with squared distances in voxels; `FAR` if there are none.
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
    """First pass: distances to voxels of the same row."""
    n = len(phase)
    last = -1
    for x in range(n):
        if phase[x] == 0:
            last = x
        if last >= 0:
            distances[x] = (x - last) * (x - last)
            nearest[x] = start + last
        else:
            distances[x] = FAR
            nearest[x] = -1
    last = -1
    for x in range(n - 1, -1, -1):
        if phase[x] == 0:
            last = x
        if last >= 0:
            squared = (last - x) * (last - x)
            if squared < distances[x]:
                distances[x] = squared
                nearest[x] = start + last


@compiled
def _along_columns(distances: np.ndarray, nearest: np.ndarray) -> None:
    """Further passes along the first axis of a plane (rows are read in tiles)."""
    n, width = distances.shape
    tile = 16
    values = np.empty((tile, n), np.int32)
    places = np.empty((tile, n), np.int32)
    old = np.empty((2, n), np.int32)
    sites = np.empty(n, np.int32)
    limits = np.empty(n + 1, np.float64)
    for left in range(0, width, tile):
        m = min(tile, width - left)
        largest = np.int32(0)
        for i in range(n):
            for k in range(m):
                values[k, i] = distances[i, left + k]
                places[k, i] = nearest[i, left + k]
                largest = max(largest, values[k, i])
        if largest == 0:
            continue
        for k in range(m):
            _along_line(values[k], places[k], old, sites, limits)
        for i in range(n):
            for k in range(m):
                distances[i, left + k] = values[k, i]
                nearest[i, left + k] = places[k, i]


@compiled
def _along_line(
    values: np.ndarray,
    places: np.ndarray,
    old: np.ndarray,
    sites: np.ndarray,
    limits: np.ndarray,
) -> None:
    """Replace values by the lower envelope of their parabolas, in place.

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
        if high - low <= SHORT:
            _short_run(values, places, old, low, high)
        else:
            _envelope(values[low:high], places[low:high], sites, limits)


@compiled
def _short_run(
    values: np.ndarray, places: np.ndarray, old: np.ndarray, low: int, high: int
) -> None:
    """Lower envelope for a short run: compare all sites that may be nearer."""
    for i in range(low, high):
        old[0, i], old[1, i] = values[i], places[i]
    for i in range(low, high):
        best, place = old[0, i], i
        offset = 1
        while offset < high - low and offset * offset <= best:
            squared = offset * offset
            if i - offset >= low and squared + old[0, i - offset] <= best:
                # On this side, sites come in descending order.
                before = squared + old[0, i - offset]
                if before < best or i - offset < place:
                    best, place = before, i - offset
            if i + offset < high and squared + old[0, i + offset] < best:
                best, place = squared + old[0, i + offset], i + offset
            offset += 1
        values[i], places[i] = best, old[1, place]


@compiled
def _envelope(
    values: np.ndarray, places: np.ndarray, sites: np.ndarray, limits: np.ndarray
) -> None:
    """Replace values by the lower envelope of their parabolas, in place."""
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
    # Both are read at sites while earlier entries are written: copy the sites first.
    old_values = values[sites[:count]].copy()
    old_places = places[sites[:count]].copy()
    k = 0
    for i in range(n):
        while k + 1 < count and limits[k + 1] < i:
            k += 1
        offset = i - sites[k]
        values[i] = offset * offset + old_values[k]
        places[i] = old_places[k]
