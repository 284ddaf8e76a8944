"""Check that a backend agrees with the network up to rounding."""

from __future__ import annotations

import math

import numpy as np

from napari_geosr.core.types import AnyArray

Array = AnyArray

#: Largest accepted difference from torch, in standard deviations of the volume.
#: Rounding causes differences of up to 1e-5; 16-bit arithmetic, which must be rejected,
#: causes differences of several per cent.
MAX_DIFFERENCE = 1e-3
#: Largest accepted root-mean-square difference; rounding causes up to 1e-6.
MAX_RMS = 1e-4


class ConversionError(Exception):  # `auto` then uses torch
    """A backend cannot compute a network; the message says why."""


def differences(theirs: Array, ours: Array) -> tuple[float, float]:
    """Return the largest and the RMS difference; both infinite if shapes differ."""
    if theirs.shape != ours.shape:
        return math.inf, math.inf
    largest, squares = 0.0, 0.0
    for a, b in zip(theirs, ours, strict=True):  # in parts, because tiles are large
        part = np.abs(a - b)
        # Do not use max(), which would lose a NaN.
        largest = float(np.maximum(largest, part.max()))
        squares += float(np.square(part, out=part).sum(dtype=np.float64))
    return largest, math.sqrt(squares / ours.size)


def agree(largest: float, rms: float) -> bool:
    """Whether differences can be due to rounding alone; False for NaN."""
    return largest <= MAX_DIFFERENCE and rms <= MAX_RMS
