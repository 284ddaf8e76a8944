"""Response of a denoiser to sample blocks of a scan and to added noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference.padding import padded_voxels, padding_value
from napari_geosr.inference.risk.probes import level_map, noise_of_scan
from napari_geosr.inference.risk.stein import CellMeans
from napari_geosr.inference.runner import restore_region
from napari_geosr.inference.windows import Standardisation

if TYPE_CHECKING:
    from torch import nn

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Box = tuple[slice, ...]

#: Memory, in bytes, for running a network on the blocks; it limits the size of tiles.
BUDGET = 2 * 10**9
#: Amplitude of the probe, as a fraction of the noise level: small compared with the
#: noise, large compared with rounding errors.
_EPSILON = 0.1
_SEED = 20_813
#: Number of blocks; their size and the margin read around them, in voxels, by number
#: of axes.
N_BLOCKS = 4
_CORE = {2: (224, 224), 3: (8, 80, 80)}
_MARGIN = {2: (16, 16), 3: (3, 12, 12)}
#: Maximum number of positions tried to find enough blocks.
_MAX_POSITIONS = 40
#: Minimum fraction of valid voxels in a block.
_MIN_VALID = 0.3
#: Number of cells along Y and X into which a block is divided to find the standard
#: error of an estimate.
_CELLS = 3


@dataclass(frozen=True, eq=False)
class Block:
    """A block of a volume with a margin.

    Attributes
    ----------
    box : tuple of slice
        Position of `window` in the volume.
    window : ndarray, float64
        Grey values; non-finite ones are replaced with the mean of the others.
    core : tuple of slice
        The part of the window that is evaluated.
    valid : ndarray of bool, of the core's shape
        Voxels of the core that are finite, not padding, and not in a uniform region.
    finite : ndarray of bool, of the window's shape
        Voxels of the window that are finite in the volume.
    padded : ndarray of bool, of the window's shape, or None
        Voxels of the window that are padding around the sample; None if no padding is
        known.
    """

    box: Box
    window: FloatArray
    core: Box
    valid: BoolArray
    finite: BoolArray
    padded: BoolArray | None = None

    def cells(self) -> Iterator[Box]:
        """Yield parts of the core with about equal numbers of voxels."""
        shape = self.valid.shape
        for i in range(_CELLS):
            for j in range(_CELLS):
                y = slice(i * shape[-2] // _CELLS, (i + 1) * shape[-2] // _CELLS)
                x = slice(j * shape[-1] // _CELLS, (j + 1) * shape[-1] // _CELLS)
                yield (..., y, x)  # type: ignore[misc]


def draw_blocks(
    source: ArrayLike, n: int = N_BLOCKS, shape: Sequence[int] | None = None
) -> list[Block]:
    """Draw up to `n` blocks from all over a volume, reproducibly.

    Positions with mostly padding (a constant grey value) or non-finite voxels are
    skipped, unless there are no others.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X) or (Y, X)
        Only the blocks, and regions that reveal padding, are read.
    shape : sequence of int, optional
        Shape of a block, without its margin.

    Raises
    ------
    VolumeError
        If no position has any valid voxels.
    """
    if shape is None:
        shape = (1, *_CORE[2])[-source.ndim :] if is_flat(source.shape) else _CORE[3]
    core = [min(a, b) for a, b in zip(shape, source.shape, strict=True)]
    padding = padding_value(source)
    n = max(1, min(n, round(math.prod(source.shape) / math.prod(core))))
    blocks: list[Block] = []
    sparse: list[Block] = []
    taken: set[tuple[int, ...]] = set()
    for start in _positions(source.shape, core):
        if len(blocks) == n:
            break
        if start in taken:
            continue
        taken.add(start)
        block = _read(source, start, core, padding)
        if block.valid.mean() >= _MIN_VALID:
            blocks.append(block)
        elif block.valid.any():
            sparse.append(block)
    if not blocks:  # for example a dark background with few objects
        sparse.sort(key=lambda block: -int(block.valid.sum()))
        blocks = sparse[:n]
    if not blocks:
        raise VolumeError(
            "No part of the volume has enough voxels with different values to "
            "estimate the error."
        )
    return blocks


def is_flat(shape: Sequence[int]) -> bool:
    """Whether a volume is an image: two axes, or a single slice.

    Examples
    --------
    >>> is_flat((512, 512)), is_flat((1, 512, 512)), is_flat((2, 512, 512))
    (True, True, False)
    """
    return len(shape) == 2 or shape[0] == 1


def read_at_block(source: ArrayLike, block: Block) -> FloatArray:
    """Return the grey values of another volume (float64) at the position of `block`."""
    return np.asarray(source[block.box], np.float64)


def _positions(shape: Sequence[int], core: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield start positions of blocks: an even, low-discrepancy sequence."""
    n = len(shape)
    # Roots of the generalised golden ratio (Roberts 2018): x^(n+1) = x + 1.
    ratio = {2: 1.324717957244746, 3: 1.2207440846057596}[n]
    steps = [ratio ** -(axis + 1) for axis in range(n)]
    for i in range(_MAX_POSITIONS):
        yield tuple(
            int((0.5 + i * step) % 1 * (length - size + 1))
            for step, length, size in zip(steps, shape, core, strict=True)
        )


