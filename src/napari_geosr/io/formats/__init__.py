"""File formats of volumes: one module per format, selected by file suffix.

A format is a module in this package, or one named by an entry point of the group
``napari_geosr.formats``. It defines ``FORMAT``, a `FileFormat` or `WritableFileFormat`.
The format's library is not imported at module level, because messages and dialogs list
all formats.

Examples
--------
>>> from pathlib import Path
>>> format_of(Path("scan.ome.tif")).title
'TIFF'
>>> [found.title for found in formats() if isinstance(found, WritableFileFormat)]
['TIFF', 'OME-Zarr', 'NIfTI']
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
    """Properties that the user specifies because a file does not state them.

    Attributes
    ----------
    axes : str, optional
        Meaning of the stored axes, e.g. ``"TYX"``.
    dataset : str, optional
        Which of several images in the file to read.
    shape, dtype : optional
        Shape (Z, Y, X) and data type (e.g. ``"<u2"``) of a raw file.
    offset : int
        Bytes before the first voxel of a raw file.
    """

    axes: str | None = None
    dataset: str | None = None
    shape: Sequence[int] | None = None
    dtype: str | None = None
    offset: int = 0

    @property
    def describes_voxels(self) -> bool:
        """Whether any of the options for raw files is set."""
        return self.shape is not None or self.dtype is not None or self.offset != 0


class FileFormat(ABC):
    """A file format that can be read.

    Attributes
    ----------
    title : str
        Name of the format in messages.
    suffixes : tuple of str
        In lower case; two-part suffixes come before the one-part suffixes with which
        they end.
    rank : int
        Order in which formats are listed, and tried on files without a known suffix.
    is_folder : bool
        Whether a volume is a folder rather than a file.
    may_be_slice : bool
        Whether a folder of such files is read as one volume, slice by slice.
    states_shape : bool
        Whether a file states the shape and data type of its voxels.
    """

    title: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    rank: ClassVar[int] = 100
    is_folder: ClassVar[bool] = False
    may_be_slice: ClassVar[bool] = False
    states_shape: ClassVar[bool] = True

    def accepts(self, path: Path, options: ReadOptions) -> bool:
        """Return whether `path`, which has no known suffix, is of this format."""
        return False

    @abstractmethod
    def read(self, path: Path, options: ReadOptions) -> Volume:
        """Read lazily; the caller has checked that the file is readable and not empty.

        Raises
        ------
        FileError
            If the file is damaged or holds no image volume.
        """

    def read_levels(self, path: Path) -> list[Volume]:
        """Return all resolution levels of a volume, finest first; usually only one."""
        return [self.read(path, ReadOptions())]


class WritableFileFormat(FileFormat):
    """A file format that can also be written.

    Attributes
    ----------
    file_types : mapping of str to tuple of str
        File types offered by a Save dialog, with their suffixes, the usual one first.
    """

    file_types: ClassVar[Mapping[str, tuple[str, ...]]]

    @abstractmethod
    def output(self, paths: OutputPaths, spec: OutputSpec) -> Output:
        """Begin a file at ``paths.temporary``; `spec` has been checked."""

    def reopened(self, paths: OutputPaths, spec: OutputSpec) -> Output | None:
        """Reopen the file that a killed run left at ``paths.temporary``.

        The file was begun with the same `spec`, except for the provenance. Returns None
        (the default) if a new file has to be created instead.
        """
        return None


def formats() -> tuple[FileFormat, ...]:
    """Return all formats, ordered by rank; the result is cached.

    Unusable formats of other packages are left out, with a logged warning.
    """
    modules = FORMATS.load_all(FORMAT=FileFormat)
    found: list[FileFormat] = [module.FORMAT for module in modules]
    return tuple(sorted(found, key=lambda each: each.rank))


@cache
def _by_suffix(known: tuple[FileFormat, ...]) -> dict[str, FileFormat]:
    """Map each suffix to its first format; the longest suffixes come first."""
    found: dict[str, FileFormat] = {}
    for each in known:
        for suffix in each.suffixes:
            found.setdefault(suffix, each)
    return dict(sorted(found.items(), key=lambda item: -len(item[0])))


def read_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files that can be read, in the order used in messages."""
    return tuple(dict.fromkeys(s for each in formats() for s in each.suffixes))


def write_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files that can be written; per format, longest first."""
    listed: list[str] = []
    for each in formats():
        if isinstance(each, WritableFileFormat):
            own = [s for suffixes in each.file_types.values() for s in suffixes]
            listed += sorted(own, key=len, reverse=True)
    return tuple(dict.fromkeys(listed))


def slice_suffixes() -> tuple[str, ...]:
    """Return the suffixes of files that may be the slices of a volume."""
    return tuple(s for each in formats() if each.may_be_slice for s in each.suffixes)


def known_suffix(name: str) -> str | None:
    """Return the longest known suffix of the file name, or None."""
    lower = name.lower()
    return next((s for s in _by_suffix(formats()) if lower.endswith(s)), None)


def format_of(path: Path) -> FileFormat | None:
    """Return the format for the suffix of `path`, whether or not the file exists."""
    suffix = known_suffix(path.name)
    return None if suffix is None else _by_suffix(formats())[suffix]


def format_that_reads(
    path: Path, options: ReadOptions | None = None
) -> FileFormat | None:
    """Return the format of an existing file or folder, or None.

    The suffix determines the format; if the suffix is unknown, each format is tried in
    turn.
    """
    named = format_of(path)
    if named is not None and named.is_folder == path.is_dir():
        return named
    given = options or ReadOptions()
    return next((each for each in formats() if each.accepts(path, given)), None)


def format_that_writes(path: Path) -> WritableFileFormat | None:
    """Return the format that writes `path`, according to its suffix, or None."""
    found = format_of(path)
    if not isinstance(found, WritableFileFormat):
        return None
    return found if known_suffix(path.name) in write_suffixes() else None


def is_volume_folder(path: Path) -> bool:
    """Return whether the contents of a folder make it a volume, such as an OME-Zarr."""
    options = ReadOptions()
    return path.is_dir() and any(
        each.is_folder and each.accepts(path, options) for each in formats()
    )
