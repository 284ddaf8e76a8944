"""Interval of the porosity that a scan of one spot supports without further spots."""

from __future__ import annotations

import math
from dataclasses import dataclass

from napari_geosr.measure.phases.sampling_error import (
    FEWEST_INDEPENDENT,
    independent_parts,
    porosity_variance,
    student_factor,
)
from napari_geosr.measure.planning.cells import CellCounts

#: Number of cubes along the shortest edge of the scan that are tested for independence.
_PARTS = 4


@dataclass(frozen=True)
class OwnInterval:
    """Interval of the porosity of the material, from one spot.

    Attributes
    ----------
    ends : tuple of 2 float
    independent : float
        Number of independent cubes, of a quarter of the spot's width, that would give
        this interval.
    """

    ends: tuple[float, float]
    independent: float

    def remarks(self) -> list[str]:
        """Return a remark if the interval is unreliable."""
        if self.independent >= FEWEST_INDEPENDENT:
            return []
        return [
            "The interval from this spot alone is unreliable: the porosity is "
            "correlated over so large a part of the scan that it is equivalent to only "
            f"{self.independent:.1f} independent cubes. Use a larger scan."
        ]


def interval_of_scan(
    cells: CellCounts, porosity: float, confidence: float
) -> OwnInterval | None:
    """Return the porosity interval from one scan; None if the sample is too small.

    Parameters
    ----------
    cells : CellCounts
    porosity : float
        Porosity of the scan.
    confidence : float
    """
    shape = cells.pores.shape[1:] if cells.flat else cells.pores.shape
    cubes = cells.cubes(max(1, min(shape) // _PARTS))
    variance = porosity_variance(cells.pores, cells.sample)
    if len(cubes) < 2 or not math.isfinite(variance):
        return None
    between = cubes.sd**2
    variance = max(variance, between / len(cubes))
    independent = independent_parts(between, variance, len(cubes))
    half = student_factor(independent, confidence) * math.sqrt(variance)
    ends = max(0.0, porosity - half), min(1.0, porosity + half)
    return OwnInterval(ends, independent)
