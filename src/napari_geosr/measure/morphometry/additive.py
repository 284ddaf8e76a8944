"""Defects of additive manufacturing: depth, √area, nearest neighbour."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.morphometry.lacunae import principal_axes
from napari_geosr.measure.phases import Mask, Phases
from napari_geosr.measure.phases.findings import (
    Column,
    Findings,
    Quantity,
    memory_remark,
)
from napari_geosr.measure.statistics.centroid import centroid
from napari_geosr.measure.sums import SweepTotals

TITLE = "Additive manufacturing"
ABOUT = "Depth below the surface, √area and nearest neighbour of each pore."
CONVENTION = (
    "√area is the square root of the largest projected area of a pore (√area "
    "parameter of Murakami 2002), here of the ellipsoid with the same second "
    "moments, so that rough outlines have less effect than in a projection: "
    "√area = √(π a b) with its longest semi-axes a and b. The "
    "depth is the distance from a pore's centre to the nearest point of the free "
    "surface, which is the border of the sample mask; the border of the volume and "
    "NaN voxels are cuts, not surfaces. The nearest neighbour is the distance between "
    "centres. Pores below the minimum size are left out."
)
SOURCES = (
    "Murakami Y. Metal Fatigue: Effects of Small Defects and Nonmetallic Inclusions. "
    "Elsevier (2002), definition of the √area parameter.",
    "du Plessis A, Yadroitsava I, Yadroitsev I. Effects of defects on mechanical "
    "properties in metal additive manufacturing. Mater Des 187:108385 (2020), on the "
    "shape, size and position of defects. doi:10.1016/j.matdes.2019.108385",
)
QUANTITIES = (
    Quantity("Relative density", "1 − porosity", text="percent"),
    Quantity("√area.max", "largest √area of a pore", 1, flat_name="-"),
    Quantity("Depth.min", "smallest depth of a pore's centre", 1),
    Quantity("Depth.median", "median depth", 1),
    Quantity("NND", "mean distance to the nearest pore", 1),
    Quantity(
        *("Irregular", "fraction of pores with a sphericity below 0.6"),
        flat_title="fraction of pores with a circularity below 0.6",
        text="percent",
    ),
)
COLUMNS = (
    Column("depth", 1),
    Column("nearest_neighbour", 1),
    Column("sqrt_area", 1, flat=False),
)
#: Sphericity (2D: circularity) below which pores count as irregular, such as
#: lack-of-fusion defects.
_IRREGULAR = 0.6
#: Bytes for a face of the free surface: its position, copies and a search tree.
_BYTES_PER_FACE = 120
#: Median size of the pores, in voxels, below which their shapes are uncertain.
_FEW_VOXELS = 27


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure the counted pores as defects."""
    from scipy.spatial import cKDTree

    pores = totals.pores
    n, edge = len(pores), phases.edge
    places = np.stack([centroid(pores, axis) for axis in range(3)], axis=1)
    available = phases.available_bytes
    depth, needed = yield from _depths(phases, places, available)
    neighbour = np.full(n, np.nan)
    if n > 1:
        neighbour = cKDTree(places).query(places, k=2)[0][:, 1]
    eigenvalues, _ = principal_axes(pores)
    semi = np.sqrt(5 * np.maximum(eigenvalues[:, 1:], 0))
    area = np.sqrt(math.pi * semi[:, 0] * semi[:, 1])
    remarks = []
    if n == 0:
        remarks.append("No pore reaches the minimum size.")
    elif phases.sample is None:
        remarks.append(
            "The depth of pores cannot be determined: without a sample mask, the free "
            "surface is unknown. Use a sample mask (--sample auto)."
        )
    elif needed > available:
        has_budget = phases.budget is not None
        what = "The depth of the pores was"
        remarks.append(memory_remark(what, needed, has_budget=has_budget))
    elif not np.isfinite(depth).any():
        remarks.append(
            "The depth of pores cannot be determined: the sample has no free surface, "
            "because it ends only at NaN voxels or at the border of the volume. If it "
            "is surrounded by air, use a sample mask (--sample auto)."
        )
    shapes = "circularity is" if phases.flat else "√area and sphericity are"
    if n and (median := int(np.median(pores.voxels))) < _FEW_VOXELS:
        count = "only 1 voxel" if median == 1 else f"{median} voxels or fewer"
        remarks.append(
            f"Half of the pores have {count}: {shapes} uncertain. Smaller voxels are "
            "needed."
        )
    shape = totals.table.get("sphericity", totals.table.get("circularity"))
    irregular = None
    if n and shape is not None:
        known = shape[np.isfinite(shape)]
        irregular = float(np.mean(known < _IRREGULAR)) if len(known) else None
    if n and irregular is None:
        shape_name = "circularity" if phases.flat else "sphericity"
        remarks.append(f"No pore has a reliable {shape_name}.")
    if n == 1:
        remarks.append("NND cannot be determined: there is only one pore.")
    values: dict[str, float | None] = {
        "Relative density": 1 - totals.pore_voxels / totals.sample_voxels,
        "√area.max": float(area.max()) / edge if n else None,
        "Depth.min": _known(depth, np.min, edge),
        "Depth.median": _known(depth, np.median, edge),
        "NND": _known(neighbour, np.mean, edge),
        "Irregular": irregular,
    }
    columns = {"depth": depth, "nearest_neighbour": neighbour}
    if not phases.flat:
        columns["sqrt_area"] = area
    return Findings(values, remarks, columns=columns)


