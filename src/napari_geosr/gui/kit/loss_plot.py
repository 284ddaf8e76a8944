"""Loss curves while a network trains, several runs over each other.

Painted with Qt, as the histograms are: a live curve is drawn anew twice a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_geosr.gui.kit.histogram import tick_text
from napari_geosr.gui.kit.loss_scale import LossScale

#: Colours of curves, after that of the text, on dark and on light: told apart by
#: colour-blind people too, which a test measures. Those on dark after Okabe and Ito.
_COLORS = (
    ("#56B4E9", "#F5793A", "#00C08B", "#E9A8D0", "#F0E442", "#7F8CFF"),
    ("#11456D", "#74370F", "#09845C", "#DC23B3", "#A87602", "#3908D4"),
)
_DASHES = (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine)
#: Points drawn per curve at most; the losses of more steps are averaged.
_POINTS = 400


@dataclass(frozen=True)
class Line:
    """A curve to draw.

    Attributes
    ----------
    name : str
        In the legend; without one, the dashed lines share a key.
    color : int
        The curves of one run, or those of one of several, have the same.
    dashed : bool
        A validation curve.
    """

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    color: int = 0
    dashed: bool = False


def thinned(line: Line) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Steps and values of a line as few points; what is no number stays a gap."""
    steps = np.asarray(line.steps, float)
    values = np.asarray(line.values, float)
    values = np.where(np.isfinite(values), values, np.nan)
    if len(values) <= _POINTS:
        return steps, values
    starts = np.linspace(0, len(values), _POINTS, endpoint=False).astype(int)
    counts = np.diff([*starts, len(values)])
    known = np.add.reduceat(np.isfinite(values).astype(float), starts)
    sums = np.add.reduceat(np.nan_to_num(values), starts)
    means = np.where(known > 0, sums / np.maximum(known, 1), np.nan)
    return np.add.reduceat(steps, starts) / counts, means


def last_text(line: Line) -> str:
    """The last value of a line for people."""
    value = line.values[-1]
    return f"{value:.3g}" if math.isfinite(value) else "no number"


def curve_colors(text: QColor) -> tuple[str, ...]:
    """Colours of curves beside text of this colour: that of the text is the first."""
    return (text.name(), *_COLORS[text.lightness() < 128])


