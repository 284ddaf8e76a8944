"""Subtracts the local mean, so that a single threshold acts as a local one.

The local mean is the mean weighted by a Gaussian, as in
`skimage.filters.threshold_local` (Gonzalez & Woods, Digital Image Processing). With the
grey values v, their local mean m and the mean grey value M, a threshold T for
``v - m + M`` is equivalent to the local threshold ``T + m - M`` for v.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.measure.blocks import inside_mask

Floats = npt.NDArray[np.float64]

#: Radius, in standard deviations, at which the Gaussian is truncated: scipy's default.
_TRUNCATE = 4.0
#: Number of values in a block of rows that is smoothed along Z at once.
_BLOCK_VALUES = 1 << 22


def deviation_of(window: int) -> float:
    """Return the Gaussian's standard deviation for a window, as in scikit-image."""
    return (window - 1) / 6.0


def halo_of(window: int) -> int:
    """Return how many planes on each side contribute to the local mean of a plane."""
    return int(_TRUNCATE * deviation_of(window) + 0.5)


class LevelledArray:
    """Grey values with the global mean in place of the local mean; read in slabs.

    Every slab is read with the planes around it that belong to its windows, so that the
    values do not depend on the slabs. Voxels outside the sample and voxels that are not
    finite are left out of the means.

    Parameters
    ----------
    source : ArrayLike of shape (Z, Y, X)
    mask : ArrayLike of the same shape, or None
        Sample mask: non-zero inside.
    window : int
        Edge length of the window in voxels: six standard deviations of the Gaussian,
        plus 1.
    level : float
        Mean grey value.
    flat : bool
        Whether this is one image, (1, Y, X).

    Examples
    --------
    >>> ramp = np.broadcast_to(np.arange(100.0), (1, 40, 100))
    >>> level = LevelledArray(ramp, None, 13, 49.5, flat=True)
    >>> level[:, 20, 30:70].round(3).tolist() == [[49.5] * 40]
    True
    """

    def __init__(
        self, source: Any, mask: Any, window: int, level: float, *, flat: bool
    ) -> None:
        self.source, self.mask = source, mask
        self.window, self.level, self.flat = window, level, flat
        self.shape, self.ndim = tuple(source.shape), 3
        kind = np.dtype(source.dtype)
        small = kind.itemsize <= 2 or kind == np.float32
        self.dtype = np.dtype(np.float32 if small else np.float64)

    def __getitem__(self, key: Any) -> npt.NDArray[np.floating[Any]]:
        slab, *rest = key if isinstance(key, tuple) else (key,)
        planes = self._levelled(slab)
        found: npt.NDArray[np.floating[Any]] = planes[(slice(None), *rest)]
        return found

    def _levelled(self, slab: slice) -> npt.NDArray[np.floating[Any]]:
        first, last, _ = slab.indices(self.shape[0])
        halo = 0 if self.flat else halo_of(self.window)
        low, high = max(0, first - halo), min(self.shape[0], last + halo)
        values = np.asarray(self.source[low:high])
        inside = self._inside(slice(low, high), values)
        own = slice(first - low, last - low)
        mean = self._mean(values, inside, own)
        levelled = values[own] - mean
        levelled += self.level
        return levelled.astype(self.dtype, copy=False)

    def _inside(self, slab: slice, values: np.ndarray) -> npt.NDArray[np.bool_] | None:
        """Select the voxels that contribute to the means; None if all do."""
        inside = None
        if self.mask is not None:
            inside = inside_mask(np.asarray(self.mask[slab]))
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            if not finite.all():
                inside = finite if inside is None else inside & finite
        return inside

    def _mean(
        self, values: np.ndarray, inside: npt.NDArray[np.bool_] | None, own: slice
    ) -> Floats:
        """Return the local mean of the planes in `own`."""
        if inside is None:
            weight: Any = self._smoothed(np.ones((1, 1, 1)), slice(0, 1))[0, 0, 0]
        else:
            values = np.where(inside, values, 0)
            weight = self._smoothed(inside, own)
        total = self._smoothed(values, own)
        with np.errstate(divide="ignore", invalid="ignore"):
            total /= weight
        if inside is not None:
            total[~(weight > 0)] = self.level
        return total

    def _smoothed(self, values: np.ndarray, own: slice) -> Floats:
        """Return the sums weighted by the Gaussian for the planes in `own`."""
        from scipy.ndimage import gaussian_filter1d

        deviation = deviation_of(self.window)
        options: dict[str, Any] = {"truncate": _TRUNCATE, "mode": "reflect"}
        if self.flat:
            sums = values[own].astype(np.float64)
        else:
            sums = np.empty((own.stop - own.start, *values.shape[1:]))
            rows = max(1, _BLOCK_VALUES // max(1, len(values) * values.shape[2]))
            for y in range(0, values.shape[1], rows):
                block = values[:, y : y + rows].astype(np.float64)
                sums[:, y : y + rows] = gaussian_filter1d(
                    block, deviation, axis=0, **options
                )[own]
        for plane in sums:
            for axis in (0, 1):
                gaussian_filter1d(plane, deviation, axis=axis, output=plane, **options)
        return sums


def levelled_bytes(shape: tuple[int, ...], itemsize: int, window: int) -> int:
    """Return the additional bytes for reading a slab with the planes around it."""
    planes = min(shape[0], 2 * halo_of(window)) if len(shape) > 2 else 0
    plane = math.prod(shape[-2:])
    return plane * planes * (itemsize + 1) + 24 * _BLOCK_VALUES
