"""Measured values with their units, as rows of tables and as lines of text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A measured value.

    Attributes
    ----------
    label, value : str
    unit : str
        Unit of the value, or words that follow the value.
    remark : str
        What else there is to say about the value.
    help : str
        Explains the value.

    Examples
    --------
    >>> figure = Figure("Spots", "8", "of 64 possible", "precision not reached")
    >>> figure.text
    '8 of 64 possible (precision not reached)'
    >>> Figure("Rotation", "0.35", "°").line
    'Rotation: 0.35°'
    """

    label: str
    value: str
    unit: str = ""
    remark: str = ""
    help: str = ""

    @property
    def text(self) -> str:
        """The value with its unit, and the remark in brackets."""
        space = "" if self.unit in ("", "°") else " "
        remark = f" ({self.remark})" if self.remark else ""
        return f"{self.value}{space}{self.unit}{remark}"

    @property
    def line(self) -> str:
        """The label and the text."""
        return f"{self.label}: {self.text}"


def percentage(label: str, text: str, remark: str = "", explained: str = "") -> Figure:
    """Return the figure of a percentage, such as ``"12.3 %"``."""
    return Figure(label, text.removesuffix(" %"), "%", remark, explained)