class LossPlot(QWidget):
    """Losses over steps, with a legend below."""

    def __init__(self, parent: QWidget | None = None, *, height: int = 150) -> None:
        super().__init__(parent)
        self._height = height
        self._lines: list[tuple[Line, Any, Any]] = []
        self.scale = LossScale(0.1, 1.0)
        self._total = 1
        self.empty_text = "The curves appear with the first steps."
        self.setAccessibleName("Loss curves")
        self.setToolTip(
            "Loss on the training data (line) and on the block kept apart (dashed); "
            "lower is better. Where only the dashed one rises, stop."
        )
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(300, self._full_height())

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self._full_height())

    def _full_height(self) -> int:
        """With room for each further row of the legend."""
        more = (self._legend_rows() - 1) * self.fontMetrics().height()
        return int(self._height + more)

    def set_lines(self, lines: Sequence[Line], total: int) -> None:
        """Show `lines` over ``0 … total`` steps."""
        kept = [(line, *thinned(line)) for line in lines]
        self._lines = [(line, x, y) for line, x, y in kept if np.isfinite(y).any()]
        values = [y for _, _, y in self._lines]
        self.scale = LossScale.of(values) if values else LossScale(0.1, 1.0)
        self._total = max(total, 1)
        self.setAccessibleDescription(self._describe())
        self.updateGeometry()
        self.update()

    def names(self) -> list[str]:
        """Names of the curves that are shown."""
        return [line.name for line, _, _ in self._lines]

    def n_points(self) -> int:
        """Points of all curves."""
        return sum(len(line.values) for line, _, _ in self._lines)

    def _describe(self) -> str:
        if not self._lines:
            return self.empty_text
        said = [
            f"{line.name or 'validation'} {last_text(line)} at step {line.steps[-1]}"
            for line, _, _ in self._lines
        ]
        return f"{'; '.join(said)}. The axis is {self.scale.name}."

    def _pen(self, line: Line, text: QColor) -> QPen:
        colors = curve_colors(text)
        pen = QPen(QColor(colors[line.color % len(colors)]), 1.5)
        pen.setStyle(_DASHES[line.dashed])
        return pen

    def _rect(self) -> QRectF:
        metrics = self.fontMetrics()
        words = ("0.005", *(tick_text(tick) for tick in self.scale.ticks()))
        left = max(metrics.horizontalAdvance(word) for word in words) + 8
        below = metrics.height() * (1 + self._legend_rows()) + 8
        return QRectF(
            left,
            metrics.height() / 2,
            max(self.width() - left - 8, 10),
            max(self.height() - below - metrics.height() / 2, 10),
        )

    def _legend_rows(self) -> int:
        return max(1, math.ceil(len(self._keys()) / 2))

    def _keys(self) -> list[tuple[Line, str]]:
        """Lines of the legend with their texts."""
        named = [line for line, _, _ in self._lines if line.name]
        keys = [(line, f"{line.name} {last_text(line)}") for line in named]
        nameless = [line for line, _, _ in self._lines if not line.name]
        return keys + [(line, "validation") for line in nameless[:1]]

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        painter.setPen(text)
        if not self._lines:
            painter.drawText(
                self.rect(),
                Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap,
                self.empty_text,
            )
        else:
            self._paint_axes(painter, text)
            for line, x, y in self._lines:
                painter.strokePath(self._path(x, y), self._pen(line, text))
            self._paint_legend(painter, text)
        painter.end()

    def _xs(self, steps: Any) -> Any:
        rect = self._rect()
        return rect.left() + rect.width() * np.asarray(steps) / self._total

    def _ys(self, values: Any) -> Any:
        rect = self._rect()
        return rect.bottom() - rect.height() * self.scale.shares(values)

    def _path(self, steps: Any, values: Any) -> QPainterPath:
        xs, ys = self._xs(steps), self._ys(values)
        known = np.isfinite(ys)
        path = QPainterPath()
        for i in np.flatnonzero(known):
            point = QPointF(float(xs[i]), float(ys[i]))
            if i > 0 and known[i - 1]:
                path.lineTo(point)
                continue
            path.moveTo(point)
            if i + 1 == len(ys) or not known[i + 1]:  # a single point is seen too
                path.addEllipse(point, 1.5, 1.5)
        return path

    def _paint_axes(self, painter: QPainter, text: QColor) -> None:
        rect, metrics = self._rect(), self.fontMetrics()
        painter.setPen(QPen(text, 1))
        painter.drawLine(rect.topLeft(), rect.bottomLeft())
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
        for tick in self.scale.ticks():
            y = float(self._ys(tick))
            word = tick_text(tick)
            painter.drawLine(QPointF(rect.left() - 3, y), QPointF(rect.left(), y))
            left = rect.left() - 5 - metrics.horizontalAdvance(word)
            painter.drawText(QPointF(left, y + metrics.ascent() / 2 - 1), word)
        base = rect.bottom() + metrics.ascent() + 3
        painter.drawText(QPointF(rect.left(), base), "step 0")
        last = str(self._total)
        right = rect.right() - metrics.horizontalAdvance(last)
        painter.drawText(QPointF(right, base), last)

    def _paint_legend(self, painter: QPainter, text: QColor) -> None:
        metrics = self.fontMetrics()
        half = self.width() / 2
        top = self.height() - metrics.height() * self._legend_rows()
        for i, (line, word) in enumerate(self._keys()):
            x, y = half * (i % 2) + 4, top + metrics.height() * (i // 2)
            middle = y + metrics.height() / 2
            painter.setPen(self._pen(line, text))
            painter.drawLine(QPointF(x, middle), QPointF(x + 20, middle))
            painter.setPen(text)
            word = metrics.elidedText(
                word, Qt.TextElideMode.ElideMiddle, int(half) - 32
            )
            painter.drawText(QPointF(x + 25, y + metrics.ascent()), word)
