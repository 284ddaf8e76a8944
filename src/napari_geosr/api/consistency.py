"""Check a restored volume against its scan."""

from __future__ import annotations

from napari_geosr.api.arrays import VolumeLike, as_pair
from napari_geosr.api.running import run_with_warnings
from napari_geosr.operations.cluster import Workers
from napari_geosr.operations.restore.consistency import (
    ConsistencyCheck,
    consistency_steps,
)


def check_consistency(
    scan: VolumeLike,
    result: VolumeLike,
    *,
    axes: str | None = None,
    workers: Workers | None = None,
) -> ConsistencyCheck:
    """Compare a restored volume with the scan from which it was made.

    The result is blurred and averaged to the resolution of the scan, and differences
    that noise cannot explain are reported.

    Parameters
    ----------
    scan : Volume or array
        The scan, shape (Z, Y, X) or (Y, X).
    result : Volume or array
        The restored volume at the same position. Its voxels are as large as those of
        the scan, or smaller by an integer factor. An array of the same shape is placed
        at the position of the other volume.
    axes : str, optional
        Meaning of the axes of plain arrays, ``"ZYX"`` or ``"YX"`` by default.
    workers : int or distributed.Client, optional
        Number of processes that share the comparison, or a client of a Dask cluster;
        requires the extra ``cluster``.

    Returns
    -------
    ConsistencyCheck
        Contains the `residual` as a volume, its `figures`, and `sentences` on
        differences that noise does not explain.

    Raises
    ------
    VolumeError
        If the volumes do not show the same region on compatible grids.
    ConfigError
        If `axes` is given but neither input is an array, or `workers` is invalid.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> rng = np.random.default_rng(0)
    >>> true = np.zeros((16, 48, 48), "f4")
    >>> true[:, 16:32, 16:32] = 100
    >>> scan = true + rng.normal(0, 5, true.shape).astype("f4")
    >>> geosr.check_consistency(scan, true).sentences
    ()
    >>> made_up = true.copy()
    >>> made_up[6:10, 36:44, 36:44] = 100
    >>> geosr.check_consistency(scan, made_up).sentences[0][:43]
    'In one region, the result does not fit the '
    """
    scan_volume, result_volume = as_pair(scan, result, axes, ("scan", "result"))
    return run_with_warnings(
        consistency_steps(scan_volume, result_volume, workers=workers)
    )
