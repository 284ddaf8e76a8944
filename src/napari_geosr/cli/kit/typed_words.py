"""The words of the command line as typed; importing this module is fast."""

from __future__ import annotations

from contextvars import ContextVar

#: Command-line arguments of the program, set before they are parsed.
WORDS: ContextVar[tuple[str, ...]] = ContextVar("words", default=())
