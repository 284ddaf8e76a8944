"""Verbosity of commands: progress and hints."""

from __future__ import annotations

import shlex
import sys
from contextvars import ContextVar
from pathlib import Path

#: Whether to omit progress and hints; warnings, errors and results are always shown.
QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


def quoted(path: str | Path) -> str:
    """Quote a path for a shell."""
    return shlex.quote(str(path))


def suggest_next(command: str) -> None:
    """Suggest a typical next command if stderr is a terminal.

    Parameters
    ----------
    command : str
        The next command, without the program's name.
    """
    if not QUIET.get() and sys.stderr.isatty():
        print(f"Next: napari-geosr {command}", file=sys.stderr)
