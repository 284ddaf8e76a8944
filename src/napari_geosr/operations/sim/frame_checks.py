"""Refuse frames that cannot be reconstructed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from napari_geosr.core.arrays import at_indices
from napari_geosr.core.errors import VolumeError
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.volume import Volume

FloatArray = npt.NDArray[np.float32]

#: Maximum fraction of a frame's pixels at the camera's maximum value; with more, the
#: frame counts as saturated.
MAX_SATURATED = 0.01
#: Permitted range of the largest grey value of floating-point frames.
_GREY_VALUES = (1e-6, 1e12)
#: Maximum grey values of cameras.
_CAMERA_LIMITS = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
#: Minimum fraction of pixels with the largest grey value for this value to count as the
#: camera's maximum.
_MANY = 1e-3
#: Range of grey values just below the largest one, relative to the whole range.
_TAIL = 0.02
#: Standard deviation, relative to the mean, below which a frame has no detail.
_CONSTANT = 1e-6


def check_plane(
    block: FloatArray, frames: SimFrames, plane: int, time: int, channel: int
) -> None:
    """Refuse the frames of a plane that cannot be reconstructed.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
    frames : SimFrames
    plane, time, channel : int
        Position of the plane, which messages name.

    Raises
    ------
    VolumeError
        If frames have NaN or infinite pixels, lack light or detail, are saturated, or
        are very small.
    """
    title = f"{frames.volume.title}{frames.where(plane, time, channel)}"
    offset = frames.channel_offset(channel)
    if min(block.shape[-2:]) < 16:
        raise VolumeError(
            f"{title} has frames of {block.shape[-2]} × {block.shape[-1]} pixels; at "
            "least 16 × 16 are needed. Use larger frames."
        )
    unknown = ~np.isfinite(block)
    if unknown.any():
        angle, phase = np.argwhere(unknown)[0][:2]
        raise VolumeError(
            f"{title} has {int(unknown.sum())} NaN or infinite pixels, the first in "
            f"angle {angle + 1}, phase {phase + 1}. Replace or crop them."
        )
    mean = block.mean(axis=(2, 3), dtype=np.float64)
    if mean.min() < 0:
        _refuse_flat(np.ptp(block, axis=(2, 3)) == 0, title)
        angle, phase = np.unravel_index(int(np.argmin(mean)), mean.shape)
        raise VolumeError(
            f"{title}: the frame of angle {angle + 1}, phase {phase + 1} has a "
            f"mean of {mean.min():.4g} after the camera offset of "
            f"{offset:.4g} is subtracted, so it contains no light. Correct "
            "the offset (--offset)."
        )
    _refuse_saturated(block, frames, title, channel)
    _refuse_flat(block.std(axis=(2, 3)) <= _CONSTANT * np.maximum(mean, 1e-30), title)


def refuse_extreme(volume: Volume) -> None:
    """Refuse grey values whose squares exceed the range of single precision.

    Raises
    ------
    VolumeError
        If the largest value of the middle image is outside the range.
    """
    if volume.dtype.kind != "f":
        return
    middle = {i: n // 2 for i, n in enumerate(volume.shape[:-2])}
    image = np.abs(np.asarray(at_indices(volume.data, middle), np.float64))
    largest = float(image.max(initial=0.0, where=np.isfinite(image)))
    low, high = _GREY_VALUES
    if largest and not low <= largest <= high:
        raise VolumeError(
            f"The grey values of {volume.title} reach {largest:.2g}, but must lie "
            f"between {low:g} and {high:g}. Multiply the frames by a constant, so "
            "that the largest value is about 1000."
        )


def usable_plane(frames: SimFrames, time: int = 0, channel: int = 0) -> int:
    """Return the usable slice that is nearest to the middle.

    Raises
    ------
    VolumeError
        If no slice is usable; the message is that of the middle slice.
    """
    middle = frames.n_planes // 2
    first: VolumeError | None = None
    for plane in sorted(range(frames.n_planes), key=lambda p: abs(p - middle)):
        block = frames.frames(plane, time, channel)
        try:
            check_plane(block, frames, plane, time, channel)
        except VolumeError as error:
            first = first or error
        else:
            return plane
    assert first is not None
    raise first


def _refuse_flat(is_flat: npt.NDArray[np.bool_], title: str) -> None:
    if is_flat.any():
        angle, phase = np.argwhere(is_flat)[0]
        raise VolumeError(
            f"{title}: the frame of angle {angle + 1}, phase {phase + 1} has the same "
            "grey value everywhere. Check that the acquisition is complete."
        )


def _refuse_saturated(
    block: FloatArray, frames: SimFrames, title: str, channel: int
) -> None:
    shares = saturated_fraction(block, frames, channel)
    if shares.max() > MAX_SATURATED:
        angle, phase = np.unravel_index(int(np.argmax(shares)), shares.shape)
        raise VolumeError(
            f"{title}: {100 * shares.max():.1f} % of the pixels of angle {angle + 1}, "
            f"phase {phase + 1} have the largest grey value, so the frame is "
            "saturated. Record it with less light or a shorter exposure."
        )


def saturated_fraction(
    block: FloatArray, frames: SimFrames, channel: int = 0
) -> FloatArray:
    """Return the fraction of pixels in each frame at the camera's maximum value.

    The camera's maximum is the largest grey value of all frames, if it is the maximum
    of a common bit depth (8, 10, 12, 14 or 16 bits), or if many pixels have this value
    and fewer have values just below it, because cameras and corrections also clip at
    other values. If neither applies, no pixel counts as saturated.
    """
    values = block + np.float32(frames.channel_offset(channel))
    is_integer = frames.volume.dtype.kind in "iu"
    if is_integer:
        values = np.rint(values)
    top, lowest = float(values.max()), float(values.min())
    at_top = values >= top - 1e-6 * abs(top)
    if not (is_integer and top in _CAMERA_LIMITS):
        width = max(float(is_integer), _TAIL * (top - lowest))
        n, below = np.count_nonzero(at_top), np.count_nonzero(values >= top - width)
        is_limit = n >= _MANY * values.size and 2 * n > below
        if top == lowest or not is_limit:  # another check refuses constant frames
            return np.zeros(block.shape[:2], np.float32)
    found: FloatArray = at_top.mean(axis=(2, 3), dtype=np.float32)
    return found
