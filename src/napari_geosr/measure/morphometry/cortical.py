"""Cortical bone, slice by slice: Tt.Ar, Ct.Ar, Ct.Th, Ct.Po, Po.N, Po.Dm."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.phases import Mask, Phases
from napari_geosr.measure.phases.findings import Findings, Quantity, coarse_remark
from napari_geosr.measure.sums import SweepTotals
from napari_geosr.measure.thickness import local_thickness

TITLE = "Cortical bone"
ABOUT = "Tt.Ar, Ct.Ar, Ct.Th, Ct.Po, Po.N and Ct.Po.Dm of the slices normal to Z."
CONVENTION = (
    "Each slice normal to Z is measured separately; values are means over the slices "
    "with bone. The periosteal contour encloses the largest piece of bone with all "
    "its holes; the marrow cavity is the largest hole, if it is larger than all the "
    "other holes together; pores that open into it are part of it. Tt.Ar is "
    "the area inside the periosteal contour, Ct.Ar that area without the marrow cavity "
    "(pores included), Ct.Po the share of the pores in Ct.Ar, Po.N their number, "
    "Ct.Po.Dm the mean diameter of the circle of equal area, and Ct.Th the mean "
    "local thickness of the cortex with its pores filled, in the slice."
)
SOURCES = (
    "Bouxsein ML et al. Guidelines for assessment of bone microstructure in rodents "
    "using micro-computed tomography. J Bone Miner Res 25:1468-1486 (2010), "
    "definitions of the cortical quantities. doi:10.1002/jbmr.141",
)
QUANTITIES = (
    Quantity("Tt.Ar", "total area inside the periosteal contour", 2),
    Quantity("Ct.Ar", "cortical area", 2),
    Quantity("Ct.Ar/Tt.Ar", "cortical area fraction", text="percent"),
    Quantity("Ma.Ar", "marrow area", 2),
    Quantity("Ct.Th", "mean cortical thickness", 1),
    Quantity("Ct.Po", "cortical porosity", text="percent"),
    Quantity("Po.N", "pores per slice"),
    Quantity("Ct.Po.Dm", "mean diameter of the cortical pores in a slice", 1),
)
_NAMES = tuple(q.name for q in QUANTITIES)
#: Maximum number of slices in which the cortical thickness is measured.
_MOST_THICKNESSES = 64
#: Minimum fraction of the slices with bone in which the bone must form a closed ring
#: within the image.
_MOST_SLICES = 0.9
#: Number of bone pixels on an edge of the image, divided by the square root of the
#: edge's length, above which the bone counts as cut off. A circle that just touches the
#: edge reaches 2.
_MOST_CUT = 2.5
#: Minimum overlap of the marrow cavities in adjacent slices, as a fraction of the
#: larger one.
_LEAST_SHARED = 0.8
#: Porosity of the cortex above which it is not compact bone.
_MOST_POROUS = 0.5


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure the cortex in every slice."""
    n = phases.shape[0]
    step = max(1, n // _MOST_THICKNESSES)
    rows = np.full((n, len(_NAMES)), np.nan)
    ring = _RingCheck()
    yield StageStarted(0, n, message="Measuring the cortex")
    for z in range(n):
        phases.check()
        bone = phases.planes(phases.solid, slice(z, z + 1))[0]
        if bone.any():
            rows[z] = _of_slice(bone, ring, with_thickness=z % step == 0)
        yield BlockDone(z + 1, n)
    values: dict[str, float | None] = dict.fromkeys(_NAMES)
    for i, name in enumerate(_NAMES):
        known = rows[np.isfinite(rows[:, i]), i]
        values[name] = float(known.mean()) if len(known) else None
    remarks = []
    if values["Tt.Ar"] is None:
        remarks.append("There is no bone (solid) in the sample.")
    if values["Tt.Ar"] is not None and not values["Ma.Ar"]:
        remarks.append(
            "No slice has a marrow cavity: the cortex is not a closed ring, and "
            "Ct.Th is the thickness of the whole bone."
        )
    remarks += ring.remarks(rows)
    if values["Tt.Ar"] is not None and not values["Po.N"]:
        remarks.append("Ct.Po.Dm has no value: the cortex has no pores.")
    if step > 1:
        remarks.append(f"Ct.Th was measured in one of every {step} slices.")
    remarks += coarse_remark("Ct.Th", values["Ct.Th"])
    remarks += coarse_remark("Ct.Po.Dm", values["Ct.Po.Dm"])
    curve = {"slice": [float(z) for z in range(n)]}
    curve |= {
        name: [float(v) for v in rows[:, i]]
        for i, name in enumerate(_NAMES)
        if name in ("Ct.Ar/Tt.Ar", "Ct.Po", "Po.N")
    }
    return Findings(values, remarks, curves={"slices": curve})


@dataclass
class _RingCheck:
    """Counts slices without a clear ring of compact bone around a marrow cavity."""

    n_cut: int = 0
    n_pairs: int = 0
    n_moved: int = 0
    _before: Mask | None = None

    def add(self, bone: Mask, cavity: Mask | None) -> None:
        """Add a slice: its largest piece of bone, and its marrow cavity."""
        edges = (bone[0], bone[-1], bone[:, 0], bone[:, -1])
        touching = [np.count_nonzero(e) > _MOST_CUT * math.sqrt(len(e)) for e in edges]
        self.n_cut += any(touching)
        if cavity is not None and self._before is not None:
            shared = np.count_nonzero(cavity & self._before)
            larger = max(np.count_nonzero(cavity), np.count_nonzero(self._before))
            self.n_pairs += 1
            self.n_moved += int(shared < _LEAST_SHARED * larger)
        self._before = cavity

    def remarks(self, rows: npt.NDArray[np.float64]) -> list[str]:
        """Return a remark if the slices may not show a cortex, else an empty list."""
        values = dict(zip(_NAMES, rows[np.isfinite(rows[:, 0])].T, strict=True))
        if not (n := len(values["Tt.Ar"])):
            return []
        reasons = []
        closed = int(np.count_nonzero(values["Ma.Ar"]))
        if 0 < closed < _MOST_SLICES * n:
            reasons.append(
                "there is a marrow cavity (a hole larger than all the others "
                f"together) in only {closed} of {n} slices"
            )
        elif self.n_moved > (1 - _MOST_SLICES) * self.n_pairs:
            reasons.append(
                "the largest hole changes position or size between adjacent slices "
                f"({self.n_moved} of {self.n_pairs} pairs), unlike a marrow cavity"
            )
        if self.n_cut > (1 - _MOST_SLICES) * n:
            reasons.append(
                f"bone lies on the border of the image in {self.n_cut} of {n} slices, "
                "so the periosteal contour is probably cut off"
            )
        if (porosity := float(values["Ct.Po"].mean())) > _MOST_POROUS:
            reasons.append(
                f"pores make up {100 * porosity:.0f} % of the area of the cortex, so "
                "it is not compact"
            )
        if not reasons:
            return []
        return [
            f"The sample may not be a cortex: {'; '.join(reasons)}. The values assume "
            "that each slice shows the whole cross-section of a long bone: a ring of "
            "compact bone around a marrow cavity."
        ]


def _of_slice(bone: Mask, ring: _RingCheck, *, with_thickness: bool) -> list[float]:
    """Return the values of one slice, in the order of `QUANTITIES`."""
    from scipy import ndimage

    pieces, _ = ndimage.label(bone, np.ones((3, 3)))
    largest = pieces == np.bincount(pieces.ravel())[1:].argmax() + 1
    total = ndimage.binary_fill_holes(largest)
    holes, n_holes = ndimage.label(total & ~largest)
    sizes = np.bincount(holes.ravel(), minlength=n_holes + 1)[1:]
    cortex, marrow, cavity = total, 0, None
    if n_holes and 2 * sizes.max() > sizes.sum():
        cavity = holes == sizes.argmax() + 1
        cortex, marrow = total & ~cavity, int(sizes.max())
    ring.add(largest, cavity)
    pores, n_pores = ndimage.label(cortex & ~bone)
    areas = np.bincount(pores.ravel(), minlength=n_pores + 1)[1:]
    diameters = np.sqrt(4 * areas / np.pi)
    n_total, n_cortex = np.count_nonzero(total), np.count_nonzero(cortex)
    thickness = np.nan
    if with_thickness:
        around = np.pad(cortex, 1)  # the cortex ends at the border of the image
        thickness = float(local_thickness(around)[around].mean())
    return [
        n_total,
        n_cortex,
        n_cortex / n_total,
        marrow,
        thickness,
        areas.sum() / n_cortex,
        n_pores,
        float(diameters.mean()) if n_pores else np.nan,
    ]
