"""Keep the voxels of an input as they were when they were read.

Layers share their arrays with volumes, so painting into a layer changes the input of a
run. The result, its record and its figures must come from the same voxels.
"""

from __future__ import annotations

import zlib

import numpy as np

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.volume import Volume


def snapshot(volume: Volume, limit: float = np.inf) -> Volume:
    """Copy voxels that are in memory, so that later changes have no effect.

    Parameters
    ----------
    volume : Volume
        Returned unchanged if its voxels are read from a file when they are needed.
    limit : float
        Number of bytes above which the voxels are not copied.

    Examples
    --------
    >>> painted = Volume(np.zeros((1, 2, 2)), "ZYX")
    >>> kept = snapshot(painted)
    >>> painted.data[:] = 1
    >>> float(kept.data.max())
    0.0
    """
    if volume.is_lazy or volume.nbytes > limit:
        return volume
    return volume.replace(data=np.array(volume.data))


def change_warning(
    volume: Volume, before: str, should_stop: ShouldStop = never_stop
) -> str:
    """Return a warning if voxels in memory have changed during the run; else "".

    A change that has been undone is not noticed.

    Parameters
    ----------
    volume : Volume
    before : str
        Result of `fingerprint` at the beginning of the run; "" to skip the comparison.
    should_stop : callable

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    if not before or fingerprint(volume, should_stop) == before:
        return ""
    return (
        f"{volume.title} was changed during the run, so the result may be a mixture of "
        "old and new data. Repeat the run."
    )


def fingerprint(volume: Volume, should_stop: ShouldStop = never_stop) -> str:
    """Return a checksum of all voxels in memory; "" for voxels in a file.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.

    Examples
    --------
    >>> fingerprint(Volume(np.zeros((2, 2, 2)), "ZYX"))
    '758d6336'
    """
    if volume.is_lazy:
        return ""
    crc = 0
    for plane in np.asarray(volume.data):  # copy only one plane at a time
        if should_stop():
            raise Cancelled("Stopped.")
        crc = zlib.crc32(np.ascontiguousarray(plane).data, crc)
    return f"{crc:08x}"
