"""Local volume fraction of the phase in boxes.

The loss compares means over boxes of three sizes. Errors of a few voxels that cancel
within a small box do not count, so noise and sub-voxel shifts of walls are not
penalised, whereas a lost pore is. With a global porosity, an invented pore would
compensate for a lost one.

Local porosity distributions: Hilfer, Phys. Rev. B 44, 60-75 (1991).
doi:10.1103/PhysRevB.44.60
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning import losses
from napari_geosr.learning.losses.terms import GeometryScales

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "local porosity error"
ABOUT = "local volume fraction of the phase"
KIND = "geometry"
WEIGHT = 0.5


def loss(phase: Tensor, target: Tensor, scales: GeometryScales) -> Tensor:
    """Return the mean absolute difference in local porosity, over boxes of three sizes.

    The result is in units of ``scales.spread``. The edge lengths of the boxes are
    ``scales.window``, half and a quarter of it, but at least 2.
    """
    import torch

    error = phase - target
    edges = {max(2, scales.window // n) for n in (1, 2, 4)}
    errors = [
        losses.boxes.box_means(error, edge).abs().mean() for edge in sorted(edges)
    ]
    return torch.stack(errors).mean() / scales.spread
