"""Groups voxels that are inconsistent with the scan into regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.resolution.redegrade import FloatArray

#: Maximum distance at which two flagged voxels belong to the same region, in voxels.
_TOGETHER = 2.0


@dataclass(frozen=True)
class MismatchRegion:
    """A region where the result is inconsistent with the scan.

    Attributes
    ----------
    index : tuple of int
        Index, in the scan, of the region's strongest voxel.
    voxels : int
        Number of affected voxels of the scan.
    strength : float
        Largest smoothed residual, divided by its standard deviation.
    result_is : str
        ``"darker"`` or ``"brighter"`` than the scan.
    """

    index: tuple[int, ...]
    voxels: int
    strength: float
    result_is: str


def mismatch_regions(
    spots: Sequence[npt.NDArray[np.int64]], values: Sequence[FloatArray]
) -> tuple[MismatchRegion, ...]:
    """Group flagged voxels into regions, strongest first.

    Parameters
    ----------
    spots : sequence of ndarray of shape (voxels, 3)
        Positions of the flagged voxels in the scan, one array per box.
    values : sequence of ndarray of shape (voxels,)
        The smoothed residual at these positions, divided by its standard deviation;
        positive where the scan is brighter.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    if not spots:
        return ()
    positions, strength = np.concatenate(spots), np.concatenate(values)
    pairs = cKDTree(positions).query_pairs(_TOGETHER, output_type="ndarray")
    links = coo_matrix(
        (np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(positions),) * 2
    )
    count, labels = connected_components(links, directed=False)
    regions = []
    for label in range(count):
        members = np.flatnonzero(labels == label)
        peak = members[np.abs(strength[members]).argmax()]
        regions.append(
            MismatchRegion(
                index=tuple(int(i) for i in positions[peak]),
                voxels=len(members),
                strength=float(abs(strength[peak])),
                # The residual is the scan minus the result.
                result_is="darker" if strength[peak] > 0 else "brighter",
            )
        )
    return tuple(sorted(regions, key=lambda region: -region.strength))
