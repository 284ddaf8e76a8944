"""From sums per pore to physical quantities: the columns of the pore table."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from napari_geosr.measure.blocks import RawTable
from napari_geosr.measure.kernels import columns as column

#: Below this radius no surface estimator is reliable.
RELIABLE_RADIUS_VOXELS = 4.0

Table = dict[str, np.ndarray]


@dataclass(frozen=True)
class Geometry:
    """Voxel size, origin and unit along Z, Y, X; `flat` for a single image.

    In a flat geometry the Z edge is 1 and plays no part.
    """

    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]
    unit: str
    flat: bool

    @property
    def axes(self) -> str:
        """Letters of the axes in names of columns."""
        return "yx" if self.flat else "zyx"

    @property
    def voxel_volume(self) -> float:
        """Volume (flat: area) of a voxel in `unit` cubed (squared)."""
        return math.prod(self.voxel_size[1:] if self.flat else self.voxel_size)


def pore_table(
    raw: RawTable, keep: np.ndarray, geometry: Geometry
) -> tuple[Table, dict[str, str]]:
    """Columns for the pores `keep` (bool, one per row of `raw`), and their units.

    Row ``i`` describes label ``i + 1``. Boxes are voxel indices, the end not included.
    Surface areas leave out what the border cuts; sphericity is NaN there. Elongation
    and flatness are ratios of the axes of the ellipsoid with the same second moments.

    Returns
    -------
    table : dict of ndarray of shape (n,)
    units : dict of str
        Unit by column name; empty for pure numbers.
    """
    from napari_geosr.measure.kernels import runs

    rows, surface = raw.rows, raw.surface
    euler_number = raw.euler_number
    if not keep.all():
        rows, surface, euler_number = rows[keep], surface[keep], euler_number[keep]
    length = geometry.unit
    voxels = rows[:, column.COUNT]
    size = voxels * geometry.voxel_volume
    touches = rows[:, column.TOUCHES].astype(bool)
    table: Table = {"label": np.arange(1, len(rows) + 1, dtype=np.int64)}
    units = {"label": "", "voxels": "voxel"}
    table["voxels"] = voxels
    if geometry.flat:
        diameter = np.sqrt(4 * size / math.pi)
        table |= {"area": size, "equivalent_diameter": diameter, "perimeter": surface}
        units |= {"area": f"{length}²", "equivalent_diameter": length}
        units |= {"perimeter": length, "circularity": ""}
        round_name, roundness = "circularity", _ratio(4 * math.pi * size, surface**2)
        radius = np.sqrt(voxels / math.pi)
    else:
        diameter = np.cbrt(6 * size / math.pi)
        table |= {
            "volume": size,
            "equivalent_diameter": diameter,
            "surface_area": surface,
        }
        units |= {"volume": f"{length}³", "equivalent_diameter": length}
        units |= {"surface_area": f"{length}²", "sphericity": ""}
        round_name, roundness = "sphericity", _ratio(math.pi * diameter**2, surface)
        radius = np.cbrt(voxels * 3 / (4 * math.pi))
    roundness[touches] = np.nan
    # Digital surfaces of tiny pores come out below a ball's; none is rounder.
    table[round_name] = np.minimum(roundness, 1.0)
    table["surface_reliable"] = radius >= RELIABLE_RADIUS_VOXELS
    table["euler_number"] = euler_number
    units |= {"surface_reliable": "", "euler_number": ""}
    edges = np.array(geometry.voxel_size)
    if geometry.flat:
        edges[0] = 0.0
    axis_lengths = runs.axis_lengths(rows, edges)
    table["elongation"] = _ratio(axis_lengths[:, 1], axis_lengths[:, 0])
    units["elongation"] = ""
    if not geometry.flat:
        table["flatness"] = _ratio(axis_lengths[:, 2], axis_lengths[:, 1])
        units["flatness"] = ""
    _add_places(table, units, rows, geometry)
    table["touches_border"] = touches
    units["touches_border"] = ""
    return table, units


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    result = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=result, where=denominator > 0)
    return result


def _add_places(
    table: Table, units: dict[str, str], rows: np.ndarray, geometry: Geometry
) -> None:
    sums = (column.SUM_Z, column.SUM_Y, column.SUM_X)
    lows = (column.MIN_Z, column.MIN_Y, column.MIN_X)
    highs = (column.MAX_Z, column.MAX_Y, column.MAX_X)
    for axis in geometry.axes:
        i = "zyx".index(axis)
        mean = rows[:, sums[i]] / rows[:, column.COUNT]
        table[f"centroid_{axis}"] = geometry.origin[i] + mean * geometry.voxel_size[i]
        units[f"centroid_{axis}"] = geometry.unit
    for word, columns, shift in (("start", lows, 0), ("end", highs, 1)):
        for axis in geometry.axes:
            i = "zyx".index(axis)
            table[f"bbox_{word}_{axis}"] = rows[:, columns[i]] + shift
            units[f"bbox_{word}_{axis}"] = "voxel"
