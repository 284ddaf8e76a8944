"""Tortuosity factor of the pores, and an estimate of the permeability."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.measure import diffusion
from napari_geosr.measure.number_text import rough_percent
from napari_geosr.measure.phases import Phases
from napari_geosr.measure.phases.findings import Findings, Quantity, memory_remark
from napari_geosr.measure.phases.shared import specific_surface_steps
from napari_geosr.measure.sums import SweepTotals

TITLE = "Transport"
ABOUT = "Tortuosity factor of the pores, and a Kozeny–Carman estimate of permeability."
CONVENTION = (
    "The tortuosity factor τ along an axis is φ D0 ÷ D_eff, where D_eff is the "
    "effective diffusivity of the pores from a finite-volume solution of Laplace's "
    "equation (6 neighbours, fixed concentrations on the two faces of the volume, no "
    "flux through the others), as in TauFactor (Cooper et al. 2016). If the sample is "
    "a box within the volume, its faces are used. The solution has "
    "converged when the fluxes through all planes agree within 0.5 %. The permeability "
    "is not simulated: k(estimate) = φ³ ÷ (5 S_v²) (Kozeny–Carman equation), with the "
    "surface per total volume S_v, extrapolated as in the two-point statistics. The "
    "estimate includes isolated pores. It is 0 if no pores connect opposite faces of "
    "the volume, and cannot be determined if the sample does not reach these faces."
)
SOURCES = (
    "Cooper SJ, Bertei A, Shearing PR, Kilner JA, Brandon NP. TauFactor: an "
    "open-source application for calculating tortuosity factors from tomographic "
    "data. SoftwareX 5:203-210 (2016), definition of the tortuosity factor. "
    "doi:10.1016/j.softx.2016.09.002",
    "Carman PC. Fluid flow through granular beds. Trans Inst Chem Eng 15:150-166 "
    "(1937), Kozeny–Carman equation.",
)
QUANTITIES = (
    Quantity("τ.z", "tortuosity factor of the pores along Z", flat_name="-"),
    Quantity("τ.y", "tortuosity factor of the pores along Y"),
    Quantity("τ.x", "tortuosity factor of the pores along X"),
    Quantity("D_eff/D0.z", "relative diffusivity along Z", flat_name="-"),
    Quantity("D_eff/D0.y", "relative diffusivity along Y"),
    Quantity("D_eff/D0.x", "relative diffusivity along X"),
    Quantity(
        "k(estimate)", "permeability by the Kozeny–Carman equation", 2, flat_name="-"
    ),
)
#: Maximum difference between the fluxes through the planes, relative to their mean.
_TOLERANCE = 0.005
#: Width of a pore in voxels below which its cross-section has too few voxels.
_NARROW = 4


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Solve for diffusion along each axis."""
    values: dict[str, float | None] = {}
    remarks: list[str] = []
    outside: list[str] = []
    available = phases.available_bytes
    box = _box(phases)
    n_voxels = math.prod(part.stop - part.start for part in box)
    is_full = n_voxels == phases.sample_voxels
    needed, n_pores = diffusion.bytes_needed(n_voxels), 0
    if needed <= available:  # if not, the pores need not be read
        pores = np.ascontiguousarray(phases.pores[box])
        n_pores = int(np.count_nonzero(pores))
        needed = diffusion.bytes_needed(pores.size, n_pores)
    if n_pores > diffusion.MOST_VOXELS:
        remarks.append(
            f"The tortuosity factor was not measured: the pores have {n_pores:,} "
            f"voxels, more than the limit of {diffusion.MOST_VOXELS:,}. Measure a part "
            "of the volume."
        )
    elif needed > available:
        has_budget = phases.budget is not None
        what = "The tortuosity factor was"
        remarks.append(memory_remark(what, needed, has_budget=has_budget))
    else:
        phi = n_pores / phases.sample_voxels
        for axis, letter in enumerate("zyx"):
            if phases.flat and axis == 0:
                continue
            along = np.ascontiguousarray(np.moveaxis(pores, axis, 0))
            found = yield from _diffusivity(phases, along, letter)
            share = found.flux * n_voxels / phases.sample_voxels
            if not share and not (is_full or _reaches_faces(phases, axis)):
                values[f"D_eff/D0.{letter}"] = None
                outside.append(letter.upper())
                continue
            values[f"D_eff/D0.{letter}"] = share
            if not share:
                remarks.append(
                    f"τ.{letter} (tortuosity) cannot be determined: no pores connect "
                    f"the faces along {letter.upper()}."
                )
                continue
            values[f"τ.{letter}"] = float(phi / share)
            if found.spread > _TOLERANCE:
                remarks.append(
                    f"τ.{letter} has not converged: the fluxes through different "
                    f"planes differ by {100 * found.spread:.1f} %."
                )
            if _has_narrow_throats(along):
                remarks.append(
                    f"τ.{letter} may be inaccurate: every path through the pores along "
                    f"{letter.upper()} has a throat narrower than about {_NARROW} to "
                    f"{_NARROW + 2} voxels. Check it on a scan with smaller voxels."
                )
        if outside:
            remarks.append(
                "τ cannot be determined along "
                f"{' and '.join(outside)}: the sample does not reach both faces of "
                "the volume, so it is unknown whether its pores connect them. Crop "
                "the volume to the sample."
            )
        if not is_full:
            remarks.append(_outside(phases))
    if not phases.flat:
        remarks += yield from _estimate_steps(phases, totals, values, outside)
    return Findings(values, remarks)


