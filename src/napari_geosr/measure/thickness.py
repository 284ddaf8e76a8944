"""Local thickness: diameter of the largest sphere in a phase that contains a point.

Volumes are read in blocks, with as many voxels around each as its spheres need; the
result does not depend on the blocks.

References
----------
.. [1] Hildebrand, Rüegsegger. A new method for the model-independent assessment of
   thickness in three-dimensional images. J. Microsc. 185, 67-75 (1997), eq. 3.
   doi:10.1046/j.1365-2818.1997.1340694.x
.. [2] Dahl, Dahl. Fast local thickness. CVPR Workshops (2023).
   doi:10.1109/CVPRW59228.2023.00454
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import BlockDone, StageStarted, Step, run_to_end
from napari_geosr.measure.phases import Box, Mask, MaskSource

#: Diameters are stored in steps of 1/32 voxel in 16 bits (`kernels.spheres.STEPS`).
STEPS_PER_VOXEL = 32
#: Default number of voxels of a block, without the voxels around it.
BLOCK_VOXELS = 128**3
#: First number of voxels that are read around a block; twice the largest radius is
#: needed, which is found by trying.
_FIRST_MARGIN = 16


@dataclass(frozen=True, eq=False)
class ThicknessDistribution:
    """How many voxels of a phase have which local thickness.

    Attributes
    ----------
    counts : ndarray of int64
        Number of voxels by thickness in steps of 1/32 voxel.
    unbounded_voxels : int
        Voxels of a phase without any surface, whose thickness is unknown.
    """

    counts: npt.NDArray[np.int64]
    unbounded_voxels: int = 0

    @property
    def n_voxels(self) -> int:
        """Number of voxels with a thickness."""
        return int(self.counts.sum())

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """Thickness of each count in voxels."""
        return np.arange(len(self.counts)) / STEPS_PER_VOXEL

    @property
    def mean(self) -> float | None:
        """Volume-weighted mean in voxels; None without voxels."""
        if not self.n_voxels:
            return None
        return float((self.counts * self.values).sum() / self.n_voxels)

    @property
    def sd(self) -> float | None:
        """Standard deviation over the voxels of the phase, in voxels."""
        if (mean := self.mean) is None:
            return None
        squares = (self.counts * (self.values - mean) ** 2).sum()
        return math.sqrt(float(squares) / self.n_voxels)

    @property
    def largest(self) -> float | None:
        """Largest thickness in voxels."""
        found = np.flatnonzero(self.counts)
        return float(self.values[found[-1]]) if found.size else None

    def histogram(self, n_bins: int = 24) -> tuple[list[int], list[float]]:
        """Counts in equal bins from zero to the largest thickness, and their edges."""
        edges = np.linspace(0, self.largest or 1.0, n_bins + 1)
        counts, _ = np.histogram(self.values, bins=edges, weights=self.counts)
        return [int(n) for n in counts], [float(edge) for edge in edges]


def thickness_steps(
    phase: MaskSource,
    *,
    block_voxels: int | None = None,
    target: npt.NDArray[np.uint16] | None = None,
    to_centres: bool = False,
    check: Callable[[], None] = lambda: None,
    message: str = "Measuring the thickness",
) -> Generator[Step, None, ThicknessDistribution]:
    """Measure the local thickness of a phase [1]_, block by block.

    What lies outside the volume is unknown: spheres may extend beyond its border.

    Every sphere around a voxel that is not within another sphere is moved by less than
    a voxel to where it is largest; then the spheres are painted in descending order. No
    radius is skipped: diameters are rounded to 1/32 voxel only. A voxel belongs to a
    sphere up to 1.02 times its radius, which makes almost all spheres redundant.

    Parameters
    ----------
    phase : MaskSource
        Shape (Z, Y, X), indexed by three slices: an array, a lazy array, or a
        `PackedMask`. Voxels must be cubic.
    block_voxels : int, optional
        Number of voxels of a block, `BLOCK_VOXELS` by default; memory is about 20
        bytes per voxel of a block and of the voxels around it (twice the largest
        radius).
    target : writable array of uint16 of the same shape, optional
        Filled with diameters in steps of 1/32 voxel; 0 outside the phase, 65535 where
        the phase has no surface.
    to_centres : bool
        Measure to the centres of the voxels outside, which are lines or sheets of
        voxels, instead of to a surface between voxels.
    check : callable
        Called for every block; may raise `Cancelled`.

    Yields
    ------
    Step
        `StageStarted` and `BlockDone`.

    Returns
    -------
    ThicknessDistribution

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
    blocks = list(_blocks((z, y, x), block_voxels or BLOCK_VOXELS))
    counts = np.zeros(2**16, np.int64)
    margin, unbounded = _FIRST_MARGIN, 0
    yield StageStarted(0, len(blocks), message=message)
    for i, core in enumerate(blocks):
        check()
        block = _with_margin(phase, core, margin, check)
        if block is None:
            found = np.zeros([s.stop - s.start for s in core], np.uint16)
        else:
            margin, found = block.margin, _painted(block, locate=not to_centres)
        if target is not None:
            target[core] = found
        part = np.bincount(found.ravel(), minlength=2**16)
        unbounded += int(part[-1])
        counts[:-1] += part[:-1]
        yield BlockDone(i + 1, len(blocks))
    counts[0] = 0
    used = np.flatnonzero(counts)
    return ThicknessDistribution(
        counts[: used[-1] + 1 if used.size else 1].copy(), unbounded
    )


def _blocks(shape: tuple[int, int, int], block_voxels: int) -> Iterator[Box]:
    """Nearly cubic boxes that cover a volume."""
    edge = max(8, round(block_voxels ** (1 / 3)))
    ranges = []
    for n in shape:
        parts = max(1, math.ceil(n / edge))
        ends = [round(i * n / parts) for i in range(parts + 1)]
        ranges.append([slice(a, b) for a, b in itertools.pairwise(ends)])
    z, y, x = ranges
    yield from itertools.product(z, y, x)


