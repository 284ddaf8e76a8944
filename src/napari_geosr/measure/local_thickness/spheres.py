"""Local thickness: at each point, the diameter of the largest sphere containing it.

Volumes are read in blocks, with as many voxels around each block as its spheres
require; the result does not depend on the blocks.

References
----------
.. [1] Hildebrand, Rüegsegger. A new method for the model-independent assessment of
   thickness in three-dimensional images. J. Microsc. 185, 67-75 (1997), definition of
   the local thickness.
   doi:10.1046/j.1365-2818.1997.1340694.x
.. [2] Dahl, Dahl. Fast local thickness. CVPR Workshops (2023).
   doi:10.1109/CVPRW59228.2023.00454
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step, run_to_end
from napari_geosr.measure.local_thickness.blocks import (
    BYTES_PER_VOXEL,
    LargeMarginError,
    cut_blocks,
    preferred_edge,
)
from napari_geosr.measure.local_thickness.distribution import (
    STEP,
    ThicknessDistribution,
)
from napari_geosr.measure.phases import Box, Mask, MaskSource

#: Default number of voxels of a block, without its margin.
BLOCK_VOXELS = 200**3
#: Number of planes of a block for which spheres are collected together.
_SLAB = 16
#: Initial width, in voxels, of the margin read around a block. The margin must exceed
#: the largest radius, and is widened until it does.
FIRST_MARGIN = 24


def kernels() -> Any:
    """Return the compiled loops, imported on first use."""
    from napari_geosr.measure import kernels
    from napari_geosr.measure.kernels import (  # noqa: F401
        axes,
        distances,
        facets,
        spheres,
        surface,
        walls,
    )

    return kernels


def thickness_steps(
    phase: MaskSource,
    *,
    edge: int | None = None,
    target: npt.NDArray[np.uint16] | None = None,
    to_centres: bool = False,
    within: MaskSource | None = None,
    check: Callable[[], None] = lambda: None,
    message: str = "Measuring the thickness",
    room: int | None = None,
) -> Generator[Step, None, ThicknessDistribution]:
    """Measure the local thickness of a phase [1]_, block by block.

    The space outside the volume is unknown, so spheres may extend beyond its border.

    Spheres are collected first, block by block according to their centres, and then
    painted in descending order [2]_. Spheres within other spheres are left out. Each
    sphere is moved by up to one voxel to where it is largest. Its radius is the mean
    distance from the surface at the points of contact; the surface is located between
    voxels (`kernels.surface`). Diameters are rounded to 1/32 voxel, or 1/16, 1/8, ...
    if the largest exceeds 2047, 4095, ... voxels.

    Parameters
    ----------
    phase : MaskSource
        Mask of shape (Z, Y, X), indexed by three slices: an array, a lazy array, or a
        `PackedMask`. Voxels must be cubic.
    edge : int, optional
        Edge length of the blocks; by default, they have about `BLOCK_VOXELS` voxels.
        Memory use is about 14 bytes per voxel of a block including its margin (slightly
        more than the largest radius), and 8 bytes per sphere (one per 8 to 15 voxels of
        the phase).
    target : writable array of uint16 of the same shape, optional
        Filled with diameters in units of `ThicknessDistribution.step`; 0 outside the
        phase, 65535 where the phase has no surface.
    to_centres : bool
        Measure distances to the centres of the outside voxels, which form lines or
        sheets, instead of to a surface between voxels.
    within : MaskSource, optional
        Part of the phase that is measured: spheres have their centres in it, and
        voxels outside it are not counted. By default, the whole phase.
    check : callable
        Called for every block; may raise `Cancelled`.
    room : int, optional
        Available memory for a block in bytes; by default, it is not limited.

    Yields
    ------
    Step
        `StageStarted` and `BlockDone`.

    Returns
    -------
    ThicknessDistribution

    Raises
    ------
    LargeMarginError
        If a block with its margin does not fit into `room`.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_geosr.core.steps import run_to_end
    >>> plate = np.zeros((30, 20, 20), bool)
    >>> plate[10:20] = True
    >>> round(run_to_end(thickness_steps(plate)).mean)
    10
    """
    z, y, x = phase.shape
    edge = edge or preferred_edge((z, y, x), BLOCK_VOXELS)
    blocks = list(cut_blocks((z, y, x), edge))
    counts = np.zeros(2**16, np.int64)
    yield StageStarted(0, 2 * len(blocks), message=message)
    found, unbounded = yield from sphere_steps(
        phase,
        blocks,
        to_centres=to_centres,
        within=within,
        check=check,
        n_steps=2 * len(blocks),
        room=room,
    )
    if unbounded:
        if target is not None:
            for core in blocks:
                if count_within(phase, core, within):
                    target[core] = 2**16 - 1
        return ThicknessDistribution(counts[:1], unbounded)
    halvings = halvings_of(found)
    for i, core in enumerate(blocks):
        check()
        diameters = painted(phase if within is None else within, core, found, halvings)
        if target is not None:
            target[core] = diameters
        kernels().spheres.count(diameters, counts)
        yield BlockDone(len(blocks) + i + 1, 2 * len(blocks))
    return ThicknessDistribution.of(counts, STEP * 2**halvings)


def sphere_steps(
    phase: MaskSource,
    blocks: Sequence[Box],
    *,
    to_centres: bool,
    within: MaskSource | None,
    check: Callable[[], None],
    n_steps: int,
    room: int | None = None,
) -> Generator[Step, None, tuple[list[SphereList], int]]:
    """Collect the spheres of a phase, block by block.

    Yields `BlockDone`, out of `n_steps`.

    Returns
    -------
    list of SphereList
        One for each block; empty if the phase fills the whole volume.
    int
        Number of voxels of a phase that fills the whole volume, else 0.
    """
    margin, unbounded = FIRST_MARGIN, 0
    found: list[SphereList] = []
    for i, core in enumerate(blocks):
        check()
        block = with_margin(phase, core, margin, check, within, room)
        if block is None:
            found.append(SphereList.none())
        elif block.phase.all():  # then the phase fills the whole volume
            unbounded += count_within(phase, core, within)
        else:
            margin = block.margin
            found.append(collected(block, locate=not to_centres))
        del block
        yield BlockDone(i + 1, n_steps)
    return ([] if unbounded else found), unbounded


def count_within(phase: MaskSource, core: Box, within: MaskSource | None) -> int:
    """Return the number of measured voxels of a phase in a block."""
    return int(np.count_nonzero((phase if within is None else within)[core]))


@dataclass(frozen=True, eq=False)
class PhaseBlock:
    """A block of a phase with its surroundings, and distances to the outside.

    Attributes
    ----------
    phase : ndarray of uint8
    squares, nearest : ndarray of int32
        Squared distance to the nearest voxel outside, and that voxel's flat index.
    place : ndarray of shape (3, 2), int64
        Limits of the block along each axis, without its surroundings.
    start : ndarray of 3 int64
        Position of the first voxel, including surroundings, in the volume.
    margin : int
        Number of voxels read around the block.
    """

    phase: npt.NDArray[np.uint8]
    squares: npt.NDArray[np.int32]
    nearest: npt.NDArray[np.int32]
    place: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    margin: int

    @property
    def inside(self) -> Box:
        """Slices that select the block itself, without its surroundings."""
        z, y, x = (slice(int(a), int(b)) for a, b in self.place)
        return z, y, x

    def to_surface(self, *, locate: bool) -> None:
        """Replace squared distances with distances to the surface, in place.

        Distances are in units of 1 / `kernels.surface.STEPS` voxel. If `locate`, the
        surface is located between voxels, else at the centres of outside voxels.
        """
        surface = kernels().surface
        if locate:
            surface.to_patterns(self.phase)
            surface.locate(self.phase, self.squares)
        surface.to_surface(self.squares, self.nearest)


def with_margin(
    phase: MaskSource,
    core: Box,
    margin: int,
    check: Callable[[], None],
    within: MaskSource | None = None,
    room: int | None = None,
) -> PhaseBlock | None:
    """Read a block with the surroundings that its spheres depend on.

    Distances are 0 outside `within`, so that no sphere has its centre there. Returns
    None if the block contains no voxel of the measured part of the phase. Raises
    `LargeMarginError` if the block does not fit into `room` bytes.
    """
    spheres = kernels().spheres

    shape = phase.shape
    if not count_within(phase, core, within):
        return None
    while True:
        box = [
            slice(max(0, s.start - margin), min(n, s.stop + margin))
            for s, n in zip(core, shape, strict=True)
        ]
        n_read = math.prod(b.stop - b.start for b in box)
        if room is not None and BYTES_PER_VOXEL * n_read > room:
            raise LargeMarginError(margin)
        inner = np.array(
            [[b.start > 0, b.stop < n] for b, n in zip(box, shape, strict=True)]
        )
        read = np.asarray(phase[box[0], box[1], box[2]], bool)
        block = read.astype(np.uint8)  # a copy, which is changed later
        del read
        squares = np.empty(block.shape, np.int32)
        nearest = np.empty(block.shape, np.int32)
        kernels().distances.squared_distances(block, squares, nearest)
        if within is not None:
            squares[~np.asarray(within[box[0], box[1], box[2]], bool)] = 0
        place = np.array(
            [
                [s.start - b.start, s.stop - b.start]
                for s, b in zip(core, box, strict=True)
            ]
        )
        unknown = 0.0
        if inner.any():
            unknown = spheres.largest_unknown(squares, place, inner)
        if not unknown:
            start = np.array([b.start for b in box])
            return PhaseBlock(block, squares, nearest, place, start, margin)
        check()
        del block, squares, nearest  # free their memory before larger ones are made
        wide = math.ceil(unknown) + spheres.REACH + 5
        margin = max(margin + 4, min(wide, 2 * margin))


@dataclass(frozen=True, eq=False)
class SphereList:
    """Spheres of a block.

    Attributes
    ----------
    centres : ndarray of shape (n, 3), int16 or int32
        Positions in the volume, with `kernels.spheres.PLACES` steps per voxel. 16 bits
        are used for volumes of up to 2000 voxels along each axis.
    diameters : ndarray of shape (n,), uint16 or int32
        In units of `distribution.STEP`; 16 bits are used for up to 2047 voxels.
    box : ndarray of shape (2, 3), float
        First and last position that any sphere reaches, in voxels.
    """

    centres: npt.NDArray[np.signedinteger[Any]]
    diameters: npt.NDArray[np.integer[Any]]
    box: npt.NDArray[np.float64]

    @classmethod
    def none(cls) -> SphereList:
        """Return an empty list."""
        return cls(np.zeros((0, 3), np.int32), np.zeros(0, np.uint16), np.zeros((2, 3)))

    @classmethod
    def of(
        cls,
        centres: npt.NDArray[np.signedinteger[Any]],
        diameters: npt.NDArray[np.integer[Any]],
    ) -> SphereList:
        """Collect spheres and find the box that they reach."""
        spheres = kernels().spheres

        if not len(diameters):
            return cls.none()
        reach = spheres.painted_radius(int(diameters.max()))
        ends = np.stack([centres.min(0), centres.max(0)]) / spheres.PLACES
        if centres.max() < 2**15 and centres.min() >= -(2**15):
            centres = centres.astype(np.int16)
        if diameters.max() < 2**16:
            diameters = diameters.astype(np.uint16)
        return cls(centres, diameters, ends + np.array([[-reach], [reach]]))

    def within(
        self, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]
    ) -> SphereList:
        """Return the spheres that reach a box."""
        spheres = kernels().spheres

        if (
            not len(self.diameters)
            or (self.box[1] < first).any()
            or (self.box[0] > last).any()
        ):
            return self.none()
        reach = spheres.painted_radius(int(self.diameters.max()))
        lower = np.floor((first - reach) * spheres.PLACES).astype(np.int64)
        upper = np.ceil((last + reach) * spheres.PLACES).astype(np.int64)
        near = np.ones(len(self.diameters), bool)
        for places, low, high in zip(self.centres.T, lower, upper, strict=True):
            near &= (places >= low) & (places <= high)
        return SphereList(self.centres[near], self.diameters[near], self.box)


def collected(block: PhaseBlock, *, locate: bool) -> SphereList:
    """Return the spheres with centres in a block."""
    spheres = kernels().spheres

    squares, nearest = block.squares, block.nearest
    block.to_surface(locate=locate)
    (first, last), (y0, y1), (x0, x1) = block.place
    # Slabs end between two cells of 4³ voxels and have at most 8 spheres per cell.
    slabs = range(-((first + block.start[0]) % _SLAB) + first, last, _SLAB)
    n_room = (_SLAB // 4) * (int(y1 - y0) // 4 + 2) * (int(x1 - x0) // 4 + 2) * 8
    centres, diameters = np.empty((n_room, 3), np.int32), np.empty(n_room, np.int32)
    reach = int((block.start + block.phase.shape).max()) * spheres.PLACES
    kind = np.int16 if reach < 2**15 else np.int32
    parts = []
    for z in slabs:
        ends = np.array(
            [[max(z, first), min(z + _SLAB, last)], [y0, y1], [x0, x1]], np.int64
        )
        n = spheres.collect(
            squares, nearest, ends, block.start, locate, centres, diameters
        )
        parts.append((centres[:n].astype(kind), diameters[:n].copy()))
    return SphereList.of(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def halvings_of(found: Iterable[SphereList]) -> int:
    """Return how many halvings of the steps per voxel make diameters fit in 16 bits."""
    largest = max((int(part.diameters.max(initial=0)) for part in found), default=0)
    halvings = 0
    while (largest + (1 << halvings >> 1)) >> halvings > kernels().spheres.MOST:
        halvings += 1
    return halvings


def painted(
    phase: MaskSource, core: Box, found: list[SphereList], halvings: int
) -> npt.NDArray[np.uint16]:
    """Paint the spheres in a block, and return the diameter at each voxel."""
    spheres = kernels().spheres

    box = [
        slice(max(0, s.start - spheres.FILLED), min(n, s.stop + spheres.FILLED))
        for s, n in zip(core, phase.shape, strict=True)
    ]
    mask = np.ascontiguousarray(phase[box[0], box[1], box[2]], bool)
    start = np.array([s.start for s in box])
    result, unpainted = paint_mask(mask, start, found, halvings)
    spheres.fill(unpainted, halvings, result)
    z, y, x = (
        slice(s.start - b.start, s.stop - b.start)
        for s, b in zip(core, box, strict=True)
    )
    return result[z, y, x]


def paint_mask(
    mask: Mask,
    start: npt.NDArray[np.int64],
    found: Iterable[SphereList],
    halvings: int,
    extra: float = 0.0,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint64]]:
    """Find the diameter of the largest sphere at each voxel of a mask.

    Parameters
    ----------
    start : ndarray of 3 int
        Position of the first voxel of the mask in the volume.
    halvings : int
        From `halvings_of` all spheres of the volume.
    extra : float
        Added to the radius of each sphere, in voxels, but not to its diameter.

    Returns
    -------
    diameters : ndarray of uint16
        In units of `STEP` × 2^`halvings`; 0 outside the mask and all spheres.
    unpainted : ndarray of shape (Z, Y, (X + 63) // 64), uint64
        Voxels of the mask outside all spheres, one bit each.
    """
    spheres = kernels().spheres
    result = np.zeros(mask.shape, np.uint16)
    unpainted = np.zeros((*mask.shape[:2], (mask.shape[2] + 63) // 64), np.uint64)
    if not mask.any():
        return result, unpainted
    reach = math.ceil(extra)
    near = [part.within(start - reach, start + mask.shape + reach) for part in found]
    centres = np.concatenate([part.centres for part in near]).astype(np.int32)
    diameters = np.concatenate([part.diameters for part in near])
    largest = diameters.max(initial=0)
    order = np.argsort(largest - diameters, kind="stable")
    spheres.paint(
        *(mask, order, centres, diameters, start, extra, halvings),
        *(unpainted, result),
    )
    return result, unpainted


def local_thickness(mask: Mask) -> npt.NDArray[np.float32]:
    """Return the thickness of a phase at each of its voxels [1]_.

    Parameters
    ----------
    mask : ndarray of bool, ([Z,] Y, X)
        The phase; the space outside the image counts as part of it.

    Returns
    -------
    ndarray of float32, same shape
        Thickness in voxels (assumed cubic), accurate to about half a voxel; 0 outside
        the phase, infinite if the phase fills the whole image. Its mean is Tb.Th for
        the solid and Tb.Sp for the pores.
    """
    stack = mask if mask.ndim == 3 else mask[None]
    target = np.zeros(stack.shape, np.uint16)
    found = run_to_end(thickness_steps(stack, target=target))
    thickness = target.reshape(mask.shape).astype(np.float32)
    thickness *= np.float32(found.step)
    if found.unbounded_voxels:
        thickness[mask] = np.inf
    return thickness
