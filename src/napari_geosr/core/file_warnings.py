"""Problems found in a file that can make a result wrong.

A reader records them in the metadata of the volume or projections; operations warn
about them, docks show them, and reports list them among their warnings. Useful
information and assumptions go under ``"notes"``, which `info` and docks show.
"""

from __future__ import annotations

from napari_geosr.core.types import AnyDict, AnyMapping

#: Key of the warnings about a file in the metadata of volumes and projections.
FILE_WARNINGS = "warnings"
#: Key of the notes about a file in the same metadata.
NOTES = "notes"


class Note(str):
    """A note on what a reader assumed, and which setting corrects it.

    Parameters
    ----------
    text : str
        One sentence.
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


def file_warnings(metadata: AnyMapping) -> tuple[str, ...]:
    """Return the warnings, phrased to follow the name of the file and a colon.

    Examples
    --------
    >>> file_warnings(with_file_warnings({"format": "zarr"}, "2 chunks are missing."))
    ('2 chunks are missing.',)
    """
    sentences = metadata.get(FILE_WARNINGS, ())
    # Files from other sources may contain anything under this name.
    return tuple(map(str, sentences)) if isinstance(sentences, list | tuple) else ()


def with_file_warnings(metadata: AnyMapping, *sentences: str) -> AnyDict:
    """Return a copy of `metadata` with further warnings added."""
    known = file_warnings(metadata)
    more = tuple(each for each in sentences if each and each not in known)
    if not known and not more:
        return dict(metadata)
    return {**metadata, FILE_WARNINGS: (*known, *more)}
