"""Write volumes to files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from napari_geosr import io
from napari_geosr.api.arrays import VolumeLike, as_volume
from napari_geosr.core.steps import ShouldStop, never_stop


def write(
    volume: VolumeLike,
    path: str | Path,
    *,
    axes: str | None = None,
    overwrite: bool = False,
    kind: Literal["image", "labels"] | None = None,
    should_stop: ShouldStop = never_stop,
) -> Path:
    """Write a volume block by block; a lazy volume is never loaded as a whole.

    Parameters
    ----------
    volume : Volume or array
        Two to five axes, any real dtype.
    path : str or Path
        The suffix determines the format: ``.ome.tif``, ``.tif``, ``.ome.zarr`` or
        ``.nii.gz``. The file appears at this path only when it is complete.
    axes : str, optional
        Meaning of the axes of a plain array, e.g. ``"TYX"``.
    overwrite : bool
        Whether an existing file is replaced.
    kind : {"image", "labels"}, optional
        Kind of data; by default taken from the volume's metadata, or ``"image"`` if
        they do not state it.
    should_stop : callable
        Called before every block.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    FileError
        If the file exists and `overwrite` is False, its format is unknown, or it cannot
        be written.
    Cancelled
        If `should_stop` returns True; `path` is then unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> volume = geosr.Volume.from_array(np.zeros((8, 32, 32)), 0.5, "mm")
    >>> print(geosr.write(volume, "zeros.ome.tif"))
    zeros.ome.tif
    >>> geosr.read("zeros.ome.tif").voxel_size
    (0.5, 0.5, 0.5)
    """
    return io.write(
        as_volume(volume, axes),
        path,
        overwrite=overwrite,
        kind=kind,
        should_stop=should_stop,
    )
