"""Missing parts of an HDF5 dataset, which HDF5 reads as a fill value.

Chunks may never have been written. A virtual dataset maps parts of datasets in other
files: a file may be missing, its dataset may be too small, or a part of the virtual
dataset may not be mapped.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import FileError
from napari_geosr.io.hdf5.missing_places import MissingParts, missing_of_chunks

if TYPE_CHECKING:
    import h5py

_UNWRITTEN = (
    "Some programs omit chunks that contain only this value; if this one did not, the "
    "file was not written completely."
)
#: H5S_UNLIMITED, as a signed and as an unsigned number.
_UNLIMITED = (-1, 2**64 - 1)
#: Maximum number of cells for which missing parts are located. A virtual dataset is cut
#: into cells at the edges of its mapped parts.
_MAX_LOCATED = 10**6
#: Maximum number of these cells for which voxels in several mapped parts are counted
#: only once.
_MAX_CELLS = 10**8
#: Maximum depth of nested virtual datasets that are checked.
_MAX_DEPTH = 4

#: Start and end indices of the blocks of a selection along one axis.
Blocks: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
Region: TypeAlias = tuple[Blocks, ...]


def missing_parts(
    found: h5py.Dataset, path: Path, names: Sequence[str]
) -> tuple[str, ...]:
    """Describe the parts of a dataset that are missing; empty if it is complete.

    Parameters
    ----------
    found : h5py.Dataset
    path : Path
        File that contains the dataset.
    names : sequence of str
        Names of the axes, in stored order.

    Returns
    -------
    tuple of str
        Warnings of one or two sentences.
    """
    return _missing(found, path, names, 0)


def _missing(
    found: h5py.Dataset, path: Path, names: Sequence[str], depth: int
) -> tuple[str, ...]:
    from h5py import h5d

    if found.is_virtual:
        return _VirtualParts(found, path, tuple(names), depth).warnings()
    if found.chunks is None:
        allocated = found.id.get_space_status() != h5d.SPACE_STATUS_NOT_ALLOCATED
        if found.external:
            return _external_parts(found, path, names)
        if allocated or not found.size:
            return ()
        return (
            f"none of its voxels were written; all are read as {_fill(found):g}. "
            "Export the file again.",
        )
    sizes = zip(found.shape, found.chunks, strict=True)
    n_all = math.prod(-(-n // chunk) for n, chunk in sizes)
    if found.id.get_num_chunks() >= n_all:
        return ()
    stored: list[h5d.StoreInfo] = []
    found.id.chunk_iter(stored.append)
    there = {
        tuple(int(i) // n for i, n in zip(info.chunk_offset, found.chunks, strict=True))
        for info in stored
    }
    missing = missing_of_chunks(
        there, found.shape, found.chunks, names, _fill(found), _UNWRITTEN
    )
    return (missing.warning(),)


def _external_parts(
    found: h5py.Dataset, path: Path, names: Sequence[str]
) -> tuple[str, ...]:
    """Describe the voxels that lie beyond the ends of external files.

    HDF5 reads them as 0. If a file is missing altogether, HDF5 itself raises an error.
    """
    itemsize, n_all = found.dtype.itemsize, math.prod(found.shape)
    begin, first, n_missing, short = 0, n_all, 0, ""
    for name, offset, nbytes in found.external:
        place = _external_place(found, name)
        if place is None:  # HDF5 itself reports a missing file
            return ()
        size = min(int(nbytes), n_all * itemsize - begin)
        available = min(size, max(0, place.stat().st_size - offset))
        if available < size:
            start = (begin + available) // itemsize
            first = min(first, start)
            n_missing += -(-(begin + size) // itemsize) - start
            short = short or place.name
        begin += size
    if not n_missing:
        return ()
    at = int(np.unravel_index(first, found.shape)[0])
    return (
        f"{n_missing:,} of {n_all:,} voxels are read as 0 (from {names[0]} {at}): "
        f"{short}, which should contain them, is shorter than {path.name} requires. "
        f"Copy {short} again.",
    )


def _external_place(found: h5py.Dataset, name: str) -> Path | None:
    """Return the path of an external file that HDF5 opens; None if it is missing."""
    prefix = os.environ.get("HDF5_EXTFILE_PREFIX") or (
        found.id.get_access_plist().get_efile_prefix() or b""
    )
    folder = os.fsdecode(prefix)
    if folder.startswith("${ORIGIN}"):
        folder = str(Path(found.file.filename).parent) + folder[len("${ORIGIN}") :]
    place = Path(folder) / name
    return place if place.is_file() else None


def _fill(found: h5py.Dataset) -> float:
    return float(found.fillvalue)


@dataclass
class _VirtualParts:
    """The mapped parts of a virtual dataset, and why some of them cannot be read."""

    found: h5py.Dataset
    path: Path
    names: tuple[str, ...]
    depth: int
    #: Mapped parts that can be read.
    there: list[Region] = field(default_factory=list)
    #: Parts that are mapped, but cannot be read.
    lost: list[Region] = field(default_factory=list)
    #: Names of the sources to which each reason applies.
    reasons: dict[str, dict[str, None]] = field(default_factory=dict)
    #: Warnings about the sources themselves.
    inner: dict[str, None] = field(default_factory=dict)

    def warnings(self) -> tuple[str, ...]:
        """Describe the parts that are read as the fill value."""
        sources = _MappedFiles(self.path, self.depth)
        mappings = self.found.virtual_sources()
        for mapping in mappings:
            self._add(mapping, sources)
        n_files = len({mapping.file_name for mapping in mappings})
        return (*self._holes(n_files), *self.inner)

    def _add(self, mapping: h5py.VDSmap, sources: _MappedFiles) -> None:
        shape = self.found.shape
        file, name = mapping.file_name, mapping.dset_name
        if "%b" in file or "%b" in name:
            # One source per block: HDF5 ends the dataset before the first missing
            # source.
            self.there += _regions(mapping.vspace, shape)
            return
        source = sources.read(file.replace("%%", "%"), name.replace("%%", "%"))
        if source.problem:
            about = self.reasons.setdefault(source.problem, {})
            about[file if source.problem == "gone" else self._title(file, name)] = None
            self.lost += _regions(mapping.vspace, shape)
            return
        self.inner |= dict.fromkeys(source.warnings)
        reached, available = _reached(mapping, source.shape)
        if not reached:
            about = self.reasons.setdefault("short", {})
            about[self._title(file, name)] = None
            self.lost += _regions(mapping.vspace, shape)
            return
        self.there += _regions(mapping.vspace, shape, available)

    def _title(self, file: str, name: str) -> str:
        return f"{name!r} in {self.path.name if file == '.' else file}"

    def _holes(self, n_files: int) -> list[str]:
        shape = self.found.shape
        there, mapped = _painted(shape, self.there, self.lost)
        if there is None:  # too many cells: overlaps of parts are not considered
            n_missing = math.prod(shape) - sum(map(_n_voxels, self.there))
            counted = f"{n_missing:,} of {math.prod(shape):,}"
            return [f"{counted} {self._text(n_files, '')}"] if n_missing > 0 else []
        if there.all():
            return []
        if not mapped.all():
            kind = "partly unmapped" if self.reasons else "unmapped"
            self.reasons.setdefault(kind, {})
        starts = tuple(_starts(n, axis) for n, axis in self._axes())
        if there.size > _MAX_LOCATED:
            lengths = [np.diff([*s, n]) for s, n in zip(starts, shape, strict=True)]
            sums = there.astype(np.float64)
            for length in reversed(lengths):
                sums = sums @ length
            n_missing = math.prod(shape) - round(float(sums))
            counted = f"{n_missing:,} of {math.prod(shape):,}"
            return [f"{counted} {self._text(n_files, '')}"]
        cells = {tuple(map(int, at)) for at in np.argwhere(there)}
        text = f"{{voxels}} of {{all_voxels}} {self._text(n_files, ' ({places})')}"
        parts = MissingParts(cells, shape, starts, self.names, text)
        return [parts.warning()]

    def _axes(self) -> Iterator[tuple[int, list[Blocks]]]:
        regions = [*self.there, *self.lost]
        for axis, n in enumerate(self.found.shape):
            yield n, [region[axis] for region in regions]

    def _text(self, n_files: int, places: str) -> str:
        reasons = [
            _SENTENCES[kind](list(about), n_files).replace("{", "{{").replace("}", "}}")
            for kind, about in self.reasons.items()
        ]
        advice = (
            "Copy the missing files next to this file."
            if "gone" in self.reasons
            else "The file was not written completely, or its sources were changed."
        )
        because = f": {'; '.join(reasons)}" if reasons else ""
        return f"voxels are read as {_fill(self.found):g}{places}{because}. {advice}"


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


#: Functions that return the text for a reason, from the names of the sources that it
#: concerns and the number of files.
_SENTENCES: dict[str, Callable[[list[str], int], str]] = {
    "gone": lambda names, n_files: (
        f"{len(names):,} of {n_files:,} files that contain them cannot be found "
        f"({_some(names)})"
    ),
    "absent": lambda names, _: f"there is no {_some(names)}",
    "short": lambda names, _: f"this file requires a larger {_some(names)}",
    "unmapped": lambda _names, _: "the file does not state where they are stored",
    "partly unmapped": lambda _names, _: (
        "for some, the file does not state where they are stored"
    ),
}


@dataclass(frozen=True)
class _MappedDataset:
    """Shape and warnings of a mapped dataset, or the reason why it cannot be read."""

    shape: tuple[int, ...] = ()
    problem: str = ""
    warnings: tuple[str, ...] = ()


class _MappedFiles:
    """Opens the sources of a virtual dataset, each once."""

    def __init__(self, path: Path, depth: int) -> None:
        self._path, self._depth = path, depth
        self._known: dict[tuple[str, str], _MappedDataset] = {}

    def read(self, file: str, name: str) -> _MappedDataset:
        """Read the properties of one dataset of a file."""
        if (file, name) not in self._known:
            self._known[file, name] = self._read(file, name)
        return self._known[file, name]

    def _read(self, file: str, name: str) -> _MappedDataset:
        import h5py

        place = self._path if file == "." else _place_of(file, self._path)
        if place is None:
            return _MappedDataset(problem="gone")
        try:
            with h5py.File(place, "r") as opened:
                found = opened.get(name)
                if not isinstance(found, h5py.Dataset):
                    return _MappedDataset(problem="absent")
                warnings: tuple[str, ...] = ()
                if self._depth < _MAX_DEPTH:
                    axes = [f"axis {i}" for i in range(found.ndim)]
                    warnings = _missing(found, place, axes, self._depth + 1)
                title = f"{place.name}, dataset {name!r}"
                return _MappedDataset(
                    found.shape, warnings=tuple(f"{title}: {w}" for w in warnings)
                )
        except (OSError, KeyError, RuntimeError) as error:
            raise FileError(
                f"{self._path.name} contains voxels from {place.name}, which cannot "
                f"be read ({error}). Copy or download {place.name} again."
            ) from error


def _place_of(name: str, path: Path) -> Path | None:
    """Return the file that HDF5 opens for a source of a virtual dataset, or None.

    If an absolute path does not exist, HDF5 looks for a file of the same name next to
    the virtual dataset.
    """
    given = Path(name)
    if given.is_absolute():
        if given.exists():
            return given
        given = Path(given.name)
    folders = [path.parent, Path(), path.resolve().parent]
    if prefix := os.environ.get("HDF5_VDS_PREFIX"):
        folders.insert(0, Path(prefix.replace("${ORIGIN}", str(path.parent))))
    found = (folder / given for folder in folders)
    return next((place for place in found if place.exists()), None)


def _regions(
    space: h5py.h5s.SpaceID, shape: Sequence[int], available: int | None = None
) -> list[Region]:
    """Return the boxes that a selection consists of.

    Parameters
    ----------
    space : h5py.h5s.SpaceID
        A hyperslab of the virtual dataset.
    shape : sequence of int
        Shape of the dataset; an unlimited selection ends at its edge.
    available : int, optional
        Number of positions that the source has along the unlimited axis.
    """
    from h5py import h5s

    kind = space.get_select_type()
    if kind == h5s.SEL_ALL:
        return [tuple(_single(0, n) for n in shape)]
    if kind != h5s.SEL_HYPERSLABS:
        return []
    if not space.is_regular_hyperslab():
        return [
            tuple(_single(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
            for first, last in space.get_select_hyper_blocklist()
        ]
    start, stride, count, block = space.get_regular_hyperslab()
    slab = zip(start, stride, count, block, shape, strict=True)
    return [tuple(_blocks(a, s, c, b, n, available) for a, s, c, b, n in slab)]


def _single(start: int, end: int) -> Blocks:
    return np.array([start]), np.array([end])


def _blocks(
    start: int, stride: int, count: int, block: int, n: int, available: int | None
) -> Blocks:
    """Return the blocks of a regular selection along one axis of length `n`."""
    left = max(0, n - start)
    if count in _UNLIMITED or block in _UNLIMITED:
        positions = left if available is None else available
        if block in _UNLIMITED or stride == block:
            return _single(start, min(n, start + positions))
        starts = start + stride * np.arange(-(-positions // block), dtype=np.int64)
        ends = starts + block
        if len(ends):
            ends[-1] -= len(ends) * block - positions
        inside = starts < n
        return starts[inside], np.minimum(ends[inside], n)
    if count == 1 or stride == block:
        return _single(start, start + count * block)
    starts = start + stride * np.arange(count, dtype=np.int64)
    return starts, starts + block


def _reached(mapping: h5py.VDSmap, shape: tuple[int, ...]) -> tuple[bool, int | None]:
    """Return whether all mapped voxels exist, and the length of the unlimited axis.

    Parameters
    ----------
    mapping : h5py.VDSmap
    shape : tuple of int
        Actual shape of the source.
    """
    from h5py import h5s

    space = mapping.src_space
    if space.get_select_type() == h5s.SEL_ALL:  # the source's extent is unknown
        return math.prod(shape) >= mapping.vspace.get_select_npoints(), None
    if space.get_select_type() != h5s.SEL_HYPERSLABS:
        return True, None
    if not space.is_regular_hyperslab():
        _, last = space.get_select_bounds()
        return _is_inside(last, shape), None
    if space.get_simple_extent_ndims() != len(shape):
        return False, None
    available = None
    for start, stride, count, block, n in zip(
        *space.get_regular_hyperslab(), shape, strict=True
    ):
        if count in _UNLIMITED or block in _UNLIMITED:
            left = max(0, n - start)
            whole, rest = divmod(left, stride)
            several = whole * block + min(rest, block)
            available = left if block in _UNLIMITED else several
        elif start + (count - 1) * stride + block > n:
            return False, None
    return True, available


def _is_inside(last: Sequence[int], shape: Sequence[int]) -> bool:
    return len(last) == len(shape) and all(
        a < n for a, n in zip(last, shape, strict=True)
    )


def _n_voxels(region: Region) -> int:
    return math.prod(int((ends - starts).sum()) for starts, ends in region)


def _starts(n: int, blocks: Sequence[Blocks]) -> tuple[int, ...]:
    """Return the starts of the cells between region borders; `n` is the axis length."""
    borders = np.concatenate([np.array([0]), *itertools.chain(*blocks)])
    return tuple(int(i) for i in np.unique(borders[borders < n]))


def _painted(
    shape: Sequence[int], there: Sequence[Region], lost: Sequence[Region]
) -> tuple[npt.NDArray[np.bool_] | None, npt.NDArray[np.bool_]]:
    """Return masks of the readable and of the mapped cells of a grid over the dataset.

    The first mask is None if the grid has too many cells.
    """
    regions = [*there, *lost]
    starts = [
        np.array(_starts(n, [region[axis] for region in regions]))
        for axis, n in enumerate(shape)
    ]
    grid = tuple(map(len, starts))
    if math.prod(grid) > _MAX_CELLS:
        return None, np.zeros(0, bool)
    readable, mapped = np.zeros(grid, bool), np.zeros(grid, bool)
    for number, region in enumerate(regions):
        cells = []
        for places, (begins, ends) in zip(starts, region, strict=True):
            first = np.searchsorted(places, begins)
            last = np.searchsorted(places, ends)
            runs = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
            cells.append(np.concatenate(runs) if runs else np.zeros(0, np.int64))
        box = np.ix_(*cells)
        mapped[box] = True
        if number < len(there):
            readable[box] = True
    return readable, mapped
