"""Estimates how long the prediction of the effect of a run takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.inference.members import is_generative

if TYPE_CHECKING:
    from napari_geosr.operations.restore.preparation import PreparedRestoration

#: Seconds for everything but running the model: drawing blocks and counting pores.
_START_SECONDS = 10.0
#: Approximate number of voxels that a denoiser processes during a prediction, including
#: margins.
_VOXELS = 4_000_000
#: Approximate number of voxels that a super-resolution model processes during a
#: prediction.
_VOXELS_FINER = 2_000_000
#: Approximate maximum number of times that each voxel of a small scan is processed.
_MAX_RUNS = 8


def verdict_seconds(
    prepared: PreparedRestoration, seconds: float, n_voxels: int
) -> float:
    """Estimate the time of `verdict_steps`, correct to within about a factor of three.

    Parameters
    ----------
    prepared : PreparedRestoration
    seconds : float
        Time in which one process runs the model on the whole volume.
    n_voxels : int
        Number of voxels of this volume.

    Returns
    -------
    float
        0 if the model is not run for the prediction.
    """
    if prepared.labels or is_generative(prepared.config.uncertainty):
        return 0.0
    voxels = _VOXELS_FINER if max(prepared.factors) > 1 else _VOXELS
    return _START_SECONDS + seconds * min(_MAX_RUNS, voxels / max(1, n_voxels))
