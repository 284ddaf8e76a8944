"""Lengths of chords: runs of voxels of a phase along an axis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.phases import Box, Mask, Phases

Integers = npt.NDArray[np.int64]
#: Share of chords longer than all those seen above which no standard deviation is
#: given: in random fields, it would be too small by more than 10 %.
MOST_LONGER = 0.02
#: Share of the length of a phase missing in the distribution of chord lengths above
#: which there is no standard deviation, as for tubes without ends along one axis. In
#: random fields of 16 chords along each edge, it varies by less.
MOST_MISSING = 0.25


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
    """Number of chords per unit length of all lines, and what is known of them.

    Attributes
    ----------
    rate : float
    mean, square : float
        Mean length and mean squared length; chords longer than all those seen count
        with the length of the longest.
    longer : float
        Share of the chords that are longer than all those seen.
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
        """Number of ends of chords: of phase changes along the axis."""
        return int(2 * self.whole.sum() + self.one_end.sum())

    def moments(self, pairs: int) -> _Moments:
        """Estimate the lengths, from all chords of which at least one end is known.

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
        # Of the chords that could be seen to end at a length, the border hides those
        # cut there, because the next voxel is unknown.
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
        None if there are fewer than two chords, or too many that are longer than the
        sample shows.
    cut : float
        Share of the phase's length in chords that the border cuts.
    longer : float
        Share of the chords that are longer than all those seen.
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
        is_complete = longer <= MOST_LONGER and known >= (1 - MOST_MISSING) * mean
        sd = None
        if n >= 2 and is_complete:
            sd = math.sqrt(max(0.0, square - known**2))
        return cls(n, mean, sd, cut, longer)
