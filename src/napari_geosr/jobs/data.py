"""Create the folder of a new job and write unsaved input data into it."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_data_path

from napari_geosr import io
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    FileError,
    UnansweredError,
    VolumeError,
)
from napari_geosr.core.file_warnings import FILE_WARNINGS
from napari_geosr.core.machine.file_state import OPENED
from napari_geosr.core.provenance import IS_IN_FILE
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.units import same_position, same_sizes
from napari_geosr.core.volume import Volume
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queue_record

#: Number of bytes that are read at a time to compare a volume with its file.
_COMPARED_BYTES = 2**24
#: Metadata keys that do not affect what a volume shows.
_FROM_READER = {FILE_WARNINGS, OPENED, IS_IN_FILE}
#: Beginning of the names of Dask arrays to which values were assigned.
_ASSIGNED = "setitem"


def jobs_folder() -> Path:
    """Return the default parent folder of job folders."""
    return user_data_path("napari-geosr", appauthor=False) / "jobs"


def new_folder(parent: Path, name: str) -> Path:
    """Create ``parent/name`` atomically, numbered if it exists, and return its path.

    Raises
    ------
    FileError
        If the folder cannot be created.
    """
    path, number = parent / name, 1
    try:
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
            except FileExistsError:
                number += 1
                path = parent / f"{name}-{number}"
            else:
                return path
    except OSError as error:
        raise FileError(
            f"The job folder {path} cannot be created: {error.strerror}. Choose "
            "another folder."
        ) from error


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[Path]:
    """Delete a new folder and its entry in the list of jobs if creating the job fails.

    The folder is kept if a queue may have accepted the job.

    Yields
    ------
    Path
        The folder.
    """
    try:
        yield folder
    except UnansweredError:  # the queue may be running the job
        raise
    except BaseException:  # any exception, including that of a closed generator
        if not _is_in_queue(folder):
            shutil.rmtree(folder, ignore_errors=True)
            index.forget(folder)
        raise


def _is_in_queue(folder: Path) -> bool:
    """Return whether a queue has accepted the new job in a folder."""
    try:
        return bool(queue_record.read_record(folder).number)
    except FileError:  # it is not known at the moment
        return True


def write_into_job(
    volume: Volume, path: Path, should_stop: ShouldStop = never_stop
) -> Path:
    """Write a volume to `path` in the folder of a job.

    Returns
    -------
    Path
        The file, or folder of an OME-Zarr.

    Raises
    ------
    FileError
        If the volume cannot be written.
    Cancelled
        If `should_stop` returns True.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"The job folder {path.parent} cannot be created: {error.strerror}. "
            "Choose another folder."
        ) from error
    return io.write(volume, path, should_stop=should_stop)


def equals_file(volume: Volume, should_stop: ShouldStop = never_stop) -> bool:
    """Return whether the source file of a layer's volume holds exactly this volume.

    Axes, data type, voxel size, origin and all voxels must agree, because the layer may
    have been edited, be one channel or time point of its file, or have another voxel
    size or position.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    # Metadata that the reader adds do not count as a change.
    if volume.source is None or volume.metadata.keys() - _FROM_READER:
        return False
    try:
        file = io.read(volume.source)
        is_same = (
            file.axes == volume.axes
            and file.shape == volume.shape
            and file.dtype == volume.dtype
            and file.unit == volume.unit
            and same_sizes(file.voxel_size, volume.voxel_size)
            and same_position(file.origin, volume.origin, volume.voxel_size)
        )
        return is_same and same_voxels(file.data, volume.data, should_stop)
    except (FileError, VolumeError, ConfigError):
        return False


class UneditedCheck:
    """Checks that the voxels of a layer are still those of its file.

    Arrays in memory are compared with the file, which is read again. Arrays that are
    read on demand count as unchanged unless values were assigned to them.

    Parameters
    ----------
    voxels : array-like
        All voxels of the layer.
    dataset : str, optional
        Dataset of the file.
    """

    def __init__(self, voxels: Any, dataset: str | None = None) -> None:
        self._voxels, self._dataset = voxels, dataset

    def __call__(self, volume: Volume, should_stop: ShouldStop = never_stop) -> bool:
        """Return whether `volume`, made from the layer, is unedited.

        The result is also True if this cannot be determined, e.g. because another
        reader opened the file with different axes.

        Raises
        ------
        Cancelled
            If `should_stop` returns True.
        """
        voxels = self._voxels
        if volume.shape == voxels.shape:  # the whole layer, which may have been edited
            voxels = volume.data
        if not isinstance(voxels, np.ndarray):
            return not str(getattr(voxels, "name", "")).startswith(_ASSIGNED)
        if isinstance(voxels, np.memmap) and not voxels.flags.writeable:
            return True
        assert volume.source is not None
        try:
            file = io.read(volume.source, dataset=self._dataset)
            # Data types are not compared: converting an image to labels changes it.
            if file.shape != voxels.shape:
                return True
            return same_voxels(file.data, voxels, should_stop)
        except (FileError, VolumeError, ConfigError, OSError):
            return True


def same_voxels(first: Any, second: Any, should_stop: ShouldStop = never_stop) -> bool:
    """Compare the voxels of two arrays slab by slab; return whether they are equal."""
    per_slice = max(1, math.prod(first.shape[1:]) * first.dtype.itemsize)
    depth = max(1, _COMPARED_BYTES // per_slice)
    for start in range(0, first.shape[0], depth):
        if should_stop():
            raise Cancelled("Cancelled.")
        slab = slice(start, start + depth)
        a, b = np.asarray(first[slab]), np.asarray(second[slab])
        if not np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
            return False
    return True
