"""Files in, files out: volumes with their voxel size, unit, origin and provenance.

Formats are told by suffix; nothing heavy is imported before a file is touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.io.suffixes import (
    HDF5,
    NIFTI,
    PICTURE,
    RAW,
    READ_SUFFIXES,
    TIFF,
    WRITE_SUFFIXES,
    ZARR,
    is_zarr_folder,
    looks_like,
    suffix_of,
)

if TYPE_CHECKING:
    from napari_geosr.io.output import Output

__all__ = [
    "READ_SUFFIXES",
    "WRITE_SUFFIXES",
    "check_output",
    "create",
    "read",
    "write",
]


def read(
    path: str | Path,
    *,
    axes: str | None = None,
    channel: int | None = None,
    time: int | None = None,
    voxel_size: Sequence[float] | None = None,
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
        ``"FILE::DATASET"`` for one of several images in a file.
    axes : str, optional
        Meaning of the stored axes, e.g. ``"TYX"``, where the file does not say.
    channel, time : int, optional
        Take one channel, one time point, and drop that axis.
    voxel_size : sequence of float, optional
        Overrules the file: along Z, Y, X (or Y, X; or one number), in `unit`.
    unit : str, optional
        Length unit of `voxel_size`.
    dataset : str, optional
        Path of the dataset inside an HDF5 file, number of the image in a TIFF file.
    shape, dtype : optional
        Of a raw file: along Z, Y, X, and for example ``"<u2"``.
    offset : int
        Bytes before the first voxel of a raw file.

    Returns
    -------
    Volume

    Raises
    ------
    FileError
        If there is no such file, or it is damaged or no image volume.

    Examples
    --------
    >>> import numpy as np
    >>> import tifffile
    >>> import napari_geosr as geosr
    >>> tifffile.imwrite("stack.tif", np.zeros((8, 32, 32), "u1"))
    >>> geosr.read("stack.tif", voxel_size=(2, 1, 1), unit="µm")
    <Volume 'stack': Z 8 × Y 32 × X 32, voxel size 2 × 1 × 1 µm, uint8, 8.19 kB...>
    """
    text, inner = str(path), dataset
    if "::" in text and not Path(text).exists():
        text, _, inside = text.partition("::")
        inner = dataset or inside
    given = Path(text).expanduser()
    volume = _read_any(given, axes, inner, shape, dtype, offset)
    if time is not None or channel is not None:
        volume = _choose(volume, time, channel)
    return volume.with_geometry(voxel_size, unit)


def _choose(volume: Volume, time: int | None, channel: int | None) -> Volume:
    """Take the time point and the channel asked for; keep an axis not asked about."""
    for letter, choice in (("T", time), ("C", channel)):
        if choice is None or letter not in volume.axes:
            continue
        position = volume.axes.index(letter)
        n = volume.shape[position]
        if not 0 <= choice < n:
            word = "time" if letter == "T" else "channel"
            raise FileError(
                f"{volume.name!r} has no {word} {choice}: choose 0 … {n - 1}."
            )
        key = (slice(None),) * position + (choice,)
        volume = volume.replace(
            data=volume.data[key], axes=volume.axes.replace(letter, "")
        )
    return volume


def _read_any(
    path: Path,
    axes: str | None,
    dataset: str | None,
    shape: Sequence[int] | None,
    dtype: str | None,
    offset: int,
) -> Volume:
    if any(c in path.name for c in "*?[") and not path.exists():
        from napari_geosr.io.slices import read_glob

        return read_glob(path, axes=axes)
    suffix = suffix_of(path)
    if not path.exists():
        raise FileError(f"{path} does not exist. Check the name and the folder.")
    if not os.access(path, os.R_OK):
        raise FileError(
            f"{path} may not be read by you. Ask its owner for permission to read it."
        )
    if path.is_dir():
        return _read_folder(path, axes, dataset)
    if path.stat().st_size == 0:
        raise FileError(f"{path.name} is empty (0 bytes). Copy or export it again.")
    if suffix in TIFF:
        from napari_geosr.io.tiff import read_tiff

        return read_tiff(path, axes=axes, dataset=dataset)
    if suffix in HDF5:
        from napari_geosr.io.hdf5 import read_hdf5

        return read_hdf5(path, axes=axes, dataset=dataset)
    if suffix in NIFTI:
        from napari_geosr.io.nifti import read_nifti

        return read_nifti(path)
    if suffix in PICTURE:
        from napari_geosr.io.picture import read_picture

        return read_picture(path)
    if suffix in RAW or (shape is not None and dtype is not None):
        from napari_geosr.io.raw import read_raw

        return read_raw(path, shape=shape, dtype=dtype, offset=offset, axes=axes)
    raise _unsupported(path)


def _read_folder(path: Path, axes: str | None, dataset: str | None) -> Volume:
    if suffix_of(path) in ZARR or is_zarr_folder(path):
        from napari_geosr.io.ome_zarr import read_zarr

        return read_zarr(path, axes=axes, dataset=dataset)
    from napari_geosr.io.slices import read_folder

    return read_folder(path, axes=axes)


