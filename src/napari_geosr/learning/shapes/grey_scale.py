"""Mean and standard deviation of the grey values of a scan inside a mask.

Large scans are read a few planes at a time, and equally spaced voxels of the mask are
used, so that the memory does not depend on the size of the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import Cancelled, VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop, StageStarted, Step
from napari_geosr.core.types import AnyArray

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume

#: Maximum number of voxels of the mask used to estimate mean and standard deviation.
_MAX_SAMPLES = 2**22
#: Minimum and maximum number of voxels read at a time.
_MIN_AT_ONCE = 2**20
_MAX_AT_ONCE = 2**24
#: Bytes for each voxel read at a time, in addition to its grey value and a copy of it:
#: flags for voxels in the mask and for finite values.
_FLAG_BYTES = 3
#: Bytes for each voxel that is used: its grey value in float64.
_SAMPLE_BYTES = 8


def grey_scale_bytes(shape: Sequence[int], itemsize: int, n_inside: int) -> int:
    """Return the minimum memory that `grey_scale_steps` needs, in bytes.

    Parameters
    ----------
    shape : sequence of int
        Shape of the scan (Z, Y, X).
    itemsize : int
        Bytes per grey value.
    n_inside : int
        Number of voxels in the mask.
    """
    plane = shape[1] * shape[2]
    at_once = min(max(_MIN_AT_ONCE, plane), shape[0] * plane)
    sample = _SAMPLE_BYTES * min(n_inside, _MAX_SAMPLES)
    return sample + at_once * (2 * itemsize + _FLAG_BYTES)


def grey_scale_steps(
    volume: Volume,
    inside: Callable[[slice], AnyArray],
    n_inside: int,
    should_stop: ShouldStop,
    budget: int | None = None,
) -> Generator[Step, None, tuple[float, float]]:
    """Return the mean and standard deviation of the grey values inside a mask.

    Parameters
    ----------
    volume : Volume
        Grey values (Z, Y, X).
    inside : callable
        Returns the requested planes of the mask, as an array of bool.
    n_inside : int
        Number of voxels in the mask, at least 1. If there are many, equally spaced
        ones are used.
    should_stop : callable
    budget : int, optional
        Bytes of memory that may be used; at least `grey_scale_bytes`.

    Raises
    ------
    VolumeError
        If there are NaN or infinite values inside the mask.
    Cancelled
        If `should_stop` returns True.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_geosr.core.steps import never_stop, run_to_end
    >>> from napari_geosr.core.volume import Volume
    >>> scan = Volume(np.array([[[1.0, 3.0, 9.0]]]), "ZYX")
    >>> mask = scan.data < 5
    >>> run_to_end(grey_scale_steps(scan, lambda planes: mask[planes], 2, never_stop))
    (2.0, 1.0)
    """
    yield StageStarted(message=f"Reading {volume.title}")
    depth = _depth(volume, n_inside, budget)
    step = -(-n_inside // _MAX_SAMPLES)
    sample: AnyArray = np.empty(-(-n_inside // step))
    n_seen = 0
    for start in range(0, volume.shape[0], depth):
        if should_stop():
            raise Cancelled("Stopped while reading; no file was written.")
        planes = slice(start, start + depth)
        mask = inside(planes)
        if mask.any():
            values = np.asarray(volume.data[planes])[mask]
            if not np.isfinite(values).all():
                raise VolumeError(
                    f"{volume.title} has NaN or infinite values inside the mask. "
                    "Replace them, or exclude them from the mask."
                )
            used = values[-n_seen % step :: step]
            first = -(-n_seen // step)
            sample[first : first + len(used)] = used
            n_seen += len(values)
        yield BlockDone(min(start + depth, volume.shape[0]), volume.shape[0])
    mean = float(sample.mean())
    sample -= mean
    sample *= sample
    return mean, max(float(np.sqrt(sample.mean())), 1e-12)


def _depth(volume: Volume, n_inside: int, budget: int | None) -> int:
    """Return the number of planes to read at a time."""
    at_once = _MAX_AT_ONCE
    if budget is not None:
        left = budget - _SAMPLE_BYTES * min(n_inside, _MAX_SAMPLES)
        fitting = left // (2 * volume.dtype.itemsize + _FLAG_BYTES)
        at_once = min(max(_MIN_AT_ONCE, fitting), _MAX_AT_ONCE)
    return max(1, at_once // max(1, volume.shape[1] * volume.shape[2]))
