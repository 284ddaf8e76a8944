"""Results that several statistics of the phases need, measured once."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.measure.blocks import RawTable, SlabLabeller
from napari_geosr.measure.comparison.centrelines import pieces
from napari_geosr.measure.kernels import columns as column
from napari_geosr.measure.phases import Mask, Phases
from napari_geosr.measure.slabs.part import provisional_labels
from napari_geosr.measure.slabs.thickness import block_thickness_steps
from napari_geosr.measure.thickness import ThicknessDistribution

Which = Literal["solid", "pores"]
_WORDS = {"solid": "solid", "pores": "pores"}


def phase_thickness_steps(
    phases: Phases, which: Which
) -> Generator[Step, None, ThicknessDistribution]:
    """Compute the local thickness of a phase; spheres may extend beyond the volume."""
    key = f"thickness of {which}"
    found = phases.results.get(key)
    if found is None:
        found = yield from block_thickness_steps(
            getattr(phases, which),
            check=phases.check,
            share=phases.share,
            message=f"Measuring the thickness of the {_WORDS[which]}",
        )
        phases.results[key] = found
    assert isinstance(found, ThicknessDistribution)
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


@dataclass(frozen=True)
class PurifiedSolid:
    """Topology of the largest component of the solid with its cavities filled.

    Attributes
    ----------
    euler_number : int
    shared_euler : float
        Part of the Euler number that lies on the border and counts towards neighbouring
        blocks when the values of blocks are added.
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
    slabs = phases.slabs
    labeller = SlabLabeller(phases.shape, (1.0, 1.0, 1.0), 6, flat=phases.flat)
    faces: list[list[Mask]] = [[], [], [], []]
    first = last = np.zeros((0, 0), bool)
    yield StageStarted(0, len(slabs), message="Removing particles and cavities")
    for i, (slab, offset) in enumerate(zip(slabs, offsets, strict=True)):
        labels, _ = provisional_labels(phases.planes(phases.solid, slab), 26)
        table = np.concatenate([[0], raw.lookup[offset + 1 :]])
        body = table[labels] == largest + 1
        labeller.add(~body, None)
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
    filled = -around.euler_number if not phases.flat else around.euler_number
    own = int(raw.euler_number[largest]) + int(filled[enclosed].sum())
    return PurifiedSolid(
        own,
        shared_euler(first, last, *(np.concatenate(face) for face in faces)),
        len(raw.rows) - 1,
        int(enclosed.sum()),
    )


def shared_euler(z0: Mask, z1: Mask, y0: Mask, y1: Mask, x0: Mask, x1: Mask) -> float:
    """Return the part of a phase's Euler number that neighbouring blocks count as well.

    A face belongs to two blocks, an edge to four, and a corner to eight. Therefore, the
    sum of ``χ − shared`` over blocks that share one plane of voxels is the Euler number
    of the whole.

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
