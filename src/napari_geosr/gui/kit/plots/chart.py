"""Common parts of the docks' charts: pyqtgraph plot, ticks, legend, theme.

pyqtgraph draws the data; labels are Qt widgets, which follow napari's theme and shorten
their text in a narrow dock. Importing pyqtgraph takes 0.1 s, so a thread imports it
when the first chart is created, and plots are created only when there is something to
draw. Charts therefore do not delay the opening of a dock.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_geosr.gui.kit.widgets import ElidedLabel

if TYPE_CHECKING:
    from qtpy.QtCore import QEvent

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
#: Colours of curves, used after the text colour, on dark and on light backgrounds;
#: tested for colour blindness. Colours for dark backgrounds follow Okabe and Ito.
_COLORS = (
    ("#56B4E9", "#F5793A", "#00C08B", "#E9A8D0", "#F0E442", "#7F8CFF"),
    ("#11456D", "#74370F", "#09845C", "#DC23B3", "#A87602", "#3908D4"),
)
#: Width of the line or box before a legend entry, in pixels.
_KEY_WIDTH = 20
#: Minimum gap between two axis labels, in pixels.
_LABEL_GAP = 6
#: Pixels by which labels may extend beyond the ends of an axis (practically unlimited).
_LABEL_OVERHANG = 1000
#: Minimum number of ticks on a logarithmic axis, if possible.
_ENOUGH_TICKS = 3
#: Height reserved for the ticks, including the space below their labels, in pixels.
_TICK_SPACE = 8
_RESTYLING_EVENTS = (
    QEvent.Type.PaletteChange,
    QEvent.Type.StyleChange,
    QEvent.Type.FontChange,
)


def load_pyqtgraph() -> Any:
    """Import pyqtgraph, or wait until the importing thread is done."""
    import pyqtgraph

    return pyqtgraph


@cache
def _load_in_thread() -> None:
    threading.Thread(target=load_pyqtgraph, name="load pyqtgraph", daemon=True).start()


def linear_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers between `low` and `high`."""
    span = high - low
    if not span > 0:
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [_rounded(i * step) for i in range(first, last + 1)]


