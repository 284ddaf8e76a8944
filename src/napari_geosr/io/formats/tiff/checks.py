"""Fast checks for damaged and truncated TIFF files when they are opened."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.config import (
    format_available,
    format_enough,
)
from napari_geosr.core.errors import FileError
from napari_geosr.core.types import AnyMapping

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

#: Bytes per value of each TIFF type.
_TYPE_BYTES = dict(
    zip(range(1, 14), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), strict=True)
) | {16: 8, 17: 8, 18: 8}


def truncated(path: Path, needed: int, size: int) -> FileError:
    """Return the error for a truncated file.

    Parameters
    ----------
    path : Path
    needed, size : int
        Required and actual size of the file, in bytes.
    """
    return FileError(
        f"{path.name} is truncated: it needs {format_enough(needed)} but has "
        f"{format_available(size)}. Copy or download the file again."
    )


def check_page_chain(tif: TiffFile, path: Path) -> frozenset[int]:
    """Raise `FileError` if a page directory lies beyond the end of the file.

    tifffile stops there and returns the pages found so far, so a truncated copy would
    open as a shorter stack.

    Returns
    -------
    frozenset of int
        Positions of the directories; empty for dialects that store them differently.
    """
    size = tif.filehandle.size
    order = tif.byteorder
    count, entry, offset = ("Q", 20, "Q") if tif.is_bigtiff else ("H", 12, "I")
    n_count, n_offset = struct.calcsize(count), struct.calcsize(offset)
    if not tif.is_bigtiff and tif.tiff.version != 42:
        return frozenset()  # other dialects (NDPI …) store the positions differently
    seen: set[int] = set()
    with path.open("rb") as stream:
        stream.seek(8 if tif.is_bigtiff else 4)
        place = struct.unpack(order + offset, stream.read(n_offset))[0]
        while place and place not in seen:
            seen.add(place)
            if place > size:
                raise truncated(path, place, size)
            stream.seek(place)
            head = stream.read(n_count)
            if len(head) < n_count:
                raise truncated(path, place + n_count, size)
            n_tags = struct.unpack(order + count, head)[0]
            end = place + n_count + n_tags * entry
            if end > size or n_tags > 4096:
                raise truncated(path, end, size)
            entries = stream.read(n_tags * entry)
            if len(seen) == 1:  # the first page contains the metadata of the file
                _check_values(entries, entry, order, path, size)
            tail = stream.read(n_offset)
            # The last directory may lack its terminating zero at the end of a file.
            place = (
                struct.unpack(order + offset, tail)[0] if len(tail) == n_offset else 0
            )
    return frozenset(seen)


def _check_values(
    entries: bytes, entry: int, order: str, path: Path, size: int
) -> None:
    """Raise `FileError` if a tag's value is beyond the end of the file."""
    big = entry == 20
    layout, inline = (order + "HHQQ", 8) if big else (order + "HHII", 4)
    for _, kind, count, place in struct.iter_unpack(layout, entries):
        length = _TYPE_BYTES.get(kind, 0) * count
        if length > inline and place + length > size:
            raise truncated(path, place + length, size)


def check_segments(tif: TiffFile, series: TiffPageSeries, path: Path) -> None:
    """Raise `FileError` unless all voxels of `series` are inside the file.

    Parameters
    ----------
    tif : tifffile.TiffFile
    series : tifffile.TiffPageSeries
    path : Path
        File named in messages.

    Raises
    ------
    FileError
        If the file is truncated, or has pages without voxels.
    """
    size = tif.filehandle.size
    if series.dataoffset is not None:
        itemsize = np.dtype(series.dtype).itemsize
        end = series.dataoffset + math.prod(series.shape) * itemsize
        if end > size:
            raise truncated(path, end, size)
        return
    for page in series.pages:
        if page is None or page.parent.filehandle.name != tif.filehandle.name:
            continue
        _check_page(page, path, size)


