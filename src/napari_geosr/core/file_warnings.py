"""Warnings about problems in files that can lead to wrong results.

A reader records them in the metadata of the volume or projections; operations warn
about them, docks show them, and reports list them among their warnings. Useful
information and assumptions go under ``"notes"``, which `info` and docks show;
operations also warn about assumed slice spacings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL

#: Key of the warnings about a file in the metadata of volumes and projections.
FILE_WARNINGS = "warnings"
#: Key of the notes about a file in the metadata of volumes and projections.
NOTES = "notes"
#: Metadata key that is set if the user gave the voxel size.
SIZE_GIVEN = "voxel_size_given"
#: Value of the entry `SIZE_GIVEN` if the user confirmed an implausible voxel size.
SIZE_CONFIRMED = "confirmed"
#: Metadata key that is set if the file does not state where the volume is; the origin
#: is then only a default.
ORIGIN_UNKNOWN = "origin_unknown"
#: Metadata key that is set if the channels of a file are the colours of pictures (RGB),
#: not images of several dyes.
IS_COLOUR = "is_colour"


class Note(str):
    """A note on what a reader assumed, and which setting corrects it.

    Parameters
    ----------
    text : str
        The note, in one sentence.
    corrected_by : str
        ``"axes"``, ``"slice distance"`` or ``"unit"``; empty if nothing was assumed.

    Examples
    --------
    >>> Note("The slice spacing was taken to be 1 µm.", "slice distance").corrected_by
    'slice distance'
    """

    corrected_by: str

    def __new__(cls, text: str, corrected_by: str = "") -> Note:
        note = super().__new__(cls, text)
        note.corrected_by = corrected_by
        return note


#: Note on a voxel size in a file that does not state its unit.
NO_UNIT = Note(
    "The file contains a voxel size without a unit; the number was kept.", "unit"
)


def unit_notes(voxel_size: Sequence[float], unit: str) -> tuple[Note, ...]:
    """Return a note on a voxel size without a unit; empty if there is none.

    Parameters
    ----------
    voxel_size : sequence of float
        Voxel size in the file; 1 along each axis if there is none.
    unit : str
        Its unit; ``"pixel"`` if it is unknown.

    Examples
    --------
    >>> unit_notes((0.5, 0.5, 0.5), "mm")
    ()
    >>> [note.corrected_by for note in unit_notes((0.5, 0.5, 0.5), "pixel")]
    ['unit']
    """
    is_stated = any(edge != 1 for edge in voxel_size)
    return (NO_UNIT,) if unit == PIXEL and is_stated else ()


def notes_of(metadata: AnyMapping) -> tuple[Note, ...]:
    """Return the notes; plain strings become notes without a correction.

    Examples
    --------
    >>> notes_of({"notes": ["The file is old."]})
    ('The file is old.',)
    """
    notes = metadata.get(NOTES, ())
    if not isinstance(notes, list | tuple):
        return ()
    return tuple(n if isinstance(n, Note) else Note(str(n)) for n in notes)


def assumed_distances(metadata: AnyMapping) -> tuple[Note, ...]:
    """Return the notes on slice spacings that were assumed.

    Measured lengths, volumes and numbers per volume depend on these spacings.

    Examples
    --------
    >>> spacing = Note("The slice spacing was taken to be 1 µm.", "slice distance")
    >>> assumed_distances({"notes": [spacing, "The file is old."]})
    ('The slice spacing was taken to be 1 µm.',)
    """
    notes = notes_of(metadata)
    return tuple(n for n in notes if n.corrected_by == "slice distance")


def with_size_given(metadata: AnyMapping, *, confirmed: bool = False) -> AnyDict:
    """Return a copy of `metadata` that marks the voxel size as given by the user.

    Notes on assumptions about the voxel size are removed.

    Parameters
    ----------
    metadata : mapping
    confirmed : bool
        Whether the user confirmed the implausible voxel size of the file.

    Examples
    --------
    >>> with_size_given({"notes": [Note("The spacing is 1 µm.", "slice distance")]})
    {'voxel_size_given': True}
    """
    rest = {key: value for key, value in metadata.items() if key != NOTES}
    answered = ("slice distance", "unit")
    notes = tuple(n for n in notes_of(metadata) if n.corrected_by not in answered)
    given = SIZE_CONFIRMED if confirmed else True
    return {**rest, **({NOTES: notes} if notes else {}), SIZE_GIVEN: given}


class PartWarning(str):
    """A warning about parts of a file; it may concern only some of the channels.

    Parameters
    ----------
    text : str
        One or two sentences about the whole file.
    within : callable
        Returns the warning about one index along an axis, given the axis and the index;
        empty if that part of the file is complete.
    """

    within: Callable[[str, int], str]

    def __new__(
        cls, text: str, within: Callable[[str, int], str] = lambda _axis, _index: ""
    ) -> PartWarning:
        warning = super().__new__(cls, text)
        warning.within = within
        return warning


def file_warnings(metadata: AnyMapping) -> tuple[str, ...]:
    """Return the warnings, phrased to follow the name of the file and a colon.

    Examples
    --------
    >>> file_warnings(with_file_warnings({"format": "zarr"}, "2 chunks are missing."))
    ('2 chunks are missing.',)
    """
    sentences = metadata.get(FILE_WARNINGS, ())
    # Files from other sources may contain anything under this name.
    if not isinstance(sentences, list | tuple):
        return ()
    return tuple(s if isinstance(s, str) else str(s) for s in sentences)


def with_file_warnings(metadata: AnyMapping, *sentences: str) -> AnyDict:
    """Return a copy of `metadata` with further warnings added."""
    known = file_warnings(metadata)
    more = tuple(each for each in sentences if each and each not in known)
    if not known and not more:
        return dict(metadata)
    return {**metadata, FILE_WARNINGS: (*known, *more)}


def for_part(metadata: AnyMapping, axis: str, index: int) -> AnyDict:
    """Return a copy of `metadata` with only the warnings about one index of an axis.

    Parameters
    ----------
    metadata : mapping
    axis : str
        Letter of the axis.
    index : int

    Examples
    --------
    >>> second = PartWarning("Chunks are missing.", lambda axis, index: "")
    >>> for_part(with_file_warnings({}, second), "C", 0)
    {}
    """
    rest = {key: value for key, value in metadata.items() if key != FILE_WARNINGS}
    warnings = (
        warning.within(axis, index) if isinstance(warning, PartWarning) else warning
        for warning in file_warnings(metadata)
    )
    return with_file_warnings(rest, *warnings)
