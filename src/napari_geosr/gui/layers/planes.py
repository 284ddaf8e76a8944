"""Read single projections and sinograms of a scan from its file, without Qt."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import BlockDone, ShouldStop, Step
from napari_geosr.core.types import AnyArray

#: Size of the cache of each view, in bytes; planes that were just read always fit.
_CACHE_BYTES = 64 * 2**20
#: Size of one read from the file, in bytes.
_READ_BYTES = 4 * 2**20

Image = AnyArray
Block = tuple[slice, ...]


class Planes:
    """The planes of projections along one axis; the latest are cached.

    Parameters
    ----------
    projections : array-like of shape (angle, row, column)
        NumPy array, or a lazy array in a file.

    Attributes
    ----------
    shape : tuple of int
        Four axes: angle, detector row, height and width of a plane. Of the first two
        axes, the one that lies in the planes has size 1.
    along : int
        The axis along which the planes are counted: the other of the first two axes.
    """

    shape: tuple[int, int, int, int]
    along: int

    def __init__(self, projections: Any) -> None:
        self.projections = projections
        self._cache: dict[int, Image] = {}

    @property
    def are_in_memory(self) -> bool:
        """Whether the projections are in memory."""
        return type(self.projections) is np.ndarray

    def get(self, plane: int) -> Image | None:
        """Return a cached plane, or None."""
        return self._cache.get(plane)

    def read_steps(
        self, plane: int, should_stop: ShouldStop
    ) -> Generator[Step, None, Image]:
        """Read a plane in pieces, and cache neighbours that take no extra time.

        Yields
        ------
        Step
            `BlockDone`.

        Returns
        -------
        ndarray

        Raises
        ------
        Cancelled
            If `should_stop` returns True.
        FileError
            If the file cannot be read.
        """
        raise NotImplementedError

    def block(self, key: Block) -> AnyArray:
        """Read a box of any size, without caching it."""
        raise NotImplementedError

    def _add_to_cache(self, planes: Mapping[int, Image]) -> None:
        """Cache the planes just read, the latest last, and as many others as fit."""
        room = _CACHE_BYTES - sum(image.nbytes for image in planes.values())
        cache = dict(planes)
        for plane, image in reversed(self._cache.items()):
            room -= image.nbytes
            if room < 0:
                break
            if plane not in planes:
                cache = {plane: image} | cache
        self._cache = cache


class Frames(Planes):
    """Projections, shape (angle, 1, row, column)."""

    along = 0

    def __init__(self, projections: Any) -> None:
        super().__init__(projections)
        n_angles, n_rows, n_columns = (int(n) for n in projections.shape)
        self.shape = (n_angles, 1, n_rows, n_columns)

    def read_steps(
        self, plane: int, should_stop: ShouldStop
    ) -> Generator[Step, None, Image]:
        """Read one projection."""
        yield from ()
        frame: Image = np.asarray(self.projections[plane : plane + 1, :, :])[0]
        if should_stop():
            raise Cancelled("Cancelled.")
        self._add_to_cache({plane: frame})
        return frame

    def block(self, key: Block) -> AnyArray:
        """Read a box of any size."""
        angle, one, row, column = key
        return np.asarray(self.projections[angle, row, column])[:, None][:, one]


class Sinograms(Planes):
    """Sinograms, shape (1, row, angle, column)."""

    along = 1

    def __init__(self, projections: Any) -> None:
        super().__init__(projections)
        n_angles, n_rows, n_columns = (int(n) for n in projections.shape)
        self.shape = (1, n_rows, n_angles, n_columns)

    def read_steps(
        self, plane: int, should_stop: ShouldStop
    ) -> Generator[Step, None, Image]:
        """Read a row of all projections, and the rows that are decoded with it."""
        first, last = self._row_range(plane)
        _, _, n_angles, n_columns = self.shape
        dtype = np.dtype(self.projections.dtype)
        band: Image = np.empty((last - first, n_angles, n_columns), dtype)
        n_read = self._angles_per_read()
        for start in range(0, n_angles, n_read):
            stop = min(start + n_read, n_angles)
            part = np.asarray(self.projections[start:stop, first:last, :])
            if should_stop():
                raise Cancelled("Cancelled.")
            band[:, start:stop] = part.swapaxes(0, 1)
            yield BlockDone(stop, n_angles)
        # Add rows farther away first, because the cache drops the oldest rows first.
        rows = sorted(range(first, last), key=lambda row: -abs(row - plane))
        self._add_to_cache({row: band[row - first] for row in rows})
        image: Image = band[plane - first]
        return image

    def block(self, key: Block) -> AnyArray:
        """Read a box of any size."""
        one, row, angle, column = key
        read = np.asarray(self.projections[angle, row, column])
        return read.swapaxes(0, 1)[None][one]

    def _chunks(self) -> tuple[int, int]:
        """Return the angles and rows per chunk of the file."""
        chunks = getattr(self.projections, "chunks", None)
        if isinstance(chunks, tuple) and all(isinstance(n, int) for n in chunks):
            return chunks[0], chunks[1]
        return 1, 1

    def _row_range(self, row: int) -> tuple[int, int]:
        """Return the rows that are decoded with row `row` and fit into the cache."""
        _, n_rows, n_angles, n_columns = self.shape
        row_bytes = n_angles * n_columns * np.dtype(self.projections.dtype).itemsize
        height = self._chunks()[1]
        first = row - row % height
        last = min(first + height, n_rows)
        n_rows_cached = max(1, _CACHE_BYTES // row_bytes)
        if last - first > n_rows_cached:
            first = min(max(first, row - n_rows_cached // 2), last - n_rows_cached)
            last = first + n_rows_cached
        return first, last

    def _angles_per_read(self) -> int:
        """Return the number of projections per read, in whole chunks of the file."""
        depth, height = self._chunks()
        itemsize = np.dtype(self.projections.dtype).itemsize
        decoded = depth * height * self.shape[3] * itemsize
        return int(depth * max(1, _READ_BYTES // decoded))
