"""How much a command says beside its result."""

from __future__ import annotations

import shlex
import sys
from contextvars import ContextVar
from pathlib import Path

#: Whether progress and hints are left out; warnings, errors and results are not.
QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


def quoted(path: str | Path) -> str:
    """Write a path as a shell takes it."""
    return shlex.quote(str(path))


def suggest(command: str) -> None:
    """Say what people usually do next, where somebody reads it.

    Parameters
    ----------
    command : str
        The next command, without the program's name.
    """
    if not QUIET.get() and sys.stderr.isatty():
        print(f"Next: napari-geosr {command}", file=sys.stderr)
