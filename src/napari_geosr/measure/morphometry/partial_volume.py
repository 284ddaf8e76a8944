"""Porosity from grey values: each voxel contributes its pore fraction."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.phases import Mask, Phases
from napari_geosr.measure.phases.findings import Findings, Quantity
from napari_geosr.measure.sums import SweepTotals

TITLE = "Partial-volume porosity"
ABOUT = "Porosity from grey values: each voxel contributes its pore fraction."
CONVENTION = (
    "Within 3 voxels of a pore (including diagonals), the pore fraction of a voxel is"
    " the difference between the grey value of the solid and that of the voxel, "
    "divided by the difference between solid and pore; φ(grey) is the sum of these "
    "fractions divided by the number of sample voxels: φ(grey) = Σ (Grey.solid − "
    "grey) ÷ (Grey.solid − Grey.pore) ÷ number of sample voxels. It does not depend "
    "on blur that is narrower than these 3 voxels, nor on the exact threshold. "
    "Grey.solid is the mean of solid voxels more than 3 voxels from pores and from "
    "the border of the sample, Grey.pore that of the pore voxels farthest from the "
    "solid: those more than 4 voxels from it or, if these are fewer than 100, more "
    "than 3, 2 or 1.5 voxels. All grey values are those of the scan, even if the "
    "threshold is local; uneven brightness affects them."
)
SOURCES = (
    "Maire E, Withers PJ. Quantitative X-ray tomography. Int Mater Rev 59:1-43 "
    "(2014), on partial-volume effects. doi:10.1179/1743280413Y.0000000023",
)
QUANTITIES = (
    Quantity("φ(grey)", "porosity from grey values", text="percent"),
    Quantity("Grey.pore", "grey value of the pores, away from their surface"),
    Quantity("Grey.solid", "grey value of the solid, away from the pores"),
)
#: Distance from pores, in voxels, within which a voxel may be partly pore.
_REACH = 3
#: Distances from the solid, in voxels, beyond which pore voxels count as pure pore. The
#: first distance is preferred; the last is too small for blurred scans.
_INSIDE = (4.0, 3.0, 2.0, 1.5)
#: Number of planes on either side of a slab that are read to find these distances.
_HALO = 5
#: Minimum number of voxels for a mean grey value.
_FEWEST = 100


@dataclass
class _GreyMean:
    """Mean over voxels, from sums of planes, so that slabs do not affect it."""

    sums: list[float] = field(default_factory=list)
    count: int = 0

    def add(self, plane: npt.NDArray[np.float64], where: Mask) -> None:
        self.sums.append(float(plane[where].sum()))
        self.count += int(np.count_nonzero(where))

    @property
    def total(self) -> float:
        return math.fsum(self.sums)

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count >= _FEWEST else None


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Determine the porosity from the grey values around the pores."""
    grey = phases.grey
    nothing: dict[str, float | None] = dict.fromkeys(q.name for q in QUANTITIES)
    if grey is None:
        return Findings(
            nothing, ["φ(grey) cannot be determined: there are no grey values."]
        )
    near, solid = _GreyMean(), _GreyMean()
    inner = {distance: _GreyMean() for distance in _INSIDE}
    n = grey.slabs[-1].stop
    yield StageStarted(0, len(grey.slabs), message="Measuring the grey values of pores")
    for i, slab in enumerate(grey.slabs):
        phases.check()
        low, high = max(0, slab.start - _HALO), min(n, slab.stop + _HALO)
        block, pores, sample = grey.read(slice(low, high))
        own = slice(slab.start - low, slab.stop - low)
        others = ~pores if sample is None else sample & ~pores
        around = _grown(pores, _REACH, phases.flat)
        outside = around
        if sample is not None:
            outside = around | _grown(~sample, _REACH, phases.flat)
            around &= sample
        depth = _depths(pores, phases.flat)
        for z in range(own.start, own.stop):
            plane = block[z].astype(np.float64)
            near.add(plane, around[z])
            solid.add(plane, others[z] & ~outside[z])
            for distance, mean in inner.items():
                mean.add(plane, depth[z] > distance)
        yield BlockDone(i + 1, len(grey.slabs))
    return _findings(near, solid, inner, totals, nothing)


def _findings(
    near: _GreyMean,
    solid: _GreyMean,
    inner: dict[float, _GreyMean],
    totals: SweepTotals,
    values: dict[str, float | None],
) -> Findings:
    depth = next((d for d, m in inner.items() if m.value is not None), None)
    pore = None if depth is None else inner[depth].value
    values |= {"Grey.pore": pore, "Grey.solid": solid.value}
    if solid.value is None:
        return Findings(
            values,
            [
                f"φ(grey) cannot be determined: fewer than {_FEWEST} voxels of the "
                f"solid are more than {_REACH} voxels away from pores."
            ],
        )
    if pore is None or pore == solid.value:
        return Findings(
            values,
            [
                "φ(grey) cannot be determined: the pores are too small to determine "
                "their grey value."
            ],
        )
    parts = (near.count * solid.value - near.total) / (solid.value - pore)
    values["φ(grey)"] = parts / totals.sample_voxels
    remarks = []
    if depth == _INSIDE[-1]:
        remarks.append(
            "φ(grey) may be too high: few pore voxels are more than two voxels away "
            "from the solid, so blur affects the grey value of the pores."
        )
    return Findings(values, remarks)


def _depths(pores: Mask, flat: bool) -> npt.NDArray[np.float32]:
    """Return the distance of every voxel from the solid, in voxels."""
    from scipy.ndimage import distance_transform_edt

    if not pores.any() or pores.all():
        return np.where(pores, np.float32(_HALO), np.float32(0))
    sampling = (2.0 * max(pores.shape), 1.0, 1.0) if flat else None
    depths: npt.NDArray[np.float64] = distance_transform_edt(pores, sampling)
    return depths.astype(np.float32)


def _grown(mask: Mask, distance: int, flat: bool) -> Mask:
    """Return the voxels up to `distance` from a mask, along axes and diagonals."""
    from scipy.ndimage import maximum_filter1d

    grown = mask.view(np.uint8)
    for axis in (1, 2) if flat else (0, 1, 2):
        grown = maximum_filter1d(
            grown, 2 * distance + 1, axis=axis, mode="constant", cval=0
        )
    found: Mask = grown.view(np.bool_)
    return found
