"""Metrics of grey values: PSNR, NRMSE and correlation, slab by slab.

References
----------
.. [1] Weigert et al. Content-aware image restoration. Nat. Methods 15, 1090-1097
   (2018). doi:10.1038/s41592-018-0216-7 (PSNR after a fit of scale and offset)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.types import AnyArray, AnyDict

#: Percentiles that define the range of grey values, and the maximum number of voxels
#: from which they are determined.
RANGE = (0.1, 99.9)
_MAX_SAMPLED = 1 << 22
#: Ratio of the contrasts of two volumes, beyond what noise explains, at and above which
#: their grey values count as being on different scales.
_MAX_SCALE = 3


@dataclass(frozen=True)
class GreyFigures:
    """Differences between the grey values of two volumes.

    Attributes
    ----------
    psnr : float
        Peak signal-to-noise ratio in dB; infinite if the volumes are equal.
    nrmse : float
        Root-mean-square difference divided by the standard deviation of the second
        volume.
    psnr_range_invariant : float
        PSNR in dB after fitting gain and offset, for the range of the second volume.
    correlation : float
        Correlation coefficient.
    gain, offset : float
        Fit ``gain * value + offset`` that was applied before `psnr`, `nrmse`,
        `ssim` and `ms_ssim`; 1 and 0 if none was applied.
    ssim : float or None
        Mean structural similarity; None if no complete window fits.
    ms_ssim : float or None
        Multiscale structural similarity; None unless a window fits at all five scales.
    """

    psnr: float
    nrmse: float
    psnr_range_invariant: float
    correlation: float
    gain: float
    offset: float
    ssim: float | None = None
    ms_ssim: float | None = None

    def to_json_dict(self) -> AnyDict:
        """Return the results in JSON-serialisable form; infinite ones are None."""
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
        if self._centre is None:  # centre, so that squares keep their precision
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

    def is_same_scale(self, ranges: tuple[float, float]) -> bool:
        """Whether the grey values of both volumes are on about the same scale.

        Independent noise in one volume changes the ratio of the standard deviations by
        up to the correlation coefficient.

        Parameters
        ----------
        ranges : tuple of 2 float
            Ranges of grey values of both volumes.
        """
        assert self._centre is not None
        means = self._sums / self.n
        a, b = means[0], means[1]
        variances = means[2] - a * a, means[3] - b * b
        if min(variances) <= 0:
            return True
        spreads = [math.sqrt(v) for v in variances]
        correlation = abs(means[4] - a * b) / math.prod(spreads)
        shift = abs(a + self._centre[0] - b - self._centre[1])
        ratio = max(spreads) / min(spreads)
        return bool(ratio * correlation <= _MAX_SCALE and shift <= max(ranges))

    def figures(
        self, data_range: float, base_range: float, *, affine: bool
    ) -> GreyFigures:
        """Return the metrics for all voxels added so far.

        Parameters
        ----------
        data_range : float
            Range for the PSNR.
        base_range : float
            Range of the second volume, for the range-invariant PSNR.
        affine : bool
            Whether to fit gain and offset first.
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
            psnr_range_invariant=_decibels(base_range, fitted),
            correlation=covariance / spread if spread > 0 else 0.0,
            gain=gain if affine else 1.0,
            offset=offset if affine else 0.0,
        )


def _decibels(data_range: float, mse: float) -> float:
    # Count volumes that differ only by rounding as equal.
    if mse <= (1e-7 * data_range) ** 2:
        return math.inf
    return 10 * math.log10(data_range**2 / mse)


class RangeSample:
    """Evenly sampled grey values, from which a range of percentiles is determined.

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
        """Return the range between the percentiles `RANGE`; if 0, the full range."""
        values = np.concatenate(self._parts)
        if values.size == 0:
            return 0.0
        low, high = np.percentile(values, RANGE)
        found = float(high) - float(low)
        return found if found > 0 else float(values.max()) - float(values.min())
