"""Skeleton recall: penalises missing parts of the target's centrelines [1]_.

The loss compares the output with the target's skeleton, dilated by one voxel. It is
cheap, because no skeleton of the output is needed, but it does not penalise invented
structure: combine it with ``porosity``. As in ``cldice``, the skeleton is computed by
openings [2]_, since thinning is slow on GPUs; the dilation closes its small gaps.

References
----------
.. [1] Kirchhoff et al. Skeleton recall loss for connectivity conserving and resource
   efficient segmentation of thin tubular structures. ECCV (2024). arXiv:2404.03010
.. [2] Lantuéjoul. Skeletonization in quantitative metallography. In: Issues of digital
   image processing, 107-135. Sijthoff & Noordhoff (1980).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses
from napari_geosr.learning.losses.terms import GeometryScales

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "missing centrelines"
ABOUT = "keeps thin channels or struts; the fastest of the geometric losses"
KIND = "geometry"
NEEDS_RADIUS = True
WEIGHT = 0.3
#: Number of voxels added to the sum, so that patches without a skeleton have zero loss.
_VOXEL = 1.0


def loss(phase: Tensor, target: Tensor, scales: GeometryScales) -> Tensor:
    """Return the mean missing fraction of the samples' dilated target skeletons.

    The output is not required to exceed the target's own soft map.
    """
    import torch

    with torch.no_grad():
        truth = (target > 0.5).to(phase.dtype)
        tube = (
            losses.morphology.dilated(
                losses.morphology.soft_skeleton(truth, scales.radius)
            )
            * target
            * truth
        )
    present = torch.minimum(phase / target.clamp(min=0.5), torch.ones_like(phase))
    missing = (tube * (1 - present)).flatten(1).sum(dim=1)
    return (missing / (tube.flatten(1).sum(dim=1) + _VOXEL)).mean()