def _known(
    values: npt.NDArray[np.float64],
    function: Callable[[npt.NDArray[np.float64]], np.floating],
    edge: float,
) -> float | None:
    known = values[np.isfinite(values)]
    return float(function(known)) / edge if len(known) else None


def _depths(
    phases: Phases, places: npt.NDArray[np.float64], available: int
) -> Generator[Step, None, tuple[npt.NDArray[np.float64], int]]:
    """Measure the distance of positions from the free surface.

    Parameters
    ----------
    phases : Phases
    places : ndarray of shape (n, 3)
        Positions in the unit of the volume.
    available : int
        Memory that may be used, in bytes.

    Returns
    -------
    ndarray
        Distances; NaN if there is no free surface or not enough memory for its faces.
    int
        The memory needed, in bytes.
    """
    from scipy.spatial import cKDTree

    depth = np.full(len(places), np.nan)
    if phases.sample is None or not len(places):
        return depth, 0
    surface: list[npt.NDArray[np.float64]] = []
    needed = 0
    slabs, n_z = phases.slabs, phases.shape[0]
    yield StageStarted(0, len(slabs), message="Finding the free surface")
    for i, slab in enumerate(slabs):
        wide = slice(max(0, slab.start - 1), min(n_z, slab.stop + 1))
        sample = phases.planes(phases.sample, wide)
        missing = np.zeros(sample.shape, bool)
        if phases.missing is not None:
            missing = phases.planes(phases.missing, wide)
        for axis in range(3):
            # Faces between the sample and its surroundings lie between two voxels.
            is_face = np.diff(sample, axis=axis)
            is_face &= ~(_cut(missing, axis, 0) | _cut(missing, axis, 1))
            step = np.flatnonzero(is_face)
            needed += _BYTES_PER_FACE * len(step)
            if needed > available:
                surface.clear()  # count only the remaining faces
                continue
            shape = list(sample.shape)
            shape[axis] -= 1
            found = np.stack(np.unravel_index(step, shape), axis=1).astype(np.float64)
            found[:, axis] += 0.5
            found[:, 0] += wide.start
            surface.append(found)
        yield BlockDone(i + 1, len(slabs))
    if not surface or not len(faces := np.concatenate(surface)):
        return depth, needed
    origin = np.array(phases.origin)
    faces = faces * phases.edge + origin
    distance: npt.NDArray[np.float64] = cKDTree(faces).query(places)[0]
    return distance, needed


def _cut(mask: Mask, axis: int, start: int) -> Mask:
    """Return all planes along an axis but the last (start 0) or the first (start 1)."""
    return np.moveaxis(np.moveaxis(mask, axis, 0)[start : start - 1 or None], 0, axis)