def log_ticks(low: float, high: float, max_count: int = 5) -> list[float]:
    """Return at most `max_count` round numbers between `low` and `high`, both positive.

    Over a wide range, they are powers of ten; over a smaller range, also two and five
    times powers of ten; over a still smaller range, equally spaced numbers. The first
    of these choices with at least three numbers is used.
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    stride = max(1, math.ceil((last - first + 1) / max_count))
    powers = [10.0**power for power in range(first, last + 1, stride)]
    finer = [
        _rounded(m * 10.0**power)
        for power in range(first - 1, last + 1)
        for m in (1, 2, 5)
        if low * 0.999 <= m * 10.0**power <= high * 1.001
    ]
    equal = [linear_ticks(low, high, n) for n in range(3, 2 * max_count + 1)]
    choices = [t for t in (powers, finer, *equal) if 0 < len(t) <= max_count]
    enough = next((t for t in choices if len(t) >= _ENOUGH_TICKS), None)
    return enough or max(choices, key=len, default=[low])


def _rounded(tick: float) -> float:
    """Remove the rounding error of a tick, however small the tick is."""
    return float(f"{tick:.12g}")


def tick_text(value: float) -> str:
    """Format a tick: ``250``, ``0.02``, ``10⁵``."""
    if value and not 1e-3 <= abs(value) < 1e5:
        power = math.floor(math.log10(abs(value)) + 1e-9)
        lead = value / 10.0**power
        front = "" if math.isclose(lead, 1) else f"{lead:.3g}×"
        return f"{front}10{str(power).translate(_SUPERSCRIPTS)}"
    return f"{value:.6g}"


def curve_colors(text: QColor) -> tuple[str, ...]:
    """Return the colours of curves, beginning with the text colour."""
    return (text.name(), *_COLORS[text.lightness() < 128])


def line_pen(
    color: QColor | str,
    width: float = 1.5,
    style: Qt.PenStyle = Qt.PenStyle.SolidLine,
) -> QPen:
    """Return a pen with a width in pixels, independent of the axes."""
    pen = QPen(QColor(color), width, style)
    pen.setCosmetic(True)
    return pen


class Legend(QWidget):
    """Legend: samples of lines or boxes with their labels, in equally wide columns."""

    def __init__(
        self, columns: int, elide: Qt.TextElideMode, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._columns, self._elide = columns, elide
        self._labels: list[tuple[QLabel, ElidedLabel]] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(3, 0, 0, 0)
        self._grid.setHorizontalSpacing(5)
        self._grid.setVerticalSpacing(0)
        for column in range(columns):
            self._grid.setColumnStretch(2 * column + 1, 1)

    def set_keys(self, keys: Sequence[tuple[QPen | QColor, str]]) -> None:
        """Show a line for each pen and a box for each colour, with its text."""
        while len(self._labels) > len(keys):
            for label in self._labels.pop():
                self._grid.removeWidget(label)
                label.deleteLater()
        while len(self._labels) < len(keys):
            self._add()
        for (picture, label), (mark, text) in zip(self._labels, keys, strict=True):
            picture.setPixmap(self._picture(mark))
            label.setText(text)
            label.setFixedHeight(self.fontMetrics().height())
        self.setVisible(bool(keys))

    def texts(self) -> list[str]:
        """Return the full labels, not shortened."""
        return [label.text() for _, label in self._labels]

    def _add(self) -> None:
        row, column = divmod(len(self._labels), self._columns)
        picture, label = QLabel(), ElidedLabel(mode=self._elide)
        self._grid.addWidget(picture, row, 2 * column)
        self._grid.addWidget(label, row, 2 * column + 1)
        self._labels.append((picture, label))

    def _picture(self, mark: QPen | QColor) -> QPixmap:
        height, ratio = self.fontMetrics().height(), self.devicePixelRatioF()
        picture = QPixmap(round(_KEY_WIDTH * ratio), round(height * ratio))
        picture.setDevicePixelRatio(ratio)
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        if isinstance(mark, QColor):
            painter.fillRect(QRectF(0, height / 2 - 4, _KEY_WIDTH - 4, 8), mark)
        else:
            painter.setPen(mark)
            painter.drawLine(QPointF(0, height / 2), QPointF(_KEY_WIDTH, height / 2))
        painter.end()
        return picture


class Chart(QWidget):
    """A static plot: no zooming, and the mouse wheel scrolls the dock.

    Subclasses define what is drawn (`_draw`), how the axes are labelled (`_label_axes`)
    and the text for screen readers (`_describe`).

    Parameters
    ----------
    height : int
        Height in pixels, including one row of the legend.
    empty_text : str
        Text shown while there is nothing to draw.
    """

    _is_made = False  # Qt sends change events before __init__ ends

    def __init__(
        self, parent: QWidget | None = None, *, height: int, empty_text: str = ""
    ) -> None:
        super().__init__(parent)
        self._height = height
        self._plot: Any = None
        self._is_drawn = False
        self._drawn_color: QColor | None = None
        self._empty = QLabel(empty_text)
        self._empty.setWordWrap(True)
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._rows = QVBoxLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(0)
        self._rows.addWidget(self._empty, 1)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._set_label_size()
        self._is_made = True
        _load_in_thread()

    def sizeHint(self) -> QSize:
        return QSize(300, self._full_height())

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self._full_height())

    def hasHeightForWidth(self) -> bool:
        return False  # Qt would return True because of the labels

    def _full_height(self) -> int:
        return self._height

    def _title_label(self) -> ElidedLabel:
        """Return a line of text as wide as the chart."""
        label = ElidedLabel(mode=Qt.TextElideMode.ElideRight)
        label.setFixedHeight(self.fontMetrics().height())
        return label

    @property
    def empty_text(self) -> str:
        """Text shown while there is nothing to draw."""
        return str(self._empty.text())

    @empty_text.setter
    def empty_text(self, text: str) -> None:
        self._empty.setText(text)

    @property
    def plot(self) -> Any:
        """The `pyqtgraph.PlotWidget`, created when first needed."""
        if self._plot is None:
            self._plot = self._make_plot()
            self._rows.insertWidget(self._rows.indexOf(self._empty), self._plot, 1)
        return self._plot

    def _make_plot(self) -> Any:
        plot = load_pyqtgraph().PlotWidget(self, background=None, enableMenu=False)
        plot.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        plot.setCacheMode(plot.CacheModeFlag.CacheNone)  # prevents a stale background
        plot.viewport().setAutoFillBackground(False)
        plot.viewport().setFocusPolicy(Qt.FocusPolicy.NoFocus)
        plot.setMinimumSize(0, 0)
        plot.hideButtons()
        plot.setAntialiasing(True)
        plot.setMouseEnabled(False, False)
        plot.disableAutoRange()
        plot.getViewBox().sigResized.connect(self._on_plot_resized)
        for side in ("left", "bottom"):
            plot.getAxis(side).setStyle(
                tickLength=3, tickTextOffset=2, hideOverlappingLabels=_LABEL_OVERHANG
            )
        return plot

    @property
    def text_color(self) -> QColor:
        """Colour of axes and text."""
        return self.palette().windowText().color()

    def refresh(self) -> None:
        """Redraw after a change of the data or colours."""
        self._drawn_color = self.text_color
        self.setAccessibleDescription(self._describe())
        is_empty = self._is_empty()
        self._is_drawn = False
        self._empty.setVisible(is_empty)
        if is_empty:
            if self._plot is not None:
                self._plot.clear()
                self._plot.hide()
        else:
            self.plot.clear()
            self.plot.show()
            self._draw()
            self._is_drawn = True
            self._label_axes()
        self.updateGeometry()

    def _is_empty(self) -> bool:
        raise NotImplementedError

    def _draw(self) -> None:
        raise NotImplementedError

    def _label_axes(self) -> None:
        raise NotImplementedError

    def _describe(self) -> str:
        raise NotImplementedError

    def _label_bottom(
        self, labels: Sequence[tuple[float, str]], *, ends_first: bool = False
    ) -> None:
        """Label the horizontal axis, leaving out labels that would overlap."""
        axis, metrics = self.plot.getAxis("bottom"), self.fontMetrics()
        low, high = self.plot.viewRange()[0]
        per_unit = self._plot_width() / ((high - low) or 1.0)
        order = list(range(len(labels)))
        if ends_first and order:
            order = list(dict.fromkeys([0, order[-1], *order]))
        occupied: list[tuple[float, float]] = []
        shown: set[int] = set()
        for i in order:
            width = metrics.horizontalAdvance(labels[i][1])
            middle = (labels[i][0] - low) * per_unit
            start, stop = middle - width / 2, middle + width / 2
            if all(
                start >= right + _LABEL_GAP or stop <= left - _LABEL_GAP
                for left, right in occupied
            ):
                occupied.append((start, stop))
                shown.add(i)
        axis.setTicks(
            [[(x, text if i in shown else "") for i, (x, text) in enumerate(labels)]]
        )
        self._style(axis)
        axis.setHeight(metrics.height() + _TICK_SPACE)

    def _label_left(
        self, labels: Sequence[tuple[float, str]], widest: str = ""
    ) -> None:
        """Label the vertical axis, which is at least as wide as the text `widest`."""
        axis, metrics = self.plot.getAxis("left"), self.fontMetrics()
        axis.setTicks([list(labels)])
        self._style(axis)
        texts = [widest, *(text for _, text in labels)]
        axis.setWidth(max(metrics.horizontalAdvance(text) for text in texts) + 8)

    def _style(self, axis: Any) -> None:
        pen = QPen(self.text_color, 1)
        axis.setPen(pen)
        axis.setTextPen(pen)
        axis.setTickPen(pen)
        axis.setTickFont(self.font())

    def _set_margins(self, left: float, top: float, right: float) -> None:
        """Set the margins around the axes, in pixels."""
        self.plot.getPlotItem().layout.setContentsMargins(left, top, right, 1)

    def _plot_width(self) -> float:
        """Return the width between the ends of the horizontal axis, in pixels."""
        self.plot.getPlotItem().layout.activate()
        return max(float(self.plot.getViewBox().width()), 1.0)

    def changeEvent(self, event: QEvent) -> None:
        """Redraw with the colours and font of a new theme."""
        super().changeEvent(event)
        if self._is_made and event.type() in _RESTYLING_EVENTS:
            if event.type() == QEvent.Type.FontChange:
                self._set_label_size()
            self.refresh()

    def _set_label_size(self) -> None:
        """Give text the size of tick labels, because napari's labels are larger."""
        size = self.fontInfo().pixelSize()
        self.setStyleSheet(f"QLabel {{ font-size: {size}px; padding: 0px }}")

    def showEvent(self, event: object) -> None:
        """Redraw with the colours inherited from the window."""
        super().showEvent(event)
        if self._drawn_color != self.text_color:
            self.refresh()

    def _on_plot_resized(self, _box: object) -> None:
        """Label the axes for the available space."""
        if self._is_drawn:
            self._label_axes()
