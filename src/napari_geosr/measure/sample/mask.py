"""The automatic sample mask: the largest solid body with its pores filled."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.config import (
    format_available,
    format_enough,
)
from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.measure.blocks import (
    RawTable,
    SlabLabeller,
    blocks_along_z,
    slab_thickness,
)
from napari_geosr.measure.kernels import columns as column

Mask = npt.NDArray[np.bool_]

#: Peak memory in bytes per voxel for the mask, and for a second mask that checks it.
_BYTES_PER_VOXEL = 10
#: Empty step, yielded regularly so that the caller can stop; the caller names the
#: stage.
_HEARTBEAT = Step()


def sample_mask_steps(
    solid: np.ndarray,
    closing: int,
    *,
    name: str = "volume",
    thickness: int | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Mask]:
    """Find the largest 26-connected body of `solid`, close it and fill its holes.

    The mask is meant for a specimen surrounded by air. In a cube cut from a larger
    piece, every voxel belongs to the sample, so no mask is needed.

    Parameters
    ----------
    solid : ndarray of shape (Z, Y, X), bool
    closing : int
        Radius of the closing in voxels (octahedra): pore openings of up to twice this
        radius are bridged, and these pores then belong to the sample.
    thickness : int, optional
        Number of planes labelled together.

    Returns
    -------
    ndarray of shape (Z, Y, X), bool
        The sample mask.

    Raises
    ------
    VolumeError
        If there is no solid at all.
    Cancelled
        If `should_stop`, called every few million voxels, returns True.
    """

    def check() -> None:
        """Raise `Cancelled` if the measurement is to stop."""
        if should_stop():
            raise Cancelled(
                f"Measuring {name!r} was cancelled while finding the sample."
            )

    if not solid.any():
        raise VolumeError(
            f"{name!r} has no solid at this threshold, so no sample can be found. "
            "Change the threshold or the phase, or use no sample mask.",
            fields=["sample_mask"],
        )
    body = yield from _chosen_bodies(solid, 26, _is_largest, check, thickness)
    flat = body.shape[0] == 1
    # Assume that the sample continues beyond the faces of the volume: with air outside,
    # pores that a face cuts would be open.
    margin = [(0, 0) if flat and axis == 0 else (closing, closing) for axis in range(3)]
    closed = np.pad(body, margin, mode="edge")
    for grow in (True, False):
        for _ in range(closing):
            check()
            closed = dilated(closed) if grow else ~dilated(~closed)
            yield _HEARTBEAT
    inner = tuple(
        slice(low, size - high)
        for (low, high), size in zip(margin, closed.shape, strict=True)
    )
    empty = ~(closed[inner] | body)
    del closed, body
    outside = yield from _chosen_bodies(empty, 6, _touches_border, check, thickness)
    return ~outside


def _is_largest(raw: RawTable) -> np.ndarray:
    count = raw.rows[:, column.COUNT]
    largest = np.zeros(len(count), bool)
    largest[np.argmax(count)] = True
    return largest


def _touches_border(raw: RawTable) -> np.ndarray:
    touches: np.ndarray = raw.rows[:, column.TOUCHES] != 0
    return touches


def _chosen_bodies(
    mask: np.ndarray,
    connectivity: Literal[6, 26],
    choose: Callable[[RawTable], np.ndarray],
    check: Callable[[], None],
    thickness: int | None,
) -> Generator[Step, None, np.ndarray]:
    """Return the voxels of the connected bodies of `mask` selected by `choose`."""
    z, y, x = mask.shape
    labeller = SlabLabeller((z, y, x), (1.0, 1.0, 1.0), connectivity, flat=z == 1)
    slabs = blocks_along_z(mask.shape, thickness or slab_thickness(mask))
    labels = np.empty(mask.shape, np.uint32)
    offsets = []
    for slab in slabs:
        check()
        labels[slab], offset = labeller.add(mask[slab], None)
        offsets.append(offset)
        yield _HEARTBEAT
    raw = labeller.finish()
    is_chosen = np.zeros(len(raw.rows) + 1, bool)
    if len(raw.rows):
        is_chosen[1:] = choose(raw)
    is_chosen = is_chosen[raw.lookup]
    chosen = np.empty(mask.shape, bool)
    for slab, offset in zip(slabs, offsets, strict=True):
        check()
        chosen[slab] = is_chosen[offset:][labels[slab]] & mask[slab]
    return chosen


def dilated(mask: np.ndarray) -> np.ndarray:
    """Dilate `mask` to its 6-connected neighbours, faster than a general dilation."""
    result = mask.copy()
    for axis in range(3):
        into, source = np.moveaxis(result, axis, 0), np.moveaxis(mask, axis, 0)
        into[1:] |= source[:-1]
        into[:-1] |= source[1:]
    return result


def sample_mask_bytes(shape: tuple[int, ...]) -> int:
    """Return the bytes needed to find a volume's mask, besides those for slabs."""
    return math.prod(shape) * _BYTES_PER_VOXEL


def check_sample_mask_memory(shape: tuple[int, ...], available: int, name: str) -> None:
    """Raise `VolumeError` if the mask of a volume of `shape` does not fit in memory.

    Parameters
    ----------
    shape : tuple of int
    available : int
        Available memory in bytes.
    name : str
        Name of the volume, for the message.
    """
    needed = sample_mask_bytes(shape)
    if needed > available:
        raise VolumeError(
            f"The automatic sample mask of {name!r} needs about "
            f"{format_enough(needed)} of memory, but {format_available(available)} "
            "is free. Use a mask of your own, or no sample mask.",
            fields=["sample_mask"],
        )
