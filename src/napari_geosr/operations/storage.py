"""Stores unsaved results in memory, or on disk if they are too large."""

from __future__ import annotations

import math
import os
import shutil
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_geosr.core.array_parts.boxes import Box, boxes_from_lists
from napari_geosr.core.errors import FileError, GeoSRError
from napari_geosr.core.machine.memory import free_host_memory
from napari_geosr.core.types import AnyDict, AnyDType
from napari_geosr.core.volume import Volume
from napari_geosr.io import read_back
from napari_geosr.io.output import copy_boxes
from napari_geosr.io.stamp import Stamp
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.io.unfinished_files.finished import has_record, is_recorded
from napari_geosr.io.unfinished_files.hidden import (
    has_changed_since,
    is_abandoned,
    is_of_this_computer,
    leftovers,
    temporary_sibling,
)
from napari_geosr.io.unfinished_files.journal import (
    Journal,
    JournalEntry,
    load_journal,
    read_journal,
    remove_with_journal,
)
from napari_geosr.io.unfinished_files.unfinished import history_of

#: Size of a result, as a fraction of the free memory, above which it is stored on disk.
_RESULT_SHARE = 0.4
#: Number of days after which results left by a killed program are removed.
_DAYS = 7
_SUFFIX = ".zarr"
#: Folders of results that are removed together with their arrays.
_owned: set[Path] = set()


def array_for(
    shape: tuple[int, ...],
    dtype: AnyDType,
    fill: float = 0,
    *,
    budget: int | None = None,
    depth: int = 8,
) -> Any:
    """Return a NumPy array to fill or, above 40 % of the budget, a zarr array.

    Parameters
    ----------
    fill : float
        Value of voxels that have not been written.
    budget : int, optional
        Memory budget of a run in bytes; by default the free memory.
    depth : int
        Number of planes per chunk of a zarr array.
    """
    nbytes = math.prod(shape) * dtype.itemsize
    available = free_host_memory() if budget is None else budget
    if nbytes <= available * _RESULT_SHARE:
        # Do not use np.zeros: untouched pages would count as free memory, and a run
        # would plan to use the memory of its own result.
        return np.full(shape, fill, dtype)
    return cached_zarr(shape, dtype, fill, depth)


def cached_zarr(
    shape: tuple[int, ...], dtype: AnyDType, fill: float = 0, depth: int = 8
) -> Any:
    """Create a zarr array in the cache folder for a result too large for memory.

    Its folder is removed when the array is no longer referenced, at the latest when the
    program ends. To keep a result, save it to a file.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    fill : float
        Value of voxels that have not been written.
    depth : int
        Number of planes per chunk.
    """
    import zarr

    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers()
    path = temporary_sibling(folder / f"result{_SUFFIX}", _SUFFIX)
    array = zarr.create_array(
        path,
        shape=shape,
        dtype=dtype,
        chunks=_chunks(shape, depth),
        fill_value=fill,
        overwrite=True,
    )
    claim(array)
    return array


@dataclass(frozen=True)
class CachedResult:
    """A result in the cache folder, in the form that a journal needs.

    Attributes
    ----------
    temporary : Path
        Folder of the result.
    stamp : Stamp
        Description of the result.
    is_reopened : bool
        Whether the result was started by a run that was killed.
    """

    array: Any
    temporary: Path
    stamp: Stamp
    is_reopened: bool

    @property
    def path(self) -> Path:
        """Path shown in errors."""
        return self.temporary

    def flush_to_disk(self) -> None:
        """Flush everything written so far to disk."""
        # Flush all file systems, because it is unknown which chunks are new.
        sync = getattr(os, "sync", None)
        if sync is not None:
            sync()


def in_cache(volume: Volume, *, is_reopened: bool = False) -> CachedResult | None:
    """Return the volume as a cached result; None if it is not in the cache folder."""
    path = _path_of(volume.data)
    if path is None:
        return None
    return CachedResult(volume.data, path, _stamp_of(volume), is_reopened)


