"""Histograms in the docks: grey values with the threshold, and pore volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPoint, QPointF, Qt, Signal
from qtpy.QtGui import QBrush, QColor, QLinearGradient, QPen
from qtpy.QtWidgets import QGraphicsPathItem, QWidget

from napari_geosr.core.types import AnyArray
from napari_geosr.gui.kit.plots.chart import (
    Chart,
    Legend,
    line_pen,
    linear_ticks,
    load_pyqtgraph,
    log_ticks,
    tick_text,
)

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent

#: Minimum margin to the left and right of the axis, in pixels.
_MARGIN = 6
#: Room on both sides of bars and a line, as a fraction of their range.
_MARKED_ROOM = 0.05
#: Space below the caption of a line, in pixels.
_CAPTION_SPACE = 8
#: Fraction of the range by which an arrow key moves the threshold.
_KEY_STEP = 0.01


@dataclass(frozen=True)
class Bars:
    """Bars of a histogram: counts between edges, and a name for the legend."""

    counts: AnyArray
    edges: AnyArray
    name: str = ""


@dataclass(frozen=True)
class PlotColors:
    """Colours of the theme: for lines and text, for bars, and for the bars of pores."""

    text: str
    bars: str
    marked: str


class HistogramView(Chart):
    """A filled histogram, with further histograms drawn over it as outlines.

    Parameters
    ----------
    log_x : bool
        Whether the horizontal axis is logarithmic.
    root : bool
        Draw square roots of the counts, so that rare phases are visible.
    """

    def __init__(
        self,
        parent: QWidget | None = None,
        *,
        log_x: bool = False,
        root: bool = False,
        height: int = 110,
    ) -> None:
        self._log_x, self._root = log_x, root
        self._series: tuple[Bars, ...] = ()
        self._colors = PlotColors("#808080", "#808080", "#808080")
        super().__init__(parent, height=height)
        self._legend = Legend(2, Qt.TextElideMode.ElideMiddle)
        self._title = self._title_label()
        self._title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._rows.insertWidget(0, self._legend)
        self._rows.addWidget(self._title)
        self.refresh()

    def set_colors(self, colors: PlotColors) -> None:
        """Change the colours and redraw."""
        self._colors = colors
        self.refresh()

    def set_series(self, series: Sequence[Bars], x_title: str) -> None:
        """Show histograms; an empty sequence clears the chart."""
        self._series = tuple(s for s in series if s.counts.sum() > 0)
        self._title.setText(x_title)
        self.refresh()

    @property
    def series(self) -> tuple[Bars, ...]:
        """The histograms shown."""
        return self._series

    @property
    def x_title(self) -> str:
        """Title of the horizontal axis."""
        return str(self._title.text())

    @property
    def text_color(self) -> QColor:
        return QColor(self._colors.text)

    def range(self) -> tuple[float, float]:
        """Return the lowest and highest edge of all series."""
        if not self._series:
            return (1.0, 10.0) if self._log_x else (0.0, 1.0)
        low = min(float(s.edges[0]) for s in self._series)
        return low, max(float(s.edges[-1]) for s in self._series)

    def x_of(self, value: float) -> float:
        """Return the horizontal position of a value, in widget pixels."""
        self._plot_width()  # updates the layout of a plot not shown yet
        point = QPointF(self._axis_position(value), 0)
        pixel = self.plot.mapFromScene(self.plot.getViewBox().mapViewToScene(point))
        return float(self.plot.mapTo(self, pixel).x())

    def value_at(self, x: float) -> float:
        """Return the value at `x` (in pixels of the widget), clipped to the range."""
        self._plot_width()
        scene = self.plot.mapToScene(self.plot.mapFrom(self, QPoint(round(x), 0)))
        position = float(self.plot.getViewBox().mapSceneToView(scene).x())
        low, high = self.range()
        value = 10.0**position if self._log_x else position
        return min(max(value, low), high)

    def _axis_position(self, values: Any) -> Any:
        """Return the positions of values on the horizontal axis."""
        return np.log10(np.maximum(values, 1e-300)) if self._log_x else values

    def _is_empty(self) -> bool:
        return not self._series

    def _describe(self) -> str:
        if not self._series:
            return self.empty_text
        low, high = self.range()
        n = int(self._series[0].counts.sum())
        return f"{n} values of {self.x_title} from {low:.4g} to {high:.4g}"

    def refresh(self) -> None:
        several = len(self._series) > 1
        dashed = line_pen(self.text_color, style=Qt.PenStyle.DashLine)
        marks = [QColor(self._colors.marked), *[dashed] * (len(self._series) - 1)]
        keys = [
            (mark, bars.name) for mark, bars in zip(marks, self._series, strict=False)
        ]
        self._legend.set_keys(keys if several else [])
        self._title.setVisible(bool(self._series))
        super().refresh()

    def _draw(self) -> None:
        self.plot.hideAxis("left")
        low, high = (float(self._axis_position(end)) for end in self.range())
        heights = [
            np.sqrt(s.counts) if self._root else s.counts.astype(float)
            for s in self._series
        ]
        self.plot.setRange(
            xRange=(low, high),
            yRange=(0.0, max(float(h.max()) for h in heights)),
            padding=0,
        )
        for i, (bars, counts) in enumerate(zip(self._series, heights, strict=True)):
            outline = QGraphicsPathItem(self._outline(bars, counts))
            outline.setPen(line_pen(self.text_color, style=Qt.PenStyle.DashLine))
            if i == 0:
                outline.setPen(line_pen(self.text_color, 0.75))
                outline.setBrush(self._brush())
                self._filled = outline
            self.plot.addItem(outline)

    def _outline(self, bars: Bars, heights: AnyArray) -> Any:
        """Return the outline of all bars.

        pyqtgraph's own filled steps consist of pieces with visible seams.
        """
        x = np.repeat(self._axis_position(np.asarray(bars.edges, float)), 2)
        y = np.concatenate([[0.0], np.repeat(heights, 2), [0.0]])
        return load_pyqtgraph().arrayToQPath(x, y)

    def _brush(self) -> QBrush:
        return QBrush(QColor(self._colors.marked))

    def _captioned_line(self, text: str) -> tuple[Any, Any]:
        """Add a vertical line and its caption, whose positions are set later."""
        pyqtgraph = load_pyqtgraph()
        pen = line_pen(self.text_color, 2)
        line = pyqtgraph.InfiniteLine(angle=90, movable=False, pen=pen)
        caption = pyqtgraph.TextItem(text, self.text_color)
        caption.setFont(self.font())
        for item in (line, caption):
            self.plot.addItem(item)
        return line, caption

    def _label_axes(self) -> None:
        low, high = self.range()
        ticks = log_ticks(low, high) if self._log_x else linear_ticks(low, high)
        labels = [(float(self._axis_position(tick)), tick_text(tick)) for tick in ticks]
        # Near the ends of the axis, labels extend beyond it: reserve room for them.
        first, last = (float(self._axis_position(end)) for end in (low, high))
        per_unit = self.width() / ((last - first) or 1.0)
        left = right = float(_MARGIN)
        for place, text in labels:
            half = self.fontMetrics().horizontalAdvance(text) / 2 + 4
            left = max(left, half - (place - first) * per_unit)
            right = max(right, half - (last - place) * per_unit)
        self._set_margins(left, 4, right)
        self._label_bottom(labels)


class MarkedHistogram(HistogramView):
    """Histogram with a vertical line at one value, and a caption above the bars."""

    def __init__(self, parent: QWidget | None = None, *, height: int = 108) -> None:
        self._mark: float | None = None
        self._text = ""
        self._line: Any = None
        self._caption: Any = None
        super().__init__(parent, height=height)

    @property
    def mark(self) -> float | None:
        """Value of the line; None if there is no line."""
        return self._mark

    def set_marked(
        self, series: Sequence[Bars], x_title: str, mark: float | None, text: str
    ) -> None:
        """Show histograms, and a line at `mark` with a caption."""
        self._mark, self._text = mark, text
        self.set_series(series, x_title)

    def range(self) -> tuple[float, float]:
        """Return the ends of the axis, which includes bars and line."""
        low, high = super().range()
        if self._mark is not None:
            low, high = min(low, self._mark), max(high, self._mark)
        room = _MARKED_ROOM * (high - low)
        return low - room, high + room

    def _describe(self) -> str:
        text = super()._describe()
        if self._series and self._mark is not None:
            text += f"; {self._text} {self._mark:.4g}"
        return text

    def _draw(self) -> None:
        super()._draw()
        self._line, self._caption = self._captioned_line(self._text)

    def _label_axes(self) -> None:
        super()._label_axes()
        for item in (self._line, self._caption):
            item.setVisible(self._mark is not None)
        if self._mark is None:
            return
        height = max(self.plot.getViewBox().height(), 1.0)
        share = 1 - (self.fontMetrics().height() + _CAPTION_SPACE) / height
        highest = max(float(s.counts.max()) for s in self._series)
        top = highest / max(share, 0.5)
        self.plot.setYRange(0, top, padding=0)
        self._line.setValue(self._mark)
        # Left of the line if there is more room.
        is_right = self._mark > sum(self.range()) / 2
        self._caption.setAnchor((1.0 if is_right else 0.0, 0.0))
        self._caption.setPos(self._mark, top)


class ThresholdView(HistogramView):
    """Histogram of grey values; the mouse or the arrow keys move its threshold.

    Signals
    -------
    thresholdMoved : float
        The user has moved the line to this value.
    """

    thresholdMoved = Signal(float)

    def __init__(self, parent: QWidget | None = None, *, height: int = 96) -> None:
        self._threshold: float | None = None
        self._dark = True
        self._line: Any = None
        self._caption: Any = None
        super().__init__(parent, root=True, height=height)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.SplitHCursor)

    @property
    def threshold(self) -> float | None:
        """Grey value of the line; None if there is no line."""
        return self._threshold

    def set_threshold(self, value: float | None, *, dark: bool) -> None:
        """Draw the line at `value`; if `dark`, grey values of pores lie below it."""
        self._threshold, self._dark = value, dark
        self.setAccessibleDescription(self._describe())
        if self._is_drawn:
            self._place_line()

    def _describe(self) -> str:
        text = super()._describe()
        if self._series and self._threshold is not None:
            text += f"; threshold {self._threshold:.6g}"
        return text

    def _draw(self) -> None:
        super()._draw()
        self._line, self._caption = self._captioned_line("pores")
        self._show_focus()

    def _label_axes(self) -> None:
        super()._label_axes()
        self._place_line()

    def _place_line(self) -> None:
        """Move the line, its caption and the border between the two colours."""
        self._filled.setBrush(self._brush())
        value = self._threshold
        self._line.setVisible(value is not None)
        self._caption.setVisible(False)
        if value is None:
            return
        low, high = self.range()
        value = min(max(value, low), high)
        self._line.setValue(value)
        room = self._plot_width() * (value - low if self._dark else high - value)
        width = self.fontMetrics().horizontalAdvance(self._caption.toPlainText())
        self._caption.setVisible(room / ((high - low) or 1.0) >= width + _MARGIN)
        self._caption.setAnchor((1.0 if self._dark else 0.0, 0.0))
        self._caption.setPos(value, self.plot.viewRange()[1][1])

    def _brush(self) -> QBrush:
        """Return a brush with different colours below and above the threshold."""
        bars, marked = QColor(self._colors.bars), QColor(self._colors.marked)
        if self._threshold is None:
            return QBrush(bars)
        low, high = self.range()
        share = min(max((self._threshold - low) / ((high - low) or 1.0), 0.0), 1.0)
        below, above = (marked, bars) if self._dark else (bars, marked)
        gradient = QLinearGradient(low, 0.0, high, 0.0)
        gradient.setColorAt(0.0, below)
        gradient.setColorAt(share, below)
        gradient.setColorAt(min(math.nextafter(share, 2.0) + 1e-9, 1.0), above)
        gradient.setColorAt(1.0, above if share < 1 else below)
        return QBrush(gradient)

    def _show_focus(self) -> None:
        border = QPen(self.text_color, 1, Qt.PenStyle.DotLine)
        self.plot.getViewBox().setBorder(border if self.hasFocus() else None)

    def focusInEvent(self, event: object) -> None:
        """Draw a border while keys move the line."""
        super().focusInEvent(event)
        if self._is_drawn:
            self._show_focus()

    def focusOutEvent(self, event: object) -> None:
        """Remove the border."""
        super().focusOutEvent(event)
        if self._is_drawn:
            self._show_focus()

    def mousePressEvent(self, event: QEvent) -> None:
        """Move the line to the mouse."""
        if event.button() == Qt.MouseButton.LeftButton and self._series:
            self._move_to(self.value_at(event.position().x()))

    def mouseMoveEvent(self, event: QEvent) -> None:
        """Move the line with the mouse while the button is pressed."""
        if event.buttons() & Qt.MouseButton.LeftButton and self._series:
            self._move_to(self.value_at(event.position().x()))

    def keyPressEvent(self, event: QEvent) -> None:
        """Move the line by `_KEY_STEP` of the range with the arrow keys."""
        low, high = self.range()
        steps = {Qt.Key.Key_Left: -_KEY_STEP, Qt.Key.Key_Right: _KEY_STEP}
        step = steps.get(event.key())
        if step is None or self._threshold is None:
            super().keyPressEvent(event)
            return
        self._move_to(min(max(self._threshold + step * (high - low), low), high))

    def _move_to(self, value: float) -> None:
        self.set_threshold(value, dark=self._dark)
        self.thresholdMoved.emit(value)