def _estimate_steps(
    phases: Phases,
    totals: SweepTotals,
    values: dict[str, float | None],
    outside: Sequence[str],
) -> Generator[Step, None, list[str]]:
    """Add the estimate of the permeability to `values`; return remarks on it."""
    changes = yield from specific_surface_steps(phases)
    surface = (changes.extrapolated or 0.0) * phases.edge
    porosity = totals.pore_voxels / totals.sample_voxels
    k, remarks = _permeability(porosity, surface, values, outside)
    values["k(estimate)"] = k
    return [*remarks, *(changes.unreliable_remark("k(estimate)") if k else ())]


def _box(phases: Phases) -> tuple[slice, slice, slice]:
    """Return the box in which diffusion is solved.

    If the sample is a box, such as a part of the volume chosen by a mask, this box is
    returned, and otherwise the whole volume.
    """
    if math.prod(phases.sample_shape) == phases.sample_voxels:
        return phases.sample_box
    z, y, x = (slice(0, n) for n in phases.shape)
    return z, y, x


def _reaches_faces(phases: Phases, axis: int) -> bool:
    """Whether the sample covers at least half its mean cross-section on both faces."""
    if phases.sample is None:
        return True
    n = phases.shape[axis]
    enough = phases.sample_voxels / n / 2
    for plane in (slice(0, 1), slice(n - 1, n)):
        box = [slice(None)] * 3
        box[axis] = plane
        if np.count_nonzero(phases.sample[box[0], box[1], box[2]]) < enough:
            return False
    return True


def _outside(phases: Phases) -> str:
    """Remark on voxels outside the sample."""
    if phases.sample_from == "none":
        share = 1 - phases.sample_voxels / math.prod(phases.shape)
        return (
            f"{rough_percent(share)} of the voxels are NaN or infinite: nothing "
            "diffuses through them. If they are not outside the sample, correct them "
            "before measuring τ."
        )
    return (
        "τ assumes that the sample fills the volume, but the sample mask excludes a "
        "part of it. Crop the volume to the sample."
    )


def _permeability(
    porosity: float,
    surface: float,
    values: Mapping[str, float | None],
    outside: Sequence[str],
) -> tuple[float | None, list[str]]:
    """Estimate the permeability (Kozeny–Carman); remark on axes without connections.

    Parameters
    ----------
    outside : sequence of str
        Axes along which the sample does not reach both faces of the volume.
    """
    shares = {axis: values.get(f"D_eff/D0.{axis}") for axis in "zyx"}
    if outside and not any(shares.values()):
        return None, [
            "k(estimate) cannot be determined: the sample does not reach both faces of "
            f"the volume along {' and '.join(outside)}, so it is unknown whether its "
            "pores connect them. Crop the volume to the sample."
        ]
    if all(share == 0 for share in shares.values()):
        return 0.0, [
            "k(estimate) is 0: no pores connect opposite faces of the volume along any "
            "axis, so nothing can flow through it."
        ]
    if not surface:
        return None, ["k(estimate) cannot be determined: the pores have no surface."]
    remarks = []
    closed = [axis.upper() for axis, share in shares.items() if share == 0]
    if closed:
        remarks.append(
            "k(estimate) is the same for all directions, but the permeability along "
            f"{' and '.join(closed)} is 0, because no pores connect the faces."
        )
    if None in shares.values() and not outside:
        remarks.append(
            "k(estimate) assumes that the pores connect opposite faces of the volume, "
            "which was not checked."
        )
    return porosity**3 / (5 * surface**2), remarks


def _connecting(along: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the part of a phase that connects both faces along the first axis."""
    import cc3d

    labels = cc3d.connected_components(along.view(np.uint8), connectivity=6)
    both = np.intersect1d(labels[0], labels[-1])
    table = np.zeros(int(labels.max()) + 1, bool)
    table[both[both > 0]] = True
    connecting: npt.NDArray[np.bool_] = table[labels]
    return connecting


def _has_narrow_throats(along: npt.NDArray[np.bool_]) -> bool:
    """Whether no path through wide pores joins both faces along the first axis.

    The pores are opened with a cube: voxels outside all cubes of pore voxels with edges
    of `_NARROW` voxels are left out.
    """
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    wide = along.view(np.uint8)
    axes = [axis for axis in range(3) if along.shape[axis] > 1]
    for axis in axes:
        wide = minimum_filter1d(wide, _NARROW, axis, mode="nearest")
    for axis in axes:
        shift = _NARROW % 2 - 1  # the same cubes as before
        wide = maximum_filter1d(wide, _NARROW, axis, mode="nearest", origin=shift)
    return not _connecting(wide.view(np.bool_)).any()


def _diffusivity(
    phases: Phases, along: npt.NDArray[np.bool_], letter: str
) -> Generator[Step, None, diffusion.Solution]:
    """Solve for the relative diffusivity (effective ÷ free) along the first axis."""
    yield StageStarted(message=f"Solving for diffusion along {letter.upper()}")
    phase = _connecting(along)
    if not phase.any():
        return diffusion.Solution(0.0, 0.0)
    found = yield from diffusion.solution_steps(phase, _TOLERANCE, phases.check)
    n, n_y, n_x = phase.shape
    return replace(found, flux=found.flux * n / (n_y * n_x))
