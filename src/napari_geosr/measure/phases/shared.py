"""Results that several statistics of the phases need, measured once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.blocks import RawTable, SlabLabeller
from napari_geosr.measure.comparison.centrelines import pieces
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.local_thickness.distribution import ThicknessDistribution
from napari_geosr.measure.phases import Mask, MaskSource, Phases
from napari_geosr.measure.phases.changes import REACH, PhaseChanges
from napari_geosr.measure.phases.findings import LittleMemoryError
from napari_geosr.measure.slabs.part import provisional_labels
from napari_geosr.measure.slabs.thickness import block_thickness_steps

Which = Literal["solid", "pores"]
_WORDS = {"solid": "solid", "pores": "pores"}
T = TypeVar("T")
#: Bytes per sphere of the local thickness; all spheres are kept in memory.
_BYTES_PER_SPHERE = 8
#: Minimum number of voxels per sphere.
_VOXELS_PER_SPHERE = 8


def phase_thickness_steps(
    phases: Phases, which: Which
) -> Generator[Step, None, ThicknessDistribution]:
    """Compute the local thickness of a phase in the sample.

    Spheres have their centres in the sample, but may extend beyond it. Outside the
    sample mask, they extend as far as the phase does. They may also extend beyond the
    border of the volume and into voxels that were not measured, because the phase there
    is unknown.

    Raises
    ------
    LittleMemoryError
        If the spheres are too large for the available memory.
    """
    key = f"thickness of {which}"
    found = phases.results.get(key)
    if found is None:
        measured: MaskSource = getattr(phases, which)
        found = yield from within_memory_steps(
            phases,
            measured,
            lambda room: block_thickness_steps(
                phases.space(which),
                within=None if phases.sample is None else measured,
                check=phases.check,
                share=phases.share,
                message=f"Measuring the thickness of the {_WORDS[which]}",
                room=room,
            ),
        )
        phases.results[key] = found
    assert isinstance(found, ThicknessDistribution)
    return found


def within_memory_steps(
    phases: Phases,
    measured: MaskSource,
    steps_of: Callable[[int], Generator[Step, None, T]],
) -> Generator[Step, None, T]:
    """Run steps that find the spheres of a phase, with the memory that is available.

    Parameters
    ----------
    measured : MaskSource
        Voxels in which spheres have their centres.
    steps_of : callable
        Returns the steps, given the available memory for a block in each process.

    Raises
    ------
    LittleMemoryError
        If the memory does not suffice.
    """
    spheres = _BYTES_PER_SPHERE * phases.count(measured) // _VOXELS_PER_SPHERE
    room = (phases.available_bytes - spheres) // phases.processes
    try:
        return (yield from steps_of(room))
    except LittleMemoryError as error:
        needed = spheres + phases.processes * error.needed
        raise LittleMemoryError(needed) from error


def specific_surface_steps(phases: Phases) -> Generator[Step, None, PhaseChanges]:
    """Count the phase changes on the voxels of the scan."""
    found = phases.results.get("phase changes")
    if found is None and phases.original is not None:
        found = phases.original.changes
    elif found is None:
        found = PhaseChanges((phases.edge,) * 3, phases.flat)
        slabs, n_z = phases.slabs, phases.shape[0]
        yield StageStarted(0, len(slabs), message="Measuring the surface")
        for i, slab in enumerate(slabs):
            wide = slice(slab.start, min(n_z, slab.stop + REACH))
            pores = phases.planes(phases.pores, wide)
            found.add(pores, phases.sample_planes(wide), slab.stop - slab.start)
            yield BlockDone(i + 1, len(slabs))
    phases.results["phase changes"] = found
    assert isinstance(found, PhaseChanges)
    return found


def label_solid_steps(phases: Phases) -> Generator[Step, None, RawTable]:
    """Label the solid's 26-connected components (in an image, 8-connected)."""
    found = phases.results.get("solid components")
    if found is None:
        labeller = SlabLabeller(phases.shape, (1.0, 1.0, 1.0), 26, flat=phases.flat)
        slabs = phases.slabs
        yield StageStarted(0, len(slabs), message="Labelling the solid")
        offsets = []
        for i, slab in enumerate(slabs):
            solid = phases.planes(phases.solid, slab)
            offsets.append(labeller.add(solid, phases.sample_planes(slab))[1])
            yield BlockDone(i + 1, len(slabs))
        found = labeller.finish()
        phases.results["solid components"] = found
        phases.results["solid offsets"] = offsets
    assert isinstance(found, RawTable)
    return found


