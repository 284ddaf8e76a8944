"""Two-point probability S2, specific surface, chord lengths and lineal path."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.phases import Box, Mask, Phases
from napari_geosr.measure.phases.findings import Findings, Quantity
from napari_geosr.measure.phases.shared import specific_surface_steps
from napari_geosr.measure.sums import SweepTotals

TITLE = "Two-point statistics"
ABOUT = "S2, specific surface, correlation length, chord lengths, lineal path of pores."
CONVENTION = (
    "S2(r) is the probability that both ends of a segment of length r along an axis "
    "lie in pores, given that both lie in the sample (Torquato 2002). S_v (surface per "
    "volume) is −4 × the slope of S2 at 0 (in an image, L_A is −π × the slope). Slopes "
    "are measured between neighbouring voxels in 13 directions (in an image, 4) and "
    "extrapolated to distance 0 with the slopes between every second voxel and, along "
    "the axes, between every third voxel: otherwise, segments between neighbouring "
    "voxels that cross the surface twice would be missed. S_v is correct on average "
    "over all orientations, but too small for flat surfaces normal to one of these "
    "directions: by 7 % for faces of voxels and for (110), by 4 % for (111). For "
    "straight lines along or diagonal to the pixels, L_A is 5 % too small. The "
    "correlation length is the distance at which (S2 − φ²) ÷ (φ − φ²) falls to 1/e. "
    "Chords are runs of voxels of a phase along the axes. Their mean is the length of "
    "the phase along all lines ÷ half the number of phase changes, because each change "
    "is one end of a chord; chords cut by the border are thus included. All chords "
    "have the same weight; an axis without phase changes adds length but no chord. The "
    "standard deviation of the chords is that of the product-limit estimate (Kaplan & "
    "Meier 1958) of the distribution of lengths, in which a chord cut by the border is "
    "taken to be at least as long as its part inside. If the voxels are not cubic, the "
    "pairs and chords are nevertheless those of the voxels of the scan: S2 and the "
    "lineal-path function are interpolated linearly between multiples of an edge, and "
    "a chord counts in proportion to the cross-section of a voxel. The lineal-path "
    "function is the probability that a segment lies entirely in pores, given that it "
    "lies in the sample."
)
SOURCES = (
    "Torquato S. Random Heterogeneous Materials. Springer (2002), chapter on "
    "microstructural descriptors: two-point probability, chord length and lineal "
    "path. doi:10.1007/978-1-4757-6355-3",
    "Debye P, Anderson HR, Brumberger H. Scattering by an inhomogeneous solid. II. J "
    "Appl Phys 28:679-683 (1957), relation of the initial slope to the surface. "
    "doi:10.1063/1.1722830",
    "Kaplan EL, Meier P. Nonparametric estimation from incomplete observations. J Am "
    "Stat Assoc 53:457-481 (1958), definition of the product-limit estimate. "
    "doi:10.2307/2281868",
)
QUANTITIES = (
    Quantity(
        *("S_v", "specific surface from the slope of S2", -1),
        flat_name="L_A",
        flat_title="specific perimeter from the slope of S2",
    ),
    Quantity("S2.Lc", "correlation length", 1),
    Quantity("Chord.pore", "mean chord length of the pores", 1),
    Quantity("Chord.pore.SD", "standard deviation of the chord length of the pores", 1),
    Quantity("Chord.solid", "mean chord length of the solid", 1),
    Quantity(
        "Chord.solid.SD", ("standard deviation of the chord length of the solid"), 1
    ),
)
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Largest distance at which S2 is computed, in voxels.
_MOST_LAG = 128
#: Maximum share of the length of a phase that may lie in chords cut by the border;
#: above it, their mean is uncertain: in random fields, it then varies by 10 % between
#: volumes.
_MOST_CUT = 0.5
#: Maximum share of chords that may be longer than the longest one observed; above it,
#: no standard deviation is given: in random fields, it would be too small by more than
#: 10 %.
_MOST_LONGER = 0.02
#: Maximum share of the total chord length of a phase that may be missing from the
#: distribution of chord lengths; above it, no standard deviation is given (as for tubes
#: without ends along one axis). In random fields with edges of 16 mean chord lengths,
#: the share is smaller.
_MOST_MISSING = 0.25


def lags(shape: tuple[int, ...], flat: bool) -> list[int]:
    """Return distances in voxels: every integer at first, then steps of about 8 %."""
    most = min(_MOST_LAG, min(shape[1:] if flat else shape) // 2)
    found = list(range(min(8, most) + 1))
    while found[-1] < most:
        found.append(min(most, max(found[-1] + 1, round(1.08 * found[-1]))))
    return found


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure correlations and chords of both phases."""
    axes = (1, 2) if phases.flat else (0, 1, 2)
    distances = lags(phases.shape, phases.flat)
    both, pairs = yield from pair_steps(phases, axes, distances)
    pores = totals.pore_voxels / totals.sample_voxels
    surface, remarks = yield from _surface(phases)
    chords, path, lines = yield from _chord_steps(phases, axes, distances)
    lines = pairs.sum(axis=0) if lines is None else lines
    with np.errstate(invalid="ignore", divide="ignore"):
        s2 = both.sum(axis=0) / pairs.sum(axis=0)
        lineal = path / lines
    values: dict[str, float | None] = {
        "S_v": surface,
        "S2.Lc": decay_length(distances, s2),
    }
    for which, name in (("pores", "Chord.pore"), ("solid", "Chord.solid")):
        own = chords[which]
        values[name], values[f"{name}.SD"] = own.mean, own.sd
        remarks += _chord_remarks(name, own)
    if values["S2.Lc"] is None and 0 < pores < 1:
        remarks.append(
            "The correlation length cannot be determined: S2 does not decay within "
            "half of the volume. A larger volume is needed."
        )
    elif (length := values["S2.Lc"]) is not None and length < 2:
        remarks.append(
            f"The correlation length of {length:.1f} voxels is unreliable. Smaller "
            "voxels are needed."
        )
    curve: dict[str, list[float]] = {
        "distance": [float(d) for d in distances],
        "S2": s2.tolist(),
        "lineal_path": lineal.tolist(),
    }
    for axis in axes:
        # At distances larger than the sample, there are no pairs.
        n = np.maximum(pairs[axis], 1)
        along = np.where(pairs[axis] > 0, both[axis] / n, np.nan)
        curve[f"S2_{'zyx'[axis]}"] = along.tolist()
    return Findings(values, remarks, curves={"two_point": curve})


