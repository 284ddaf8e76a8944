"""Read and write volumes with their voxel size, unit, origin and provenance.

Formats are identified by suffix; their libraries are imported only when they are
needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_geosr.core.addresses import as_address
from napari_geosr.core.errors import FileError, VolumeError
from napari_geosr.core.machine.file_state import file_state, remember_small, with_state
from napari_geosr.core.reading import with_reading
from napari_geosr.core.volume import ArrayLike, Volume
from napari_geosr.io.formats import (
    ReadOptions,
    format_that_reads,
    read_suffixes,
    write_suffixes,
)
from napari_geosr.io.lazy import LazyArray
from napari_geosr.io.names import refuse_nul
from napari_geosr.io.reading import check_readable, read_file
from napari_geosr.io.remote import read_address
from napari_geosr.io.slices import read_folder, read_glob
from napari_geosr.io.spec import OutputSpec
from napari_geosr.io.writing import check_output, create, write

__all__ = [
    "OutputSpec",
    "check_output",
    "create",
    "read",
    "read_back",
    "read_suffixes",
    "write",
    "write_suffixes",
]


def read(
    path: str | Path,
    *,
    axes: str | None = None,
    channel: int | None = None,
    time: int | None = None,
    voxel_size: float | Sequence[float] | None = None,
    unit: str | None = None,
    dataset: str | None = None,
    shape: Sequence[int] | None = None,
    dtype: str | None = None,
    offset: int = 0,
) -> Volume:
    """Read a volume lazily: its voxels stay in the file until they are used.

    Parameters
    ----------
    path : str or Path
        A file, a folder of slices, a glob such as ``"scan/*.tif"``, or
        ``"FILE::DATASET"`` for one of several images in a file. A zarr or an HDF5 file
        may also be given by its address: ``"https://…"``, ``"s3://…"`` or
        ``"sftp://…"``.
    axes : str, optional
        Meaning of the stored axes, e.g. ``"TYX"``, if the file does not state it.
    channel, time : int, optional
        Index of the channel or time point to read; its axis is dropped.
    voxel_size : float or sequence of float, optional
        Replaces the file's voxel size: along Z, Y, X (or Y, X), or one number for all
        axes, in `unit`.
    unit : str, optional
        Length unit of `voxel_size`.
    dataset : str, optional
        Path inside an HDF5 file or a zarr, or index of the image in a TIFF file.
    shape, dtype : optional
        Shape (Z, Y, X) and data type (e.g. ``"<u2"``) of a raw file.
    offset : int
        Bytes before the first voxel of a raw file.

    Returns
    -------
    Volume

    Raises
    ------
    FileError
        If the file does not exist, is damaged, is not an image volume, or lacks the
        channel or time point.
    VolumeError
        If the voxel size does not match the axes.

    Examples
    --------
    >>> import numpy as np
    >>> import tifffile
    >>> import napari_geosr as geosr
    >>> tifffile.imwrite("stack.tif", np.zeros((8, 32, 32), "u1"))
    >>> geosr.read("stack.tif", voxel_size=(2, 1, 1), unit="µm")
    <Volume 'stack': Z 8 × Y 32 × X 32, voxel size 2 × 1 × 1 µm, uint8, 8.19 kB...>
    """
    refuse_nul(path)
    text, inner = str(path), dataset
    if "::" in text and not Path(text).exists():
        text, _, inside = text.partition("::")
        inner = dataset or inside
    if (address := as_address(text)) is not None:
        options = ReadOptions(axes, inner)
        remote = _with_options(read_address(address, options), options)
        return _chosen(remote, time, channel).with_geometry(voxel_size, unit)
    given = Path(text).expanduser()
    place = given.parent if _is_pattern(given) else given
    state = file_state(place)  # before reading, to notice any later change
    options = ReadOptions(axes, inner, shape, dtype, offset)
    volume = _read_any(given, options)
    if isinstance(volume.data, LazyArray):
        volume.data.reopening = (_reopen, (given.absolute(), options))
    if volume.source == place:
        volume = volume.replace(metadata=with_state(volume.metadata, state))
        if not volume.is_lazy:
            remember_small(place, state)
    volume = _with_options(volume, options)
    return _chosen(volume, time, channel).with_geometry(voxel_size, unit)


def _with_options(volume: Volume, options: ReadOptions) -> Volume:
    """Record in the metadata of a volume the options with which it was read."""
    shape, dtype = options.shape, options.dtype
    metadata = with_reading(
        volume.metadata,
        axes=options.axes,
        dataset=options.dataset,
        shape=None if shape is None else [int(n) for n in shape],
        dtype=None if dtype is None else str(dtype),
        offset=options.offset or None,
    )
    return volume.replace(metadata=metadata)


def _chosen(volume: Volume, time: int | None, channel: int | None) -> Volume:
    """Select one channel or time point of a file, if requested."""
    try:
        return volume.take(time=time, channel=channel)
    except VolumeError as error:  # the file lacks this channel or time point
        raise FileError(str(error)) from error


def read_back(path: str | Path) -> Volume:
    """Read a file that was just written.

    Raises
    ------
    FileError
        If the file cannot be opened; the message says that the file is complete.
    """
    try:
        return read(path)
    except (FileError, VolumeError, OSError) as error:
        reason = str(error).rstrip(".")
        raise FileError(
            f"{path} was written completely, but cannot be opened now "
            f"({reason}). Open it later: nothing has to be computed again."
        ) from error


def _is_pattern(path: Path) -> bool:
    return any(c in path.name for c in "*?[") and not path.exists()


def _reopen(path: Path, options: ReadOptions) -> ArrayLike:
    return _read_any(path, options).data


def _read_any(path: Path, options: ReadOptions) -> Volume:
    if _is_pattern(path):
        return read_glob(path, axes=options.axes)
    check_readable(path)
    if path.is_dir() and format_that_reads(path, options) is None:
        return read_folder(path, axes=options.axes)
    return read_file(path, options)
