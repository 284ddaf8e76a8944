"""Signed distance to the surface of a shape, as a target for learning.

The distance is truncated far from the surface, as for the fusion of depth images [1]_.
Networks that predict it describe the surface as its zero level [2]_.

References
----------
.. [1] Curless and Levoy. A volumetric method for building complex models from range
   images. SIGGRAPH 1996, 303-312. doi:10.1145/237170.237269
.. [2] Park et al. DeepSDF: learning continuous signed distance functions for shape
   representation. CVPR 2019. arXiv:1901.05103
"""

from __future__ import annotations

import numpy as np

from napari_geosr.core.types import AnyArray

#: Distance beyond which the surface does not matter, in voxels.
TRUNCATION = 3.0
#: Distance between the centre of a voxel and its faces, in voxels. Distances are
#: measured between centres, but the surface runs along the faces.
_HALF_VOXEL = 0.5


def signed_distance(inside: AnyArray, truncation: float = TRUNCATION) -> AnyArray:
    """Return the distance of each voxel of a block from the surface, in voxels.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
    truncation : float
        Largest distance, in voxels.

    Returns
    -------
    ndarray of float32
        Negative inside the shape. NaN where the distance is unknown, because a surface
        outside the block could be closer.

    Examples
    --------
    >>> block = np.broadcast_to(np.arange(10) > 4, (9, 9, 10))
    >>> signed_distance(block, 2.0)[4, 4].tolist()
    [nan, nan, 2.0, 1.5, 0.5, -0.5, -1.5, -2.0, nan, nan]
    """
    from scipy.ndimage import distance_transform_edt

    found = np.full(inside.shape, truncation, np.float32)
    # Without a second phase, there is nothing to which a distance could be measured.
    if inside.any() and not inside.all():
        to_other = distance_transform_edt(inside) + distance_transform_edt(~inside)
        np.minimum(to_other - _HALF_VOXEL, truncation, out=found, casting="same_kind")
    found[found > _to_border(inside.shape) - _HALF_VOXEL] = np.nan
    return np.where(inside, -found, found)


def _to_border(shape: tuple[int, ...]) -> AnyArray:
    """Return the distance of each voxel from the closest voxel outside the block."""
    ends = [np.minimum(np.arange(n) + 1, n - np.arange(n)) for n in shape]
    nearest: AnyArray = np.minimum.reduce(np.meshgrid(*ends, indexing="ij"))
    return nearest
