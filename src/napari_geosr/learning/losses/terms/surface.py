"""Position of surfaces: signed distances inside and outside the phase.

A wall that is shifted costs in proportion to the shift and to its area; a hole in the
middle of a thick part, or an island far from everything, costs many times its volume,
as distances change all around. Distance maps as in [1]_ and [2]_, but both are made of
soft erosions, which have gradients and need no transform on the processor; they reach 4
voxels from a wall.

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

TITLE = "walls off"
ABOUT = "position of surfaces; avoids holes and islands"
KIND = "geometry"
WEIGHT = 0.5
#: Voxels from a wall that are told apart.
DEPTH = 4


def loss(phase: Tensor, wanted: Tensor, scales: GeometryScales) -> Tensor:
    """Mean absolute difference of signed distances over ``2 · DEPTH`` voxels.

    A flat wall shifted by some voxels gives the share of the volume in between, in
    units of ``scales.spread``.
    """
    import torch

    with torch.no_grad():
        true_depth = losses.morphology.signed_depth(wanted, DEPTH)
    error = (losses.morphology.signed_depth(phase, DEPTH) - true_depth).abs().mean()
    return error / (2 * DEPTH * scales.spread)
