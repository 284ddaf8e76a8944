"""Phase changes along parallel lines in many directions."""

from __future__ import annotations

import numpy as np

from napari_geosr.measure.kernels.compiled import compiled

#: State of a line that is outside the sample.
OUTSIDE = 2


@compiled
def count_crossings(
    phase: np.ndarray,
    first_plane: int,
    shape: np.ndarray,
    frames: np.ndarray,
    spacing: float,
    n_side: int,
    states: np.ndarray,
    crossings: np.ndarray,
    samples: np.ndarray,
) -> None:
    """Count the phase changes and steps of all lines within a slab.

    Lines are sampled at points one voxel apart; each point has the value of the nearest
    voxel. Slabs are passed in order along Z, and no direction points towards lower Z,
    so that a line continues in the next slab.

    Parameters
    ----------
    phase : ndarray of shape (z, Y, X), uint8
        0 and 1 for the two phases; `OUTSIDE` outside the sample.
    first_plane : int
        Index of ``phase[0]`` in the volume.
    shape : ndarray of 3 int
        Shape of the volume.
    frames : ndarray of shape (n, 3, 3)
        Direction and two unit vectors normal to it, as (z, y, x).
    spacing : float
        Distance between adjacent lines, in voxels.
    n_side : int
        Number of lines on either side of the centre: ``(2 n_side + 1)²`` per direction.
    states : ndarray of shape (n, (2 n_side + 1)²), uint8
        Last phase of each line; `OUTSIDE` at first.
    crossings, samples : ndarray of shape (n,), int64
        Phase changes, and steps with both ends in the sample; changed in place.
    """
    n_z = len(phase)
    width = 2 * n_side + 1
    centre = (shape - 1) / 2
    low = np.array([first_plane - 0.5, -0.5, -0.5])
    high = np.array([first_plane + n_z - 0.5, shape[1] - 0.5, shape[2] - 0.5])
    for i in range(len(frames)):
        direction = frames[i, 0]
        for j in range(width * width):
            a = (j // width - n_side) * spacing
            b = (j % width - n_side) * spacing
            start = centre + a * frames[i, 1] + b * frames[i, 2]
            near, far = -1e9, 1e9
            for axis in range(3):
                if abs(direction[axis]) < 1e-12:
                    if not low[axis] <= start[axis] < high[axis]:
                        near, far = 1.0, 0.0
                    continue
                one = (low[axis] - start[axis]) / direction[axis]
                two = (high[axis] - start[axis]) / direction[axis]
                near, far = max(near, min(one, two)), min(far, max(one, two))
            if near > far:
                continue
            last = states[i, j]
            for k in range(int(np.ceil(near)), int(np.floor(far)) + 1):
                z = int(np.floor(start[0] + k * direction[0] + 0.5)) - first_plane
                y = int(np.floor(start[1] + k * direction[1] + 0.5))
                x = int(np.floor(start[2] + k * direction[2] + 0.5))
                if not (0 <= z < n_z and 0 <= y < shape[1] and 0 <= x < shape[2]):
                    continue
                value = phase[z, y, x]
                if value != OUTSIDE and last != OUTSIDE:
                    samples[i] += 1
                    if value != last:
                        crossings[i] += 1
                last = value
            states[i, j] = last
