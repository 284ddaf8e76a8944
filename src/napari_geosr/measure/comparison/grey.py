"""Metrics of grey values: PSNR, NRMSE and structural similarity, slab by slab.

References
----------
.. [1] Wang et al. Image quality assessment: from error visibility to structural
   similarity. IEEE Trans. Image Process. 13, 600-612 (2004).
   doi:10.1109/TIP.2003.819861
.. [2] Weigert et al. Content-aware image restoration. Nat. Methods 15, 1090-1097
   (2018). doi:10.1038/s41592-018-0216-7 (PSNR after a fit of scale and offset)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from napari_geosr.core.types import AnyArray, AnyDict

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Standard deviation of the Gaussian window of SSIM, in voxels.
_SIGMA = 1.5
#: Multiple of the standard deviation at which it is truncated.
_TRUNCATE = 3.5
#: Radius of the window in voxels, and its width.
SSIM_REACH = 5
SSIM_WINDOW = 2 * SSIM_REACH + 1
#: Percentiles that define the range of grey values, and the number of voxels sampled
#: for them.
RANGE = (0.1, 99.9)
_MAX_SAMPLED = 1 << 22


@dataclass(frozen=True)
class GreyFigures:
    """Differences between the grey values of two volumes.

    Attributes
    ----------
    psnr : float
        Peak signal-to-noise ratio in dB; infinite if both are equal.
    nrmse : float
        Root-mean-square difference in standard deviations of the other volume.
    psnr_range_invariant : float
        PSNR in dB after fitting gain and offset.
    correlation : float
        Correlation coefficient.
    gain, offset : float
        Fit ``gain * value + offset`` that was applied before `psnr`, `nrmse` and
        `ssim`; 1 and 0 if none was.
    ssim : float or None
        Mean structural similarity; None if its window does not fit.
    """

    psnr: float
    nrmse: float
    psnr_range_invariant: float
    correlation: float
    gain: float
    offset: float
    ssim: float | None = None

    def to_json_dict(self) -> AnyDict:
        """The results in JSON-serialisable form; infinite ones are None."""
        return {
            name: value if value is None or math.isfinite(value) else None
            for name, value in vars(self).items()
        }


class GreySums:
    """Sums over the common voxels of two volumes."""

    def __init__(self) -> None:
        self.n = 0
        self._centre: tuple[float, float] | None = None
        self._sums = np.zeros(6)

    def add(self, values: AnyArray, base: AnyArray) -> None:
        """Add voxels, as arrays of shape (n,)."""
        if values.size == 0:
            return
        a, b = values.astype(np.float64), base.astype(np.float64)
        if self._centre is None:  # centred, so that squares lose no digits
            self._centre = float(a.mean()), float(b.mean())
        self.n += a.size
        difference = a - b
        a -= self._centre[0]
        b -= self._centre[1]
        self._sums += [
            a.sum(),
            b.sum(),
            a @ a,
            b @ b,
            a @ b,
            difference @ difference,
        ]

    def figures(self, data_range: float, *, affine: bool) -> GreyFigures:
        """The metrics for all voxels added so far.

        Parameters
        ----------
        data_range : float
            Range for the PSNR.
        affine : bool
            Fit gain and offset first.
        """
        assert self._centre is not None
        means = self._sums / self.n
        a, b = means[0], means[1]
        var_a, var_b = max(0.0, means[2] - a * a), max(0.0, means[3] - b * b)
        covariance = means[4] - a * b
        gain = covariance / var_a if var_a > 0 else 0.0
        fitted = max(0.0, var_b - gain * covariance)
        mse = fitted if affine else means[5]
        offset = (b + self._centre[1]) - gain * (a + self._centre[0])
        spread = math.sqrt(var_a * var_b)
        return GreyFigures(
            psnr=_decibels(data_range, mse),
            nrmse=math.sqrt(mse / var_b) if var_b > 0 else math.inf,
            psnr_range_invariant=_decibels(data_range, fitted),
            correlation=covariance / spread if spread > 0 else 0.0,
            gain=gain if affine else 1.0,
            offset=offset if affine else 0.0,
        )


def _decibels(data_range: float, mse: float) -> float:
    # Rounding differences between equal volumes do not count.
    if mse <= (1e-7 * data_range) ** 2:
        return math.inf
    return 10 * math.log10(data_range**2 / mse)


class RangeSample:
    """Evenly sampled grey values, for the range between two percentiles.

    Parameters
    ----------
    n_voxels : int
        Number of voxels of the whole volume.
    """

    def __init__(self, n_voxels: int) -> None:
        self._step = -(-n_voxels // _MAX_SAMPLED)
        self._parts: list[AnyArray] = []

    def add(self, values: AnyArray) -> None:
        """Add voxels, as an array of shape (n,)."""
        self._parts.append(values[:: self._step])

    def range(self) -> float:
        """Distance between the percentiles `RANGE`; if zero, between the extremes."""
        values = np.concatenate(self._parts)
        if values.size == 0:
            return 0.0
        low, high = np.percentile(values, RANGE)
        found = float(high) - float(low)
        return found if found > 0 else float(values.max()) - float(values.min())


class SsimSum:
    """Mean structural similarity, accumulated slab by slab.

    Only voxels with a complete window of known values are used.

    Parameters
    ----------
    shape : tuple of int
        Shape of the whole volumes.
    slicewise : bool
        Use a window in each slice instead of one of all axes.
    data_range : float
    """

    def __init__(
        self, shape: Sequence[int], data_range: float, *, slicewise: bool
    ) -> None:
        self._shape = tuple(shape)
        flat = slicewise and len(shape) == 3
        self._reach = [0 if flat and a == 0 else SSIM_REACH for a in range(len(shape))]
        self._c1, self._c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        self._total, self._n = 0.0, 0

    @property
    def halo(self) -> int:
        """Slices (for an image: rows) on either side of a slab for its windows."""
        return self._reach[0]

    def slabs(self, thickness: int) -> Iterator[tuple[slice, slice]]:
        """Slabs along the first axis that have values, and the ranges to read.

        Empty if the first axis is shorter than the window.
        """
        first, last = self.halo, self._shape[0] - self.halo
        for start in range(first, last, thickness):
            stop = min(start + thickness, last)
            yield slice(start, stop), slice(start - self.halo, stop + self.halo)

    def add(self, image: AnyArray, base: AnyArray, known: Mask) -> None:
        """Add a slab with its halo; voxels that are not `known` are ignored."""
        from scipy import ndimage

        reach = self._reach
        inner = tuple(slice(r, n - r) for r, n in zip(reach, image.shape, strict=True))
        if any(s.stop <= s.start for s in inner):
            return
        a, b = (
            np.where(known, values, 0).astype(np.float64) for values in (image, base)
        )
        sigmas = [_SIGMA if r else 0.0 for r in reach]

        def mean(values: Array) -> Array:
            found: Array = ndimage.gaussian_filter(values, sigmas, truncate=_TRUNCATE)
            return found[inner]

        ma, mb = mean(a), mean(b)
        va, vb = mean(a * a) - ma * ma, mean(b * b) - mb * mb
        vab = mean(a * b) - ma * mb
        found = ((2 * ma * mb + self._c1) * (2 * vab + self._c2)) / (
            (ma * ma + mb * mb + self._c1) * (va + vb + self._c2)
        )
        counts = np.ones(found.shape, bool)
        if not known.all():
            sizes = [2 * r + 1 for r in reach]
            counts = ~ndimage.maximum_filter(~known, sizes)[inner]
        self._total += float(found[counts].sum())
        self._n += int(counts.sum())

    def mean(self) -> float | None:
        """The mean; None if no window fits."""
        return self._total / self._n if self._n else None


def ssim_fits(shape: Sequence[int], *, slicewise: bool) -> bool:
    """Whether the window of SSIM fits into volumes of that shape."""
    edges = shape[-2:] if slicewise else shape
    return min(edges) >= SSIM_WINDOW
