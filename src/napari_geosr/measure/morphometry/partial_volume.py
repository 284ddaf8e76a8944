"""Porosity from grey values: each voxel contributes its pore fraction."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.local_thickness.blocks import (
    block_edge,
    cut_blocks,
    preferred_edge,
)
from napari_geosr.measure.local_thickness.spheres import kernels
from napari_geosr.measure.phases import (
    Box,
    GreyPlanes,
    Mask,
    MaskSource,
    Phases,
)
from napari_geosr.measure.phases.findings import (
    Findings,
    LittleMemoryError,
    Quantity,
    memory_remark,
)
from napari_geosr.measure.sums import SweepTotals

TITLE = "Partial-volume porosity"
ABOUT = "Porosity from grey values: each voxel contributes its pore fraction."
CONVENTION = (
    "Within 3 voxels of a pore (including diagonals), the pore fraction of a voxel is "
    "the difference between the grey value of the solid and that of the voxel, divided "
    "by the difference between solid and pore; φ(grey) is the sum of these fractions "
    "divided by the number of sample voxels: φ(grey) = Σ (Grey.solid − grey) ÷ "
    "(Grey.solid − Grey.pore) ÷ number of sample voxels. φ(grey) does not depend on "
    "blur that is narrower than these 3 voxels, nor on the exact threshold. Grey.solid "
    "is the mean grey value of solid voxels more than 3 voxels from pores and from the "
    "border of the sample, Grey.pore that of the pore voxels farthest from the solid: "
    "those more than 4 voxels from it or, if these are fewer than 100, more than 3, 2 "
    "or 1.5 voxels. All grey values are those of the scan, even if the threshold is "
    "local; uneven brightness affects them, and so do grains of another grey value "
    "in the solid."
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
#: Number of voxels around a block that are read to find these distances.
_HALO = 5
#: Preferred edge length of the blocks in which distances are found, in voxels.
_BLOCK = 128
#: Memory in bytes per voxel of a block including its halo.
_BYTES_PER_VOXEL = 16
#: Approximate number of voxels that are added up together, in whole rows.
_STRIP_VOXELS = 2**16
#: Kind of a voxel near pores, which may be partly pore (0: none of these kinds).
_NEAR = 1
#: Kind of a voxel of pure solid.
_SOLID = 2
#: Kind of a pore voxel, plus 1 for each value in `_INSIDE` below its distance from the
#: solid.
_PORE = 3
#: Minimum number of voxels for a mean grey value, and of pairs for the noise.
_FEWEST = 100
#: Distance in voxels along X at which grey values are compared to determine the noise:
#: longer than the correlation of the noise, shorter than most grains.
_LAG = 4
#: Relative change of φ(grey) at and above which a remark is made, for a change of
#: Grey.solid by the standard deviation of the solid in excess of the noise. In phantoms
#: with a second solid, φ(grey) changes by at least 0.25 if it is over 10 % too high; in
#: the bone and the cement of the benchmarks, it changes by 0.04 and 0.18.
_EFFECT = 0.25


@dataclass
class _GreyMean:
    """Mean over voxels, from sums over strips, so that it does not depend on slabs."""

    sums: list[float] = field(default_factory=list)
    count: int = 0

    def add(self, strip: npt.NDArray[np.float64], where: Mask) -> None:
        self.sums.append(float(strip[where].sum()))
        self.count += int(np.count_nonzero(where))

    @property
    def total(self) -> float:
        return math.fsum(self.sums)

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count >= _FEWEST else None


@dataclass
class _GreySpread(_GreyMean):
    """Mean and variation over the voxels of the solid."""

    squares: list[float] = field(default_factory=list)
    differences: list[float] = field(default_factory=list)
    pairs: int = 0

    def add(self, strip: npt.NDArray[np.float64], where: Mask) -> None:
        super().add(strip, where)
        self.squares.append(float((strip[where] ** 2).sum()))
        both = where[:, _LAG:] & where[:, :-_LAG]
        steps = strip[:, _LAG:][both] - strip[:, :-_LAG][both]
        self.differences.append(float((steps**2).sum()))
        self.pairs += len(steps)

    @property
    def variation(self) -> float:
        """Standard deviation beyond that of noise; 0 if there are too few voxels."""
        if self.value is None or self.pairs < _FEWEST:
            return 0.0
        variance = math.fsum(self.squares) / self.count - self.value**2
        noise = math.fsum(self.differences) / (2 * self.pairs)
        return math.sqrt(max(0.0, variance - noise))


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Determine the porosity from the grey values around the pores."""
    grey = phases.grey
    nothing: dict[str, float | None] = dict.fromkeys(q.name for q in QUANTITIES)
    if grey is None:
        return Findings(
            nothing, ["φ(grey) cannot be determined: there are no grey values."]
        )
    slabs, shape = grey.slabs, phases.scan_shape
    try:
        edge = block_edge(
            shape,
            preferred_edge(shape, _BLOCK**3),
            _HALO,
            phases.available_bytes,
            _BYTES_PER_VOXEL,
        )
    except LittleMemoryError as error:
        has_budget = phases.budget is not None
        remark = memory_remark("φ(grey) was", error.needed, has_budget=has_budget)
        return Findings(nothing, [remark])
    near, solid = _GreyMean(), _GreySpread()
    inner = {distance: _GreyMean() for distance in _INSIDE}
    n_steps = 2 * len(slabs)
    yield StageStarted(0, n_steps, message="Measuring the grey values of pores")
    pores, sample = yield from _mask_steps(phases, grey, n_steps)
    rows = max(1, _STRIP_VOXELS // shape[2])
    for i, slab in enumerate(slabs):
        phases.check()
        kinds = _kinds(pores, sample, slab, edge)
        block = grey.read(slab)[0]
        for z in range(len(block)):
            for y in range(0, shape[1], rows):
                strip = block[z, y : y + rows].astype(np.float64)
                kind = kinds[z, y : y + rows]
                near.add(strip, (kind == _NEAR) | (kind >= _PORE))
                solid.add(strip, kind == _SOLID)
                for k, distance in enumerate(reversed(_INSIDE), start=1):
                    inner[distance].add(strip, kind >= _PORE + k)
        yield BlockDone(len(slabs) + i + 1, n_steps)
    return _findings(near, solid, inner, totals, nothing)


def _mask_steps(
    phases: Phases, grey: GreyPlanes, n_steps: int
) -> Generator[Step, None, tuple[MaskSource, MaskSource | None]]:
    """Store the pores and the sample on the grid of the grey values.

    The sample is None if it is the whole volume.
    """
    pores, inside = PackedMask(phases.scan_shape), PackedMask(phases.scan_shape)
    is_whole = True
    for i, slab in enumerate(grey.slabs):
        phases.check()
        _, own, sample = grey.read(slab)
        pores.write(slab.start, own)
        inside.write(slab.start, np.ones_like(own) if sample is None else sample)
        is_whole = is_whole and (sample is None or bool(sample.all()))
        yield BlockDone(i + 1, n_steps)
    return pores, None if is_whole else inside


def _kinds(
    pores: MaskSource, sample: MaskSource | None, slab: slice, edge: int
) -> npt.NDArray[np.uint8]:
    """Return the kind of each voxel of a slab, found block by block."""
    shape = (slab.stop - slab.start, pores.shape[1], pores.shape[2])
    kinds = np.zeros(shape, np.uint8)
    for z, y, x in cut_blocks(shape, edge):
        core = (slice(slab.start + z.start, slab.start + z.stop), y, x)
        kinds[z, y, x] = _block_kinds(pores, sample, core)
    return kinds


def _block_kinds(
    pores: MaskSource, sample: MaskSource | None, core: Box
) -> npt.NDArray[np.uint8]:
    """Return the kind of each voxel of a block."""
    a, b, c = wide = [
        slice(max(0, s.start - _HALO), min(n, s.stop + _HALO))
        for s, n in zip(core, pores.shape, strict=True)
    ]
    z, y, x = (
        slice(s.start - w.start, s.stop - w.start)
        for s, w in zip(core, wide, strict=True)
    )
    own = pores[a, b, c]
    around = _grown(own, _REACH)
    outside = around
    others = ~own
    if sample is not None:
        inside = sample[a, b, c]
        outside = around | _grown(~inside, _REACH)
        others &= inside
    kinds = np.zeros(own.shape, np.uint8)
    kinds[others & around] = _NEAR
    kinds[others & ~outside] = _SOLID
    kinds[own] = _PORE
    squares = _squares(own)
    for distance in _INSIDE:
        kinds += own & (squares > distance**2)
    return kinds[z, y, x]


def _findings(
    near: _GreyMean,
    solid: _GreySpread,
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
    varied = solid.variation / abs(solid.value - pore)
    if parts > 0 and near.count * varied >= _EFFECT * parts:
        remarks.append(
            "φ(grey) may be wrong: apart from noise, the grey value of the solid "
            f"varies by {100 * varied:.0f} % of the contrast, as with several "
            "materials or uneven brightness, but φ(grey) assumes a single value. "
            "Compare it with the porosity from a threshold between the pores and the "
            "darkest solid."
        )
    return Findings(values, remarks)


def _squares(pores: Mask) -> npt.NDArray[np.int32]:
    """Return the squared distance of every voxel from the solid, in voxels."""
    squares = np.empty(pores.shape, np.int32)
    nearest = np.empty(pores.shape, np.int32)
    phase = np.ascontiguousarray(pores).view(np.uint8)
    kernels().distances.squared_distances(phase, squares, nearest)
    return squares


def _grown(mask: Mask, distance: int) -> Mask:
    """Return the voxels up to `distance` from a mask, along axes and diagonals."""
    from scipy.ndimage import maximum_filter1d

    grown = mask.view(np.uint8)
    for axis in range(3):
        grown = maximum_filter1d(
            grown, 2 * distance + 1, axis=axis, mode="constant", cval=0
        )
    found: Mask = grown.view(np.bool_)
    return found
