"""Euler number of soft maps: parts, minus tunnels, plus cavities (3D) or minus holes.

A voxel is a closed cube, so neighbours are joined by faces, edges or corners (26 in 3D,
8 in 2D), or only by faces (6, 4). Either way the number is an alternating sum over the
places of a lattice of the largest or smallest value of the 2, 4 or 8 voxels there. Of a
soft map that is the mean of the Euler numbers of all its thresholds from 0 to 1, since
the smallest value of some voxels is above a threshold where all of them are; products
in place of it would count something in every soft, but solid, part. Differentiable
nearly everywhere; its gradient is at those voxels where parts join or part.

References
----------
.. [1] Ohser, Mücklich. Statistical analysis of microstructures in materials science,
   chapter 3. Wiley (2000). ISBN 978-0-471-97486-2
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from napari_geosr.learning.losses.morphology import extreme


def euler_density(phase: Tensor, *, by_faces: bool = False) -> Tensor:
    """Local contributions to the Euler number, which is their sum over a patch.

    Parameters
    ----------
    phase : Tensor of shape (N, C, [Z,] Y, X)
        0 … 1; beyond the border there is nothing of it.
    by_faces : bool
        Whether voxels that share an edge or a corner alone are apart.

    Returns
    -------
    Tensor
        One place longer along every axis of space: corners of voxels.
    """
    n_axes = phase.ndim - 2
    # Largest values see the voxel before each corner, smallest ones that behind it.
    padded = functional.pad(phase, ((0, 1) if by_faces else (1, 0)) * n_axes)
    total = torch.zeros_like(padded)
    cells: dict[tuple[int, ...], Tensor] = {(): padded}
    for n in range(n_axes + 1):
        for axes in combinations(range(2, phase.ndim), n):
            if axes:
                pair = ((axes[-1], 1),)
                cells[axes] = extreme(cells[axes[:-1]], pair, largest=not by_faces)
            odd = (n if by_faces else n_axes - n) % 2
            total = total - cells[axes] if odd else total + cells[axes]
    return total


def euler_number(phase: Tensor, *, by_faces: bool = False) -> Tensor:
    """Euler number of each sample, shape (N,): see :func:`euler_density`."""
    return euler_density(phase, by_faces=by_faces).flatten(1).sum(dim=1)
