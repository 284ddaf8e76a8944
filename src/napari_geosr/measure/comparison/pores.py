"""Matches pores of two volumes by overlap: lost, invented, split and merged pores.

References
----------
.. [1] Bland and Altman. Statistical methods for assessing agreement between two methods
   of clinical measurement. Lancet 327, 307-310 (1986).
   doi:10.1016/S0140-6736(86)90837-8
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyArray, AnyDict

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.integer]
Array = npt.NDArray[np.float64]
Status = Literal["matched", "lost", "invented", "split", "merged", "changed"]
STATUSES: tuple[Status, ...] = (
    "matched",
    "lost",
    "invented",
    "split",
    "merged",
    "changed",
)

#: Minimum overlap of matching pores, as a fraction of the smaller pore.
_MIN_OVERLAP = 0.2


@dataclass(frozen=True)
class PoreChange:
    """Pores of the base, and the corresponding pores of the volume.

    Attributes
    ----------
    status : str
        ``"matched"``: one pore in both; ``"lost"``: none in the volume; ``"invented"``:
        none in the base; ``"split"``: one pore became several; ``"merged"``: several
        became one; ``"changed"``: several became several others.
    position : tuple of float
        Mean of the centroids of the base's pores (of the volume's if invented), in the
        unit of the voxel size.
    base_volume, volume : float
        Total volume of the pores in the base and in the volume.
    base_pores, pores : int
        Number of pores in the base and in the volume.
    """

    status: Status
    position: tuple[float, ...]
    base_volume: float
    volume: float
    base_pores: int
    pores: int


@dataclass(frozen=True)
class Agreement:
    """Bland–Altman statistics of matched pores [1]_.

    Differences are relative to the mean of a pore's two volumes.

    Attributes
    ----------
    n : int
    bias : float
        Mean difference; positive if pores became larger.
    low, high : float
        Limits of agreement: the bias ± 1.96 standard deviations.
    """

    n: int
    bias: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class PoreMatch:
    """Compares the pores of a volume with the pores of the base volume.

    Attributes
    ----------
    changes : tuple of PoreChange
        Largest first.
    unit : str
        Unit of the pore volumes (for images: areas).
    dice : float
        Dice overlap of all pore voxels; 1 if the masks are equal.
    shape : tuple of int
        Number of compared voxels along each axis.
    """

    changes: tuple[PoreChange, ...] = field(repr=False)
    unit: str
    dice: float
    shape: tuple[int, ...]

    def count(self, status: Status) -> int:
        """Return the number of changes of one kind."""
        return sum(change.status == status for change in self.changes)

    def of(self, status: Status) -> tuple[PoreChange, ...]:
        """Return the changes of one kind, largest first."""
        return tuple(change for change in self.changes if change.status == status)

    @property
    def agreement(self) -> Agreement | None:
        """Agreement of the volumes of matched pores; None for fewer than three."""
        means, differences = self.bland_altman()
        if len(means) < 3:
            return None
        bias, spread = float(differences.mean()), float(differences.std(ddof=1))
        return Agreement(len(means), bias, bias - 1.96 * spread, bias + 1.96 * spread)

    def bland_altman(self) -> tuple[Array, Array]:
        """Return the mean volume and relative difference of each matched pore."""
        pairs = np.array(
            [(c.base_volume, c.volume) for c in self.of("matched")], np.float64
        ).reshape(-1, 2)
        means = pairs.mean(axis=1)
        return means, (pairs[:, 1] - pairs[:, 0]) / np.maximum(means, 1e-300)

    def to_json_dict(self) -> AnyDict:
        """Return the counts and the agreement as JSON-serialisable values."""
        found = self.agreement
        return {
            **{status: self.count(status) for status in STATUSES},
            "dice": self.dice,
            "shape": list(self.shape),
            "bland_altman": None if found is None else vars(found),
        }


def match_pores(
    mask: Mask,
    base: Mask,
    *,
    voxel_size: Sequence[float],
    origin: Sequence[float],
    unit: str,
    min_voxels: int = 8,
    connectivity: Literal[6, 26] = 26,
) -> PoreMatch:
    """Match the connected pores of two masks on the same grid.

    Two pores match if they share at least a fifth of the smaller one. Pores below
    `min_voxels` are not listed. However, a larger pore that overlaps only with such a
    small pore is matched with it and does not count as lost.

    Parameters
    ----------
    mask, base : ndarray of bool, (Z, Y, X) or (Y, X)
    voxel_size, origin : sequence of float
    unit : str
    """
    found, expected = _labelled(mask, connectivity), _labelled(base, connectivity)
    sizes, base_sizes = _sizes(found), _sizes(expected)
    pairs = _pairs(found, expected, sizes, base_sizes)
    groups = _groups(pairs, len(sizes), len(base_sizes))
    centres = _centres(found, len(sizes)), _centres(expected, len(base_sizes))
    area = float(np.prod(voxel_size))
    changes = []
    for ours, theirs in groups:
        big = sizes[ours] >= min_voxels, base_sizes[theirs] >= min_voxels
        if not (big[0].any() or big[1].any()):
            continue
        status = _status(ours, theirs, *big)
        middle = (
            centres[1][theirs].mean(axis=0)
            if len(theirs)
            else centres[0][ours].mean(axis=0)
        )
        changes.append(
            PoreChange(
                status,
                tuple(
                    float(o + m * v)
                    for o, m, v in zip(origin, middle, voxel_size, strict=True)
                ),
                float(base_sizes[theirs].sum() * area),
                float(sizes[ours].sum() * area),
                len(theirs),
                len(ours),
            )
        )
    changes.sort(key=lambda c: (-max(c.base_volume, c.volume), c.position))
    both = int(np.count_nonzero(mask & base))
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(base))
    power = "³" if mask.ndim == 3 else "²"
    return PoreMatch(
        tuple(changes), f"{unit}{power}", 2 * both / total if total else 1.0, mask.shape
    )


def _status(
    ours: npt.NDArray[np.intp], theirs: npt.NDArray[np.intp], big: Mask, base_big: Mask
) -> Status:
    """Return the status of a group; small pores count only if there are no others."""
    if not len(theirs):
        return "invented"
    if not len(ours):
        return "lost"
    n, m = max(1, int(big.sum())), max(1, int(base_big.sum()))
    if n == 1 and m == 1:
        return "matched"
    if m == 1:
        return "split"
    return "merged" if n == 1 else "changed"


def _labelled(mask: Mask, connectivity: Literal[6, 26]) -> Labels:
    import cc3d

    neighbours: Literal[4, 6, 8, 26] = connectivity
    if mask.ndim == 2:
        neighbours = 4 if connectivity == 6 else 8
    labels: Labels = cc3d.connected_components(
        np.ascontiguousarray(mask), connectivity=neighbours
    )
    return labels


def _sizes(labels: Labels) -> npt.NDArray[np.int64]:
    """Return the number of voxels of each pore, in the order of labels."""
    return np.bincount(labels.ravel())[1:].astype(np.int64)


def _pairs(
    found: Labels,
    expected: Labels,
    sizes: npt.NDArray[np.int64],
    base_sizes: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Return the indices of matching pores, shape (pairs, 2)."""
    both = (found > 0) & (expected > 0)
    a = found[both].astype(np.int64) - 1
    b = expected[both].astype(np.int64) - 1
    codes, counts = np.unique(a * max(1, len(base_sizes)) + b, return_counts=True)
    i, j = np.divmod(codes, max(1, len(base_sizes)))
    smaller = np.minimum(sizes[i], base_sizes[j])
    kept = counts >= _MIN_OVERLAP * smaller
    return np.stack([i[kept], j[kept]], axis=1)


def _groups(
    pairs: npt.NDArray[np.int64], n: int, n_base: int
) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Group pores connected by pairs; return indices in the volume and in the base."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    total = n + n_base
    if total == 0:
        return []
    links = coo_array(
        (np.ones(len(pairs)), (pairs[:, 0], n + pairs[:, 1])), (total, total)
    )
    count, group = connected_components(links.tocsr(), directed=False)
    order = np.argsort(group, kind="stable")
    parts = np.split(order, np.searchsorted(group[order], np.arange(1, count)))
    return [(part[part < n], part[part >= n] - n) for part in parts]


def _centres(labels: Labels, n: int) -> AnyArray:
    """Return the centroids of the pores as indices, shape (n, axes)."""
    inside = np.nonzero(labels)
    which = labels[inside].astype(np.intp) - 1
    counts = np.maximum(np.bincount(which, minlength=n), 1)
    axes = [np.bincount(which, axis, n) / counts for axis in inside]
    return np.stack(axes, axis=1) if axes else np.empty((0, labels.ndim))
