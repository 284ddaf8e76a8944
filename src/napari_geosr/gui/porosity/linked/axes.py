"""Axes of the plot of pores, and the histograms along them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.types import AnyArray
from napari_geosr.gui.porosity.pore_colours import HIGHLIGHT

#: Number of bins of the histograms along the axes.
BINS = 40
#: Size of these histograms relative to the range of the points.
STRIP = 0.18
#: Margin around the points relative to their range.
_MARGIN = 0.03


@dataclass(frozen=True, eq=False)
class PlotAxis:
    """One axis of the plot.

    Attributes
    ----------
    title : str
    values : ndarray of float, shape (n,)
        Values of a column; those that are not finite are not drawn.
    logarithmic : bool
        Whether the axis is logarithmic; values up to zero are then not drawn.
    """

    title: str
    values: AnyArray
    logarithmic: bool = False

    def positions(self) -> AnyArray:
        """Return the positions on the axis; NaN for values that are not drawn."""
        values = self.values.astype(np.float64)
        if self.logarithmic:
            values = np.log10(np.where(values > 0, values, np.nan))
        return np.where(np.isfinite(values), values, np.nan)


@dataclass(frozen=True)
class Scale:
    """Range of the points on an axis, without and with the histogram strip."""

    low: float
    high: float

    @property
    def whole(self) -> tuple[float, float]:
        """Range of the axis, with the histogram beyond the points."""
        return self.low, self.high + STRIP * (self.high - self.low)

    def pixels(self, positions: AnyArray, size: float) -> AnyArray:
        """Return the positions in pixels along an axis that is `size` pixels long."""
        low, high = self.whole
        pixels: AnyArray = (positions - low) / (high - low) * size
        return pixels

    def bins(self, positions: AnyArray) -> AnyArray:
        """Return the index of the histogram's bar that contains each position."""
        fractions = (positions - self.low) / (self.high - self.low)
        numbers: AnyArray = np.floor(BINS * fractions).astype(np.int64)
        return np.clip(numbers, 0, BINS - 1)


def pixel_values(colours: AnyArray) -> AnyArray:
    """Return Qt's pixel values of opaque RGBA colours from 0 to 1, shape (n, 4)."""
    red, green, blue, alpha = np.rint(255 * colours).astype(np.uint32).T
    values: AnyArray = alpha << 24 | red << 16 | green << 8 | blue
    return values


#: Pixel value of a selected point.
HIGHLIGHT_VALUE = pixel_values(np.array([HIGHLIGHT]))[0]


def scale_of(positions: AnyArray) -> Scale:
    """Return the range of the given positions, with a margin."""
    low, high = float(positions.min()), float(positions.max())
    margin = _MARGIN * (high - low) or 0.5 * (abs(high) or 1.0)
    return Scale(low - margin, high + margin)


def strip_at(place: tuple[float, float], scales: Sequence[Scale]) -> int | None:
    """Return the axis of the histogram at this position; None if there is none."""
    is_beyond = [p > scale.high for p, scale in zip(place, scales, strict=True)]
    return None if is_beyond[0] == is_beyond[1] else int(is_beyond[0])


def band(
    axis: int, ends: tuple[float, float], scales: Sequence[Scale]
) -> list[tuple[float, float]]:
    """Return the corners of the area between two positions on an axis."""
    low, high = scales[1 - axis].whole
    corners = [(end, side) for end in ends for side in (low, high)]
    corners[2:] = corners[:1:-1]  # in order around the area
    return [(across, along) if axis else (along, across) for along, across in corners]
