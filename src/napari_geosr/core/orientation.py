"""Anatomical directions of the axes of a volume."""

from __future__ import annotations

import numpy as np

from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping

#: Key in the metadata of a volume; its value names the directions in which X, Y and Z
#: point. It is missing if they are unknown.
ORIENTATION = "orientation"
#: X points to the right, Y to the front and Z up, as in volumes read from NIfTI files.
RAS = "RAS"
#: X points to the left, Y to the back and Z up, as in simulated skulls.
LPS = "LPS"
#: Directions of the axes in words, by orientation.
DIRECTIONS = {RAS: "Z up and Y to the front", LPS: "Z up and Y to the back"}


def orientation_of(metadata: AnyMapping) -> str:
    """Return the directions of the axes; empty if they are unknown.

    Examples
    --------
    >>> orientation_of({"format": "NIfTI", "orientation": "RAS"})
    'RAS'
    """
    value = metadata.get(ORIENTATION)
    return value if isinstance(value, str) else ""


def orientation_entry(orientation: str) -> AnyDict:
    """Return the entry for the metadata of a volume; empty if unknown.

    Examples
    --------
    >>> orientation_entry("LPS"), orientation_entry("")
    ({'orientation': 'LPS'}, {})
    """
    return {ORIENTATION: orientation} if orientation else {}


def same_orientation(metadata: AnyMapping) -> AnyDict:
    """Return the entry for a volume made from another one on the same axes.

    Examples
    --------
    >>> same_orientation({"format": "NIfTI", "orientation": "RAS"})
    {'orientation': 'RAS'}
    """
    return orientation_entry(orientation_of(metadata))


def half_turn(mask: AnyArray) -> AnyArray:
    """Rotate an array by half a turn about Z, without mirroring it: RAS ↔ LPS."""
    return np.ascontiguousarray(mask[:, ::-1, ::-1])
