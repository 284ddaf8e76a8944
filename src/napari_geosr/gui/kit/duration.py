"""Durations for people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds in words with sensible digits: ``"12 s"``, ``"3 min"``, ``"2.5 h"``."""
    if seconds < 1:
        return "less than 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
