"""Persistence: compares persistent parts, tunnels and cavities with the target [1]_.

A feature of the soft map is born where it appears as the threshold falls from 1 to 0,
and dies where it merges into an older one or is filled; what lasts over most thresholds
is structure, what hardly lasts is noise. Features of each dimension are compared in the
order of how long they last, as points (birth, death), with those of the target; what is
too many is drawn to where birth is death. So a tunnel too few is not made good by a
part too few, as in an Euler number, and a link of which little is left is still seen.
It says nothing of where things are: ``porosity`` or ``cldice`` beside it does.

Birth and death are values of two voxels, which the library GUDHI finds (the extra
``topology``), on the processor: it takes seconds for large 3D patches.

References
----------
.. [1] Hu, Li, Samaras, Chen. Topology-preserving deep image segmentation. NeurIPS
   (2019). arXiv:1906.05404. There it is drawn to (1, 0), here to the soft target's.
.. [2] Wagner, Chen, Vuçini. Efficient computation of persistent homology for cubical
   data. In: Topological methods in data analysis and visualization II, 91-106.
   Springer (2012). doi:10.1007/978-3-642-23175-9_7
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning.losses.terms import GeometryScales

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "persistence off"
ABOUT = "connectivity: every part, tunnel and cavity; slow (needs the extra topology)"
KIND = "geometry"
WEIGHT = 0.3
REQUIRES = ("gudhi", "topology")
#: What lasts over less than this is not looked at, in output and target.
_LEAST = 0.05


def loss(phase: Tensor, wanted: Tensor, scales: GeometryScales) -> Tensor:
    """Squared distance of features to those of the target, mean over (N,).

    Their sum is over the root of the number of voxels, as is that of ``euler``. Voxels
    that share a corner are joined (26 or 8 neighbours), as pores are when counted.
    """
    import torch

    errors = [_error(a[0], b[0]) for a, b in zip(phase, wanted, strict=True)]
    return torch.stack(errors).mean()


def _error(phase: Tensor, wanted: Tensor) -> Tensor:
    """Of one sample ([Z,] Y, X)."""
    total: Tensor = phase.sum() * 0
    for ours, theirs in zip(_features(phase), _features(wanted.detach()), strict=True):
        n = min(len(ours), len(theirs))
        total = total + (ours[:n] - theirs[:n]).square().sum()
        for left in (ours[n:], theirs[n:]):
            total = total + (left[:, 0] - left[:, 1]).square().sum() / 2
    mean: Tensor = total / phase.numel() ** 0.5
    return mean


def _features(phase: Tensor) -> list[Tensor]:
    """Birth and death (n, 2) of what lasts, longest first: parts, tunnels, cavities."""
    import numpy as np
    import torch
    from gudhi import CubicalComplex

    values = phase.detach().double().cpu().numpy()
    # Cells enter by rising values, and share corners.
    cells = CubicalComplex(top_dimensional_cells=-values)
    cells.compute_persistence(homology_coeff_field=2, min_persistence=_LEAST)
    pairs, lasting = cells.cofaces_of_persistence_pairs()
    flat = phase.permute(
        *reversed(range(phase.ndim))
    ).flatten()  # counted along Z first
    found = []
    for dimension in range(values.ndim):
        places = np.zeros((0, 2), np.int64)
        if dimension < len(pairs):
            places = np.asarray(pairs[dimension], np.int64).reshape(-1, 2)
        points = flat[torch.from_numpy(places).to(flat.device)]
        if dimension == 0:  # the first part lasts until nothing is left
            first = np.asarray(lasting[0], np.int64).reshape(-1)
            born = flat[torch.from_numpy(first).to(flat.device)]
            points = torch.cat(
                [points, torch.stack([born, torch.zeros_like(born)], dim=1)]
            )
        order = (points[:, 0] - points[:, 1]).detach().argsort(descending=True)
        found.append(points[order])
    return found
