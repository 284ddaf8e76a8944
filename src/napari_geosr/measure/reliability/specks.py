"""Objects of one voxel: noise, or structure finer than the voxels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from napari_geosr.measure.number_text import number_text
from napari_geosr.measure.small_pores import SmallPores

#: So many objects of one voxel, and such a part of all objects, are no accident.
_MANY, _MOST = 500, 0.5
#: Nor is such a part of the voxels of the sample.
_DENSE = 1e-3


def speck_remarks(
    voxels: np.ndarray,
    sample_voxels: int,
    min_voxels: int,
    name: str,
    small: SmallPores | None = None,
) -> Iterator[str]:
    """One sentence if most of very many objects are single voxels.

    Parameters
    ----------
    voxels : ndarray of shape (n,), int
        Number of voxels of each object of the pore phase.
    sample_voxels : int
        In which they were found.
    min_voxels : int
        Smallest pore that is counted.
    small : SmallPores, optional
        Objects that are not in `voxels`.
    """
    small = SmallPores() if small is None else small
    single = int(np.count_nonzero(voxels == 1)) + small.single
    n = len(voxels) + small.n
    if single < max(_MANY, _DENSE * sample_voxels, _MOST * n):
        return
    counted = (
        f"they are not counted (smallest pore: {min_voxels} voxels), but are part of "
        "the porosity"
        if min_voxels > 1
        else "they are counted as pores"
    )
    yield (
        f"{number_text(single)} of the {number_text(n)} objects in the pore "
        f"phase of {name!r} are single voxels, as noise makes them; {counted}. Restore "
        "the scan first."
    )
