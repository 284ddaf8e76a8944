"""Files that are filled block by block and appear only once they are complete."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.mapping import release_pages
from napari_geosr.io.spec import OutputPaths, OutputSpec
from napari_geosr.io.stamp import Stamp

#: Number of bytes copied at a time from a lazy volume to a file.
COPY_BYTES = 32 * 1024**2


class OutputPart(Protocol):
    """A part of a file, as an array-like that another process fills."""

    def __setitem__(self, key: Slices, value: AnyArray, /) -> None: ...

    def finish(self) -> None:
        """Flush the part to disk."""


class SharedOutput(Protocol):
    """Handle to a file being written, for other processes; it can be pickled."""

    def part(self, place: Slices, memory: int) -> OutputPart:
        """Return a part to fill, of whole blocks, with a buffer of `memory` bytes."""


class Output(ABC):
    """A file being written.

    Parameters
    ----------
    paths : OutputPaths
    spec : OutputSpec
        As returned by `OutputSpec.checked`.

    Attributes
    ----------
    path : Path
        Path of the complete file.
    incomplete_path : Path
        Path at which `keep_incomplete` leaves an unfinished file.
    array : array-like
        Filled by ``output.array[slices] = block`` in one thread; blocks must not
        overlap.
    provenance : tuple of mapping
        Written at the end; can be replaced until then.
    block_shape : tuple of int
        Shape to which blocks should be aligned, so that every part of the file is
        written only once.
    note : str
        Note for the user about the chosen format, or "".
    """

    array: Any
    block_shape: tuple[int, ...]
    note: str = ""

    def __init__(self, paths: OutputPaths, spec: OutputSpec) -> None:
        self.path = paths.final
        self.temporary = paths.temporary
        self.incomplete_path = paths.incomplete
        self.stamp = spec.stamp
        self.provenance: tuple[AnyMapping, ...] = self.stamp.provenance
        #: Whether the unfinished file is kept at `incomplete_path` when the context
        #: ends.
        self.is_kept_incomplete = False
        #: Whether the file stays under its temporary name, for example because it could
        #: not be renamed.
        self.is_left_in_place = False
        #: Whether the file already contains the finished part of a killed run.
        self.is_reopened = False

    def keep_incomplete(self) -> Path:
        """Keep the unfinished file at the returned path when the context ends.

        Call `blank` first, so that unwritten voxels cannot be mistaken for
        results. An older incomplete file is replaced.
        """
        self.is_kept_incomplete = True
        return self.incomplete_path

    def final_stamp(self) -> Stamp:
        """Return the metadata block with the current provenance."""
        return replace(self.stamp, provenance=tuple(self.provenance))

    def release(self) -> None:
        """Write buffered voxels and release their memory."""
        release_pages(self.array)

    def flush_to_disk(self) -> None:
        """Flush everything written so far to disk."""
        flush = getattr(self.array, "flush", None)
        if flush is not None:
            flush()

    def check_intact(self) -> None:
        """Raise `FileError` if another program removed written data."""
        if not self.temporary.exists():
            raise FileError(
                f"The unfinished {self.path.name}, or its folder, was removed from "
                f"{self.path.parent} while it was being written. Repeat the run."
            )

    def adopt(self, finished: Sequence[Slices]) -> None:  # noqa: B027
        """Register boxes that are already in the file."""

    def discard_unadopted(self) -> None:  # noqa: B027
        """Remove blocks of a reopened file that have no adopted box, if possible."""

    def written(self, boxes: Sequence[Slices]) -> list[Slices]:
        """Return those of the filled `boxes` that are completely written to the file.

        Voxels may be buffered until more arrive, and are lost if the disk is full.
        """
        return list(boxes)

    def shared(self) -> SharedOutput | None:
        """Return a handle for other processes; None if only this process can write."""
        return None

    @abstractmethod
    def blank(self, finished: Sequence[Slices]) -> None:
        """Set every voxel outside the `finished` boxes to NaN.

        Integers have no NaN: unwritten voxels stay zero.
        """

    @abstractmethod
    def complete(self, *, pyramid: bool) -> None:
        """Write the final parts (provenance, coarser levels) and close the file."""

    @abstractmethod
    def close(self) -> None:
        """Close the file as it is; buffered voxels are discarded."""


def blank_outside(array: Any, finished: Sequence[Slices]) -> None:
    """Write NaN into an array of floats, except for the `finished` boxes.

    Parameters
    ----------
    array : array-like
        Arrays of integers are left unchanged.
    finished : sequence of tuple of slice
    """
    if np.dtype(array.dtype).kind != "f":
        return
    leading = array.shape[:-3]
    for place in np.ndindex(leading):
        boxes = [
            box[len(leading) :]
            for box in finished
            if all(p.start <= i < p.stop for p, i in zip(box, place, strict=False))
        ]
        _blank(array[place], boxes)


def _blank(volume: Any, finished: Sequence[Slices]) -> None:
    """Write NaN into a volume of up to three axes, except for the `finished` boxes."""
    edges = {0, volume.shape[0]}
    edges |= {e for box in finished for e in (box[0].start, box[0].stop)}
    # All planes between two edges are covered by the same boxes.
    for start, stop in itertools.pairwise(sorted(edges)):
        covered = np.zeros(volume.shape[1:], bool)
        for box in finished:
            if box[0].start <= start and stop <= box[0].stop:
                covered[box[1:]] = True
        if covered.all():
            continue
        for index in range(start, stop):
            plane = np.array(volume[index])
            plane[~covered] = np.nan
            volume[index] = plane


def copy_boxes(source: Any, target: Any, boxes: Iterable[Slices]) -> None:
    """Copy boxes from one array to another, a few megabytes at a time.

    Parameters
    ----------
    source, target : array-like
        Arrays of the same shape and dtype.
    """
    itemsize = np.dtype(source.dtype).itemsize
    for place in boxes:
        shape = [part.stop - part.start for part in place]
        for key in blocks(shape, (1,) * len(shape), itemsize, COPY_BYTES):
            part = tuple(
                slice(p.start + k.start, p.start + k.stop)
                for p, k in zip(place, key, strict=True)
            )
            target[part] = np.asarray(source[part])


def blocks(
    shape: Sequence[int], unit_block: Sequence[int], itemsize: int, nbytes: int
) -> Iterator[Slices]:
    """Yield boxes of about `nbytes` that cover `shape`, in multiples of `unit_block`.

    The boxes are extended along the last axes first, so that they are contiguous in the
    file.

    Parameters
    ----------
    shape : sequence of int
    unit_block : sequence of int
        Smallest block, such as a chunk of the file.
    itemsize : int
        Bytes per voxel.
    nbytes : int
        Approximate maximum size of a block.
    """
    size = [min(b, n) for b, n in zip(unit_block, shape, strict=True)]
    for axis in reversed(range(len(size))):
        rest = math.prod(size) // size[axis] * itemsize
        fits = max(1, nbytes // max(1, rest * size[axis]))
        size[axis] = min(shape[axis], size[axis] * fits)
    ranges = [range(0, n, s) for n, s in zip(shape, size, strict=True)]
    for start in itertools.product(*ranges):
        yield tuple(
            slice(a, min(a + s, n)) for a, s, n in zip(start, size, shape, strict=True)
        )


def copy_blocks(
    source: Any, output: Output, should_stop: ShouldStop = never_stop
) -> None:
    """Copy `source` into `output` a few megabytes at a time; may raise `Cancelled`."""
    target = output.array
    if isinstance(source, LazyArray):  # each voxel is read once: no cache needed
        source = LazyArray(source.source, source.path, source.chunks, cache_bytes=0)
    itemsize = np.dtype(target.dtype).itemsize
    for key in blocks(source.shape, output.block_shape, itemsize, COPY_BYTES):
        if should_stop():
            raise Cancelled("Cancelled; no file was written.")
        target[key] = _read(source, key).astype(target.dtype, copy=False)
        release_pages(source)
        output.release()


def _read(source: Any, key: Slices) -> AnyArray:
    try:
        return np.asarray(source[key])
    except OSError as error:
        raise FileError(
            f"The voxels to write cannot be read ({error.strerror or error}). Check "
            "that the file they come from is still there and complete."
        ) from error
