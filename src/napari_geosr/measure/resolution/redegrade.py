"""Simulates a scan from a restored volume, by blurring and averaging.

The scan is processed in boxes with a margin as wide as the filters, so that memory is
limited and the result does not depend on the boxes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from napari_geosr.core.volume import ArrayLike

FloatArray = npt.NDArray[np.float32]
Box = tuple[slice, slice, slice]
Reach = tuple[int, int, int]

#: Radius at which filters are truncated, in standard deviations.
TRUNCATE = 3.0
#: Maximum number of voxels of the restored volume in a box, including the margin.
_MAX_VOXELS = 1 << 25
#: Minimum edge length of a box, in voxels of the scan.
_MIN_EDGE = 8


@dataclass(frozen=True)
class Pair:
    """A scan, and its restoration on a grid that is finer by integer factors.

    Attributes
    ----------
    scan, result : ArrayLike of shape (Z, Y, X)
    factors : tuple of int
        Number of result voxels per scan voxel along each axis.
    """

    scan: ArrayLike
    result: ArrayLike
    factors: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the scan."""
        z, y, x = self.scan.shape
        return z, y, x

    def boxes(self, reach: Sequence[int], longest: int | None = None) -> list[Box]:
        """Divide the scan into boxes that fit into memory with a margin.

        Parameters
        ----------
        longest : int, optional
            Maximum edge length of the boxes, in voxels of the result.
        """
        edge = (_MAX_VOXELS / math.prod(self.factors)) ** (1 / 3)
        sizes = [max(_MIN_EDGE, int(edge) - 2 * r) for r in reach]
        if longest is not None:
            sizes = [max(_MIN_EDGE, longest // max(self.factors))] * 3
        ranges = [range(0, n, s) for n, s in zip(self.shape, sizes, strict=True)]
        return [
            _box(
                slice(a, min(a + s, n))
                for a, s, n in zip(start, sizes, self.shape, strict=True)
            )
            for start in itertools.product(*ranges)
        ]

    def widened(self, box: Box, reach: Sequence[int]) -> Box:
        """Enlarge `box` by `reach` voxels, clipped to the scan."""
        return _box(
            slice(max(0, b.start - r), min(n, b.stop + r))
            for b, r, n in zip(box, reach, self.shape, strict=True)
        )

    def scan_and_simulation(
        self, box: Box, blur: Sequence[float]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the scan in a box, and its simulation from the result with `blur`.

        Voxels where either is unknown are NaN in both.

        Parameters
        ----------
        blur : sequence of float
            Standard deviation of the point-spread function, in voxels of the scan.
        """
        around = self.widened(box, blur_reach(blur))
        fine = _box(
            slice(part.start * f, part.stop * f)
            for part, f in zip(around, self.factors, strict=True)
        )
        values = np.asarray(self.result[fine]).astype(np.float32)
        inner = within(box, around)
        simulated = blurred_means(values, self.factors, blur)[inner]
        scan = np.asarray(self.scan[box]).astype(np.float32)
        unknown = ~(np.isfinite(simulated) & np.isfinite(scan))
        if unknown.any():
            scan[unknown] = simulated[unknown] = np.nan
        return scan, simulated


def blurred_means(
    values: FloatArray, factors: Sequence[int], blur: Sequence[float]
) -> FloatArray:
    """Blur a volume and average it over blocks of `factors` voxels.

    NaN spreads as far as the blur reaches.

    Parameters
    ----------
    values : ndarray
    factors : sequence of int
        Voxels per block along each axis.
    blur : sequence of float
        Standard deviation along each axis, in blocks (voxels of the scan).
    """
    from scipy import ndimage

    missing = ~np.isfinite(values)
    if missing.any():
        values = np.where(missing, np.float32(np.nanmean(values)), values)
    if any(blur):
        means = values
        # Process averaged axes first, so that fewer voxels remain for the other axes.
        for axis in sorted(range(len(factors)), key=lambda axis: factors[axis] == 1):
            means = _blurred_means_along(means, axis, factors[axis], blur[axis])
    else:
        means = _means(values, factors)
    if missing.any():
        lost = _means(missing.astype(np.float32), factors) > 0
        reach = blur_reach(blur)
        if any(reach):
            lost = ndimage.maximum_filter(lost, [2 * r + 1 for r in reach])
        means[lost] = np.nan
    return means


def _blurred_means_along(
    values: FloatArray, axis: int, factor: int, blur: float
) -> FloatArray:
    """Blur and average along one axis; `blur` is in voxels of the scan."""
    from scipy import ndimage

    sigma = blur * factor
    if factor == 1:
        if not sigma:
            return values
        blurred: FloatArray = ndimage.gaussian_filter1d(
            values, sigma, axis, mode="nearest", truncate=TRUNCATE
        )
        return blurred
    weights = _block_weights(values.shape[axis], factor, sigma)
    means: FloatArray = np.tensordot(weights, values, (1, axis))
    return np.moveaxis(means, 0, axis)


@lru_cache(maxsize=8)
def _block_weights(n: int, factor: int, sigma: float) -> FloatArray:
    """Compute each voxel's weight in the mean of each blurred block, (block, voxel).

    Computing only the means, by a matrix product, is much faster than filtering all
    voxels.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * np.square(offsets / sigma)) if sigma else np.ones(1)
    voxels = np.arange(n // factor * factor)
    weights = np.zeros((n // factor, n))
    for offset, weight in zip(offsets, kernel / kernel.sum() / factor, strict=True):
        # Beyond the faces, the values at the faces are used.
        np.add.at(
            weights, (voxels // factor, np.clip(voxels + offset, 0, n - 1)), weight
        )
    return weights.astype(np.float32)


def blur_reach(blur: Sequence[float]) -> Reach:
    """Return the reach of a blur, in voxels of the scan."""
    z, y, x = (math.ceil(TRUNCATE * b + 1) if b else 0 for b in blur)
    return z, y, x


def within(inner: Box, outer: Box) -> Box:
    """Convert the box `inner` to the coordinates of an array that covers `outer`."""
    return _box(
        slice(i.start - o.start, i.stop - o.start)
        for i, o in zip(inner, outer, strict=True)
    )


def _means(values: FloatArray, factors: Sequence[int]) -> FloatArray:
    if max(factors) == 1:
        return values
    split = [
        part for n, f in zip(values.shape, factors, strict=True) for part in (n // f, f)
    ]
    means: FloatArray = values.reshape(split).mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def evenly(boxes: Sequence[Box], most_voxels: int) -> Iterator[Box]:
    """Yield evenly spaced boxes with about `most_voxels` voxels in total."""
    sizes = [math.prod(p.stop - p.start for p in box) for box in boxes]
    n = max(1, min(len(boxes), int(most_voxels / max(1, np.mean(sizes)))))
    for i in np.unique(np.linspace(0, len(boxes) - 1, n).round().astype(int)):
        yield boxes[int(i)]


def _box(parts: Iterable[slice]) -> Box:
    z, y, x = parts
    return z, y, x