def _check_page(page: TiffPage | TiffFrame, path: Path, size: int) -> None:
    offsets = np.asarray(page.dataoffsets, dtype=np.float64)
    counts = np.asarray(page.databytecounts, dtype=np.float64)
    if page.compression == 1:
        # Some writers round up the byte counts of uncompressed strips.
        counts = np.minimum(counts, page.nbytes)
    if not len(offsets) or len(offsets) != len(counts):
        raise FileError(
            f"{path.name} is damaged: a page contains no data. Copy or export it again."
        )
    ends = (offsets + counts)[counts > 0]
    if len(ends) and ends.max() > size:
        raise truncated(path, int(ends.max()), size)
    keyframe = page.keyframe
    is_sparse = keyframe is not None and 42113 in keyframe.tags  # GDAL's no-data tag
    if (counts == 0).any() and not is_sparse:
        raise FileError(
            f"{path.name} is damaged: parts of its pages contain no data. Copy or "
            "export the file again."
        )


def n_planes(series: TiffPageSeries) -> int:
    """Return the number of planes implied by the shape of a series."""
    return math.prod(series.shape) // max(1, math.prod(series.keyframe.shape))


def stated_planes(metadata: AnyMapping) -> int:
    """Return the number of planes that an ImageJ description states; 1 by default."""
    counts = [metadata.get(word, 1) for word in ("channels", "slices", "frames")]
    known = all(isinstance(n, int) and n > 0 for n in counts)
    return math.prod(counts) if known else 1


def check_virtual_stack(tif: TiffFile, path: Path) -> None:
    """Raise `FileError` if an ImageJ stack with a single directory is truncated.

    ImageJ writes large stacks as one page that is followed by the other planes.
    tifffile reads only the first plane if any of the others is missing.
    """
    page, metadata = tif.pages.first, tif.imagej_metadata or {}
    stated, images = stated_planes(metadata), metadata.get("images", 1)
    if stated == 1 or stated != images or not page.is_final:
        return
    needed = page.dataoffsets[0] + stated * page.nbytes
    if needed > tif.filehandle.size:
        raise truncated(path, needed, tif.filehandle.size)


def left_out_planes(
    tif: TiffFile, series: TiffPageSeries, directories: frozenset[int]
) -> str:
    """Describe the planes that a file's description omits; ``""`` if there are none.

    Parameters
    ----------
    tif : tifffile.TiffFile
    series : tifffile.TiffPageSeries
        The image that is read.
    directories : frozenset of int
        Positions of the page directories in the file.
    """
    if series.kind == "imagej" and len(directories) == 1:
        page = series.keyframe
        after = tif.filehandle.size - page.dataoffsets[0]
        images = (tif.imagej_metadata or {}).get("images", 1)
        n_stored = min(images, after // max(1, page.nbytes)) if page.is_final else 0
        n_left = n_stored - n_planes(series)
    elif series.kind == "ome":
        used = {
            page.offset
            for each in tif.series
            for page in each.pages
            if page is not None and page.parent.filehandle.name == tif.filehandle.name
        }
        n_stored = len(directories)
        others = directories - used
        left_out = [page for page in tif.pages if page.offset in others]
        n_left = sum(not page.aspage().is_reduced for page in left_out)
    else:
        return ""
    if n_left <= 0:
        return ""
    kind = "OME" if series.kind == "ome" else "ImageJ"
    return (
        f"{n_left:,} of the {n_stored:,} planes in the file are omitted, because its "
        f"{kind} description does not list them. Export the file again to read them."
    )


def check_missing_planes(series: TiffPageSeries, path: Path) -> None:
    """Raise `FileError` if planes that the description lists are not in the file.

    tifffile reads them as zeros.
    """
    n_all = n_planes(series)
    n_missing = sum(page is None for page in series.pages)
    if series.dataoffset is None and n_missing:
        raise missing_planes(path, n_missing, n_all)


def missing_planes(path: Path, n_missing: int, n_all: int) -> FileError:
    """Return the error for a file that lacks some of its planes."""
    return FileError(
        f"{path.name} is incomplete: {n_missing} of its {n_all} planes are missing. "
        "Copy or export the file again, with all its parts."
    )
