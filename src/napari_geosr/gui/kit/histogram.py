"""Histograms in the docks: grey values with the threshold, and pore volumes.

Painted with Qt: a first drawing by matplotlib costs 0.8 s of importing and more than
50 ms of the event loop, and a dragged line needs a new picture for every mouse move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Bars:
    """Counts between edges, and what they are counts of."""

    counts: np.ndarray[Any, Any]
    edges: np.ndarray[Any, Any]
    name: str = ""


@dataclass(frozen=True)
class PlotColors:
    """Colours of the theme: `text` for lines and words, the others for bars."""

    text: str
    bars: str
    marked: str


def linear_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers between `low` and `high`, about `wanted` of them."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Powers of ten between `low` and `high`, both greater than zero."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / most))
    return [10.0**power for power in range(first, last + 1, stride)]


def tick_text(value: float) -> str:
    """A tick for people: ``250``, ``0.02``, ``10⁵``."""
    if value and not 1e-3 <= abs(value) < 1e5:
        power = math.floor(math.log10(abs(value)) + 1e-9)
        lead = value / 10.0**power
        front = "" if math.isclose(lead, 1) else f"{lead:.3g}·"
        return f"{front}10{str(power).translate(_SUPERSCRIPTS)}"
    return f"{value:.6g}"


class HistogramView(QWidget):
    """One filled histogram, and a second one as an outline over it.

    Parameters
    ----------
    log_x : bool
        Whether the horizontal axis is logarithmic.
    root : bool
        Draw square roots of the counts, so that a rare phase can be seen.
    """

    def __init__(
        self,
        parent: QWidget | None = None,
        *,
        log_x: bool = False,
        root: bool = False,
        height: int = 110,
    ) -> None:
        super().__init__(parent)
        self._log_x, self._root, self._height = log_x, root, height
        self._series: tuple[Bars, ...] = ()
        self._colors = PlotColors("#808080", "#808080", "#808080")
        self.x_title = ""
        self.empty_text = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(300, self._height)

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self._height)

    def set_colors(self, colors: PlotColors) -> None:
        """Draw in `colors` from now on."""
        self._colors = colors
        self.update()

    def set_series(self, series: Sequence[Bars], x_title: str) -> None:
        """Show one or more histograms; none clears the picture."""
        self._series = tuple(s for s in series if s.counts.sum() > 0)
        self.x_title = x_title
        self.setAccessibleDescription(self._describe())
        self.update()

    @property
    def series(self) -> tuple[Bars, ...]:
        """The histograms that are shown."""
        return self._series

    def range(self) -> tuple[float, float]:
        """Lowest and highest edge of all series."""
        if not self._series:
            return (1.0, 10.0) if self._log_x else (0.0, 1.0)
        low = min(float(s.edges[0]) for s in self._series)
        return low, max(float(s.edges[-1]) for s in self._series)

    def _describe(self) -> str:
        if not self._series:
            return self.empty_text
        low, high = self.range()
        n = int(self._series[0].counts.sum())
        return f"{n} values of {self.x_title} from {low:.4g} to {high:.4g}"

    def _plot_rect(self) -> QRectF:
        metrics = self.fontMetrics()
        below = 2 * metrics.height() + 4
        above = metrics.height() + 2 if len(self._series) > 1 else 4
        return QRectF(
            6, above, max(self.width() - 12, 10), max(self.height() - below - above, 10)
        )

    def x_of(self, value: float) -> float:
        """Horizontal place of a value, in widget pixels."""
        low, high = self.range()
        rect = self._plot_rect()
        if self._log_x:
            low, high, value = (
                math.log(low),
                math.log(high),
                math.log(max(value, 1e-300)),
            )
        span = (high - low) or 1.0
        return float(rect.left() + rect.width() * (value - low) / span)

    def value_at(self, x: float) -> float:
        """Value at a horizontal place in widget pixels, within the range."""
        low, high = self.range()
        rect = self._plot_rect()
        share = float(min(max((x - rect.left()) / rect.width(), 0.0), 1.0))
        if self._log_x:
            return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        return low + share * (high - low)

    def _path(self, bars: Bars, highest: float, *, closed: bool) -> QPainterPath:
        rect = self._plot_rect()
        heights = bars.counts.astype(float)
        if self._root:
            heights = np.sqrt(heights)
        ys = rect.bottom() - rect.height() * heights / highest
        path = QPainterPath(QPointF(self.x_of(float(bars.edges[0])), rect.bottom()))
        for i, y in enumerate(ys):
            path.lineTo(self.x_of(float(bars.edges[i])), float(y))
            path.lineTo(self.x_of(float(bars.edges[i + 1])), float(y))
        path.lineTo(self.x_of(float(bars.edges[-1])), rect.bottom())
        if closed:
            path.closeSubpath()
        return path

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = QColor(self._colors.text)
        painter.setPen(text)
        if not self._series:
            painter.drawText(
                self.rect(),
                Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap,
                self.empty_text,
            )
            painter.end()
            return
        highest = max(float(s.counts.max()) for s in self._series)
        highest = math.sqrt(highest) if self._root else highest
        first = self._path(self._series[0], highest, closed=True)
        self._paint_filled(painter, first)
        painter.strokePath(first, QPen(text, 0.75))
        for bars in self._series[1:]:
            pen = QPen(text, 1.5, Qt.PenStyle.DashLine)
            painter.strokePath(self._path(bars, highest, closed=False), pen)
        self._paint_axis(painter, text)
        self._paint_legend(painter, text)
        self._paint_over(painter, text)
        painter.end()

    def _paint_filled(self, painter: QPainter, path: QPainterPath) -> None:
        painter.fillPath(path, QColor(self._colors.marked))

    def _paint_over(self, painter: QPainter, text: QColor) -> None:
        """Paint what comes on top; nothing here."""

    def _paint_axis(self, painter: QPainter, text: QColor) -> None:
        rect, metrics = self._plot_rect(), self.fontMetrics()
        low, high = self.range()
        painter.setPen(QPen(text, 1))
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
        ticks = log_ticks(low, high) if self._log_x else linear_ticks(low, high)
        right = -1e9
        for tick in ticks:
            x, word = self.x_of(tick), tick_text(tick)
            width = metrics.horizontalAdvance(word)
            left = min(max(x - width / 2, 0), self.width() - width)
            painter.drawLine(QPointF(x, rect.bottom()), QPointF(x, rect.bottom() + 3))
            if left < right + 6:
                continue
            right = left + width
            painter.drawText(QPointF(left, rect.bottom() + 3 + metrics.ascent()), word)
        painter.drawText(
            QRectF(0, self.height() - metrics.height(), self.width(), metrics.height()),
            Qt.AlignmentFlag.AlignCenter,
            metrics.elidedText(self.x_title, Qt.TextElideMode.ElideRight, self.width()),
        )

    def _paint_legend(self, painter: QPainter, text: QColor) -> None:
        if len(self._series) < 2:
            return
        metrics = self.fontMetrics()
        room = self.width() // len(self._series) - 30
        x, y = 6.0, metrics.height() / 2
        for i, bars in enumerate(self._series):
            if i == 0:
                painter.fillRect(QRectF(x, y - 4, 16, 8), QColor(self._colors.marked))
            else:
                painter.setPen(QPen(text, 1.5, Qt.PenStyle.DashLine))
                painter.drawLine(QPointF(x, y), QPointF(x + 16, y))
            painter.setPen(text)
            word = metrics.elidedText(bars.name, Qt.TextElideMode.ElideMiddle, room)
            painter.drawText(QPointF(x + 20, metrics.ascent()), word)
            x += 30 + metrics.horizontalAdvance(word)


class ThresholdView(HistogramView):
    """The grey histogram with a threshold that can be dragged or moved by keys.

    Signals
    -------
    thresholdMoved : float
        While a person moves the line.
    """

    thresholdMoved = Signal(float)

    def __init__(self, parent: QWidget | None = None, *, height: int = 96) -> None:
        super().__init__(parent, root=True, height=height)
        self._threshold: float | None = None
        self._dark = True
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.SplitHCursor)

    @property
    def threshold(self) -> float | None:
        """Grey value at the line; None when there is no line."""
        return self._threshold

    def set_threshold(self, value: float | None, *, dark: bool) -> None:
        """Draw the line at `value`; grey values of pores lie below it if `dark`."""
        self._threshold, self._dark = value, dark
        self.setAccessibleDescription(self._describe())
        self.update()

    def _describe(self) -> str:
        text = super()._describe()
        if self._series and self._threshold is not None:
            text += f"; threshold {self._threshold:.6g}"
        return text

    def _paint_filled(self, painter: QPainter, path: QPainterPath) -> None:
        if self._threshold is None:
            painter.fillPath(path, QColor(self._colors.bars))
            return
        x = self.x_of(self._threshold)
        left = QRectF(0, 0, x, self.height())
        right = QRectF(x, 0, self.width() - x, self.height())
        for part, pores in ((left, self._dark), (right, not self._dark)):
            color = self._colors.marked if pores else self._colors.bars
            painter.save()
            painter.setClipRect(part)
            painter.fillPath(path, QColor(color))
            painter.restore()

    def _paint_over(self, painter: QPainter, text: QColor) -> None:
        if self._threshold is None:
            return
        rect = self._plot_rect()
        x = min(max(self.x_of(self._threshold), rect.left()), rect.right())
        painter.setPen(QPen(text, 2))
        painter.drawLine(QPointF(x, rect.top()), QPointF(x, rect.bottom()))
        word = "pores"
        metrics = self.fontMetrics()
        width = metrics.horizontalAdvance(word)
        left = x - width - 6 if self._dark else x + 6
        if 0 <= left <= self.width() - width:
            painter.drawText(QPointF(left, rect.top() + metrics.ascent()), word)
        if self.hasFocus():
            painter.setPen(QPen(text, 1, Qt.PenStyle.DotLine))
            painter.drawRect(self.rect().adjusted(0, 0, -1, -1))

    def mousePressEvent(self, event: Any) -> None:
        """Move the line to where the plot is pressed."""
        if event.button() == Qt.MouseButton.LeftButton and self._series:
            self._move_to(self.value_at(event.position().x()))

    def mouseMoveEvent(self, event: Any) -> None:
        """Let the line follow the mouse while it is pressed."""
        if event.buttons() & Qt.MouseButton.LeftButton and self._series:
            self._move_to(self.value_at(event.position().x()))

    def keyPressEvent(self, event: Any) -> None:
        """Move the line by a hundredth of the range with the arrow keys."""
        low, high = self.range()
        step = {Qt.Key.Key_Left: -0.01, Qt.Key.Key_Right: 0.01}.get(event.key())
        if step is None or self._threshold is None:
            super().keyPressEvent(event)
            return
        self._move_to(min(max(self._threshold + step * (high - low), low), high))

    def _move_to(self, value: float) -> None:
        self.set_threshold(value, dark=self._dark)
        self.thresholdMoved.emit(value)
