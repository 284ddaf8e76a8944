"""A strip that shows which parts of a result are finished."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QRectF, QSize
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette
from qtpy.QtWidgets import QSizePolicy, QWidget

#: Height of the strip in pixels.
_HEIGHT = 10
#: Opacity of the colour of a part that is not finished at all.
_FAINT = 0.15


class PartsStrip(QWidget):
    """One cell for each part of a volume, filled as far as the part is finished.

    Attributes
    ----------
    parts : tuple of int
        Finished percentages, in the order of the planes of the volume.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.parts: tuple[int, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Finished parts")

    def sizeHint(self) -> QSize:
        """Return the preferred size."""
        return QSize(100, _HEIGHT)

    def set_parts(self, parts: Sequence[int]) -> None:
        """Show other percentages; the strip is hidden if there are none."""
        self.setVisible(bool(parts))
        if tuple(parts) == self.parts:
            return
        self.parts = tuple(parts)
        text = describe_parts(self.parts)
        self.setToolTip(text)
        self.setAccessibleDescription(text)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the cells in the colour of the theme."""
        painter = QPainter(self)
        color = self.palette().color(QPalette.ColorRole.Text)
        width = self.width() / max(len(self.parts), 1)
        gap = 1.0 if width > 3 else 0.0
        for i, percentage in enumerate(self.parts):
            shade = QColor(color)
            shade.setAlphaF(_FAINT + (1 - _FAINT) * percentage / 100)
            cell = QRectF(i * width, 0, width - gap, self.height())
            painter.fillRect(cell, shade)
        painter.end()


def describe_parts(parts: Sequence[int]) -> str:
    """The number of finished parts, as text for the user."""
    n = sum(percentage == 100 for percentage in parts)
    started = sum(0 < percentage < 100 for percentage in parts)
    text = f"{n} of {len(parts)} parts of the volume are finished"
    if started:
        text += f", {started} in part"
    return f"{text} (first plane on the left)."
