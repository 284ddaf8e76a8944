"""Axes in space, which have no sign."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def with_sign(axes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return axes (one per row) with signs that make the largest components positive.

    Examples
    --------
    >>> import numpy as np
    >>> with_sign(np.array([[0.6, -0.8], [0.8, -0.6]])).tolist()
    [[-0.6, 0.8], [0.8, -0.6]]
    """
    places = np.abs(axes).argmax(axis=1)[:, None]
    largest = np.take_along_axis(axes, places, axis=1)
    signed: npt.NDArray[np.float64] = axes * np.where(largest > 0, 1.0, -1.0)
    return signed
