"""A porosity interval from the standard deviation of each restored voxel.

The grey values of all voxels of the sample are shifted by the same multiple of their
standard deviation, first towards brighter and then towards darker values, and pores are
segmented with the same threshold. A common shift is the worst case: independent errors
of voxels would mostly cancel, but the effects of blur, noise and a model on edges are
the same everywhere in a volume. The required multiple is found by calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import ArrayLike
from napari_geosr.measure.blocks import RawTable, SlabLabeller
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.segment import phase_mask


@dataclass(frozen=True)
class Deviation:
    """The standard deviation of a restoration.

    Attributes
    ----------
    data : ArrayLike of the volume's shape
        Standard deviation of each voxel, in grey values of the volume.
    factor : float or None
        Half-width of the interval in standard deviations; None if unknown, in which
        case there is no interval.
    nominal : float or None
        Fraction of volumes whose porosity lies in such an interval, if measured.
    """

    data: ArrayLike
    factor: float | None = None
    nominal: float | None = None


@dataclass(frozen=True)
class PorosityInterval:
    """The interval of the porosity.

    Attributes
    ----------
    spread : float
        Half of the change in porosity when all voxels are shifted by one standard
        deviation.
    porosity : tuple of float or None
        Minimum and maximum porosity within `factor` standard deviations.
    pore_count : tuple of int or None
        Minimum and maximum pore count at the ends and the centre of the interval.
    factor, nominal : float or None
        As in `Deviation`.
    missing_voxels : int
        Voxels of the sample without a standard deviation; they are not shifted.
    """

    spread: float
    porosity: tuple[float, float] | None
    pore_count: tuple[int, int] | None
    factor: float | None
    nominal: float | None
    missing_voxels: int = 0


@dataclass
class IntervalCounter:
    """Counts the pores of shifted grey values, slab by slab.

    Parameters
    ----------
    labeller : callable
        Creates a `SlabLabeller` for the whole volume.
    """

    source: Any
    deviation: Deviation
    threshold: float
    phase: str
    labeller: Callable[[], SlabLabeller]
    _voxels: dict[float, int] = field(default_factory=dict)
    _labellers: dict[float, SlabLabeller] = field(default_factory=dict)
    _n_sample: int = 0
    _n_missing: int = 0

    def __post_init__(self) -> None:
        moves = [-1.0, 1.0]
        if self.deviation.factor is not None:
            ends = (-self.deviation.factor, self.deviation.factor)
            self._labellers = {end: self.labeller() for end in ends}
            moves += [end for end in ends if end not in moves]
        self._voxels = dict.fromkeys(moves, 0)

    def add(self, slab: slice, sample: np.ndarray | None) -> None:
        """Add the next slab; `sample` is the sample mask, None if it covers all voxels.

        Raises
        ------
        VolumeError
            If a standard deviation is negative.
        """
        block = np.asarray(self.source[slab])
        block = block.astype(np.result_type(block.dtype, np.float32))
        deviation = np.asarray(self.deviation.data[slab]).astype(block.dtype)
        if sample is None:
            sample = np.isfinite(block)
        self._n_sample += int(np.count_nonzero(sample))
        missing = sample & ~np.isfinite(deviation)
        self._n_missing += int(np.count_nonzero(missing))
        deviation[~np.isfinite(deviation)] = 0
        if deviation.min(initial=0) < 0:
            raise VolumeError(
                "The uncertainty has negative values, so it does not contain standard "
                "deviations. Give the STEM_std file that the restoration wrote.",
                fields=["deviation"],
            )
        for move in self._voxels:
            pores = phase_mask(
                block + block.dtype.type(move) * deviation, self.threshold, self.phase
            )
            pores &= sample
            self._voxels[move] += int(np.count_nonzero(pores))
            if move in self._labellers:
                self._labellers[move].add(pores, sample)

    def result(
        self, porosity: float, pore_count: int, min_voxels: int
    ) -> PorosityInterval:
        """The interval around the porosity of the unshifted voxels."""
        share = {move: n / self._n_sample for move, n in self._voxels.items()}
        ends, counts = None, None
        if self.deviation.factor is not None:
            found = [share[end] for end in self._labellers]
            ends = (min(*found, porosity), max(*found, porosity))
            numbers = [*self._pore_counts(min_voxels), pore_count]
            counts = (min(numbers), max(numbers))
        return PorosityInterval(
            spread=abs(share[-1.0] - share[1.0]) / 2,
            porosity=ends,
            pore_count=counts,
            factor=self.deviation.factor,
            nominal=self.deviation.nominal,
            missing_voxels=self._n_missing,
        )

    def _pore_counts(self, min_voxels: int) -> Iterator[int]:
        for labeller in self._labellers.values():
            table: RawTable = labeller.finish()
            yield int((table.rows[:, column.COUNT] >= min_voxels).sum())


def needed_factor(
    mean: np.ndarray,
    deviation: np.ndarray,
    threshold: float,
    phase: str,
    porosity: float,
) -> float:
    """Signed factor for the deviations at which the interval reaches a known porosity.

    Positive if the measured porosity is too high. A voxel is a pore until it is shifted
    by ``(threshold - mean) / deviation``, so the result is a quantile of that ratio.

    Parameters
    ----------
    mean, deviation : ndarray
        Values for the voxels of the sample.
    porosity : float
        Known porosity, 0 to 1.
    """
    sign = 1.0 if phase == "dark" else -1.0
    distance = sign * (threshold - np.asarray(mean, np.float64)).ravel()
    spread = np.asarray(deviation, np.float64).ravel()
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = np.where(spread > 0, distance / spread, np.sign(distance) * np.inf)
    moves = np.sort(np.nan_to_num(moves, nan=0.0, posinf=np.inf, neginf=-np.inf))
    at = round((1 - porosity) * len(moves))
    return float(moves[min(max(at, 0), len(moves) - 1)])
