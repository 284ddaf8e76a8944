"""Euler number of soft maps: components − tunnels + cavities (2D: components − holes).

Neighbours are joined by faces, edges or corners (26 in 3D, 8 in 2D), or by faces only
(6, 4). Either way, the Euler number is an alternating sum, over the corners, edges,
faces and cells of the voxel lattice, of the maximum or minimum of the adjacent voxels.
For a soft map, this is the mean of the Euler numbers at all thresholds from 0 to 1,
because the minimum of some voxels exceeds a threshold if and only if all of them do.
Products instead of minima would give spurious contributions inside uniform regions with
values between 0 and 1. The number is differentiable almost everywhere; its gradient is
nonzero only at voxels where components join or separate.

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
    """Return local contributions to the Euler number, which is their sum over a patch.

    Parameters
    ----------
    phase : Tensor of shape (N, C, [Z,] Y, X)
        Membership in the phase, 0 … 1; it is 0 beyond the border.
    by_faces : bool
        Whether only voxels that share a face are connected.

    Returns
    -------
    Tensor
        Values at the corners of voxels: one more along every spatial axis.
    """
    n_axes = phase.ndim - 2
    # Pad so that the window of a maximum begins at the voxel before its corner, and
    # that of a minimum at the voxel after it.
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
    """Return the Euler number of each sample, shape (N,); see `euler_density`."""
    return euler_density(phase, by_faces=by_faces).flatten(1).sum(dim=1)
