"""Choose the tile with the least work within the memory budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from napari_geosr.core.config import (
    format_available,
    format_bytes,
    format_enough,
)
from napari_geosr.core.errors import DeviceMemoryError, WholeVolumeMemoryError
from napari_geosr.inference.memory import Buffers, CostModel, tile_peak
from napari_geosr.inference.source_reads import (
    DIRECT,
    BlocksAlong,
    SourceReads,
    blocks_along,
    unit_along,
    ways_to_read,
)
from napari_geosr.inference.tiles.tiling import (
    Box,
    Layout,
    Size,
    Tile,
    clip_box,
    cut_axis,
    lay_out,
    padded_span,
    split,
)
from napari_geosr.networks.spec import NetworkSpec

#: Longest time for a tile, in seconds, so that progress is reported often. Tiles may
#: take longer if shorter ones cost too much work.
SECONDS_PER_TILE = 2.0
#: Largest cost factor (voxels computed ÷ voxels needed) accepted for short tiles; for a
#: region, relative to the cheapest tile.
ACCEPTED_FACTOR = 1.25
#: Cost factor above which a run is not worth starting: the budget is rejected instead.
MAX_COST_FACTOR = 20.0
#: Memory use, as a multiple of the budget, that is tolerated if tiles cannot usefully
#: be made smaller.
TOLERANCE = 1.1
#: Maximum time, in seconds, for a tile that groups several planes for a 2D network.
_SECONDS_PER_STACK = 0.25
#: Numbers of planes that a tile of a 2D network may group if several processes share
#: the work.
_STACKS = (1, 2, 4, 8, 16)
#: If processes share the work, a smaller tile that needs little more work is preferred
#: to one with more input voxels than this: a killed process loses its current tile.
_MAX_SHARED_VOXELS = 1 << 24


@dataclass(frozen=True)
class TileChoice:
    """A tile with its cost.

    Attributes
    ----------
    tile : tuple of int
        Core size along Z, Y, X.
    peak_bytes : int
        Predicted increase in the memory used by the process (or on the device).
    cost_factor : float
        Voxels computed ÷ voxels of the volume.
    n_tiles : int
    window_voxels : int
        Voxels of the largest window passed through the network at once.
    reads : SourceReads
        How the source is read.
    """

    tile: Size
    peak_bytes: int
    cost_factor: float
    n_tiles: int
    window_voxels: int
    reads: SourceReads = DIRECT

    def work(self, seconds_per_voxel: float | None = None) -> float:
        """Return the relative time for computing and decoding (1: each voxel once)."""
        return self.cost_factor + self.reads.repeated_work(seconds_per_voxel)


def choose_tile(
    shape: Sequence[int],
    spec: NetworkSpec,
    cost: CostModel,
    budget: int,
    *,
    buffers: Buffers | None = None,
    seconds_per_voxel: float | None = None,
    chunks: Sequence[int] | None = None,
    max_voxels: int | None = None,
    box: Sequence[slice] | None = None,
    enough: Callable[[], float] | None = None,
) -> TileChoice:
    """Find the tile of least total work with a peak of at most `budget` bytes.

    Minimises the product of the total window lengths along the axes, so that few axes
    are split, preferably long ones. Among tiles that fit, those that take at most
    `SECONDS_PER_TILE` are preferred as long as the work stays below `ACCEPTED_FACTOR`.

    Parameters
    ----------
    shape : sequence of int
        Shape of the input.
    buffers : Buffers, optional
        Bytes per voxel held by the pipeline.
    seconds_per_voxel : float, optional
        Measured time of the network per input voxel; None if it is not known.
    chunks : sequence of int, optional
        Chunk of the target, in output voxels: planes of a 2D network are grouped so
        that no chunk is written twice.
    max_voxels : int, optional
        Voxels of the largest window known to fit (after an out-of-memory error).
    box : sequence of slice, optional
        Part of the input to restore.
    enough : callable, optional
        Returns the bytes of the smallest sufficient budget, if the size of the buffers
        depends on the budget; by default, the peak of the smallest tile is used.

    Raises
    ------
    DeviceMemoryError
        If no tile fits. For a whole volume, only tiles with a cost factor of up to
        `MAX_COST_FACTOR` are considered. The message gives the required memory.
    ModelError
        If the network must process the whole volume at once, and it does not fit.
    """
    layout = lay_out(shape, spec)
    target = clip_box(layout, box)
    stack = _planes_per_tile(layout, seconds_per_voxel, chunks)
    choices = _choices(layout, target, stack, cost, buffers or Buffers())
    # Exclude tiles that cost too much work, except after an out-of-memory error, when
    # only small tiles may be possible.
    if box is None and max_voxels is None:
        choices = _worthwhile(choices, MAX_COST_FACTOR)
    fitting = [c for c in choices if c.peak_bytes <= budget]
    if max_voxels is not None:
        smallest = min(c.window_voxels for c in choices)
        limit = max(max_voxels, smallest)
        fitting = [c for c in fitting if c.window_voxels <= limit]
    if not fitting:
        smallest_peak = min(c.peak_bytes for c in choices)
        _raise_too_small(smallest_peak if enough is None else enough(), spec, budget)
    cheapest = min(c.cost_factor for c in fitting)
    # The halo around a small region is unavoidable work.
    accepted = ACCEPTED_FACTOR * (1.0 if box is None else cheapest)
    return _best(fitting, layout, seconds_per_voxel, accepted)


def choose_tile_for_workers(
    shape: Sequence[int],
    spec: NetworkSpec,
    cost: CostModel,
    budget: int,
    n_workers: int,
    *,
    buffers: Buffers,
    max_voxels: int | None = None,
    enough: Callable[[], float] | None = None,
) -> TileChoice:
    """Find the tile with which several processes finish soonest.

    Unlike in `choose_tile`, the choice does not depend on the measured speed of the
    network. Only the measured time to decode a block of the source can affect it.

    Parameters
    ----------
    shape, spec, cost, buffers, max_voxels, enough
        As in `choose_tile`.
    budget : int
        Bytes for each process.
    n_workers : int
        Number of processes.

    Raises
    ------
    DeviceMemoryError, ModelError
        As in `choose_tile`.
    """
    layout = lay_out(shape, spec)
    box = clip_box(layout, None)
    stacks = _STACKS if layout.per_plane else (1,)
    choices = [c for n in stacks for c in _choices(layout, box, n, cost, buffers)]
    choices = _worthwhile(choices, MAX_COST_FACTOR)
    fitting = [c for c in choices if c.peak_bytes <= budget]
    if max_voxels is not None:
        limit = max(max_voxels, min(c.window_voxels for c in choices))
        fitting = [c for c in fitting if c.window_voxels <= limit]
    if not fitting:
        smallest = min(c.peak_bytes for c in choices)
        _raise_too_small(smallest if enough is None else enough(), spec, budget)
    cheapest = min(c.cost_factor for c in fitting)
    small = [c for c in fitting if math.prod(c.tile) <= _MAX_SHARED_VOXELS]
    if any(c.cost_factor <= ACCEPTED_FACTOR * cheapest for c in small):
        fitting = small

    def duration(choice: TileChoice) -> tuple[float, int, int]:
        """Return the relative time for all workers (1: ideal), and tie-breakers."""
        n_rounds = math.ceil(choice.n_tiles / n_workers)
        busiest = n_rounds * n_workers / choice.n_tiles
        # With fewer tiles, the wait for the slowest process is longer.
        uneven = 1 + n_workers / (4 * choice.n_tiles)
        time = round(choice.work() * busiest * uneven, 2)
        return time, choice.n_tiles, choice.reads.cache_bytes

    return min(fitting, key=duration)


def budget_for(
    layout: Layout,
    box: Box,
    cost: CostModel,
    buffers: Buffers,
    max_factor: float,
    work: Callable[[TileChoice], float] | None = None,
) -> int:
    """Return the smallest budget, in bytes, for which the work stays below a limit.

    Parameters
    ----------
    max_factor : float
        Maximum work, relative to computing every voxel of the box once.
    work : callable, optional
        Returns the work for a choice; by default, its cost factor.

    Returns
    -------
    int
        If no tile stays below the limit, the budget for the tile with the least work.
    """
    choices = _choices(layout, box, 1, cost, buffers)
    choices = _worthwhile(choices, max_factor, work)
    return min(c.peak_bytes for c in choices)


def _worthwhile(
    choices: Sequence[TileChoice],
    max_factor: float,
    work: Callable[[TileChoice], float] | None = None,
) -> list[TileChoice]:
    """Find the tiles with work within a limit, or, if there are none, the cheapest.

    By default, work is counted rather than timed, so that the result is reproducible.
    """
    factors = [c.cost_factor if work is None else work(c) for c in choices]
    limit = max(max_factor, min(factors))
    return [c for c, f in zip(choices, factors, strict=True) if f <= limit]


def _choices(
    layout: Layout, box: Box, stack: int, cost: CostModel, buffers: Buffers
) -> list[TileChoice]:
    """List all tiles worth trying, with their costs."""
    cuts = [
        [
            _cut(layout, box, axis, length, buffers)
            for length in _lengths(layout, box, axis, stack)
        ]
        for axis in range(3)
    ]
    return [
        choice
        for z, y, x in itertools.product(*cuts)
        for choice in _combine(layout, z, y, x, cost, buffers)
    ]


def _best(
    fitting: Sequence[TileChoice],
    layout: Layout,
    seconds_per_voxel: float | None,
    accepted: float,
) -> TileChoice:
    def total(choice: TileChoice) -> float:
        """Return the time for computing and decoding."""
        return choice.work(seconds_per_voxel)

    def work(choice: TileChoice) -> tuple[float, int, int]:
        """Return the total cost of a choice; lower is better."""
        return (round(total(choice), 2), choice.n_tiles, choice.reads.cache_bytes)

    def seconds(choice: TileChoice) -> float:
        """Return the duration of a tile in seconds; 0 if the speed is unknown."""
        planes = choice.tile[0] if layout.per_plane else 1
        return choice.window_voxels * planes * (seconds_per_voxel or 0.0)

    cheapest = min(fitting, key=work)
    quick = [c for c in fitting if seconds(c) <= SECONDS_PER_TILE]
    if quick:
        choice = min(quick, key=work)
        if total(choice) <= max(accepted, total(cheapest) * 1.02):
            return choice
    # No tile is fast enough: take the fastest of those that cost little more than the
    # cheapest. Cancelling takes effect within a tile.
    cheap = [c for c in fitting if total(c) <= max(accepted, total(cheapest) * 1.03)]
    return min(cheap, key=lambda c: (seconds(c), work(c)))


@dataclass(frozen=True)
class _AxisCut:
    """One axis cut into pieces of length `tile`."""

    tile: int
    n_pieces: int
    factor: float
    longest_core: int
    longest_window: int
    blocks: BlocksAlong | None


def _cut(layout: Layout, box: Box, axis: int, tile: int, buffers: Buffers) -> _AxisCut:
    pieces = cut_axis(layout, axis, tile, box[axis])
    windows = [w.stop - w.start for _, w in pieces]
    blocks = None
    if buffers.unit is not None:
        block = unit_along(buffers.unit)[axis]
        blocks = blocks_along(layout, axis, [w for _, w in pieces], block)
    return _AxisCut(
        tile=tile,
        n_pieces=len(pieces),
        factor=sum(windows) / padded_span(layout, axis, box[axis]),
        longest_core=max(c.stop - c.start for c, _ in pieces),
        longest_window=max(windows),
        blocks=blocks,
    )


def weigh_tile(
    layout: Layout,
    box: Box,
    tile: Size,
    cost: CostModel,
    buffers: Buffers,
    budget: int,
) -> TileChoice:
    """Return the cost of dividing a box into tiles of this size.

    The source is read with as much cache as is useful within the budget.

    Parameters
    ----------
    layout : Layout
    box : tuple of slice
        Part of the input to restore, along Z, Y and X.
    tile : (int, int, int)
        Core size along Z, Y and X; multiples of the stride.
    cost : CostModel
        Memory of the network.
    buffers : Buffers
        Buffers of the pipeline.
    budget : int
        Bytes that the run may use.
    """
    z, y, x = (_cut(layout, box, axis, tile[axis], buffers) for axis in range(3))
    choices = _combine(layout, z, y, x, cost, buffers)
    fitting = [c for c in choices if c.peak_bytes <= budget]
    if not fitting:
        return min(choices, key=lambda c: c.peak_bytes)
    return min(fitting, key=lambda c: (round(c.work(), 2), c.reads.cache_bytes))


def _combine(
    layout: Layout,
    z: _AxisCut,
    y: _AxisCut,
    x: _AxisCut,
    cost: CostModel,
    buffers: Buffers,
) -> list[TileChoice]:
    """Return a choice for each useful way to read the source."""
    core = (z.longest_core, y.longest_core, x.longest_core)
    window = (z.longest_window, y.longest_window, x.longest_window)
    ways = [DIRECT]
    if buffers.unit is not None and z.blocks and y.blocks and x.blocks:
        ways = ways_to_read(buffers.unit, z.blocks, y.blocks, x.blocks)
    peak = int(tile_peak(layout, cost, buffers, core, window))
    return [
        TileChoice(
            tile=(z.tile, y.tile, x.tile),
            peak_bytes=peak + reads.held_bytes,
            cost_factor=z.factor * y.factor * x.factor,
            n_tiles=z.n_pieces * y.n_pieces * x.n_pieces,
            window_voxels=math.prod(window[1:] if layout.per_plane else window),
            reads=reads,
        )
        for reads in ways
    ]


def _lengths(layout: Layout, box: Box, axis: int, stack: int) -> list[int]:
    """Return the tile lengths worth trying along an axis."""
    stride = layout.stride[axis]
    span = box[axis].stop - box[axis].start // stride * stride
    if axis == 0 and layout.per_plane:
        return sorted({1, min(stack, span)})
    if layout.halo[axis] >= layout.padded[axis]:  # every window spans the whole axis
        return [math.ceil(span / stride) * stride]
    n_max = math.ceil(span / stride)
    parts, k = {1, 2, 3, 4, 5, 6, 7, 8, n_max}, 8.0
    while k < n_max:
        k *= 1.4
        parts.add(int(k))
    return sorted(
        {math.ceil(math.ceil(span / p) / stride) * stride for p in parts if p <= n_max}
    )


def _planes_per_tile(
    layout: Layout, seconds_per_voxel: float | None, chunks: Sequence[int] | None
) -> int:
    if not layout.per_plane:
        return 1
    n_planes = 1
    if seconds_per_voxel:
        plane = math.prod(layout.padded[1:]) * seconds_per_voxel
        n_planes = min(16, max(1, int(_SECONDS_PER_STACK / plane)))
    if chunks is not None and len(chunks) == 3 and chunks[0] > 1:
        n_planes = -(-n_planes // chunks[0]) * chunks[0]
    return n_planes


def cut_to_budget(
    tiles: Sequence[Tile],
    layout: Layout,
    cost: CostModel,
    buffers: Buffers,
    budget: int,
) -> list[Tile]:
    """Halve tiles until each fits, using the memory measured on the first tile.

    Parameters
    ----------
    tiles : sequence of Tile
        The remaining tiles.
    layout : Layout
    cost : CostModel
        Memory of the network, updated with the memory measured on the first tile.
    buffers : Buffers
        Buffers of the pipeline.
    budget : int
        Bytes that the run may use.

    Raises
    ------
    DeviceMemoryError
        If the smallest tiles worth computing need more than `TOLERANCE` times the
        budget.
    """
    remaining = list(tiles)
    max_work = max(MAX_COST_FACTOR, 8 * work_factor(remaining))
    while True:
        sizes = {(tile.core_shape, tile.window_shape) for tile in remaining}
        peak = max((tile_peak(layout, cost, buffers, *s) for s in sizes), default=0)
        if peak <= budget:
            return remaining
        halves = [half for tile in remaining for half in split(tile, layout) or (tile,)]
        if len(halves) > len(remaining) and work_factor(halves) <= max_work:
            remaining = halves
            continue
        if peak <= TOLERANCE * budget:
            return remaining
        raise DeviceMemoryError(
            "The first tile took more memory than expected: with "
            f"{format_bytes(budget)}, not even the smallest useful tile fits; it "
            f"needs {format_enough(peak)}. Increase the Memory setting (--memory), "
            "close other programs, or choose another model."
        )


def work_factor(tiles: Sequence[Tile]) -> float:
    """Return the ratio of the voxels computed to the voxels of the tiles."""
    computed = sum(math.prod(tile.window_shape) for tile in tiles)
    return computed / max(1, sum(math.prod(tile.core_shape) for tile in tiles))


def _raise_too_small(enough: float, spec: NetworkSpec, budget: int) -> NoReturn:
    needed, given = format_enough(enough), format_available(budget)
    if not spec.local:
        raise WholeVolumeMemoryError(
            "This model uses statistics of the whole image and cannot be tiled "
            f"exactly; for the whole volume it needs {needed} of memory, but the "
            f"budget is {given}. Choose another model, restore a smaller volume, or "
            "increase the Memory setting (--memory).",
            enough=enough,
        )
    raise DeviceMemoryError(
        f"The smallest useful tile of this model needs {needed} of memory, but the "
        f"budget is {given}. Increase the Memory setting (--memory), close other "
        "programs, or choose another model.",
        enough=enough,
    )