@dataclass(frozen=True, eq=False)
class _PhaseBlock:
    """A block of a phase with its surroundings, and its distances.

    Attributes
    ----------
    phase : ndarray of uint8
    squares, nearest : ndarray of int32
        Squared distance to the nearest voxel outside, and that voxel's flat index.
    place : ndarray of shape (3, 2), int64
        The block without its surroundings.
    margin : int
        Number of voxels read around the block.
    """

    phase: npt.NDArray[np.uint8]
    squares: npt.NDArray[np.int32]
    nearest: npt.NDArray[np.int32]
    place: npt.NDArray[np.int64]
    margin: int

    @property
    def inside(self) -> Box:
        """The block without its surroundings, as slices."""
        z, y, x = (slice(int(a), int(b)) for a, b in self.place)
        return z, y, x


def _with_margin(
    phase: MaskSource, core: Box, margin: int, check: Callable[[], None]
) -> _PhaseBlock | None:
    """Read a block with all that its spheres depend on; None if it has no phase."""
    from napari_geosr.measure.kernels import distances, spheres

    shape = phase.shape
    if not np.asarray(phase[core]).any():
        return None
    while True:
        box = [
            slice(max(0, s.start - margin), min(n, s.stop + margin))
            for s, n in zip(core, shape, strict=True)
        ]
        inner = np.array(
            [[b.start > 0, b.stop < n] for b, n in zip(box, shape, strict=True)]
        )
        read = np.asarray(phase[box[0], box[1], box[2]], bool)
        block = np.ascontiguousarray(read).view(np.uint8)
        squares = np.empty(block.shape, np.int32)
        nearest = np.empty(block.shape, np.int32)
        distances.squared_distances(block, squares, nearest)
        place = np.array(
            [
                [s.start - b.start, s.stop - b.start]
                for s, b in zip(core, box, strict=True)
            ]
        )
        unknown = 0.0
        if inner.any():
            unknown = spheres.largest_unknown(block, squares, place, inner)
        if not unknown:
            return _PhaseBlock(block, squares, nearest, place, margin)
        check()
        wide = 2 * math.ceil(unknown) + 6
        margin = max(margin + 8, min(wide, 2 * margin))


def _painted(block: _PhaseBlock, *, locate: bool) -> npt.NDArray[np.uint16]:
    """Diameters in a block, without its surroundings."""
    from napari_geosr.measure.kernels import spheres

    phase, squares, nearest = block.phase, block.squares, block.nearest
    place = block.place
    size = [int(b - a) for a, b in place]
    if phase.all():
        return np.full(size, spheres.MOST, np.uint16)
    n = 2 * spheres.n_uncovered(phase, squares, nearest, place)
    centres, reach = np.empty((n, 3), np.int32), np.empty(n, np.int32)
    diameters = np.empty(n, np.uint16)
    spheres.collect(phase, squares, nearest, place, locate, centres, reach, diameters)
    order = np.argsort(-diameters.astype(np.int32), kind="stable")
    result = np.empty(size, np.uint16)
    following = np.empty((*size[:2], size[2] + 1), np.int32)
    spheres.paint(phase, order, centres, reach, diameters, place, following, result)
    return result


def medial_axis_steps(
    phase: MaskSource,
    write: Callable[[Box, Mask], None],
    *,
    block_voxels: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Generator[Step, None, None]:
    """Find the medial axis (sheets and lines of voxels) of a phase, block by block.

    Parameters
    ----------
    write : callable
        Receives the medial axis in each block; blocks extend over whole planes.
    """
    from napari_geosr.measure.kernels import spheres

    n_z, n_y, n_x = phase.shape
    thick = max(1, (block_voxels or BLOCK_VOXELS) // max(1, n_y * n_x))
    margin = _FIRST_MARGIN
    cores = [slice(z, min(z + thick, n_z)) for z in range(0, n_z, thick)]
    yield StageStarted(0, len(cores), message="Finding the mid-axes")
    for i, z in enumerate(cores):
        check()
        core = (z, slice(0, n_y), slice(0, n_x))
        # One more plane on each side: a voxel may be marked by its neighbour.
        wide = (slice(max(0, z.start - 1), min(n_z, z.stop + 1)), *core[1:])
        block = _with_margin(phase, wide, margin, check)
        if block is not None:
            margin = block.margin
            marked = np.empty(block.phase.shape, np.uint8)
            spheres.mark_axes(block.phase, block.squares, block.nearest, marked)
            found = marked[block.inside].view(np.bool_)
            start = z.start - wide[0].start
            write(core, found[start : start + z.stop - z.start])
        yield BlockDone(i + 1, len(cores))


def local_thickness(mask: Mask) -> npt.NDArray[np.float32]:
    """Thickness of a phase at each of its voxels [1]_.

    Parameters
    ----------
    mask : ndarray of bool, ([Z,] Y, X)
        The phase; the outside of the image counts as part of it.

    Returns
    -------
    ndarray of float32, same shape
        In voxels (assumed cubic), accurate to about half a voxel; 0 outside the phase,
        infinite if there is nothing else. Its mean is Tb.Th for the solid and Tb.Sp for
        the pores.
    """
    stack = mask if mask.ndim == 3 else mask[None]
    target = np.zeros(stack.shape, np.uint16)
    found = run_to_end(thickness_steps(stack, target=target))
    thickness = target.reshape(mask.shape).astype(np.float32)
    thickness /= STEPS_PER_VOXEL
    if found.unbounded_voxels:
        thickness[mask] = np.inf
    return thickness
