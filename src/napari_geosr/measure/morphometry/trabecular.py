"""Quantities of trabecular bone under ASBMR names: BV/TV, Tb.N, Conn.D, BS/BV."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator

import numpy as np

from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.local_thickness import spheres as thickness
from napari_geosr.measure.local_thickness.blocks import (
    BYTES_PER_VOXEL,
    SMALLEST_EDGE,
    LargeMarginError,
    cut_blocks,
)
from napari_geosr.measure.local_thickness.distribution import (
    STEP,
    ThicknessDistribution,
)
from napari_geosr.measure.local_thickness.spheres import (
    SphereList,
    halvings_of,
    kernels,
    paint_mask,
    with_margin,
)
from napari_geosr.measure.number_text import number_text, rough_percent
from napari_geosr.measure.phases import (
    Box,
    Complement,
    Mask,
    MaskSource,
    Phases,
    Share,
)
from napari_geosr.measure.phases.findings import (
    Findings,
    LittleMemoryError,
    Quantity,
    memory_remark,
)
from napari_geosr.measure.phases.shared import (
    PurifiedSolid,
    label_solid_steps,
    phase_thickness_steps,
    purified_steps,
    within_memory_steps,
)
from napari_geosr.measure.slabs.thickness import (
    block_sphere_steps,
    block_thickness_steps,
    fitting_steps,
)
from napari_geosr.measure.sums import SweepTotals

TITLE = "Trabecular bone"
ABOUT = "BV/TV, Tb.N, Conn.D and BS/BV of the solid, under their standard names."
CONVENTION = (
    "The solid is taken to be bone. BV/TV is its share of the sample. BS is the "
    "surface area of the bone, from Crofton's formula in 13 directions, excluding "
    "faces on the border. Tb.N is 1 ÷ the mean distance between the mid-axes, measured "
    "as the local thickness of the sample without the mid-axes (Hildebrand et al. "
    "1999). The mid-axes are the voxels of the medial axis at which the largest sphere "
    "is at least 80 % as wide as the local thickness. Between closed pores, they are "
    "little more than the centres of the largest spheres. Tb.N(Th+Sp) is 1 ÷ (Tb.Th + "
    "Tb.Sp). Conn is 1 − the Euler number of the largest component of the bone (26 "
    "neighbours) with its enclosed cavities filled (purified, Odgaard & Gundersen "
    "1993). The Euler number is corrected at the border of the sample, so that the "
    "values of blocks that share one plane of voxels add up: it is the sum over all "
    "groups of 2³ voxels that lie completely in the sample. In a volume without a "
    "sample mask, half of the Euler number of each face and an eighth of that of each "
    "corner are subtracted, and a quarter of that of each edge is added. Conn.D is "
    "Conn ÷ TV."
)
SOURCES = (
    "Bouxsein ML et al. Guidelines for assessment of bone microstructure in rodents "
    "using micro-computed tomography. J Bone Miner Res 25:1468-1486 (2010), "
    "definitions of the trabecular quantities. doi:10.1002/jbmr.141",
    "Hildebrand T, Laib A, Müller R, Dequeker J, Rüegsegger P. Direct "
    "three-dimensional morphometric analysis of human cancellous bone. J Bone Miner "
    "Res 14:1167-1174 (1999), definition of Tb.N from the mid-axes. "
    "doi:10.1359/jbmr.1999.14.7.1167",
    "Odgaard A, Gundersen HJG. Quantification of connectivity in cancellous bone. "
    "Bone 14:173-182 (1993), definition of the connectivity, and its correction at "
    "the border. doi:10.1016/8756-3282(93)90245-6",
)
QUANTITIES = (
    Quantity(
        *("TV", "total volume of the sample", 3),
        flat_name="T.Ar",
        flat_title="total area of the sample",
        flat_power=2,
    ),
    Quantity(
        *("BV", "volume of the bone (solid)", 3),
        flat_name="B.Ar",
        flat_title="area of the bone (solid)",
        flat_power=2,
    ),
    Quantity(
        *("BV/TV", "bone volume fraction"),
        flat_name="B.Ar/T.Ar",
        flat_title="bone area fraction",
        text="percent",
    ),
    Quantity(
        *("BS", "bone surface", 2),
        flat_name="B.Pm",
        flat_title="bone perimeter",
        flat_power=1,
    ),
    Quantity(
        *("BS/BV", "bone surface ÷ bone volume", -1),
        flat_name="B.Pm/B.Ar",
        flat_title="bone perimeter ÷ bone area",
    ),
    Quantity(
        *("BS/TV", "bone surface ÷ total volume", -1),
        flat_name="B.Pm/T.Ar",
        flat_title="bone perimeter ÷ total area",
    ),
    Quantity("Tb.N", "trabecular number, from the mid-axes", -1, per_millimetre=True),
    Quantity("Tb.N(Th+Sp)", "trabecular number, 1 ÷ (Tb.Th + Tb.Sp)", -1, True),
    Quantity("Conn", "connectivity: loops of the purified bone", flat_name="-"),
    Quantity("Conn.D", "connectivity density", -3, True, flat_name="-"),
)
#: Connectivity below which the constant in its formula (1 − Euler number) exceeds 10 %
#: of its value.
_FEW_LOOPS = 10
#: Ratio of the two trabecular numbers, or its inverse, above which a remark is given;
#: for trabecular bone with a rough surface, the ratio is 1.44.
_DIFFER = 1.6
#: Distance from a sphere, in voxels, up to which voxels of the medial axis count as
#: covered by it: spheres do not reach into the corners of the steps of a surface.
_BEYOND = 1.0


def measure(phases: Phases, totals: SweepTotals) -> Generator[Step, None, Findings]:
    """Measure the trabecular quantities of the solid."""
    total: float = phases.sample_voxels
    if (original := phases.original) is not None:
        # The scan was interpolated to cubic voxels: use the sums over its original
        # voxels, which do not depend on the interpolation.
        total = original.sample * math.prod(original.voxel_size) / phases.edge**3
        bone = total * original.solid_share
        surface = original.surface / phases.edge ** (phases.ndim - 1)
    else:
        bone = phases.count(phases.solid)
        surface = float((yield from label_solid_steps(phases)).surface.sum())
    number, remarks = None, list[str]()
    if bone:
        number, remarks = yield from _number(phases)
    both, more = yield from _thickness_of_both(phases)
    remarks += [*more, *_disagreement(number, both)]
    values: dict[str, float | None] = {
        "TV": total,
        "BV": bone,
        "BV/TV": bone / total,
        "BS": surface,
        "BS/BV": surface / bone if bone else None,
        "BS/TV": surface / total,
        "Tb.N": number,
        "Tb.N(Th+Sp)": None if both is None else 1 / both,
    }
    if phases.flat:
        return Findings(values, remarks)
    pure = yield from purified_steps(phases)
    connectivity = 1 - (pure.euler_number - pure.shared_euler)
    if not bone:
        remarks.append("There is no bone (solid) in the sample.")
    elif bone == total:
        remarks.append("Conn.D cannot be determined: there are no pores in the sample.")
        return Findings({**values, "Conn": None, "Conn.D": None}, remarks)
    left_out = [
        f"{count} {one if count == 1 else several}"
        for count, one, several in (
            (pure.particles, "loose particle", "loose particles"),
            (pure.cavities, "enclosed cavity", "enclosed cavities"),
        )
        if count
    ]
    if bone and left_out:
        remarks.append(f"Conn.D leaves out {' and '.join(left_out)} of the solid.")
    if bone:
        remarks += _few_loops(connectivity, pure)
    values["Conn"] = connectivity if bone else None
    values["Conn.D"] = connectivity / total if bone else None
    return Findings(values, remarks)


def _disagreement(number: float | None, both: float | None) -> list[str]:
    """Remark on trabecular numbers that differ greatly; `both` is Tb.Th + Tb.Sp."""
    if number is None or both is None or 1 / _DIFFER <= number * both <= _DIFFER:
        return []
    return [
        f"Tb.N is {number * both:.2g} times Tb.N(Th+Sp). The two agree for plates and "
        "rods; for other structures, such as closed pores in a solid, and for rough "
        "surfaces, they differ. Always state which of them you report."
    ]


def _few_loops(connectivity: float, pure: PurifiedSolid) -> list[str]:
    """Remark on a connectivity that is mostly an effect of the border."""
    advice = "Conn.D needs a larger volume or smaller voxels."
    if connectivity <= 0:
        return [
            f"Connectivity is {number_text(connectivity)}: there are no closed loops, "
            f"or many are cut by the border. {advice}"
        ]
    # If the bone does not touch the border, the border has no effect.
    if not pure.shared_euler or connectivity >= _FEW_LOOPS:
        return []
    if connectivity == 1 and pure.euler_number == 1:
        return [
            "Connectivity is 1, which is the constant in its formula (1 − Euler "
            f"number): the bone has no closed loops. {advice}"
        ]
    if connectivity <= 1:
        return [
            f"Connectivity is {number_text(connectivity)}, no more than the constant "
            "in its formula (1 − Euler number): the volume shows no closed loops, or "
            f"many are cut by the border. {advice}"
        ]
    return [
        "The constant in the formula 1 − Euler number makes up "
        f"{rough_percent(1 / connectivity)} of the connectivity, so Conn.D is too "
        "high. A larger volume is needed."
    ]


def _thickness_of_both(
    phases: Phases,
) -> Generator[Step, None, tuple[float | None, list[str]]]:
    """Return Tb.Th + Tb.Sp, with remarks."""
    try:
        solid = yield from phase_thickness_steps(phases, "solid")
        pores = yield from phase_thickness_steps(phases, "pores")
    except LittleMemoryError as error:
        what, has_budget = "Tb.N(Th+Sp) was", phases.budget is not None
        return None, [memory_remark(what, error.needed, has_budget=has_budget)]
    if solid.mean is None or pores.mean is None:
        return None, ["Tb.N(Th+Sp) cannot be determined: there is only one phase."]
    return solid.mean + pores.mean, []


def _number(
    phases: Phases,
) -> Generator[Step, None, tuple[float | None, list[str]]]:
    """Compute Tb.N from the distance between mid-axes; return it with remarks."""
    axes = phases.results.get("mid-axes")
    if axes is None:
        try:
            axes = yield from _between_axes_steps(phases)
        except LittleMemoryError as error:
            what, has_budget = "Tb.N was", phases.budget is not None
            return None, [memory_remark(what, error.needed, has_budget=has_budget)]
        phases.results["mid-axes"] = axes
    assert isinstance(axes, ThicknessDistribution)
    if axes.mean is None:
        return None, [
            "Tb.N cannot be determined: no mid-axes were found, for example because "
            "there is a single pore, or because the solid is only one voxel thick."
        ]
    return 1 / axes.mean, []


def _between_axes_steps(
    phases: Phases,
) -> Generator[Step, None, ThicknessDistribution]:
    """Measure the distance between the mid-axes of the solid."""
    mask = PackedMask(phases.shape)

    def write(box: Box, marked: Mask) -> None:
        mask.write(box[0].start, marked)

    yield from within_memory_steps(
        phases,
        phases.known_solid,
        lambda room: mid_axis_steps(
            phases.space("solid"),
            write,
            known=phases.known_solid,
            share=phases.share,
            check=phases.check,
            room=room,
        ),
    )
    between = Complement(mask)
    within = phases.sample and Complement(mask, within=phases.sample)
    return (
        yield from within_memory_steps(
            phases,
            within or between,
            lambda room: block_thickness_steps(
                between,
                within=within,
                to_centres=True,
                check=phases.check,
                share=phases.share,
                message="Measuring the distance between mid-axes",
                room=room,
            ),
        )
    )


def mid_axis_steps(
    phase: MaskSource,
    write: Callable[[Box, Mask], None],
    *,
    known: MaskSource | None = None,
    edge: int | None = None,
    share: Share | None = None,
    check: Callable[[], None] = lambda: None,
    room: int | None = None,
) -> Generator[Step, None, None]:
    """Find the mid-axes of a phase, block by block.

    These are the voxels of the medial axis that are not covered by much larger spheres
    of the phase (`kernels.axes`).

    Parameters
    ----------
    write : callable
        Receives a block of whole planes and the mid-axes in it; blocks without the
        phase are skipped.
    known : MaskSource, optional
        Part of the phase in which the mid-axes are found; by default, all of it.
    edge : int, optional
        Edge length of the blocks in voxels.
    share : callable, optional
        Distributes blocks among several processes.
    room : int, optional
        Available memory for a block in each process, in bytes.

    Raises
    ------
    LittleMemoryError
        If even the smallest blocks do not fit.
    """
    n_z, n_y, n_x = phase.shape

    def steps_of(edge: int) -> Generator[Step, None, None]:
        n_voxels = math.prod(min(edge, n) for n in phase.shape)
        thick = max(1, n_voxels // max(1, n_y * n_x))
        margin = thickness.FIRST_MARGIN
        cores = [slice(z, min(z + thick, n_z)) for z in range(0, n_z, thick)]
        blocks = list(cut_blocks((n_z, n_y, n_x), edge))
        n_steps = len(blocks) + len(cores)
        yield StageStarted(0, n_steps, message="Finding the mid-axes")
        found, unbounded = yield from block_sphere_steps(
            phase,
            blocks,
            to_centres=True,
            within=known,
            share=share,
            check=check,
            n_steps=n_steps,
            room=room,
        )
        if unbounded:
            return
        for i, z in enumerate(cores):
            check()
            result = _marked_planes(phase, known, z, margin, found, check, room)
            if result is not None:
                marked, margin = result
                write((z, slice(0, n_y), slice(0, n_x)), marked)
            yield BlockDone(len(blocks) + i + 1, n_steps)

    yield from fitting_steps((n_z, n_y, n_x), edge, room, steps_of)


def _marked_planes(
    phase: MaskSource,
    known: MaskSource | None,
    planes: slice,
    margin: int,
    found: list[SphereList],
    check: Callable[[], None],
    room: int | None,
) -> tuple[Mask, int] | None:
    """Return the mid-axes in whole planes, and the margin that was needed.

    Returns None if there is no voxel of the phase.
    """
    n_y, n_x = phase.shape[1:]
    thick = planes.stop - planes.start
    parts = [(planes, slice(0, n_y), slice(0, n_x))]
    while True:
        whole = np.zeros((thick, n_y, n_x), bool) if len(parts) > 1 else None
        any_phase = False
        try:
            for part in parts:
                result = _marked(phase, known, part, margin, found, check, room)
                if result is None:
                    continue
                any_phase = True
                marked, margin = result
                if whole is None:
                    return marked, margin
                whole[:, part[1], part[2]] = marked
        except LargeMarginError as error:
            margin = error.margin
            parts = _smaller_parts(phase.shape, planes, margin, room)
            continue
        return (whole, margin) if whole is not None and any_phase else None


def _smaller_parts(
    shape: tuple[int, ...], planes: slice, margin: int, room: int | None
) -> list[Box]:
    """Divide planes into parts that fit into memory with their margin."""
    assert room is not None
    n_z, n_y, n_x = shape
    thick = planes.stop - planes.start
    deep = min(n_z, thick + 2 + 2 * margin)
    edge = max(n_y, n_x)
    while True:
        wide, long = (min(n, edge + 6 + 2 * margin) for n in (n_y, n_x))
        needed = BYTES_PER_VOXEL * deep * wide * long + thick * n_y * n_x
        if needed <= room:
            break
        if edge <= SMALLEST_EDGE:
            raise LittleMemoryError(needed)
        edge = max(SMALLEST_EDGE, 4 * edge // 5)
    return [(planes, *part[1:]) for part in cut_blocks((1, n_y, n_x), edge)]


def _marked(
    phase: MaskSource,
    known: MaskSource | None,
    core: Box,
    margin: int,
    found: list[SphereList],
    check: Callable[[], None],
    room: int | None,
) -> tuple[Mask, int] | None:
    """Return the mid-axes in a block, and the margin that was needed.

    Returns None if there is no voxel of the phase.
    """
    # Read one more voxel on each side, because a voxel may be marked by its neighbour.
    wide = tuple(
        slice(max(0, s.start - 1), min(n, s.stop + 1))
        for s, n in zip(core, phase.shape, strict=True)
    )
    block = with_margin(phase, (wide[0], wide[1], wide[2]), margin, check, room=room)
    if block is None:
        return None
    inner = block.phase
    if known is not None:
        z, y, x = (
            slice(int(a), int(a) + n)
            for a, n in zip(block.start, inner.shape, strict=True)
        )
        inner = np.ascontiguousarray(known[z, y, x]).view(np.uint8)
    marked = np.empty(inner.shape, np.uint8)
    kernels().axes.mark_axes(inner, block.squares, block.nearest, marked)
    kernels().axes.mark_peaks(inner, block.squares, marked)
    del inner
    block.to_surface(locate=False)
    own = tuple(
        slice(s.start - int(a), s.stop - int(a))
        for s, a in zip(core, block.start, strict=True)
    )
    mask = np.ascontiguousarray(marked[own])
    del marked
    at = np.array([s.start for s in core])
    halvings = halvings_of(found)
    diameters, _ = paint_mask(mask.view(np.bool_), at, found, halvings, _BEYOND)
    squares = np.ascontiguousarray(block.squares[own])
    kernels().axes.drop_covered(mask, squares, diameters, STEP * 2**halvings)
    return mask.view(np.bool_), block.margin