def _read(
    source: ArrayLike,
    start: Sequence[int],
    core: Sequence[int],
    padding: float | None,
) -> Block:
    from scipy import ndimage

    box, inner = [], []
    margins = (0, *_MARGIN[2])[-source.ndim :] if is_flat(source.shape) else _MARGIN[3]
    for first, size, margin, length in zip(
        start, core, margins, source.shape, strict=True
    ):
        low, high = max(0, first - margin), min(length, first + size + margin)
        box.append(slice(low, high))
        inner.append(slice(first - low, first - low + size))
    window: Any = np.asarray(source[tuple(box)], np.float64)
    finite = np.isfinite(window)
    if not finite.all():
        window = np.where(finite, window, window[finite].mean() if finite.any() else 0)
    flat = (3, 3) if source.ndim == 2 else (1, 3, 3)
    local_range = ndimage.maximum_filter(window, flat) - ndimage.minimum_filter(
        window, flat
    )
    is_constant = local_range == 0
    padded = None if padding is None else padded_voxels(source, box, padding)
    core_box = tuple(inner)
    valid = (finite & ~is_constant)[core_box]
    if padded is not None:  # near the sample, padding is not locally constant
        valid &= ~padded[core_box]
    return Block(tuple(box), window, core_box, valid, finite, padded)


@dataclass(frozen=True, eq=False)
class EvaluationSample:
    """Sample blocks of a scan, with the noise probes used for all denoisers.

    Attributes
    ----------
    blocks : sequence of Block
    probes : sequence of ndarray
        Noise with the scan's covariance for the window of each block, in grey values.
    variances : sequence of ndarray
        Variance of the noise at the voxels of each core; with a second scan, the
        variance of that scan's noise.
    seconds : sequence of ndarray, optional
        The cores in a second scan of the same object.
    """

    blocks: Sequence[Block]
    probes: Sequence[FloatArray]
    variances: Sequence[FloatArray]
    seconds: Sequence[FloatArray] = ()

    def first(self, n: int) -> EvaluationSample:
        """Return the sample restricted to its first `n` blocks."""
        return EvaluationSample(
            self.blocks[:n], self.probes[:n], self.variances[:n], self.seconds[:n]
        )


def draw_sample(
    source: ArrayLike,
    noise: Noise,
    *,
    second: ArrayLike | None = None,
    n: int = N_BLOCKS,
    shape: Sequence[int] | None = None,
    seed: int = _SEED,
) -> EvaluationSample:
    """Draw blocks of a scan, and probes that resemble its noise, reproducibly.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X) or (Y, X)
    noise : Noise
        Noise of `source`, in the grey values of `source`.
    second : ArrayLike of the same shape, optional
        Another scan of the same object with independent noise, `noise.second` times as
        strong.
    n : int
        Maximum number of blocks.
    shape : sequence of int, optional
        Shape of a block, without its margin.
    """
    rng = np.random.default_rng(seed)
    blocks = draw_blocks(source, n, shape)
    probes, variances, seconds = [], [], []
    checked = []
    for block in blocks:
        checked.append(block)
        levels = level_map(block.window, noise)
        unit = noise_of_scan(noise, block.window.shape, rng)
        probes.append(levels * unit)
        share = 1.0 if second is None else noise.second
        variances.append(np.square(share * levels[block.core]))
        if second is not None:
            second_values = read_at_block(second, block)[block.core]
            known = np.isfinite(second_values)
            checked[-1] = replace(block, valid=block.valid & known)
            seconds.append(np.where(known, second_values, 0.0))
    if not any(block.valid.any() for block in checked):
        raise VolumeError(
            "There is no region in which both scans have finite grey values, so they "
            "cannot be compared. Choose a second scan of the same region."
        )
    return EvaluationSample(checked, probes, variances, seconds)


def evaluate(
    network: nn.Module,
    sample: EvaluationSample,
    statistics: Standardisation,
    *,
    device: str = "cpu",
    budget: int = BUDGET,
    threads: int | None = None,
    should_stop: ShouldStop = never_stop,
    results: list[FloatArray] | None = None,
) -> CellMeans:
    """Run a denoiser on the sample, with and without a little added noise.

    Parameters
    ----------
    network : nn.Module
        A network that preserves size and grey values. If the network takes the noise
        level as an input, the level is already set and is the same in both runs.
    statistics : Standardisation
        Statistics of the whole scan, as in a normal run.
    results : list, optional
        Receives the denoised core of each block.

    Returns
    -------
    CellMeans
        Mean responses, in squared grey values.

    Raises
    ------
    Cancelled, DeviceMemoryError, EngineError
        As in `napari_geosr.inference.runner.restore_region`.
    """

    def restored(block: Block, window: FloatArray) -> FloatArray:
        values = restore_region(
            network,
            window,
            block.core,
            statistics=statistics,
            device=device,
            budget=budget,
            threads=threads,
            should_stop=should_stop,
        )
        return values.astype(np.float64)

    rows = []
    for i, block in enumerate(sample.blocks):
        result = restored(block, block.window)
        if results is not None:
            results.append(result)
        if sample.seconds:
            reference = sample.seconds[i]
            change = kept = np.zeros_like(result)
            scan_difference = np.square(block.window[block.core] - reference)
        else:
            reference, scan_difference = block.window[block.core], None
            probe = sample.probes[i]
            shifted = restored(block, block.window + _EPSILON * probe)
            change = (shifted - result) / _EPSILON
            kept = probe[block.core] * change
        maps = [np.square(result - reference), kept, np.square(change)]
        maps.append(sample.variances[i])
        if scan_difference is not None:
            maps.append(scan_difference)
        rows += _cells(block, maps)
    n, *means = np.asarray(rows, np.float64).T
    removed, kept, passed, noise, *second = means
    return CellMeans(
        removed, kept, passed, noise, n, second[0] if sample.seconds else None
    )


def _cells(block: Block, maps: Sequence[FloatArray]) -> list[list[float]]:
    """For each cell, count the valid voxels and average the maps over these voxels."""
    rows = []
    for place in block.cells():
        valid: Any = block.valid[place]
        n = int(valid.sum())
        if n:
            means = (float(part[place][valid].mean()) for part in maps)
            rows.append([float(n), *means])
    return rows
