"""Connectivity loss: compares the Euler numbers of output and target in boxes.

The Euler number (components − tunnels + cavities; in 2D, components − holes) changes if
a neck is cut or a wall is pierced, even if only a few voxels differ, and its gradient
is nonzero only at these voxels. The Euler number is compared in boxes, so that an
additional component at one position does not compensate for a missing one elsewhere.
The loss can reopen necks that still have some contrast; others must first be recovered
by ``cldice`` or ``porosity``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_geosr.learning import losses
from napari_geosr.learning.losses.terms import GeometryScales

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Euler number error"
ABOUT = "connectivity: number of parts, tunnels and cavities"
KIND = "geometry"
WEIGHT = 0.3


def loss(phase: Tensor, target: Tensor, scales: GeometryScales) -> Tensor:
    """Return the Huber loss of the difference in Euler number, averaged over boxes.

    The statistical scatter of counts grows with the square root of the number of voxels
    in a box. The loss is divided by this root, so that boxes of all sizes, in 2D and
    3D, have the same weight. Boxes have an edge length of ``scales.window`` and overlap
    by half. Voxels that share a corner are connected (26 or 8 neighbours), as when
    counting pores.
    """
    import torch
    from torch.nn import functional

    error = losses.euler.euler_density(phase) - losses.euler.euler_density(target)
    # Drop the first corners, which leaves one per voxel: components cut by the border
    # are then counted in only one of two adjacent patches.
    for axis in range(2, error.ndim):
        error = error.narrow(axis, 1, error.shape[axis] - 1)
    voxels = math.prod(min(scales.window, n) for n in error.shape[2:])
    difference = losses.boxes.box_sums(error, scales.window)
    error = functional.huber_loss(difference, torch.zeros_like(difference))
    return error / math.sqrt(voxels)
