"""The automatic sample mask: the envelope of the largest solid body."""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from napari_geosr.core.config import format_bytes
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import (
    ResultReady,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)

#: Bytes per voxel that the envelope takes at its peak.
_BYTES_PER_VOXEL = 8


def envelope_steps(
    solid: np.ndarray,
    closing: int,
    *,
    name: str = "volume",
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, None]:
    """Largest 26-connected body of `solid`, closed and with its holes filled.

    Made for a specimen with air around it. In a cube cut out of a larger piece every
    voxel is sample: use no mask there.

    Parameters
    ----------
    solid : ndarray of shape (Z, Y, X), bool
    closing : int
        Steps of dilation and erosion (octahedra of that radius in voxels): mouths of
        open pores up to twice as wide are bridged and belong to the sample.

    Returns
    -------
    generator of Step
        The result is the mask, an ndarray of shape (Z, Y, X), bool.

    Raises
    ------
    VolumeError
        If there is no solid at all.
    """
    import cc3d
    from scipy import ndimage

    def check() -> None:
        if should_stop():
            raise Cancelled("Measuring was cancelled while finding the sample.")

    yield StageStarted(message="Finding the sample")
    if not solid.any():
        raise VolumeError(
            f"{name!r} has no solid at this threshold, so no sample can be found. "
            "Change the threshold or the phase, or use no sample mask."
        )
    body = cc3d.largest_k(solid.view(np.uint8), k=1, connectivity=26).astype(bool)
    check()
    flat = body.shape[0] == 1
    # Dilation must not be stopped by the border, or erosion would eat from it.
    margin = [(0, 0) if flat and axis == 0 else (closing, closing) for axis in range(3)]
    padded = np.pad(body, margin)
    cross = ndimage.generate_binary_structure(3, 1)
    if flat:
        cross[[0, 2]] = False
    for operation in (ndimage.binary_dilation, ndimage.binary_erosion):
        for _ in range(closing):
            padded = operation(padded, cross)
            check()
            yield StageStarted(message="Finding the sample")
    inner = tuple(
        slice(low, size - high)
        for (low, high), size in zip(margin, padded.shape, strict=True)
    )
    closed = padded[inner] | body
    outside = _reached_from_border(~closed, flat)
    check()
    yield ResultReady(result=~outside)


def _reached_from_border(empty: np.ndarray, flat: bool) -> np.ndarray:
    """Voxels of `empty` that 6-neighbours connect to the border (no holes)."""
    import cc3d

    labels = cc3d.connected_components(empty.view(np.uint8), connectivity=6)
    at_border = np.zeros(int(labels.max()) + 1, bool)
    for axis in range(1 if flat else 0, 3):
        for end in (0, -1):
            at_border[np.unique(labels.take(end, axis=axis))] = True
    at_border[0] = False
    reached: np.ndarray = at_border[labels]
    return reached


def check_envelope_memory(shape: tuple[int, ...], available: int, name: str) -> None:
    """Raise `VolumeError` if the mask of a volume of `shape` does not fit in memory."""
    needed = math.prod(shape) * _BYTES_PER_VOXEL
    if needed > available:
        raise VolumeError(
            f"The automatic sample mask of {name!r} needs about {format_bytes(needed)} "
            f"of memory, but {format_bytes(available)} are free. Give a mask layer "
            "instead, or use no sample mask."
        )
