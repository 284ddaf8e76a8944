"""Distributes the blocks of a thickness measurement among several processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import BlockDone, ShouldStop, StageStarted, Step
from napari_geosr.measure.local_thickness import spheres as thickness
from napari_geosr.measure.local_thickness.blocks import (
    BYTES_PER_VOXEL,
    LargeMarginError,
    block_edge,
    cut_blocks,
    preferred_edge,
)
from napari_geosr.measure.local_thickness.distribution import (
    STEP,
    ThicknessDistribution,
)
from napari_geosr.measure.local_thickness.spheres import (
    SphereList,
    collected,
    painted,
    with_margin,
)
from napari_geosr.measure.phases import Box, Mask, MaskSource, Share

T = TypeVar("T")


class TooSmallError(Exception):
    """The excerpt of a mask is smaller than a block needs.

    Parameters
    ----------
    box : tuple of 3 slice
        The box that the block needs.
    """

    def __init__(self, box: Box) -> None:
        super().__init__("The excerpt is too small.")
        self.box = box


@dataclass(frozen=True, eq=False)
class Excerpt:
    """A box of a mask, stored with one bit per voxel.

    Attributes
    ----------
    shape : tuple of 3 int
        Shape of the whole mask.
    box : tuple of 3 slice
    bits : ndarray of uint8
    """

    shape: tuple[int, ...]
    box: Box
    bits: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, mask: MaskSource, core: Box, margin: int) -> Excerpt:
        """Cut out a box with `margin` voxels around it, as far as the mask reaches."""
        z, y, x = (
            slice(max(0, s.start - margin), min(n, s.stop + margin))
            for s, n in zip(core, mask.shape, strict=True)
        )
        voxels = np.ascontiguousarray(mask[z, y, x], bool)
        return cls(tuple(mask.shape), (z, y, x), np.packbits(voxels, axis=2))

    def __getitem__(self, box: Box) -> Mask:
        """Return the voxels of a box within the excerpt."""
        pairs = list(zip(box, self.box, strict=True))
        if any(s.start < b.start or s.stop > b.stop for s, b in pairs):
            raise TooSmallError(box)
        n = self.box[2].stop - self.box[2].start
        voxels = np.unpackbits(self.bits, axis=2, count=n).view(np.bool_)
        z, y, x = (slice(s.start - b.start, s.stop - b.start) for s, b in pairs)
        found: Mask = voxels[z, y, x]
        return found


@dataclass(frozen=True)
class CollectedBlock:
    """Spheres with centres in a block.

    Attributes
    ----------
    margin : int
        Number of voxels around the block that were needed, or that will be needed if
        there are no `spheres` yet.
    spheres : SphereList or None
    is_unbounded : bool
        Whether the phase fills the whole volume.
    """

    margin: int
    spheres: SphereList | None = None
    is_unbounded: bool = False


@dataclass(frozen=True)
class CollectWork:
    """Collects the spheres of blocks."""

    to_centres: bool

    def __call__(
        self,
        item: tuple[Box, Excerpt, Excerpt | None, int],
        should_stop: ShouldStop,
        worker: int,
    ) -> CollectedBlock:
        core, phase, within, margin = item

        def check() -> None:
            if should_stop():
                raise Cancelled("Stopped.")

        try:
            block = with_margin(phase, core, margin, check, within)
        except TooSmallError as error:
            pairs = zip(core, error.box, strict=True)
            needed = (max(s.start - b.start, b.stop - s.stop) for s, b in pairs)
            return CollectedBlock(max(needed))
        if block is None:
            return CollectedBlock(margin, SphereList.none())
        if block.phase.all():  # then the phase fills the whole volume
            return CollectedBlock(margin, SphereList.none(), is_unbounded=True)
        return CollectedBlock(
            block.margin, collected(block, locate=not self.to_centres)
        )


@dataclass(frozen=True)
class PaintWork:
    """Paints the spheres in blocks, and counts the diameters."""

    halvings: int

    def __call__(
        self,
        item: tuple[Box, Excerpt, SphereList],
        should_stop: ShouldStop,
        worker: int,
    ) -> npt.NDArray[np.int64]:
        core, phase, spheres = item
        diameters = painted(phase, core, [spheres], self.halvings)
        return count_diameters(diameters)


def count_diameters(diameters: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
    """Return the number of voxels of each diameter, up to the largest."""
    counts = np.zeros(int(diameters.max(initial=0)) + 1, np.int64)
    for plane in diameters:  # bincount makes a 64-bit copy
        part = np.bincount(plane.ravel())
        counts[: len(part)] += part
    return counts


class _Lazy(Sequence[T], Generic[T]):
    """Items that are created when they are passed to a process, and not kept."""

    def __init__(self, numbers: Sequence[int], make: Callable[[int], T]) -> None:
        self._numbers, self._make = numbers, make

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, i: int) -> T: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[T]: ...
    def __getitem__(self, i: int | slice) -> T | Sequence[T]:
        if isinstance(i, slice):
            return [self._make(number) for number in self._numbers[i]]
        return self._make(self._numbers[i])


@dataclass
class _ToCollect:
    """Data that a process needs to collect the spheres of a block.

    Attributes
    ----------
    margin : int
        Width of the margin around the block in voxels; the next blocks probably need
        the same margin.
    """

    phase: MaskSource
    within: MaskSource | None
    blocks: Sequence[Box]
    margin: int = field(default_factory=lambda: thickness.FIRST_MARGIN)

    def __call__(self, number: int) -> tuple[Box, Excerpt, Excerpt | None, int]:
        core, margin = self.blocks[number], self.margin
        within = None
        if self.within is not None:
            within = Excerpt.of(self.within, core, margin)
        return core, Excerpt.of(self.phase, core, margin), within, margin


def block_thickness_steps(
    phase: MaskSource,
    *,
    share: Share | None,
    check: Callable[[], None],
    message: str,
    to_centres: bool = False,
    within: MaskSource | None = None,
    edge: int | None = None,
    room: int | None = None,
) -> Generator[Step, None, ThicknessDistribution]:
    """Measure the local thickness of a phase, in worker processes if there are any.

    Parameters
    ----------
    phase : MaskSource
    share : callable or None
        Distributes blocks among several processes; None if this is the only process.
    check, message, to_centres, within, edge
        As in `thickness_steps`.
    room : int, optional
        Available memory for a block in each process, in bytes; blocks are made smaller
        if necessary.

    Raises
    ------
    LittleMemoryError
        If even the smallest blocks do not fit.
    """
    z, y, x = phase.shape

    def steps_of(edge: int) -> Generator[Step, None, ThicknessDistribution]:
        blocks = list(cut_blocks((z, y, x), edge))
        if share is None or len(blocks) < 2:
            return thickness.thickness_steps(
                phase,
                edge=edge,
                to_centres=to_centres,
                within=within,
                check=check,
                message=message,
                room=room,
            )
        return shared_thickness_steps(
            phase,
            blocks,
            share,
            to_centres=to_centres,
            within=within,
            message=message,
            room=room,
        )

    return (yield from fitting_steps((z, y, x), edge, room, steps_of))


def fitting_steps(
    shape: tuple[int, int, int],
    edge: int | None,
    room: int | None,
    steps_of: Callable[[int], Generator[Step, None, T]],
) -> Generator[Step, None, T]:
    """Repeat steps with smaller blocks until these fit into memory.

    Parameters
    ----------
    shape, edge, room
        As in `block_thickness_steps`.
    steps_of : callable
        Returns the steps for blocks with this edge length.

    Raises
    ------
    LittleMemoryError
        If even the smallest blocks do not fit.
    """
    margin = thickness.FIRST_MARGIN
    preferred = edge or preferred_edge(shape, thickness.BLOCK_VOXELS)
    while True:
        fitting = block_edge(shape, preferred, margin, room)
        try:
            return (yield from steps_of(fitting))
        except LargeMarginError as error:
            margin = error.margin


def shared_thickness_steps(
    phase: MaskSource,
    blocks: Sequence[Box],
    share: Share,
    *,
    to_centres: bool,
    within: MaskSource | None = None,
    message: str,
    room: int | None = None,
) -> Generator[Step, None, ThicknessDistribution]:
    """Measure the local thickness of a phase in several processes.

    The result equals that of `thickness_steps`.

    Parameters
    ----------
    phase : MaskSource
    blocks : sequence of Box
        Boxes that cover the phase.
    share : callable
        Handles all items in other processes, and yields the results in order.
    to_centres, within, message, room
        As in `thickness_steps`.
    """
    n = len(blocks)
    yield StageStarted(0, 2 * n, message=message)
    found, unbounded = yield from _shared_sphere_steps(
        phase,
        blocks,
        share,
        to_centres=to_centres,
        within=within,
        n_steps=2 * n,
        room=room,
    )
    done = n
    if unbounded:
        return ThicknessDistribution(np.zeros(1, np.int64), unbounded)
    counts = np.zeros(2**16, np.int64)
    counted = phase if within is None else within
    halvings = thickness.halvings_of(found)
    to_paint = _Lazy(range(n), lambda i: _to_paint(counted, blocks[i], found))
    with closing(share(PaintWork(halvings), to_paint)) as results:
        for part in results:
            counts[: len(part)] += part
            done += 1
            yield BlockDone(done, 2 * n)
    return ThicknessDistribution.of(counts, STEP * 2**halvings)


def block_sphere_steps(
    phase: MaskSource,
    blocks: Sequence[Box],
    *,
    to_centres: bool,
    within: MaskSource | None,
    share: Share | None,
    check: Callable[[], None],
    n_steps: int,
    room: int | None = None,
) -> Generator[Step, None, tuple[list[SphereList], int]]:
    """Collect the spheres of a phase, in worker processes if there are any.

    Parameters and result are those of `sphere_steps`.
    """
    if share is not None and len(blocks) > 1:
        steps = _shared_sphere_steps(
            phase,
            blocks,
            share,
            to_centres=to_centres,
            within=within,
            n_steps=n_steps,
            room=room,
        )
    else:
        steps = thickness.sphere_steps(
            phase,
            blocks,
            to_centres=to_centres,
            within=within,
            check=check,
            n_steps=n_steps,
            room=room,
        )
    return (yield from steps)


def _shared_sphere_steps(
    phase: MaskSource,
    blocks: Sequence[Box],
    share: Share,
    *,
    to_centres: bool,
    within: MaskSource | None,
    n_steps: int,
    room: int | None,
) -> Generator[Step, None, tuple[list[SphereList], int]]:
    """Collect the spheres of a phase in several processes."""
    done, unbounded = 0, 0
    found: list[SphereList] = [SphereList.none()] * len(blocks)
    to_collect = _ToCollect(phase, within, blocks)
    todo = list(range(len(blocks)))
    while todo:
        again = []
        items = _Lazy(todo, to_collect)
        with closing(share(CollectWork(to_centres), items)) as results:
            for i, result in zip(todo, results, strict=True):
                if result.margin > to_collect.margin:
                    to_collect.margin = result.margin
                    _check_room(phase, blocks, result.margin, room)
                if result.spheres is None:
                    again.append(i)
                    continue
                found[i] = result.spheres
                if result.is_unbounded:
                    unbounded += thickness.count_within(phase, blocks[i], within)
                done += 1
                yield BlockDone(done, n_steps)
        todo = again
    return ([] if unbounded else found), unbounded


def _check_room(
    phase: MaskSource, blocks: Sequence[Box], margin: int, room: int | None
) -> None:
    """Raise `LargeMarginError` if a block does not fit into memory."""
    n_read = max(
        math.prod(
            min(n, s.stop + margin) - max(0, s.start - margin)
            for s, n in zip(core, phase.shape, strict=True)
        )
        for core in blocks
    )
    if room is not None and BYTES_PER_VOXEL * n_read > room:
        raise LargeMarginError(margin)


def _to_paint(
    phase: MaskSource, core: Box, found: Sequence[SphereList]
) -> tuple[Box, Excerpt, SphereList]:
    excerpt = Excerpt.of(phase, core, thickness.kernels().spheres.FILLED)
    first = np.array([s.start for s in excerpt.box])
    last = np.array([s.stop for s in excerpt.box])
    near: Iterator[SphereList] = (part.within(first, last) for part in found)
    parts = list(near)
    centres = np.concatenate([part.centres for part in parts])
    diameters = np.concatenate([part.diameters for part in parts])
    return core, excerpt, SphereList.of(centres, diameters)
