"""Reads detector rows in bands, because files store one projection after another."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import ArrayLike
from napari_geosr.tomography.preprocess import ClippingReport, LineIntegrals

#: Number of bytes read between two calls of `should_stop`.
_PIECE = 32 * 1024**2


class RowBands:
    """Images (n, row, column) from a file, with a band of rows cached in memory.

    Data are stored image by image, usually in chunks of a whole image: reading some
    rows of all images takes as long as reading everything, so many rows are read at
    once. All requests except those for ranges of rows are passed to the source.

    Parameters
    ----------
    source : ArrayLike of shape (n, row, column)
    n_rows : int
        Number of rows in a band.
    should_stop : callable
        Called while a band is read.
    """

    def __init__(
        self, source: ArrayLike, n_rows: int, should_stop: ShouldStop = never_stop
    ) -> None:
        self.source = source
        self.n_rows = max(1, n_rows)
        self.should_stop = should_stop
        self.shape: tuple[int, ...] = tuple(int(n) for n in source.shape)
        self.dtype = np.dtype(source.dtype)
        self.ndim = 3
        self.n_read = 0
        self._start = 0
        self._band: AnyArray | None = None

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> AnyArray:
        return np.asarray(self.source[:, :, :], dtype=dtype)

    def __getitem__(self, key: Any) -> AnyArray:
        whole = slice(None)
        is_rows = isinstance(key, tuple) and len(key) == 3
        if not (is_rows and key[0] == key[2] == whole and isinstance(key[1], slice)):
            return self.source[key]
        start, stop, step = key[1].indices(self.shape[1])
        if step != 1 or stop <= start:
            return self.source[key]
        band = self._band
        if band is None or not (
            self._start <= start and stop <= self._start + band.shape[1]
        ):
            band = self._read(start, max(stop, start + self.n_rows))
        return band[:, start - self._start : stop - self._start]

    def _read(self, start: int, stop: int) -> AnyArray:
        self._band = None  # free the memory of the previous band first
        stop = min(stop, self.shape[1])
        n_frames, _, n_columns = self.shape
        band = np.empty((n_frames, stop - start, n_columns), self.dtype)
        frame = self.shape[1] * n_columns * self.dtype.itemsize
        piece = max(1, _PIECE // frame)
        for first in range(0, n_frames, piece):
            if self.should_stop():
                raise Cancelled("Stopped while projections were being read.")
            part = slice(first, first + piece)
            band[part] = self.source[part, start:stop, :]
        self._start, self._band = start, band
        self.n_read += 1
        return band


def in_bands(
    scan: Projections, n_rows: int, should_stop: ShouldStop = never_stop
) -> Projections:
    """Read the rows of a scan in bands; arrays in memory are returned unchanged."""

    def banded(frames: Any) -> Any:
        if frames is None or isinstance(frames, np.ndarray):
            return frames
        return RowBands(frames, n_rows, should_stop)

    return scan.replace(
        data=banded(scan.data), flats=banded(scan.flats), darks=banded(scan.darks)
    )


class RowIntegrals:
    """Line integrals of ranges of rows, which may overlap (slabs of a cone beam).

    Parameters
    ----------
    prepared : LineIntegrals
        Line integrals with rows that are independent of each other.
    overlapping : bool
        Whether to keep the rows of each call for the next call, which needs some of
        them.
    """

    def __init__(self, prepared: LineIntegrals, *, overlapping: bool) -> None:
        self.prepared = prepared
        self.overlapping = overlapping
        self._kept: npt.NDArray[np.float32] | None = None
        self._start = 0

    def rows(
        self, start: int, stop: int, first_reported: int = 0
    ) -> tuple[npt.NDArray[np.float32], ClippingReport]:
        """Return the line integrals of the rows `start` … `stop` - 1.

        Parameters
        ----------
        first_reported : int
            Clipped and repaired values in rows before this one are not reported again.

        Returns
        -------
        rows : ndarray of shape (row, angle, column)
        report : ClippingReport
            Clipped and repaired values in the rows from `first_reported` on.
        """
        parts: list[npt.NDArray[np.float32]] = []
        report = ClippingReport()
        at = start
        kept, self._kept = self._kept, None
        if kept is not None and self._start <= start < self._start + len(kept):
            parts.append(kept[start - self._start : stop - self._start])
            at += len(parts[0])
        for first, end in (
            (at, min(stop, first_reported)),
            (max(at, first_reported), stop),
        ):
            if first < end:
                part, found_there = self.prepared.rows(first, end)
                parts.append(part)
                if first >= first_reported:
                    report += found_there
        found = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.overlapping:
            self._kept, self._start = found, start
        return found, report

    def forget(self) -> None:
        """Discard the kept rows, so that they are prepared and reported again."""
        self._kept = None
