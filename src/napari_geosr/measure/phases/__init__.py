"""Pores and sample of a measured volume, for statistics that read voxels."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.phases.cubic import (
    OriginalGrid,
    halo,
    interpolated,
    places_of,
)

Mask = npt.NDArray[np.bool_]
Box = tuple[slice, slice, slice]
#: Processes all items (`napari_geosr.measure.slabs.sharing.SlabWork`) in several
#: processes, and yields the results in the order of the items.
Share = Callable[[Any, Sequence[Any]], Generator[Any, None, None]]

#: Number of voxels of the slabs in which statistics read whole planes.
SLAB_VOXELS = 2**22
#: Maximum size in bytes of a mask (one bit per voxel) that is kept in memory; larger
#: masks are stored in a temporary file.
_MOST_BYTES_IN_MEMORY = 256 * 2**20


class MaskSource(Protocol):
    """A mask that is read box by box: an array, or a `PackedMask`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of voxels along Z, Y, X."""

    def __getitem__(self, box: Box, /) -> Mask:
        """Return the voxels of a box."""


class PackedMask:
    """A mask with one bit per voxel, in memory or, if it is large, in a temporary file.

    Parameters
    ----------
    shape : tuple of 3 int
        Shape of the mask, (Z, Y, X).

    Examples
    --------
    >>> mask = PackedMask((2, 3, 10))
    >>> mask.write(1, np.ones((1, 3, 10), bool))
    >>> int(mask[:, 1:2, 3:5].sum())
    2
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        packed = (*shape[:2], (shape[2] + 7) // 8)
        if math.prod(packed) > _MOST_BYTES_IN_MEMORY:
            self._file = tempfile.TemporaryFile(prefix="geosr-phase-")  # noqa: SIM115
            self._file.truncate(math.prod(packed))
            self._bits: npt.NDArray[np.uint8] = np.memmap(
                self._file, np.uint8, "r+", shape=packed
            )
        else:
            self._bits = np.zeros(packed, np.uint8)

    def write(self, z: int, block: Mask) -> None:
        """Store planes, starting at `z`."""
        self._bits[z : z + len(block)] = np.packbits(block, axis=2, bitorder="little")

    def __getitem__(self, box: Box) -> Mask:
        z, y, x = box
        first, last, _ = x.indices(self.shape[2])
        start = first // 8
        bits = self._bits[z, y, start : (last + 7) // 8]
        voxels = np.unpackbits(bits, axis=2, bitorder="little").view(np.bool_)
        found: Mask = voxels[:, :, first - 8 * start : last - 8 * start]
        return found


class _Both:
    """The solid: voxels of the sample that are not pores."""

    def __init__(self, pores: PackedMask, sample: PackedMask | None) -> None:
        self._pores, self._sample = pores, sample
        self.shape = pores.shape

    def __getitem__(self, box: Box) -> Mask:
        solid: Mask = ~self._pores[box]
        if self._sample is not None:
            solid &= self._sample[box]
        return solid


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
        Grey values on the grid of the volume, where voxels may not be cubic.
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

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along Z, Y, X."""
        z, y, x = self.pores.shape
        return z, y, x

    @property
    def ndim(self) -> int:
        """2 for an image, 3 for a volume."""
        return 2 if self.flat else 3

    @property
    def slabs(self) -> list[slice]:
        """Slices along Z of about 4 million voxels."""
        n_z, n_y, n_x = self.shape
        thickness = max(1, SLAB_VOXELS // (n_y * n_x))
        return [slice(z, min(z + thickness, n_z)) for z in range(0, n_z, thickness)]

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

    def count(self, mask: MaskSource) -> int:
        """Return the number of voxels in a mask."""
        return sum(int(np.count_nonzero(self.planes(mask, s))) for s in self.slabs)


def phases_of(
    read: Callable[[slice], tuple[Mask, Mask | None]],
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
    length, whose phase is interpolated by `cubic.interpolated`. `Phases.original` has
    the sums over the original voxels, and `Phases.notes` contains a remark.

    Parameters
    ----------
    read : callable
        Returns pores and sample (None if all voxels belong to it) of a slab.
    slabs : sequence of slice
        All slabs along Z, in order.
    shape : tuple of 3 int
    voxel_size : tuple of 3 float
    """
    edge = min(voxel_size[1:] if flat else voxel_size)
    if flat:
        voxel_size = (edge, *voxel_size[1:])
    n_z, n_y, n_x = (
        max(1, round(n * v / edge)) for n, v in zip(shape, voxel_size, strict=True)
    )
    pores = PackedMask((n_z, n_y, n_x))
    sample: PackedMask | None = None
    original = None
    if pores.shape != shape:
        original = OriginalGrid(voxel_size, flat)
    for slab in slabs if original is None else _thinner(slabs, shape, pores.shape):
        check()
        first, block, inside = _cubic(read, slab, shape, pores.shape, original)
        if not len(block):
            continue
        pores.write(first, block)
        if inside is not None and sample is None:
            sample = PackedMask(pores.shape)
            sample.write(0, np.ones((first, n_y, n_x), bool))
        if sample is not None:
            sample.write(
                first, np.ones(block.shape, bool) if inside is None else inside
            )
    notes: tuple[str, ...] = ()
    if original is not None:
        sizes = " × ".join(f"{v:.4g}" for v in voxel_size[-(2 if flat else 3) :])
        notes = (
            f"The voxels are not cubic ({sizes} {unit}): volumes and surfaces were "
            "measured on these voxels, all other morphometry on cubic voxels of "
            f"{edge:.4g} {unit}, with the surface interpolated between voxels. "
            "Diameters of pores and walls less than ten of the longest edges thick "
            f"({10 * max(voxel_size):.4g} {unit}) are too small.",
        )
    return Phases(
        pores,
        _Both(pores, sample),
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
    )


def _thinner(
    slabs: Sequence[slice], shape: tuple[int, ...], finer: tuple[int, ...]
) -> Iterator[slice]:
    """Divide slabs so that each has at most about `SLAB_VOXELS` cubic voxels."""
    step = max(1, SLAB_VOXELS * shape[0] // math.prod(finer))
    for slab in slabs:
        for start in range(slab.start, slab.stop, step):
            yield slice(start, min(start + step, slab.stop))


def _cubic(
    read: Callable[[slice], tuple[Mask, Mask | None]],
    slab: slice,
    shape: tuple[int, int, int],
    finer: tuple[int, int, int],
    original: OriginalGrid | None,
) -> tuple[int, Mask, Mask | None]:
    """Return the first cubic plane of a slab, and pores and sample on cubic voxels.

    `original` receives the sums of the slab, unless it is None (cubic voxels).
    """
    if original is None:
        return slab.start, *read(slab)
    size = original.voxel_size
    z, y, x = (places_of(n, m) for n, m in zip(finer, shape, strict=True))
    own = np.flatnonzero((z + 0.5 >= slab.start) & (z + 0.5 < slab.stop))
    wide = slice(max(0, slab.start - halo(size)), min(shape[0], slab.stop + halo(size)))
    block, inside = read(wide)
    n, before = slab.stop - slab.start, slab.start - wide.start
    near = slice(before, before + n + 1)
    original.add(block[near], None if inside is None else inside[near], n)
    places = (z[own] - wide.start, y, x)
    first = int(own[0]) if own.size else 0
    found = interpolated(block, places, size)
    if inside is None:
        return first, found, None
    sample = interpolated(inside, places, size)
    return first, found & sample, sample
