"""Connectivity: same number of parts, tunnels and cavities per box as the target.

The Euler number (parts minus tunnels plus cavities; in 2D parts minus holes) changes
where a neck is cut or a wall pierced, however few voxels that takes, and there alone it
has a gradient. It is compared in boxes, so that a part too many here does not make good
for one too few there. It sees necks that are nearly there: where nothing of a link is
left in the grey values, ``cldice`` and ``porosity`` have to bring some of it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses
from napari_geosr.learning.losses.terms import GeometryScales

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Euler number error"
ABOUT = "connectivity: number of parts, tunnels and cavities"
KIND = "geometry"
WEIGHT = 0.3


def loss(phase: Tensor, wanted: Tensor, scales: GeometryScales) -> Tensor:
    """Mean over boxes of ``d² / 2``, or ``|d| - 1/2`` above 1, of the difference d.

    Over the root of the voxels of a box, as that is how the number of things in it
    scatters; so 2D and 3D, and boxes of all sizes, weigh alike. Boxes have an edge of
    ``scales.window`` and overlap by half; voxels that share a corner are joined (26 or
    8 neighbours), as pores are when they are counted.
    """
    import math

    import torch
    from torch.nn import functional

    error = losses.euler.euler_density(phase) - losses.euler.euler_density(wanted)
    # Without the first corners there is one for each voxel: what is cut by the border
    # counts there in one of two patches that touch.
    for axis in range(2, error.ndim):
        error = error.narrow(axis, 1, error.shape[axis] - 1)
    voxels = math.prod(min(scales.window, n) for n in error.shape[2:])
    difference = losses.boxes.box_sums(error, scales.window)
    error = functional.huber_loss(difference, torch.zeros_like(difference))
    return error / math.sqrt(voxels)