def pair_steps(
    phases: Phases, axes: tuple[int, ...], distances: list[int]
) -> Generator[Step, None, tuple[Floats, Floats]]:
    """Count pairs with both ends in pores, and in the sample; shape (3, n) each.

    The ends are voxels of the scan. If these are not cubic, the numbers are
    interpolated linearly between multiples of an edge of a voxel.
    """
    scan = phases.scan
    wanted = np.array(distances) / np.array(phases.scan_voxel)[:, None]
    steps = [sorted({*np.floor(w), *np.ceil(w)}) for w in wanted]
    both = [np.zeros(len(s)) for s in steps]
    pairs = [np.zeros(len(s)) for s in steps]
    slabs, n_z = scan.slabs, scan.shape[0]
    yield StageStarted(0, len(slabs), message="Measuring two-point statistics")
    for i, slab in enumerate(slabs):
        pores, sample = scan.planes(scan.pores, slab), scan.sample_planes(slab)
        for axis in axes:
            for k, lag in enumerate(map(int, steps[axis])):
                far_pores, far_sample = pores, sample
                if axis == 0:  # read other planes for each distance, to save memory
                    far = slice(min(n_z, slab.start + lag), min(n_z, slab.stop + lag))
                    far_pores = scan.planes(scan.pores, far)
                    far_sample = scan.sample_planes(far)
                both[axis][k] += _count(pores, far_pores, axis, lag)
                if sample is not None and far_sample is not None:
                    pairs[axis][k] += _count(sample, far_sample, axis, lag)
                    continue
                size = [len(far_pores), *scan.shape[1:]]
                size[axis] -= lag if axis else 0
                pairs[axis][k] += math.prod(size)
        yield BlockDone(i + 1, len(slabs))
    found = (
        np.array([np.interp(*each) for each in zip(wanted, steps, counts, strict=True)])
        for counts in (both, pairs)
    )
    at_both, of_all = found
    return at_both, of_all


def _count(one: Mask, other: Mask, axis: int, lag: int) -> int:
    """Count the pairs at a distance `lag` with both ends in a mask.

    Along Z, `other` already consists of the planes at this distance.
    """
    if axis == 0:
        one = one[: len(other)]
    else:
        one = np.moveaxis(one, axis, 0)[: one.shape[axis] - lag]
        other = np.moveaxis(other, axis, 0)[lag:]
    return int(np.count_nonzero(one & other))


def _surface(
    phases: Phases,
) -> Generator[Step, None, tuple[float | None, list[str]]]:
    """Return the surface per volume, in units of 1/voxel edge, and remarks on it."""
    changes = yield from specific_surface_steps(phases)
    if (surface := changes.extrapolated) is None:
        return None, []
    remarks = changes.unreliable_remark("L_A" if phases.flat else "S_v")
    return surface * phases.edge, remarks


@dataclass(frozen=True)
class Runs:
    """Runs of voxels of a phase along an axis.

    Attributes
    ----------
    lengths : ndarray of int64
        In voxels.
    ends : ndarray of int64
        Number of ends (0 to 2) at which the next voxel is of the other phase; at the
        others, the run is cut by the border of the sample.
    """

    lengths: Integers
    ends: Integers


