"""Distribution of the local thickness of a phase."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

#: Unit of the diameters, in voxels (1 ÷ `kernels.spheres.STEPS`); it is doubled until
#: the largest diameter fits into 16 bits.
STEP = 1 / 32


@dataclass(frozen=True, eq=False)
class ThicknessDistribution:
    """Numbers of voxels of a phase by local thickness.

    Attributes
    ----------
    counts : ndarray of int64
        Number of voxels by thickness in units of `step`.
    unbounded_voxels : int
        Number of voxels of a phase without any surface; their thickness is unknown.
    step : float
        Rounding of the diameters, in voxels.
    """

    counts: npt.NDArray[np.int64]
    unbounded_voxels: int = 0
    step: float = STEP

    @classmethod
    def of(
        cls, counts: npt.NDArray[np.int64], step: float = STEP
    ) -> ThicknessDistribution:
        """Create a distribution from counts.

        Voxels outside the phase (thickness 0) and empty counts at the upper end are
        dropped.
        """
        counts[0] = 0
        used = np.flatnonzero(counts)
        return cls(counts[: used[-1] + 1 if used.size else 1].copy(), step=step)

    @property
    def n_voxels(self) -> int:
        """Number of voxels with a known thickness."""
        return int(self.counts.sum())

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """Thickness to which each count belongs, in voxels."""
        return self.step * np.arange(len(self.counts), dtype=np.float64)

    @property
    def mean(self) -> float | None:
        """Volume-weighted mean in voxels; None if there are no voxels."""
        if not self.n_voxels:
            return None
        return float((self.counts * self.values).sum() / self.n_voxels)

    @property
    def sd(self) -> float | None:
        """Standard deviation over the voxels of the phase, in voxels."""
        if (mean := self.mean) is None:
            return None
        squares = (self.counts * (self.values - mean) ** 2).sum()
        return math.sqrt(float(squares) / self.n_voxels)

    @property
    def largest(self) -> float | None:
        """Largest thickness in voxels."""
        found = np.flatnonzero(self.counts)
        return float(self.values[found[-1]]) if found.size else None

    def histogram(self, n_bins: int = 24) -> tuple[list[int], list[float]]:
        """Return counts and edges of equal bins from zero to the largest thickness."""
        edges = np.linspace(0, self.largest or 1.0, n_bins + 1)
        counts, _ = np.histogram(self.values, bins=edges, weights=self.counts)
        return [int(n) for n in counts], [float(edge) for edge in edges]
