"""Find damaged shards of an OME-Zarr by reading every chunk with its checksum."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from napari_geosr.core.array_parts.boxes import Box
from napari_geosr.core.errors import Cancelled, FileError, describe_system_error
from napari_geosr.core.steps import (
    PartDone,
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.types import ZarrNode
from napari_geosr.io.formats.ome_zarr import ngff
from napari_geosr.io.stamp import KEY, Stamp, from_dict

#: Name of the codec that adds checksums, in the metadata of an array.
_CHECKSUM = "crc32c"


@dataclass(frozen=True)
class ZarrCheck:
    """Result of reading every shard of an OME-Zarr.

    Attributes
    ----------
    path : Path
    damaged : tuple of str
        Files of damaged or missing shards, relative to `path`.
    boxes : tuple of tuple of slice
        Boxes of the finest level that these files contain.
    n_shards : int
        Number of shards of all levels.
    has_checksums : bool
        Whether all chunks have a checksum. Otherwise, only damage that prevents
        decoding is found.
    stamp : Stamp or None
        Geometry and provenance that napari-geosr wrote, if any.
    """

    path: Path
    damaged: tuple[str, ...]
    boxes: tuple[Box, ...]
    n_shards: int
    has_checksums: bool
    stamp: Stamp | None


def check_steps(
    path: Path, should_stop: ShouldStop = never_stop
) -> Generator[Step, None, ZarrCheck]:
    """Read every shard of every level of an OME-Zarr, one at a time.

    Raises
    ------
    FileError
        If the metadata are damaged, or a file cannot be read.
    Cancelled
        If `should_stop` returns True.
    """
    import zarr

    try:
        group: ZarrNode = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        datasets = ngff.find_multiscales(attributes)[0]["datasets"]
        levels = [group[item["path"]] for item in datasets]
    except Exception as error:
        raise FileError(
            f"{path.name} is not a sharded OME-Zarr, or its "
            "metadata are damaged. Write it again."
        ) from error
    grids = [list(_shards(array)) for array in levels]
    total, done = sum(map(len, grids)), 0
    damaged, boxes = list[str](), list[Box]()
    yield StageStarted(message=f"Reading the {total:,} shards of {path.name}")
    for number, (array, shards) in enumerate(zip(levels, grids, strict=True)):
        for index, box in shards:
            if should_stop():
                raise Cancelled("Stopped; nothing was changed.")
            name = f"{array.path}/{array.metadata.encode_chunk_key(index)}"
            if not _has_content(path / name) or not _is_readable(array, box, path):
                damaged.append(name)
                boxes += [box] if number == 0 else []
            done += 1
            yield PartDone(done, total)
    checked = all(_CHECKSUM in str(array.metadata.to_dict()) for array in levels)
    stamp = from_dict(attributes[KEY]) if KEY in attributes else None
    return ZarrCheck(path, tuple(damaged), tuple(boxes), total, checked, stamp)


def _shards(array: ZarrNode) -> Iterator[tuple[tuple[int, ...], Box]]:
    """Yield index and box of every shard, or of every chunk if there are no shards."""
    size = array.shards or array.chunks
    grid = [range(math.ceil(n / s)) for n, s in zip(array.shape, size, strict=True)]
    for index in itertools.product(*grid):
        box = tuple(
            slice(i * s, min((i + 1) * s, n))
            for i, s, n in zip(index, size, array.shape, strict=True)
        )
        yield index, box


def _has_content(file: Path) -> bool:
    """Return whether a file has content; zarr reads empty files as fill values."""
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:
        return False


def _is_readable(array: ZarrNode, box: Box, path: Path) -> bool:
    """Return whether a shard can be decoded; decoders may raise errors of any class."""
    try:
        array[box]
    except (OSError, MemoryError) as error:
        text = describe_system_error(error) or str(error)
        raise FileError(f"{path.name} cannot be read at the moment: {text}") from error
    except Exception:  # noqa: BLE001
        return False
    return True
