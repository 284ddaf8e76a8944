"""clDice: keeps thin channels and struts connected without adding new ones [1]_.

The loss is 1 minus the harmonic mean of two fractions: the fraction of the output's
soft skeleton inside the target's phase, and the fraction of the target's skeleton
inside the output's phase. Unlike in the paper, the Dice loss is not added: losses of
grey values and porosity replace it.

References
----------
.. [1] Shit et al. clDice: a novel topology-preserving loss function for tubular
   structure segmentation. CVPR (2021). doi:10.1109/CVPR46437.2021.01629
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses
from napari_geosr.learning.losses.terms import GeometryScales

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "centreline error"
ABOUT = "centrelines of thin channels or struts: avoids gaps and false branches"
KIND = "geometry"
NEEDS_RADIUS = True
WEIGHT = 0.1
#: Number of voxels added to the numerator and the denominator of both fractions, so
#: that patches without a skeleton have zero loss.
_VOXEL = 1.0


def loss(phase: Tensor, target: Tensor, scales: GeometryScales) -> Tensor:
    """Return 1 − clDice, averaged over the samples.

    Skeletons are computed with ``scales.radius`` erosions. The target's phase is
    binarised, because skeletons of soft maps extend beyond the walls.
    """
    import torch

    with torch.no_grad():
        truth = (target > 0.5).to(phase.dtype)
        true_lines = losses.morphology.soft_skeleton(truth, scales.radius)
    lines = losses.morphology.soft_skeleton(phase, scales.radius)
    precise = _share(lines, truth)
    complete = _share(true_lines, phase)
    return (1 - 2 * precise * complete / (precise + complete)).mean()


def _share(lines: Tensor, phase: Tensor) -> Tensor:
    """Return the fraction of each sample's centrelines that is in the phase, (N,)."""
    within = (lines * phase).flatten(1).sum(dim=1)
    return (within + _VOXEL) / (lines.flatten(1).sum(dim=1) + _VOXEL)
