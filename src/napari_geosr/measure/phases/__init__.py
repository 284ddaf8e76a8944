"""Pores and sample of a measured volume, for statistics that read voxels."""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

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
#: Width, in voxels, from which a gap of unmeasured voxels is left out, not filled.
GAP_WIDTH = 3
#: Number of planes on each side of a slab on which its gaps depend.
_GAP_HALO = 4
#: Offsets of the 26 neighbours of a voxel.
_NEIGHBOURS = [
    offset for offset in itertools.product((-1, 0, 1), repeat=3) if any(offset)
]


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
        Grey values on the grid of the volume, where voxels may not be cubic.
    results : dict
        Results that several statistics share, by name.
    share : callable or None
        Distributes blocks among several processes; None if this is the only process.
    around : PackedMask or None
        Pores within and outside the sample; None if all voxels belong to the sample.
    missing : PackedMask or None
        Voxels that were not measured (NaN or infinite); None if all voxels belong to
        the sample.
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
    share: Share | None = None
    around: PackedMask | None = None
    missing: PackedMask | None = None

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
    length; each of these takes the value of the voxel in which its centre lies.
    `Phases.notes` contains a remark on this.

    Parameters
    ----------
    read : callable
        Returns the phases of a slab, always with or always without the masks that may
        be None.
    slabs : sequence of slice
        All slabs along Z, in order.
    shape : tuple of 3 int
    voxel_size : tuple of 3 float
    """
    edge = min(voxel_size[1:] if flat else voxel_size)
    if flat:
        voxel_size = (edge, *voxel_size[1:])
    finer = tuple(
        max(1, round(n * v / edge)) for n, v in zip(shape, voxel_size, strict=True)
    )
    n_z, n_y, n_x = finer
    places = [
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
        for new, old in zip(finer, shape, strict=True)
    ]
    pores = PackedMask((n_z, n_y, n_x))
    more: list[PackedMask] = []
    n_outside = 0
    for slab in slabs:
        check()
        own = np.flatnonzero((places[0] >= slab.start) & (places[0] < slab.stop))
        if not own.size:
            continue
        picked = np.ix_(places[0][own] - slab.start, places[1], places[2])
        planes = read(slab)
        pores.write(int(own[0]), planes.pores[picked])
        parts = (planes.sample, planes.around, planes.missing)
        if planes.sample is not None:
            more = more or [PackedMask((n_z, n_y, n_x)) for _ in parts]
            n_outside += int(np.count_nonzero(~planes.sample))
        for mask, part in zip(more, parts, strict=False):
            assert part is not None
            mask.write(int(own[0]), part[picked])
    sample, around, missing = more if n_outside else (None, None, None)
    notes: tuple[str, ...] = ()
    if finer != shape:
        sizes = " × ".join(f"{v:.4g}" for v in voxel_size[-(2 if flat else 3) :])
        notes = (
            f"The voxels are not cubic ({sizes} {unit}): morphometry was measured on "
            f"voxels of {edge:.4g} {unit} with the same phases.",
        )
    return Phases(
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
        around=around,
        missing=missing,
    )


class GapFiller:
    """Stores the phases of a scan with unmeasured voxels, and fills narrow gaps.

    A gap is wide where it contains `GAP_WIDTH`³ voxels (in an image,
    `GAP_WIDTH`²); the space beyond the border of the volume counts as unmeasured. All
    other unmeasured voxels, such as dead pixels or a missing slice, take the phase of
    most of their measured neighbours, except within two voxels of a wide gap.

    Parameters
    ----------
    shape : tuple of 3 int
        Shape of the volume, (Z, Y, X).
    flat : bool
        Whether this is one image: shape (1, Y, X).
    """

    def __init__(self, shape: tuple[int, int, int], *, flat: bool) -> None:
        self.shape, self.flat = shape, flat
        self._pores, self._inside, self._missing = (PackedMask(shape) for _ in range(3))
        self._filled = np.zeros(shape[0], np.int64)

    def add(self, z: int, pores: Mask, inside: Mask | None, missing: Mask) -> None:
        """Store planes, starting at `z`.

        Parameters
        ----------
        pores : ndarray of bool
            Pores, also outside the sample mask.
        inside : ndarray of bool or None
            Sample mask, including unmeasured voxels; None if all voxels are inside.
        missing : ndarray of bool
            Unmeasured voxels.
        """
        self._pores.write(z, pores)
        whole = np.ones(pores.shape, bool)
        self._inside.write(z, whole if inside is None else inside)
        self._missing.write(z, missing)

    @property
    def n_filled(self) -> int:
        """Number of filled voxels of the sample in all planes returned so far."""
        return int(self._filled.sum())

    def planes(self, slab: slice) -> PhasePlanes:
        """Return planes with narrow gaps filled, after all planes were stored."""
        low = max(0, slab.start - _GAP_HALO)
        wide = slice(low, min(self.shape[0], slab.stop + _GAP_HALO))
        missing = self._whole(self._missing, wide)
        pores = self._whole(self._pores, slab)
        inside = self._whole(self._inside, slab)
        own = slice(slab.start - low, slab.stop - low)
        left = missing[own]
        if missing.any():
            left = left & _near_wide(missing, self.flat)[own]
            places = np.argwhere(missing[own] & ~left)
            places[:, 0] += own.start
            is_pore = _most_neighbours(self._whole(self._pores, wide), missing, places)
            z, y, x = places.T
            pores[z - own.start, y, x] = is_pore
            counted = (z - own.start)[inside[z - own.start, y, x]]
            self._filled[slab] = np.bincount(counted, minlength=len(left))
        sample = inside & ~left
        return PhasePlanes(pores & sample, sample, pores, left)

    @staticmethod
    def _whole(mask: PackedMask, slab: slice) -> Mask:
        return mask[slab, slice(None), slice(None)]


def filled_remark(n_filled: int) -> str:
    """Return a remark on filled voxels of the sample."""
    voxels = "voxel" if n_filled == 1 else "voxels"
    return (
        f"For morphometry, {n_filled:,} NaN or infinite {voxels} in gaps narrower than "
        f"{GAP_WIDTH} voxels took the phase of most of their neighbours."
    )


def _near_wide(missing: Mask, flat: bool) -> Mask:
    """Return where there is a wide gap, or one within two voxels."""
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    axes = (1, 2) if flat else (0, 1, 2)
    margin = [(int(axis in axes),) * 2 for axis in range(3)]
    padded: npt.NDArray[np.uint8] = np.pad(
        missing.view(np.uint8), margin, constant_values=1
    )
    for axis in axes:
        padded = minimum_filter1d(padded, GAP_WIDTH, axis=axis, mode="constant", cval=1)
    for axis in axes:
        padded = maximum_filter1d(padded, GAP_WIDTH, axis=axis, mode="constant")
    inner = tuple(
        slice(before, n - after)
        for (before, after), n in zip(margin, padded.shape, strict=True)
    )
    near = np.ascontiguousarray(padded[inner]) & missing.view(np.uint8)
    for axis in axes:
        near = maximum_filter1d(near, 2 * GAP_WIDTH - 1, axis=axis, mode="constant")
    found: Mask = near.view(np.bool_)
    return found


def _most_neighbours(
    pores: Mask, missing: Mask, places: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Return whether most of the measured neighbours of voxels are pores."""
    known, n_pores = np.zeros((2, len(places)), np.int64)
    last = np.array(pores.shape) - 1
    for offset in _NEIGHBOURS:
        near = places + offset
        within: Mask = np.logical_and.reduce((near >= 0) & (near <= last), axis=1)
        z, y, x = np.clip(near, 0, last).T
        measured = within & ~missing[z, y, x]
        known += measured
        n_pores += measured & pores[z, y, x]
    most: npt.NDArray[np.bool_] = 2 * n_pores > known
    return most
