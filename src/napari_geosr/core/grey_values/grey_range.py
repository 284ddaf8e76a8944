"""Grey values that float32, in which networks compute, cannot represent."""

from __future__ import annotations

import math

import numpy as np

from napari_geosr.core.types import AnyDType

#: Largest step between neighbouring float32 numbers, relative to the standard
#: deviation, at which the contrast survives a conversion to float32.
_MAX_STEP = 0.1
#: Smallest accepted standard deviation of a volume in double precision: below 1.2e-38,
#: float32 numbers have fewer digits.
_MIN_STD = 1e-36


def float32_range_fault(minimum: float, maximum: float) -> str:
    """Return a message if grey values are infinite in float32; otherwise ""."""
    largest = max(abs(minimum), abs(maximum))
    if largest <= float(np.finfo(np.float32).max):
        return ""
    return (
        f"It contains grey values of up to {largest:.3g}, but models compute in "
        "float32, which is limited to 3.4e+38. Divide all voxels by a constant "
        "first, or replace values that mark missing voxels with NaN."
    )


def float32_contrast_fault(
    mean: float, std: float, minimum: float, maximum: float, dtype: AnyDType
) -> str:
    """Return a message if float32 would lose the contrast of the values; else "".

    Parameters
    ----------
    mean, std, minimum, maximum : float
        Statistics of the grey values.
    dtype : dtype
        Data type of the grey values.

    Examples
    --------
    >>> import numpy as np
    >>> float32_contrast_fault(1e9, 1.0, 1e9 - 4, 1e9 + 4, np.dtype("f8"))[:45]
    'Its grey values are too far from zero for mod'
    """
    if np.can_cast(dtype, np.float32):
        return ""
    if std < _MIN_STD:
        return (
            f"Its grey values differ by only {maximum - minimum:.3g}, too little for "
            "models, which compute in float32. Multiply all voxels by a constant "
            "first."
        )
    largest = max(abs(minimum), abs(maximum))
    step = float(np.spacing(np.float32(largest)))
    if step <= _MAX_STEP * std:
        return ""
    digits = math.floor(math.log10(1000 * std))
    constant = f"{round(mean / 10.0**digits) * 10.0**digits:.15g}"
    if dtype.kind in "iu":
        # If a constant above the minimum were subtracted, unsigned integers would wrap
        # around.
        constant = str(int(minimum) - int(np.spacing(abs(minimum))))
    return (
        "Its grey values are too far from zero for models, which compute in float32: "
        f"their standard deviation is {std:.3g}, but near {largest:.3g} float32 has "
        f"steps of {step:.3g}. Subtract a constant, such as "
        f"{constant}, from all voxels first (in {dtype})."
    )
