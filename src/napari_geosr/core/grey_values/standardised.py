"""Grey values relative to their mean, in float32."""

from __future__ import annotations

import numpy as np

from napari_geosr.core.types import AnyArray


def standardised(values: AnyArray, scale: tuple[float, float]) -> AnyArray:
    """Subtract a mean and divide by a standard deviation; return float32.

    Values that float32 cannot represent exactly are subtracted in float64, so that an
    offset much larger than the contrast has no effect.

    Parameters
    ----------
    values : ndarray
        Grey values of any real data type.
    scale : (float, float)
        Mean and standard deviation.

    Examples
    --------
    >>> standardised(np.array([1e9, 1e9 + 2]), (1e9 + 1, 1.0))
    array([-1.,  1.], dtype=float32)
    """
    mean, deviation = scale
    kind = np.result_type(values.dtype, np.float32)
    found: AnyArray = values.astype(kind)
    found -= mean
    found /= deviation
    return found.astype(np.float32, copy=False)