def _stamp_of(volume: Volume) -> Stamp:
    return Stamp(
        tuple(volume.shape),
        volume.axes,
        volume.voxel_size,
        volume.unit,
        volume.origin,
        tuple(volume.provenance),
    )


def claim(array: Any) -> None:
    """Remove a cached result as soon as its array is no longer referenced."""
    path = _path_of(array)
    if path is not None and path not in _owned:
        _owned.add(path)
        weakref.finalize(array, _drop, path)


def find_unfinished_results() -> list[Volume]:
    """Return the unfinished results of killed programs in the cache folder.

    The last record of each result lists the finished boxes.
    """
    import zarr

    found = []
    for entry in _entries():
        try:
            array: Any = zarr.open_array(entry.part, mode="r+")
            found.append(_as_volume(entry, array))
        except (OSError, ValueError, KeyError, TypeError, GeoSRError):
            continue  # the record is damaged, or has been removed in the meantime
    return found


def keep_part(volume: Volume, path: Path) -> Path | None:
    """Keep the finished part of an unsaved result, for another process to resume.

    A result in the cache folder is linked or copied to `path`; for a result in memory,
    the finished boxes are copied. The array must not be used afterwards.

    Parameters
    ----------
    volume : Volume
        Result of a run; its last record lists the ``finished`` boxes or is
        ``complete``.
    path : Path
        Folder of the zarr array to create; its journal is written next to it.

    Returns
    -------
    Path or None
        `path`; None if nothing is finished.

    Raises
    ------
    FileError
        If the part cannot be written.

    See Also
    --------
    open_part : reopens the volume
    """
    record, boxes = _finished(volume)
    if not boxes:
        return None
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        cached = _path_of(volume.data)
        if cached is None:
            array = _new_zarr(path, volume)
            copy_boxes(volume.data, array, boxes)
        else:
            shutil.copytree(cached, path, copy_function=_link_or_copy)
            array = _open_zarr(path)
    stamp = _stamp_of(volume.replace(provenance=(*volume.provenance[:-1], record)))
    Journal(CachedResult(array, path, stamp, is_reopened=False)).add(boxes)
    return path


def _link_or_copy(source: str, target: str) -> None:
    """Create a hard link to a file, or copy the file if no link can be made."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def open_part(path: Path) -> Volume | None:
    """Open the part stored by `keep_part`; None if there is none.

    Raises
    ------
    FileError
        If the part cannot be read.
    """
    entry = load_journal(path)
    if entry is None or not entry.boxes:
        return None
    try:
        return _as_volume(entry, _open_zarr(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"The finished part in {path} cannot be read: {error}. Delete it to start "
            "from the beginning."
        ) from error


def is_written(out: Path, folder: Path, operation: str, replaces: int = 0) -> bool:
    """Return whether an earlier run of a job has written its output.

    Jobs of earlier releases have no record of their files. For these jobs, any complete
    result of the same operation is assumed to be their output.

    Parameters
    ----------
    out : Path
    folder : Path
        Folder of the job.
    operation : str
        Operation of the job, as in the records of its results.
    replaces : int
        Modification time, in ns, of the file that the output replaces; 0 if none.

    Raises
    ------
    FileError
        If another program has written the file since the job was created.
    """
    try:
        is_old = out.stat().st_mtime_ns == replaces
    except FileNotFoundError:
        return False
    # Files in the folder of a job belong to the job, because other programs do not
    # write there.
    is_own = out.is_relative_to(folder) or is_recorded(out, folder)
    if not (is_old or is_own or _may_be_result(out, folder, operation)):
        raise FileError(
            f"{out} was written by another program after this job was created, so it "
            "was not replaced. Move or rename it and resume the job (napari-geosr jobs "
            f"resume {folder}), or start a new job with another output."
        )
    return not is_old


def _may_be_result(out: Path, folder: Path, operation: str) -> bool:
    """Return whether a file may be the result of a job of an earlier release."""
    if has_record(folder):
        return False
    try:
        last = read_back(out).provenance[-1]
    except (GeoSRError, IndexError):
        return False
    return last.get("operation") == operation and last.get("complete") is not False


def remove_parts(folder: Path, *paths: Path | None) -> None:
    """Remove parts stored by `keep_part` in the folder of a job, if they exist.

    A job file from elsewhere may name any path; only parts in the folder's ``data`` are
    removed.
    """
    claim = folder.resolve()
    for path in paths:
        if path is not None and path.resolve().is_relative_to(claim / "data"):
            remove_with_journal(path)


def _finished(volume: Volume) -> tuple[AnyDict, list[Box]]:
    """Return a volume's last record, marked as unfinished, and its finished boxes."""
    last = dict(volume.provenance[-1]) if volume.provenance else {}
    boxes = list(boxes_from_lists(last.get("finished") or ()))
    if last.get("complete") is True:
        boxes = [tuple(slice(0, n) for n in volume.shape)]
    return {**last, "complete": False}, boxes


