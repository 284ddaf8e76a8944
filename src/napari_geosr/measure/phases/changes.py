"""Surface per volume from phase changes between voxels, extrapolated to distance 0."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.crofton import PAIRS, pair_weights

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: Number of steps between two voxels along an axis, up to which pairs are counted.
REACH = 3
#: Number of steps along all other directions; three would exceed thin walls.
_DIAGONAL_REACH = 2
#: Maximum decrease of the phase changes from the first step to the second that is
#: extrapolated; noise and structures of single voxels exceed it.
_MOST_DECREASE = 0.5
#: Decrease above which the surface is unreliable: overlapping spheres with a radius of
#: 4 voxels reach 0.13.
_RELIABLE_DECREASE = 0.15
#: Decrease that is too small to divide by.
_ROUNDING = 1e-6
#: Part of the curvature of the phase changes along a line that is due to crossings of
#: further surfaces, as a multiple of the decrease: with this value, overlapping spheres
#: and Gaussian random fields are within 1 % (`tests/measure/test_phase_changes.py`).
_SATURATION = 2.0
#: Offsets from one voxel of each pair to the other.
_OFFSETS = tuple(
    tuple(b - a for a, b in zip(one, other, strict=True)) for one, other in PAIRS
)
#: Whether each direction is that of an axis.
_IS_AXIS = np.array([sum(map(abs, offset)) == 1 for offset in _OFFSETS])


@dataclass
class PhaseChanges:
    """Numbers of pairs of voxels, and of those with different phases.

    Attributes
    ----------
    voxel_size : tuple of 3 float
    flat : bool
        Whether this is one image.
    changes, pairs : ndarray of shape (REACH, 13), int64
        Number of pairs with different phases, and of all pairs within the sample, that
        are one, two or three steps apart along the directions of
        `napari_geosr.measure.crofton.PAIRS`.
    """

    voxel_size: tuple[float, float, float]
    flat: bool
    changes: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((REACH, len(PAIRS)), np.int64)
    )
    pairs: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((REACH, len(PAIRS)), np.int64)
    )

    def add(self, pores: Mask, sample: Mask | None, n: int) -> None:
        """Add `n` planes; `pores` must contain the `REACH` planes after them, if any.

        Parameters
        ----------
        pores : ndarray of shape (Z, Y, X), bool
        sample : ndarray of shape (Z, Y, X), bool, or None
        n : int
        """
        for k, offset in enumerate(_OFFSETS):
            for step in range(1, (REACH if _IS_AXIS[k] else _DIAGONAL_REACH) + 1):
                ends = _ends(offset, step, n, pores.shape)
                if ends is None:
                    continue
                one, other = ends
                differ = pores[one] != pores[other]
                n_pairs = differ.size
                if sample is not None:
                    inside = sample[one] & sample[other]
                    differ &= inside
                    n_pairs = int(np.count_nonzero(inside))
                self.pairs[step - 1, k] += n_pairs
                self.changes[step - 1, k] += np.count_nonzero(differ)

    @property
    def plain(self) -> float | None:
        """Surface per volume (image: length per area) from neighbouring voxels."""
        return self._surface(np.ones(len(PAIRS)))

    @property
    def extrapolated(self) -> float | None:
        """Surface per volume (image: length per area) at distance 0.

        A segment of length r between two voxels may cross the surface more than once,
        so that the number of phase changes d(r) per unit length is less than the number
        of crossings. As r increases, d(r) decreases linearly with r if the surface has
        edges, and with r² if the surface is smooth. Each direction is extrapolated from
        one and two steps; one, two and three steps along the axes show whether the
        surface has edges.
        """
        weights = pair_weights(self.voxel_size, flat=self.flat)
        bend = self._bend(weights > 0)
        rate = self._rates()
        factors = np.ones(len(PAIRS))
        for k in np.flatnonzero((weights > 0) & (rate[0] > 0) & np.isfinite(rate[1])):
            decrease = 2 * float(1 - rate[1, k] / rate[0, k])
            factors[k] = _factor(min(decrease, _MOST_DECREASE), bend)
        return self._surface(factors)

    @property
    def decrease(self) -> float:
        """Relative decrease of the phase changes per unit length from one step to two.

        Directions are weighted as in the surface area: those with long steps have
        little weight.
        """
        weights = pair_weights(self.voxel_size, flat=self.flat)
        rates = self._rates()[:2]
        used = (weights > 0) & np.isfinite(rates).all(axis=0)
        one, two = (rates[:, used] * weights[used]).sum(axis=1)
        return float(1 - two / one) if one else 0.0

    def unreliable_remark(self, name: str) -> list[str]:
        """Return a remark if a quantity that depends on the surface is unreliable.

        Parameters
        ----------
        name : str
            Name of the quantity.
        """
        if self.decrease <= _RELIABLE_DECREASE:
            return []
        return [
            f"{name} is unreliable: at a distance of two voxels, there are "
            f"{100 * self.decrease:.0f} % fewer phase changes per unit length than at "
            "one voxel. This is typical of noise and of structures one voxel wide. "
            "Remove the noise, or scan with smaller voxels."
        ]

    def _surface(self, factors: Floats) -> float | None:
        weights = pair_weights(self.voxel_size, flat=self.flat)
        used = (self.pairs[0] > 0) & (weights > 0)
        if not used.any():
            return None
        one = math.prod(self.voxel_size[1:] if self.flat else self.voxel_size)
        rate = self.changes[0, used] / self.pairs[0, used]
        return float((weights[used] * factors[used] * rate).sum()) / one

    def _rates(self) -> Floats:
        """Return the phase changes per step, shape (REACH, 13); NaN if unknown."""
        steps = np.arange(1, REACH + 1)[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            rates: Floats = np.where(
                self.pairs > 0, self.changes / (self.pairs * steps), np.nan
            )
        return rates

    def _bend(self, used: Mask) -> float:
        """Return how the decrease from step to step changes along the axes.

        The result is 1 if the decrease is that of surfaces with edges, 0 if it is that
        of smooth surfaces, and negative if the decrease begins suddenly, at the
        thickness of walls.
        """
        rates = self._rates()[:, used & _IS_AXIS]
        one, two, three = rates[:, np.isfinite(rates).all(axis=0)].sum(axis=1)
        if one <= two:
            return -1.0
        bend = 1 + 1.5 * (one - 2 * two + three) / (one - two)
        return float(np.clip(bend - _SATURATION * 2 * (1 - two / one), -1, 1))


def _factor(decrease: float, bend: float) -> float:
    """Return the phase changes per unit length at distance 0, relative to one step.

    Parameters
    ----------
    decrease : float
        2 − (changes at two steps ÷ changes at one step): 0 if all crossings are
        counted.
    bend : float
        1 if the phase changes follow 1 − exp(−x), as for overlapping spheres; 0 if they
        follow x − x³, as for a sphere. For values in between, the factors are
        interpolated; −1 means no extrapolation.
    """
    smooth = 1 + decrease / 6
    if bend <= 0 or abs(decrease) < _ROUNDING:
        return 1 + (1 + min(bend, 0.0)) * (smooth - 1)
    return (1 - bend) * smooth - bend * math.log1p(-decrease) / decrease


def _ends(
    offset: tuple[int, ...], step: int, n: int, shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Return slices of the first and second voxels of pairs, the first in `n` planes.

    None if the planes are too small for such pairs.
    """
    one, other = [], []
    for axis, (d, size) in enumerate(zip(offset, shape, strict=True)):
        width = size - abs(d) * step
        width = min(n, width) if axis == 0 else width
        if width <= 0:
            return None
        start = -d * step if d < 0 else 0
        one.append(slice(start, start + width))
        other.append(slice(start + d * step, start + d * step + width))
    return tuple(one), tuple(other)
