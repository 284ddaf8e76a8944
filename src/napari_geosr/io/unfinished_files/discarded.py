"""Record the unfinished files that a job discards when it starts for the first time.

The files are kept while the job waits in a queue, which may still refuse it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from napari_geosr.core.errors import FileError
from napari_geosr.io.unfinished_files.atomic import remove, write_text
from napari_geosr.io.unfinished_files.finished import file_state, is_same_state
from napari_geosr.io.unfinished_files.journal import journal_of, remove_with_journal
from napari_geosr.io.unfinished_files.unfinished import unfinished_parts

#: File in the folder of a job with the name, size and modification time of each
#: unfinished file that the job discards.
RECORD = "discarded.json"


def record_discarded(folder: Path, outputs: Iterable[Path]) -> None:
    """Record the unfinished files of a new job's outputs, left by earlier runs.

    Raises
    ------
    FileError
        If the record cannot be written, or an unfinished file cannot be read now.
    """
    found = [
        (part.name, *file_state(_indicator(part)))
        for out in outputs
        for part in unfinished_parts(out)
    ]
    if found:
        write_text(folder / RECORD, json.dumps(found), overwrite=True)


def discard_recorded(folder: Path, outputs: Iterable[Path]) -> None:
    """Remove the recorded files that have not been changed since, and the record.

    Only unfinished files of the outputs are removed: a job's folder that comes from
    elsewhere may name any file.

    Raises
    ------
    FileError
        If the record or an unfinished file cannot be read now.
    """
    record = folder / RECORD
    try:
        known = [(n, (*s,)) for n, *s in json.loads(record.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError) as error:
        raise FileError(
            f"{record} cannot be read: {error}. Delete it to keep the unfinished files "
            "of earlier runs, and resume the job."
        ) from error
    for out in outputs:
        for part in unfinished_parts(out):
            state = file_state(_indicator(part))
            if any(n == part.name and is_same_state(state, s) for n, s in known):
                remove_with_journal(part)
    remove(record)


def _indicator(part: Path) -> Path:
    """Return the file that changes with every entry of an unfinished file's journal."""
    journal = journal_of(part)
    return journal if journal.exists() else part
