"""Resume or remove unfinished files of stopped or killed runs."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path

from napari_geosr.core.array_parts.boxes import (
    boxes_from_lists,
    boxes_to_lists,
    n_voxels,
)
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.steps import WarningIssued
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import ReadOptions
from napari_geosr.io.reading import read_file
from napari_geosr.io.suffixes import incomplete_path, suffix_of
from napari_geosr.io.unfinished_files.claims import FileInUseError, in_use_message
from napari_geosr.io.unfinished_files.damage import (
    check_openable,
    system_reason,
    unreadable_now,
)
from napari_geosr.io.unfinished_files.finished import is_recorded
from napari_geosr.io.unfinished_files.hidden import (
    is_abandoned,
    leftovers,
    with_user_names,
)
from napari_geosr.io.unfinished_files.journal import (
    JOURNAL,
    JournalEntry,
    is_left_by_job,
    journal_of,
    load_journal,
    read_journal,
    remove_journal,
    remove_with_journal,
)
from napari_geosr.io.unfinished_files.repairs import read_note


def find_unfinished(out: Path) -> Volume:
    """Read the unfinished file of an earlier run that wrote to `out`.

    If the same run was killed several times, the most complete file is read, and the
    others are removed.

    Returns
    -------
    Volume
        The unfinished volume; its last provenance record lists the ``finished`` boxes.

    Raises
    ------
    FileInUseError
        If a run is still writing to it.
    ConfigError
        If there is no unfinished file, or if it is damaged.
    FileError
        If the system cannot read it now.
    """
    damaged = clear(out)
    entries = _entries(out)
    for entry in entries:
        if entry.is_running:
            raise FileInUseError(in_use_message(out, entry.pid, entry.host))
    best = max(entries, key=lambda e: (e.n_finished, e.n_samples), default=None)
    stopped = incomplete_path(out)
    if stopped.exists():
        volume = read_file(stopped, ReadOptions())
        if best is None or best.n_finished <= _n_finished(volume):
            _remove_superseded(entries, volume)
            return volume
    if best is None and damaged:
        raise ConfigError(f"{_removed_message(damaged[0])} Omit --continue.")
    if best is None:
        raise ConfigError(
            f"There is no unfinished run of {out.name} to resume: neither "
            f"{stopped.name} nor the partial result of a killed run was found. Omit "
            "--continue."
        )
    volume = _read_killed_run(best)
    _remove_superseded([entry for entry in entries if entry is not best], volume)
    return volume


def unfinished_record(out: Path) -> AnyDict:
    """Return the last record of an unfinished file of `out`; the file is not changed.

    Empty if there is no such file, or if it cannot be read.
    """
    found: list[Sequence[AnyMapping] | None] = []
    stopped = incomplete_path(out)
    with suppress(ConfigError, FileError, OSError):
        entries = [each for each in _entries(out) if each.has_progress]
        found += [each.stamp.get("provenance") for each in entries]
        if stopped.exists():
            found.append(read_file(stopped, ReadOptions()).provenance)
    return next((dict(history[-1]) for history in found if history), {})


def usable_unfinished_steps(
    out: Path,
) -> Generator[WarningIssued, None, Volume | None]:
    """Return the unfinished file of an earlier run that wrote to `out`, if usable.

    Damaged files of killed runs are removed.

    Yields
    ------
    WarningIssued
        Names the damaged files.

    Raises
    ------
    FileInUseError
        If a run is still writing to it.
    FileError
        If the system cannot read it now; nothing is removed then.
    """
    damaged = clear(out)
    found = None
    try:
        found = find_unfinished(out)
    except FileInUseError:
        raise
    except ConfigError:
        for entry in _entries(out):
            if read_note(entry.part) is None:
                remove_with_journal(entry.part)
                damaged.append(entry.part)
    for part in damaged:
        yield WarningIssued(message=_removed_message(part))
    return found


def _removed_message(part: Path) -> str:
    return (
        f"The unfinished {with_user_names(part.name)} of an earlier run was damaged "
        "and has been removed, so its finished part is computed again."
    )


def refuse_unfinished(out: Path, overwrite: bool) -> None:
    """Raise `FileError` if the part of `out` that a killed run finished would be lost.

    Nothing that is finished is removed; see `discard_unfinished`.

    Raises
    ------
    FileError
        If `overwrite` is false.
    FileInUseError
        If a run is still writing to it.
    """
    clear(out)
    for entry in _entries(out):
        if entry.is_running:  # possible on a drive that does not share locks
            raise FileInUseError(in_use_message(out, entry.pid, entry.host))
        if overwrite or entry.is_this_process:
            continue
        raise FileError(
            f"A killed run had finished {_share(entry)}{out.name}. Resume it "
            "(--continue), or start again from the beginning (--overwrite)."
        )


def refuse_stopped(out: Path, overwrite: bool) -> None:
    """Raise `FileError` if the part of `out` that a stopped run finished would be lost.

    Nothing is removed; see `discard_unfinished`.

    Raises
    ------
    FileError
        If `overwrite` is false.
    """
    path = incomplete_path(out)
    stopped = None if overwrite else _stopped_run(path)
    if stopped is None:
        return
    share = _percent(_n_finished(stopped), stopped.shape)
    raise FileError(
        f"A stopped run had finished {share}{out.name} ({path.name}). Resume it "
        "(--continue), or start again from the beginning (--overwrite)."
    )


def unfinished_parts(out: Path) -> list[Path]:
    """Return the files of killed and stopped runs that wrote to `out`.

    Files that a running process, or this process, is writing are not returned.

    Raises
    ------
    FileError
        If the system cannot read one of them now.
    """
    found = [
        entry.part
        for entry in _entries(out)
        if not (entry.is_running or entry.is_this_process)
    ]
    stopped = incomplete_path(out)
    return found if _stopped_run(stopped) is None else [*found, stopped]


def discard_unfinished(out: Path) -> None:
    """Remove the files of `unfinished_parts`, because a new run begins to write `out`.

    Raises
    ------
    FileError
        If the system cannot read one of them now.
    """
    for part in unfinished_parts(out):
        remove_with_journal(part)


def _stopped_run(path: Path) -> Volume | None:
    """Read the unfinished file of a stopped run; None if `path` is not such a file.

    Raises
    ------
    FileError
        If the system cannot read it now.
    """
    if not path.exists():
        return None
    try:
        check_openable(path)
        stopped = read_file(path, ReadOptions())
    except (FileError, OSError) as error:
        if reason := system_reason(error):
            raise unreadable_now(path, reason) from error
        return None  # not written by this package, or unusable
    last = stopped.provenance[-1] if stopped.provenance else {}
    is_unfinished = last.get("complete") is False and "finished" in last
    return stopped if is_unfinished else None


def unfinished_of_job(out: Path, job: Path) -> list[Path]:
    """Return the unfinished files of `out` that the runs of a job have left.

    Files of other runs that wrote to the same output, and files that cannot be read
    now, are not returned.

    Parameters
    ----------
    job : Path
        Folder of the job, as in `written_by_job`; the job must not be running.
    """
    entries = map(read_journal, leftovers(out, suffix_of(out)))
    known = [entry for entry in entries if entry is not None]
    found = [entry.part for entry in known if entry.job == str(job)]
    stopped = incomplete_path(out)
    # The record of a stopped run does not name its job.
    with suppress(FileError):
        if is_recorded(stopped, job) and _stopped_run(stopped) is not None:
            found.append(stopped)
    return found


def clear(out: Path) -> list[Path]:
    """Remove unfinished files of `out` that dead processes left behind.

    Files that can be resumed are kept.

    Returns
    -------
    list of Path
        Removed files with a damaged journal, which may have had finished parts.

    Raises
    ------
    FileError
        If the system cannot read a journal now.
    """
    suffix = suffix_of(out)
    damaged = []
    for part in leftovers(out, suffix):
        entry = load_journal(part)
        is_left = is_abandoned(part) or is_left_by_job(part)
        if not (is_left if entry is None else entry.is_useless):
            continue
        if read_note(part) is None:  # a finished file under repair is never removed
            if entry is None and journal_of(part).exists():
                damaged.append(part)
            remove_with_journal(part)
    for journal in leftovers(journal_of(out), f"{suffix}{JOURNAL}"):
        part = journal.with_name(journal.name.removesuffix(JOURNAL))
        if not part.exists() and is_abandoned(journal):
            remove_journal(part)
    return damaged


def remove_unfinished(unfinished: Volume, finished: Path) -> None:
    """Delete the unfinished file, because everything in it is now in `finished`."""
    path = unfinished.source
    if path is None:
        return
    left = [incomplete_path(finished), *leftovers(finished, suffix_of(finished))]
    if path.resolve() in [known.resolve() for known in left]:
        remove_with_journal(path)


def _entries(out: Path) -> Sequence[JournalEntry]:
    """Return all valid journals of `out`, including those of running processes.

    Raises
    ------
    FileError
        If the system cannot read one of them now.
    """
    found = map(load_journal, leftovers(out, suffix_of(out)))
    return [entry for entry in found if entry is not None]


def _read_killed_run(entry: JournalEntry) -> Volume:
    part = entry.part
    try:
        check_openable(part)
        volume = read_file(part, ReadOptions())
    except (FileError, OSError) as error:
        if reason := system_reason(error):
            raise unreadable_now(part, reason) from error
        raise ConfigError(
            f"The unfinished {with_user_names(part.name)} of an earlier run cannot be "
            f"read. Delete it ({part.name}) and start from the beginning."
        ) from error
    return volume.replace(provenance=history_of(entry, volume.provenance))


def _remove_superseded(entries: Sequence[JournalEntry], kept: Volume) -> None:
    """Remove files of killed runs with the same inputs and settings as `kept`.

    The removed files are superseded, because `kept` contains the most finished voxels.
    """
    for entry in entries:
        is_same = _run_of(entry.stamp.get("provenance")) == _run_of(kept.provenance)
        if is_same and not entry.is_this_process:
            remove_with_journal(entry.part)


def _run_of(history: Sequence[AnyMapping] | None) -> tuple[object, ...] | None:
    """Return those values of the last record that must be equal in a resumed run."""
    if not history:
        return None
    return tuple(history[-1].get(name) for name in ("operation", "inputs", "settings"))


def history_of(
    entry: JournalEntry, otherwise: Sequence[AnyMapping] = ()
) -> tuple[AnyMapping, ...]:
    """Read the provenance of a killed run's file; the last record lists ``finished``.

    Parameters
    ----------
    otherwise : sequence of mapping
        The file's own records, used if the journal has none.

    Raises
    ------
    ConfigError
        If there are no records.
    """
    part = entry.part
    history = tuple(entry.stamp.get("provenance") or otherwise)
    if not history:
        raise ConfigError(
            f"The unfinished {with_user_names(part.name)} of an earlier run does not "
            f"record its settings: delete it ({part.name}) and start from the "
            "beginning."
        )
    last = {**history[-1], **entry.facts, "complete": False}
    last["finished"] = boxes_to_lists(entry.boxes)
    return (*history[:-1], last)


def _n_finished(stopped: Volume) -> int:
    """Return the number of voxels that a stopped run has recorded as finished."""
    last = stopped.provenance[-1] if stopped.provenance else {}
    return sum(map(n_voxels, boxes_from_lists(last.get("finished") or ())))


def _share(entry: JournalEntry) -> str:
    """Return what is finished as the start of a noun phrase: ``"12 % of "``."""
    if entry.n_samples and not entry.boxes:
        return f"{entry.n_samples} sample{'s' * (entry.n_samples > 1)} of "
    return _percent(entry.n_finished, entry.stamp.get("shape") or (0,))


def _percent(n_finished: int, shape: Sequence[int]) -> str:
    n = math.prod(shape)
    return f"{100 * n_finished / n:.0f} % of " if n else "a part of "