def runs_along(phases: Phases, which: str, axis: int) -> Iterator[Runs]:
    """Yield the runs of a phase (``"pores"``, ``"solid"``) or of the ``"sample"``."""
    own = getattr(phases, which)
    other = phases.solid if which == "pores" else phases.pores
    across = 1 if axis != 1 else 0
    n_lines = phases.shape[across]
    step = max(1, 2**22 * n_lines // max(1, math.prod(phases.shape)))
    for start in range(0, n_lines, step):
        phases.check()
        key = [slice(None)] * 3
        key[across] = slice(start, start + step)
        box: Box = (key[0], key[1], key[2])
        yield _runs(np.moveaxis(own[box], axis, -1), np.moveaxis(other[box], axis, -1))


def _runs(inside: Mask, beyond: Mask) -> Runs:
    """Find the runs along the last axis."""
    padded = np.zeros((*inside.shape[:2], inside.shape[2] + 2), bool)
    padded[..., 1:-1] = inside
    walls = np.zeros_like(padded)
    walls[..., 1:-1] = beyond
    flat, wall = padded.ravel(), walls.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    first, last = edges[::2] + 1, edges[1::2]
    ends = wall[first - 1].astype(np.int64) + wall[last + 1]
    return Runs((last - first + 1).astype(np.int64), ends)


@dataclass(frozen=True)
class _Moments:
    """Number of chords per unit length of all lines, and moments of their lengths.

    Attributes
    ----------
    rate : float
    mean, square : float
        Mean length and mean squared length; chords longer than the longest one observed
        count with its length.
    longer : float
        Share of the chords that are longer than the longest one observed.
    """

    rate: float
    mean: float
    square: float
    longer: float


@dataclass
class AxisChords:
    """Chords of a phase along an axis.

    Parameters
    ----------
    n : int
        Number of voxels of the volume along the axis.
    edge : float
        Edge of a voxel along the axis.

    Attributes
    ----------
    whole, one_end : ndarray of int64
        Number of chords by their length in voxels: with both ends in the sample, and
        with only one.
    voxels : int
        Number of voxels of the phase.
    """

    n: int
    edge: float
    whole: Integers = field(init=False)
    one_end: Integers = field(init=False)
    voxels: int = 0

    def __post_init__(self) -> None:
        self.whole = np.zeros(self.n + 1, np.int64)
        self.one_end = np.zeros(self.n + 1, np.int64)

    def add(self, runs: Runs) -> None:
        """Add runs."""
        for ends, counts in ((2, self.whole), (1, self.one_end)):
            counts += np.bincount(runs.lengths[runs.ends == ends], minlength=self.n + 1)
        self.voxels += int(runs.lengths.sum())

    @property
    def ends(self) -> int:
        """Number of ends of chords, which are phase changes along the axis."""
        return int(2 * self.whole.sum() + self.one_end.sum())

    def moments(self, pairs: int) -> _Moments:
        """Estimate the lengths from all chords with at least one known end.

        Seen from a known end, a chord that the border cuts is at least as long as the
        part inside. The distribution is the product-limit estimate.

        Parameters
        ----------
        pairs : int
            Number of pairs of neighbouring voxels of the sample along the axis.
        """
        if not self.ends:
            return _Moments(0.0, 0.0, 0.0, 0.0)
        ending = 2 * self.whole  # a whole chord is seen from both ends
        # A chord cut by the border at this length is not counted: the next voxel is
        # unknown, so the chord cannot be seen to end here.
        reaching = (ending + self.one_end)[::-1].cumsum()[::-1] - self.one_end
        hazard = ending / np.maximum(reaching, 1)
        longer = np.cumprod(1 - hazard)  # share of chords longer than each length
        shares = -np.diff(longer, prepend=1.0)
        longest = int(np.flatnonzero(ending + self.one_end)[-1])
        shares[longest] += longer[longest]
        lengths = self.edge * np.arange(self.n + 1)
        return _Moments(
            self.ends / 2 / (pairs * self.edge),
            float(shares @ lengths),
            float(shares @ lengths**2),
            float(longer[longest]),
        )


@dataclass(frozen=True)
class ChordLengths:
    """Lengths of the chords of a phase along all axes.

    Attributes
    ----------
    n : float
        Number of chords: half of the number of their ends in the sample.
    mean : float or None
        Length of the phase along all lines ÷ number of chords; None without chords.
    sd : float or None
        None if there are fewer than two chords, or if the border cuts too many.
    cut : float
        Share of the phase's length in chords that the border cuts.
    longer : float
        Share of the chords that are longer than the longest one observed.
    """

    n: float
    mean: float | None
    sd: float | None
    cut: float
    longer: float

    @classmethod
    def of(cls, axes: list[AxisChords], pairs: list[int], share: float) -> ChordLengths:
        """Combine the chords along all axes.

        Parameters
        ----------
        axes : list of AxisChords
        pairs : list of int
            Number of pairs of neighbouring voxels of the sample along each axis.
        share : float
            Share of the phase in the sample.
        """
        n = sum(axis.ends for axis in axes) / 2
        voxels = sum(axis.voxels for axis in axes)
        whole = sum(int(np.arange(axis.n + 1) @ axis.whole) for axis in axes)
        cut = 1 - whole / voxels if voxels else 0.0
        if not n:
            return cls(0.0, None, None, cut, 0.0)
        each = [axis.moments(k) for axis, k in zip(axes, pairs, strict=True)]
        rate = sum(m.rate for m in each)
        mean = share * sum(k > 0 for k in pairs) / rate
        known = sum(m.rate * m.mean for m in each) / rate
        square = sum(m.rate * m.square for m in each) / rate
        longer = sum(m.rate * m.longer for m in each) / rate
        is_complete = longer <= _MOST_LONGER and known >= (1 - _MOST_MISSING) * mean
        sd = None
        if n >= 2 and is_complete:
            sd = math.sqrt(max(0.0, square - known**2))
        return cls(n, mean, sd, cut, longer)


def _chord_steps(
    phases: Phases, axes: tuple[int, ...], distances: list[int]
) -> Generator[Step, None, tuple[dict[str, ChordLengths], Floats, Floats | None]]:
    """Find the chords of both phases on the voxels of the scan.

    Returns
    -------
    dict
        The chords by phase.
    ndarray
        Number of segments of each length that lie entirely in pores, by distance.
    ndarray or None
        Number of segments that lie entirely in the sample; None if all voxels belong to
        it.
    """
    scan, voxel = phases.scan, phases.scan_voxel
    path = np.zeros(len(distances))
    lines = None if scan.sample is None else np.zeros(len(distances))
    found = {}
    for which in ("pores", "solid"):
        yield StageStarted(message=f"Measuring chords of the {which}")
        found[which] = [AxisChords(scan.shape[axis], voxel[axis]) for axis in axes]
        for axis, own in zip(axes, found[which], strict=True):
            for runs in runs_along(scan, which, axis):
                own.add(runs)
                if which == "pores":
                    path += _segments(runs.lengths, distances, voxel[axis])
    n_voxels = math.prod(scan.shape)
    pairs = [n_voxels - n_voxels // scan.shape[axis] for axis in axes]
    if lines is not None:
        pairs = [0] * len(axes)
        for i, axis in enumerate(axes):
            for runs in runs_along(scan, "sample", axis):
                lines += _segments(runs.lengths, distances, voxel[axis])
                pairs[i] += int((runs.lengths - 1).sum())
    n_of = {which: sum(own.voxels for own in each) for which, each in found.items()}
    n_both = max(1, sum(n_of.values()))
    chords = {
        which: ChordLengths.of(each, pairs, n_of[which] / n_both)
        for which, each in found.items()
    }
    return chords, path, lines


def _chord_remarks(name: str, chords: ChordLengths) -> list[str]:
    """Return remarks on chords that are too few, or too long for the sample."""
    if chords.mean is None:
        return [f"{name} cannot be determined: there are no phase changes."]
    remarks = []
    if chords.cut > _MOST_CUT:
        remarks.append(
            f"{name} is uncertain: {100 * chords.cut:.0f} % of the length of this "
            "phase lies in chords that are cut by the border. A larger volume is "
            "needed."
        )
    if chords.sd is None:
        why = (
            "there is only one chord"
            if chords.n < 2
            else "too many chords are cut by the border of the sample, so their full "
            "lengths are unknown"
        )
        remarks.append(f"{name}.SD cannot be determined: {why}.")
    return remarks


def _segments(runs: npt.NDArray[np.int64], distances: list[int], edge: float) -> Floats:
    """Count the segments of each length in runs of voxels with this edge length."""
    steps = (distance / edge for distance in distances)
    return np.array([np.maximum(runs - step, 0).sum() for step in steps])


def decay_length(distances: list[int], s2: npt.NDArray[np.float64]) -> float | None:
    """Return the distance at which the normalised covariance falls to 1/e."""
    phi = float(s2[0])
    if not 0 < phi < 1:
        return None
    share = (s2 - phi**2) / (phi - phi**2)
    below = np.flatnonzero(share < math.exp(-1))
    if not below.size:
        return None
    i = int(below[0])
    part = (share[i - 1] - math.exp(-1)) / (share[i - 1] - share[i])
    return float(distances[i - 1] + part * (distances[i] - distances[i - 1]))
