"""Files that are filled block by block and appear only when they are complete."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.errors import Cancelled, FileError, GeoSRError, VolumeError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.io.atomic import (
    explained,
    leftovers,
    move_into_place,
    remove,
    temporary_sibling,
)
from napari_geosr.io.lazy import LazyArray, Slices
from napari_geosr.io.mapping import release_pages
from napari_geosr.io.stamp import Stamp
from napari_geosr.io.suffixes import ZARR, incomplete_path, stem_of, suffix_of

#: Voxels copied at once between a lazy volume and a file.
COPY_BYTES = 32 * 1024**2


class Output(ABC):
    """A file in the making.

    Attributes
    ----------
    path : Path
        Where it appears when complete.
    array : array-like
        Write with ``output.array[slices] = block``; disjoint blocks, one thread.
    provenance : tuple of mapping
        Written at the end; may be replaced before.
    block_shape : tuple of int
        Writing multiples of it, aligned, touches every part of the file once.
    note : str
        What a person should know about the format that was chosen, or "".
    """

    array: Any
    block_shape: tuple[int, ...]
    note: str = ""

    def __init__(self, path: Path, temporary: Path, stamp: Stamp) -> None:
        self.path = path
        self.temporary = temporary
        self.stamp = stamp
        self.provenance: tuple[Mapping[str, Any], ...] = stamp.provenance
        self._kept = False
        self._left = False

    @property
    def incomplete_path(self) -> Path:
        """Where :meth:`keep_incomplete` leaves an unfinished file."""
        return incomplete_path(self.path)

    def keep_incomplete(self) -> Path:
        """Keep what is there so far, at the returned path, when the block is left.

        Call :meth:`blank` before, so that nothing passes for a result that is none.
        An older incomplete file is replaced.
        """
        self._kept = True
        return self.incomplete_path

    def final_stamp(self) -> Stamp:
        """The stamp with the provenance as it is by now."""
        return replace(self.stamp, provenance=tuple(self.provenance))

    def release(self) -> None:
        """Write out what is buffered and give its memory back."""
        release_pages(self.array)

    @abstractmethod
    def blank(self, finished: Sequence[Slices]) -> None:
        """Make sure that every voxel outside the `finished` boxes is NaN.

        Integers have no such value: theirs stay zero where nothing was written.
        """

    @abstractmethod
    def complete(self, *, pyramid: bool) -> None:
        """Write what comes last (provenance, coarser levels) and close the file."""

    @abstractmethod
    def close(self) -> None:
        """Close the file as it is; what is still held back is dropped."""


@contextmanager
def open_output(
    path: str | Path,
    *,
    shape: Sequence[int],
    dtype: Any,
    axes: str,
    voxel_size: Sequence[float],
    unit: str,
    origin: Sequence[float],
    provenance: Sequence[Mapping[str, Any]],
    overwrite: bool,
    multiscale: bool,
    kind: str,
    tile: Sequence[int] | None = None,
    memory: int | None = None,
    continues: Path | None = None,
    channels: Sequence[str] = (),
) -> Iterator[Output]:
    """Do what :func:`napari_geosr.io.create` says."""
    from napari_geosr.io import check_output

    stored = stored_dtype(dtype, Path(path).name)
    stamp = _checked_stamp(path, shape, stored, axes, voxel_size, unit, origin)
    n_channels = dict(zip(stamp.axes, stamp.shape, strict=True)).get("C", 0)
    names = tuple(channels) if len(channels) == n_channels else ()
    stamp = replace(stamp, provenance=tuple(provenance), kind=kind, channels=names)
    stamp.to_json()  # a record that cannot be written must not cost a finished run
    nbytes = math.prod(stamp.shape) * stored.itemsize
    target = check_output(path, overwrite, nbytes)
    left = [part for part in leftovers(target, suffix_of(target)) if part != continues]
    temporary = temporary_sibling(target, suffix_of(target))
    try:
        with explained(target):
            output = _open(target, temporary, stamp, stored, multiscale, tile, memory)
        output.note = " ".join(filter(None, (output.note, _of_leftovers(left))))
    except BaseException:
        remove(temporary)
        raise
    try:
        try:
            yield output
        except BaseException:
            if output._kept:
                _save_unfinished(output)
            else:
                output.close()
            raise
        if output._kept:
            _save_unfinished(output)
        else:
            _finish(output, overwrite)
    finally:
        if not output._left:
            remove(temporary)


def _of_leftovers(left: Sequence[Path]) -> str:
    """A sentence; they are not removed, as another run may still fill them."""
    if not left:
        return ""
    names = ", ".join(path.name for path in left)
    return (
        f"{left[0].parent} holds what an earlier run did not finish: {names}. Delete "
        "it, unless a run still writes there."
    )


def _save_unfinished(output: Output) -> None:
    """Keep the unfinished file, if need be without what could not be written."""
    try:
        output.complete(pyramid=False)
    except (OSError, GeoSRError):  # a full disk, as a rule: less is on it already
        output.close()
    with explained(output.incomplete_path):
        move_into_place(output.temporary, output.incomplete_path, True)


def _finish(output: Output, overwrite: bool) -> None:
    """Complete the file and give it its name; a failure here costs no voxel.

    Raises
    ------
    FileError
        Saying where the file is kept instead.
    """
    try:
        with explained(output.path):
            output.complete(pyramid=True)
    except Exception as error:
        output.close()
        kept = _move_aside(output, output.incomplete_path)
        raise FileError(f"{error} What was written is kept as {kept.name}.") from error
    try:
        with explained(output.path):
            move_into_place(output.temporary, output.path, overwrite)
    except FileError as error:
        kept = _move_aside(output, _free_name(output.path))
        raise FileError(f"{error} The finished file is kept as {kept.name}.") from error


def _move_aside(output: Output, path: Path) -> Path:
    """Rename to `path`, or leave the file where it is if that fails, too."""
    try:
        move_into_place(output.temporary, path, True)
    except (OSError, FileError):
        output._left = True
        return output.temporary
    return path


def _free_name(path: Path) -> Path:
    """The first of ``STEM.2.SUFFIX``, ``STEM.3.SUFFIX``, … that is not taken."""
    names = (f"{stem_of(path)}.{n}{suffix_of(path)}" for n in itertools.count(2))
    return next(p for p in map(path.with_name, names) if not p.exists())


def _open(
    target: Path,
    temporary: Path,
    stamp: Stamp,
    dtype: np.dtype[Any],
    multiscale: bool,
    tile: Sequence[int] | None,
    memory: int | None,
) -> Output:
    if suffix_of(target) in ZARR:
        from napari_geosr.io.ome_zarr_writer import ZarrOutput

        return ZarrOutput(target, temporary, stamp, dtype, multiscale, tile, memory)
    from napari_geosr.io.tiff_writer import TiffOutput

    return TiffOutput(target, temporary, stamp, dtype)


def stored_dtype(dtype: Any, name: str) -> np.dtype[Any]:
    """The dtype in the file for voxels of `dtype`: itself, or uint8 for bool.

    Raises
    ------
    FileError
        For what is no real number.
    """
    wanted: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
    if wanted.kind == "b":
        return np.dtype(np.uint8)
    if wanted.kind not in "iuf" or wanted.itemsize > 8:
        raise FileError(
            f"{name} cannot hold voxels of type {wanted}. Convert them to integers or "
            "floats first."
        )
    return wanted


def _checked_stamp(
    path: str | Path,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    axes: str,
    voxel_size: Sequence[float],
    unit: str,
    origin: Sequence[float],
) -> Stamp:
    """Let `Volume` check that everything fits together."""
    like = np.broadcast_to(np.zeros((), dtype), tuple(int(n) for n in shape))
    volume = Volume(
        data=like,
        axes=axes,
        voxel_size=tuple(voxel_size),
        unit=unit,
        origin=tuple(origin),
        name=Path(path).name,
    )
    if min(volume.shape) < 1:
        raise VolumeError(
            f"{volume.name} cannot be written: its shape {volume.shape} has no voxels."
        )
    return Stamp(
        shape=volume.shape,
        axes=volume.axes,
        voxel_size=volume.voxel_size,
        unit=volume.unit,
        origin=volume.origin,
    )


def blocks(
    shape: Sequence[int], unit_block: Sequence[int], itemsize: int, nbytes: int
) -> Iterator[Slices]:
    """Rectangles of about `nbytes` that cover `shape`, multiples of `unit_block`.

    The last axes are made long first, so that blocks are contiguous in the file.
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
    """Copy `source` into `output`, a few megabytes at a time; may raise `Cancelled`."""
    target = output.array
    if isinstance(source, LazyArray):  # each voxel is read once: keep none
        source = LazyArray(source.source, source.path, source.chunks, cache_bytes=0)
    itemsize = np.dtype(target.dtype).itemsize
    for key in blocks(source.shape, output.block_shape, itemsize, COPY_BYTES):
        if should_stop():
            raise Cancelled("Cancelled; no file was written.")
        target[key] = _read(source, key).astype(target.dtype, copy=False)
        release_pages(source)
        output.release()


def _read(source: Any, key: Slices) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(source[key])
    except OSError as error:
        raise FileError(
            f"The voxels to write cannot be read ({error.strerror or error}). Check "
            "that the file they come from is still there and complete."
        ) from error
