"""Numbers with nouns."""

from __future__ import annotations


def counted(n: int, noun: str) -> str:
    """Return a number with a noun: ``1 core``, ``4 cores``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"
