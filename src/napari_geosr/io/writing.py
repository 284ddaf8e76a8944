"""Write volumes in any writable format, atomically: a complete file or none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from napari_geosr.core.errors import ConfigError, FileError, GeoSRError
from napari_geosr.core.steps import ShouldStop, never_stop
from napari_geosr.core.volume import Volume
from napari_geosr.io.formats import format_that_writes, write_suffixes
from napari_geosr.io.names import refuse_nul
from napari_geosr.io.output import Output, copy_blocks
from napari_geosr.io.spec import OutputPaths, OutputSpec
from napari_geosr.io.suffixes import incomplete_path, stem_of, suffix_of
from napari_geosr.io.unfinished_files.atomic import (
    check_folder,
    explained,
    move_into_place,
    refuse_existing,
    remove,
)
from napari_geosr.io.unfinished_files.claims import claimed, refuse_claimed
from napari_geosr.io.unfinished_files.finished import record_finished
from napari_geosr.io.unfinished_files.hidden import leftovers, temporary_sibling
from napari_geosr.io.unfinished_files.journal import (
    JournalEntry,
    load_journal,
    remove_with_journal,
)
from napari_geosr.io.unfinished_files.unfinished import (
    discard_unfinished,
    refuse_stopped,
    refuse_unfinished,
)


def check_output(
    path: str | Path,
    overwrite: bool = False,
    nbytes: int = 0,
    *,
    continues: bool = False,
) -> Path:
    """Check before a run whether `path` can be written.

    The finished part of an earlier run is not removed here, even with `overwrite`;
    `create` removes it when it begins the new file. Unfinished files that cannot be
    resumed are removed.

    Parameters
    ----------
    path : str or Path
    overwrite : bool
        Whether the run may replace an existing file, and discard the finished part of
        an earlier run.
    nbytes : int
        Size of the file to be written.
    continues : bool
        Whether the run resumes an earlier one.

    Raises
    ------
    FileError
        If `overwrite` is false, but `path` exists, or an interrupted run that is not
        resumed has finished part of it. If `path` is a folder but not an OME-Zarr, or
        has an unknown suffix. If its folder is missing or not writable, or fewer than
        `nbytes` bytes are free on the disk.
    FileInUseError
        If a run is writing to `path`.
    """
    target = _checked_output(path, overwrite, nbytes, continues)
    if not continues:
        refuse_stopped(target, overwrite)
    return target


def _checked_output(
    path: str | Path, overwrite: bool, nbytes: int, continues: bool
) -> Path:
    """Check as `check_output` does, but allow a path that a stopped run wrote to."""
    refuse_nul(path)
    target = Path(path).expanduser()
    if format_that_writes(target) is None:
        raise FileError(
            f"{target.name} does not have a supported suffix. Use one of: "
            f"{', '.join(write_suffixes())}."
        )
    check_folder(target, nbytes)
    refuse_existing(target, overwrite)
    refuse_claimed(target)
    if not continues:
        refuse_unfinished(target, overwrite)
    return target


@contextmanager
def create(
    path: str | Path,
    spec: OutputSpec,
    *,
    overwrite: bool = False,
    continues: Path | None = None,
) -> Iterator[Output]:
    """Create a file to be filled block by block; it appears at `path` when complete.

    Parameters
    ----------
    path : str or Path
        The suffix determines the format: one of `write_suffixes`.
    spec : OutputSpec
        Shape, type, geometry and provenance of the volume, and how it is written.
    overwrite : bool
        Whether an existing file is replaced (only once the new one is complete). The
        finished part of an earlier run that is not resumed is removed at once.
    continues : Path, optional
        Unfinished file of an earlier run to resume. If a killed run left it and the
        format allows this, the file is filled in place; otherwise a new one is begun
        (see `Output.is_reopened`).

    Yields
    ------
    Output
        Its `array` accepts non-overlapping writes from one thread.

    Raises
    ------
    FileError
        If the file cannot be written or the disk is full.
    VolumeError
        If `spec` is inconsistent.
    """
    spec = spec.checked(Path(path).name)
    with claimed(Path(path).expanduser()):
        yield from _created(Path(path), spec, overwrite, continues)


def _created(
    path: Path, spec: OutputSpec, overwrite: bool, continues: Path | None
) -> Iterator[Output]:
    """Create an output that this thread has claimed."""
    output = _open_output(path, spec, overwrite, continues)
    temporary = output.temporary
    try:
        try:
            yield output
        except BaseException:
            if output.is_kept_incomplete:
                _save_unfinished(output)
            else:
                output.close()
                # A reopened file stays where an earlier run left it.
                output.is_left_in_place = output.is_reopened
            raise
        if output.is_kept_incomplete:
            _save_unfinished(output)
        else:
            _finish(output, overwrite)
    finally:
        if not output.is_left_in_place:
            # If the disk has become read-only, the files remain for the next run, and
            # the disk error is passed to the caller.
            with suppress(OSError):
                remove_with_journal(temporary)


def _open_output(
    path: Path, spec: OutputSpec, overwrite: bool, continues: Path | None
) -> Output:
    """Return a file to write to: a new one, or the unfinished file of a killed run."""
    entry = None if continues is None else _resumable_journal(path, spec, continues)
    needed = spec.nbytes if entry is None else 0
    target = _checked_output(path, overwrite, needed, continues is not None)
    written_as = format_that_writes(target)
    assert written_as is not None  # `check_output` has rejected other suffixes
    if overwrite and continues is None:
        discard_unfinished(target)
    suffix = suffix_of(target)
    left = [part for part in leftovers(target, suffix) if part != continues]
    if entry is not None:
        paths = OutputPaths(target, entry.part, incomplete_path(target))
        with explained(target):
            reopened = written_as.reopened(paths, spec)
        if reopened is not None:
            reopened.is_reopened = True
            reopened.adopt(entry.boxes)
            with explained(target):
                reopened.discard_unadopted()
            return reopened
    temporary = temporary_sibling(target, suffix)
    try:
        with explained(target):
            paths = OutputPaths(target, temporary, incomplete_path(target))
            output = written_as.output(paths, spec)
        output.note = " ".join(filter(None, (output.note, _note_on_leftovers(left))))
    except BaseException:
        remove(temporary)
        raise
    return output


def _resumable_journal(path: Path, spec: OutputSpec, part: Path) -> JournalEntry | None:
    """Return the journal of a killed run's file if the file was begun with `spec`."""
    if part not in leftovers(path, suffix_of(path)):
        return None
    entry = load_journal(part)
    if entry is None:
        return None
    new_stamp, old_stamp = (
        {key: value for key, value in stamp.items() if key != "provenance"}
        for stamp in (spec.stamp.to_dict(), entry.stamp)
    )
    return entry if new_stamp == old_stamp else None


