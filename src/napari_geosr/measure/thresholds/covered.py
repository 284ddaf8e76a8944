"""Grey values in which the blurred surface of a sample is solid."""

from __future__ import annotations

from typing import Any

import numpy as np


class CoveredArray:
    """Grey values with one value at the blurred surface of a sample; read in slabs.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X)
    surface : ndarray of bool of the same shape
        True in solid voxels that blur mixes with the surroundings.
    value : float
        Grey value of the solid; rounded if the voxels of `source` are integers.

    Examples
    --------
    >>> surface = np.array([[[True, False, False]]])
    >>> CoveredArray(np.array([[[130, 200, 60]]]), surface, 199.7)[0:1].tolist()
    [[[200, 200, 60]]]
    """

    def __init__(self, source: Any, surface: np.ndarray, value: float) -> None:
        self.source, self.surface = source, surface
        self.shape, self.ndim = tuple(source.shape), 3
        self.dtype = np.dtype(source.dtype)
        is_integer = self.dtype.kind in "iu"
        self.value = self.dtype.type(round(value) if is_integer else value)

    def __getitem__(self, key: Any) -> np.ndarray:
        values = np.asarray(self.source[key])
        return np.where(self.surface[key], self.value, values)
