"""Keep the voxels of an input as they were when they were read.

Layers share their arrays with volumes, so painting into a layer changes the input of a
run. The result, its record and its figures must come from the same voxels.
"""

from __future__ import annotations

import numpy as np

from napari_geosr.core import provenance
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


def change_warning(volume: Volume, before: str) -> str:
    """Return a warning if voxels in memory were changed during a run; else "".

    Parameters
    ----------
    volume : Volume
    before : str
        Result of `fingerprint` at the beginning of the run.
    """
    if fingerprint(volume) == before:
        return ""
    return (
        f"{volume.title} was changed during the run, so the result may be a mixture of "
        "old and new data. Run again."
    )


def fingerprint(volume: Volume) -> str:
    """Return the checksum of some planes in memory; "" for voxels in a file."""
    return "" if volume.is_lazy else provenance.array_checksum(volume.data)