def _unsupported(path: Path) -> FileError:
    suffix = suffix_of(path)
    known = ", ".join(s for s in READ_SUFFIXES if s.count(".") == 1)
    if suffix in (".zip", ".gz", ".7z", ".tar", ".rar", ".bz2", ".xz"):
        return FileError(
            f"{path.name} is an archive, not an image volume. Unpack it first and open "
            "the file inside."
        )
    return FileError(
        f"{path.name} is not an image volume that can be read ({looks_like(path)}). "
        f"Supported: {known} and folders of slices."
    )


def check_output(path: str | Path, overwrite: bool = False, nbytes: int = 0) -> Path:
    """Find out early whether `path` can be written.

    Raises
    ------
    FileError
        If it exists and `overwrite` is false, it is a folder but no OME-Zarr, its
        suffix is unknown, its folder is missing or not writable, or the disk has less
        than `nbytes` left.
    """
    from napari_geosr.io.atomic import check_folder, refuse_existing

    target = Path(path).expanduser()
    if suffix_of(target) not in WRITE_SUFFIXES:
        raise FileError(
            f"{target.name} has no suffix that can be written. Use one of: "
            f"{', '.join(WRITE_SUFFIXES)}."
        )
    check_folder(target, nbytes)
    refuse_existing(target, overwrite)
    return target


@contextmanager
def create(
    path: str | Path,
    *,
    shape: Sequence[int],
    dtype: Any,
    axes: str,
    voxel_size: Sequence[float],
    unit: str,
    origin: Sequence[float],
    provenance: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
    multiscale: bool = True,
    kind: str = "image",
    tile: Sequence[int] | None = None,
    memory: int | None = None,
    continues: Path | None = None,
    channels: Sequence[str] = (),
) -> Iterator[Output]:
    """Make a file to be filled block by block; it appears at `path` when complete.

    Parameters
    ----------
    path : str or Path
        The suffix tells the format: one of `WRITE_SUFFIXES`.
    shape : sequence of int
        In the order of `axes`.
    dtype : dtype
        bool is written as uint8; any other real dtype stays as it is.
    axes : str
        Out of ``"TCZYX"``, in that order.
    voxel_size, origin : sequence of float
        Along the spatial axes, in `unit`.
    unit : str
    provenance : sequence of mapping
        Kept in the file; may be replaced on the `Output` before the end.
    overwrite : bool
        Whether an existing file is replaced (only once the new one is complete).
    multiscale : bool
        For OME-Zarr: add coarser copies for fast display.
    kind : str
        ``"image"`` or ``"labels"``; kept in the file. Labels are never averaged.
    tile : sequence of int, optional
        Shape of the blocks that will be written, side by side from the first voxel on:
        chunks and shards of an OME-Zarr are chosen to fit into them.
    memory : int, optional
        Bytes that the output may hold back, and take for packing.
    continues : Path, optional
        What a killed run left and this one goes on with: not told to be deleted.
    channels : sequence of str
        Names of the channels; not written unless there is one for each.

    Yields
    ------
    Output
        Its `array` takes disjoint writes from one thread.

    Raises
    ------
    FileError
        If the file cannot be written or the disk is full.
    """
    from napari_geosr.io.output import open_output

    with open_output(
        path,
        shape=shape,
        dtype=dtype,
        axes=axes,
        voxel_size=voxel_size,
        unit=unit,
        origin=origin,
        provenance=provenance,
        overwrite=overwrite,
        multiscale=multiscale,
        kind=kind,
        tile=tile,
        memory=memory,
        continues=continues,
        channels=channels,
    ) as output:
        yield output


def write(
    volume: Volume,
    path: str | Path,
    *,
    overwrite: bool = False,
    kind: str | None = None,
    should_stop: ShouldStop = never_stop,
) -> Path:
    """Write a volume atomically, block by block; a lazy one is never loaded whole.

    Parameters
    ----------
    volume : Volume
    path : str or Path
        The suffix tells the format: one of `WRITE_SUFFIXES`.
    overwrite : bool
    kind : str, optional
        ``"image"`` or ``"labels"``; by default what the volume's metadata say, or an
        image.
    should_stop : callable
        Asked before every block.

    Returns
    -------
    Path
        Where it was written.

    Raises
    ------
    FileError
        As in :func:`create`.
    Cancelled
        If it was to stop; nothing is left at `path` that was not there before.
    """
    from napari_geosr.io.output import copy_blocks

    target = Path(path).expanduser()
    if volume.source is not None and _same(volume.source, target) and volume.is_lazy:
        raise ConfigError(
            f"{volume.name!r} is read from {target} while it is written. Write to "
            "another name."
        )
    with create(
        target,
        shape=volume.shape,
        dtype=volume.dtype,
        axes=volume.axes,
        voxel_size=volume.voxel_size,
        unit=volume.unit,
        origin=volume.origin,
        provenance=volume.provenance,
        overwrite=overwrite,
        kind=kind or str(volume.metadata.get("kind", "image")),
        channels=volume.metadata.get("channels", ()),
    ) as output:
        copy_blocks(volume.data, output, should_stop)
    return target


def _same(source: Path, target: Path) -> bool:
    return target.exists() and source.exists() and source.samefile(target)
