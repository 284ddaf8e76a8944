"""Hidden names of files in the making, which say what process writes them."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import secrets
import socket
from functools import cache
from pathlib import Path

from napari_geosr.core import processes

#: Random, then the computer, then the process; earlier releases: random alone.
_TOKEN = re.compile(r"[0-9a-f]{4}([0-9a-f]{4})([0-9a-f]{8})")
#: A hidden name, up to its suffix.
_HIDDEN = re.compile(r"\.([^/\\]+?)\.((?:[0-9a-f]{8}){1,2})\.partial")


def temporary_sibling(path: Path, suffix: str = "") -> Path:
    """A hidden, unused name in the folder of `path`, ending in `suffix`."""
    stem = path.name.removesuffix(suffix) if suffix else path.name
    token = f"{secrets.token_hex(2)}{_computer()}{os.getpid() & 0xFFFFFFFF:08x}"
    return path.with_name(f".{stem}.{token}.partial{suffix}")


def asked_for(text: str) -> str:
    """A text with the names that people gave in place of hidden ones of ours."""
    return _HIDDEN.sub(r"\1", text)


def leftovers(path: Path, suffix: str) -> list[Path]:
    """What runs that were killed, or still go on, left under temporary names."""
    stem = glob.escape(path.name.removesuffix(suffix))
    found = path.parent.glob(f".{stem}.*.partial{suffix}")
    return sorted(part for part in found if _is_of(part, path, suffix))


def _is_of(part: Path, path: Path, suffix: str) -> bool:
    found = _HIDDEN.fullmatch(part.name.removesuffix(suffix))
    return found is not None and found[1] == path.name.removesuffix(suffix)


def is_abandoned(part: Path) -> bool:
    """Whether the process that wrote to a hidden name is known to have ended.

    Of other computers, and of names that earlier releases gave, nobody knows.
    """
    found = _HIDDEN.match(part.name)
    token = None if found is None else _TOKEN.fullmatch(found[2])
    if token is None or token[1] != _computer():
        return False
    try:
        written = part.lstat().st_mtime
    except OSError:  # it is gone: its process has finished it, perhaps
        return False
    return not processes.runs_since(int(token[2], 16), written)


@cache
def _computer() -> str:
    """Four digits for this computer, or this container, whose processes we see."""
    try:
        seen = os.readlink("/proc/self/ns/pid")
    except OSError:
        seen = ""
    name = f"{socket.gethostname()}/{seen}".encode()
    return hashlib.blake2s(name, digest_size=2).hexdigest()
