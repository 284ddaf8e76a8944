"""Read standardised windows and convert network outputs to grey values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from napari_geosr.core.errors import FileError, GeoSRError, VolumeError
from napari_geosr.core.grey_values.hot_voxels import HotVoxelFilter, HotVoxels
from napari_geosr.core.types import AnyArray, AnyDType
from napari_geosr.core.volume import ArrayLike
from napari_geosr.inference.padding import padded_voxels
from napari_geosr.inference.tiles.tiling import Box, Layout, Tile, reflect
from napari_geosr.io.mapping import RELEASE_BYTES, release_pages

NonFinite = Literal["mean", "zero", "refuse"]


class Standardisation(Protocol):
    """The grey scales of a run; implemented by `IntensityStatistics`.

    They consist of the mean of the *whole* input, the mean and standard deviation used
    to scale the network's input and output, the criterion for any hot voxels, and the
    grey value of any padding. The mean and standard deviation for scaling are those of
    the whole input, or stored in the model.
    """

    @property
    def mean(self) -> float: ...

    @property
    def input_mean(self) -> float: ...

    @property
    def input_std(self) -> float: ...

    @property
    def output_mean(self) -> float: ...

    @property
    def output_std(self) -> float: ...

    @property
    def hot(self) -> HotVoxels | None: ...

    @property
    def padding(self) -> float | None: ...


@dataclass
class WindowReader:
    """Reads standardised windows of a source, with invalid voxels replaced.

    Non-finite voxels are set to a fixed value, hot voxels to the median of their
    neighbours.

    Parameters
    ----------
    source : ArrayLike
        2D or 3D, any real dtype.
    statistics : Standardisation
        Statistics of the whole volume, never of a window.
    nonfinite : {"mean", "zero", "refuse"}
        Replacement for NaN and infinite voxels in the network's input: the mean of the
        finite voxels, or zero; ``"refuse"`` raises a `VolumeError`.
    dtype : str
        ``"float32"`` or ``"float64"``: precision of the network.
    """

    source: ArrayLike
    layout: Layout
    statistics: Standardisation
    nonfinite: NonFinite = "mean"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        hot = self.statistics.hot
        #: The source, with hot voxels replaced if there are any.
        self._clean = self.source if hot is None else HotVoxelFilter(self.source, hot)
        #: The planes read last, by Z, and the rows and columns that they cover:
        #: neighbouring tiles of a 2.5D network share planes, and decoding is slow.
        self._planes: dict[int, AnyArray] = {}
        self._planes_at: tuple[slice, slice] | None = None

    def read(self, tile: Tile) -> tuple[AnyArray, AnyArray | None]:
        """Read the tile's window and find the voxels of its core that are not finite.

        Returns
        -------
        block : ndarray of shape (Z, Y, X)
            With `Layout.context` additional planes at either end.
        missing : ndarray of the core's shape, bool, or None
            None if every voxel of the core is finite.
        """
        layout, indices = self.layout, []
        for axis, part in enumerate(tile.window):
            around = layout.context if axis == 0 else 0
            positions = np.arange(part.start - around, part.stop + around)
            indices.append(reflect(positions, layout.shape[axis]))
        block = np.empty([len(i) for i in indices], self.dtype)
        planes, rows, columns = self._core_of(tile)
        missing: AnyArray | None = None
        for part in self._parts(indices):
            raw = self._read([indices[0][part], *indices[1:]])
            invalid = None
            if raw.dtype.kind == "f":
                finite = np.isfinite(raw)
                if not finite.all():
                    invalid = ~finite
                    low = max(planes.start, part.start)
                    high = max(low, min(planes.stop, part.stop))
                    inside = invalid[
                        low - part.start : high - part.start, rows, columns
                    ]
                    if inside.any():
                        if missing is None:
                            missing = np.zeros(tile.core_shape, bool)
                        missing[low - planes.start : high - planes.start] = inside
                    if self.nonfinite == "refuse":
                        raise VolumeError(
                            "The input has NaN or infinite voxels near "
                            f"{_format_position(tile)}. Choose how to replace them, or "
                            "repair the input."
                        )
            block[part] = self._standardise(raw, invalid)
            del raw
            release_pages(self.source)
        return block, missing

    def _parts(self, indices: Sequence[AnyArray]) -> Iterator[slice]:
        """Yield planes that are read together: all, or a few if memory-mapped."""
        n = len(indices[0])
        step = n
        if isinstance(self.source, np.memmap):
            row = self.source.shape[-1] * self.source.itemsize
            step = max(1, RELEASE_BYTES // max(1, len(indices[1]) * row))
        for first in range(0, n, step):
            yield slice(first, min(n, first + step))

    def _read(self, indices: Sequence[AnyArray]) -> AnyArray:
        try:
            return self._gather(indices)
        except (GeoSRError, MemoryError):
            raise
        except Exception as error:  # file libraries may raise any error
            raise FileError(
                f"Planes {indices[0].min()} to {indices[0].max()} of the input could "
                f"not be read: {error}. Check that the file is complete and "
                "accessible."
            ) from error

    def _standardise(self, raw: AnyArray, invalid: AnyArray | None) -> AnyArray:
        mean, std = self.statistics.input_mean, self.statistics.input_std
        # Wide types lose digits if converted to float32 before subtracting the mean.
        wide = raw.dtype.itemsize > 4 or (
            raw.dtype.kind in "ui" and raw.dtype.itemsize > 2
        )
        block = raw.astype("float64" if wide else self.dtype)
        block -= block.dtype.type(mean)
        block *= block.dtype.type(1.0 / std)
        if invalid is not None:
            value = self.statistics.mean if self.nonfinite == "mean" else 0.0
            block[invalid] = (value - mean) / std
        return block.astype(self.dtype, copy=False)

    def _gather(self, indices: Sequence[AnyArray]) -> AnyArray:
        if self.layout.ndim == 2:
            rows, columns = (_span(i) for i in indices[1:])
            plane = np.asarray(self._clean[rows, columns])
            raw = np.repeat(plane[None], len(indices[0]), axis=0)
            return _take(raw, (None, indices[1], indices[2]))
        if self.layout.context:
            return _take(self._stack(indices), (None, indices[1], indices[2]))
        raw = np.asarray(self._clean[tuple(_span(i) for i in indices)])
        return _take(raw, indices)

    def _stack(self, indices: Sequence[AnyArray]) -> AnyArray:
        """Return planes for a 2.5D network; those of the previous window are reused."""
        place = (_span(indices[1]), _span(indices[2]))
        z_indices = [int(z) for z in indices[0]]
        if place != self._planes_at:
            self._planes.clear()
        self._planes_at = place
        for z in set(self._planes) - set(z_indices):
            del self._planes[z]
        missing = sorted(set(z_indices) - set(self._planes))
        for first, last in _runs(missing):
            read = np.asarray(self._clean[(slice(first, last + 1), *place)])
            for offset, plane in enumerate(read):
                self._planes[first + offset] = plane
        return np.stack([self._planes[z] for z in z_indices])

    def _core_of(self, tile: Tile) -> Box:
        z, y, x = (
            slice(c.start - w.start + around, c.stop - w.start + around)
            for c, w, around in zip(
                tile.core, tile.window, (self.layout.context, 0, 0), strict=True
            )
        )
        return z, y, x


@dataclass
class ValueWriter:
    """Turns a network's output back into grey values and writes them into a target.

    Attributes
    ----------
    clipped : int
        Number of voxels, so far, that were outside the range of an integer target.
    deviation : array-like or None
        Same shape as the target, floating-point: receives the standard deviations that
        a network of several members outputs in addition to the mean.
    source : ArrayLike or None
        The scan being restored, if the result must keep the values of its padding or,
        with ``hot.kept``, of its hot voxels; otherwise None. In the network's input,
        hot voxels are replaced.
    """

    target: Any
    layout: Layout
    statistics: Standardisation
    origin: tuple[int, int, int] = (0, 0, 0)
    clipped: int = 0
    deviation: Any = None
    source: ArrayLike | None = None

    def write(self, tile: Tile, values: AnyArray) -> AnyArray:
        """Scale `values` (Z, Y, X; changed in place), write and return them.

        With a `deviation`, `values` have a leading axis: means, then standard
        deviations.

        Returns
        -------
        ndarray
            Values with the axes and dtype of the target; only the means, if there are
            deviations.
        """
        if self.deviation is not None:
            values, deviations = values
            deviations *= deviations.dtype.type(self.statistics.output_std)
            deviations = deviations.astype(self.deviation.dtype, copy=False)
            self._set_padding(tile, deviations, 0.0)
            self._put(self.deviation, tile, deviations)
        values *= values.dtype.type(self.statistics.output_std)
        values += values.dtype.type(self.statistics.output_mean)
        dtype = np.dtype(self.target.dtype)
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            np.rint(values, out=values)
            low, high = values < limits.min, values > limits.max
            self.clipped += int(low.sum()) + int(high.sum())
            # float32 cannot represent 2**31 - 1 or 2**32 - 1, so set limits afterwards.
            inside = np.where(low | high, 0, values).astype(dtype)
            inside[low], inside[high] = limits.min, limits.max
            values = inside
        else:
            values = values.astype(dtype, copy=False)
        self._copy_hot_voxels(tile, values)
        if self.statistics.padding is not None:
            grey = np.array([self.statistics.padding])
            self._set_padding(tile, values, self._to_output_scale(grey, dtype)[0])
        return self._put(self.target, tile, values)

    def _copy_hot_voxels(self, tile: Tile, values: AnyArray) -> None:
        """Copy the hot voxels from the source to the result, if they are to be kept."""
        hot = self.statistics.hot
        if hot is None or not hot.kept or self.source is None:
            return
        flat = self.layout.ndim == 2
        core = tile.core[1:] if flat else tile.core
        steps = list(np.ndindex(*self.layout.scale))
        for positions, grey_values in HotVoxelFilter(self.source, hot).values_at(core):
            if flat:
                positions = np.insert(positions, 0, 0, axis=1)
            scaled = self._to_output_scale(grey_values, values.dtype)
            for step in steps:  # all output voxels of an input voxel
                fine = positions * np.array(self.layout.scale) + step
                values[tuple(fine.T)] = scaled

    def _set_padding(self, tile: Tile, values: AnyArray, value: Any) -> None:
        """Set all output voxels in the padding to one value, in place."""
        padding = self.statistics.padding
        if padding is None or self.source is None:
            return
        core = tile.core[1:] if self.layout.ndim == 2 else tile.core
        padded = padded_voxels(self.source, core, padding)
        if padded is not None:
            self._fine_view(values, tile.core_shape)[
                padded.reshape(tile.core_shape)
            ] = value

    def _to_output_scale(self, values: AnyArray, dtype: AnyDType) -> AnyArray:
        """Return the grey values of the input on the scale of the result."""
        scale = self.statistics
        one = (scale.input_mean, scale.input_std)
        other = (scale.output_mean, scale.output_std)
        if one == other and values.dtype == dtype:
            return values
        numbers = values.astype(np.float64)
        if one != other:
            numbers = (numbers - one[0]) / one[1] * other[1] + other[0]
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            numbers = np.clip(np.rint(numbers), limits.min, limits.max)
        return numbers.astype(dtype)

    def _put(self, target: Any, tile: Tile, values: AnyArray) -> AnyArray:
        if self.layout.ndim == 2:
            values = values[0]
        try:
            target[self.place(tile)] = values
        except (GeoSRError, MemoryError):
            raise
        except Exception as error:  # file libraries may raise any error
            raise FileError(
                f"The restored voxels near {_format_position(tile)} could not be "
                f"written: {error}. Check that the disk is not full."
            ) from error
        return values

    def blank(self, values: AnyArray, missing: AnyArray | None) -> None:
        """Set floats to NaN, in place, where the input is not finite.

        NaN around the sample remains NaN in the result.

        Parameters
        ----------
        values : ndarray of shape (Z, Y, X)
            The core, in output voxels; with a `deviation`, means and deviations.
        missing : ndarray of bool, or None
            The core, in input voxels, as returned by `WindowReader.read`.
        """
        if missing is None:
            return
        if self.deviation is not None:
            self._blank(values[1], missing)
            values = values[0]
        if np.dtype(self.target.dtype).kind == "f":
            self._blank(values, missing)

    def _blank(self, values: AnyArray, missing: AnyArray) -> None:
        self._fine_view(values, missing.shape)[missing] = np.nan

    def _fine_view(self, values: AnyArray, shape: Sequence[int]) -> AnyArray:
        """Return a view with the output voxels of each input voxel as trailing axes."""
        sizes = [
            part
            for n, s in zip(shape, self.layout.scale, strict=True)
            for part in (n, s)
        ]
        return values.reshape(sizes).transpose(0, 2, 4, 1, 3, 5)

    def place(self, tile: Tile) -> tuple[slice, ...]:
        """Return the position of the tile in the target."""
        return tile.output(self.layout, self.origin)[3 - self.layout.ndim :]


def _span(positions: AnyArray) -> slice:
    return slice(int(positions.min()), int(positions.max()) + 1)


def _take(raw: AnyArray, indices: Sequence[AnyArray | None]) -> AnyArray:
    """Pick the voxels that reflection needs from the contiguous block that was read."""
    for axis, positions in enumerate(indices):
        if positions is None:
            continue
        local = positions - positions.min()
        if len(local) != raw.shape[axis] or (np.diff(local) != 1).any():
            raw = np.take(raw, local, axis=axis)
    return raw


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], value)
        else:
            runs.append((value, value))
    return runs


def _format_position(tile: Tile) -> str:
    return "Z, Y, X = " + ", ".join(str(part.start) for part in tile.core)
