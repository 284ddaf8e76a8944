"""Read facts and events of jobs, ignoring invalid values.

A folder may come from another release, another program or a damaged disk. One invalid
value must not prevent other jobs from being listed, run or shown.
"""

from __future__ import annotations

import math
import os
import re
import socket
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, Literal, cast, get_args

from napari_geosr.core.documents import load_json, read_document
from napari_geosr.core.errors import JobError, ModelError
from napari_geosr.core.machine import processes
from napari_geosr.core.machine.file_clock import is_older
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.models import zoo

State = Literal[
    "queued",
    "running",
    "paused",
    "finishing",
    "done",
    "failed",
    "cancelled",
    "interrupted",
    "damaged",
    "unreadable",
    "missing",
]
#: Folders with links that lead to a different file for each process: with such a link,
#: a job from elsewhere could name its folder without knowing where it is.
_OWN_LINKS = ("proc", "dev")
#: Copy of the lasting facts of ``job.json``, written once when the job is created.
ORIGIN = "origin.json"
#: Event at the start of each run of a job.
RUN = "run"
#: States that ``job.json`` may contain; the others are derived.
_WRITTEN = frozenset(get_args(State)) - {"damaged", "unreadable", "missing"}
#: Largest valid count, which is the largest number that a widget can show.
_MAX_COUNT = 2**31 - 1
#: Latest valid time stamp, in seconds since 1970.
_MAX_TIME = 2.0**37
#: Seconds without a heartbeat after which a job on another host counts as interrupted.
_MAX_SILENCE = 180.0
#: Maximum number of parts of a volume for which ``job.json`` may state percentages.
_MAX_PARTS = 1000
#: Numeric fields of ``progress`` events, in addition to steps and losses.
_FIGURES = ("learning_rate", "images_per_second", "seconds_left", "memory", "watts")


def parse_mapping(text: str | bytes) -> AnyDict:
    """Parse a JSON object.

    Raises
    ------
    ValueError
        If the text is damaged or not a JSON object.
    """
    values = load_json(text)  # raises ConfigError, a kind of ValueError
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    return values


def read_mapping(path: Path) -> AnyDict:
    """Read a small file that contains a JSON object.

    Raises
    ------
    OSError
        If the file cannot currently be read.
    ValueError
        If the file is damaged, too large, or not a regular file. Reading a named pipe,
        for example, would block forever.
    """
    if not stat.S_ISREG(atomic.retry_if_not_permitted(path.stat).st_mode):
        raise ValueError("it is not a regular file")
    return parse_mapping(atomic.retry_if_not_permitted(lambda: read_document(path)))


def read_state(path: Path) -> tuple[AnyDict, State, str]:
    """Read ``job.json``.

    Returns
    -------
    facts : dict
        Contents of the file or, if it cannot be read, of `ORIGIN`.
    state : str
    message : str
        Description of the problem with the file; empty if it is valid.
    """
    facts, state = AnyDict(), None
    try:
        facts = read_mapping(path)
        state = stated(facts)
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}."
        return read_origin(path.parent), "unreadable", message
    except ValueError:
        pass
    if state is not None:
        return facts, state, ""
    return (
        facts | read_origin(path.parent),
        "damaged",
        f"{path} is damaged, so it is not known whether the job has finished. Resume "
        "it to find out; if it has produced a result, the result is in "
        f"{path.parent / 'result'}.",
    )


def read_origin(folder: Path) -> AnyDict:
    """Return a job's name, folder and creation time, in case ``job.json`` is damaged.

    Empty for jobs of earlier releases, or if the file cannot be read.
    """
    try:
        return read_mapping(folder / ORIGIN)
    except (OSError, ValueError):
        return {}


def recorded(folder: Path) -> tuple[AnyDict, State]:
    """Return the facts and the state that a job has recorded, regardless of its queue.

    Parameters
    ----------
    folder : Path
        Folder of the job.
    """
    facts, state, _ = read_state(folder / "job.json")
    return facts, state


def stated(facts: AnyMapping) -> State | None:
    """Return the state in the facts if it is valid, otherwise None."""
    state = facts.get("state")
    known = isinstance(state, str) and state in _WRITTEN
    return cast("State", state) if known else None


def check_operation(values: AnyMapping, path: Path) -> None:
    """Raise `JobError` for the ``config.yaml`` of another program."""
    if not isinstance(values.get("operation"), str):
        raise JobError(
            f"{path} does not name an operation, so it does not belong to a job. "
            "Recover it from a backup, or remove the job from the list."
        )


def number(value: Any) -> float:
    """Return `value` if it is a number from 0 to `_MAX_TIME`; otherwise 0."""
    return float(value) if _is_finite(value) and 0 <= value <= _MAX_TIME else 0.0


def count(value: Any) -> int:
    """Return `value` if it is a valid step count or process ID; otherwise 0."""
    return int(value) if _is_finite(value) and 0 <= value <= _MAX_COUNT else 0


def percentages(value: object) -> tuple[int, ...]:
    """Return a list of percentages as a tuple; an empty one if it is invalid."""
    if not isinstance(value, list) or len(value) > _MAX_PARTS:
        return ()
    return tuple(min(count(each), 100) for each in value)


def event(line: bytes) -> AnyDict | None:
    """Return the event on a line; None if the line or a required field is invalid."""
    try:
        values = parse_mapping(line)
    except ValueError:
        return None
    kind = values.get("event")
    if not isinstance(kind, str) or not _is_finite(values.get("time")):
        return None
    if kind == "progress":
        return _progress(values)
    if kind in ("preview", "checkpoint") and not _is_step(values.get("step")):
        return None
    if kind in ("warning", "stage") and not isinstance(values.get("message"), str):
        return None
    return values


