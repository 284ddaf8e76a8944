"""Numbers with nouns."""

from __future__ import annotations

from collections.abc import Sequence


def counted(n: int, noun: str) -> str:
    """Return a number with a noun: ``1 core``, ``4 cores``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def in_largest_unit(value: float, units: Sequence[str], least: float = 1.0) -> str:
    """Format a value in the largest unit in which it is at least `least`.

    Parameters
    ----------
    value : float
        In the first unit.
    units : sequence of str
        From large to small, in steps of 1000.
    least : float
        Smallest value in any but the last unit.
    """
    place = 0
    while place < len(units) - 1 and value < least:
        value, place = 1000 * value, place + 1
    number = f"{value:.0f}" if value >= 10 else f"{value:.2g}"
    return f"{number} {units[place]}"
