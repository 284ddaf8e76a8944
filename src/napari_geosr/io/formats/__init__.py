"""File formats of volumes: one file each, found by its suffix.

A format is a module here, or one that an entry point of the group
``napari_geosr.formats`` names. It has an object ``FORMAT``, a `FileFormat` or a
`WritableFileFormat`; no library of its own is imported at module level, as messages and
dialogs list all formats.

Examples
--------
>>> from pathlib import Path
>>> format_of(Path("scan.ome.tif")).title
'TIFF'
>>> [found.title for found in formats() if isinstance(found, WritableFileFormat)]
['TIFF', 'OME-Zarr']
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from napari_geosr.core.registry import Registry

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.io.output import Output
    from napari_geosr.io.spec import OutputPaths, OutputSpec

FORMATS = Registry("napari_geosr.io.formats", "napari_geosr.formats", "file format")


@dataclass(frozen=True)
class ReadOptions:
    """What a person says about a file that the file does not say itself.

    Attributes
    ----------
    axes : str, optional
        Meaning of the stored axes, e.g. ``"TYX"``.
    dataset : str, optional
        Which of several images in the file is meant.
    shape, dtype : optional
        Of a raw file: along Z, Y, X, and for example ``"<u2"``.
    offset : int
        Bytes before the first voxel of a raw file.
    """

    axes: str | None = None
    dataset: str | None = None
    shape: Sequence[int] | None = None
    dtype: str | None = None
    offset: int = 0


class FileFormat(ABC):
    """A file format that can be read.

    Attributes
    ----------
    title : str
        What messages call it.
    suffixes : tuple of str
        In small letters; those of two parts before those that they end in.
    rank : int
        Formats are listed, and asked about files without a known suffix, in this order.
    is_folder : bool
        Whether a volume is a folder rather than a file.
    may_be_slice : bool
        Whether a folder of such files is read as one volume, slice by slice.
    states_shape : bool
        Whether a file says by itself what shape and type its voxels have.
    """

    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    rank: ClassVar[int] = 100
    is_folder: ClassVar[bool] = False
    may_be_slice: ClassVar[bool] = False
    states_shape: ClassVar[bool] = True

    def accepts(self, path: Path, options: ReadOptions) -> bool:
        """Whether `path`, which has none of the known suffixes, is of this format."""
        return False

    @abstractmethod
    def read(self, path: Path, options: ReadOptions) -> Volume:
        """Read lazily; the file is there, can be opened and is not empty.

        Raises
        ------
        FileError
            If it is damaged or holds no image volume.
        """

    def read_levels(self, path: Path) -> list[Volume]:
        """All resolutions of a volume, the finest first; most formats have one."""
        return [self.read(path, ReadOptions())]


class WritableFileFormat(FileFormat):
    """A file format that can be written as well.

    Attributes
    ----------
    file_types : mapping of str to tuple of str
        What a dialog offers to save as, and the suffixes of each, the usual one first.
    """

    file_types: ClassVar[Mapping[str, tuple[str, ...]]]

    @abstractmethod
    def output(self, paths: OutputPaths, spec: OutputSpec) -> Output:
        """Begin a file at ``paths.temporary``; `spec` was checked."""

    def reopened(self, paths: OutputPaths, spec: OutputSpec) -> Output | None:
        """Fill the file further that a killed run left at ``paths.temporary``.

        It was begun with the same `spec`, but for the provenance. None, which is the
        default, where a new one has to be made.
        """
        return None


def formats() -> tuple[FileFormat, ...]:
    """All formats, in the order of their ranks; looked up once.

    One of another package that cannot be used is left out, with a logged warning.
    """
    modules = FORMATS.load_all(FORMAT=FileFormat)
    found: list[FileFormat] = [module.FORMAT for module in modules]
    return tuple(sorted(found, key=lambda each: each.rank))


@cache
def _by_suffix(known: tuple[FileFormat, ...]) -> dict[str, FileFormat]:
    """The format of each suffix, long suffixes first; the first format has it."""
    found: dict[str, FileFormat] = {}
    for each in known:
        for suffix in each.suffixes:
            found.setdefault(suffix, each)
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def read_suffixes() -> tuple[str, ...]:
    """Suffixes of files that can be read, in the order in which messages list them."""
    return tuple(dict.fromkeys(s for each in formats() for s in each.suffixes))


def write_suffixes() -> tuple[str, ...]:
    """Suffixes of files that can be written, the longest of each format first."""
    listed: list[str] = []
    for each in formats():
        if isinstance(each, WritableFileFormat):
            own = [s for suffixes in each.file_types.values() for s in suffixes]
            listed += sorted(own, key=len, reverse=True)
    return tuple(dict.fromkeys(listed))


def slice_suffixes() -> tuple[str, ...]:
    """Suffixes of files that may be the slices of a volume."""
    return tuple(s for each in formats() if each.may_be_slice for s in each.suffixes)


def known_suffix(name: str) -> str | None:
    """The longest known suffix that the file name ends in; None where it has none."""
    lower = name.lower()
    return next((s for s in _by_suffix(formats()) if lower.endswith(s)), None)


def format_of(path: Path) -> FileFormat | None:
    """The format that the suffix of `path` stands for, whether or not it exists."""
    suffix = known_suffix(path.name)
    return None if suffix is None else _by_suffix(formats())[suffix]


def format_that_reads(
    path: Path, options: ReadOptions | None = None
) -> FileFormat | None:
    """The format of an existing file or folder; None if it is of none.

    The suffix decides; where it does not, formats are asked one by one.
    """
    named = format_of(path)
    if named is not None and named.is_folder == path.is_dir():
        return named
    given = options or ReadOptions()
    return next((each for each in formats() if each.accepts(path, given)), None)


def format_that_writes(path: Path) -> WritableFileFormat | None:
    """The format that `path` is written in, by its suffix; None if by none."""
    found = format_of(path)
    if not isinstance(found, WritableFileFormat):
        return None
    return found if known_suffix(path.name) in write_suffixes() else None


def is_volume_folder(path: Path) -> bool:
    """Whether a folder is by itself a volume, such as an OME-Zarr, by its contents."""
    options = ReadOptions()
    return path.is_dir() and any(
        each.is_folder and each.accepts(path, options) for each in formats()
    )
