"""Scatter plot of two columns of the pore table, in which pores can be encircled.

Points are drawn into an image, so that a change of the selection takes a few
milliseconds for 100,000 pores; pyqtgraph's own points take a hundred times as long.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QPoint, QPointF, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPen, QPixmap, QPolygonF, QTransform
from qtpy.QtWidgets import (
    QGraphicsPathItem,
    QGraphicsPixmapItem,
    QSizePolicy,
    QWidget,
)

from napari_geosr.core.types import AnyArray
from napari_geosr.gui.kit.plots.chart import (
    Chart,
    line_pen,
    linear_ticks,
    load_pyqtgraph,
    log_ticks,
    tick_text,
)
from napari_geosr.gui.porosity.linked.axes import (
    BINS,
    HIGHLIGHT_VALUE,
    STRIP,
    PlotAxis,
    band,
    pixel_values,
    scale_of,
    strip_at,
)
from napari_geosr.gui.porosity.linked.marked import combined
from napari_geosr.gui.porosity.pore_colours import HIGHLIGHT

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent

#: Pairs of a maximum number of points and the radius, in pixels, with which each of
#: them is drawn; with more points, the radius is 1 pixel.
_RADII = ((2_000, 3), (20_000, 2))
#: Maximum distance, in pixels, from a point at which a click selects it.
_REACH = 8.0
#: Minimum mouse movement, in pixels, that starts a lasso.
_DRAG = 5.0
#: Milliseconds between updates of the selection while the lasso is drawn: a little less
#: than one screen frame at 60 frames per second, to make up for late timers.
_UPDATE_INTERVAL = 15
#: Maximum lag of updates, in milliseconds, that is made up for: after a slow frame, the
#: next updates follow at shorter intervals.
_LAG = 48
_PICK = QColor.fromRgbF(*HIGHLIGHT)
#: Pixel format that Qt draws without conversion, with one number per pixel.
_FORMAT = QImage.Format.Format_ARGB32_Premultiplied


class ScatterView(Chart):
    """Points for two columns, with histograms along both axes and a lasso.

    Signals
    -------
    encircled : ndarray of bool, shape (n,)
        The user selected these points.
    pointChosen : int
        The user clicked on the point of this row.
    lassoEnded
        The mouse button was released, and the last selection emitted.
    """

    encircled = Signal(object)
    pointChosen = Signal(int)
    lassoEnded = Signal()

    def __init__(self, parent: QWidget | None = None, *, height: int = 200) -> None:
        self._axes: tuple[PlotAxis, PlotAxis] | None = None
        self._mask: AnyArray = np.zeros(0, bool)
        self._before: AnyArray = self._mask  # selection when the lasso started
        self._canvas: AnyArray | None = None  # all points, not highlighted
        self._lasso: list[tuple[float, float]] = []
        self._press: QPointF | None = None
        self._strip_axis: int | None = None  # axis of the histogram that is brushed
        self._text_color = QColor("#808080")
        self._colors: AnyArray = np.zeros(0, np.uint32)
        super().__init__(parent, height=height, empty_text="No pores to show.")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setCursor(Qt.CursorShape.CrossCursor)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        #: When the last update began, and when the next one is due.
        self._updated = self._due = 0.0
        self._late = 0.0
        self._timer.timeout.connect(self._follow_lasso)
        self.refresh()

    def sizeHint(self) -> QSize:
        return QSize(300, 300)

    def set_text_color(self, color: str) -> None:
        """Draw axes and text in the colour of the theme."""
        self._text_color = QColor(color)
        self.refresh()

    @property
    def text_color(self) -> QColor:
        return self._text_color

    def set_axes(self, x: PlotAxis, y: PlotAxis) -> None:
        """Show other columns of the same pores, or other pores."""
        self._axes, self._canvas = (x, y), None
        self._positions = (x.positions(), y.positions())
        drawn = np.isfinite(self._positions[0]) & np.isfinite(self._positions[1])
        self._drawn = np.flatnonzero(drawn)
        if len(self._mask) != len(drawn):
            self._mask = np.zeros(len(drawn), bool)
        self._cancel_lasso()
        if len(self._drawn):
            self._scales = tuple(scale_of(p[self._drawn]) for p in self._positions)
            self._bins = tuple(
                scale.bins(p[self._drawn])
                for p, scale in zip(self._positions, self._scales, strict=True)
            )
            self._highest = tuple(
                max(int(np.bincount(bins, minlength=BINS).max()), 1)
                for bins in self._bins
            )
        self.refresh()

    def set_colours(self, colours: AnyArray) -> None:
        """Set the RGBA colour of each point, shape (n, 4)."""
        self._colors = pixel_values(colours)
        self._paint_all()

    def set_mask(self, mask: AnyArray) -> None:
        """Highlight the selected points."""
        if self._axes is None or len(mask) != len(self._positions[0]):
            return
        self._mask = mask
        self.setAccessibleDescription(self._describe())
        self._paint_selected()

    @property
    def drawn_rows(self) -> AnyArray:
        """Rows that have a value in both columns."""
        return self._drawn if self._axes is not None else np.zeros(0, np.int64)

    @property
    def is_drawing(self) -> bool:
        """Whether the mouse button is pressed, so that a lasso may be drawn."""
        return self._press is not None

    @property
    def updated(self) -> float:
        """Time when the last update of the lasso began, from `time.perf_counter`."""
        return self._updated

    @property
    def late(self) -> float:
        """Time in milliseconds by which the last update of the lasso was late."""
        return self._late

    def point_of(self, row: int) -> QPointF:
        """Return the position of a point in pixels of the widget."""
        self._plot_width()  # updates the layout of a plot not shown yet
        place = QPointF(*(float(p[row]) for p in self._positions))
        pixel = self.plot.mapFromScene(self.plot.getViewBox().mapViewToScene(place))
        return QPointF(self.plot.mapTo(self, pixel))

    def _is_empty(self) -> bool:
        return self._axes is None or not len(self._drawn)

    def _describe(self) -> str:
        if self._is_empty() or self._axes is None:
            return self.empty_text
        x, y = self._axes
        left_out = len(x.values) - len(self._drawn)
        gaps = f"; {left_out} pores without a value are not drawn" if left_out else ""
        count = int(np.count_nonzero(self._mask))
        return (
            f"{len(self._drawn)} pores: {x.title} and {y.title}; {count} selected{gaps}"
        )

    # Drawing

    def _draw(self) -> None:
        horizontal, vertical = self._scales
        self.plot.setRange(xRange=horizontal.whole, yRange=vertical.whole, padding=0)
        self._image = QGraphicsPixmapItem()
        self._outline = QGraphicsPathItem()
        # Wide or dashed lines would take Qt several milliseconds per frame.
        self._outline.setPen(line_pen(self.text_color, width=1))
        shade = QColor(self.text_color)
        shade.setAlpha(90)
        self._strips = [self._strip(shade) for _ in range(2)]
        self._own_strips = [self._strip(_PICK) for _ in range(2)]
        for item in (self._image, *self._strips, *self._own_strips, self._outline):
            self.plot.addItem(item)

    def _strip(self, color: QColor) -> QGraphicsPathItem:
        strip = QGraphicsPathItem()
        strip.setPen(QPen(Qt.PenStyle.NoPen))
        strip.setBrush(color)
        return strip

    def _label_axes(self) -> None:
        assert self._axes is not None
        for side, axis, scale in zip((0, 1), self._axes, self._scales, strict=True):
            ends = (scale.low, scale.high)
            if axis.logarithmic:
                values = log_ticks(10.0**scale.low, 10.0**scale.high)
                ticks = [(float(np.log10(value)), value) for value in values]
            else:
                ticks = [(t, t) for t in linear_ticks(*ends)]
            labels = [(place, tick_text(value)) for place, value in ticks]
            (self._label_left if side else self._label_bottom)(labels)
        self._set_margins(2, 2, 8)
        self._paint_all()

    def _size(self) -> tuple[int, int]:
        """Return the width and height of the area of the points, in pixels."""
        self._plot_width()
        box = self.plot.getViewBox()
        return max(int(box.width()), 1), max(int(box.height()), 1)

    def _paint_all(self) -> None:
        """Draw all points into an image, which is kept for changes of the selection."""
        if not self._is_drawn or len(self._colors) != len(self._positions[0]):
            return
        width, height = self._size()
        n = len(self._drawn)
        radius = next((r for most, r in _RADII if n <= most), 1)
        x, y = (
            np.clip(scale.pixels(p[self._drawn], size).astype(np.int64), 0, size - 1)
            for p, scale, size in zip(
                self._positions, self._scales, (width, height), strict=True
            )
        )
        self._pixels = (x, y)
        self._flat = y * width + x
        #: Flat indices of the points in an image with a margin of one radius, so that
        #: no point extends beyond it; the first row is at the top.
        self._radius, self._stride = radius, width + 2 * radius
        self._places = (height - 1 - y + radius) * self._stride + x + radius
        canvas = np.zeros((height + 2 * radius) * self._stride, np.uint32)
        colors = self._colors[self._drawn]
        for step in self._disc():
            canvas[self._places + step] = colors  # later points cover earlier ones
        self._canvas = canvas
        for strip, axis in zip(self._strips, (0, 1), strict=True):
            strip.setPath(self._bars(axis, self._bins[axis]))
        (left, right), (bottom, top) = (scale.whole for scale in self._scales)
        size = ((right - left) / width, (top - bottom) / height)
        self._image.setTransform(QTransform(size[0], 0, 0, -size[1], left, top))
        self._paint_selected()

    def _disc(self) -> list[int]:
        """Return the index offsets from the centre of a point to its pixels."""
        r = self._radius
        reach = range(-r, r + 1)
        return [
            dy * self._stride + dx
            for dy in reach
            for dx in reach
            if dx * dx + dy * dy <= r**2 + 1
        ]

    def _paint_selected(self) -> None:
        """Draw the selected points over the others."""
        if not self._is_drawn or self._canvas is None:
            return
        chosen = np.flatnonzero(self._mask.take(self._drawn))
        # Grow the discs from all centres together, because many points share a pixel.
        middles = np.zeros(len(self._canvas), bool)
        middles[self._places.take(chosen)] = True
        covered = middles.copy()
        for step in self._disc():
            if step > 0:
                covered[step:] |= middles[:-step]
            elif step < 0:
                covered[:step] |= middles[-step:]
        canvas = np.where(covered, HIGHLIGHT_VALUE, self._canvas)
        r = self._radius
        inner = np.ascontiguousarray(canvas.reshape(-1, self._stride)[r:-r, r:-r])
        rows = inner.view(np.uint8).reshape(*inner.shape, 4)
        image = load_pyqtgraph().functions.ndarray_to_qimage(rows, _FORMAT)
        # Make a copy, because Qt does not keep the array, and the pixmap may use its
        # memory.
        self._image.setPixmap(QPixmap.fromImage(image.copy()))
        for strip, axis in zip(self._own_strips, (0, 1), strict=True):
            strip.setVisible(chosen.size > 0)
            strip.setPath(self._bars(axis, self._bins[axis].take(chosen)))

    def _bars(self, axis: int, bins: AnyArray) -> Any:
        """Return the outline of a histogram in the strip beyond the points."""
        scale, other = self._scales[axis], self._scales[1 - axis]
        counts = np.bincount(bins, minlength=BINS) / self._highest[axis]
        edges = np.linspace(scale.low, scale.high, BINS + 1)
        along = np.repeat(edges, 2)
        room = 0.95 * STRIP * (other.high - other.low)
        across = other.high + room * np.concatenate([[0], np.repeat(counts, 2), [0]])
        pair = (across, along) if axis else (along, across)
        return load_pyqtgraph().arrayToQPath(*pair)

    # Mouse and keys

    def _place(self, event: QEvent) -> tuple[float, float]:
        """Return the position of the mouse on the axes."""
        point = event.position()
        pixel = self.plot.mapFrom(self, QPoint(round(point.x()), round(point.y())))
        place = self.plot.getViewBox().mapSceneToView(self.plot.mapToScene(pixel))
        return float(place.x()), float(place.y())

    def _band(self, end: tuple[float, float]) -> list[tuple[float, float]]:
        """Return the corners of the range from the first position to `end`."""
        axis = self._strip_axis
        assert axis is not None
        ends = self._lasso[0][axis], end[axis]
        return band(axis, ends, self._scales)

    def mousePressEvent(self, event: QEvent) -> None:
        """Begin a lasso, or a range in one of the histograms."""
        if event.button() == Qt.MouseButton.LeftButton and self._is_drawn:
            self._press, self._before = event.position(), self._mask
            self._due = time.perf_counter()
            self._modifiers = event.modifiers()
            self._lasso = [self._place(event)]
            self._strip_axis = strip_at(self._lasso[0], self._scales)

    def mouseMoveEvent(self, event: QEvent) -> None:
        """Extend the lasso; once per frame, redraw it and select the points inside."""
        if self._press is None:
            return
        moved = event.position() - self._press
        if len(self._lasso) == 1 and moved.manhattanLength() < _DRAG:
            return
        if self._strip_axis is None:
            self._lasso.append(self._place(event))
        else:
            self._lasso = self._band(self._place(event))
        if not self._timer.isActive():
            left = 1000 * (self._due - time.perf_counter())
            self._timer.start(max(0, math.ceil(left)))

    def mouseReleaseEvent(self, event: QEvent) -> None:
        """End the lasso, or choose the point that was clicked."""
        if self._press is None or event.button() != Qt.MouseButton.LeftButton:
            return
        self._press = None
        self._timer.stop()
        if len(self._lasso) > 2:
            self._apply_lasso()
        elif self._strip_axis is not None:
            self._choose_bar(self._strip_axis, self._lasso[0])
        else:
            self._choose_at(self._lasso[0])
        self._lasso = []
        self._draw_lasso()
        self.lassoEnded.emit()

    def keyPressEvent(self, event: QEvent) -> None:
        """Clear the selection with Escape, and select all drawn pores with Ctrl+A."""
        if self._axes is None or event.key() not in (Qt.Key.Key_Escape, Qt.Key.Key_A):
            super().keyPressEvent(event)
            return
        mask = np.zeros(len(self._mask), bool)
        if event.key() == Qt.Key.Key_A:
            if not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
                super().keyPressEvent(event)
                return
            mask[self._drawn] = True
        self.encircled.emit(mask)

    def _follow_lasso(self) -> None:
        """Draw the lasso, and select the points inside."""
        self._updated = now = time.perf_counter()
        self._late = 1000 * (now - self._due)
        self._due = max(self._due, now - _LAG / 1000) + _UPDATE_INTERVAL / 1000
        self._draw_lasso()
        self._apply_lasso()

    def _cancel_lasso(self) -> None:
        """Discard the lasso, because it was drawn around other points."""
        self._press, self._lasso = None, []
        self._timer.stop()

    def _draw_lasso(self) -> None:
        x, y = np.array(self._lasso or [(0.0, 0.0)]).T
        self._outline.setPath(load_pyqtgraph().arrayToQPath(x, y))

    def _apply_lasso(self) -> None:
        if len(self._lasso) > 2 and self._is_drawn:
            self.encircled.emit(self._combined(self._inside()))

    def _combined(self, rows: AnyArray) -> AnyArray:
        """Add rows to the previous selection, remove them from it, or replace it."""
        inside = np.zeros(len(self._before), bool)
        inside[rows] = True
        return combined(self._before, inside, self._modifiers)

    def _inside(self) -> AnyArray:
        """Return the rows of the points inside the lasso.

        Qt fills the polygon in an image, which is fast even for very many corners.
        """
        width, height = self._size()
        corners = np.array(self._lasso)
        x, y = (
            scale.pixels(corners[:, i], size)
            for i, (scale, size) in enumerate(
                zip(self._scales, (width, height), strict=True)
            )
        )
        image = QImage(width, height, QImage.Format.Format_Grayscale8)
        image.fill(0)
        painter = QPainter(image)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(255, 255, 255))
        painter.drawPolygon(QPolygonF([QPointF(*c) for c in zip(x, y, strict=True)]))
        painter.end()
        filled = load_pyqtgraph().functions.ndarray_from_qimage(image).reshape(-1) > 0
        rows: AnyArray = self._drawn[filled.take(self._flat)]
        return rows

    def _choose_bar(self, axis: int, place: tuple[float, float]) -> None:
        """Select the points of a bar of a histogram."""
        chosen = self._bins[axis] == self._scales[axis].bins(np.array(place[axis]))
        self.encircled.emit(self._combined(self._drawn[chosen]))

    def _choose_at(self, place: tuple[float, float]) -> None:
        """Choose the nearest point, or clear the selection if none is near."""
        x, y = (
            scale.pixels(np.array(p), size)
            for scale, p, size in zip(self._scales, place, self._size(), strict=True)
        )
        squares = (self._pixels[0] - x) ** 2 + (self._pixels[1] - y) ** 2
        nearest = int(squares.argmin())
        if squares[nearest] > _REACH**2:
            self.encircled.emit(self._combined(np.zeros(0, np.int64)))
        elif self._modifiers & ~Qt.KeyboardModifier.KeypadModifier:
            self.encircled.emit(self._combined(self._drawn[[nearest]]))
        else:
            self.pointChosen.emit(int(self._drawn[nearest]))
