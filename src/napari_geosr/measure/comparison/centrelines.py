"""Compares the connectivity of a thin network with the ground truth.

References
----------
.. [1] Shit et al. clDice – a novel topology-preserving loss function for tubular
   structure segmentation. CVPR (2021). doi:10.1109/CVPR46437.2021.01629
.. [2] Odgaard, Gundersen. Quantification of connectivity in cancellous bone.
   Bone 14, 173-182 (1993). doi:10.1016/8756-3282(93)90245-6
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CentrelineAgreement:
    """Agreement of centrelines with the phase of the other mask.

    Attributes
    ----------
    precision : float
        Fraction of the found centrelines that lies in the true phase; 1 if none is
        invented.
    recall : float
        Fraction of the true centrelines that lies in the found phase; 1 if none is cut
        or lost.
    cldice : float
        Harmonic mean of precision and recall [1]_.
    """

    precision: float
    recall: float
    cldice: float


def centreline_agreement(mask: Mask, truth: Mask) -> CentrelineAgreement:
    """Compare the centrelines of two masks of the same shape, ([Z,] Y, X) [1]_.

    For a mask without centrelines, precision or recall is 1 if the other mask has none
    either, and 0 otherwise.
    """
    found, true = centrelines(mask), centrelines(truth)

    def share(lines: Mask, phase: Mask, other: Mask) -> float:
        n = np.count_nonzero(lines)
        if n == 0:
            return float(not other.any())
        return np.count_nonzero(lines & phase) / n

    precision, recall = share(found, truth, true), share(true, mask, found)
    total = precision + recall
    return CentrelineAgreement(
        precision, recall, 2 * precision * recall / total if total else 0.0
    )


def centrelines(mask: Mask) -> Mask:
    """Thin a phase to lines of voxels, at least one voxel per component.

    scikit-image's 3D thinning deletes straight tubes that are symmetric and an even
    number of voxels wide: it peels both halves in the same pass. Such components are
    thinned again with an extra layer on one side along each axis.

    Parameters
    ----------
    mask : ndarray of bool, (Z, Y, X) or (Y, X)
        Phase to be thinned; 26-connected (2D: 8-connected).
    """
    from skimage.morphology import skeletonize

    found: Mask = np.asarray(skeletonize(mask) > 0)
    if mask.ndim < 3 or not mask.any():
        return found
    import cc3d

    labels = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=26)

    def lost() -> Mask:
        has_line = np.zeros(int(labels.max()) + 1, bool)
        has_line[labels[found]] = True
        has_line[0] = True
        return np.asarray(~has_line[labels])

    missing = lost()
    if missing.any():
        wider = missing.copy()
        for axis in range(3):
            rest = wider.swapaxes(0, axis)
            rest[1:] |= rest[:-1].copy()
        found |= (skeletonize(wider) > 0) & missing
        missing = lost()
    if missing.any():  # e.g. spheres an even number of voxels wide: keep one voxel
        _, first = np.unique(labels[missing], return_index=True)
        found[tuple(axis[first] for axis in np.nonzero(missing))] = True
    return found


def connectivity(mask: Mask) -> float:
    """Count the loops of a phase: 1 − Euler number, corrected for shared faces [2]_.

    The faces at the far ends count towards the next block, so that values of blocks
    that overlap by one voxel add up. Conn.D is the result divided by the volume.

    Parameters
    ----------
    mask : ndarray of bool, (Z, Y, X)
        26-connected.
    """
    from skimage.measure import euler_number

    def euler(part: Mask) -> int:
        return int(euler_number(part, connectivity=part.ndim))

    last: list[tuple[slice | int, ...]] = [
        tuple(-1 if i == axis else slice(None) for i in range(3)) for axis in range(3)
    ]
    faces = sum(euler(mask[key]) for key in last)
    edges = sum(
        pieces(mask[tuple(slice(None) if i == axis else -1 for i in range(3))])
        for axis in range(3)
    )
    shared = faces - edges + int(mask[-1, -1, -1])
    return float(1 - (euler(mask) - shared))


def pieces(line: Mask) -> int:
    """Return the number of pieces of a line, which is its Euler number."""
    return int(
        np.count_nonzero(np.diff(np.concatenate([[False], line]).astype(int)) > 0)
    )