def counted_pores_steps(phases: Phases) -> Generator[Step, None, MaskSource]:
    """Find the pores of the sample that reach the minimum size.

    Parameters
    ----------
    phases : Phases
        The grid is that of the scan, because the minimum size is given in its voxels.
    """
    if phases.min_voxels == 1:
        return phases.pores
    labeller = SlabLabeller(
        *(phases.shape, (1.0, 1.0, 1.0), phases.connectivity),
        flat=phases.flat,
        min_voxels=phases.min_voxels,
    )
    slabs = phases.slabs
    offsets = []
    yield StageStarted(0, 2 * len(slabs), message="Finding the counted pores")
    for i, slab in enumerate(slabs):
        pores = phases.planes(phases.pores, slab)
        offsets.append(labeller.add(pores, phases.sample_planes(slab))[1])
        yield BlockDone(i + 1, 2 * len(slabs))
    lookup = labeller.finish().lookup
    counted = PackedMask(phases.shape)
    for i, (slab, offset) in enumerate(zip(slabs, offsets, strict=True)):
        pores = phases.planes(phases.pores, slab)
        labels, _ = provisional_labels(pores, phases.connectivity)
        table = np.concatenate([[False], lookup[offset + 1 :] > 0])
        counted.write(slab.start, table[labels])
        yield BlockDone(len(slabs) + i + 1, 2 * len(slabs))
    return counted


@dataclass(frozen=True)
class PurifiedSolid:
    """Topology of the largest component of the solid with its cavities filled.

    Attributes
    ----------
    euler_number : int
    shared_euler : float
        Part of the Euler number that lies on the border of the sample and counts
        towards neighbouring blocks when the values of blocks are added.
    particles, cavities : int
        Number of other components of the solid, and of enclosed cavities.
    """

    euler_number: int
    shared_euler: float
    particles: int
    cavities: int


def purified_steps(phases: Phases) -> Generator[Step, None, PurifiedSolid]:
    """Compute the Euler number of the solid without loose particles and cavities.

    Filling a cavity reduces the Euler number by that of the cavity; filling a hole in
    an image increases it by that of the hole.
    """
    raw = yield from label_solid_steps(phases)
    if not len(raw.rows):
        return PurifiedSolid(0, 0, 0, 0)
    largest = int(np.argmax(raw.rows[:, column.COUNT]))
    offsets = phases.results["solid offsets"]
    assert isinstance(offsets, list)
    slabs, sample = phases.slabs, phases.sample
    labeller = SlabLabeller(phases.shape, (1.0, 1.0, 1.0), 6, flat=phases.flat)
    faces: list[list[Mask]] = [[], [], [], []]
    first = last = np.zeros((0, 0), bool)
    filled = None if sample is None else PackedMask(phases.shape)
    other_offsets = []
    yield StageStarted(0, len(slabs), message="Removing particles and cavities")
    for i, (slab, offset) in enumerate(zip(slabs, offsets, strict=True)):
        labels, _ = provisional_labels(phases.planes(phases.solid, slab), 26)
        table = np.concatenate([[0], raw.lookup[offset + 1 :]])
        body = table[labels] == largest + 1
        inside = phases.sample_planes(slab)
        rest = ~body if inside is None else inside & ~body
        other_offsets.append(labeller.add(rest, inside)[1])
        if filled is not None:
            filled.write(slab.start, body)
        first, last = body[0] if i == 0 else first, body[-1]
        for face, part in zip(
            faces,
            (body[:, 0], body[:, -1], body[:, :, 0], body[:, :, -1]),
            strict=True,
        ):
            face.append(part.copy())
        yield BlockDone(i + 1, len(slabs))
    around = labeller.finish()
    enclosed = ~around.rows[:, column.TOUCHES].astype(bool)
    more = -around.euler_number if not phases.flat else around.euler_number
    own = int(raw.euler_number[largest]) + int(more[enclosed].sum())
    if filled is None:
        shared = shared_euler(first, last, *(np.concatenate(face) for face in faces))
    else:
        _fill(phases, filled, around, other_offsets)
        shared = own - euler_inside(phases, filled)
    return PurifiedSolid(own, shared, len(raw.rows) - 1, int(enclosed.sum()))


