"""Results of the sweep over a volume, from which statistics are computed."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from napari_geosr.core.units import MILLIMETRES, PIXEL
from napari_geosr.measure.blocks import RawTable
from napari_geosr.measure.graph import NetworkGraph
from napari_geosr.measure.interval import PorosityInterval
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.small_pores import SmallPores

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
#: Columns of the pore table by name, each of shape (n,).
Table = dict[str, np.ndarray]


@dataclass(frozen=True)
class Geometry:
    """Voxel size and origin along Z, Y, X, and their unit; `flat` for a single image.

    In a flat geometry, the edge length along Z is 1 and has no effect.
    """

    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]
    unit: str
    flat: bool

    @property
    def voxel_volume(self) -> float:
        """Volume (image: area) of a voxel in `unit` cubed (squared)."""
        return math.prod(self.voxel_size[1:] if self.flat else self.voxel_size)

    @property
    def has_physical_size(self) -> bool:
        """Whether the voxel size is known in a unit of length."""
        return self.unit != PIXEL


@dataclass(frozen=True, eq=False)
class Pores:
    """Sums of the sweep for some pores, one row each.

    Attributes
    ----------
    sums : ndarray of shape (n, N_COLUMNS), int64
        Columns as numbered in `napari_geosr.measure.kernels.columns`.
    boundary : ndarray of shape (n, N_BOUNDARY_COLUMNS), float64
        Columns as numbered in `napari_geosr.measure.kernels.columns`.
    geometry : Geometry
    """

    sums: IntArray
    boundary: FloatArray
    geometry: Geometry

    @classmethod
    def of(cls, raw: RawTable, geometry: Geometry) -> Pores:
        """Return all pores of a labelled volume."""
        return cls(raw.rows, raw.boundary, geometry)

    def __len__(self) -> int:
        return len(self.sums)

    def select(self, keep: BoolArray) -> Pores:
        """Return the pores where `keep` is true."""
        if keep.all():
            return self
        return Pores(self.sums[keep], self.boundary[keep], self.geometry)

    # Values needed by several statistics are computed once. Columns are copied one by
    # one, so that a table of them does not keep all sums in memory.

    @cached_property
    def voxels(self) -> IntArray:
        """Number of voxels."""
        return self.sums[:, column.COUNT].copy()

    @cached_property
    def size(self) -> FloatArray:
        """Volume (image: area) in the unit of length cubed (squared)."""
        size = np.asarray(self.voxels * self.geometry.voxel_volume, np.float64)
        return size

    @cached_property
    def equivalent_diameter(self) -> FloatArray:
        """Diameter of the sphere of equal volume (image: circle of equal area)."""
        diameter: FloatArray = (
            np.sqrt(4 * self.size / math.pi)
            if self.geometry.flat
            else np.cbrt(6 * self.size / math.pi)
        )
        return diameter

    @cached_property
    def surface(self) -> FloatArray:
        """Surface area (image: perimeter) without faces on the border."""
        return self.boundary[:, column.SURFACE].copy()

    @cached_property
    def euler_number(self) -> IntArray:
        """Euler number; the space outside the volume does not count as pore."""
        return self.boundary[:, column.EULER8].astype(np.int64) // 8

    @cached_property
    def touches_border(self) -> BoolArray:
        """Whether a face lies at the border of the volume or of the sample."""
        return self.sums[:, column.TOUCHES].astype(bool)

    @cached_property
    def axis_lengths(self) -> FloatArray:
        """Standard deviations of voxels along principal axes, largest first, (n, 3)."""
        from napari_geosr.measure.kernels import runs

        edges = np.array(self.geometry.voxel_size)
        if self.geometry.flat:
            edges[0] = 0.0
        return runs.axis_lengths(self.sums, edges)


@dataclass(frozen=True, eq=False)
class SweepTotals:
    """Results of the sweep for the whole volume.

    Attributes
    ----------
    pores : Pores
        Pores of at least the minimum size.
    small : SmallPores
        Sums over the other pores.
    table : dict of ndarray
        Columns of the pore table.
    sample_voxels, pore_voxels, nonfinite_voxels : int
    pore_voxels_low, pore_voxels_high : int
        Number of pore voxels with the threshold shifted down and up.
    threshold : float
    interval : PorosityInterval or None
        Interval of the porosity, if the restoration's standard deviations are known.
    graph : NetworkGraph or None
        Graph of the pores, if requested.
    """

    pores: Pores
    small: SmallPores
    table: Table
    sample_voxels: int
    pore_voxels: int
    pore_voxels_low: int
    pore_voxels_high: int
    nonfinite_voxels: int
    threshold: float
    interval: PorosityInterval | None = None
    graph: NetworkGraph | None = None
    _quantiles: dict[str, dict[str, float | None]] = field(default_factory=dict)

    @property
    def geometry(self) -> Geometry:
        """Voxel size, origin and unit."""
        return self.pores.geometry

    @cached_property
    def pore_count(self) -> int:
        """Number of pores of at least the minimum size."""
        return len(self.pores)

    @property
    def small_pore_voxels(self) -> int:
        """Number of voxels of pores below the minimum size."""
        return self.small.voxels

    @cached_property
    def surface(self) -> float | None:
        """Surface (image: perimeter) of all pores; None if the unit is the pixel."""
        if not self.geometry.has_physical_size:
            return None
        parts = itertools.chain(self.pores.surface, self.small.surface_parts)
        return float(math.fsum(parts))

    @property
    def sample_size(self) -> float | None:
        """Volume (image: area) of the sample; None if the unit is the pixel."""
        return self.size_of(self.sample_voxels)

    def size_of(self, n_voxels: int) -> float | None:
        """Return the volume (image: area) of `n_voxels`; None for pixel units."""
        geometry = self.geometry
        return n_voxels * geometry.voxel_volume if geometry.has_physical_size else None

    def per_millimetre(self, count: float) -> float | None:
        """Return the number of objects per mm³ (image: mm²); None for pixel units."""
        if self.sample_size is None:
            return None
        power = 2 if self.geometry.flat else 3
        return count / (self.sample_size * MILLIMETRES[self.geometry.unit] ** power)

    def quantiles(self, name: str) -> dict[str, float | None]:
        """Return mean, 10th, 50th and 90th percentiles, and maximum of a column."""
        if name not in self._quantiles:
            self._quantiles[name] = quantiles_of(self.table[name])
        return self._quantiles[name]


def quantiles_of(values: np.ndarray) -> dict[str, float | None]:
    """Return mean, three percentiles (10, 50, 90) and maximum; None without values."""
    values = values.astype(np.float64)
    if not len(values):
        return dict.fromkeys(("mean", "p10", "median", "p90", "max"))
    p10, median, p90 = np.percentile(values, [10, 50, 90])
    return {
        "mean": float(values.mean()),
        "p10": float(p10),
        "median": float(median),
        "p90": float(p90),
        "max": float(values.max()),
    }


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Return the quotients; NaN where the denominator is not positive."""
    result = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result
