"""Pores and sample of a measured volume, for statistics that read voxels."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from napari_geosr.core.array_parts.packed_mask import PackedMask
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.measure.phases.changes import REACH
from napari_geosr.measure.phases.cubic import (
    OriginalGrid,
    cubic_shape,
    grid_remark,
    halo,
    interpolated,
    is_cubic,
    places_of,
)

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]
#: Function that applies `napari_geosr.measure.slabs.sharing.SlabWork` to items, in
#: several processes, and yields the results in the order of the items.
Share = Callable[[Any, Sequence[Any]], Generator[Any, None, None]]

#: Approximate number of voxels of a slab of whole planes; phases are read slab by slab.
SLAB_VOXELS = 2**22


class MaskSource(Protocol):
    """A mask that is read box by box: an array, or a `PackedMask`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along Z, Y, X."""

    def __getitem__(self, box: Box, /) -> Mask:
        """Return the voxels of a box."""


@dataclass(frozen=True, eq=False)
class PhasePlanes:
    """Phases of several planes.

    Attributes
    ----------
    pores : ndarray of bool
        Pores within the sample.
    sample : ndarray of bool or None
        Sample mask; None if all voxels of the volume belong to the sample.
    around : ndarray of bool or None
        Pores within and outside the sample.
    missing : ndarray of bool or None
        Voxels that were not measured: NaN or infinite.
    """

    pores: Mask
    sample: Mask | None = None
    around: Mask | None = None
    missing: Mask | None = None

    def part(self, planes: slice) -> PhasePlanes:
        """Return some of the planes."""
        sample, around, missing = (
            None if mask is None else mask[planes]
            for mask in (self.sample, self.around, self.missing)
        )
        return PhasePlanes(self.pores[planes], sample, around, missing)


class Complement:
    """The voxels that are in none of several masks.

    Parameters
    ----------
    *masks : MaskSource
        At least one mask.
    within : MaskSource, optional
        Only voxels of this mask are included.
    """

    def __init__(self, *masks: MaskSource, within: MaskSource | None = None) -> None:
        self._masks, self._within = masks, within
        self.shape = masks[0].shape

    def __getitem__(self, box: Box) -> Mask:
        rest: Mask = ~self._masks[0][box]
        for mask in self._masks[1:]:
            rest &= ~mask[box]
        if self._within is not None:
            rest &= self._within[box]
        return rest


@dataclass(frozen=True, eq=False)
class GreyPlanes:
    """Grey values on the grid of the volume, with both phases.

    Attributes
    ----------
    slabs : sequence of slice
        All slabs along Z, in order.
    read : callable
        Returns grey values (as in the scan, even if the threshold is local), pores and
        sample (None if all voxels belong to it) of planes.
    """

    slabs: Sequence[slice]
    read: Callable[[slice], tuple[npt.NDArray[np.generic], Mask, Mask | None]]


@dataclass(frozen=True, eq=False)
class Phases:
    """Pores and solid of a sample on a grid of cubic voxels, read box by box.

    Attributes
    ----------
    pores, solid : MaskSource
        The two phases within the sample.
    sample : PackedMask or None
        Sample mask; None if all voxels belong to the sample.
    edge : float
        Edge length of a voxel in `unit`.
    unit : str
        Unit of length; ``"pixel"`` if unknown.
    flat : bool
        Whether this is one image: shape (1, Y, X).
    origin : tuple of 3 float
        Position (z, y, x) of the centre of the first voxel, in `unit`.
    check : callable
        Raises `Cancelled` if the measurement is to stop.
    notes : tuple of str
        Remarks about the grid.
    grey : GreyPlanes or None
        Grey values on the grid of the volume, where voxels need not be cubic.
    results : dict
        Results that several statistics share, by name.
    sample_from : str
        Where the sample mask comes from: ``"none"``, ``"auto"``, ``"cortex"``,
        ``"marrow"``, or ``"own"`` for one given by the user. NaN and infinite voxels
        are outside the sample even without a mask.
    share : callable or None
        Distributes blocks among several processes; None if this is the only process.
    original : OriginalGrid or None
        Sums over the voxels of the scan; None if they are cubic.
    scan_grid : Phases or None
        The phases on the grid of the scan; None if this is the grid of the scan. See
        `scan`.
    voxel : tuple of 3 float
        Edges of a voxel of this grid along Z, Y and X, in units of `edge`.
    around : PackedMask or None
        Pores within and outside the sample; None if all voxels belong to the sample.
    missing : PackedMask or None
        Voxels that were not measured (NaN or infinite); None if all voxels belong to
        the sample.
    min_voxels : int
        Minimum size of a counted pore, in voxels of the scan.
    connectivity : {6, 26}
        Neighbours that belong to the same pore.
    budget : int or None
        Memory budget of the measurement in bytes; None if only the free memory limits
        it.
    processes : int
        Number of processes that share the memory.
    """

    pores: MaskSource
    solid: MaskSource
    sample: PackedMask | None
    edge: float
    unit: str
    flat: bool
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    check: Callable[[], None] = lambda: None
    notes: tuple[str, ...] = ()
    grey: GreyPlanes | None = None
    results: dict[str, object] = field(default_factory=dict)
    sample_from: str = "none"
    share: Share | None = None
    original: OriginalGrid | None = None
    scan_grid: Phases | None = None
    voxel: tuple[float, float, float] = (1.0, 1.0, 1.0)
    around: PackedMask | None = None
    missing: PackedMask | None = None
    min_voxels: int = 1
    connectivity: Literal[6, 26] = 26
    budget: int | None = None
    processes: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along Z, Y, X."""
        z, y, x = self.pores.shape
        return z, y, x

    @property
    def ndim(self) -> int:
        """2 for an image, 3 for a volume."""
        return 2 if self.flat else 3

    def space(self, which: Literal["solid", "pores"]) -> MaskSource:
        """Return a phase with its continuation outside the sample.

        Voxels that were not measured may belong to either phase, so they are included.
        """
        if self.around is None or self.missing is None:
            whole: MaskSource = getattr(self, which)
            return whole
        if which == "solid":
            return Complement(self.around)
        return Complement(Complement(self.around, self.missing))

    @property
    def known_solid(self) -> MaskSource:
        """The solid within and outside the sample, without unmeasured voxels."""
        if self.around is None or self.missing is None:
            return self.solid
        return Complement(self.around, self.missing)

    @property
    def slabs(self) -> list[slice]:
        """Slices along Z of about 4 million voxels."""
        n_z, n_y, n_x = self.shape
        thickness = max(1, SLAB_VOXELS // (n_y * n_x))
        return [slice(z, min(z + thickness, n_z)) for z in range(0, n_z, thickness)]

    @property
    def scan(self) -> Phases:
        """The phases on the grid of the scan, to count voxels.

        Interpolation shrinks small objects; these counts do not depend on it.
        """
        return self if self.scan_grid is None else self.scan_grid

    @property
    def scan_shape(self) -> tuple[int, int, int]:
        """Number of voxels of the scan along Z, Y, X."""
        return self.scan.shape

    @property
    def scan_voxel(self) -> tuple[float, float, float]:
        """Edges of a voxel of the scan along Z, Y and X, in units of `edge`.

        The edges in `scan.voxel` may be rounded, so that the grids end at the same
        place.
        """
        if self.original is None:
            return 1.0, 1.0, 1.0
        z, y, x = (v / self.edge for v in self.original.voxel_size)
        return z, y, x

    def planes(self, mask: MaskSource, slab: slice) -> Mask:
        """Read whole planes of a phase; raise `Cancelled` if the run is to stop."""
        self.check()
        return mask[slab, slice(None), slice(None)]

    def sample_planes(self, slab: slice) -> Mask | None:
        """Read whole planes of the sample mask; None if all voxels belong to it."""
        return None if self.sample is None else self.planes(self.sample, slab)

    @property
    def sample_voxels(self) -> int:
        """Number of voxels of the sample."""
        if self.sample is None:
            return math.prod(self.shape)
        if "sample voxels" not in self.results:
            self.results["sample voxels"] = self.count(self.sample)
        n = self.results["sample voxels"]
        assert isinstance(n, int)
        return n

    @property
    def sample_box(self) -> tuple[slice, slice, slice]:
        """Bounding box of the sample, in voxels; the whole volume if it is empty."""
        if self.sample is None:
            return tuple(slice(0, n) for n in self.shape)  # type: ignore[return-value]
        if "sample box" not in self.results:
            used = [np.zeros(n, bool) for n in self.shape]
            for slab in self.slabs:
                inside = self.planes(self.sample, slab)
                used[0][slab] = inside.any(axis=(1, 2))
                used[1] |= inside.any(axis=(0, 2))
                used[2] |= inside.any(axis=(0, 1))
            ends = [np.flatnonzero(u)[[0, -1]] if u.any() else [0, -1] for u in used]
            self.results["sample box"] = tuple(
                slice(int(a), int(b) + 1) if b >= 0 else slice(0, n)
                for (a, b), n in zip(ends, self.shape, strict=True)
            )
        return self.results["sample box"]  # type: ignore[return-value]

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """Edges of the bounding box of the sample, in voxels."""
        z, y, x = (part.stop - part.start for part in self.sample_box)
        return z, y, x

    @property
    def available_bytes(self) -> int:
        """Memory for whole volumes: half of the free memory, but at most the budget."""
        free = free_host_memory() // 2
        return free if self.budget is None else min(free, self.budget)

    def count(self, mask: MaskSource) -> int:
        """Return the number of voxels in a mask."""
        return sum(int(np.count_nonzero(self.planes(mask, s))) for s in self.slabs)


class _ScanMasks:
    """Stores the phases on the grid of a scan with voxels that are not cubic."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._pores = PackedMask(shape)
        #: The sample, the pores around it and missing voxels; empty without a sample.
        self._more: list[PackedMask] = []
        self._is_whole = True

    def write(self, z: int, planes: PhasePlanes) -> None:
        """Store planes, starting at `z`."""
        self._pores.write(z, planes.pores)
        parts = (planes.sample, planes.around, planes.missing)
        if planes.sample is not None:
            self._more = self._more or [PackedMask(self._pores.shape) for _ in parts]
            self._is_whole = self._is_whole and bool(planes.sample.all())
        for mask, part in zip(self._more, parts, strict=False):
            assert part is not None
            mask.write(z, part)

    def phases(self, cubic: Phases, origin: tuple[float, float, float]) -> Phases:
        """Return the stored phases, with the edge, unit and check of `cubic`."""
        more = (None, None, None) if self._is_whole else self._more
        sample, around, missing = more
        solid = Complement(self._pores, within=sample)
        (z, y, x), (a, b, c) = cubic.shape, self._pores.shape
        same = cubic.edge, cubic.unit, cubic.flat, origin, cubic.check
        return Phases(
            *(self._pores, solid, sample, *same),
            voxel=(z / a, y / b, x / c),
            around=around,
            missing=missing,
        )


def phases_of(
    read: Callable[[slice], PhasePlanes],
    slabs: Sequence[slice],
    shape: tuple[int, int, int],
    voxel_size: tuple[float, float, float],
    unit: str,
    *,
    flat: bool = False,
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
    check: Callable[[], None] = lambda: None,
) -> Phases:
    """Read both phases once, and store them with one bit per voxel.

    Voxels that are not cubic are divided into cubic voxels of about the shortest edge
    length, with phases that are interpolated by `cubic.interpolated`. `Phases.original`
    has the sums over the original voxels, and `Phases.notes` contains a remark.

    Parameters
    ----------
    read : callable
        Returns the phases of a slab; a mask that is None for one slab must be None for
        all of them.
    slabs : sequence of slice
        All slabs along Z, in order.
    shape : tuple of 3 int
    voxel_size : tuple of 3 float
    """
    edge = min(voxel_size[1:] if flat else voxel_size)
    if flat:
        voxel_size = (edge, *voxel_size[1:])
    is_same = is_cubic(voxel_size)
    original = None if is_same else OriginalGrid(voxel_size, flat, shape)
    z, y, x = cubic_shape(shape, voxel_size)
    pores = PackedMask((z, y, x))
    scan = None if (z, y, x) == shape else _ScanMasks(shape)
    more: list[PackedMask] = []
    n_outside = 0
    for slab in slabs if original is None else _thinner(slabs, shape, pores.shape):
        check()
        first, planes = _cubic(read, slab, shape, pores.shape, original, scan)
        if not len(planes.pores):
            continue
        pores.write(first, planes.pores)
        parts = (planes.sample, planes.around, planes.missing)
        if planes.sample is not None:
            more = more or [PackedMask(pores.shape) for _ in parts]
            n_outside += int(np.count_nonzero(~planes.sample))
        for mask, part in zip(more, parts, strict=False):
            assert part is not None
            mask.write(first, part)
    sample, around, missing = more if n_outside else (None, None, None)
    notes = () if original is None else (grid_remark(original, (z, y, x), unit),)
    phases = Phases(
        pores,
        Complement(pores, within=sample),
        sample,
        edge,
        unit,
        flat,
        (
            origin[0] + (edge - voxel_size[0]) / 2,
            origin[1] + (edge - voxel_size[1]) / 2,
            origin[2] + (edge - voxel_size[2]) / 2,
        ),
        check,
        notes,
        original=original,
        around=around,
        missing=missing,
    )
    if scan is None:
        return phases
    return replace(phases, scan_grid=scan.phases(phases, origin))


def _thinner(
    slabs: Sequence[slice], shape: tuple[int, ...], finer: tuple[int, ...]
) -> Iterator[slice]:
    """Divide slabs so that each has at most about `SLAB_VOXELS` cubic voxels."""
    step = max(1, SLAB_VOXELS * shape[0] // math.prod(finer))
    for slab in slabs:
        for start in range(slab.start, slab.stop, step):
            yield slice(start, min(start + step, slab.stop))


def _cubic(
    read: Callable[[slice], PhasePlanes],
    slab: slice,
    shape: tuple[int, int, int],
    finer: tuple[int, int, int],
    original: OriginalGrid | None,
    scan: _ScanMasks | None,
) -> tuple[int, PhasePlanes]:
    """Return the first cubic plane of a slab, and its phases on cubic voxels.

    `original` receives the sums of the slab, and is None if voxels are cubic. `scan`
    receives the voxels of the slab, and is None if both grids are the same.
    """
    if original is None:
        return slab.start, read(slab)
    size = original.voxel_size
    z, y, x = (places_of(n, m) for n, m in zip(finer, shape, strict=True))
    own = np.flatnonzero((z + 0.5 >= slab.start) & (z + 0.5 < slab.stop))
    wide = slice(max(0, slab.start - halo(size)), min(shape[0], slab.stop + halo(size)))
    planes = read(wide)
    n, before = slab.stop - slab.start, slab.start - wide.start
    near = slice(before, before + n + REACH)
    inside = planes.sample
    original.add(planes.pores[near], None if inside is None else inside[near], n)
    if scan is None:
        return slab.start, planes.part(slice(before, before + n))
    scan.write(slab.start, planes.part(slice(before, before + n)))
    places = (z[own] - wide.start, y, x)
    first = int(own[0]) if own.size else 0
    if inside is None or planes.around is None or planes.missing is None:
        return first, PhasePlanes(interpolated(planes.pores, places, size))
    sample = interpolated(inside, places, size)
    around = interpolated(planes.around, places, size)
    missing = interpolated(planes.missing, places, size) & ~sample
    return first, PhasePlanes(around & sample, sample, around, missing)
