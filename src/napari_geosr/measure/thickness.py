"""Local thickness: the diameter of the largest ball that fits and holds a point.

References
----------
.. [1] Hildebrand, Rüegsegger. A new method for the model-independent assessment of
   thickness in three-dimensional images. J. Microsc. 185, 67-75 (1997).
   doi:10.1046/j.1365-2818.1997.1340694.x
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

_SURFACE = 0.25
#: A ball reaches voxels that it covers by half, beyond its radius less `_SURFACE`.
_REACH = 0.75


def local_thickness(mask: Mask, *, ratio: float = 1.06) -> npt.NDArray[np.float32]:
    """Thickness of a phase at each of its voxels [1]_.

    Parameters
    ----------
    mask : ndarray of bool, ([Z,] Y, X)
        The phase; the outside of the image counts as part of it.
    ratio : float
        Of successive diameters that are tried: the result is at most so much too small.

    Returns
    -------
    ndarray of float32, same shape
        In voxels (which are taken for cubes), to about a voxel; 0 outside of the phase.
        Tb.Th is its mean over the solid, Tb.Sp that over the pores.
    """
    from scipy.ndimage import distance_transform_edt

    thickness = np.zeros(mask.shape, np.float32)
    if not mask.any():
        return thickness
    if mask.all():
        thickness[:] = np.inf
        return thickness
    # To the middle of the first voxel beyond. The surface is half a voxel nearer, but
    # the middle of an even number of voxels half a voxel farther: a quarter errs least.
    distance = distance_transform_edt(mask) - _SURFACE
    largest = float(distance[mask].max())
    n = int(np.ceil(np.log(largest / 0.5) / np.log(ratio))) + 1
    for radius in np.geomspace(largest, 0.5, max(n, 1)):
        centres = distance >= radius
        reached = distance_transform_edt(~centres) < radius + _REACH
        fresh = reached & mask & (thickness == 0)
        thickness[fresh] = 2 * radius
    # A voxel is as thick as itself where no ball of half a voxel's radius fits.
    thickness[mask & (thickness == 0)] = 1.0
    return thickness
