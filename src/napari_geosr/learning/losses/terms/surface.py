"""Position of surfaces: signed distances inside and outside the phase.

The loss due to a shifted wall is proportional to the shift and to the area of the wall.
A hole in the middle of a thick part, or an island far from any wall, costs many times
its volume, because it changes all distances around it. Distance maps are compared as in
[1]_ and [2]_, but those of the output and of the target are both computed by soft
erosions, which are differentiable and need no distance transform on the CPU. The maps
extend up to 4 voxels from a wall.

References
----------
.. [1] Kervadec et al. Boundary loss for highly unbalanced segmentation. MIDL (2019).
   doi:10.1016/j.media.2020.101851
.. [2] Karimi, Salcudean. Reducing the Hausdorff distance in medical image segmentation
   with convolutional neural networks. IEEE TMI 39, 499-513 (2020).
   doi:10.1109/TMI.2019.2930068
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses
from napari_geosr.learning.losses.terms import GeometryScales

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "surface error"
ABOUT = "position of surfaces; avoids holes and islands"
KIND = "geometry"
WEIGHT = 0.5
#: Maximum distance from a wall in voxels; larger distances are clipped to it.
DEPTH = 4


def loss(phase: Tensor, target: Tensor, scales: GeometryScales) -> Tensor:
    """Return the mean absolute difference in signed distance, divided by ``2 · DEPTH``.

    For a shifted flat wall, this is the volume fraction between the two positions, in
    units of ``scales.spread``.
    """
    import torch

    with torch.no_grad():
        true_depth = losses.morphology.signed_distance(target, DEPTH)
    error = (losses.morphology.signed_distance(phase, DEPTH) - true_depth).abs().mean()
    return error / (2 * DEPTH * scales.spread)
