"""A figure of a study over projections or exposure: a curve for each algorithm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_geosr.gui.kit.histogram import linear_ticks, tick_text
from napari_geosr.gui.kit.loss_plot import curve_colors
from napari_geosr.operations.study.subset import ScanSubset, share_text

_HEIGHT, _DOT = 150, 2.5
#: Of exposures, the longest first.
_LINES = (
    Qt.PenStyle.SolidLine,
    Qt.PenStyle.DashLine,
    Qt.PenStyle.DashDotLine,
    Qt.PenStyle.DotLine,
    Qt.PenStyle.DashDotDotLine,
)
#: Of the span of the values, free above and below them.
_ROOM = 0.08


@dataclass(frozen=True)
class Figure:
    """A figure of a study's rows.

    Attributes
    ----------
    title : str
    unit : str
    factor : float
        From what a row says to the unit.
    from_zero : bool
        Zero is good, and shown.
    """

    title: str
    unit: str = ""
    factor: float = 1.0
    from_zero: bool = True

    def text(self, value: float) -> str:
        """A value for people."""
        sign = "+" if self.unit == "%" and value > 0 else ""
        return f"{sign}{value:.3g} {self.unit}".rstrip()


FIGURES: Mapping[str, Figure] = {
    "porosity_error": Figure("Error of the porosity", "%", 100),
    "pores_per_mm3_error": Figure("Error of the pores per volume", "%", 100),
    "volume_histogram_distance": Figure("Distance of pore volumes"),
    "euler_error": Figure("Error of the Euler number", "%", 100),
    "dice": Figure("Dice of the pores", from_zero=False),
    "psnr": Figure("PSNR", "dB", from_zero=False),
    "ssim": Figure("SSIM", from_zero=False),
}


class StudyPlot(QWidget):
    """Draws one figure of the rows that are there, with a legend below."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._curves: dict[str, list[tuple[float, float]]] = {}
        #: Of each curve: a colour for its algorithm, a line for its exposure.
        self._styles: dict[str, tuple[int, int]] = {}
        self._over = "projections"
        self._figure = FIGURES["porosity_error"]
        self._tolerance: float | None = None
        self.setAccessibleName("Curves of the study")
        self.setToolTip(
            "A figure over the number of projections, or their exposure, by algorithm."
        )
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(300, self._full_height())

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self._full_height())

    def _full_height(self) -> int:
        """With room for each further row of the legend."""
        return int(_HEIGHT + (self._legend_rows() - 1) * self.fontMetrics().height())

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Points of each curve that is shown: projections, or exposure, and values."""
        return self._curves

    def set_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        name: str,
        tolerance: float | None = None,
        over_exposure: bool = False,
    ) -> None:
        """Show the figure `name` of rows; `tolerance`, in its unit, as dotted lines."""
        self._figure, self._tolerance = FIGURES[name], tolerance
        self._curves = {}
        self._over = "% of the exposure" if over_exposure else "projections"
        self._styles = {}
        titles = list(dict.fromkeys(str(row["title"]) for row in rows))
        exposures = sorted({ScanSubset.of(row).exposure for row in rows}, reverse=True)
        for row in rows:
            value = row.get(name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                continue
            taken, title = ScanSubset.of(row), str(row["title"])
            style = titles.index(title), 0
            x: float = taken.projections
            if over_exposure:
                x = 100 * taken.exposure
            elif taken.exposure < 1:
                title += f" at {share_text(taken.exposure)}"
                style = style[0], exposures.index(taken.exposure)
            self._styles[title] = style
            point = x, value * self._figure.factor
            self._curves.setdefault(title, []).append(point)
        for points in self._curves.values():
            points.sort()
        self.setAccessibleDescription(self._describe())
        self.updateGeometry()
        self.update()

    def _describe(self) -> str:
        said = [
            f"{title}: "
            + ", ".join(f"{self._figure.text(y)} from {x:g}" for x, y in points)
            for title, points in self._curves.items()
        ]
        what = f"{self._figure.title}, by {self._over}"
        return f"{what}. {'; '.join(said) or 'Nothing is known yet'}."

    def _legend_rows(self) -> int:
        return max(1, math.ceil(len(self._curves) / 2))

    def _span(self) -> tuple[float, float]:
        values = [y for points in self._curves.values() for _, y in points]
        if self._figure.from_zero:
            values.append(0.0)
        if self._tolerance is not None:
            values += [-self._tolerance, self._tolerance]
        low, high = min(values), max(values)
        room = _ROOM * (high - low) or max(abs(high), 1.0) * _ROOM
        return low - room, high + room

    def _rect(self, words: Sequence[str]) -> QRectF:
        metrics = self.fontMetrics()
        left = max(metrics.horizontalAdvance(word) for word in words) + 8
        above = metrics.height() + 2
        below = metrics.height() * (1 + self._legend_rows()) + 8
        return QRectF(
            left,
            above,
            max(self.width() - left - 14, 10),
            max(self.height() - above - below, 10),
        )

    def paintEvent(self, event: Any) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        painter.setPen(text)
        if not self._curves:
            painter.drawText(
                self.rect(),
                Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap,
                "The curves appear with the first reconstructions.",
            )
        else:
            self._paint(painter, text)
        painter.end()

    def _paint(self, painter: QPainter, text: QColor) -> None:
        metrics = self.fontMetrics()
        low, high = self._span()
        ticks = linear_ticks(low, high, 3)
        rect = self._rect([tick_text(tick) for tick in ticks])
        counts = sorted({x for points in self._curves.values() for x, _ in points})
        first, last = counts[0], counts[-1]

        def place(x: float, y: float) -> QPointF:
            """Where a point lies on the widget."""
            along = (x - first) / (last - first) if last > first else 0.5
            up = (y - low) / (high - low)
            return QPointF(
                rect.left() + rect.width() * along, rect.bottom() - rect.height() * up
            )

        unit = f" ({self._figure.unit})" if self._figure.unit else ""
        over = "" if self._over == "projections" else f", by {self._over}"
        title = f"{self._figure.title}{unit}{over}"
        painter.drawText(QPointF(2, metrics.ascent()), title)
        painter.drawLine(rect.topLeft(), rect.bottomLeft())
        painter.drawLine(rect.bottomLeft(), rect.bottomRight())
        for tick in ticks:
            y, word = place(first, tick).y(), tick_text(tick)
            painter.drawLine(QPointF(rect.left() - 3, y), QPointF(rect.left(), y))
            left = rect.left() - 5 - metrics.horizontalAdvance(word)
            painter.drawText(QPointF(left, y + metrics.ascent() / 2 - 1), word)
        self._paint_lines(painter, text, rect, place)
        self._paint_counts(painter, rect, counts, place)
        colors = curve_colors(text)
        for title, points in self._curves.items():
            pen = self._pen(title, colors)
            painter.setPen(pen)
            painter.setBrush(pen.color())
            dots = [place(x, y) for x, y in points]
            painter.drawPolyline(dots)
            for dot in dots:
                painter.drawEllipse(dot, _DOT, _DOT)
        self._paint_legend(painter, text, colors)

    def _pen(self, title: str, colors: Sequence[str]) -> QPen:
        color, line = self._styles[title]
        return QPen(
            QColor(colors[color % len(colors)]), 1.5, _LINES[line % len(_LINES)]
        )

    def _paint_lines(
        self, painter: QPainter, text: QColor, rect: QRectF, place: Any
    ) -> None:
        """Zero, and on both sides of it what is tolerated."""
        lines = [(0.0, Qt.PenStyle.SolidLine)] if self._figure.from_zero else []
        if self._tolerance is not None:
            limits = (-self._tolerance, self._tolerance)
            lines += [(limit, Qt.PenStyle.DotLine) for limit in limits]
        for value, style in lines:
            y = place(0, value).y()
            painter.setPen(QPen(text, 0.7, style))
            painter.drawLine(QPointF(rect.left(), y), QPointF(rect.right(), y))

    def _paint_counts(
        self, painter: QPainter, rect: QRectF, counts: Sequence[float], place: Any
    ) -> None:
        """The numbers of projections, as many as there is room for, the ends first."""
        metrics = self.fontMetrics()
        base = rect.bottom() + metrics.ascent() + 3
        taken: list[tuple[float, float]] = []
        for count in (counts[0], counts[-1], *counts[1:-1]):
            word = f"{count:g}"
            width = metrics.horizontalAdvance(word)
            left = place(count, 0).x() - width / 2
            right = left + width
            if all(left > stop + 4 or right < start - 4 for start, stop in taken):
                painter.drawText(QPointF(left, base), word)
                taken.append((left, right))

    def _paint_legend(
        self, painter: QPainter, text: QColor, colors: Sequence[str]
    ) -> None:
        metrics = self.fontMetrics()
        half = self.width() / 2
        top = self.height() - metrics.height() * self._legend_rows()
        for i, title in enumerate(self._curves):
            x, y = half * (i % 2) + 4, top + metrics.height() * (i // 2)
            middle = y + metrics.height() / 2
            painter.setPen(self._pen(title, colors))
            painter.drawLine(QPointF(x, middle), QPointF(x + 20, middle))
            painter.setPen(text)
            word = metrics.elidedText(
                title, Qt.TextElideMode.ElideRight, int(half) - 32
            )
            painter.drawText(QPointF(x + 25, y + metrics.ascent()), word)
