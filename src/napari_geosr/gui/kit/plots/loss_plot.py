"""Loss curves of one or several training runs, updated while they run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QPen
from qtpy.QtWidgets import QWidget

from napari_geosr.core.types import AnyArray
from napari_geosr.gui.kit.plots.chart import (
    Chart,
    Legend,
    curve_colors,
    line_pen,
    log_ticks,
    tick_text,
)

_DASHES = (Qt.PenStyle.SolidLine, Qt.PenStyle.DashLine)
#: Maximum number of points per curve; in longer curves, neighbouring steps are
#: averaged.
_MAX_POINTS = 400
#: Label that sets the minimum width of the vertical axis, so that the axis does not
#: move while losses change.
_WIDEST_LABEL = "0.005"
#: If there are losses of zero or below, the axis is linear up to this fraction of the
#: largest magnitude.
_LINEAR_FRACTION = 0.01
#: Maximum number of ticks on each side of zero.
_MAX_TICKS_PER_SIDE = 2


@dataclass(frozen=True)
class Line:
    """A curve to draw.

    Attributes
    ----------
    name : str
        Name in the legend; lines without a name share one entry.
    color : int
        Index of the colour, which a loss and its validation loss share.
    dashed : bool
        Whether the curve is dashed, as for validation.
    """

    name: str
    steps: Sequence[int]
    values: Sequence[float]
    color: int = 0
    dashed: bool = False


def downsample(line: Line) -> tuple[AnyArray, AnyArray]:
    """Average groups of points of a long line; groups without finite values are NaN."""
    steps = np.asarray(line.steps, float)
    values = np.asarray(line.values, float)
    values = np.where(np.isfinite(values), values, np.nan)
    if len(values) <= _MAX_POINTS:
        return steps, values
    starts = np.linspace(0, len(values), _MAX_POINTS, endpoint=False).astype(int)
    counts = np.diff([*starts, len(values)])
    known = np.add.reduceat(np.isfinite(values).astype(float), starts)
    sums = np.add.reduceat(np.nan_to_num(values), starts)
    means = np.where(known > 0, sums / np.maximum(known, 1), np.nan)
    return np.add.reduceat(steps, starts) / counts, means


def last_text(line: Line) -> str:
    """Format the last value of a line."""
    value = line.values[-1]
    return f"{value:.3g}" if math.isfinite(value) else "not a number"


@dataclass(frozen=True)
class LossScale:
    """Maps losses to a logarithmic axis, on both sides of zero if necessary.

    pyqtgraph's logarithmic axis does not support negative values.

    Attributes
    ----------
    low, high : float
        Ends of the axis.
    linear : float
        0 for a logarithmic axis. Otherwise, the axis is linear up to about this
        distance from zero and logarithmic beyond it (inverse hyperbolic sine), because
        the losses of critics can be negative.
    """

    low: float
    high: float
    linear: float = 0.0

    @classmethod
    def of(cls, curves: Sequence[AnyArray]) -> LossScale:
        """Return the axis that shows all finite values of `curves`."""
        values = np.concatenate([np.asarray(curve, float) for curve in curves])
        values = values[np.isfinite(values)]
        low, high = float(values.min()), float(values.max())
        if low > 0:
            # Show at least a factor of two, so that noise does not fill the plot.
            middle = math.sqrt(low) * math.sqrt(high)
            return cls(min(low / 1.05, middle / 1.45), max(high * 1.05, middle * 1.45))
        largest = max(-low, high) or 1.0
        room = 0.05 * largest
        return cls(low - room, max(high, 0.0) + room, _LINEAR_FRACTION * largest)

    @property
    def name(self) -> str:
        """Type of the axis, in words."""
        return "logarithmic" if not self.linear else "symmetric logarithmic"

    def axis_fractions(self, values: object) -> Any:
        """Return the heights of `values` along the axis, from 0 to 1; NaN stays NaN."""
        bottom, top = self._transform(self.low), self._transform(self.high)
        return (self._transform(values) - bottom) / (top - bottom)

    def ticks(self) -> list[float]:
        """Return a few values to label."""
        if not self.linear:
            ticks = log_ticks(self.low, self.high)
            return [t for t in ticks if self.low <= t <= self.high]
        above, below = self._powers(self.high), self._powers(-self.low)
        return [-t for t in reversed(below)] + [0.0] + above

    def _powers(self, end: float) -> list[float]:
        if end <= 2 * self.linear:
            return []
        return log_ticks(2 * self.linear, end, _MAX_TICKS_PER_SIDE)

    def _transform(self, values: object) -> AnyArray:
        values = np.asarray(values, float)
        return np.arcsinh(values / self.linear) if self.linear else np.log(values)


class LossPlot(Chart):
    """Losses over steps, with a legend below."""

    def __init__(self, parent: QWidget | None = None, *, height: int = 150) -> None:
        self._lines: list[tuple[Line, Any, Any]] = []
        self.scale = LossScale(0.1, 1.0)
        self._total = 1
        super().__init__(
            parent,
            height=height,
            empty_text="Curves appear after the first steps.",
        )
        self._legend = Legend(2, Qt.TextElideMode.ElideMiddle)
        self._rows.addWidget(self._legend)
        self.setAccessibleName("Loss curves")
        self.setToolTip(
            "Loss on the training data (solid) and on the validation block (dashed). "
            "Lower is better. Stop training when the dashed line rises while the solid "
            "line does not."
        )
        self.refresh()

    def _full_height(self) -> int:
        """Return the height including the additional rows of the legend."""
        more = max(0, math.ceil(len(self._keys()) / 2) - 1)
        return int(self._height + more * self.fontMetrics().height())

    def set_lines(self, lines: Sequence[Line], total: int) -> None:
        """Show `lines` over ``0 … total`` steps."""
        curves = [(line, *downsample(line)) for line in lines]
        self._lines = [(line, x, y) for line, x, y in curves if np.isfinite(y).any()]
        values = [y for _, _, y in self._lines]
        self.scale = LossScale.of(values) if values else LossScale(0.1, 1.0)
        self._total = max(total, 1)
        self.refresh()

    def names(self) -> list[str]:
        """Return the names of the curves shown."""
        return [line.name for line, _, _ in self._lines]

    def n_points(self) -> int:
        """Return the number of points of all curves."""
        return sum(len(line.values) for line, _, _ in self._lines)

    def _is_empty(self) -> bool:
        return not self._lines

    def _describe(self) -> str:
        if not self._lines:
            return self.empty_text
        texts = [
            f"{line.name or 'validation'} {last_text(line)} at step {line.steps[-1]}"
            for line, _, _ in self._lines
        ]
        return f"{'; '.join(texts)}. The axis is {self.scale.name}."

    def _keys(self) -> list[tuple[Line, str]]:
        """Return the lines of the legend with their labels."""
        named = [line for line, _, _ in self._lines if line.name]
        keys = [(line, f"{line.name} {last_text(line)}") for line in named]
        nameless = [line for line, _, _ in self._lines if not line.name]
        return keys + [(line, "validation") for line in nameless[:1]]

    def refresh(self) -> None:
        text = self.text_color
        self._legend.set_keys(
            [(curve_pen(line, text), word) for line, word in self._keys()]
        )
        super().refresh()

    def _draw(self) -> None:
        self.plot.setRange(xRange=(0, self._total), yRange=(0, 1), padding=0)
        for line, steps, values in self._lines:
            pen = curve_pen(line, self.text_color)
            heights = self.scale.axis_fractions(values)
            self.plot.plot(
                steps,
                heights,
                pen=pen,
                connect="finite",
                antialias=True,
                name=line.name,
            )
            isolated = _isolated_points(heights)
            if isolated.any():  # a point between two gaps is not on a line
                self.plot.plot(
                    steps[isolated],
                    heights[isolated],
                    pen=None,
                    symbol="o",
                    symbolSize=3,
                    symbolPen=None,
                    symbolBrush=pen.color(),
                )

    def _label_axes(self) -> None:
        width = self.fontMetrics().horizontalAdvance
        total = str(self._total)
        self._set_margins(0, self.fontMetrics().height() / 2, width(total) / 2 + 2)
        ticks = self.scale.ticks()
        self._label_left(
            [
                (float(self.scale.axis_fractions(tick)), tick_text(tick))
                for tick in ticks
            ],
            _WIDEST_LABEL,
        )
        self._label_bottom([(0.0, "step 0"), (float(self._total), total)])


def curve_pen(line: Line, text: QColor) -> QPen:
    """Return the pen of a curve, for the text colour of the theme."""
    colors = curve_colors(text)
    return line_pen(colors[line.color % len(colors)], style=_DASHES[line.dashed])


def _isolated_points(values: AnyArray) -> AnyArray:
    """Mark finite values without finite neighbours."""
    known = np.pad(np.isfinite(values), 1)
    isolated: AnyArray = known[1:-1] & ~known[:-2] & ~known[2:]
    return isolated
