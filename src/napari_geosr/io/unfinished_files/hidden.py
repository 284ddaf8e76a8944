"""Hidden names of files being written, which identify the writing process."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import secrets
import socket
import time
from functools import cache
from pathlib import Path

from napari_geosr.core.machine import processes

#: Token in a hidden name: random digits, computer and process id; earlier releases used
#: random digits only.
_TOKEN = re.compile(r"[0-9a-f]{4}([0-9a-f]{4})([0-9a-f]{8})")
#: Pattern of a hidden name without its suffix.
_HIDDEN = re.compile(r"\.([^/\\]+?)\.((?:[0-9a-f]{8}){1,2})\.partial")
#: Days without a change after which a file of another computer counts as abandoned.
#: Queues limit runs to shorter times.
_MAX_DAYS = 30


def temporary_sibling(path: Path, suffix: str = "") -> Path:
    """Return a hidden, unused name in the folder of `path`, ending in `suffix`."""
    stem = path.name.removesuffix(suffix) if suffix else path.name
    token = f"{secrets.token_hex(2)}{_computer()}{os.getpid() & 0xFFFFFFFF:08x}"
    return path.with_name(f".{stem}.{token}.partial{suffix}")


def with_user_names(text: str) -> str:
    """Replace names of hidden files in a string with the names that the user gave."""
    return _HIDDEN.sub(r"\1", text)


def leftovers(path: Path, suffix: str) -> list[Path]:
    """Return temporary files of `path`, whether or not their processes are running."""
    stem = glob.escape(path.name.removesuffix(suffix))
    candidates = path.parent.glob(f".{stem}.*.partial{suffix}")
    return sorted(part for part in candidates if _is_of(part, path, suffix))


def nested_leftovers(path: Path, suffix: str) -> list[Path]:
    """Find temporary files that belong to the temporary files of `path`.

    When a set of files is written, each is written to a temporary file, which in turn
    is first written under another temporary name.
    """
    stem = path.name.removesuffix(suffix)
    found = path.parent.glob(f"..{glob.escape(stem)}.*.partial*.partial*")
    matches = ((part, _HIDDEN.match(part.name[1:])) for part in found)
    return sorted(part for part, match in matches if match and match[1] == stem)


def _is_of(part: Path, path: Path, suffix: str) -> bool:
    found = _HIDDEN.fullmatch(part.name.removesuffix(suffix))
    return found is not None and found[1] == path.name.removesuffix(suffix)


def is_abandoned(part: Path) -> bool:
    """Return whether the process that wrote a hidden file must have ended.

    For files from other computers and for names from earlier releases, it is unknown
    whether the process is running. The process counts as ended if nothing was written
    for `_MAX_DAYS`.
    """
    found = _HIDDEN.match(part.name)
    if found is None:
        return False
    token = _TOKEN.fullmatch(found[2])
    try:
        if token is None or token[1] != _computer():
            return not has_changed_since(part, time.time() - 86400 * _MAX_DAYS)
        written = part.lstat().st_mtime
    except OSError:  # the file no longer exists: its process may have finished it
        return False
    return not processes.has_run_since(int(token[2], 16), written)


def is_of_other_computer(part: Path) -> bool:
    """Return whether a hidden name is known to be from another computer.

    The result is False for names from earlier releases.
    """
    found = _HIDDEN.match(part.name)
    token = None if found is None else _TOKEN.fullmatch(found[2])
    return token is not None and token[1] != _computer()


def is_of_this_computer(part: Path) -> bool:
    """Return whether a hidden name is known to be from this computer."""
    found = _HIDDEN.match(part.name)
    token = None if found is None else _TOKEN.fullmatch(found[2])
    return token is not None and token[1] == _computer()


def has_changed_since(part: Path, moment: float) -> bool:
    """Return whether a file, or anything in a folder, was written after `moment`."""
    if part.lstat().st_mtime > moment:
        return True
    return any(
        (Path(here) / name).lstat().st_mtime > moment
        for here, folders, files in os.walk(part)
        for name in (*folders, *files)
    )


@cache
def _computer() -> str:
    """Return four hex digits that identify this computer and container."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    name = f"{socket.gethostname()}/{namespace}".encode()
    return hashlib.blake2s(name, digest_size=2).hexdigest()
