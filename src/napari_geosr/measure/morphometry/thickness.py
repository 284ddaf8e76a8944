"""Thickness of the solid and of the pores: Tb.Th, Tb.Sp, Po.Dm."""

from __future__ import annotations

from collections.abc import Generator

from napari_geosr.core.steps import Step
from napari_geosr.measure.local_thickness.distribution import STEP
from napari_geosr.measure.phases import Phases
from napari_geosr.measure.phases.findings import (
    Findings,
    LittleMemoryError,
    Quantity,
    coarse_remark,
    memory_remark,
    wide_remark,
)
from napari_geosr.measure.phases.shared import phase_thickness_steps
from napari_geosr.measure.sums import SweepTotals

TITLE = "Thickness"
ABOUT = "Local thickness of the solid (Tb.Th) and of the pores (Tb.Sp, Po.Dm)."
CONVENTION = (
    "Local thickness at a point p is the diameter of the largest sphere that contains "
    "the point and lies in its phase Ω: τ(p) = 2 max {r : p ∈ sphere(x, r) ⊆ Ω} "
    "(Hildebrand & Rüegsegger 1997); means and "
    "standard deviations are over the volume of the phase. Tb.Th is the local "
    "thickness of the solid; Tb.Sp and Po.Dm are two names for the local thickness of "
    "the pores. All radii are used, not a fixed series; diameters are rounded to 1/32 "
    "voxel (to 1/16, 1/8, ... voxel if the largest exceeds 2047, 4095, ... voxels). "
    "The position of the surface between voxels is estimated from the surrounding 7³ "
    "voxels. Spheres have their centres in the sample. They may extend beyond the "
    "sample mask as far as the phase does there, and beyond the border of the volume "
    "and into NaN regions, where the ends of structures are unknown: a wall along a "
    "face counts with up to twice its thickness."
)
SOURCES = (
    "Hildebrand T, Rüegsegger P. A new method for the model-independent assessment "
    "of thickness in three-dimensional images. J Microsc 185:67-75 (1997), "
    "definition of the local thickness. doi:10.1046/j.1365-2818.1997.1340694.x",
    "Bouxsein ML et al. Guidelines for assessment of bone microstructure in rodents "
    "using micro-computed tomography. J Bone Miner Res 25:1468-1486 (2010), "
    "definitions of Tb.Th and Tb.Sp. doi:10.1002/jbmr.141",
)
QUANTITIES = (
    Quantity("Tb.Th", "mean thickness of the solid", 1),
    Quantity("Tb.Th.SD", "standard deviation of the thickness of the solid", 1),
    Quantity("Tb.Sp", "mean thickness of the pores", 1),
    Quantity("Tb.Sp.SD", "standard deviation of the thickness of the pores", 1),
    Quantity("Po.Dm", "mean pore diameter, the same as Tb.Sp", 1),
    Quantity("Po.Dm.SD", "standard deviation of the pore diameter", 1),
)


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure the local thickness of both phases."""
    try:
        solid = yield from phase_thickness_steps(phases, "solid")
        pores = yield from phase_thickness_steps(phases, "pores")
    except LittleMemoryError as error:
        what, has_budget = "The local thickness was", phases.budget is not None
        return Findings({}, [memory_remark(what, error.needed, has_budget=has_budget)])
    remarks = []
    for name, found, phase in (
        ("Tb.Th", solid, "solid"),
        ("Tb.Sp (Po.Dm)", pores, "pore"),
    ):
        if found.mean is None:
            why = "fills the volume" if found.unbounded_voxels else "is empty"
            remarks.append(f"{name} cannot be determined: the {phase} phase {why}.")
        if found.step > STEP:
            remarks.append(
                f"The diameters of {name} are rounded to 1/{1 / found.step:.0f} voxel, "
                f"because the largest is {found.largest:.0f} voxels."
            )
        remarks += coarse_remark(name, found.mean)
        remarks += wide_remark(name, found.mean, phases.sample_shape)
    return Findings(
        {
            "Tb.Th": solid.mean,
            "Tb.Th.SD": solid.sd,
            "Tb.Sp": pores.mean,
            "Tb.Sp.SD": pores.sd,
            "Po.Dm": pores.mean,
            "Po.Dm.SD": pores.sd,
        },
        remarks,
        {"Tb.Th": solid.histogram(), "Tb.Sp": pores.histogram()},
    )
