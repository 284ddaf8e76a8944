"""Anatomical directions of the axes of a volume."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping

#: Key in the metadata of a volume; its value names the directions in which X, Y and Z
#: point. The key is missing if the directions are unknown.
ORIENTATION = "orientation"
#: X points to the right, Y to the front and Z up, as in volumes read from NIfTI files.
RAS = "RAS"
#: X points to the left, Y to the back and Z up, as in simulated skulls.
LPS = "LPS"
#: Directions of the axes in words, by orientation.
DIRECTIONS = {RAS: "Z up and Y to the front", LPS: "Z up and Y to the back"}
#: Key in the metadata of a volume; its value is the matrix, row by row, that rotates
#: positions along the axes of an oblique volume to the directions right, front and up.
#: The key is missing if there is no rotation.
ROTATION = "rotation"
#: Number of elements of the rotation matrix.
_N_ELEMENTS = 9


def orientation_of(metadata: AnyMapping) -> str:
    """Return the directions of the axes; empty if they are unknown.

    Examples
    --------
    >>> orientation_of({"format": "NIfTI", "orientation": "RAS"})
    'RAS'
    """
    value = metadata.get(ORIENTATION)
    return value if isinstance(value, str) else ""


def rotation_of(metadata: AnyMapping) -> tuple[float, ...]:
    """Return the rotation matrix of an oblique volume, row by row; empty for others.

    Examples
    --------
    >>> rotation_of({"rotation": [0, -1, 0, 1, 0, 0, 0, 0, 1]})
    (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    """
    value = metadata.get(ROTATION)
    if not isinstance(value, list | tuple) or len(value) != _N_ELEMENTS:
        return ()
    if not all(isinstance(element, int | float) for element in value):
        return ()
    return tuple(map(float, value))


def orientation_entry(orientation: str, rotation: Iterable[float] = ()) -> AnyDict:
    """Return the metadata entries that record an orientation; empty if it is unknown.

    Examples
    --------
    >>> orientation_entry("LPS"), orientation_entry("")
    ({'orientation': 'LPS'}, {})
    """
    entry: AnyDict = {ORIENTATION: orientation} if orientation else {}
    matrix = tuple(rotation)
    return entry | {ROTATION: matrix} if orientation and matrix else entry


def same_orientation(metadata: AnyMapping) -> AnyDict:
    """Return only the entries of `metadata` that describe the orientation.

    Examples
    --------
    >>> same_orientation({"format": "NIfTI", "orientation": "RAS"})
    {'orientation': 'RAS'}
    """
    return orientation_entry(orientation_of(metadata), rotation_of(metadata))


def model_frame(
    metadata: AnyMapping, voxel_size: Sequence[float], *, turned: bool
) -> AnyArray | None:
    """Return the directions right, front and up of an oblique volume on its grid.

    Parameters
    ----------
    metadata : mapping
        Metadata of the volume.
    voxel_size : sequence of float
        Edge lengths of a voxel (Z, Y, X).
    turned : bool
        Whether the voxels were rotated by half a turn about Z (`half_turn`); if so, the
        directions are left, back and up.

    Returns
    -------
    ndarray of shape (3, 3), or None
        Each column is one direction (in the order up, front, right), in voxels (Z, Y,
        X) per shortest edge of a voxel; None if no rotation is recorded or the
        orientation is not RAS.

    Examples
    --------
    >>> oblique = orientation_entry("RAS", (1, 0, 0, 0, 0.8, -0.6, 0, 0.6, 0.8))
    >>> frame = model_frame(oblique, (2.0, 1.0, 1.0), turned=False)
    >>> frame[:, 0].tolist()  # up
    [0.4, 0.6, 0.0]
    >>> model_frame(orientation_entry("RAS"), (2.0, 1.0, 1.0), turned=False)
    """
    elements = rotation_of(metadata)
    if not elements or orientation_of(metadata) != RAS:
        return None
    rotation = np.reshape(elements, (3, 3))[::-1, ::-1]
    if turned:
        half = np.diag([1.0, -1.0, -1.0])
        rotation = half @ rotation @ half
    size: AnyArray = np.array(voxel_size, np.float64)
    frame: AnyArray = (size.min() / size)[:, None] * rotation.T
    return frame


def rotation_angle(metadata: AnyMapping) -> float:
    """Return the angle of the recorded rotation of a volume, in degrees.

    Examples
    --------
    >>> rotation_angle({"rotation": [0, -1, 0, 1, 0, 0, 0, 0, 1]})
    90.0
    """
    elements = rotation_of(metadata)
    if not elements:
        return 0.0
    cosine = (elements[0] + elements[4] + elements[8] - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def half_turn(mask: AnyArray) -> AnyArray:
    """Rotate an array by half a turn about Z, without mirroring it: RAS ↔ LPS."""
    return np.ascontiguousarray(mask[:, ::-1, ::-1])