def _fill(
    phases: Phases, body: PackedMask, around: RawTable, offsets: list[int]
) -> None:
    """Add the enclosed cavities of the sample to a body."""
    assert phases.sample is not None
    enclosed = np.concatenate([[False], around.rows[:, column.TOUCHES] == 0])
    for slab, offset in zip(phases.slabs, offsets, strict=True):
        planes = phases.planes(body, slab)
        labels, _ = provisional_labels(phases.planes(phases.sample, slab) & ~planes, 6)
        table = np.concatenate([[0], around.lookup[offset + 1 :]])
        body.write(slab.start, planes | enclosed[table[labels]])


def _euler_of_cells() -> npt.NDArray[np.float64]:
    """Return the Euler number that each of the 256 groups of 2³ voxels adds.

    Voxels are closed cubes, so they also touch along edges and at corners. Around the
    centre of a group, halves of edges, quarters of faces and eighths of cubes count.
    """
    values = np.zeros(256)
    corners = list(itertools.product((0, 1), repeat=3))
    for code in range(256):
        cubes = [c for bit, c in enumerate(corners) if code >> bit & 1]
        # Cubes, faces and edges that meet at the centre: along each axis, the side on
        # which they extend, or None.
        parts = {
            tuple(
                side if extends else None for side, extends in zip(c, axes, strict=True)
            )
            for c in cubes
            for axes in corners
        }
        values[code] = sum((-0.5) ** sum(s is not None for s in part) for part in parts)
    return values


def euler_inside(phases: Phases, mask: MaskSource) -> float:
    """Return the Euler number of a mask (26 neighbours), without the sample's border.

    Groups of 2³ voxels count if all their voxels lie in the sample. In a volume without
    a sample mask, this is the Euler number minus `shared_euler`.
    """
    values, counts = _euler_of_cells(), np.zeros(256, np.int64)
    n = phases.shape[0]
    for slab in phases.slabs:
        wide = slice(slab.start, min(n, slab.stop + 1))
        planes, sample = phases.planes(mask, wide), phases.sample_planes(wide)
        shape = [k - 1 for k in planes.shape]
        codes = np.zeros(shape, np.uint8)
        inside = np.ones(shape, bool)
        for bit, corner in enumerate(itertools.product((0, 1), repeat=3)):
            z, y, x = (slice(c, c + k) for c, k in zip(corner, shape, strict=True))
            codes |= planes[z, y, x].view(np.uint8) << np.uint8(bit)
            if sample is not None:
                inside &= sample[z, y, x]
        counts += np.bincount(codes[inside], minlength=256)
    return float(values @ counts)


def shared_euler(z0: Mask, z1: Mask, y0: Mask, y1: Mask, x0: Mask, x1: Mask) -> float:
    """Return the part of a phase's Euler number that neighbouring blocks count as well.

    A face belongs to two blocks, an edge to four, and a corner to eight. Therefore, the
    sum of ``χ − shared`` over blocks that share one plane of voxels is the Euler number
    of the whole volume.

    Parameters
    ----------
    z0, z1, y0, y1, x0, x1 : ndarray of bool
        First and last plane along Z (Y, X), along Y (Z, X) and along X (Z, Y).
    """
    from skimage.measure import euler_number

    faces = sum(int(euler_number(f, connectivity=2)) for f in (z0, z1, y0, y1, x0, x1))
    lines = [
        line
        for face in (z0, z1)
        for line in (face[0], face[-1], face[:, 0], face[:, -1])
    ]
    lines += [line for face in (y0, y1) for line in (face[:, 0], face[:, -1])]
    edges = sum(map(pieces, lines))
    corners = sum(int(f[i, j]) for f in (z0, z1) for i in (0, -1) for j in (0, -1))
    return faces / 2 - edges / 4 + corners / 8
