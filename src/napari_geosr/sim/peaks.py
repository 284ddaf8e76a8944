"""Peaks in the correlation of frames with the frequency-shifted object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

#: Number of rings in which the background of the correlation is measured.
_RINGS = 12
#: Distances from the border, as fractions of each edge, between which the weight of
#: filtered frames increases from 0 to 1.
_INNER = (0.07, 0.2)
#: Maximum distance of a pattern from an approximate wave vector, such as that of a
#: circle dragged onto a peak: in cycles per field of view, and as a fraction of the
#: width of the spectrum (half the circle's diameter). The larger of the two applies.
_REACH = 3.0
_REACH_FRACTION = 0.01


@dataclass(frozen=True, eq=False)
class CorrelationPeaks:
    """Correlation of the frames of one angle with the frequency-shifted object.

    Attributes
    ----------
    values : ndarray of shape (2 Y, 2 X), float32
        Squared correlation relative to its median at the same frequency.
    inside : ndarray of bool
        Frequencies at which patterns are searched for.
    """

    values: FloatArray
    inside: npt.NDArray[np.bool_]

    def highest(
        self, within: tuple[float, float] | None = None
    ) -> tuple[tuple[float, float], float]:
        """Return the frequency and confidence of the highest peak.

        Parameters
        ----------
        within : (float, float), optional
            Lowest and highest frequency in cycles per pixel; by default, the limits of
            the search.
        """
        found = np.where(self.inside, self.values, -1)
        rows, columns = (np.fft.fftfreq(n) for n in found.shape)
        if within is not None:
            radius = np.hypot(rows[:, None], columns)
            found[(radius < within[0]) | (radius > within[1])] = -1
        y, x = np.unravel_index(int(np.argmax(found)), found.shape)
        k = float(rows[y]), float(columns[x])
        return upward(k), math.sqrt(max(0.0, float(found[y, x])))

    def nearest(
        self, k: tuple[float, float], reach: tuple[float, float]
    ) -> tuple[float, float]:
        """Return the frequency of the highest peak near another frequency.

        Parameters
        ----------
        k : (float, float)
            Other frequency, in cycles per pixel.
        reach : (float, float)
            Half axes of the ellipse that is searched, in cycles per pixel.
        """
        found = np.where(self.inside, self.values, -1)
        rows, columns = (np.fft.fftfreq(n) for n in found.shape)
        # Frequencies repeat after one cycle per pixel, so measure along a circle.
        dy, dx = (
            (f - at + 0.5) % 1 - 0.5 for f, at in zip((rows, columns), k, strict=True)
        )
        found[np.hypot(dy[:, None] / reach[0], dx / reach[1]) > 1] = -1
        y, x = np.unravel_index(int(np.argmax(found)), found.shape)
        if found[y, x] < 0:
            return k
        return k[0] + float(dy[y]), k[1] + float(dx[x])

    def confidence_at(self, k: tuple[float, float]) -> float:
        """Return the confidence at the highest point next to a frequency."""
        shape = self.values.shape
        rows, columns = (
            (np.arange(-1, 2) + round(f * n)) % n for f, n in zip(k, shape, strict=True)
        )
        return math.sqrt(float(self.values[np.ix_(rows, columns)].max()))

    def confidence_of(
        self, k: tuple[float, float], harmonics: int, highest: float
    ) -> float:
        """Return the confidence of a pattern with one or several harmonics.

        The confidences of the fundamental and of the second harmonic are added in
        quadrature, unless the frequency of the second one exceeds `highest`.
        """
        confidence = self.confidence_at(k)
        if harmonics == 1 or 2 * math.hypot(*k) > highest:
            return confidence
        return math.hypot(confidence, self.confidence_at((2 * k[0], 2 * k[1])))


def radial_median(
    values: FloatArray, radius: npt.NDArray[np.floating], ring: tuple[float, float]
) -> FloatArray:
    """Return the radial median within a range, interpolated between rings."""
    edges = np.linspace(ring[0], ring[1], _RINGS + 1)
    inside = (radius >= ring[0]) & (radius <= ring[1])
    radii, found = radius[inside], values[inside]
    index = np.clip(np.searchsorted(edges, radii, "right") - 1, 0, _RINGS - 1)
    medians = [
        float(np.median(part)) if len(part := found[index == i]) else np.nan
        for i in range(_RINGS)
    ]
    centres = (edges[1:] + edges[:-1]) / 2
    known = np.isfinite(medians)
    level = np.interp(radius, centres[known], np.asarray(medians)[known])
    return np.asarray(np.maximum(level, 1e-30), np.float32)


def upward(k: tuple[float, float]) -> tuple[float, float]:
    """Return ±`k`, whichever points towards positive Y (or X if it is horizontal)."""
    ky, kx = k
    flat = abs(ky) < 1e-3 * math.hypot(ky, kx)
    return (-ky, -kx) if (kx < 0 if flat else ky < 0) else (ky, kx)


def inner_fade(n: int) -> FloatArray:
    """Return a window that is zero where frames were faded."""
    edge = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / n
    part = np.clip((edge - _INNER[0]) / (_INNER[1] - _INNER[0]), 0, 1)
    return np.asarray(np.sin(np.pi / 2 * part) ** 2, np.float32)


def near_reach(shape: Sequence[int]) -> tuple[float, float]:
    """Return how far a pattern may be from a given one, in cycles per pixel (Y, X)."""
    cycles = [max(_REACH, _REACH_FRACTION * n) for n in shape]
    return cycles[0] / shape[0], cycles[1] / shape[1]
