"""A porosity interval from the standard deviation of each restored voxel.

The grey values of all voxels of the sample are shifted by the same multiple of their
standard deviation, once towards brighter and once towards darker values, and pores are
segmented with the same threshold each time. A common shift is the worst case:
independent errors of voxels would mostly cancel, but the effects of blur, noise and a
model on edges are the same everywhere in a volume. The required multiple is found by
calibration.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.volume import ArrayLike
from napari_geosr.measure.blocks import RawTable, SlabLabeller
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.segment import phase_mask
from napari_geosr.measure.slabs.part import SlabPart, SlabRules, label_slab


@dataclass(frozen=True)
class Deviation:
    """The standard deviation of each voxel of a restoration.

    Attributes
    ----------
    data : ArrayLike of the volume's shape
        Standard deviation of each voxel, in grey values of the volume.
    factor : float or None
        Half-width of the interval in standard deviations; None if unknown, in which
        case there is no interval.
    nominal : float or None
        Fraction of volumes in which such an interval contains the true porosity, if
        measured.
    """

    data: ArrayLike
    factor: float | None = None
    nominal: float | None = None


@dataclass(frozen=True)
class PorosityInterval:
    """Porosity interval of a volume.

    Attributes
    ----------
    spread : float
        Half of the difference in porosity between shifts of all voxels by −1 and by +1
        standard deviation; with samples, the standard deviation of their porosities.
    porosity : tuple of float or None
        Minimum and maximum porosity within `factor` standard deviations; with samples,
        the quantiles of their porosities, moved apart as calibrated.
    pore_count : tuple of int or None
        Minimum and maximum of the pore counts at the ends and the centre of the
        interval; None with samples.
    factor, nominal : float or None
        See `Deviation`; the factor is None with samples.
    missing_voxels : int
        Number of sample voxels without a standard deviation; they are not shifted.
    """

    spread: float
    porosity: tuple[float, float] | None
    pore_count: tuple[int, int] | None
    factor: float | None
    nominal: float | None
    missing_voxels: int = 0


@dataclass(frozen=True, eq=False)
class IntervalPart:
    """Results from the shifted grey values of one slab.

    Attributes
    ----------
    sample, missing : int
        Number of voxels of the sample, and number of those without a standard
        deviation.
    voxels : dict of int
        Number of pore voxels by shift.
    pores : dict of SlabPart
        Labelled pores at the ends of the interval, by shift.
    """

    sample: int
    missing: int
    voxels: dict[float, int]
    pores: dict[float, SlabPart]


@dataclass(frozen=True, eq=False)
class ShiftedPores:
    """Segments and labels the shifted grey values of slabs.

    Attributes
    ----------
    source : ArrayLike of shape (Z, Y, X)
    deviation : Deviation
        Standard deviations; their data must have the same shape as `source`.
    threshold : float
    phase : str
    rules : SlabRules
    """

    source: Any
    deviation: Deviation
    threshold: float
    phase: str
    rules: SlabRules

    @property
    def ends(self) -> tuple[float, ...]:
        """Shifts at the ends of the interval, in standard deviations."""
        factor = self.deviation.factor
        return () if factor is None else (-factor, factor)

    def part(self, slab: slice, sample: np.ndarray | None) -> IntervalPart:
        """Count pores in a slab; `sample` is its mask, None if it covers all voxels.

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
        missing = sample & ~np.isfinite(deviation)
        deviation[~np.isfinite(deviation)] = 0
        if deviation.min(initial=0) < 0:
            raise VolumeError(
                "The given deviations contain negative values, so they are not "
                "standard deviations. Use the STEM_std file that the restoration "
                "wrote.",
                fields=["deviation"],
            )
        voxels, labelled = {}, {}
        for move in dict.fromkeys((-1.0, 1.0, *self.ends)):
            pores = phase_mask(
                block + block.dtype.type(move) * deviation, self.threshold, self.phase
            )
            pores &= sample
            voxels[move] = int(np.count_nonzero(pores))
            if move in self.ends:
                _, labelled[move] = label_slab(pores, sample, slab.start, self.rules)
        n_sample, n_missing = (int(np.count_nonzero(m)) for m in (sample, missing))
        return IntervalPart(n_sample, n_missing, voxels, labelled)


class IntervalCounter:
    """Adds up the pores found in shifted grey values, slab by slab.

    Parameters
    ----------
    shifted : ShiftedPores
    labeller : callable
        Creates a `SlabLabeller` for the whole volume.
    """

    def __init__(
        self, shifted: ShiftedPores, labeller: Callable[[], SlabLabeller]
    ) -> None:
        self.deviation = shifted.deviation
        self._voxels: Counter[float] = Counter()
        self._labellers = {end: labeller() for end in shifted.ends}
        self._n_sample = self._n_missing = 0

    def join(self, part: IntervalPart) -> None:
        """Add the results of the next slab."""
        self._n_sample += part.sample
        self._n_missing += part.missing
        self._voxels.update(part.voxels)
        for move, labeller in self._labellers.items():
            labeller.join(part.pores[move])

    def result(
        self, porosity: float, pore_count: int, min_voxels: int
    ) -> PorosityInterval:
        """Return the interval around the porosity of the unshifted voxels."""
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
    """Find the number of deviations at which the interval reaches a known porosity.

    The number is positive if the measured porosity is too high. A dark voxel is
    a pore until it is shifted by ``(threshold - mean) / deviation`` (for bright pores,
    the sign is reversed), so the result is a quantile of that ratio.

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


def sample_quantiles(
    porosities: Sequence[float], nominal: float, shift: float = 0.0
) -> tuple[float, float]:
    """Return the quantiles of the porosities of samples, each moved outwards.

    Parameters
    ----------
    porosities : sequence of float
        Porosity of each sample, 0 to 1.
    nominal : float
        Fraction of the samples between the quantiles.
    shift : float
        Porosity by which each quantile is moved; if it is negative, at most to the
        middle between the two.

    Examples
    --------
    >>> low, high = sample_quantiles([0.20, 0.21, 0.22, 0.23, 0.24], 0.5, 0.02)
    >>> round(low, 3), round(high, 3)
    (0.19, 0.25)
    """
    tail = (1 - nominal) / 2
    low, high = (float(q) for q in np.quantile(porosities, [tail, 1 - tail]))
    middle = (low + high) / 2
    return max(min(low - shift, middle), 0.0), min(max(high + shift, middle), 1.0)


def needed_shift(porosities: Sequence[float], nominal: float, porosity: float) -> float:
    """Return how far `sample_quantiles` must be moved to contain a known porosity.

    The result is negative if the porosity is well between the quantiles.
    """
    low, high = sample_quantiles(porosities, nominal)
    return max(low - porosity, porosity - high)


def conformal_factor(needed: Sequence[float], nominal: float) -> float:
    """Return the factor for intervals that contain the porosity of another scan.

    The factor is `conformal_quantile` of the absolute values of those needed by several
    scans.
    """
    return conformal_quantile([abs(value) for value in needed], nominal)


def conformal_quantile(needed: Sequence[float], nominal: float) -> float:
    """Return the ⌈(n + 1) · nominal⌉-th smallest of the values needed by n scans.

    An interval with this value contains the porosity of another scan of the same kind
    with at least the probability `nominal`.

    Raises
    ------
    ValueError
        If the number of scans is too small for `nominal`.
    """
    sizes = sorted(needed)
    rank = math.ceil((len(sizes) + 1) * nominal)
    if rank > len(sizes):
        raise ValueError(f"{len(sizes)} scans are too few for {nominal:g}.")
    return sizes[rank - 1]
