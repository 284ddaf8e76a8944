"""Read OME-Zarr images and plain zarr arrays lazily."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_geosr.core.errors import FileError, describe_system_error
from napari_geosr.core.file_warnings import with_file_warnings
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping, ZarrNode
from napari_geosr.core.volume import Volume
from napari_geosr.io.arrangement import (
    arrangement,
    channel_names,
    finish,
    restore_singletons,
)
from napari_geosr.io.formats.ome_zarr import ngff
from napari_geosr.io.formats.ome_zarr.missing_chunks import ALL_CHUNKS, missing_chunks
from napari_geosr.io.lazy import decoding
from napari_geosr.io.reader_questions import (
    ask_voxel_size,
    stored_letters,
    unnamed_axis,
)
from napari_geosr.io.shared_array import check_still_there, folder_of
from napari_geosr.io.stamp import KEY, Stamp, from_dict
from napari_geosr.io.suffixes import stem_of

#: Maximum plausible number of voxels; metadata that claim more are damaged.
_MAX_VOXELS = 10**15
#: Number of chunks above which an array of small chunks takes minutes to read.
_MANY_CHUNKS = 10**5
#: Number of voxels below which a chunk counts as small.
_SMALL_CHUNK = 64


def read_zarr(
    path: Path, *, axes: str | None = None, dataset: str | None = None
) -> Volume:
    """Read the finest level of an OME-Zarr image, or a plain zarr array, lazily.

    Parameters
    ----------
    path : Path
    axes : str, optional
        Meaning of the stored axes; takes precedence over the file.
    dataset : str, optional
        Path of a group or array inside the zarr.

    Raises
    ------
    FileError
        If the folder is not a zarr, is damaged, or contains several images.
    """
    return read_levels(path, axes=axes, dataset=dataset)[0]


def read_levels(
    path: Path, *, axes: str | None = None, dataset: str | None = None
) -> list[Volume]:
    """Return all resolution levels of an OME-Zarr image as volumes, finest first.

    Parameters
    ----------
    path : Path
    axes : str, optional
        Meaning of the stored axes; takes precedence over the file.
    dataset : str, optional
        Path of the image inside the zarr.

    Raises
    ------
    FileError
        If the zarr is damaged, or contains no such image.
    """
    import zarr

    try:
        # Consolidated metadata may be older than the arrays.
        node: ZarrNode = zarr.open(
            path, mode="r", path=(dataset or "").strip("/"), use_consolidated=False
        )
    except Exception as error:
        if text := describe_system_error(error):
            message = f"{path.name} cannot be read at the moment. {text}"
            raise FileError(message) from error
        raise FileError(
            f"{path.name} is not a readable zarr folder"
            f"{f' or has no {dataset!r}' if dataset else ''}: {_reason(error)}. Check "
            "that it was copied completely."
        ) from error
    return volumes_of(node, path, axes=axes)


def volumes_of(node: ZarrNode, path: Path, *, axes: str | None = None) -> list[Volume]:
    """Return all resolution levels of an opened zarr group or array, finest first.

    Parameters
    ----------
    node : zarr.Group or zarr.Array
    path : Path
        Location of the zarr, for names and messages.
    axes : str, optional
        Meaning of the stored axes; takes precedence over the file.

    Raises
    ------
    FileError
        If the zarr is damaged, or contains no image.
    """
    import zarr

    with decoding(path, "its structure"):
        node = _descend(node, path)
        if isinstance(node, zarr.Array):
            return [_with_chunk_warnings(_volume(node, path, {}, None, 0, axes), node)]
        entries = ngff.find_multiscales(dict(node.attrs))
        if not entries or not entries[0].get("datasets"):
            return [_only_array(node, path, axes)]
        entry = entries[0]
        levels = []
        whole = ALL_CHUNKS in node.attrs.get(KEY, ())
        stamp = from_dict(node.attrs[KEY]) if KEY in node.attrs else None
        names = ngff.channel_names(dict(node.attrs))
        for i, item in enumerate(entry["datasets"]):
            if "path" not in item or item["path"] not in node:
                raise FileError(
                    f"{path.name} is incomplete: its resolution level {i} "
                    f"({item.get('path', 'without a path')}) is missing. Copy it again."
                )
            array = node[item["path"]]
            volume = _volume(array, path, entry, stamp, i, axes, names)
            levels.append((volume, array))
        # The specification requires this order, but not all programs follow it.
        levels.sort(key=lambda level: -math.prod(level[0].shape))
        finest, array = levels[0]
        first = _with_chunk_warnings(finest, array, entry, whole)
        return [first, *(volume for volume, _ in levels[1:])]


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120].rstrip(".") if lines else type(error).__name__


def _descend(node: ZarrNode, path: Path) -> ZarrNode:
    """Descend into the first image of a bioformats2raw series; reject plates."""
    attributes = dict(node.attrs)
    ome = attributes.get("ome")
    block = ome if isinstance(ome, Mapping) else attributes
    if "plate" in block or "well" in block:
        raise FileError(
            f"{path.name} is a plate of many images. Choose one as "
            f"'{path.name}::A/1/0'."
        )
    if "bioformats2raw.layout" in block and "0" in node:
        return node["0"]
    return node


def _only_array(group: ZarrNode, path: Path, axes: str | None) -> Volume:
    names = sorted(name for name, _ in group.arrays())
    if len(names) == 1:
        array = group[names[0]]
        return _with_chunk_warnings(_volume(array, path, {}, None, 0, axes), array)
    if not names:
        inner = ", ".join(sorted(name for name, _ in group.groups())[:8])
        raise FileError(
            f"{path.name} contains no "
            f"image{f'; its groups are: {inner}' if inner else ''}. Choose a group or "
            f"array as '{path.name}::NAME'."
        )
    raise FileError(
        f"{path.name} contains {len(names)} arrays: {', '.join(names[:8])}. Choose "
        f"one as '{path.name}::{names[0]}'."
    )


def _volume(
    array: ZarrNode,
    path: Path,
    entry: AnyMapping,
    stamp: Stamp | None,
    level: int,
    axes: str | None,
    names: tuple[str, ...] = (),
) -> Volume:
    _check(array, path)
    shape = tuple(int(n) for n in array.shape)
    letters = ngff.axes_of(entry, array.ndim) if entry else ""
    space = ngff.geometry(entry, level, letters) if letters else ngff.LevelSpace()
    notes = list(space.notes)
    plain = "TZYX" if array.ndim == 4 else "TCZYX"[-array.ndim :]
    order, final = arrangement(shape, letters or plain, axes, path, notes)
    if letters and not axes:
        # The file names its axes, so axes of length one are meaningful (Z = 1).
        named = "".join(a for a in "TCZYX" if a in letters)
        stored = (
            stamp.axes
            if stamp is not None
            else "".join(a for a in named if a in final or a == "Z")
        )
        order, final = restore_singletons(order, final, shape, stored)
    spatial = [a for a in final if a in "ZYX"]
    metadata: AnyDict = {"format": f"zarr v{array.metadata.zarr_format}"}
    if entry:
        metadata = {"format": "OME-Zarr", "levels": len(entry["datasets"])}
    if stamp is not None and stamp.kind != "image":
        metadata["kind"] = stamp.kind
    if stamp is not None:
        metadata |= stamp.directions
    stamped = () if stamp is None else stamp.channels
    final_shape = [1 if i is None else shape[i] for i in order]
    metadata |= channel_names(stamped or names, final, final_shape)
    if notes:
        metadata["notes"] = tuple(notes)
    volume = Volume(
        data=finish(_Source(array), order, tuple(array.chunks), path, final),
        axes=final,
        voxel_size=tuple(space.size.get(a, 1.0) for a in spatial),
        unit=space.unit,
        origin=tuple(space.origin.get(a, 0.0) for a in spatial),
        name=stem_of(path),
        provenance=stamp.provenance if stamp is not None else (),
        source=path,
        metadata=metadata,
    )
    volume = ask_voxel_size(volume, trusted=stamp is not None)
    if letters or axes is not None:
        return volume
    return unnamed_axis(volume, stored_letters(order, final))


def _with_chunk_warnings(
    volume: Volume,
    array: ZarrNode,
    entry: AnyMapping | None = None,
    whole: bool = False,
) -> Volume:
    """Return the volume, with a warning if chunks are missing."""
    names: Sequence[str] = ngff.axes_of(entry, array.ndim) if entry else ""
    if not names:  # name the axes as in the volume, or number them
        same = len(volume.axes) == array.ndim
        names = volume.axes if same else [f"axis {i}" for i in range(array.ndim)]
    warning = missing_chunks(array, names, all_written=whole)
    return volume.replace(metadata=with_file_warnings(volume.metadata, warning))


class _Source:
    """A `VoxelSource` over a zarr array."""

    def __init__(self, array: ZarrNode) -> None:
        self.array = array
        self.shape = tuple(int(n) for n in array.shape)
        self.dtype = np.dtype(array.dtype)
        # Memory for the stored chunk, which is at most as large as its voxels, and for
        # the decoded chunk, which has the full size even at the border.
        self.decoding_bytes = 2 * math.prod(array.chunks) * self.dtype.itemsize
        is_in_folder = isinstance(getattr(array.store, "root", None), Path)
        self._folder = folder_of(array) if is_in_folder else None

    def __getitem__(self, key: tuple[slice, ...]) -> AnyArray:
        voxels = np.asarray(self.array[key])
        if self._folder is not None:
            check_still_there(self._folder, self.array.store.root.name)
        return voxels


def _check(array: ZarrNode, path: Path) -> None:
    kind = np.dtype(array.dtype).kind
    if kind == "c":
        raise FileError(
            f"{path.name} contains complex numbers; volumes must be real-valued. Save "
            "the magnitude (or phase) as a separate array."
        )
    if kind not in "biuf" or not 2 <= array.ndim <= 5 or 0 in array.shape:
        raise FileError(
            f"{path.name} contains an array of shape {tuple(array.shape)} and type "
            f"{array.dtype}, which is not an image or volume."
        )
    n_voxels = math.prod(array.shape)
    if n_voxels > _MAX_VOXELS:
        raise FileError(
            f"{path.name} is damaged: its metadata give a size of {n_voxels:.3g} "
            "voxels. Copy or export it again."
        )
    per_chunk = math.prod(array.chunks)
    if n_voxels > _MANY_CHUNKS * per_chunk and per_chunk < _SMALL_CHUNK:
        raise FileError(
            f"{path.name} is stored in {n_voxels / per_chunk:,.0f} chunks of "
            f"{per_chunk} voxels, which take too long to read. Save it with larger "
            "chunks, such as 64 × 64 × 64."
        )
