"""The pixel size that a microscope stores in its files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tifffile import TiffPage

#: Width in metres below which pixels are given in nm instead of µm.
_MICROMETRE = 1e-6


@dataclass(frozen=True)
class VendorPixel:
    """Height and width of a pixel.

    Attributes
    ----------
    height, width : float
        In metres, greater than zero.
    origin : str
        Instrument that wrote the metadata, for notes: ``"Zeiss SEM"``.
    written_for : int or None
        Number of columns of the image for which the size was written, if known.
    """

    height: float
    width: float
    origin: str
    written_for: int | None = None

    def in_unit(self) -> tuple[float, float, str]:
        """Return the height, width, and the unit in which they are shown: nm or µm."""
        unit, metres = ("nm", 1e-9) if self.width < _MICROMETRE else ("µm", 1e-6)
        # Twelve digits, so that 1.35e-8 m is exactly 13.5 nm.
        height, width = (float(f"{v / metres:.12g}") for v in (self.height, self.width))
        return height, width, unit

    def doubts(self, columns: int) -> tuple[str, ...]:
        """Return reasons to doubt the size for an image of `columns` columns."""
        if self.written_for in (None, columns):
            return ()
        return (
            f"the {self.origin} recorded it for an image {self.written_for} pixels "
            f"wide, but this image is {columns} pixels wide: it was cropped or "
            "rescaled later",
        )


def positive(value: Any) -> float | None:
    """Return `value` as a finite number greater than zero, or None."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def whole(value: object) -> int | None:
    """Return `value` as a whole number greater than zero, or None."""
    number = positive(value)
    return None if number is None else int(number)


def text_of_tag(page: TiffPage, tag: int | str) -> str:
    """Return the text of a tag; empty if there is none."""
    found = page.tags.get(tag)
    value = None if found is None else found.value
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return value if isinstance(value, str) else ""
