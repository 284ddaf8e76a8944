"""Restores tiles of a volume while a viewer shows them.

The arrays of this module do not compute anything: voxels that are not yet restored are
NaN until `LiveTiles.steps` restores them in a worker. If a tile takes a long time, a
quick version is first restored from every fourth voxel along Y and X.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_geosr.core.array_parts.indexing import as_slices
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.inference.memory import network_spec
from napari_geosr.inference.runner import restore_region

if TYPE_CHECKING:
    from napari_geosr.core.volume import ArrayLike, Volume
    from napari_geosr.networks.spec import NetworkSpec
    from napari_geosr.operations.restore.preparation import PreparedRestoration

#: Edge length of a tile in voxels of the result. A plane of the last level fits into
#: one tile.
EDGE = 512
#: Maximum number of tiles per request, because in 3D a viewer requests every plane.
_MAX_TILES = 64
#: Spacing, in voxels of the tile's level, of the voxels from which the quick version of
#: a tile is restored.
QUICK_STEP = 4
#: Quick versions are restored first if the latest tile took longer than this, in
#: seconds.
_QUICK_SECONDS = 0.5
#: Minimum edge length of a tile with a quick version, in input voxels of its level.
_MIN_QUICK_EDGE = 64
#: Maximum number of quick versions; the oldest are removed.
_MAX_QUICK = 256
#: Maximum memory of restored tiles in bytes; the least recently used are removed.
_CACHE_BYTES = 256 * 2**20


#: Number of planes of the result in a tile if a super-resolution network has a large
#: halo along Z: most of the work is for the halo, which these planes share.
_SHARED_PLANES = 8
#: Smallest halo that counts as large, in planes.
_LARGE_HALO = 8


class LiveTile(NamedTuple):
    """Position of a tile: its level, slab of input planes, row and column."""

    level: int
    plane: int
    row: int
    column: int


def _planes_per_tile(spec: NetworkSpec, factors: Sequence[int]) -> int:
    """Return the number of planes of the input in a tile."""
    if len(spec.axes) < 3 or factors[0] == 1 or spec.halo[0] < _LARGE_HALO:
        return 1
    return max(1, _SHARED_PLANES // factors[0])


class CoarseScan:
    """Every n-th voxel along Y and X of an array, read on demand.

    Voxels are skipped, not averaged, so that the noise remains that of the scan.
    """

    def __init__(self, data: ArrayLike, step: int) -> None:
        self._data, self._step = data, step
        rows, columns = (-(-n // step) for n in data.shape[-2:])
        self.shape = (*data.shape[:-2], rows, columns)
        self.dtype, self.ndim = data.dtype, data.ndim

    def __getitem__(self, key: object) -> AnyArray:
        parts, after = as_slices(key, self.shape)
        step = self._step
        fine = [
            slice(part.start * step, max(part.start, part.stop - 1) * step + 1)
            for part in parts[-2:]
        ]
        found = np.asarray(self._data[(*parts[:-2], *fine)])[..., ::step, ::step]
        sizes = (part.stop - part.start for part in parts)
        cut: AnyArray = found[tuple(slice(0, n) for n in sizes)]
        return np.asarray(cut[after])


class LiveTiles:
    """Restored tiles of a volume at several levels of resolution.

    Parameters
    ----------
    prepared : PreparedRestoration
        Prepared run of one spatial volume; its result contains grey values.

    Attributes
    ----------
    levels : list of LiveLevel
        Arrays of the whole result; each has half the resolution of the one before.
    """

    def __init__(self, prepared: PreparedRestoration) -> None:
        self._prepared = prepared
        self._lock = threading.Lock()
        self._waiting: OrderedDict[LiveTile, None] = OrderedDict()
        self._done: OrderedDict[LiveTile, AnyArray] = OrderedDict()
        self._quick: OrderedDict[LiveTile, AnyArray] = OrderedDict()
        #: Time taken by the latest tile, in seconds.
        self._seconds = math.inf
        self._nbytes = 0
        self._shown = 0
        self.on_request: Callable[[], None] = lambda: None
        factors, data = prepared.factors, prepared.volume.data
        longest = max(n * s for n, s in zip(data.shape[-2:], factors[-2:], strict=True))
        n_levels = 1 + max(0, math.ceil(math.log2(longest / EDGE)))
        self._n_planes = _planes_per_tile(network_spec(prepared.network), factors)
        self._sources = [
            data if level == 0 else CoarseScan(data, 2**level)
            for level in range(n_levels)
        ]
        self.levels = [LiveLevel(self, level) for level in range(n_levels)]

    @property
    def volume(self) -> Volume:
        """The scan."""
        return self._prepared.volume

    @property
    def factors(self) -> tuple[int, ...]:
        """Upscale factor along each axis."""
        return tuple(self._prepared.factors)

    def source_shape(self, level: int) -> tuple[int, ...]:
        """Return the shape of the input at a level."""
        return tuple(self._sources[level].shape)

    def show(self, level: int) -> None:
        """Set the level on screen; its tiles are restored first."""
        with self._lock:
            self._shown = level

    def find(self, tile: LiveTile) -> AnyArray | None:
        """Return a tile; if it is not restored yet, request it and return None."""
        with self._lock:
            found = self._done.get(tile)
            if found is not None:
                self._done.move_to_end(tile)
                return found
            is_new = tile not in self._waiting
            # Drop requests for planes that are no longer on screen.
            for other in [*self._waiting]:
                if other.level == tile.level and other.plane != tile.plane:
                    del self._waiting[other]
            self._waiting[tile] = None
            self._waiting.move_to_end(tile)
            while len(self._waiting) > _MAX_TILES:
                self._waiting.popitem(last=False)
        if is_new:
            self.on_request()
        return None

    def find_quick(self, tile: LiveTile) -> AnyArray | None:
        """Return the quick version of a tile that is not restored yet, if available.

        The quick version has the shape of the tile.
        """
        found = self._quick.get(tile)
        if found is None:
            return None
        for axis in (-2, -1):
            found = found.repeat(QUICK_STEP, axis)
        sizes = [
            (part.stop - part.start) * s
            for part, s in zip(self.region(tile), self.factors, strict=True)
        ]
        return found[tuple(slice(0, n) for n in sizes)]

    def step_on_screen(self, level: int) -> int:
        """Return the step between the input voxels that are shown at a level."""
        with self._lock:
            is_quick = any(
                tile.level == level and tile in self._quick for tile in self._waiting
            )
        return int(2**level) * (QUICK_STEP if is_quick else 1)

    @property
    def is_waiting(self) -> bool:
        """Whether there are tiles to restore."""
        return bool(self._waiting)

    def drop_requests(self) -> None:
        """Discard all requests."""
        with self._lock:
            self._waiting.clear()

    def forget(self) -> None:
        """Discard all requests and tiles, and release the memory."""
        with self._lock:
            self.on_request = lambda: None
            self._waiting.clear()
            self._done.clear()
            self._quick.clear()
            self._nbytes = 0

    def steps(
        self, *, should_stop: ShouldStop = never_stop
    ) -> Generator[Step, None, None]:
        """Restore the requested tiles: first those on screen, then the newest requests.

        Unless tiles are known to be fast, quick versions of the tiles on screen are
        restored first. If the request for a tile is withdrawn, its restoration stops.

        Yields
        ------
        Step
            One for each tile, and for each quick version.

        Raises
        ------
        GeoSRError
            If a tile cannot be restored; all requests are then discarded.
        """
        while not should_stop() and (tile := self._next()) is not None:
            quick = self._next_quick()
            try:
                if quick is not None:
                    self._restore_quick(quick, should_stop)
                else:
                    started = time.perf_counter()
                    found = self._restore(tile, should_stop)
                    self._seconds = time.perf_counter() - started
                    self._keep(tile, found)
            except Cancelled:
                continue
            except BaseException:
                with self._lock:
                    self._waiting.clear()
                raise
            yield Step()

    def _next(self) -> LiveTile | None:
        with self._lock:
            newest = list(reversed(self._waiting))
            shown = (tile for tile in newest if tile.level == self._shown)
            return next(itertools.chain(shown, newest), None)

    def _next_quick(self) -> LiveTile | None:
        """Return the next tile on screen that needs a quick version, if any."""
        if self._seconds <= _QUICK_SECONDS:
            return None
        with self._lock:
            for tile in reversed(self._waiting):
                sizes = [part.stop - part.start for part in self.region(tile)[-2:]]
                if (
                    tile.level == self._shown
                    and tile not in self._quick
                    and min(sizes) >= _MIN_QUICK_EDGE
                ):
                    return tile
        return None

    def _restore_quick(self, tile: LiveTile, should_stop: ShouldStop) -> None:
        source = CoarseScan(self._prepared.volume.data, 2**tile.level * QUICK_STEP)
        *planes, rows, columns = self.region(tile)
        parts = [
            slice(part.start // QUICK_STEP, -(-part.stop // QUICK_STEP))
            for part in (rows, columns)
        ]
        found = self._restore(tile, should_stop, source, (*planes, *parts))
        with self._lock:
            self._quick[tile] = found.astype(np.float32, copy=False)
            while len(self._quick) > _MAX_QUICK:
                self._quick.popitem(last=False)

    def _restore(
        self,
        tile: LiveTile,
        should_stop: ShouldStop,
        source: ArrayLike | None = None,
        region: tuple[slice, ...] | None = None,
    ) -> AnyArray:
        """Restore a tile (or `region`) unless the request for the tile is withdrawn."""
        prepared = self._prepared
        return restore_region(
            prepared.network,
            self._sources[tile.level] if source is None else source,
            self.region(tile) if region is None else region,
            statistics=prepared.statistics,
            device=prepared.device,
            budget=prepared.budget,
            nonfinite=prepared.config.nonfinite,
            threads=prepared.config.threads,
            should_stop=lambda: should_stop() or tile not in self._waiting,
        )

    def region(self, tile: LiveTile) -> tuple[slice, ...]:
        """Return the region of a level's input that a tile covers."""
        shape = self.source_shape(tile.level)
        edges = self.tile_edges
        parts = [
            slice(i * edge, min(n, (i + 1) * edge))
            for i, edge, n in zip(tile[2:], edges, shape[-2:], strict=True)
        ]
        if len(shape) == 2:
            return tuple(parts)
        first = tile.plane * self._n_planes
        return (slice(first, min(shape[0], first + self._n_planes)), *parts)

    @property
    def n_planes(self) -> int:
        """Number of planes of the input in a tile."""
        return self._n_planes

    @property
    def tile_edges(self) -> tuple[int, ...]:
        """Edge lengths of a tile in voxels of a level's input."""
        return tuple(max(1, EDGE // s) for s in self.factors[-2:])

    @property
    def chunk_edges(self) -> tuple[int, ...]:
        """Edge lengths of a tile in voxels of the result."""
        pairs = zip(self.tile_edges, self.factors[-2:], strict=True)
        return tuple(edge * s for edge, s in pairs)

    def _keep(self, tile: LiveTile, found: AnyArray) -> None:
        found = found.astype(np.float32, copy=False)
        with self._lock:
            self._waiting.pop(tile, None)
            self._quick.pop(tile, None)
            self._done[tile] = found
            self._nbytes += found.nbytes
            while self._nbytes > _CACHE_BYTES and len(self._done) > 1:
                _, oldest = self._done.popitem(last=False)
                self._nbytes -= oldest.nbytes


class LiveLevel:
    """The result at one level as an array, with NaN where it is not restored yet.

    Reading takes milliseconds and requests the missing tiles.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, tiles: LiveTiles, level: int) -> None:
        self._tiles, self._level = tiles, level
        shape = tiles.source_shape(level)
        self.shape = tuple(n * s for n, s in zip(shape, tiles.factors, strict=True))
        self.ndim = len(shape)

    def __getitem__(self, key: object) -> AnyArray:
        parts, after = as_slices(key, self.shape)
        shape = tuple(part.stop - part.start for part in parts)
        out = np.full(shape, np.nan, self.dtype)
        places = list(itertools.islice(self._places(parts), _MAX_TILES + 1))
        if len(places) > _MAX_TILES:
            return np.asarray(out[after])
        for tile in places:
            found = self._tiles.find(tile)
            if found is None:
                found = self._tiles.find_quick(tile)
            if found is not None:
                self._copy(found, tile, parts, out)
        return np.asarray(out[after])

    def _places(self, parts: tuple[slice, ...]) -> Iterator[LiveTile]:
        """Yield the tiles that overlap a part of the result."""
        if any(part.stop <= part.start for part in parts):
            return
        factors, edges = self._tiles.factors, self._tiles.tile_edges
        units = [self._tiles.n_planes] * (len(parts) - 2) + list(edges)
        ranges = [
            range(part.start // (s * unit), (part.stop - 1) // (s * unit) + 1)
            for part, s, unit in zip(parts, factors, units, strict=True)
        ]
        for place in itertools.product(*ranges):
            plane = place[0] if len(place) == 3 else 0
            yield LiveTile(self._level, plane, *place[-2:])

    def _copy(
        self, found: AnyArray, tile: LiveTile, parts: tuple[slice, ...], out: AnyArray
    ) -> None:
        region = self._tiles.region(tile)
        to, of = [], []
        for part, there, s in zip(parts, region, self._tiles.factors, strict=True):
            start = max(part.start, there.start * s)
            stop = min(part.stop, there.stop * s)
            to.append(slice(start - part.start, stop - part.start))
            of.append(slice(start - there.start * s, stop - there.start * s))
        out[tuple(to)] = found[tuple(of)]
