"""The vertical axis of loss curves: logarithmic, on both sides of zero if need be.

No Qt here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_geosr.gui.kit.histogram import linear_ticks, log_ticks

#: Of the largest value: what is nearer to zero is drawn in proportion.
_LINEAR_SHARE = 0.01
#: Ticks on one side of zero.
_MOST_TICKS = 2


@dataclass(frozen=True)
class LossScale:
    """Where losses stand on the axis.

    Attributes
    ----------
    low, high : float
        Ends of the axis.
    linear : float
        0 on a logarithmic axis. Else the axis is in proportion up to about this
        distance from zero, and logarithmic on both sides of it (an inverse hyperbolic
        sine), as the losses of critics are below zero as well.
    """

    low: float
    high: float
    linear: float = 0.0

    @classmethod
    def of(cls, curves: Sequence[np.ndarray[Any, Any]]) -> LossScale:
        """The axis on which all finite values of `curves` can be seen."""
        values = np.concatenate([np.asarray(curve, float) for curve in curves])
        values = values[np.isfinite(values)]
        low, high = float(values.min()), float(values.max())
        if low > 0:
            # At least a factor of two, so that noise does not fill the picture.
            middle = math.sqrt(low) * math.sqrt(high)
            return cls(min(low / 1.05, middle / 1.45), max(high * 1.05, middle * 1.45))
        most = max(-low, high) or 1.0
        room = 0.05 * most
        return cls(low - room, max(high, 0.0) + room, _LINEAR_SHARE * most)

    @property
    def name(self) -> str:
        """What kind of axis it is, in words."""
        return "logarithmic" if not self.linear else "logarithmic on both sides of 0"

    def shares(self, values: Any) -> Any:
        """Heights of `values` between the ends of the axis, 0 … 1; NaN stays NaN."""
        bottom, top = self._along(self.low), self._along(self.high)
        return (self._along(values) - bottom) / (top - bottom)

    def ticks(self) -> list[float]:
        """A few values to be named."""
        if not self.linear:
            ticks = log_ticks(self.low, self.high)
            if len(ticks) < 2:
                ticks = linear_ticks(self.low, self.high, 3)
            return [t for t in ticks if self.low <= t <= self.high]
        above, below = self._powers(self.high), self._powers(-self.low)
        return [-t for t in reversed(below)] + [0.0] + above

    def _powers(self, end: float) -> list[float]:
        if end <= 2 * self.linear:
            return []
        return log_ticks(2 * self.linear, end, _MOST_TICKS)

    def _along(self, values: Any) -> Any:
        values = np.asarray(values, float)
        return np.arcsinh(values / self.linear) if self.linear else np.log(values)
