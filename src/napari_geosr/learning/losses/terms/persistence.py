"""Persistence: compares components, tunnels and cavities with the target's [1]_.

As the threshold falls from 1 to 0, a feature of the soft map is born when it appears,
and dies when it merges with an older one or is filled. Features that persist over most
thresholds are structure; short-lived ones are noise. For each dimension, the points
(birth, death) are compared with those of the target in the order of their persistence;
surplus features are drawn to the diagonal, where birth equals death. Unlike with the
Euler number, missing tunnels and components cannot cancel each other out, and links
that have almost vanished still have a gradient. The loss ignores positions: combine it
with ``porosity`` or ``cldice``.

Birth and death are the values of two voxels, found by the library GUDHI (the extra
``topology``) on the CPU. This takes seconds for large 3D patches.

References
----------
.. [1] Hu, Li, Samaras, Chen. Topology-preserving deep image segmentation. NeurIPS
   (2019). arXiv:1906.05404. There, points are drawn to (1, 0); here, to those of the
   soft target.
.. [2] Wagner, Chen, Vuçini. Efficient computation of persistent homology for cubical
   data. In: Topological methods in data analysis and visualization II, 91-106.
   Springer (2012). doi:10.1007/978-3-642-23175-9_7
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.learning.losses.terms import GeometryScales

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "persistence error"
ABOUT = (
    "connectivity: every part, tunnel and cavity; slow (requires "
    "napari-geosr[topology])"
)
KIND = "geometry"
WEIGHT = 0.3
REQUIRES = ("gudhi", "topology")
#: Minimum persistence of features that are compared, in output and target.
_MIN_PERSISTENCE = 0.05


def loss(phase: Tensor, target: Tensor, scales: GeometryScales) -> Tensor:
    """Return the squared distance of features from the target's, averaged over samples.

    The sum over features is divided by the square root of the number of voxels, as in
    ``euler``. Voxels that share a corner are connected (26 or 8 neighbours), as when
    counting pores.
    """
    import torch

    errors = [_error(a[0], b[0]) for a, b in zip(phase, target, strict=True)]
    return torch.stack(errors).mean()


def _error(phase: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance of the features of one sample ([Z,] Y, X)."""
    total: Tensor = phase.sum() * 0
    for features, target_features in zip(
        _features(phase), _features(target.detach()), strict=True
    ):
        n = min(len(features), len(target_features))
        total = total + (features[:n] - target_features[:n]).square().sum()
        for unmatched in (features[n:], target_features[n:]):
            total = total + (unmatched[:, 0] - unmatched[:, 1]).square().sum() / 2
    mean: Tensor = total / phase.numel() ** 0.5
    return mean


def _features(phase: Tensor) -> list[Tensor]:
    """Return births and deaths (n, 2) per kind of feature, most persistent first."""
    import numpy as np
    import torch
    from gudhi import CubicalComplex

    values = phase.detach().double().cpu().numpy()
    # GUDHI adds cells in ascending order of values, and joins them at corners.
    cells = CubicalComplex(top_dimensional_cells=-values)
    cells.compute_persistence(homology_coeff_field=2, min_persistence=_MIN_PERSISTENCE)
    pairs, lasting = cells.cofaces_of_persistence_pairs()
    flat = phase.permute(
        *reversed(range(phase.ndim))
    ).flatten()  # in Fortran order, as in GUDHI
    features = []
    for dimension in range(values.ndim):
        indices = np.zeros((0, 2), np.int64)
        if dimension < len(pairs):
            indices = np.asarray(pairs[dimension], np.int64).reshape(-1, 2)
        points = flat[torch.from_numpy(indices).to(flat.device)]
        if dimension == 0:  # the first component persists down to 0
            first = np.asarray(lasting[0], np.int64).reshape(-1)
            births = flat[torch.from_numpy(first).to(flat.device)]
            points = torch.cat(
                [points, torch.stack([births, torch.zeros_like(births)], dim=1)]
            )
        order = (points[:, 0] - points[:, 1]).detach().argsort(descending=True)
        features.append(points[order])
    return features
