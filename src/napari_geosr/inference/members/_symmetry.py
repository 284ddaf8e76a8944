"""Reflections and rotations of a window."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Symmetry:
    """A symmetry of a window: mirror, then rotate, then flip along Z.

    Attributes
    ----------
    quarter_turns : int
        Number of quarter turns within the planes, 0 to 3.
    mirrored : bool
        Whether the order of the columns is reversed.
    upside_down : bool
        Whether the order of the planes is reversed.
    """

    quarter_turns: int
    mirrored: bool
    upside_down: bool

    def __str__(self) -> str:
        words = []
        if self.mirrored:
            words.append("mirrored")
        if self.quarter_turns:
            words.append(f"rotated by {90 * self.quarter_turns}°")
        if self.upside_down:
            words.append("upside down")
        return ", ".join(words) or "as it is"
