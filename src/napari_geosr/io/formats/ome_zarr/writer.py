"""Write OME-Zarr: NGFF 0.5 with sharded, slice-friendly chunks and coarser levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyArray, AnyDict, AnyDType
from napari_geosr.io.formats.ome_zarr import ngff
from napari_geosr.io.formats.ome_zarr.missing_chunks import ALL_CHUNKS
from napari_geosr.io.formats.ome_zarr.shards import (
    BUFFER_BYTES,
    PACKING,
    SHARD_BYTES,
    ShardBuffer,
    SharedZarr,
    chunk_shapes,
    fitted_shapes,
    open_level,
)
from napari_geosr.io.output import Output, blocks
from napari_geosr.io.spec import OutputPaths, OutputSpec
from napari_geosr.io.stamp import KEY, Stamp
from napari_geosr.io.suffixes import stem_of
from napari_geosr.io.unfinished_files.atomic import remove
from napari_geosr.io.unfinished_files.hidden import with_user_names

#: Maximum edge length of the coarsest level, in voxels: coarser levels are added until
#: no edge is longer.
_SMALLEST_LEVEL = 256
#: Number of planes of the coarsest level from which a channel's display range is
#: computed.
_PLANES = 8


class ZarrOutput(Output):
    """A zarr v3 group to be filled; coarser levels are added on completion.

    Parameters
    ----------
    reopen : bool
        Whether to resume the existing group.
    """

    def __init__(
        self, paths: OutputPaths, spec: OutputSpec, *, reopen: bool = False
    ) -> None:
        import zarr

        super().__init__(paths, spec)
        stamp, tile, memory = self.stamp, spec.tile, spec.memory
        dtype: AnyDType = np.dtype(spec.dtype)
        self.dtype = dtype
        # If possible, use a fill value that distinguishes unwritten voxels from zero.
        self.fill = np.nan if dtype.kind == "f" else 0
        self.multiscale = spec.multiscale
        mode: Any = "r+" if reopen else "w-"
        self.group = zarr.open_group(self.temporary, mode=mode, zarr_format=3)
        self._write_attributes([(1,) * len(stamp.shape)], stamp)
        if reopen:  # after the metadata, so that they never list missing levels
            self._remove_remains()
        buffer, self.shard_bytes = BUFFER_BYTES, SHARD_BYTES
        if memory is not None:
            self.shard_bytes = min(SHARD_BYTES, memory // (2 * PACKING))
            buffer = memory - PACKING * self.shard_bytes
        shapes = chunk_shapes(stamp.shape, dtype.itemsize, self.shard_bytes)
        if tile is not None:
            room = 0 if spec.shared else buffer  # with 0, no tiles share a shard
            shapes = fitted_shapes(
                stamp.shape, dtype.itemsize, tile, self.shard_bytes, room
            )
        level: Any = None
        if reopen:
            level = open_level(self.temporary / "0")
            shapes = level.chunks, level.shards or level.chunks
        shards = shapes[1]
        if memory is not None:
            packing = PACKING * math.prod(shards) * dtype.itemsize
            buffer = max(0, memory - packing)
        self.block_shape = tuple(
            min(s, n) for s, n in zip(shards, stamp.shape, strict=True)
        )
        if level is None:
            level = self._add_level(0, stamp.shape, *shapes)
        self.array = ShardBuffer(level, shards, buffer, self.fill, self.path)

    def _remove_remains(self) -> None:
        """Remove unfinished parts of a killed run: coarser levels, partial shards."""
        for level in self.temporary.glob("[1-9]*"):
            remove(level)
        for begun in self.temporary.rglob("*.partial"):
            remove(begun)

    def _add_level(
        self,
        level: int,
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        shards: tuple[int, ...],
    ) -> Any:
        from zarr.codecs import BloscCodec, Crc32cCodec

        codec = BloscCodec(cname="zstd", clevel=1, shuffle="shuffle")
        return self.group.create_array(
            str(level),
            shape=shape,
            chunks=chunks,
            shards=shards,
            dtype=self.dtype,
            # Checksums take no measurable time and reveal even single flipped bits.
            compressors=[codec, Crc32cCodec()],
            dimension_names=[a.lower() for a in self.stamp.axes],
            fill_value=self.fill,
            # With this setting, a missing chunk means that data have been lost, not
            # that the chunk held only fill values.
            config={"write_empty_chunks": True},
        )

    def _write_attributes(
        self,
        factors: list[tuple[int, ...]],
        stamp: Stamp,
        windows: Sequence[tuple[float, float]] = (),
        *,
        whole: bool = False,
    ) -> None:
        entry = ngff.multiscale(stamp, stem_of(self.path), factors, self._method())
        ome: AnyDict = {"version": ngff.VERSION, "multiscales": [entry]}
        if windows:
            ome["omero"] = ngff.omero(stamp.channels, windows)
        own = stamp.to_dict() | ({ALL_CHUNKS: True} if whole else {})
        self.group.attrs.update({"ome": ome, KEY: own})

    def _method(self) -> str:
        return "nearest" if self._are_labels() else "mean"

    def _are_labels(self) -> bool:
        # The mean of two labels would be a third label; integers of 32 bits or more
        # are usually labels.
        if self.stamp.kind == "labels":
            return True
        return self.dtype.kind in "iu" and self.dtype.itemsize >= 4

    def check_intact(self) -> None:
        """Raise `FileError` if the group or its array was removed."""
        super().check_intact()
        # Zarr silently recreates folders that were removed.
        for place in (self.temporary, self.temporary / "0"):
            if not (place / "zarr.json").exists():
                raise FileError(
                    f"Some files of {self.path.name} in {self.path.parent} were "
                    "removed before it was complete. Repeat the run."
                )

    def adopt(self, finished: Sequence[Slices]) -> None:
        """Mark the `finished` boxes of a reopened file as written."""
        self.array.adopt(finished)

    def discard_unadopted(self) -> None:
        """Remove the shards of a reopened file that have no adopted box.

        They may be damaged, and zarr reads a shard before it changes part of it.
        """
        for name in self.array.unwritten():
            (self.temporary / "0" / name).unlink(missing_ok=True)

    def written(self, boxes: Sequence[Slices]) -> list[Slices]:
        """Return the boxes for which shards could be written; see `Output.written`."""
        return list(self.array.written(boxes))

    def flush_to_disk(self) -> None:
        """Write all buffered shards and flush them to disk."""
        self.array.flush_to_disk(self.temporary / "0")

    def shared(self) -> SharedZarr:
        """Return the array for other processes that write blocks of `block_shape`."""
        return SharedZarr(self.temporary.absolute() / "0", self.path)

    def blank(self, finished: Sequence[Slices]) -> None:
        """Do nothing: unwritten voxels already have the fill value."""

    def complete(self, *, pyramid: bool) -> None:
        """Write the buffered shards, coarser levels, display ranges and provenance.

        Parameters
        ----------
        pyramid : bool
            Whether to add coarser levels.
        """
        self.array.flush()
        factors = [(1,) * len(self.stamp.shape)]
        if pyramid and self.multiscale:
            try:
                self._add_coarser(factors)
            except (OSError, MemoryError) as error:
                # The volume is complete without coarser levels, which only speed up
                # its display.
                remove(self.temporary / str(len(factors)))
                why = with_user_names(str(error)).rstrip(".")
                self.note = (
                    f"{self.path.name} has fewer resolution levels than usual and may "
                    f"be slow to display: {why}."
                )
        windows = self._windows(len(factors) - 1) if pyramid else ()
        whole = pyramid and self.array.is_whole
        self._write_attributes(factors, self.final_stamp(), windows, whole=whole)

    def _windows(self, level: int) -> list[tuple[float, float]]:
        """Return the range of grey values of each named channel, from a few planes."""
        array: Any = self.group[str(level)]
        axis = self.stamp.axes.find("C")
        windows = []
        for c in range(len(self.stamp.channels)):
            leading = list(array.shape[:-2])
            leading[axis] = 1
            n = math.prod(leading)
            flat = np.unique(np.linspace(0, n - 1, min(n, _PLANES)).astype(int))
            places = [[int(i) for i in np.unravel_index(p, leading)] for p in flat]
            for place in places:
                place[axis] = c
            planes = np.stack([np.asarray(array[tuple(place)]) for place in places])
            values = planes[np.isfinite(planes)]
            low, high = (values.min(), values.max()) if values.size else (0, 0)
            windows.append((float(low), float(high)))
        return windows

    def _add_coarser(self, factors: list[tuple[int, ...]]) -> None:
        """Add levels until the longest edge is short; append them to `factors`."""
        source: Any = self.array.array
        while (step := self._step(source.shape)) is not None:
            shape = tuple(-(-n // s) for n, s in zip(source.shape, step, strict=True))
            shapes = chunk_shapes(shape, self.dtype.itemsize, self.shard_bytes)
            target = self._add_level(len(factors), shape, *shapes)
            self._reduce(source, target, step)
            last = factors[-1]
            factors.append(tuple(f * s for f, s in zip(last, step, strict=True)))
            source = target

    def _step(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the factors of the next level, by axis; None after the last level."""
        spatial = [a in "ZYX" for a in self.stamp.axes]
        longest = max(n for n, s in zip(shape, spatial, strict=True) if s)
        if longest <= _SMALLEST_LEVEL:
            return None
        return tuple(
            2 if s and 2 * n > longest and n > 1 else 1
            for n, s in zip(shape, spatial, strict=True)
        )

    def _reduce(self, source: Any, target: Any, step: tuple[int, ...]) -> None:
        unit = target.shards or target.chunks
        itemsize = self.dtype.itemsize
        for key in blocks(target.shape, unit, itemsize, self.shard_bytes // 2):
            coarse = np.empty([k.stop - k.start for k in key], dtype=self.dtype)
            # Process one chunk at a time, as means are computed in a wider type.
            for part in blocks(coarse.shape, target.chunks, itemsize, 1):
                region = tuple(
                    slice((k.start + p.start) * s, min((k.start + p.stop) * s, n))
                    for k, p, s, n in zip(key, part, step, source.shape, strict=True)
                )
                fine = np.asarray(source[region])
                coarse[part] = reduced(fine, step, mean=not self._are_labels())
            target[key] = coarse

    def close(self) -> None:
        """Discard the buffer; a zarr need not be closed."""
        self.array = None

    def release(self) -> None:
        """Do nothing: shards are written as they are completed."""


def reduced(fine: AnyArray, step: tuple[int, ...], *, mean: bool) -> AnyArray:
    """Reduce an array by `step` along each axis to means or first voxels of blocks.

    For means, the last voxels are repeated if a length is odd.

    Parameters
    ----------
    fine : ndarray
    step : tuple of int
        Factor along each axis; 1 or 2.
    mean : bool
        Whether to average blocks (for grey values, not for labels).
    """
    if not mean:
        return fine[tuple(slice(None, None, s) for s in step)]
    wide: AnyArray = fine.astype(np.float64 if fine.itemsize > 2 else np.float32)
    for axis, s in enumerate(step):
        if s == 1:
            continue
        if wide.shape[axis] % 2:
            last = [(0, 1 if i == axis else 0) for i in range(wide.ndim)]
            wide = np.pad(wide, last, mode="edge")
        before = (slice(None),) * axis
        # Adding slices is several times as fast as a mean along an axis of length two.
        even, odd = ((*before, slice(start, None, 2)) for start in (0, 1))
        wide = np.add(wide[even], wide[odd])
        np.multiply(wide, 0.5, out=wide)
    if fine.dtype.kind in "iu":
        wide = np.rint(wide)
    return wide.astype(fine.dtype)
