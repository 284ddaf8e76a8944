"""Hold out a block of every volume for validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_geosr.core.errors import VolumeError

#: Number of planes left out between training and validation data, in addition to the
#: adjacent slices of 2.5D networks.
_GAP = 1
#: Minimum length in voxels of the training range along the axis that is split.
_MIN_TRAINING = 8


@dataclass(frozen=True)
class Split:
    """Training and validation ranges of one volume, along one axis.

    Attributes
    ----------
    axis : int
        Axis of the volume.
    train : tuple of (start, stop)
        Intervals along `axis`.
    validation : (start, stop)
        The held-out block.
    """

    axis: int
    train: tuple[tuple[int, int], ...]
    validation: tuple[int, int]


def split(
    shape: tuple[int, ...], share: float, planes: int, rng: np.random.Generator
) -> Split:
    """Hold out a block of about `share` of the volume, at an end of its longest axis.

    Neighbouring slices are nearly equal, so slices drawn at random for validation would
    not be independent of the training data, whereas a block that is separated by a gap
    is nearly independent.

    Parameters
    ----------
    shape : tuple of int
        (Z, Y, X) or (Y, X).
    planes : int
        Number of slices that a 2.5D network takes as input.

    Raises
    ------
    VolumeError
        If the volume is too small to be split.
    """
    axis = int(np.argmax(shape))
    n = shape[axis]
    gap = _GAP + (planes // 2 if axis == 0 and len(shape) == 3 else 0)
    minimum = min(16, n // 4)
    size = max(minimum, round(share * n))
    left = n - size - gap
    if size < 1 or left < _MIN_TRAINING:
        raise VolumeError(
            f"A volume of {' × '.join(map(str, shape))} voxels is too small to train "
            "on: without the block held out for validation and the gap next to it, "
            f"{max(0, left)} voxels remain along its longest axis, but at least "
            f"{_MIN_TRAINING} are needed."
        )
    if rng.random() < 0.5:
        return Split(axis, ((size + gap, n),), (0, size))
    return Split(axis, ((0, n - size - gap),), (n - size, n))