def _new_zarr(path: Path, volume: Volume) -> Any:
    import zarr

    shape = volume.shape
    return zarr.create_array(
        path,
        shape=shape,
        dtype=volume.dtype,
        chunks=_chunks(shape),
        fill_value=np.nan if volume.dtype.kind == "f" else 0,
    )


def _open_zarr(path: Path) -> Any:
    import zarr

    return zarr.open_array(path, mode="r+")


def _chunks(shape: tuple[int, ...], depth: int = 8) -> tuple[int, ...]:
    most = (1, 1, depth, 512, 512)[-len(shape) :]
    return tuple(min(n, c) for n, c in zip(shape, most, strict=True))


def _as_volume(entry: JournalEntry, array: Any) -> Volume:
    stamp = entry.stamp
    return Volume(
        array,
        stamp["axes"],
        tuple(stamp["voxel_size"]),
        stamp["unit"],
        tuple(stamp["origin"]),
        name="result",
        provenance=history_of(entry),
    )


def discard(volume: Volume) -> None:
    """Remove a result that a killed program left in the cache folder."""
    path = _path_of(volume.data)
    if path is not None:
        _drop(path)


def _entries() -> list[JournalEntry]:
    """Return the journals of results that no running program is filling."""
    entries = map(read_journal, leftovers(_folder() / f"result{_SUFFIX}", _SUFFIX))
    return [
        entry
        for entry in entries
        if entry is not None
        and entry.boxes
        and not (entry.is_this_process or entry.is_running)
    ]


def _folder() -> Path:
    from platformdirs import user_cache_path

    return Path(user_cache_path("napari-geosr")) / "results"


def _path_of(array: Any) -> Path | None:
    """Return the folder of a zarr array in the cache; None for any other array."""
    store = getattr(array, "store", None)
    root = getattr(store, "root", None)
    if root is None or Path(root).parent != _folder():
        return None
    return Path(root)


def _drop(path: Path) -> None:
    _owned.discard(path)
    remove_with_journal(path)


def _remove_leftovers() -> None:
    """Remove unusable results, and old results of programs that have ended."""
    for left in _folder().glob(f"*{_SUFFIX}"):
        # A result that cannot be read now may be removed by a later run.
        with suppress(OSError, FileError):
            if left not in _owned and _is_removable(left):
                _drop(left)


def _is_removable(left: Path) -> bool:
    """Return whether a result is unusable, or is old and its program has ended.

    Results of other computers are assumed to be in use until nothing in them has
    changed for `_DAYS`.
    """
    entry = load_journal(left)
    if entry is None:  # without a journal, the folder's name identifies the process
        is_useless, is_in_use = is_abandoned(left), is_of_this_computer(left)
    else:
        is_useless = entry.is_useless
        is_in_use = entry.is_running or entry.is_this_process
    if is_useless or is_in_use:
        return is_useless
    return not has_changed_since(left, time.time() - _DAYS * 86400)