def _progress(values: AnyMapping) -> AnyDict | None:
    total, losses = values.get("total", 0), values.get("losses", {})
    if not (_is_step(values.get("step")) and _is_step(total)):
        return None
    if not isinstance(losses, dict):
        return None
    known = {name: value for name, value in losses.items() if _is_number(value)}
    invalid = {k for k in _FIGURES if not _is_finite(values.get(k))}
    kept = {k: (None if k in invalid else v) for k, v in values.items()}
    return kept | {"total": total, "losses": known}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    try:
        return _is_number(value) and math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _is_step(value: object) -> bool:
    return isinstance(value, int) and _is_finite(value) and 0 <= value <= _MAX_COUNT


def is_absolute(text: str) -> bool:
    """Return whether this is an absolute path on any system, but not a root folder."""
    kinds = (PurePosixPath(text), PureWindowsPath(text))
    return any(path.is_absolute() and path.name for path in kinds)


def is_same_folder(place: object, folder: Path) -> bool:
    """Return whether a path in a job's files is the job's folder on this computer.

    Once links are resolved, the path of a shared folder may differ between computers.

    Parameters
    ----------
    place : object
        Value from the files of the job, which may come from elsewhere.
    folder : Path
        Folder of the job, with links resolved.
    """
    if not isinstance(place, str) or not is_absolute(place):
        return False
    if place == str(folder):
        return True
    names = place.split("/")[1:]
    if {"", ".", ".."} & {*names} or {*names[:1]} & {*_OWN_LINKS}:
        return False
    try:
        return Path(place).samefile(folder)
    except (OSError, ValueError):
        return False


def is_alive(facts: AnyMapping, folder: Path) -> bool:
    """Return whether the process in ``job.json`` appears to be running.

    Parameters
    ----------
    facts : mapping
    folder : Path
        Folder of the job.
    """
    if facts.get("host") != socket.gethostname():
        return not is_older(number(facts.get("updated")), _MAX_SILENCE, folder)
    started = number(facts.get("started"))
    since_boot = facts.get(processes.SINCE_BOOT)
    return processes.is_process_running(count(facts.get("pid")), started, since_boot)


def has_ended_here(facts: AnyMapping, folder: Path) -> bool:
    """Return whether ``job.json`` names a process on this host that has ended."""
    is_own = facts.get("host") == socket.gethostname() and count(facts.get("pid")) > 0
    return is_own and not is_alive(facts, folder)


def open_for_appending(path: Path) -> BinaryIO:
    """Open a file of lines for appending; its last line may be incomplete."""
    stream: BinaryIO = path.open("ab+")
    if stream.tell() > 0:
        stream.seek(-1, os.SEEK_END)
        if stream.read(1) != b"\n":  # the process was killed while writing
            stream.write(b"\n")
    return stream


def result(
    facts: AnyMapping, values: AnyMapping, folder: Path
) -> tuple[Path | None, str]:
    """Return the path of a job's result, or None and the reason.

    A job file from elsewhere may name any path on the computer. Only two results may be
    outside the folder: the initial model, which a training run without improvement
    returns, and the output requested for a job that was created in this folder.

    Parameters
    ----------
    facts, values : mapping
        Contents of ``job.json`` and ``config.yaml``.
    folder : Path
        Folder of the job, with links resolved.
    """
    named = facts.get("result")
    if not named or not isinstance(named, str):
        return None, ""
    path = folder / named
    try:
        real = path.resolve()
        if real.is_relative_to(folder) or _is_output(real, facts, values, folder):
            return path, ""
        if _is_initial_model(real, values):
            return path, ""
    except (OSError, RuntimeError, ValueError):  # circular links, invalid characters
        pass
    return None, (
        f"{folder / 'job.json'} refers to a result outside the job folder ({named}); "
        "this result is not opened."
    )


def _is_output(path: Path, facts: AnyMapping, values: AnyMapping, folder: Path) -> bool:
    """Return whether `path` is in the output requested for a job created here."""
    out = values.get("out")
    if not (is_same_folder(facts.get("place"), folder) and isinstance(out, str)):
        return False
    return path.is_relative_to(Path(out).resolve())


def _is_initial_model(path: Path, values: AnyMapping) -> bool:
    """Return whether this is the model from which a training run started."""
    initial = values.get("training", {}).get("from_model")
    if not isinstance(initial, str) or not initial:
        return False
    try:
        return zoo.find(initial).path.resolve() == path
    except ModelError:  # the model does not exist, or is damaged
        return False


def relocate_paths(values: object, old: str, new: str) -> Any:
    """Return `values` with every path inside the folder `old` changed to `new`.

    Parameters
    ----------
    values : object
        Contents of a ``config.yaml``: mappings, lists and plain values.
    old, new : str
        Absolute paths of the folder, possibly in another system's notation.

    Returns
    -------
    object
        A copy; text that does not begin with `old` is unchanged.
    """
    if old in ("", new):
        return values
    if isinstance(values, dict):
        return {key: relocate_paths(value, old, new) for key, value in values.items()}
    if isinstance(values, list):
        return [relocate_paths(value, old, new) for value in values]
    if not isinstance(values, str):
        return values
    begins = values[: len(old)] == old
    rest = values[len(old) :]
    if not begins or not (rest == "" or rest[0] in "/\\"):
        return values
    parts = [part for part in re.split(r"[/\\]", rest) if part]
    return str(Path(new).joinpath(*parts))
