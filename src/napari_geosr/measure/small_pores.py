"""Sums over pores that are too small to count; noise can create millions of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from napari_geosr.measure.kernels import columns as column


@dataclass
class SmallPores:
    """Sums over the pores below the minimum size.

    Attributes
    ----------
    n : int
        Number of pores.
    single : int
        Number of pores of one voxel.
    voxels : int
        Total number of their voxels.
    open_voxels : int
        Number of voxels of pores with a face at the border of the volume or sample.
    euler8 : int
        Eight times the sum of their Euler numbers.
    """

    n: int = 0
    single: int = 0
    voxels: int = 0
    open_voxels: int = 0
    euler8: int = 0
    #: Number of pores for each surface area (in 2D: perimeter); there are few distinct
    #: values.
    _surfaces: dict[float, int] = field(default_factory=dict)

    def state(self) -> dict[str, np.ndarray]:
        """Return the sums as arrays."""
        numbers = [self.n, self.single, self.voxels, self.open_voxels, self.euler8]
        return {
            "small": np.array(numbers, np.int64),
            "small_surfaces": np.array(list(self._surfaces), np.float64),
            "small_times": np.array(list(self._surfaces.values()), np.int64),
        }

    @classmethod
    def of_state(cls, state: Mapping[str, np.ndarray]) -> SmallPores:
        """Load the sums from `state`."""
        surfaces, times = state["small_surfaces"], state["small_times"]
        known = zip(surfaces.tolist(), times.tolist(), strict=True)
        n, single, voxels, open_voxels, euler8 = state["small"].tolist()
        return cls(n, single, voxels, open_voxels, euler8, dict(known))

    def add(self, rows: np.ndarray, boundary: np.ndarray) -> None:
        """Add pores, with the columns of `RawTable`."""
        count = rows[:, column.COUNT]
        self.n += len(rows)
        self.single += int(np.count_nonzero(count == 1))
        self.voxels += int(count.sum())
        self.open_voxels += int(count[rows[:, column.TOUCHES] != 0].sum())
        self.euler8 += int(boundary[:, column.EULER8].astype(np.int64).sum())
        surfaces, n = np.unique(boundary[:, column.SURFACE], return_counts=True)
        for surface, times in zip(surfaces.tolist(), n.tolist(), strict=True):
            self._surfaces[surface] = self._surfaces.get(surface, 0) + times

    @property
    def surface_parts(self) -> list[float]:
        """The total surface of the pores, as floats that add up to it exactly."""
        rest = sum((Fraction(s) * n for s, n in self._surfaces.items()), Fraction(0))
        parts = []
        while rest:
            parts.append(float(rest))
            rest -= Fraction(parts[-1])
        return parts
