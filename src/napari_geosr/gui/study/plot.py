"""Plot of a study's metric against projections or exposure, by algorithm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPen
from qtpy.QtWidgets import QWidget

from napari_geosr.core.types import AnyMapping
from napari_geosr.gui.kit.plots.chart import (
    Chart,
    Legend,
    curve_colors,
    line_pen,
    linear_ticks,
    load_pyqtgraph,
    tick_text,
)
from napari_geosr.operations.study.subset import ScanSubset, share_text

_HEIGHT = 150
#: Diameter of a point, in pixels.
_POINT_SIZE = 5
#: Margin on either side, as a fraction of the range of counts, so that points are shown
#: completely.
_POINT_MARGIN = 0.012
#: Line styles of the exposures, longest exposure first.
_LINES = (
    Qt.PenStyle.SolidLine,
    Qt.PenStyle.DashLine,
    Qt.PenStyle.DashDotLine,
    Qt.PenStyle.DotLine,
    Qt.PenStyle.DashDotDotLine,
)
#: Margin above and below the values, as a fraction of their range.
_MARGIN = 0.08
#: Margin to the right of the axes, in pixels.
_RIGHT_MARGIN = 14


@dataclass(frozen=True)
class StudyMetric:
    """A metric that is given in each row of a study.

    Attributes
    ----------
    title : str
    unit : str
    factor : float
        Factor that converts the value in a row to `unit`.
    from_zero : bool
        Whether zero is the best value; the axis then includes it.
    """

    title: str
    unit: str = ""
    factor: float = 1.0
    from_zero: bool = True

    def text(self, value: float) -> str:
        """Format a value for display."""
        sign = "+" if self.unit == "%" and value > 0 else ""
        return f"{sign}{value:.3g} {self.unit}".rstrip()


METRICS: Mapping[str, StudyMetric] = {
    "porosity_error": StudyMetric("Porosity error", "%", 100),
    "pores_per_mm3_error": StudyMetric("Error in pores per mm³", "%", 100),
    "volume_histogram_distance": StudyMetric("Pore-volume distance"),
    "euler_error": StudyMetric("Euler number error", "%", 100),
    "dice": StudyMetric("Dice coefficient of the pores", from_zero=False),
    "psnr": StudyMetric("PSNR", "dB", from_zero=False),
    "ssim": StudyMetric("SSIM", from_zero=False),
}


class StudyPlot(Chart):
    """Draws one metric of the available rows, with a legend below."""

    def __init__(self, parent: QWidget | None = None) -> None:
        self._curves: dict[str, list[tuple[float, float]]] = {}
        #: Style of each curve: colour by algorithm, line style by exposure.
        self._styles: dict[str, tuple[int, int]] = {}
        self._x_name = "projections"
        self._metric = METRICS["porosity_error"]
        self._tolerance: float | None = None
        super().__init__(
            parent,
            height=_HEIGHT,
            empty_text="Curves appear with the first reconstructions.",
        )
        self._title = self._title_label()
        self._legend = Legend(2, Qt.TextElideMode.ElideRight)
        self._rows.insertWidget(0, self._title)
        self._rows.addWidget(self._legend)
        self.setAccessibleName("Study curves")
        self.setToolTip(
            "The chosen quantity against the number of projections or the exposure, "
            "with one curve for each algorithm."
        )
        self.refresh()

    def _full_height(self) -> int:
        """Return the height including all rows of the legend."""
        more = max(0, math.ceil(len(self._curves) / 2) - 1)
        return int(_HEIGHT + more * self.fontMetrics().height())

    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Points of each curve shown: projections or exposure, and values."""
        return self._curves

    def pen(self, title: str) -> QPen:
        """Return the pen of a curve: colour by algorithm, line style by exposure."""
        color, line = self._styles[title]
        colors = curve_colors(self.text_color)
        return line_pen(colors[color % len(colors)], style=_LINES[line % len(_LINES)])

    def set_rows(
        self,
        rows: Sequence[AnyMapping],
        name: str,
        tolerance: float | None = None,
        over_exposure: bool = False,
    ) -> None:
        """Show the metric `name` of rows, and its `tolerance` as dotted lines."""
        self._metric, self._tolerance = METRICS[name], tolerance
        self._curves = {}
        self._x_name = "% of the exposure" if over_exposure else "projections"
        self._styles = {}
        titles = list(dict.fromkeys(str(row["title"]) for row in rows))
        exposures = sorted({ScanSubset.of(row).exposure for row in rows}, reverse=True)
        for row in rows:
            value = row.get(name)
            if not isinstance(value, int | float) or not math.isfinite(value):
                continue
            subset, title = ScanSubset.of(row), str(row["title"])
            style = titles.index(title), 0
            x: float = subset.projections
            if over_exposure:
                x = 100 * subset.exposure
            elif subset.exposure < 1:
                title += f" at {share_text(subset.exposure)}"
                style = style[0], exposures.index(subset.exposure)
            self._styles[title] = style
            point = x, value * self._metric.factor
            self._curves.setdefault(title, []).append(point)
        for points in self._curves.values():
            points.sort()
        self.refresh()

    def _describe(self) -> str:
        curves = [
            f"{title}: "
            + ", ".join(f"{self._metric.text(y)} from {x:g}" for x, y in points)
            for title, points in self._curves.items()
        ]
        title = f"{self._metric.title}, by {self._x_name}"
        return f"{title}. {'; '.join(curves) or 'No results yet'}."

    def _span(self) -> tuple[float, float]:
        values = [y for points in self._curves.values() for _, y in points]
        if self._metric.from_zero:
            values.append(0.0)
        if self._tolerance is not None:
            values += [-self._tolerance, self._tolerance]
        low, high = min(values), max(values)
        room = _MARGIN * (high - low) or max(abs(high), 1.0) * _MARGIN
        return low - room, high + room

    def _is_empty(self) -> bool:
        return not self._curves

    def refresh(self) -> None:
        unit = f" ({self._metric.unit})" if self._metric.unit else ""
        over = "" if self._x_name == "projections" else f", by {self._x_name}"
        self._title.setText(f"{self._metric.title}{unit}{over}")
        self._title.setVisible(bool(self._curves))
        self._legend.set_keys([(self.pen(title), title) for title in self._curves])
        super().refresh()

    def _counts(self) -> list[float]:
        """Return the projection counts or exposures available."""
        return sorted({x for points in self._curves.values() for x, _ in points})

    def _draw(self) -> None:
        counts = self._counts()
        first, last = counts[0], counts[-1]
        room = _POINT_MARGIN * (last - first) or 1.0
        self.plot.setRange(
            xRange=(first - room, last + room), yRange=self._span(), padding=0
        )
        self._draw_lines()
        for title, points in self._curves.items():
            pen = self.pen(title)
            self.plot.plot(
                [x for x, _ in points],
                [y for _, y in points],
                pen=pen,
                antialias=True,
                symbol="o",
                symbolSize=_POINT_SIZE,
                symbolPen=None,
                symbolBrush=QColor(pen.color()),
                name=title,
            )

    def _draw_lines(self) -> None:
        """Draw the zero line and the tolerance on both sides of zero."""
        lines = [(0.0, Qt.PenStyle.SolidLine)] if self._metric.from_zero else []
        if self._tolerance is not None:
            limits = (-self._tolerance, self._tolerance)
            lines += [(limit, Qt.PenStyle.DotLine) for limit in limits]
        for value, style in lines:
            pen = line_pen(self.text_color, 0.7, style)
            line = load_pyqtgraph().InfiniteLine(value, angle=0, pen=pen)
            self.plot.addItem(line)

    def _label_axes(self) -> None:
        self._set_margins(0, 2, _RIGHT_MARGIN)
        ticks = linear_ticks(*self._span(), 3)
        self._label_left([(tick, tick_text(tick)) for tick in ticks])
        labels = [(count, f"{count:g}") for count in self._counts()]
        self._label_bottom(labels, ends_first=True)
