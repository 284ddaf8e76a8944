"""Local thickness: diameter of the largest sphere in a phase that contains a point.

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

#: Correction of the distance to the surface, in voxels (see below).
_SURFACE = 0.25
#: Distance beyond a sphere's radius, in voxels, up to which voxel centres belong to it:
#: voxels that it covers by half are included.
_REACH = 0.75


def local_thickness(mask: Mask, *, ratio: float = 1.06) -> npt.NDArray[np.float32]:
    """Thickness of a phase at each of its voxels [1]_.

    Parameters
    ----------
    mask : ndarray of bool, ([Z,] Y, X)
        The phase; the outside of the image counts as part of it.
    ratio : float
        Ratio of successive diameters; the result is too small by at most this factor.

    Returns
    -------
    ndarray of float32, same shape
        In voxels (assumed cubic), accurate to about a voxel; 0 outside the phase. Its
        mean is Tb.Th for the solid and Tb.Sp for the pores.
    """
    from scipy.ndimage import distance_transform_edt

    thickness = np.zeros(mask.shape, np.float32)
    if not mask.any():
        return thickness
    if mask.all():
        thickness[:] = np.inf
        return thickness
    # The distance is to the centre of the first voxel outside. The surface is half a
    # voxel nearer, but the centre of an even number of voxels is half a voxel farther:
    # a quarter minimises the error.
    distance = distance_transform_edt(mask) - _SURFACE
    largest = float(distance[mask].max())
    n = int(np.ceil(np.log(largest / 0.5) / np.log(ratio))) + 1
    for radius in np.geomspace(largest, 0.5, max(n, 1)):
        centres = distance >= radius
        reached = distance_transform_edt(~centres) < radius + _REACH
        fresh = reached & mask & (thickness == 0)
        thickness[fresh] = 2 * radius
    # Where no sphere with a radius of half a voxel fits, the thickness is one voxel.
    thickness[mask & (thickness == 0)] = 1.0
    return thickness
