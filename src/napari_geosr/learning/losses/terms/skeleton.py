"""Skeleton recall: penalises missing parts of the target's centre lines [1]_.

The target's skeleton, made one voxel thicker, is looked at in the output. It costs next
to nothing, as no skeleton of the output is needed, and says nothing of what is made up:
porosity beside it does. The skeleton is that of openings [2]_, as in ``cldice``, and
not that of thinning, which no graphics processor does fast; the dilation closes the
small gaps that it has.

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

TITLE = "centre lines missing"
ABOUT = "keeps thin channels or struts; the fastest of the geometric losses"
KIND = "geometry"
NEEDS_RADIUS = True
WEIGHT = 0.3
_VOXEL = 1.0


def loss(phase: Tensor, wanted: Tensor, scales: GeometryScales) -> Tensor:
    """Share of the target's thickened skeleton that the output misses, mean over (N,).

    What the target's own soft map has less than 1 there is not missed.
    """
    import torch

    with torch.no_grad():
        truth = (wanted > 0.5).to(phase.dtype)
        tube = (
            losses.morphology.dilated(
                losses.morphology.soft_skeleton(truth, scales.radius)
            )
            * wanted
            * truth
        )
    present = torch.minimum(phase / wanted.clamp(min=0.5), torch.ones_like(phase))
    missing = (tube * (1 - present)).flatten(1).sum(dim=1)
    return (missing / (tube.flatten(1).sum(dim=1) + _VOXEL)).mean()