def write(
    volume: Volume,
    path: str | Path,
    *,
    overwrite: bool = False,
    kind: str | None = None,
    should_stop: ShouldStop = never_stop,
) -> Path:
    """Write a volume atomically, block by block; lazy volumes are not loaded.

    Parameters
    ----------
    volume : Volume
    path : str or Path
        The suffix determines the format: one of `write_suffixes`.
    overwrite : bool
    kind : str, optional
        ``"image"`` or ``"labels"``; by default taken from the volume's metadata, or
        ``"image"``.
    should_stop : callable
        Called before every block.

    Returns
    -------
    Path
        Path of the file.

    Raises
    ------
    FileError
        As in `create`.
    Cancelled
        If `should_stop` returns True; `path` is then unchanged.
    """
    target = Path(path).expanduser()
    if (
        volume.source is not None
        and _is_same_file(volume.source, target)
        and volume.is_lazy
    ):
        raise ConfigError(
            f"{volume.name!r} is read from {target}, which cannot be overwritten at "
            "the same time. Choose a different file name."
        )
    spec = OutputSpec.like(volume, **({} if kind is None else {"kind": kind}))
    with create(target, spec, overwrite=overwrite) as output:
        copy_blocks(volume.data, output, should_stop)
    return target


def _is_same_file(source: Path, target: Path) -> bool:
    return target.exists() and source.exists() and source.samefile(target)


def _note_on_leftovers(left: Sequence[Path]) -> str:
    """Return a note on unfinished files, which another run may still be writing."""
    if not left:
        return ""
    names = ", ".join(path.name for path in left)
    return (
        f"{left[0].parent} contains unfinished files of an earlier run: {names}. "
        "Delete them, unless a run is still writing there."
    )


def _save_unfinished(output: Output) -> None:
    """Keep the unfinished file, if necessary without data that could not be written."""
    output.check_intact()
    try:
        output.complete(pyramid=False)
    except (OSError, GeoSRError):  # usually a full disk: keep the data written so far
        output.close()
        if _may_be_resumed(output.temporary):
            # Finished parts are recorded only in the journal, which is found only if
            # the file keeps its temporary name.
            output.is_left_in_place = True
            return
    record_finished({output.incomplete_path: output.temporary})
    with explained(output.incomplete_path):
        move_into_place(output.temporary, output.incomplete_path, True)


def _may_be_resumed(part: Path) -> bool:
    """Return whether the journal of a file has finished parts, or may have some."""
    try:
        entry = load_journal(part)
    except FileError:
        return True
    return entry is not None and entry.has_progress


def _finish(output: Output, overwrite: bool) -> None:
    """Complete and rename the file; if this fails, no voxels are lost.

    Raises
    ------
    FileError
        If this fails; the message states where the file is kept instead.
    """
    try:
        output.check_intact()
    except FileError:
        output.close()
        raise
    try:
        with explained(output.path):
            output.complete(pyramid=True)
    except Exception as error:
        output.close()
        kept = _move_aside(output, output.incomplete_path)
        raise FileError(_with_location(error, "The unfinished file", kept)) from error
    try:
        record_finished({output.path: output.temporary})
        with explained(output.path):
            move_into_place(output.temporary, output.path, overwrite)
    except FileError as error:
        kept = _move_aside(output, _free_name(output.path))
        raise FileError(_with_location(error, "The finished file", kept)) from error


def _with_location(error: Exception, what: str, kept: Path) -> str:
    """Return the error, with the path of the kept file if it still exists."""
    if kept.exists():
        return f"{error} {what} is kept as {kept.name}."
    return f"{error} {what} is missing because its folder was removed or replaced."


def _move_aside(output: Output, path: Path) -> Path:
    """Rename the kept file to `path` and return its path; unchanged if this fails."""
    try:
        move_into_place(output.temporary, path, True)
    except (OSError, FileError):
        output.is_left_in_place = True
        return output.temporary
    return path


def _free_name(path: Path) -> Path:
    """Return the first of ``STEM.2.SUFFIX``, ``STEM.3.SUFFIX``, … that is not taken."""
    names = (f"{stem_of(path)}.{n}{suffix_of(path)}" for n in itertools.count(2))
    return next(p for p in map(path.with_name, names) if not p.exists())
